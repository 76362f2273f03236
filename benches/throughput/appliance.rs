//! The appliance: the real binary with a configuration of its own, and the role that keeps it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child as Process, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use postern::tls::{ClientTlsFiles, RootsSource, issue::Issued};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    child::{self, Child},
    figures::Metrics,
    update,
};

/// Its role's name: the one that starts the binary, and ends it when the runner is gone.
pub(crate) const ROLE: &str = "appliance";

/// The one destination's name.
const DESTINATION: &str = "receiver";
/// How long starting, or an answer of the admin interface, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of the log that are shown when something goes wrong.
const WARNINGS_SHOWN: usize = 50;

/// A running appliance; dropping it ends it.
pub(crate) struct Appliance {
    keeper: Child,
    running: Running,
    /// The store's files are in here.
    state: PathBuf,
    binary: PathBuf,
    config: PathBuf,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Running {
    process: u32,
    inlets: SocketAddr,
    admin: SocketAddr,
}

impl Appliance {
    /// Writes a configuration into `directory` and starts `binary` on it; `more` is said of the destination besides.
    pub(crate) fn start(
        binary: &Path,
        directory: &Path,
        endpoint: &str,
        tls: &ClientTlsFiles,
        more: &str,
    ) -> anyhow::Result<Self> {
        let ClientTlsFiles { certificate, key, roots: RootsSource::File(roots) } = tls else {
            anyhow::bail!("the authority here is a private one");
        };
        let (state, file) = (directory.join("state"), directory.join("postern.toml"));
        let update::Shape { inlet, audience, rule, mapped } = update::SHAPE;
        let config = format!(
            r#"
state_dir = {state:?}
server.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
log = {{ level = "info", format = "json" }}

[[inlet]]
name = "{inlet}"

[[audience]]
id = "{audience}"
expression = {{ type = "PQL", format = "pql/text", value = '{rule}' }}

[[destination]]
name = "{DESTINATION}"
endpoint = "{endpoint}"
audiences = ["{audience}"]
attributes = {mapped:?}
max_in_flight = {in_flight}
tls = {{ certificate = {certificate:?}, key = {key:?}, roots = {roots:?} }}
{more}
"#,
            in_flight = crate::bare::IN_FLIGHT,
        );
        fs::write(&file, config)?;
        let keeper = Child::start(ROLE, &(binary, &file))?;
        let running = keeper.hear(PATIENCE)?;
        Ok(Self { keeper, running, state, binary: binary.to_owned(), config: file })
    }

    /// Tells the destination what a person would: `pause` or `resume`.
    pub(crate) fn tell_destination(&self, verb: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["destination", verb, DESTINATION, "--config"]).arg(&self.config);
        let done = command.stdout(Stdio::null()).status().context("cannot start the command line")?;
        ensure!(done.success(), "the destination does not {verb}");
        Ok(())
    }

    pub(crate) fn process(&self) -> u32 {
        self.running.process
    }

    /// Where updates are posted.
    pub(crate) fn inlets(&self) -> SocketAddr {
        self.running.inlets
    }

    /// Its metrics as they stand.
    pub(crate) fn metrics(&self) -> anyhow::Result<Metrics> {
        let mut stream = TcpStream::connect_timeout(&self.running.admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.running.admin)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the appliance shows no metrics: {answer}");
        Ok(Metrics::parse(&answer))
    }

    /// MiB of the files in its state directory.
    pub(crate) fn disk_mib(&self) -> f64 {
        let files = fs::read_dir(self.state.join("store")).into_iter().flatten().flatten();
        let bytes: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        bytes as f64 / f64::from(1 << 20)
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.keeper.tell(&"stop")?;
        let ended_well: bool = self.keeper.hear(PATIENCE)?;
        ensure!(ended_well, "the appliance did not end well");
        Ok(())
    }
}

/// Writes a client's certificate and key, and whom it trusts.
pub(crate) fn write_tls(directory: &Path, client: &Issued, authority_pem: &str) -> anyhow::Result<ClientTlsFiles> {
    let write = |name: &str, text: &str, mode: u32| -> std::io::Result<PathBuf> {
        let path = directory.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    };
    Ok(ClientTlsFiles {
        certificate: write("client.crt", &client.certificate_pem, 0o644)?,
        key: write("client.key", &client.key_pem, 0o600)?,
        roots: RootsSource::File(write("ca.crt", authority_pem, 0o644)?),
    })
}

/// The role: starts the binary, tells where it listens, and ends it when told so or when the runner is gone.
pub(crate) fn keep() -> anyhow::Result<()> {
    let (binary, config): (PathBuf, PathBuf) = child::order()?;
    let mut appliance = Binary(
        Command::new(binary)
            .args(["run", "--config"])
            .arg(config)
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the appliance")?,
    );
    let process = appliance.0.id();
    let log = BufReader::new(appliance.0.stderr.take().context("an appliance without a log")?).lines();
    std::thread::spawn(move || {
        let mut shown = 0;
        // Read to the end: an appliance that cannot write its log would stand still.
        for line in log.map_while(Result::ok) {
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            let address = |name: &str| parsed[name].as_str()?.parse().ok();
            if let (Some(inlets), Some(admin)) = (address("inlets"), address("admin")) {
                let _ = child::tell(&json!(Running { process, inlets, admin }));
            }
            if !matches!(parsed["level"].as_str(), Some("INFO" | "DEBUG")) && shown < WARNINGS_SHOWN {
                shown += 1;
                eprintln!("appliance: {line}");
            }
        }
    });
    if child::told::<Value>()?.is_some() {
        Command::new("kill").args(["-TERM", &process.to_string()]).status()?;
        child::tell(&appliance.0.wait()?.success())?;
    }
    Ok(())
}

struct Binary(Process);

impl Drop for Binary {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
