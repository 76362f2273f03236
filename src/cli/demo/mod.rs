//! `postern demo`: the whole appliance at work for some seconds, with nothing to set up.
//!
//! The appliance runs as a process of its own, with files in a temporary directory; its receivers and its senders are in
//! this one. Nothing is printed that was not checked, every wait has a limit, and whatever happens the process is ended.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, print};

mod appliance;
mod arrival;
mod careless;
mod files;
mod ledger;
mod loopback;
mod people;
mod receiver;
mod story;
mod sums;
mod wait;

use files::Files;

/// Nobody watches for longer; it takes about two seconds.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn demo() -> Result<(), Failure> {
    let start = Instant::now();
    say("Postern at work, for some seconds. Everything stays on this machine, and nobody in it is real.")?;
    let files = Files::new()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    match runtime.block_on(play(&files)) {
        Ok(End::Told) => {
            files.remove()?;
            let seconds = start.elapsed().as_secs_f64();
            Ok(say(format_args!("All of it held. It took {seconds:.1} s and has left nothing behind."))?)
        }
        Ok(End::Interrupted) => {
            files.remove()?;
            Err(anyhow!("the demo was interrupted").into())
        }
        Err(error) => {
            show_log(files.path());
            let kept = files.keep();
            Err(error.context(format!("the demo failed; its files are kept in {}", kept.display())).into())
        }
    }
}

enum End {
    Told,
    Interrupted,
}

/// Tells the story unless somebody interrupts it. What it has started ends with it.
async fn play(files: &Files) -> anyhow::Result<End> {
    // Without these, a signal would end this process and leave the appliance and its directory behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        told = tokio::time::timeout(LIMIT, story::tell(files)) => match told {
            Ok(told) => told.map(|()| End::Told),
            Err(_) => bail!("the demo took longer than {LIMIT:?}"),
        },
        _ = interrupt.recv() => Ok(End::Interrupted),
        _ = terminate.recv() => Ok(End::Interrupted),
        _ = hangup.recv() => Ok(End::Interrupted),
    }
}

/// Prints a line of the story.
fn say(line: impl fmt::Display) -> anyhow::Result<()> {
    print(&line).map_err(Failure::into_error)
}

fn show_log(directory: &Path) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "the appliance's last lines:\n{}", appliance::log_tail(directory));
}
