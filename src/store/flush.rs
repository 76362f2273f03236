//! Flushing sled, which may sleep for ever on a write that failed: it sets the error and wakes nobody. Another flush, begun
//! after the error, wakes all that sleep, so one is begun whenever a flush takes long. It could not begin while a batch
//! waited for sled's own lock, so the writer applies none meanwhile.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A flush that takes so long gets company. Slow disks take as long; then it costs a thread that waits too.
const LONG: Duration = Duration::from_secs(1);

pub(super) struct Flusher {
    db: sled::Db,
    since: Arc<Mutex<Option<Instant>>>,
    /// Dropped to end the watch.
    end: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn new(db: &sled::Db) -> std::io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let since = Arc::new(Mutex::new(None));
        let (watched, begun) = (db.clone(), since.clone());
        let watch = std::thread::Builder::new().name("store-flush".to_owned()).spawn(move || {
            while ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                let begun: Option<Instant> = *begun.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.is_some_and(|begun| begun.elapsed() >= LONG) {
                    let company = watched.clone();
                    std::thread::spawn(move || company.flush());
                }
            }
        })?;
        Ok(Self { db: db.clone(), since, end: Some(end), watch: Some(watch) })
    }

    pub(super) fn flush(&self) -> sled::Result<()> {
        self.begun(Some(Instant::now()));
        let flushed = self.db.flush();
        self.begun(None);
        flushed.map(drop)
    }

    fn begun(&self, at: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.end.take());
        // It holds the database open until it has ended. It does not panic.
        let _ = self.watch.take().map(JoinHandle::join);
    }
}
