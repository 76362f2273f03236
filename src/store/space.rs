//! How full the store and its disk are: the limits at which inlets close, and the ballast.
//!
//! What counts is live bytes, those of the records, and the free space of the file system. The size of sled's file is no
//! measure: it keeps its high-water mark. While inlets are closed delivery goes on, which removes exports, and opens them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tracing::{debug, info, warn};

const MIB: u64 = 1024 * 1024;
/// The ballast: room for sled to open, and for settlements, on a disk that others have filled.
const BALLAST_BYTES: u64 = 32 * MIB;
/// On a small disk the ballast and the least free space are a part of it, but no less than some of sled's segments.
const SMALLEST: u64 = 4 * MIB;
/// The least free space unless it is configured.
const FREE_MIN: u64 = 512 * MIB;

/// When inlets close. See `docs/store.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live bytes from which on the log warns.
    pub soft: u64,
    /// Live bytes from which on inlets answer 503.
    pub hard: u64,
    /// Free bytes of the file system below which inlets answer 503; by itself a twentieth of it, at most 512 MiB.
    pub free_min: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { soft: 8 * 1024 * MIB, hard: 10 * 1024 * MIB, free_min: None }
    }
}

/// How full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whether updates are taken.
    pub open: bool,
    /// Bytes of all records.
    pub live_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// The limits: soft, hard, least free space.
    pub limits: [u64; 3],
}

pub(super) struct Space {
    dir: PathBuf,
    soft: AtomicU64,
    hard: AtomicU64,
    free_min: AtomicU64,
    /// The least free space unless it is configured.
    free_min_default: u64,
    ballast: u64,
    live: AtomicU64,
    open: AtomicBool,
    warned: AtomicBool,
}

impl Space {
    pub(super) fn new(dir: &Path, limits: &Limits) -> io::Result<Self> {
        let total = total(dir)?;
        let free_min_default = (total / 20).clamp(SMALLEST, FREE_MIN);
        Ok(Self {
            dir: dir.to_owned(),
            soft: AtomicU64::new(limits.soft),
            hard: AtomicU64::new(limits.hard),
            free_min: AtomicU64::new(limits.free_min.unwrap_or(free_min_default)),
            free_min_default,
            ballast: (total / 16).clamp(SMALLEST, BALLAST_BYTES),
            live: AtomicU64::new(0),
            open: AtomicBool::new(true),
            warned: AtomicBool::new(false),
        })
    }

    /// Goes by other limits from now on.
    pub(super) fn set_limits(&self, Limits { soft, hard, free_min }: &Limits) {
        self.soft.store(*soft, Ordering::Relaxed);
        self.hard.store(*hard, Ordering::Relaxed);
        self.free_min.store(free_min.unwrap_or(self.free_min_default), Ordering::Relaxed);
        self.measure(self.live.load(Ordering::Relaxed));
    }

    fn limits(&self) -> [u64; 3] {
        [&self.soft, &self.hard, &self.free_min].map(|limit| limit.load(Ordering::Relaxed))
    }

    /// Whether an update is taken. Once closed it looks again each time: nothing else might.
    pub(super) fn admits(&self) -> bool {
        self.open.load(Ordering::Relaxed) || self.measure(self.live.load(Ordering::Relaxed))
    }

    /// Takes note of the live bytes, looks at the disk, and says whether updates are taken.
    pub(super) fn measure(&self, live: u64) -> bool {
        self.live.store(live, Ordering::Relaxed);
        let (free, was_open) = (free(&self.dir), self.open.load(Ordering::Relaxed));
        // A little apart, so that it does not open and close with each update.
        let [soft_limit, hard_limit, free_limit] = self.limits();
        let (hard, free_min) = match was_open {
            true => (hard_limit, free_limit),
            false => (hard_limit - hard_limit / 64, free_limit.saturating_add(free_limit / 8)),
        };
        let open = live < hard && free >= free_min;
        if self.open.swap(open, Ordering::Relaxed) != open {
            match open {
                true => {
                    info!(live, free, "there is room again; updates are taken");
                    self.load_ballast();
                }
                false => warn!(
                    live,
                    hard_limit,
                    free,
                    free_min = free_limit,
                    "the store or its disk is full; updates are answered 503 while exports drain"
                ),
            }
        }
        let high = live >= soft_limit;
        if high != self.warned.load(Ordering::Relaxed) && (high || live < soft_limit - soft_limit / 64) {
            self.warned.store(high, Ordering::Relaxed);
            if high {
                warn!(live, soft_limit, hard_limit, "the store fills up");
            }
        }
        open
    }

    pub(super) fn room(&self) -> Room {
        let live_bytes = self.live.load(Ordering::Relaxed);
        Room { open: self.admits(), live_bytes, free_bytes: free(&self.dir), limits: self.limits() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Free bytes of the file system.
    pub(super) fn free(&self) -> u64 {
        free(&self.dir)
    }

    /// Enough to write on: some of sled's segments.
    pub(super) fn can_write(&self) -> bool {
        self.free() >= SMALLEST / 2
    }

    /// Sets space aside, where there is plenty.
    pub(super) fn load_ballast(&self) {
        let path = ballast(&self.dir);
        let [_, _, free_min] = self.limits();
        if path.exists() || self.free() < free_min.saturating_add(self.ballast) {
            return;
        }
        let made = File::create(&path).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, self.ballast)?;
            file.sync_all()
        });
        if let Err(error) = made {
            // Without it all works but a restart on a full disk.
            debug!(%error, "no ballast on this file system");
            let _ = fs::remove_file(path);
        }
    }
}

/// Gives the space back that was set aside; false when there was none.
pub(super) fn drop_ballast(dir: &Path) -> bool {
    let dropped = fs::remove_file(ballast(dir)).is_ok();
    if dropped {
        warn!("the disk is full; space that was set aside is used now");
    }
    dropped
}

fn ballast(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// Free bytes of a directory's file system, for us; all there are where that cannot be told.
pub(super) fn free(dir: &Path) -> u64 {
    statvfs(dir).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

fn total(dir: &Path) -> io::Result<u64> {
    let found = statvfs(dir)?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}
