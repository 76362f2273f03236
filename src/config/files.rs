//! The files of a configuration: the main one, and the drop-ins of `conf.d` beside it in lexical order.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf, absolute},
};

use super::problem::{ConfigError, Finding, Kind};

/// The folder of the drop-ins, beside the main file.
const DROP_INS: &str = "conf.d";

/// Longest configuration over all files, in bytes: a thousand audiences with long rules stay far below.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most drop-ins: one for each inlet, audience and destination is fewer. More is the wrong folder.
const DROP_INS_MAX: usize = 2000;

/// The files of a configuration, read and not yet understood.
pub struct Files {
    /// The folder of the main file, absolute: paths in all files are relative to it.
    pub(super) folder: PathBuf,
    /// What `$CREDENTIALS_DIRECTORY` says: systemd puts credentials there.
    pub(super) credentials: Option<PathBuf>,
    /// The main file, then the drop-ins.
    pub(super) sources: Vec<Source>,
    /// What is wrong with the folder of the drop-ins.
    pub(super) folder_finding: Option<Finding>,
}

/// A file, and its text as far as it has one.
pub(super) struct Source {
    /// As findings name it.
    pub(super) path: PathBuf,
    /// As origins name it: as seen from the folder of the main file.
    pub(super) label: String,
    pub(super) text: Result<String, Unusable>,
}

/// Why a file has no text.
pub(super) struct Unusable {
    kind: Kind,
    line: Option<usize>,
    message: String,
}

/// Where systemd keeps those of the service while it runs: root, who checks its configuration from a shell, reads them there.
const CREDENTIALS: &str = "/run/credentials/postern.service";

impl Files {
    /// Reads the main file and the drop-ins beside it. Credentials are looked for in `$CREDENTIALS_DIRECTORY`, or where systemd
    /// keeps those of the running service.
    ///
    /// # Errors
    /// When the main file is missing or cannot be read. What else is wrong is found by [`Files::load`].
    pub fn read(main: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => ConfigError::Missing(main.to_owned()),
            _ => ConfigError::Unreadable(main.to_owned(), error),
        };
        let mut bytes_left = BYTES_MAX;
        let text = File::open(main).and_then(|file| text(file, &mut bytes_left)).map_err(unreadable)?;
        let beside = main.parent().unwrap_or(Path::new(""));
        let folder = absolute(beside.join(".")).map_err(unreadable)?;
        let service = || Some(PathBuf::from(CREDENTIALS)).filter(|folder| folder.is_dir());
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).or_else(service);
        let mut files = Self::of(main, text, folder, credentials);
        match drop_ins(&beside.join(DROP_INS)) {
            Ok(names) => files.sources.extend(names.into_iter().map(|path| {
                let text = open_regular(&path).and_then(|file| self::text(file, &mut bytes_left));
                Source::drop_in(path, text.unwrap_or_else(|error| Err(Unusable::unreadable(&error))))
            })),
            Err(error) => {
                let Unusable { kind, line, message } = Unusable::unreadable(&error);
                files.folder_finding = Some(Finding { kind, file: beside.join(DROP_INS), line, key: None, message });
            }
        }
        Ok(files)
    }

    pub(super) fn of(
        main: &Path,
        text: Result<String, Unusable>,
        folder: PathBuf,
        credentials: Option<PathBuf>,
    ) -> Self {
        let label = name(main);
        let source = Source { path: main.to_owned(), label, text };
        Self { folder, credentials, sources: vec![source], folder_finding: None }
    }

    /// Adds a drop-in as if it were there, at its place in the order.
    pub fn add(&mut self, path: PathBuf, text: String) {
        let (_, drop_ins) = self.sources.split_first().expect("the main file is the first");
        let at = 1 + drop_ins.partition_point(|other| other.path.file_name() < path.file_name());
        self.sources.insert(at, Source::drop_in(path, Ok(text)));
    }

    /// The files in the order in which they count.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }

    /// The folder of the main file, absolute: paths in all files are relative to it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the drop-in of that name stands or would stand.
    pub fn drop_in(&self, name: &str) -> PathBuf {
        let main = self.sources.first().expect("the main file is the first");
        main.path.with_file_name(DROP_INS).join(format!("{name}.toml"))
    }
}

impl Source {
    fn drop_in(path: PathBuf, text: Result<String, Unusable>) -> Self {
        let label = format!("{DROP_INS}/{}", name(&path));
        Self { path, label, text }
    }
}

impl Unusable {
    fn unreadable(error: &io::Error) -> Self {
        Self { kind: Kind::Unreadable, line: None, message: format!("cannot read it: {error}") }
    }

    pub(super) fn not_toml(line: usize, message: String) -> Self {
        Self { kind: Kind::NotToml, line: Some(line), message }
    }

    pub(super) fn finding(&self, file: &Path) -> Finding {
        let Self { kind, line, message } = self;
        Finding { kind: *kind, file: file.to_owned(), line: *line, key: None, message: message.clone() }
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The drop-ins in lexical order. No folder: none. Names that begin with a dot are what editors leave.
fn drop_ins(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension() == Some(OsStr::new("toml")) && !hidden(path));
    paths.sort();
    match paths.len() {
        0..=DROP_INS_MAX => Ok(paths),
        count => Err(io::Error::other(format!("it has {count} drop-ins, at most {DROP_INS_MAX} are allowed"))),
    }
}

/// A pipe among the drop-ins would wait for ever.
fn open_regular(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// The text of a file, whose bytes are taken from what is left.
fn text(file: File, bytes_left: &mut u64) -> io::Result<Result<String, Unusable>> {
    let mut bytes = Vec::new();
    let read = file.take(*bytes_left + 1).read_to_end(&mut bytes)? as u64;
    let Some(left) = bytes_left.checked_sub(read) else {
        let message = format!("all files together have more than {BYTES_MAX} bytes");
        return Ok(Err(Unusable { kind: Kind::TooMany, line: None, message }));
    };
    *bytes_left = left;
    Ok(String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Unusable { kind: Kind::NotUtf8, line: Some(line), message: "not UTF-8 text; save the file as UTF-8".to_owned() }
    }))
}
