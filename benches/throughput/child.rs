//! A process of this executable in a role, told and telling one JSON line at a time.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child as Process, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

/// The argument in front of the role.
pub(crate) const ROLE: &str = "--role";

/// How long a role may take to end once its input has ended.
const GRACE: Duration = Duration::from_secs(5);

/// A running role; dropping it ends it.
pub(crate) struct Child {
    role: &'static str,
    process: Process,
    told: Option<ChildStdin>,
    tells: Receiver<String>,
}

impl Child {
    /// Starts a role and gives it its order.
    pub(crate) fn start(role: &'static str, order: &impl Serialize) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ROLE, role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the {role}"))?;
        let told = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().context("a child without output")?).lines();
        let (sender, tells) = mpsc::sync_channel(16);
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut child = Self { role, process, told, tells };
        child.tell(order)?;
        Ok(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn tell(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(what)?;
        let told = self.told.as_mut().context("its input has ended")?;
        writeln!(told, "{line}").with_context(|| format!("the {} does not listen", self.role))
    }

    /// What it tells next, waited for so long at most.
    pub(crate) fn hear<T: DeserializeOwned>(&self, longest: Duration) -> anyhow::Result<T> {
        let line = self.tells.recv_timeout(longest).with_context(|| format!("nothing from the {}", self.role))?;
        serde_json::from_str(&line).with_context(|| format!("the {} said `{line}`", self.role))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.told.take());
        let until = Instant::now() + GRACE;
        while Instant::now() < until && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // An error means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In a role: the next thing one is told; `None` when nobody is there any more.
pub(crate) fn told<T: DeserializeOwned>() -> anyhow::Result<Option<T>> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_str(&line)?)),
    }
}

/// In a role: the order it starts with.
pub(crate) fn order<T: DeserializeOwned>() -> anyhow::Result<T> {
    told()?.context("this role needs an order")
}

/// In a role that is told nothing more: ends the process when the runner is gone.
pub(crate) fn end_with_the_runner() {
    std::thread::spawn(|| {
        let _ = told::<serde_json::Value>();
        std::process::exit(1);
    });
}

/// In a role: tells the runner.
pub(crate) fn tell(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}
