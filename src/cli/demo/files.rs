//! The demo's files, in a temporary directory: a private authority, its certificates, and a `postern.toml`.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::people::AUDIENCES;
use crate::{
    clock::Clock,
    tls::{
        issue::{Authority, Issued, Period},
        listener::{ClientAuth, ServerTls},
    },
};

/// The destination whose receiver requires our certificate.
pub(super) const CRM: &str = "crm";
/// The destination whose receiver takes data from anybody.
pub(super) const CARELESS: &str = "careless";
/// Certificates of a demo are of no use afterwards. They begin earlier than now because clocks differ.
const VALID_BEFORE: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(3600);

/// The directory and what is in it; removed when dropped, whatever happened.
pub(super) struct Files {
    directory: TempDir,
    authority_pem: String,
    server: Issued,
}

impl Files {
    /// Makes the directory, the authority and the certificates.
    pub(super) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("postern-demo-").tempdir();
        let directory = directory.context("cannot make a temporary directory")?;
        let period = Period::starting(Clock::system().now() - VALID_BEFORE, LIFETIME);
        let authority = Authority::new("Postern demo authority", period)?;
        let server = authority.server(&["127.0.0.1"], period)?;
        let client = authority.client("Postern demo appliance", period)?;
        let files = Self { directory, authority_pem: authority.certificate_pem(), server };
        files.write("ca.crt", &files.authority_pem)?;
        files.write("client.crt", &client.certificate_pem)?;
        files.write("client.key", &client.key_pem)?;
        Ok(files)
    }

    /// The TLS of a receiver that requires a client certificate of the authority.
    pub(super) fn requiring_tls(&self) -> Result<ServerTls> {
        let Issued { certificate_pem, key_pem } = &self.server;
        Ok(ServerTls::new(certificate_pem, key_pem, ClientAuth::Required(&self.authority_pem))?)
    }

    /// The TLS of a receiver that asks for none.
    pub(super) fn careless_tls(&self) -> Result<ServerTls> {
        let Issued { certificate_pem, key_pem } = &self.server;
        Ok(ServerTls::new(certificate_pem, key_pem, ClientAuth::NeverAskedForDemonstration)?)
    }

    /// Writes `postern.toml` with these endpoints.
    pub(super) fn write_config(&self, crm_url: &str, careless_url: &str) -> Result<()> {
        let audiences: String = AUDIENCES.iter().map(|audience| audience.as_toml()).collect();
        let mapped: Vec<&str> = AUDIENCES.iter().filter(|audience| audience.mapped).map(|it| it.id).collect();
        let destinations =
            [(CRM, crm_url), (CARELESS, careless_url)].map(|(name, url)| destination(name, url, &mapped));
        self.write("postern.toml", &format!("{HEAD}{audiences}{}", destinations.concat()))
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Removes the directory.
    pub(super) fn remove(self) -> Result<()> {
        self.directory.close().context("cannot remove the demo's files")
    }

    /// Keeps the directory; returns where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        // A private key that others may read is refused.
        let file = fs::File::options().create_new(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The retries are quick so that one need not wait for them; everything else is as it comes.
fn destination(name: &str, url: &str, mapped: &[&str]) -> String {
    format!(
        r#"
[[destination]]
name = "{name}"
endpoint = "{url}"
audiences = {mapped:?}
attributes = ["person.birthDate", "person.name.firstName", "person.name.lastName", "personalEmail.address"]
retry_delays = ["200ms", "400ms"]
tls = {{ certificate = "client.crt", key = "client.key", roots = "ca.crt" }}
"#
    )
}

const HEAD: &str = r#"# Written by `postern demo`.
state_dir = "state"
server.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
log = { level = "info", format = "json" }

[[inlet]]
name = "web"
"#;
