//! A disk that fails when told to: a small library, preloaded into the binary, that stands before libc's storage calls.
//!
//! It counts the calls that touch the state directory, of each kind, over all threads and child processes together, so that
//! "the 17th write" is one write. A tracer counts each thread for itself, and can only claim that bytes were written: here a
//! short write writes half and says so.

use std::{
    fs::File,
    ops::RangeInclusive,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use tempfile::TempDir;

/// A kind of storage call, in the order of the library's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Sync,
    /// Making a file longer or shorter.
    Size,
    Open,
    /// Renaming, removing, making a directory.
    Name,
    /// Reading the database: what counts is the block of 4 KiB, which is bad whoever reads it and however often.
    Read,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Error(i32),
    /// Half is written, and that is what the call says; the rest goes well.
    Short,
    /// Half is written, and that is what the call says; the rest fails so.
    Torn(i32),
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

const CALLS: usize = 6;
/// Numbers of eight bytes each, as the library has them: call, first, last, error, part, failed, counts.
const WORDS: usize = 6 + CALLS;

/// What one process and its children see of a state directory.
pub struct FaultyDisk {
    plan: File,
    plan_path: PathBuf,
    state_dir: PathBuf,
    _directory: TempDir,
}

impl FaultyDisk {
    /// A disk without a fault below a state directory, which need not be there yet.
    pub fn below(state_dir: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plan_path = directory.path().join("plan");
        let plan = File::options().create_new(true).read(true).write(true).open(&plan_path).unwrap();
        plan.set_len((WORDS * 8) as u64).unwrap();
        let parent = state_dir.parent().unwrap().canonicalize().unwrap();
        let state_dir = parent.join(state_dir.file_name().unwrap());
        Self { plan, plan_path, state_dir, _directory: directory }
    }

    /// Puts a process onto this disk.
    pub fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", LIBRARY.path().join(LIBRARY_FILE));
        command.env("FAULTY_PLAN", &self.plan_path).env("FAULTY_DIR", &self.state_dir)
    }

    /// From now on the calls of a kind with these numbers fail; the first is 1.
    pub fn fail(&self, call: Call, numbers: RangeInclusive<u64>, how: How) {
        let (error, part) = match how {
            How::Error(error) => (error, 0),
            How::Short => (0, 1),
            How::Torn(error) => (error, 1),
        };
        self.heal();
        for (at, word) in [(0, call as u64), (2, *numbers.end()), (3, error as u64), (4, part), (1, *numbers.start())] {
            self.set(at, word);
        }
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.set(1, u64::MAX);
        self.set(2, 0);
    }

    /// How many calls have failed.
    pub fn failed(&self) -> u64 {
        self.word(5)
    }

    /// How many calls of a kind there were; of reads, how far they went, in blocks.
    pub fn count(&self, call: Call) -> u64 {
        self.word(6 + call as u64)
    }

    fn set(&self, at: u64, word: u64) {
        self.plan.write_all_at(&word.to_ne_bytes(), at * 8).unwrap();
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.plan.read_exact_at(&mut bytes, at * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

const LIBRARY_FILE: &str = "faulty_disk.so";

/// The library, made once by the C compiler that the build needs anyway.
static LIBRARY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/faulty_disk.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    let made = compiler.arg(directory.path().join(LIBRARY_FILE)).arg(source).status().unwrap();
    assert!(made.success(), "the library does not compile");
    directory
});
