//! A configuration in the making: what an appliance of a test is to be.

use std::{fs, path::PathBuf, sync::Arc};

use postern::{
    clock::Clock,
    tls::{ClientTlsFiles, RootsSource},
};
use tempfile::TempDir;

use super::{appliance::Appliance, pki::Pki};

/// The audience that every configuration here has: profiles whose `plan` is `gold`.
pub const GOLD: &str = "gold-members";

pub struct SetUp {
    directory: TempDir,
    tls: ClientTlsFiles,
    tls_directory: Arc<TempDir>,
    retry_delays: [&'static str; 2],
    timeout: &'static str,
    max_in_flight: usize,
    authentication: String,
    more: String,
    more_tls: String,
    mapped_audiences: Vec<String>,
    mapped_attributes: Vec<String>,
    log_level: &'static str,
    store: String,
    inlets: String,
    audiences: String,
    destinations: String,
}

impl SetUp {
    pub(super) fn new(pki: &Pki) -> Self {
        let gold = [GOLD.to_owned()];
        let setup = Self {
            directory: tempfile::tempdir().unwrap(),
            tls: pki.client_files(),
            tls_directory: Arc::clone(&pki.directory),
            retry_delays: ["100ms", "200ms"],
            timeout: "2s",
            max_in_flight: 64,
            authentication: String::new(),
            more: String::new(),
            more_tls: String::new(),
            mapped_audiences: gold.to_vec(),
            mapped_attributes: ["plan", "version", "name"].map(str::to_owned).to_vec(),
            log_level: "debug",
            store: String::new(),
            inlets: "\n[[inlet]]\nname = \"web\"\n".to_owned(),
            audiences: String::new(),
            destinations: String::new(),
        };
        setup.audience(GOLD, r#"plan = "gold""#)
    }

    /// A destination with what was said before it; otherwise the gold audience and the attributes `plan`, `version` and
    /// `name` are mapped.
    pub fn destination(mut self, name: &str, url: &str) -> Self {
        let ClientTlsFiles { certificate, key, roots } = &self.tls;
        let RootsSource::File(roots) = roots else { panic!("tests have a private authority") };
        let Self { retry_delays, timeout, max_in_flight, mapped_audiences, mapped_attributes, .. } = &self;
        let Self { authentication, more, more_tls, .. } = &self;
        self.destinations += &format!(
            r#"
[[destination]]
name = "{name}"
endpoint = "{url}"
audiences = {mapped_audiences:?}
attributes = {mapped_attributes:?}
retry_delays = {retry_delays:?}
timeout = "{timeout}"
max_in_flight = {max_in_flight}
tls = {{ certificate = {certificate:?}, key = {key:?}, roots = {roots:?}{more_tls} }}
{authentication}
{more}
"#
        );
        self
    }

    /// For the destinations that follow: files that somebody else keeps.
    pub fn tls(mut self, files: ClientTlsFiles) -> Self {
        self.tls = files;
        self
    }

    /// For the destinations that follow.
    pub fn retry_delays(mut self, delays: [&'static str; 2]) -> Self {
        self.retry_delays = delays;
        self
    }

    /// For the destinations that follow.
    pub fn timeout(mut self, timeout: &'static str) -> Self {
        self.timeout = timeout;
        self
    }

    /// For the destinations that follow.
    pub fn max_in_flight(mut self, most: usize) -> Self {
        self.max_in_flight = most;
        self
    }

    /// For the destinations that follow, in place of what was said so before: more settings, as they are written.
    pub fn with(mut self, toml: &str) -> Self {
        self.more = toml.to_owned();
        self
    }

    /// For the destinations that follow, in place of what was said so before: more settings of `tls`, in a line.
    pub fn with_tls(mut self, toml: &str) -> Self {
        self.more_tls = format!(", {toml}");
        self
    }

    /// For the destinations that follow: a bearer token, in a file.
    pub fn bearer(mut self, token: &str) -> Self {
        let file = self.secret("token", token);
        self.authentication = format!("authentication = {{ bearer = {{ file = {file:?} }} }}");
        self
    }

    /// For the destinations that follow: tokens from an endpoint, for client `pöstern/1`, with secrets full of odd characters.
    /// `more` has the other settings; the file `password` is there for one of them.
    pub fn oauth2(self, url: &str, more: &str) -> Self {
        self.oauth2_with(url, more, "s&cr=t +%:ü", "p&ss wörd")
    }

    /// As [`SetUp::oauth2`], with these secrets.
    pub fn oauth2_with(mut self, url: &str, more: &str, client_secret: &str, password: &str) -> Self {
        let secret = self.secret("client-secret", client_secret);
        self.secret("password", password);
        self.authentication = format!(
            "authentication = {{ oauth2 = {{ token_url = {url:?}, client_id = \"pöstern/1\", client_secret = {{ file = {secret:?} }}, {more} }} }}"
        );
        self
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// For the destinations that follow.
    pub fn mapping(mut self, audiences: &[&str], attributes: &[&str]) -> Self {
        self.mapped_audiences = audiences.iter().map(|&id| id.to_owned()).collect();
        self.mapped_attributes = attributes.iter().map(|&path| path.to_owned()).collect();
        self
    }

    /// Logs no line an export.
    pub fn quiet(mut self) -> Self {
        self.log_level = "info";
        self
    }

    /// Settings of the store, as they are written below `[store]`.
    pub fn store(mut self, toml: &str) -> Self {
        self.store = format!("[store]\n{toml}\n");
        self
    }

    /// Goes over so many profiles a second where all are gone over. To be said behind settings of the store.
    pub fn backfill_rate(mut self, rate: usize) -> Self {
        self.store += &format!("[backfill]\nrate = {rate}\n");
        self
    }

    /// One more audience.
    pub fn audience(self, id: &str, rule: &str) -> Self {
        self.audience_with(id, rule, "")
    }

    /// One more audience, with more of its settings as they are written.
    pub fn audience_with(mut self, id: &str, rule: &str, toml: &str) -> Self {
        self.audiences += &format!(
            "\n[[audience]]\nid = \"{id}\"\n{toml}\nexpression = {{ type = \"PQL\", format = \"pql/text\", value = '{rule}' }}\n"
        );
        self
    }

    /// One more inlet beside `web`, as it is written below its name.
    pub fn inlet(mut self, name: &str, toml: &str) -> Self {
        self.inlets += &format!("\n[[inlet]]\nname = \"{name}\"\n{toml}\n");
        self
    }

    /// Writes the configuration and does not start anything.
    pub fn write(self) -> Appliance {
        let Self { directory, tls_directory, log_level, store, inlets, audiences, destinations, .. } = self;
        let state_dir = directory.path().join("state");
        let config = format!(
            r#"
state_dir = {state_dir:?}
server.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
log = {{ level = "{log_level}", format = "json" }}
{store}{inlets}{audiences}{destinations}"#
        );
        fs::write(directory.path().join("postern.toml"), config).unwrap();
        Appliance::new(directory, tls_directory, state_dir)
    }

    /// Runs the real binary.
    pub async fn start(self) -> Appliance {
        let mut appliance = self.write();
        appliance.start_again().await;
        appliance
    }

    /// Runs in this process, by a clock that the test turns.
    pub async fn start_by(self, clock: &Clock) -> Appliance {
        let mut appliance = self.write();
        appliance.start_by(clock).await;
        appliance
    }
}
