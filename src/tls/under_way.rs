//! How many requests of a client are being written or answered.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// The count. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<AtomicU32>);

/// One that is counted while this lives.
#[must_use = "it is counted while this lives"]
pub(super) struct Counted(Arc<AtomicU32>);

impl UnderWay {
    /// Counts one more.
    pub(super) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
