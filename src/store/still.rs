//! A backup while the store runs.
//!
//! The writer ends its group and waits; once that is synced, the syncer copies the files, which nothing writes then; and all
//! goes on. The pause is as long as copying files takes, and where the file system can it shares their blocks. What was
//! copied is then opened, read to the end, compared with its counters and written anew in order, as every backup is.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
};

use tokio::sync::oneshot;

use super::{
    Store, StoreError,
    files::Files,
    upkeep::{self, Copied, Progress, UpkeepError},
    writer::{Command, Failure, Writer},
};

/// How often it is tried: should sled write to its file while it is copied, the copy does not open.
const TRIES_MAX: usize = 3;

/// Something to be done once all is synced and nothing is written.
pub(super) struct Still {
    work: Box<dyn FnOnce() + Send>,
    /// Dropped when it is done.
    _writer_waits: SyncSender<()>,
}

impl Still {
    pub(super) fn run(self) {
        (self.work)();
    }
}

impl Store {
    /// Copies the store to `to`, a new directory, which can be used in its place. All that was acknowledged before this call
    /// is in it. It blocks: not for the runtime's threads. Updates wait while the files are copied.
    ///
    /// # Errors
    /// [`UpkeepError::Exists`] when something is in `to`, [`UpkeepError::NoSpace`] when the files or the copy would not fit;
    /// else as [`upkeep::backup`]. Nothing is left in `to` then.
    pub fn backup(&self, to: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
        upkeep::is_free(to)?;
        if to.strip_prefix(self.space.dir()).is_ok_and(is_of_the_store) {
            return Err(UpkeepError::OfTheStore(to.display().to_string()));
        }
        let mut copied = self.try_backup(to, progress);
        for _ in 1..TRIES_MAX {
            match &copied {
                Err(UpkeepError::Store(StoreError::Damaged { .. })) => copied = self.try_backup(to, progress),
                Ok(_) | Err(_) => break,
            }
        }
        copied
    }

    fn try_backup(&self, to: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
        let raw = to.join("raw");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&raw);
        made.map_err(|source| directory(&raw, source))?;
        let copied = self.copy_files(to, &raw).and_then(|()| {
            let files = Files::existing(&raw)?;
            upkeep::carry(&files, to, progress)
        });
        // It was empty before.
        let away = if copied.is_ok() { raw } else { to.to_owned() };
        let removed = fs::remove_dir_all(&away).map_err(|source| directory(&away, source));
        let copied = copied?;
        removed?;
        Ok(copied)
    }

    fn copy_files(&self, to: &Path, raw: &Path) -> Result<(), UpkeepError> {
        upkeep::has_space(to, self.bytes_on_disk())?;
        if !self.live.is_good() {
            return Err(self.live.error().into());
        }
        let (tell, told) = oneshot::channel();
        let (from, raw) = (self.space.dir().to_owned(), raw.to_owned());
        let place = raw.clone();
        // An error means that nobody waits any more.
        let work = Box::new(move || drop(tell.send(copy_store(&from, &raw))));
        self.commands.send(Command::Still(work)).map_err(|_| StoreError::Failed)?;
        let copied = told.blocking_recv().map_err(|_| self.live.error())?;
        copied.map_err(|source| directory(&place, source).into())
    }
}

impl Writer<'_> {
    /// Ends the group, and waits until `work` is done behind it.
    pub(super) fn be_still(&mut self, work: Box<dyn FnOnce() + Send>) -> Result<(), Failure> {
        let (done, wait) = sync_channel(0);
        self.group.still = Some(Still { work, _writer_waits: done });
        self.hand_over()?;
        // Nothing is ever sent: it ends when the other side is dropped.
        let _ = wait.recv();
        Ok(())
    }
}

/// Whether a path below the state directory is where the store keeps its own, such as `store.new`.
fn is_of_the_store(path: &Path) -> bool {
    path.components().next().is_some_and(|first| first.as_os_str().as_encoded_bytes().starts_with(b"store"))
}

fn directory(path: &Path, source: io::Error) -> StoreError {
    StoreError::Directory { path: path.display().to_string(), source }
}

fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    for name in ["FORMAT", "mark"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    copy_tree(&from.join("store"), &to.join("store"))
}

/// Copies a directory with all in it. The kernel copies the files, sharing their blocks where it can.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    match fs::create_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
