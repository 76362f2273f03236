//! Mending: from a failure back to an open store, without a restart.
//!
//! | what failed | what follows |
//! |---|---|
//! | a write, because the disk is full | when there is space, which the ballast may be, the store is opened again |
//! | a sync, or anything else | all of it is copied into a fresh, synced directory, which takes its place; what cannot be read ends that |
//!
//! After a failed sync the kernel calls pages clean that never reached the disk, so no later sync of that file means anything;
//! the copy reads them once more and writes them anew. Meanwhile updates are answered 503, nothing is sent, and nothing is
//! opened before every POST under way has ended: an export that goes out again must not overtake itself.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    StoreError,
    copy::{self, Mode},
    live::Health,
    meta::Entry,
    open::{self, Opened},
    queue::Queue,
    writer::{Failure, Inbox, Shared},
};
use crate::{destination::DestinationId, metrics};

/// How long between two tries, at first and at most.
const WAIT: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often commands are refused meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tries until the store is open again; `None` when it is told to close before.
pub(super) fn mend(shared: &Shared, failure: &Failure, inbox: &mut Inbox) -> Option<Opened> {
    let live = &shared.live;
    let (mut wait, mut said) = (WAIT, String::new());
    loop {
        if refuse(shared, inbox, wait) == Told::ToClose {
            return None;
        }
        if shared.queues.all().iter().any(|(_, queue)| queue.held() > 0) {
            continue;
        }
        // sled panics rather than errs on some damage, and when its last sync fails.
        let tried = catch_unwind(AssertUnwindSafe(|| try_once(shared, failure)));
        match tried.unwrap_or_else(|_| Err(shared.files.damaged("the database broke off"))) {
            Ok((opened, how)) => {
                let last_number = opened.meta.last_number;
                // One that was introduced and never answered for is on disk perhaps, and has no queue yet.
                let make = |entry: &Entry| {
                    let kept = opened.kept.of(entry.number);
                    Queue::new(live.clone(), entry, last_number, shared.commands.clone(), kept)
                };
                let reset = |(id, entry): (&DestinationId, &Entry)| {
                    let queue = shared.queues.get_or_make(id, || make(entry));
                    queue.reset(entry, last_number, opened.kept.of(entry.number))
                };
                // What was told in the meantime is of the store before; nobody can claim until it is mended.
                if !opened.meta.destinations().all(reset) || refuse(shared, inbox, Duration::ZERO) == Told::ToClose {
                    continue;
                }
                live.mended(opened.db.clone());
                metrics::recovered(how);
                info!(how, "the store is whole again; updates are taken");
                return Some(opened);
            }
            Err(error) => {
                let error = crate::chain(&error);
                if error != said {
                    warn!(%error, "the store cannot be mended yet");
                    said = error;
                }
                wait = (wait * 2).min(WAIT_MAX);
            }
        }
    }
}

#[derive(PartialEq)]
enum Told {
    ToClose,
    Nothing,
}

/// Refuses all commands for so long. Claims are given back by forgetting what became of them: it is not on disk.
fn refuse(shared: &Shared, inbox: &mut Inbox, wait: Duration) -> Told {
    let until = Instant::now() + wait;
    loop {
        while inbox.try_recv().is_ok() {}
        if shared.live.is_closing() {
            return Told::ToClose;
        }
        if Instant::now() >= until {
            return Told::Nothing;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn try_once(shared: &Shared, failure: &Failure) -> Result<(Opened, &'static str), StoreError> {
    let Shared { files, live, space, .. } = shared;
    if failure.health() == Health::Full && !space.can_write() {
        super::space::drop_ballast(files.dir());
        if !space.can_write() {
            return Err(StoreError::Full);
        }
    }
    live.close();
    let written_only = matches!(failure, Failure::Sled(_)) && failure.health() == Health::Full;
    let (opened, how) = match written_only {
        true => (open::open(files)?, "reopened"),
        false => {
            let old = files.open()?;
            let (_, meta) = copy::copy_beside(&old, files, files, Mode::Whole, &mut |_| {})?;
            drop(old);
            files.swap(None, meta.commit)?;
            (open::open(files)?, "rebuilt")
        }
    };
    match opened.meta.commit >= live.synced() {
        true => Ok((opened, how)),
        false => Err(files.damaged("commits that were acknowledged are gone")),
    }
}
