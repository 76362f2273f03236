//! Redriving a dead letter: it goes, and a new export takes its place, as one commit.
//!
//! What is exported is decided by who knows profiles, as with an update: the store hands over the letter and what its
//! identities lead to now. What was frozen may be sent as it was only where nothing younger can have reached the receiver.
//! That takes reading all that waits and all receipts, so it is done twice: of everything, while the rest goes on, and on the
//! writer's thread of what came since.

use bytes::Bytes;

use super::{
    Found, Store, StoreError,
    drop::blocking,
    layout::{self, Table},
    look::State,
    receipts::{Said, is_delivered},
    writer::{Failure, Writer},
};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::{DeadLetter, Export, ExportId, NewExport},
    profile::{ProfileKey, identity::Identity},
    trigger::Reason,
};

/// How often a letter is looked at anew because its profile was joined with another meanwhile.
const LOOKS_MAX: usize = 8;

/// What is sent in place of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redrive {
    /// The profile as it is now.
    Present,
    /// The body as it was.
    AsWas,
}

/// What became of a dead letter that was redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// This export was made.
    Exported(ExportId),
    /// It was closed: the profile is in no mapped audience any more.
    Moot,
}

/// Why a dead letter was not redriven. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum NotRedriven {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("there is no dead letter {number} of {destination}")]
    Missing {
        /// Whose.
        destination: DestinationId,
        /// Which.
        number: u64,
    },
    /// Nobody knows what to send there.
    #[error("destination {0} is not configured; add it, or drop the letter")]
    NotConfigured(DestinationId),
    /// The profile has not what this destination tells profiles apart by.
    #[error(
        "the profile lacks the `unique_id` of destination {0}; redrive the letter as it was, or once the profile has it, or drop it"
    )]
    Unidentified(DestinationId),
    /// A younger export of the profile was delivered, or will be.
    #[error(
        "a newer export of this profile was delivered or waits, and what is older must not follow it; redrive its present state"
    )]
    Overtaken,
    /// A younger export may have been delivered.
    #[error(
        "the receipts do not reach back to this letter, so a newer export may have been delivered; redrive its present state"
    )]
    Uncertain,
    /// The profile is joined with others all the time.
    #[error("the profile changes too fast; try again")]
    Restless,
    /// The stored body or profile has a good checksum and cannot be read all the same.
    #[error("the letter or its profile cannot be read; was it written by a later version?")]
    Unreadable,
}

/// A dead letter, whole. `Debug` is left out: its body is personal data.
#[derive(Clone)]
pub struct Letter {
    /// The letter.
    pub letter: DeadLetter,
    /// Why its export was made.
    pub reasons: Vec<Reason>,
    /// What was sent.
    pub body: Bytes,
}

/// What takes the place of a dead letter.
pub enum Remade {
    /// An export.
    Export {
        /// What is owed.
        export: NewExport,
        /// What it waits behind.
        lines: Vec<ProfileKey>,
        /// When it was wished for.
        accepted_at: Timestamp,
    },
    /// Nothing.
    Moot,
}

/// What was seen of everything, so that only what came since is to be looked at.
struct Seen {
    lines: Vec<ProfileKey>,
    commit: u64,
    number: u64,
}

impl Store {
    /// A dead letter with its body; `None` when there is none of this number.
    ///
    /// # Errors
    /// As [`Store::export`].
    pub async fn letter(&self, destination: &DestinationId, number: u64) -> Result<Option<Letter>, StoreError> {
        let (store, destination) = (self.clone(), destination.clone());
        let whole = blocking(move || store.export(&destination, number)).await?;
        Ok(whole.and_then(|whole| match whole.state {
            State::Dead(letter) => Some(Letter { letter, reasons: whole.reasons, body: whole.body }),
            State::Waiting(_) => None,
        }))
    }

    /// Puts what `remake` makes of a dead letter in its place, in one commit; returns when that is on disk. `remake` gets what
    /// `identities` lead to. It may be called more than once, and the last time counts.
    ///
    /// # Errors
    /// [`NotRedriven`].
    pub async fn redrive(
        &self,
        destination: &DestinationId,
        number: u64,
        how: Redrive,
        identities: Vec<Identity>,
        remake: impl Fn(&Letter, Found) -> Result<Remade, NotRedriven> + Clone + Send + 'static,
    ) -> Result<Redriven, NotRedriven> {
        let mut lines = Vec::new();
        for _ in 0..LOOKS_MAX {
            let seen = match how {
                Redrive::Present => None,
                Redrive::AsWas => Some(self.look_behind(destination, number, lines).await?),
            };
            let (of, identities, remake) = (destination.clone(), identities.clone(), remake.clone());
            match self.wish(move |writer| writer.redrive(&of, number, seen, &identities, remake)).await? {
                Ok(redriven) => return Ok(redriven),
                Err(Hindrance::NotRedriven(why)) => return Err(why),
                Err(Hindrance::Lines(others)) => lines = others,
            }
        }
        Err(NotRedriven::Restless)
    }

    /// Looks at all that waits and all receipts for something younger of these lines.
    async fn look_behind(
        &self,
        destination: &DestinationId,
        number: u64,
        lines: Vec<ProfileKey>,
    ) -> Result<Seen, NotRedriven> {
        let (store, queue) = (self.clone(), self.known(destination)?);
        let seen = Seen { lines, commit: self.live.synced(), number: queue.synced() };
        if seen.lines.is_empty() {
            return Ok(seen);
        }
        let look = move || {
            let (of, lines) = (queue.destination(), &seen.lines);
            let said = store.read(|db| match is_waiting(db, of, lines, number, seen.number)? {
                true => Ok(Said::Delivered),
                false => is_delivered(db, of, lines, number, 0),
            })?;
            Ok((said, seen))
        };
        let (said, seen) = blocking(look).await?;
        said.allows().map(|()| seen)
    }
}

/// Why the writer did not redrive.
enum Hindrance {
    NotRedriven(NotRedriven),
    /// It has these lines, which were not looked at.
    Lines(Vec<ProfileKey>),
}

impl From<NotRedriven> for Hindrance {
    fn from(why: NotRedriven) -> Self {
        Self::NotRedriven(why)
    }
}

impl Said {
    /// Whether what is older may be sent.
    fn allows(self) -> Result<(), NotRedriven> {
        match self {
            Self::NotDelivered => Ok(()),
            Self::Delivered => Err(NotRedriven::Overtaken),
            Self::Uncertain => Err(NotRedriven::Uncertain),
        }
    }
}

/// Whether an export of these lines waits that is younger than `after`, up to number `to`.
fn is_waiting(db: &sled::Tree, destination: u32, lines: &[ProfileKey], after: u64, to: u64) -> sled::Result<bool> {
    for item in layout::walk::<Export>(db, Table::Schedule, destination, after + 1, to) {
        let (_, export) = item?;
        if export.is_some_and(|export| export.lines.iter().any(|line| lines.contains(line))) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Writer<'_> {
    fn redrive(
        &mut self,
        id: &DestinationId,
        number: u64,
        seen: Option<Seen>,
        identities: &[Identity],
        remake: impl FnOnce(&Letter, Found) -> Result<Remade, NotRedriven>,
    ) -> Result<Result<Redriven, Hindrance>, Failure> {
        let missing = || NotRedriven::Missing { destination: id.clone(), number };
        let Some(counted) = self.meta.destinations.get(id) else { return Ok(Err(missing().into())) };
        let (destination, without_receipt) = (counted.number, counted.without_receipt);
        let Some((letter, frozen)) = self.letter(destination, number)? else { return Ok(Err(missing().into())) };
        if self.is_being_forgotten(&letter.export.lines)? {
            return Ok(Err(missing().into()));
        }
        let Some((reasons, body)) = frozen.open() else { return Ok(Err(NotRedriven::Unreadable.into())) };
        let (_, found, _) = self.find(identities)?;
        let remade = match remake(&Letter { letter, reasons, body }, found) {
            Ok(remade) => remade,
            Err(why) => return Ok(Err(why.into())),
        };
        if let (Some(seen), Remade::Export { lines, .. }) = (seen, &remade) {
            if !lines.iter().all(|line| seen.lines.contains(line)) {
                return Ok(Err(Hindrance::Lines(lines.clone())));
            }
            if number < without_receipt {
                return Ok(Err(NotRedriven::Uncertain.into()));
            }
            let since = number.max(seen.number);
            if is_waiting(&self.db, destination, lines, since, u64::MAX)? {
                return Ok(Err(NotRedriven::Overtaken.into()));
            }
            if let Err(why) = is_delivered(&self.db, destination, lines, number, seen.commit)?.allows() {
                return Ok(Err(why.into()));
            }
        }
        self.remove(&layout::entry(Table::Dead, destination, number), Some(frozen.record_length));
        self.count(destination, |counted| counted.letters = counted.letters.saturating_sub(1));
        Ok(Ok(match remade {
            Remade::Export { export, lines, accepted_at } => {
                let made = export.id;
                self.make(export, lines, accepted_at)?;
                self.count(destination, |counted| counted.redriven += 1);
                Redriven::Exported(made)
            }
            Remade::Moot => {
                self.count(destination, |counted| counted.moot += 1);
                Redriven::Moot
            }
        }))
    }
}
