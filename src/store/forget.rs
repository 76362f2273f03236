//! Forgetting a profile by a person's wish.
//!
//! One commit removes the snapshot and all identities, so nothing new is made of it, and writes down under `f` what is still
//! to be erased: waiting exports, dead letters and receipts of its lines. They go one after the other; when the last is gone,
//! so is the note. Should the process end in between, the same wish or [`Store::finish_forgetting`] at the next start goes
//! on where it ended. What is in quarantine is of nobody, and stays.

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    Dropped, Store, StoreError,
    drop::{LOOK_EVERY, PATIENCE, blocking},
    frozen::encode,
    head::Head,
    layout::{self, Table},
    look::{exported, lettered},
    record::{self, Unreadable},
    writer::{Failure, Writer},
};
use crate::{
    destination::DestinationId,
    export::Export,
    profile::{Profile, ProfileKey, identity::Identity},
};

/// Records of receipts that are rewritten at a time, in one batch.
const PAGE: usize = 16;

/// What was erased of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Exports that waited.
    pub exports: u64,
    /// Dead letters.
    pub letters: u64,
    /// Receipts.
    pub receipts: u64,
    /// Exports that were in flight all the while, and stay: to be asked again.
    pub stayed: u64,
}

/// What is still to be erased of a profile.
#[derive(Clone, Serialize, Deserialize)]
struct Erasure {
    lines: Vec<ProfileKey>,
    /// Keys of its identities: whoever repeats the wish names one of them.
    links: Vec<Vec<u8>>,
}

impl Store {
    /// Erases the profile that an identity leads to: snapshot and identities first, then its waiting exports, dead letters
    /// and receipts. Exports in flight are waited for, 70 seconds a destination at most. `None` when there is no such profile. Safe to
    /// repeat, also after a crash.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`]: it may be erased in part then.
    pub async fn forget(&self, identity: &Identity) -> Result<Option<Forgotten>, StoreError> {
        let link = layout::identity(identity);
        let erasures = self.wish(move |writer| writer.begin_erasure(&link)).await?;
        if erasures.is_empty() {
            return Ok(None);
        }
        self.erase(erasures).await.map(Some)
    }

    /// Goes on with what a process that ended left to be erased.
    ///
    /// # Errors
    /// As [`Store::forget`].
    pub async fn finish_forgetting(&self) -> Result<Forgotten, StoreError> {
        let erasures = self.wish(|writer| writer.erasures()).await?;
        self.erase(erasures).await
    }

    /// The first commit of it alone.
    #[cfg(test)]
    pub(super) async fn begin_to_forget(&self, identity: &Identity) {
        let link = layout::identity(identity);
        assert!(self.wish(move |writer| writer.begin_erasure(&link)).await.is_ok_and(|begun| begun.len() == 1));
    }

    async fn erase(&self, erasures: Vec<(ProfileKey, Erasure)>) -> Result<Forgotten, StoreError> {
        let mut sum = Forgotten::default();
        for (key, Erasure { lines, .. }) in erasures {
            let Forgotten { exports, letters, receipts, stayed } = self.erase_one(&lines).await?;
            sum.exports += exports;
            sum.letters += letters;
            sum.receipts += receipts;
            sum.stayed += stayed;
            if stayed == 0 {
                self.wish(move |writer| writer.end_erasure(&key)).await?;
            }
        }
        Ok(sum)
    }

    /// Exports first: until they are gone they may become letters or receipts. And again, until none is met: a letter may
    /// have been redriven meanwhile.
    async fn erase_one(&self, lines: &[ProfileKey]) -> Result<Forgotten, StoreError> {
        let mut erased = Forgotten::default();
        let mut met = true;
        while met && erased.stayed == 0 {
            met = false;
            for (destination, _) in self.queues() {
                let exports = self.numbers_of(Table::Schedule, &destination, lines, exported).await?;
                met |= !exports.is_empty();
                let [dropped, stayed] = self.drop_exports(&destination, exports).await?;
                (erased.exports, erased.stayed) = (erased.exports + dropped, erased.stayed + stayed);
                for letter in self.numbers_of(Table::Dead, &destination, lines, lettered).await? {
                    met = true;
                    erased.letters += u64::from(self.drop_letter(&destination, letter).await?);
                }
            }
        }
        let (store, of) = (self.clone(), lines.to_vec());
        let commits = blocking(move || store.commits_of(&of)).await?;
        for commits in commits.chunks(PAGE) {
            let (commits, of) = (commits.to_vec(), lines.to_vec());
            erased.receipts += self.wish(move |writer| writer.remove_receipts(&commits, &of)).await?;
        }
        Ok(erased)
    }

    /// How many are gone, and how many were in flight all the while.
    async fn drop_exports(&self, destination: &DestinationId, mut left: Vec<u64>) -> Result<[u64; 2], StoreError> {
        let (mut dropped, mut until) = (0, None);
        loop {
            let mut busy = Vec::new();
            for number in left {
                match self.drop_export(destination, number).await? {
                    Dropped::Gone => dropped += 1,
                    Dropped::InFlight => busy.push(number),
                    Dropped::Missing => {}
                }
            }
            if busy.is_empty() || Instant::now() >= *until.get_or_insert_with(|| Instant::now() + PATIENCE) {
                return Ok([dropped, busy.len() as u64]);
            }
            sleep(LOOK_EVERY).await;
            left = busy;
        }
    }

    async fn numbers_of<T: Head + 'static>(
        &self,
        table: Table,
        destination: &DestinationId,
        lines: &[ProfileKey],
        export: impl Fn(&T) -> &Export + Send + 'static,
    ) -> Result<Vec<u64>, StoreError> {
        let (store, queue, lines) = (self.clone(), self.known(destination)?, lines.to_vec());
        blocking(move || store.of_lines(table, &queue, &lines, usize::MAX, export, |number, _| number)).await
    }
}

impl Writer<'_> {
    /// Erases snapshot and identities of the profile that an identity leads to; returns what is still to be erased of it, and
    /// of those that had this identity before.
    fn begin_erasure(&mut self, link: &[u8]) -> Result<Vec<(ProfileKey, Erasure)>, Failure> {
        self.apply_staged()?;
        let mut erasures = self.erasures()?;
        erasures.retain(|(_, erasure)| erasure.links.iter().any(|other| other == link));
        if let Some(key) = self.leads_to(link)? {
            let erasure = self.erase_profile(key)?;
            self.put(&layout::forgetting(&key), &[&encode(&erasure)], None);
            self.meta.forgotten += 1;
            self.apply()?;
            erasures.push((key, erasure));
        }
        Ok(erasures)
    }

    /// Stages the removal of a snapshot and of all identities that lead to it.
    fn erase_profile(&mut self, key: ProfileKey) -> Result<Erasure, Failure> {
        let place = layout::profile(&key);
        let snapshot = self.read(&place)?;
        let length = snapshot.as_ref().map(|record| record.length);
        let profile = snapshot.and_then(|record| Profile::read(&record.payload));
        let (lines, named) = match &profile {
            Some(profile) => {
                (profile.lines(), profile.identities.iter().map(|named| layout::identity(&named)).collect())
            }
            // Only a walk tells whose it was.
            None => (vec![key], self.links_to(key)?),
        };
        let mut links = Vec::with_capacity(named.len());
        for link in named {
            if self.leads_to(&link)? == Some(key) {
                links.push(link);
            }
        }
        let members = profile.iter().flat_map(|profile| profile.memberships.realized()).map(|name| (name, -1));
        self.count_members(&members.collect())?;
        // All is read: putting a damaged record aside applies what was staged, and this is to be one commit.
        links.iter().for_each(|link| self.remove(link, Some(key.as_bytes().len())));
        if length.is_some() {
            self.remove(&place, length);
            self.meta.profiles = self.meta.profiles.saturating_sub(1);
        }
        if self.meta.last_profile == Some(key) {
            self.meta.last_profile = None;
        }
        Ok(Erasure { lines, links })
    }

    fn end_erasure(&mut self, key: &ProfileKey) -> Result<(), Failure> {
        self.apply_staged()?;
        let place = layout::forgetting(key);
        let length = self.read(&place)?.map(|record| record.length);
        self.remove(&place, length);
        Ok(())
    }

    /// What was begun and has not ended. There are few.
    fn erasures(&mut self) -> Result<Vec<(ProfileKey, Erasure)>, Failure> {
        self.apply_staged()?;
        let mut found = Vec::new();
        for item in self.db.scan_prefix(layout::FORGETTING) {
            let (chunk, first) = item?;
            let Some((key, [0])) = chunk.split_last_chunk::<1>() else { continue };
            let erasure = match record::assemble(&self.db, key, &first) {
                Ok(record) => postcard::from_bytes(&record.payload).ok(),
                Err(Unreadable::Damaged) => None,
                Err(Unreadable::Failed(error)) => return Err(error.into()),
            };
            found.extend(key.last_chunk().map(|key| ProfileKey::from_bytes(*key)).zip(erasure));
        }
        Ok(found)
    }

    /// Whether a profile with one of these lines is being erased.
    pub(super) fn is_being_forgotten(&mut self, lines: &[ProfileKey]) -> Result<bool, Failure> {
        let erasures = self.erasures()?;
        Ok(erasures.iter().any(|(_, erasure)| erasure.lines.iter().any(|line| lines.contains(line))))
    }

    fn leads_to(&mut self, link: &[u8]) -> Result<Option<ProfileKey>, Failure> {
        Ok(self.read(link)?.and_then(|record| record.payload.try_into().ok()).map(ProfileKey::from_bytes))
    }

    fn links_to(&mut self, key: ProfileKey) -> Result<Vec<Vec<u8>>, Failure> {
        let mut links = Vec::new();
        for item in self.db.scan_prefix(layout::IDENTITIES) {
            let (chunk, first) = item?;
            let Some((link, [0])) = chunk.split_last_chunk::<1>() else { continue };
            let leads = record::assemble(&self.db, link, &first).is_ok_and(|record| record.payload == key.as_bytes());
            links.extend(leads.then(|| link.to_vec()));
        }
        Ok(links)
    }
}
