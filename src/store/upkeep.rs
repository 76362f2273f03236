//! What an operator does with a stopped store: check it, compact it, save what reads, carry it elsewhere.
//!
//! Each holds the store's lock. Whatever rewrites a store writes a copy beside it, syncs that, and swaps; killed at any
//! point, the store is the old one or the new one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Counters, StoreError,
    copy::{self, Mode},
    files::{Files, Mark},
    meta::Meta,
    open, space,
    survey::{Damaged, Reach, Survey},
};

use crate::clock::Timestamp;

/// Hears how far a long work is: bytes done, and about how many there are.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Records that were read.
    pub records: u64,
    /// Of them, those that fail their checksum.
    pub damaged: u64,
    /// Places where the database itself cannot be read.
    pub faults: u64,
    /// Files of a kind that is never synced, which there must not be.
    pub blobs: usize,
    /// Where counters say something else than what there is.
    pub differences: Vec<String>,
    /// The counters.
    pub counters: Counters,
}

impl Report {
    /// True when all is well.
    pub fn is_whole(&self) -> bool {
        self.damaged == 0 && self.faults == 0 && self.blobs == 0 && self.differences.is_empty()
    }
}

/// How large a store is.
#[derive(Debug)]
pub struct Size {
    /// The counters, live bytes among them.
    pub counters: Counters,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// Free bytes of its file system.
    pub free_bytes: u64,
}

/// What a copy has and has not.
#[derive(Debug)]
pub struct Copied {
    /// Records in it.
    pub records: u64,
    /// Records that fail their checksum; they are in quarantine.
    pub damaged: u64,
    /// Places that could not be read, each with whatever stood there.
    pub faults: u64,
    /// Exports that waited and are dead letters now, because the store had fallen back to an older state.
    pub letters: u64,
    /// Exports that were counted and are not there, by destination.
    pub exports_lost: BTreeMap<String, u64>,
    /// Bytes of the store's files before and after.
    pub disk_bytes: [u64; 2],
    /// Where the store as it was is kept, if it is.
    pub kept: Option<PathBuf>,
}

/// Why a store was not rewritten or copied. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// It does not open, is in use, or is not all there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A copy would not fit.
    #[error("{path} has {free} bytes free, and a copy of the store may need {needed}; make room, or copy it elsewhere")]
    NoSpace {
        /// Where.
        path: String,
        /// What it may need.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// Something is where a copy should go.
    #[error("{0} is not empty; name a new directory")]
    Exists(String),
    /// A copy should go to where the store keeps its own directories.
    #[error("{0} is where the store keeps its own; name another directory, such as backup-1 in the state directory")]
    OfTheStore(String),
}

/// Reads every record of the store in `dir` and compares the counters.
///
/// # Errors
/// [`StoreError`], [`StoreError::Damaged`] when it cannot be opened.
pub fn check(dir: &Path, progress: Progress<'_>) -> Result<Report, StoreError> {
    let files = Files::existing(dir)?;
    let opened = open::open(&files)?;
    let (mut seen, total) = (0, opened.meta.live_bytes());
    let survey = Survey::of::<sled::Error>(&opened.db, Reach::AroundFaults, &mut |_, met| {
        seen += met.bytes();
        progress(seen, total);
        Ok(())
    })
    .map_err(|error| files.failed(error))?;
    close(&files, opened.meta.commit);
    let mut differences = survey.differences(&opened.meta, Damaged::Gone);
    if survey.live_bytes != opened.meta.live_bytes {
        differences.push(format!("live bytes: {} counted, {} there", opened.meta.live_bytes, survey.live_bytes));
    }
    Ok(Report {
        records: survey.records,
        damaged: survey.damaged,
        faults: survey.faults,
        blobs: fs::read_dir(dir.join("store/blobs")).map_or(0, Iterator::count),
        differences,
        counters: opened.meta.counters(),
    })
}

/// Opens the store in `dir` and looks at no more than [`super::StoreOwner::open`] does.
///
/// # Errors
/// As [`check`].
pub fn stats(dir: &Path) -> Result<Size, StoreError> {
    let files = Files::existing(dir)?;
    let mark = files.read_mark();
    let meta = open::open(&files)?.meta;
    files.write_mark(Mark { commit: meta.commit, ..mark });
    Ok(Size { counters: meta.counters(), disk_bytes: files.disk_bytes(), free_bytes: space::free(dir) })
}

/// Writes the store in `dir` anew, without the air in it.
///
/// # Errors
/// [`UpkeepError::NoSpace`] when the copy would not fit; else as [`check`]. The store is as it was then.
pub fn compact(dir: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    let files = Files::existing(dir)?;
    let opened = open::open(&files)?;
    compact_open(&files, opened, progress)
}

/// As [`compact`], for one that is open.
pub(super) fn compact_open(files: &Files, opened: open::Opened, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    has_space(files.dir(), opened.meta.live_bytes())?;
    rewrite(files, opened.db, Mode::Whole, None, opened.meta.live_bytes(), progress)
}

/// What salvage starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The files as they are.
    AsItIs,
    /// Without what sled can make anew.
    LogAlone,
}

/// Puts the store in `dir` aside and makes a new one of all that reads. sled may end the process, or not end at all, on
/// some damage: to be called in a process of its own.
///
/// # Errors
/// [`StoreError::Damaged`] when sled cannot open it at all; else as [`compact`].
pub fn salvage(dir: &Path, basis: Basis, now: Timestamp, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    let files = Files::remains(dir)?;
    if basis == Basis::LogAlone {
        files.remove_derived()?;
    }
    let db = files.open()?;
    let kept = files.aside("damaged");
    let (mark, found) = (files.read_mark().commit, Meta::read(&db).ok().flatten().map_or(0, |meta| meta.commit));
    // Without a mark nobody knows.
    let mode = if mark == 0 || found < mark { Mode::Older(now) } else { Mode::WhatReads };
    let copied = rewrite(&files, db, mode, Some(&kept), files.disk_bytes(), progress)?;
    files.finish()?;
    Ok(copied)
}

/// Puts the store in `dir` aside and begins an empty one in its place: the last resort.
///
/// # Errors
/// When the directory cannot be written.
pub fn start_afresh(dir: &Path) -> Result<PathBuf, UpkeepError> {
    let files = Files::remains(dir)?;
    drop(files.open_copy()?);
    let kept = files.aside("damaged");
    files.swap(Some(&kept), 0)?;
    files.forget_format()?;
    close(&files, 0);
    Ok(kept)
}

/// Copies the store in `dir` to `to`, a new directory that can be used in its place.
///
/// # Errors
/// [`UpkeepError::Exists`] when there is something; else as [`compact`].
pub fn backup(dir: &Path, to: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    let files = Files::existing(dir)?;
    is_free(to)?;
    carry(&files, to, progress)
}

/// Whether a backup may be made in `to`.
pub(super) fn is_free(to: &Path) -> Result<(), UpkeepError> {
    match fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        true => Err(UpkeepError::Exists(to.display().to_string())),
        false => Ok(()),
    }
}

/// Copies the store in `files` to `to`.
pub(super) fn carry(files: &Files, to: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    let opened = open::open(files)?;
    let target = Files::prepare(to)?;
    let live = opened.meta.live_bytes();
    has_space(to, live)?;
    let (survey, meta) = copy::copy_beside(&opened.db, files, &target, Mode::Whole, &mut |done| progress(done, live))?;
    target.swap(None, meta.commit)?;
    target.finish()?;
    close(&target, meta.commit);
    close(files, opened.meta.commit);
    Ok(Copied::of(&survey, &meta, [files.disk_bytes(), target.disk_bytes()], None))
}

/// Makes `dir` the store that was backed up in `from`. A store that is there already is put aside.
///
/// # Errors
/// As [`check`], of the backup.
pub fn restore(dir: &Path, from: &Path, progress: Progress<'_>) -> Result<Copied, UpkeepError> {
    let source = Files::existing(from)?;
    let opened = open::open(&source)?;
    let files = Files::prepare(dir)?;
    has_space(dir, opened.meta.live_bytes())?;
    let kept = dir.join("store").exists().then(|| files.aside("before"));
    let (live, before) = (opened.meta.live_bytes(), files.disk_bytes());
    let (survey, meta) = copy::copy_beside(&opened.db, &source, &files, Mode::Whole, &mut |done| progress(done, live))?;
    files.swap(kept.as_deref(), meta.commit)?;
    files.finish()?;
    close(&files, meta.commit);
    close(&source, opened.meta.commit);
    Ok(Copied::of(&survey, &meta, [before, files.disk_bytes()], kept))
}

fn rewrite(
    files: &Files,
    db: sled::Db,
    mode: Mode,
    keep_as: Option<&Path>,
    total: u64,
    progress: Progress<'_>,
) -> Result<Copied, UpkeepError> {
    let before = files.disk_bytes();
    let (survey, meta) = copy::copy_beside(&db, files, files, mode, &mut |done| progress(done, total))?;
    drop(db);
    files.swap(keep_as, meta.commit)?;
    close(files, meta.commit);
    Ok(Copied::of(&survey, &meta, [before, files.disk_bytes()], keep_as.map(Path::to_owned)))
}

impl Copied {
    fn of(survey: &Survey, meta: &Meta, disk_bytes: [u64; 2], kept: Option<PathBuf>) -> Self {
        let before = |id| survey.meta.as_ref().map_or(0, |meta| meta.damaged(id));
        let lost = meta.destinations().map(|(id, entry)| (id.to_string(), entry.damaged.saturating_sub(before(id))));
        Self {
            records: survey.records,
            damaged: survey.damaged,
            faults: survey.faults,
            letters: if meta.destinations().all(|(_, entry)| entry.waiting == 0) { survey.waiting() } else { 0 },
            exports_lost: lost.filter(|(_, lost)| *lost > 0).collect(),
            disk_bytes,
            kept,
        }
    }
}

/// A copy may take twice the live bytes while sled writes it.
pub(super) fn has_space(dir: &Path, live: u64) -> Result<(), UpkeepError> {
    let (needed, free) = (live.saturating_mul(2), space::free(dir));
    match free >= needed {
        true => Ok(()),
        false => Err(UpkeepError::NoSpace { path: dir.display().to_string(), needed, free }),
    }
}

fn close(files: &Files, commit: u64) {
    files.settle_mark(Mark { commit, closed: true });
}
