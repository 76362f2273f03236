//! The configuration as it is meant: checked as a whole, with every reference followed.
//!
//! Loading touches no network and writes nothing. `docs/configuration.md` has every key.

use std::{
    env,
    fs::File,
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

mod audience;
mod destination;
mod duration;
mod file;
mod inlet;
pub mod problem;
mod secret;
mod store;

use file::{Item, Names, Section};
use problem::ConfigError;
use secret::Places;

use crate::{audience::Audience, destination::Destination, inlet::Inlet, store::Keeping};

/// Longest file, in bytes: a thousand audiences with long rules stay far below.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most inlets: each has its own routes and metrics.
const INLETS_MAX: usize = 100;
/// Most audiences: each may be asked for each update.
const AUDIENCES_MAX: usize = 1000;
/// Most destinations: each has its own worker and connections.
const DESTINATIONS_MAX: usize = 100;

const SERVER_LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8600));
const ADMIN_LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8601));

/// Everything that `postern.toml` says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the store.
    pub state_dir: PathBuf,
    /// Where the inlets listen.
    pub server_listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// How we log.
    pub log: Log,
    /// How the store is kept.
    pub store: Keeping,
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

impl Config {
    /// Reads a configuration file and what it refers to: secrets, certificates and keys. Paths in it are relative to its
    /// folder; credentials are looked for in `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when there is no such file; otherwise all that is wrong, at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = text(path)?;
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, path, &Places { folder, credentials: credentials.as_deref() })
    }

    fn parse(text: &str, file: &Path, places: &Places<'_>) -> Result<Self, ConfigError> {
        let (table, findings) = file::parse(text, file.to_owned())?;
        let config = read(Section::root(&table, &findings), places);
        let problems = findings.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => {
                assert!(!problems.is_empty(), "what cannot be read is noted");
                Err(ConfigError::Invalid(problems))
            }
        }
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => ConfigError::Missing(path.to_owned()),
        _ => ConfigError::Unreadable(path.to_owned(), error),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(ConfigError::TooLong { file: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::NotUtf8 { file: path.to_owned(), line: good.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

/// Reads everything before it gives up on anything: each `?` stands after the last key was asked for.
fn read(mut root: Section<'_>, places: &Places<'_>) -> Option<Config> {
    let state_dir =
        root.or("state_dir", PathBuf::from("/var/lib/postern"), |item| Some(places.folder.join(secret::path(&item)?)));
    let listens = listens(&mut root);
    let log = root.or("log", Log { level: LogLevel::Info, format: LogFormat::Text }, |item| log(&item));
    let store = root.or("store", Keeping::default(), |item| store::store(&item));

    let mut names = Names::default();
    let inlets = root.each("inlet", INLETS_MAX, |item| inlet::inlet(&item, &mut names));
    let mut ids = Names::default();
    let audiences = root.each("audience", AUDIENCES_MAX, |item| audience::audience(&item, &mut ids));
    let mut names = Names::default();
    let destinations =
        root.each("destination", DESTINATIONS_MAX, |item| destination::destination(&item, &mut names, &ids, places));
    root.close();

    let (server_listen, admin_listen) = listens?;
    Some(Config {
        state_dir: state_dir?,
        server_listen,
        admin_listen,
        log: log?,
        store: store?,
        inlets: inlets?,
        audiences: audiences?,
        destinations: destinations?,
    })
}

/// The two addresses, which must differ.
fn listens(root: &mut Section<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (server, server_item) = listen(root, "server", SERVER_LISTEN_DEFAULT);
    let (admin, admin_item) = listen(root, "admin", ADMIN_LISTEN_DEFAULT);
    let (server, admin) = (server?, admin?);
    // Port 0 lets the system choose, twice.
    match (server == admin && server.port() != 0, admin_item.or(server_item)) {
        (true, Some(item)) => item.refuse("the inlets and the admin side cannot share an address; choose another port"),
        _ => Some((server, admin)),
    }
}

/// The `listen` of a table, and the table if it is written.
fn listen<'a>(
    root: &mut Section<'a>,
    name: &'static str,
    default: SocketAddr,
) -> (Option<SocketAddr>, Option<Item<'a>>) {
    let Some(item) = root.optional(name) else { return (Some(default), None) };
    let address = item.section("a table").and_then(|mut section| {
        let address = section.or("listen", default, |item| loopback(&item));
        section.close();
        address
    });
    (address, Some(item))
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
    let level = section.or("level", LogLevel::Info, |item| item.choice(LEVELS));
    let format = section.or("format", LogFormat::Text, |item| item.choice(FORMATS));
    section.close();
    Some(Log { level: level?, format: format? })
}

#[cfg(test)]
mod tests;
