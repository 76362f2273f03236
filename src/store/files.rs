//! The state directory: who may use it, in which format, and what of it must be synced.
//!
//! ```text
//! state_dir/FORMAT   the format's number; a newer one is refused
//! state_dir/lock     locked while a process has the store
//! state_dir/store/   sled's own
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::StoreError;

/// The format that this version writes.
const FORMAT: u32 = 1;

/// How long threads of a sled that was closed may take to let go of its file, and how often we look.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The state directory, locked.
pub(super) struct Files {
    dir: PathBuf,
    is_new: bool,
    _lock: File,
}

impl Files {
    /// Makes the directory if need be (mode 0700), and locks it.
    pub(super) fn prepare(dir: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| StoreError::Directory { path: dir.display().to_string(), source })?;
        Self::lock(dir)
    }

    /// Locks a directory that has a store.
    pub(super) fn existing(dir: &Path) -> Result<Self, StoreError> {
        match dir.join("FORMAT").exists() {
            true => Self::lock(dir),
            false => Err(StoreError::Missing(dir.display().to_string())),
        }
    }

    fn lock(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.display().to_string();
        let error = |source| StoreError::Directory { path: path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        Ok(Self { dir: dir.to_owned(), is_new: is_new(dir)?, _lock: lock })
    }

    /// True until [`Files::finish`] was called once for this directory.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Opens sled. It panics rather than errs on some damage.
    pub(super) fn open(&self, cache_bytes: u64) -> Result<sled::Db, StoreError> {
        let config = sled::Config::new()
            .path(self.dir.join("store"))
            .cache_capacity(cache_bytes)
            // The writer flushes; a timer of sled's own would only compete with it.
            .flush_every_ms(None);
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => return Ok(db),
                // The directory is ours: these are threads of a sled that this process has just closed.
                Ok(Err(sled::Error::Io(error))) if is_locked(&error) && Instant::now() < patience => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Ok(Err(error)) => return Err(self.failed(error)),
                Err(_) => return Err(self.damaged("sled cannot open it")),
            }
        }
    }

    /// The database file, to be synced after sled's flush.
    pub(super) fn database(&self) -> Result<File, StoreError> {
        File::options().read(true).write(true).open(self.dir.join("store/db")).map_err(|source| self.error(source))
    }

    /// Makes a first start durable: directories, then the format's number.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        if !self.is_new {
            return Ok(());
        }
        let done = || -> io::Result<()> {
            File::open(self.dir.join("store"))?.sync_all()?;
            // Whole or not at all: an empty one would be taken for another format.
            let mut format = File::create(self.dir.join("FORMAT.new"))?;
            writeln!(format, "{FORMAT}")?;
            format.sync_all()?;
            fs::rename(self.dir.join("FORMAT.new"), self.dir.join("FORMAT"))?;
            File::open(&self.dir)?.sync_all()?;
            // A parent that we may not read was made by somebody else, long before.
            let parent = self.dir.canonicalize()?.parent().map(File::open);
            parent.and_then(Result::ok).map_or(Ok(()), |parent| parent.sync_all())
        };
        done().map_err(|source| self.error(source))
    }

    pub(super) fn failed(&self, error: sled::Error) -> StoreError {
        match error {
            sled::Error::Io(source) => self.error(source),
            other => self.damaged(&other.to_string()),
        }
    }

    pub(super) fn error(&self, source: io::Error) -> StoreError {
        StoreError::Directory { path: self.dir.display().to_string(), source }
    }

    pub(super) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.dir.display().to_string(), what: what.to_owned() }
    }
}

/// Whether a directory has no store yet.
///
/// # Errors
/// [`StoreError::Newer`] when a later version wrote it.
pub(super) fn is_new(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.display().to_string();
    match fs::read_to_string(dir.join("FORMAT")) {
        Ok(text) if text.trim() == FORMAT.to_string() => Ok(false),
        Ok(text) => Err(StoreError::Newer { path, found: text.trim().to_owned(), supported: FORMAT }),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(StoreError::Directory { path, source }),
    }
}

/// sled says so in words only: the error's kind is `Other`.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
