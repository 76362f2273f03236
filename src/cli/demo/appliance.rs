//! The appliance as a process of its own: this very program, `postern run`, on the demo's files.

use std::{
    env,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{loopback, wait};

/// Lines of its log that are shown when the demo fails.
const TAIL_LINES: usize = 12;

/// A running appliance. Dropping it kills it.
pub(super) struct Appliance {
    child: Child,
    inlets: SocketAddr,
    admin: SocketAddr,
}

impl Appliance {
    /// Starts it on the `postern.toml` in `directory`; returns once it listens.
    pub(super) async fn start(directory: &Path) -> Result<Self> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let log_path = log_path(directory);
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot write {}", log_path.display()))?;
        let written = log.metadata()?.len();
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(directory.join("postern.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the appliance")?;
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut appliance = Self { child, inlets: nowhere, admin: nowhere };
        let listening = wait::until("the appliance to listen", async || {
            if let Some(status) = appliance.child.try_wait()? {
                bail!("the appliance ended at once: {status}");
            }
            let text = fs::read(&log_path)?;
            let new = text.get(usize::try_from(written)?..).unwrap_or_default();
            let mut lines = new.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            Ok(lines.find(|line: &Value| line["message"] == "listening"))
        });
        let listening = listening.await?;
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(listening[name].as_str().with_context(|| format!("the log does not say where {name} is"))?.parse()?)
        };
        (appliance.inlets, appliance.admin) = (address("inlets")?, address("admin")?);
        Ok(appliance)
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where updates come in.
    pub(super) fn inlets(&self) -> SocketAddr {
        self.inlets
    }

    /// Waits until a metric has a value.
    pub(super) async fn wait_for_metric(&self, series: &str, wanted: f64) -> Result<()> {
        wait::until(&format!("{series} to become {wanted}"), async || {
            let text = loopback::get(self.admin, "/metrics").await?;
            let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
            Ok((value == Some(wanted)).then_some(()))
        })
        .await
    }

    /// SIGKILL: it gets no chance to do anything.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the appliance")?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended, however long it runs.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(wait::LOOK).await;
        }
    }

    /// SIGTERM; returns once it has ended well.
    pub(super) async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop the appliance")?;
        let status = wait::for_end("the appliance to stop", self.ended()).await??;
        ensure!(status.success(), "the appliance did not stop well: {status}");
        Ok(())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of its log.
pub(super) fn log_tail(directory: &Path) -> String {
    let text = fs::read_to_string(log_path(directory)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("postern.log")
}
