//! A claim: an export in somebody's hands.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    frozen::Frozen,
    layout::{self, Table},
    queue::Queue,
    record::{self, Unreadable},
};
use crate::{
    export::{Export, ExportId},
    profile::ProfileKey,
};

/// An export in somebody's hands: nobody else gets it. Settled by [`super::Store::settle`]; dropped, it is waiting again.
#[must_use = "a claim is settled, or given back by dropping it"]
pub struct Claim {
    queue: Arc<Queue>,
    number: u64,
    /// There once the claim is handed out.
    frozen: Option<Frozen>,
    /// The export as it is now.
    pub export: Export,
    /// What is to be sent.
    pub body: Bytes,
    settled: bool,
}

/// What settling a claim needs to know of it.
pub(super) struct Released {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) id: ExportId,
    /// Whose it is: the first of its lines.
    pub(super) profile: Option<ProfileKey>,
    pub(super) frozen: Frozen,
}

impl Claim {
    /// To be filled before it is handed out, and counted as held already.
    pub(super) fn new(queue: Arc<Queue>, number: u64, export: Export, frozen: Option<Frozen>) -> Self {
        Self { queue, number, frozen, export, body: Bytes::new(), settled: false }
    }

    /// The export's number: its age among all.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads what is not in memory; false when that is damaged, and on its way to be put aside.
    pub(super) fn fill(&mut self) -> Result<bool, sled::Error> {
        if self.frozen.is_none() {
            let key = layout::entry(Table::Schedule, self.queue.destination(), self.number);
            let Some(db) = self.queue.db() else { return Ok(false) };
            self.frozen = match record::read(&db, &key) {
                // Another may have taken its place since it came into the window.
                Ok(record) => record.and_then(Frozen::part).map(|(export, frozen)| {
                    self.export = export;
                    frozen
                }),
                Err(Unreadable::Damaged) => None,
                Err(Unreadable::Failed(error)) => return Err(error),
            };
        }
        let body = self.frozen.as_ref().and_then(Frozen::body);
        if body.is_none() {
            // It stays claimed until that is on disk.
            self.settled = true;
            self.queue.put_aside(self.number);
        }
        self.body = body.unwrap_or_default();
        Ok(!self.settled)
    }

    /// The queue that it is of.
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Parts with what settling needs. The claim is held until the rest is dropped.
    pub(super) fn release(mut self) -> (Released, Self) {
        self.settled = true;
        let frozen = self.frozen.take().expect("a claim is filled before it is handed out");
        let (id, profile) = (self.export.id, self.export.lines.first().copied());
        (Released { queue: self.queue.clone(), number: self.number, id, profile, frozen }, self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.give_back(self.number, None);
        }
        self.queue.let_go();
    }
}
