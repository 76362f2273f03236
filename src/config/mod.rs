//! The configuration as it is meant: checked as a whole, with every reference followed.
//!
//! Loading touches no network and writes nothing. `docs/configuration.md` has every key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

mod audience;
mod authentication;
mod backfill;
mod batch;
mod client_tls;
mod destination;
pub mod draft;
mod duration;
mod file;
pub mod files;
mod inlet;
mod merge_policy;
mod names;
pub mod problem;
mod reading;
mod request;
mod secret;
pub mod settings;
mod store;
mod warning;

use destination::Defined;
use file::{Item, Section};
use files::Files;
use merge_policy::Policies;
use names::Names;
use problem::ConfigError;
use reading::Reading;
use secret::Places;
use settings::Settings;

use crate::{
    audience::{
        Audience,
        order::{self, Tangle},
    },
    destination::{Destination, DestinationId},
    inlet::Inlet,
    store::Keeping,
    tls::ClientTlsFiles,
};

/// Most inlets: each has its own routes and metrics.
const INLETS_MAX: usize = 100;
/// Most audiences: each may be asked for each update.
const AUDIENCES_MAX: usize = 1000;
/// Most destinations: each has its own worker and connections.
const DESTINATIONS_MAX: usize = 100;

/// The configuration file, where nothing else is said.
pub const FILE_DEFAULT: &str = "/etc/postern/postern.toml";
/// Where the store is, where nothing else is said: systemd makes this folder.
const STATE_DIR: &str = "/var/lib/postern";
/// Where the socket for operators is while the store is there. systemd makes its folder too.
const SOCKET: &str = "/run/postern/admin.sock";
/// Longest path of a socket, in bytes: the kernel's `sun_path` has 108 with the zero at its end.
const SOCKET_BYTES_MAX: usize = 107;

/// Everything that `postern.toml` and its drop-ins say.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the store.
    pub state_dir: PathBuf,
    /// Where the inlets listen.
    pub server_listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// The socket on which operators are answered.
    pub admin_socket: PathBuf,
    /// How we log.
    pub log: Log,
    /// How the store is kept.
    pub store: Keeping,
    /// Profiles a second that a backfill or an evaluation goes over at most.
    pub backfill_rate: usize,
    /// The entrances.
    pub inlets: Vec<Inlet>,
    /// The audiences.
    pub audiences: Vec<Audience>,
    /// The destinations; each maps only audiences that are among `audiences`.
    pub destinations: Vec<Destination>,
}

/// How we log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// For whom they are written.
    pub format: LogFormat,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// An export became a dead letter, or a person is needed.
    Error,
    /// Unexpected, and nothing is lost.
    Warn,
    /// What an operator did took effect.
    Info,
    /// For developers.
    Debug,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Programs: one JSON object a line.
    Json,
}

/// A configuration with what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// As it is meant.
    pub config: Config,
    /// As it is written, and by whom.
    pub settings: Settings,
    empty_drop_ins: Vec<PathBuf>,
}

impl Config {
    /// Reads a configuration file, the drop-ins beside it, and what they refer to: secrets, certificates and keys. Paths
    /// in all of them are relative to the folder of the file; credentials are looked for in `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when there is no such file; otherwise all that is wrong, at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Ok(Files::read(path)?.load()?.config)
    }
}

/// Where the socket for operators is, going by the files as far as they can be read: an appliance can be asked while its
/// configuration is being changed, or by somebody who may not read all of it.
///
/// # Errors
/// When what they say of it is wrong.
pub fn admin_socket(path: &Path) -> Result<PathBuf, ConfigError> {
    match Files::read(path) {
        Err(ConfigError::Missing(_) | ConfigError::Unreadable(..)) => Ok(PathBuf::from(SOCKET)),
        files => Ok(whereabouts(&files?)?.1),
    }
}

/// Reads a duration as the configuration writes it: a whole number and a unit, such as `500ms`.
pub fn duration(text: &str) -> Option<Duration> {
    duration::parse(text)
}

/// The folder of the store, going by the files as far as they can be read: a stopped store can be mended whatever else is
/// wrong.
///
/// # Errors
/// [`ConfigError::Missing`], and when what they say of it is wrong.
pub fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    Ok(whereabouts(&Files::read(path)?)?.0)
}

/// Each destination with where its certificates are, whatever else is wrong, also with them: they are looked at to find that
/// out.
///
/// # Errors
/// [`ConfigError::Missing`], and when what the files say of this is wrong.
pub fn certificate_files(path: &Path) -> Result<Vec<(DestinationId, ClientTlsFiles)>, ConfigError> {
    let files = Files::read(path)?;
    let reading = Reading::new(&files.sources);
    let tables = reading.parse();
    let places = files.places();
    let mut root = Section::root(&tables, &reading);
    let read = |item: Item<'_>| destination::certificate_files(&item, &places);
    let destinations = root.all("destination", DESTINATIONS_MAX, read);
    let all_read = tables.len() == files.sources.len();
    drop(root);
    drop(tables);
    match destinations {
        Some(destinations) if all_read => Ok(destinations),
        _ => Err(ConfigError::Invalid(reading.end().0)),
    }
}

/// Audiences that can be evaluated one after the other.
fn in_order(root: &Section<'_>, audiences: Vec<Audience>, all_read: bool) -> Option<Vec<Audience>> {
    match order::in_order(&audiences) {
        Err(tangle @ Tangle::Unknown { .. }) if all_read => root.refuse("audience", tangle),
        Err(tangle @ Tangle::Circle(_)) => root.refuse("audience", tangle),
        Ok(_) | Err(Tangle::Unknown { .. }) => Some(audiences),
    }
}

/// The folder of the store, and the socket.
fn whereabouts(files: &Files) -> Result<(PathBuf, PathBuf), ConfigError> {
    let reading = Reading::new(&files.sources);
    let tables = reading.parse();
    let places = files.places();
    let mut root = Section::root(&tables, &reading);
    let state = root.or("state_dir", &format!("{STATE_DIR:?}"), |item| read_state_dir(&item, &places));
    let (state_dir, socket) = state.unzip();
    let admin = root.or("admin", "{}", |item| admin(&item, socket.as_deref(), &places));
    drop(root);
    drop(tables);
    match (state_dir, admin) {
        (Some(state_dir), Some((_, socket))) => Ok((state_dir, socket)),
        (None, _) | (_, None) => Err(ConfigError::Invalid(reading.end().0)),
    }
}

impl Files {
    fn places(&self) -> Places<'_> {
        Places { folder: &self.folder, credentials: self.credentials.as_deref() }
    }

    /// Understands the files as a whole, and reads what they refer to.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all that is wrong in any of them.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let reading = Reading::new(&self.sources);
        let tables = reading.parse();
        let places = self.places();
        let all_read = tables.len() == self.sources.len() && self.folder_finding.is_none();
        let config = read(Section::root(&tables, &reading), &places, all_read);
        let empty = tables.iter().filter(|(table, _)| table.is_empty());
        let empty_drop_ins = empty.filter_map(|(_, place)| self.drop_in_at(*place)).collect();
        drop(tables);
        let (mut problems, settings) = reading.end();
        problems.extend(self.folder_finding.clone());
        match config {
            Some(config) if problems.is_empty() => Ok(Loaded { config, settings, empty_drop_ins }),
            _ => {
                assert!(!problems.is_empty(), "what cannot be read is noted");
                Err(ConfigError::Invalid(problems))
            }
        }
    }
}

/// Reads everything before it gives up on anything: each `?` stands after the last key was asked for.
fn read(mut root: Section<'_>, places: &Places<'_>, all_read: bool) -> Option<Config> {
    let state = root.or("state_dir", &format!("{STATE_DIR:?}"), |item| read_state_dir(&item, places));
    let (state_dir, socket) = state.unzip();
    let server_listen = root.or("server", "{}", |item| server(&item));
    let admin = root.or("admin", "{}", |item| admin(&item, socket.as_deref(), places));
    let listens = apart(&root, server_listen, admin.as_ref().map(|(listen, _)| *listen));
    let log = root.or("log", "{}", |item| log(&item));
    let store = root.or("store", "{}", |item| store::store(&item));
    let backfill_rate = root.or("backfill", "{}", |item| backfill::rate(&item));

    let mut names = Names::default();
    let inlets = root.all("inlet", INLETS_MAX, |item| inlet::inlet(&item, &mut names));
    // What a file that does not read may define is not called undefined.
    let mut ids = Names::partial(!all_read);
    let policies = Policies::read(&mut root, !all_read);
    let mut by_policy = BTreeMap::new();
    let audiences = root.all("audience", AUDIENCES_MAX, |item| {
        let audience = audience::audience(&item, &mut ids, policies.as_ref())?;
        by_policy.insert(audience.id.clone(), Arc::clone(&audience.policy));
        Some(audience)
    });
    let audiences = audiences.and_then(|audiences| in_order(&root, audiences, all_read));
    let mut names = Names::default();
    let defined = Defined { ids: &ids, by_policy: &by_policy, policies: policies.as_ref() };
    let destinations =
        root.all("destination", DESTINATIONS_MAX, |item| destination::destination(&item, &mut names, &defined, places));
    root.close();

    let (server_listen, admin_listen) = listens?;
    let (_, admin_socket) = admin?;
    Some(Config {
        state_dir: state_dir?,
        server_listen,
        admin_listen,
        admin_socket,
        log: log?,
        store: store?,
        backfill_rate: backfill_rate?,
        inlets: inlets?,
        audiences: audiences?,
        destinations: destinations?,
    })
}

/// The folder of the store, and where the socket is if nothing else is said, as that would be written.
fn read_state_dir(item: &Item<'_>, places: &Places<'_>) -> Option<(PathBuf, String)> {
    let state_dir = secret::path(item, places)?;
    let socket = match state_dir == Path::new(STATE_DIR) {
        true => SOCKET.to_owned(),
        false => Path::new(item.as_text()?).join("admin.sock").display().to_string(),
    };
    Some((state_dir, socket))
}

fn server(item: &Item<'_>) -> Option<SocketAddr> {
    let mut section = item.section("a table")?;
    let listen = section.or("listen", "\"127.0.0.1:8600\"", |item| loopback(&item));
    section.close();
    listen
}

fn admin(item: &Item<'_>, socket: Option<&str>, places: &Places<'_>) -> Option<(SocketAddr, PathBuf)> {
    let mut section = item.section("a table")?;
    let listen = section.or("listen", "\"127.0.0.1:8601\"", |item| loopback(&item));
    let socket = section.or_text("socket", socket, |item| self::socket(&item, places));
    section.close();
    listen.zip(socket)
}

fn socket(item: &Item<'_>, places: &Places<'_>) -> Option<PathBuf> {
    let path = secret::path(item, places)?;
    match path.as_os_str().len() {
        0..=SOCKET_BYTES_MAX => Some(path),
        bytes => item.refuse(format_args!(
            "{} has {bytes} bytes, and the path of a socket at most {SOCKET_BYTES_MAX}; set `admin.socket` to a shorter one",
            path.display()
        )),
    }
}

/// The two addresses, which must differ.
fn apart(
    root: &Section<'_>,
    server: Option<SocketAddr>,
    admin: Option<SocketAddr>,
) -> Option<(SocketAddr, SocketAddr)> {
    let (server, admin) = server.zip(admin)?;
    // Port 0 lets the system choose, twice.
    if server != admin || server.port() == 0 {
        return Some((server, admin));
    }
    let name = if root.written("admin").is_some() { "admin" } else { "server" };
    root.refuse(name, "the inlets and the admin side cannot share an address; choose another port")
}

fn loopback(item: &Item<'_>) -> Option<SocketAddr> {
    const WHAT: &str = "an address and a port such as \"127.0.0.1:8600\"";
    let Ok(address) = item.text(WHAT)?.parse::<SocketAddr>() else {
        return item.refuse(format_args!("expected {WHAT}"));
    };
    match address.ip().is_loopback() {
        true => Some(address),
        // Nobody is asked who they are, so only this machine may knock.
        false => item.refuse("must be a loopback address (127.0.0.1 or [::1]): there is no authentication yet"),
    }
}

fn log(item: &Item<'_>) -> Option<Log> {
    const LEVELS: &[(&str, LogLevel)] =
        &[("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    let mut section = item.section("a table")?;
    let level = section.or("level", "\"info\"", |item| item.choice(LEVELS));
    let format = section.or("format", "\"text\"", |item| item.choice(FORMATS));
    section.close();
    Some(Log { level: level?, format: format? })
}

#[cfg(test)]
mod authentication_tests;
#[cfg(test)]
mod drop_in_tests;
#[cfg(test)]
mod merge_policy_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod tests;
