//! The state directory: who may use it, in which format, and what of it must be synced.
//!
//! ```text
//! state_dir/FORMAT       the format's number; a newer one is refused
//! state_dir/lock         locked while a process has the store
//! state_dir/mark         the last commit known to be synced, and whether the store was closed
//! state_dir/ballast      space set aside for a full disk
//! state_dir/store/       sled's own
//! state_dir/store.new/   a copy under way; never live
//! state_dir/store.done/  a finished copy, about to take the store's place
//! state_dir/store.old/   what that takes the place of
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, lchown},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{IFlags, ioctl_getflags, ioctl_setflags},
    process::geteuid,
};
use tracing::warn;

use super::{StoreError, space};

/// The format that this version writes.
const FORMAT: u32 = 4;
/// The oldest that is read; it becomes the present one when it is first written to.
const FORMAT_OLDEST: u32 = 1;

/// How long threads of a sled that was closed may take to let go of its file, and how often we look.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The state directory, locked.
pub(super) struct Files {
    dir: PathBuf,
    is_new: bool,
    mark: File,
    _lock: File,
}

/// What was known of the store when the mark was written. A store that opens with less has lost what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// A commit that is on disk.
    pub(super) commit: u64,
    /// Whether the store was closed; else whoever had it was killed, or has it.
    pub(super) closed: bool,
}

/// Pages that sled may keep in memory.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

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

    /// Locks a directory that has something of a store, be it without its format's number.
    pub(super) fn remains(dir: &Path) -> Result<Self, StoreError> {
        match ["store", "store.done", "store.old", "FORMAT"].iter().any(|name| dir.join(name).exists()) {
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
        let mark = File::options().create(true).truncate(false).read(true).write(true).open(dir.join("mark"));
        let files = Self { dir: dir.to_owned(), is_new: is_new(dir)?, mark: mark.map_err(error)?, _lock: lock };
        ["lock", "mark"].iter().try_for_each(|name| adopt(&dir.join(name), dir)).map_err(error)?;
        files.finish_swap().map_err(error)?;
        Ok(files)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// True until [`Files::finish`] was called once for this directory.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Opens the store; on a full disk, with the space that was set aside for it. What sled can make anew of its log and our
    /// settings is no reason to fail, nor is what a first start left behind: nothing of that was ever acknowledged.
    pub(super) fn open(&self) -> Result<sled::Db, StoreError> {
        self.finish_swap().map_err(|source| self.error(source))?;
        let store = self.dir.join("store");
        if !self.is_new && !store.join("db").exists() {
            return Err(self.damaged("its database is gone"));
        }
        let mut opened = open_sled(&store);
        if matches!(&opened, Err(NotOpen::Io(error)) if error.kind() == ErrorKind::StorageFull)
            && space::drop_ballast(&self.dir)
        {
            opened = open_sled(&store);
        }
        if let Err(NotOpen::Damaged(what)) = &opened {
            if self.is_new && self.read_mark().commit == 0 {
                fs::rename(&store, self.aside("unfinished")).map_err(|source| self.error(source))?;
            } else {
                warn!(what, "sled cannot open the store; trying without its snapshots and settings");
                self.remove_derived()?;
            }
            opened = open_sled(&store);
        }
        opened.map_err(|error| self.not_open(error))
    }

    /// Opens an empty database beside the store, for a copy.
    pub(super) fn open_copy(&self) -> Result<sled::Db, StoreError> {
        let copy = self.dir.join("store.new");
        remove(&copy).map_err(|source| self.error(source))?;
        open_sled(&copy).map_err(|error| self.not_open(error))
    }

    /// Removes a copy that came to nothing: it may hold the space that is wanted.
    pub(super) fn abandon_copy(&self) {
        // What is left is removed before the next copy, and at the next start.
        let _ = remove(&self.dir.join("store.new"));
    }

    /// Puts the finished copy, which ends at `commit`, in the place of the store, and the old one aside or away. Killed at any
    /// point, the store is the one or the other; when it fails, it is the old one.
    pub(super) fn swap(&self, keep_as: Option<&Path>, commit: u64) -> Result<(), StoreError> {
        let [store, copy, done, old] = self.swapped();
        let aside = keep_as.unwrap_or(&old);
        let swap = || -> io::Result<()> {
            adopt(&copy, &self.dir)?;
            sync_tree(&copy)?;
            remove(&done)?;
            remove(&old)?;
            // It must not ask for more than the copy has.
            self.settle_mark(Mark { commit: commit.min(self.read_mark().commit), closed: false });
            fs::rename(&copy, &done)?;
            self.sync()?;
            if store.exists() {
                fs::rename(&store, aside)?;
            }
            self.sync()?;
            fs::rename(&done, &store)?;
            self.sync()?;
            remove(&old)
        };
        swap().map_err(|source| {
            if !store.exists() {
                // Should this fail too, the next opening finishes the swap.
                let _ = fs::rename(aside, &store);
            }
            self.error(source)
        })
    }

    /// Ends a swap that was cut off, and removes an unfinished copy.
    fn finish_swap(&self) -> io::Result<()> {
        let [store, copy, done, old] = self.swapped();
        for finished in [&done, &old] {
            if !store.exists() && finished.exists() {
                fs::rename(finished, &store)?;
                self.sync()?;
            }
        }
        [copy, done, old].iter().try_for_each(|gone| remove(gone))
    }

    /// The store, a copy under way, a finished one, and what that took the place of.
    fn swapped(&self) -> [PathBuf; 4] {
        ["store", "store.new", "store.done", "store.old"].map(|name| self.dir.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// What the mark says; nothing when it was never written, or is torn.
    pub(super) fn read_mark(&self) -> Mark {
        let mut bytes = [0; MARK_BYTES];
        match self.mark.read_exact_at(&mut bytes, 0) {
            Ok(()) => Mark::parse(&bytes).unwrap_or_default(),
            Err(_) => Mark::default(),
        }
    }

    /// Writes the mark over the old one, in one sector. It is not synced: an older one says less, but nothing false.
    pub(super) fn write_mark(&self, mark: Mark) {
        // An error leaves the older one.
        let _ = self.mark.write_all_at(mark.line().as_bytes(), 0);
    }

    /// The database file, to be synced after sled's flush.
    pub(super) fn database(&self) -> Result<File, StoreError> {
        File::options().read(true).write(true).open(self.dir.join("store/db")).map_err(|source| self.error(source))
    }

    /// Bytes that the store takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.dir.join("store"))
    }

    /// A name for a store that is put aside.
    pub(super) fn aside(&self, word: &str) -> PathBuf {
        let names = (1..).map(|count: u32| self.dir.join(format!("store.{word}-{count}")));
        names.into_iter().find(|path| !path.exists()).expect("there are more names than directories")
    }

    /// Removes sled's snapshots, of which its log says all, and its settings, which are ours.
    pub(super) fn remove_derived(&self) -> Result<(), StoreError> {
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(self.dir.join("store"))? {
                let entry = entry?;
                let name = entry.file_name();
                if name == "conf" || name.to_string_lossy().starts_with("snap.") {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().map_err(|source| self.error(source))
    }

    /// The next start is a first one.
    pub(super) fn forget_format(&self) -> Result<(), StoreError> {
        fs::remove_file(self.dir.join("FORMAT")).and_then(|()| self.sync()).map_err(|source| self.error(source))
    }

    /// Makes a first start durable: directories, then the format's number. The number of an older format is raised: who reads
    /// only that one would misread what is written from now on.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        let is_present =
            || -> io::Result<bool> { Ok(fs::read_to_string(self.dir.join("FORMAT"))?.trim() == FORMAT.to_string()) };
        if !self.is_new && is_present().map_err(|source| self.error(source))? {
            return Ok(());
        }
        let done = || -> io::Result<()> {
            sync_tree(&self.dir.join("store"))?;
            // Whole or not at all: an empty one would be taken for another format.
            let mut format = File::create(self.dir.join("FORMAT.new"))?;
            writeln!(format, "{FORMAT}")?;
            adopt(&self.dir.join("FORMAT.new"), &self.dir)?;
            format.sync_all()?;
            fs::rename(self.dir.join("FORMAT.new"), self.dir.join("FORMAT"))?;
            self.sync()?;
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

    /// As [`Files::write_mark`], and syncs it: it must not speak of a store that another took the place of, nor be missing.
    pub(super) fn settle_mark(&self, mark: Mark) {
        self.write_mark(mark);
        let _ = self.mark.sync_all();
    }

    fn not_open(&self, error: NotOpen) -> StoreError {
        match error {
            NotOpen::Io(source) => self.error(source),
            NotOpen::Damaged(what) => self.damaged(&what),
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
        Ok(text) if text.trim().parse().is_ok_and(|format| (FORMAT_OLDEST..=FORMAT).contains(&format)) => Ok(false),
        Ok(text) => Err(StoreError::Newer { path, found: text.trim().to_owned(), supported: FORMAT }),
        Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(true),
        Err(source) => Err(StoreError::Directory { path, source }),
    }
}

/// Digits, a word, a checksum, and the blanks between.
const MARK_BYTES: usize = 20 + 1 + 6 + 1 + 8 + 1;

impl Mark {
    fn line(self) -> String {
        let said = format!("{:020} {}", self.commit, if self.closed { "closed" } else { "open  " });
        format!("{said} {:08x}\n", crc32fast::hash(said.as_bytes()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let commit = std::str::from_utf8(bytes.get(..20)?).ok()?.parse().ok()?;
        let whole = [false, true].map(|closed| Self { commit, closed });
        whole.into_iter().find(|mark| mark.line().as_bytes() == bytes)
    }
}

/// Why sled does not open.
enum NotOpen {
    Io(io::Error),
    Damaged(String),
}

/// I/O errors that sled makes of files that end early or say what cannot be.
const SPEAKS_OF_DAMAGE: [ErrorKind; 4] =
    [ErrorKind::UnexpectedEof, ErrorKind::InvalidData, ErrorKind::InvalidInput, ErrorKind::Other];

/// Opens sled. It panics rather than errs on some damage.
fn open_sled(path: &Path) -> Result<sled::Db, NotOpen> {
    make_synchronous(path).and_then(|()| read_through(&path.join("db"))).map_err(NotOpen::Io)?;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        // The syncer flushes; a timer of sled's own would only compete with it.
        .flush_every_ms(None);
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            // On some file systems a file has the flag only once it is there.
            Ok(Ok(db)) => return make_synchronous(path).map(|()| db).map_err(NotOpen::Io),
            // The directory is ours: these are threads of a sled that this process has just closed.
            Ok(Err(sled::Error::Io(error))) if is_locked(&error) => match Instant::now() < patience {
                true => std::thread::sleep(LOCK_PAUSE),
                false => return Err(NotOpen::Io(error)),
            },
            Ok(Err(sled::Error::Io(error))) if !SPEAKS_OF_DAMAGE.contains(&error.kind()) => {
                return Err(NotOpen::Io(error));
            }
            Ok(Err(error)) => return Err(NotOpen::Damaged(error.to_string())),
            Err(_) => return Err(NotOpen::Damaged("sled cannot open it".to_owned())),
        }
    }
}

/// Makes sled's directory, if need be, and lets the kernel sync each write to a file in it before it returns.
///
/// sled takes a write for durable once it has returned, and uses the place again that its page had before; a sync of ours
/// after a whole group comes too late for that: at a power cut the new place was lost, and the old one overwritten.
fn make_synchronous(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Files inherit it from their directory; those that were there before do not.
    for path in [dir, &dir.join("db")] {
        let Ok(file) = File::open(path) else { continue };
        let made = ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::SYNC));
        if let Err(error) = made {
            warn!(%error, path = %path.display(), "this file system has no synchronous files; a power cut may cost more than it should");
        }
    }
    Ok(())
}

/// Reads a file from end to end. sled takes what it cannot read for the end of its log, and writes there: one bad read while
/// it opens would cost all that follows.
fn read_through(path: &Path) -> io::Result<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut block = vec![0; 1 << 20];
    while file.read(&mut block)? > 0 {}
    Ok(())
}

/// Syncs a directory with all files in it.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(dir)?.sync_all()
}

/// Gives what root has made to the owner of the state directory: root mends what the service's own user goes on with.
fn adopt(path: &Path, dir: &Path) -> io::Result<()> {
    let (owner, mine) = (fs::metadata(dir)?, fs::symlink_metadata(path)?);
    if !geteuid().is_root() || (owner.uid(), owner.gid()) == (mine.uid(), mine.gid()) {
        return Ok(());
    }
    lchown(path, Some(owner.uid()), Some(owner.gid()))?;
    match mine.is_dir() {
        true => fs::read_dir(path)?.try_for_each(|entry| adopt(&entry?.path(), dir)),
        false => Ok(()),
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Removes a directory with all in it, if there is one.
fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// sled says so in words only: the error's kind is `Other`.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_reads_back_and_a_torn_one_says_nothing() {
        let mark = Mark { commit: 4711, closed: true };
        let line = mark.line();
        assert_eq!((line.len(), Mark::parse(line.as_bytes())), (MARK_BYTES, Some(mark)));
        for at in 0..line.len() {
            let mut bent = line.clone().into_bytes();
            bent[at] ^= 1;
            assert_eq!(Mark::parse(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn swap_that_is_cut_off_leaves_the_one_store_or_the_other() {
        let cases: [(&[&str], &str); 6] = [
            (&["store"], "store"),
            (&["store", "store.new"], "store"),
            (&["store", "store.done"], "store"),
            (&["store.done", "store.old"], "store.done"),
            (&["store.old"], "store.old"),
            (&["store", "store.old"], "store"),
        ];
        for (there, survivor) in cases {
            let dir = tempfile::tempdir().unwrap();
            for name in there {
                fs::create_dir(dir.path().join(name)).unwrap();
                fs::write(dir.path().join(name).join("who"), name).unwrap();
            }

            let files = Files::prepare(dir.path()).unwrap();

            assert_eq!(fs::read_to_string(files.dir.join("store/who")).unwrap(), survivor, "{there:?}");
            assert_eq!(files.swapped().map(|path| path.exists()), [true, false, false, false]);
        }
    }
}
