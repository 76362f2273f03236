//! The full count: all profiles, waiting exports and dead letters, one by one, against the counters, while everything runs.
//!
//! Nothing stands still for it. What is there before and does not go meanwhile is met for certain, and nothing is met that
//! was neither there before nor came meanwhile; how much came and went, the counters of before and after tell. So what is
//! met lies within bounds, which are one number where nothing moved.

use std::ops::RangeInclusive;

use super::{
    Counters, DestinationCounters, Store, StoreError,
    layout::{self, Table},
    record::{self, Unreadable},
    writer::Command,
};
use crate::metrics;

/// Records that are read before the database is let go of: it may have to be closed, to be mended.
const PAGE: usize = 1000;

/// What a full count met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullCount {
    /// Profiles.
    pub profiles: u64,
    /// Exports that wait.
    pub waiting: u64,
    /// Dead letters.
    pub letters: u64,
    /// Records among them that fail their checksum.
    pub damaged: u64,
    /// Whether anything came or went meanwhile: the comparison is the less exact for it.
    pub moved: bool,
    /// What cannot be, as the counters say.
    pub differences: Vec<String>,
}

impl Store {
    /// Counts everything and compares. It reads the whole store, from disk, and blocks: not for the runtime's threads.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the store fails meanwhile: then there is nothing to compare.
    pub fn count_all(&self) -> Result<FullCount, StoreError> {
        let before = self.counters_now()?;
        let mut count = FullCount::default();
        count.profiles = self.count(b"p".to_vec(), b"q".to_vec(), &mut count.damaged)?;
        let mut met = Vec::new();
        for (id, queue) in self.queues() {
            let [waiting, letters] = [Table::Schedule, Table::Dead].map(|table| {
                let [from, to] = [0, u64::MAX].map(|number| layout::entry(table, queue.destination(), number));
                self.count(from, [to, vec![u8::MAX]].concat(), &mut count.damaged)
            });
            let (waiting, letters) = (waiting?, letters?);
            (count.waiting, count.letters) = (count.waiting + waiting, count.letters + letters);
            met.push((id, waiting, letters));
        }
        let after = self.counters_now()?;
        count.moved = before != after;
        let mut compare = |what: String, bounds: RangeInclusive<u64>, there: u64| {
            if !bounds.contains(&there) {
                let (least, most) = bounds.into_inner();
                count.differences.push(format!("{what}: {there} there, and the counters say {least} to {most}"));
            }
        };
        compare("profiles".to_owned(), profiles(&before, &after), count.profiles);
        for (id, waiting, letters) in met {
            let of = |counters: &Counters| counters.destinations.get(&id).copied().unwrap_or_default();
            let bounds = exports(&of(&before), &of(&after));
            compare(format!("waiting exports of {id}"), bounds.waiting, waiting);
            compare(format!("dead letters of {id}"), bounds.letters, letters);
        }
        metrics::audit("records", count.differences.len());
        Ok(count)
    }

    fn counters_now(&self) -> Result<Counters, StoreError> {
        if !self.live.is_good() {
            return Err(self.live.error());
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.commands.send(Command::Count { answer }).map_err(|_| StoreError::Failed)?;
        answered.blocking_recv().map_err(|_| self.live.error())
    }

    /// Counts the records from one key to another, page by page.
    fn count(&self, mut from: Vec<u8>, to: Vec<u8>, damaged: &mut u64) -> Result<u64, StoreError> {
        let mut count = 0;
        loop {
            let page = self.read(|db| page(db, &from, &to))?;
            (count, *damaged) = (count + page.records, *damaged + page.damaged);
            match page.next {
                Some(next) => from = next,
                None => return Ok(count),
            }
        }
    }
}

struct Page {
    records: u64,
    damaged: u64,
    next: Option<Vec<u8>>,
}

fn page(db: &sled::Db, from: &[u8], to: &[u8]) -> sled::Result<Page> {
    let mut page = Page { records: 0, damaged: 0, next: None };
    for (read, item) in db.range(from.to_vec()..to.to_vec()).enumerate() {
        let (chunk, first) = item?;
        if read == PAGE {
            page.next = Some(chunk.to_vec());
            break;
        }
        let Some((key, [0])) = chunk.split_last_chunk::<1>() else { continue };
        match record::assemble(db, key, &first) {
            Ok(_) => {}
            // Where it is gone or was rewritten while it was read, it is not damaged; the one chunk tells no more.
            Err(Unreadable::Damaged) if db.get(&chunk)?.is_none_or(|now| now != first) => {}
            Err(Unreadable::Damaged) => page.damaged += 1,
            Err(Unreadable::Failed(error)) => return Err(error),
        }
        page.records += 1;
    }
    Ok(page)
}

/// An update makes one profile at most, and those that went are as many as were made and are not there any more.
fn profiles(before: &Counters, after: &Counters) -> RangeInclusive<u64> {
    let made = after.accepted.saturating_sub(before.accepted);
    after.profiles.saturating_sub(made)..=before.profiles + made
}

struct Bounds {
    waiting: RangeInclusive<u64>,
    letters: RangeInclusive<u64>,
}

fn exports(before: &DestinationCounters, after: &DestinationCounters) -> Bounds {
    let bounds = |[there_before, came_before]: [u64; 2], [there, came]: [u64; 2]| {
        let came = came.saturating_sub(came_before);
        let went = (there_before + came).saturating_sub(there);
        there_before.saturating_sub(went)..=there_before + came
    };
    Bounds {
        waiting: bounds([before.waiting, before.made], [after.waiting, after.made]),
        letters: bounds([before.dead, before.died], [after.dead, after.died]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_exact_where_nothing_moved_and_as_wide_as_what_did() {
        let still = DestinationCounters { made: 9, waiting: 4, dead: 2, died: 3, ..DestinationCounters::default() };
        let moved = DestinationCounters { made: 12, waiting: 5, dead: 1, died: 4, ..still };

        let (exact, wide) = (exports(&still, &still), exports(&still, &moved));

        assert_eq!((exact.waiting, exact.letters), (4..=4, 2..=2));
        assert_eq!((wide.waiting, wide.letters), (2..=7, 0..=3), "three came and two went; one died, and two went");
        let before = Counters { profiles: 10, accepted: 20, ..Counters::default() };
        let after = Counters { profiles: 11, accepted: 23, ..Counters::default() };
        assert_eq!((profiles(&before, &before), profiles(&before, &after)), (10..=10, 8..=13));
    }
}
