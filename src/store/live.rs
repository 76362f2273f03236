//! The database as it is open now, and how it is doing. Everybody reads through this; the writer alone opens and closes.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use super::StoreError;

/// How the store is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes and gives.
    Good,
    /// The disk is full; it is opened again when there is space.
    Full,
    /// A write, a sync or a read failed; it is rebuilt.
    Failed,
}

pub(super) struct Live {
    db: RwLock<Option<sled::Db>>,
    health: AtomicU8,
    /// The last commit that is on disk for certain.
    synced: AtomicU64,
    /// Nothing is to be mended any more.
    closing: AtomicBool,
}

impl Live {
    pub(super) fn new(db: sled::Db, synced: u64) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            health: AtomicU8::new(Health::Good as u8),
            synced: AtomicU64::new(synced),
            closing: AtomicBool::new(false),
        }
    }

    /// The database; none while it is being mended. Not to be kept: it cannot be closed meanwhile.
    pub(super) fn db(&self) -> Option<sled::Db> {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of it, so that it can be opened again.
    pub(super) fn close(&self) {
        self.db.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// It is open again.
    pub(super) fn mended(&self, db: sled::Db) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db);
        self.health.store(Health::Good as u8, Ordering::Release);
    }

    /// Takes note of a failure; true for the first one since it was mended.
    pub(super) fn fail(&self, health: Health) -> bool {
        let good = Health::Good as u8;
        self.health.compare_exchange(good, health as u8, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn health(&self) -> Health {
        let health = self.health.load(Ordering::Acquire);
        *[Health::Good, Health::Full, Health::Failed].get(usize::from(health)).expect("one of the three was stored")
    }

    pub(super) fn is_good(&self) -> bool {
        self.health() == Health::Good
    }

    /// What an answer says that never came.
    pub(super) fn error(&self) -> StoreError {
        match self.health() {
            Health::Full => StoreError::Full,
            Health::Good | Health::Failed => StoreError::Failed,
        }
    }

    pub(super) fn closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn synced_to(&self, commit: u64) {
        self.synced.store(commit, Ordering::Release);
    }
}
