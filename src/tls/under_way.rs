//! How many requests of a client are being written or answered.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The count. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

/// One that is counted while this lives.
#[must_use = "it is counted while this lives"]
pub(super) struct Counted(Arc<AtomicUsize>);

impl UnderWay {
    /// Counts one more.
    pub(super) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
