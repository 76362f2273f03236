//! Child processes that open a store first: sled may end a process, or hang in it, on some damage.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::exit::{Exit, Failure};
use crate::store::{StoreError, upkeep};

/// Longer than a store of a hundred million records takes to open.
const OPEN_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Opens the store in `dir` in a child. An error only when that ends in a way that this process could not survive: what
/// else is wrong it can say itself.
pub(super) fn try_open(dir: &Path) -> anyhow::Result<()> {
    let mut child = postern(dir, &["store", "stats"])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    match wait(&mut child)? {
        Some(status) if status.signal().is_none() => Ok(()),
        ended => {
            let how = ended.map_or("does not end".to_owned(), |status| format!("ends in {status}"));
            let (path, what) = (dir.display().to_string(), format!("opening it {how}"));
            Err(StoreError::Damaged { path, what }.into())
        }
    }
}

/// Salvages the store in `dir`, or puts it aside for an empty one when nothing of it can be read; returns where it is then.
pub(super) fn salvage_or_begin_afresh(dir: &Path, json: bool) -> Result<Option<PathBuf>, Failure> {
    match salvage(dir, json)? {
        true => Ok(None),
        false => Ok(Some(upkeep::start_afresh(dir)?)),
    }
}

fn salvage(dir: &Path, json: bool) -> Result<bool, Failure> {
    for basis in ["as-it-is", "log-alone"] {
        let mut command = postern(dir, &["store", "salvage", "--yes", "--basis", basis])?;
        let mut child = command.args(json.then_some("--json")).spawn().context("cannot start a child")?;
        let status = child.wait().context("cannot wait for a child")?;
        match status.code() {
            Some(0) => return Ok(true),
            // Another way may help with damage, and where sled took the child down: a panic, SIGABRT, SIGBUS, SIGSEGV.
            Some(65 | 101) => {}
            None if matches!(status.signal(), Some(6 | 7 | 11)) => {}
            // In use, not permitted, no space: the child has said so.
            Some(66) => return Err(Failure::of(Exit::Missing, "not salvaged")),
            Some(75) => return Err(Failure::of(Exit::TryLater, "not salvaged")),
            Some(77) => return Err(Failure::of(Exit::NotPermitted, "not salvaged")),
            Some(_) | None => return Err(Failure::of(Exit::Failed, format_args!("not salvaged: {status}"))),
        }
    }
    Ok(false)
}

fn postern(dir: &Path, verb: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(verb).arg("--state-dir").arg(dir).stdin(Stdio::null());
    Ok(command)
}

/// `None` when it had to be killed.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + OPEN_MAX;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
