//! A disk that remembers each write and each flush, and can say what would be on it had the power failed at any of them.
//!
//! It is one file of a file system in user space, for a loop device with a real ext4 on it. What was written before the last
//! flush is on a disk after a power cut; of what came later a disk may keep nothing, all, some blocks, or parts of them.

use std::{
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use tempfile::TempDir;

use crate::support::load::step;

/// A block of the file system. The first is never torn: its superblock has two sectors under one checksum, and an ext4 whose
/// superblock is torn while its journal is replayed does not mount any more, whatever was stored in it.
const BLOCK: usize = 4096;

/// What a disk keeps of the writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    Nothing,
    Everything,
    /// Some blocks of 4 KiB.
    Blocks,
    /// Some sectors of 512 bytes: torn blocks.
    Sectors,
}

impl Keep {
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Everything, Self::Blocks, Self::Sectors];

    /// How many bytes it keeps or loses together.
    fn unit(self) -> usize {
        match self {
            Self::Nothing | Self::Everything | Self::Blocks => BLOCK,
            Self::Sectors => 512,
        }
    }
}

/// The disk at work. Dropping it takes it away: whatever is mounted on it must be gone by then.
pub struct BlockLog {
    state: Arc<Mutex<State>>,
    directory: TempDir,
    session: Option<BackgroundSession>,
}

/// Says how long the log is by now.
pub type Marker = Arc<dyn Fn() -> usize + Send + Sync>;

struct State {
    before: Vec<u8>,
    now: Vec<u8>,
    log: Vec<Step>,
}

enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Flush,
}

impl BlockLog {
    /// A disk that has this content, and no log yet.
    pub fn over(content: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bytes = content.len() as u64;
        let state = Arc::new(Mutex::new(State { before: content.clone(), now: content, log: Vec::new() }));
        let mut options = Config::default();
        options.mount_options.push(MountOption::FSName("postern-blocklog".to_owned()));
        let disk = OneFile { state: state.clone(), bytes };
        let session = fuser::spawn_mount(disk, directory.path(), &options).unwrap();
        Self { state, directory, session: Some(session) }
    }

    /// The file that is the disk.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    /// How many writes and flushes there were.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap().log.len()
    }

    pub fn marker(&self) -> Marker {
        let state = self.state.clone();
        Arc::new(move || state.lock().unwrap().log.len())
    }

    /// What is on the disk when the power fails after so many writes and flushes.
    pub fn cut(&self, at: usize, keep: Keep, random: &mut u64) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut disk = state.before.clone();
        let happened = &state.log[..at];
        let flushed = happened.iter().rposition(|step| matches!(step, Step::Flush)).unwrap_or(0);
        // From hardly any to nearly all of them.
        let share = step(random) % 100;
        for (number, event) in happened.iter().enumerate() {
            let Step::Write { at, bytes } = event else { continue };
            let unit_bytes = if *at == 0 { BLOCK } else { keep.unit() };
            for (unit, part) in bytes.chunks(unit_bytes).enumerate() {
                let kept = number < flushed
                    || match keep {
                        Keep::Nothing => false,
                        Keep::Everything => true,
                        Keep::Blocks | Keep::Sectors => step(random) % 100 < share,
                    };
                if kept {
                    let at = at + unit * unit_bytes;
                    disk[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
        disk
    }
}

impl Drop for BlockLog {
    fn drop(&mut self) {
        let ended = self.session.take().map(BackgroundSession::umount_and_join);
        if let Some(Err(error)) = ended {
            eprintln!("{}: {error}", self.directory.path().display());
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Everything => "everything",
            Self::Blocks => "some blocks",
            Self::Sectors => "some sectors",
        })
    }
}

/// Writes a disk's content to a file, without the zeros.
pub fn save(disk: &[u8], path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let file = std::fs::File::create(path)?;
    file.set_len(disk.len() as u64)?;
    for (number, part) in disk.chunks(ZEROS.len()).enumerate() {
        if part != &ZEROS[..part.len()] {
            file.write_all_at(part, (number * ZEROS.len()) as u64)?;
        }
    }
    Ok(())
}

const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// Nothing about it changes but its content.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A directory with the disk in it.
struct OneFile {
    state: Arc<Mutex<State>>,
    bytes: u64,
}

impl OneFile {
    fn attributes(&self, of: INodeNo) -> FileAttr {
        let (kind, perm, size) = match of {
            FILE => (FileType::RegularFile, 0o600, self.bytes),
            _ => (FileType::Directory, 0o700, 0),
        };
        let [atime, mtime, ctime, crtime] = [UNIX_EPOCH; 4];
        let (nlink, uid, gid, rdev, flags, blksize, blocks) = (1, 0, 0, 0, 0, 4096, size / 512);
        FileAttr {
            ino: of,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags,
        }
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What a disk takes at once; a smaller size only cuts the log finer.
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match parent == INodeNo::ROOT && name == NAME {
            true => reply.entry(&FOR_EVER, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, of: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes(of));
    }

    fn setattr(
        &self,
        _: &Request,
        of: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOR_EVER, &self.attributes(of));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: each write is to be seen here, when it happens.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state.lock().unwrap();
        let from = (offset as usize).min(state.now.len());
        let to = (from + size as usize).min(state.now.len());
        reply.data(&state.now[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (mut state, at) = (self.state.lock().unwrap(), offset as usize);
        match state.now.get_mut(at..at + data.len()) {
            Some(there) => {
                there.copy_from_slice(data);
                state.log.push(Step::Write { at, bytes: data.to_vec() });
                reply.written(data.len() as u32);
            }
            None => reply.error(Errno::ENOSPC),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state.lock().unwrap().log.push(Step::Flush);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        // Discarded and zeroed blocks would not be in the log.
        reply.error(Errno::EOPNOTSUPP);
    }
}
