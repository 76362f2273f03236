//! All records of a store, one after the other: what there is, what of it is damaged, and whether the counters agree.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    meta::Meta,
    receipts,
    record::{self, Record, Unreadable},
};

/// The first bytes of all keys, in their order; see the table in `store`.
const TABLES: &[u8] = b"bcdfgimnprsx";
/// What failed its checksum; its chunks are copied as they are.
const QUARANTINE: u8 = b'x';

/// How much is read when the database itself is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Up to the first place that cannot be read, which is an error.
    ToTheFirstFault,
    /// All that can be reached from both ends of each table.
    AroundFaults,
}

/// What was met.
pub(super) enum Met<'a> {
    /// A record that reads well: its payload.
    Record(&'a [u8]),
    /// A record that fails its checksum.
    Damaged,
    /// A chunk in quarantine.
    Chunk(&'a [u8]),
}

/// Is shown the key and what was met there.
pub(super) type Show<'s, E> = &'s mut dyn FnMut(&[u8], Met<'_>) -> Result<(), E>;

impl Met<'_> {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Record(payload) | Self::Chunk(payload) => payload.len() as u64,
            Self::Damaged => 0,
        }
    }
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) records: u64,
    /// Records that fail their checksum.
    pub(super) damaged: u64,
    /// Of them, profiles; and whether receipts are among them.
    pub(super) profiles_damaged: u64,
    pub(super) receipts_damaged: u64,
    /// Places that could not be read, each with whatever stood there.
    pub(super) faults: u64,
    pub(super) profiles: u64,
    pub(super) receipts: u64,
    pub(super) live_bytes: i64,
    pub(super) last_number: u64,
    pub(super) destinations: BTreeMap<u32, Share>,
    pub(super) meta: Option<Meta>,
}

/// What there is of one destination.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) name: Option<String>,
    pub(super) waiting: u64,
    pub(super) oldest: Option<u64>,
    pub(super) dead: u64,
    /// Records that fail their checksum: of waiting exports, and of dead letters.
    pub(super) damaged: [u64; 2],
}

/// What records that fail their checksum are taken for in a comparison with the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damaged {
    /// They are there: the counters still count them.
    Counted,
    /// They are not.
    Gone,
}

impl Survey {
    /// Looks at every record of `db` and shows each to `show`, whose error ends it.
    pub(super) fn of<E: From<sled::Error>>(db: &sled::Db, reach: Reach, show: Show<'_, E>) -> Result<Self, E> {
        let mut survey = Self::default();
        for table in TABLES {
            let mut items = db.range([*table]..[*table + 1]);
            let (mut forward, mut reached) = (true, vec![*table]);
            loop {
                let item = match reach {
                    Reach::ToTheFirstFault => items.next().transpose()?,
                    // sled panics rather than errs on some damage.
                    Reach::AroundFaults => {
                        let next = || if forward { items.next() } else { items.next_back() };
                        match catch_unwind(AssertUnwindSafe(next)) {
                            Ok(None) => None,
                            Ok(Some(Ok(item))) => Some(item),
                            Ok(Some(Err(_))) | Err(_) => {
                                survey.faults += u64::from(forward);
                                if !std::mem::take(&mut forward) {
                                    break;
                                }
                                items = db.range(reached.clone()..[*table + 1].to_vec());
                                continue;
                            }
                        }
                    }
                };
                let Some((key, value)) = item else { break };
                if key.as_ref() <= reached.as_slice() {
                    break;
                }
                survey.take(db, &key, &value, show)?;
                if forward {
                    reached = key.to_vec();
                }
            }
        }
        Ok(survey)
    }

    fn take<E: From<sled::Error>>(
        &mut self,
        db: &sled::Db,
        chunk_key: &[u8],
        value: &[u8],
        show: Show<'_, E>,
    ) -> Result<(), E> {
        if chunk_key[0] == QUARANTINE {
            self.live_bytes += (chunk_key.len() + value.len()) as i64;
            return show(chunk_key, Met::Chunk(value));
        }
        let (key, chunk) = chunk_key.split_at(chunk_key.len() - 1);
        if chunk != [0] {
            return Ok(());
        }
        match record::assemble(db, key, value) {
            Ok(record) => {
                self.count(key, &record);
                show(key, Met::Record(&record.payload))
            }
            Err(Unreadable::Damaged) => {
                self.damage(key);
                show(key, Met::Damaged)
            }
            Err(Unreadable::Failed(error)) => Err(error.into()),
        }
    }

    fn damage(&mut self, key: &[u8]) {
        self.damaged += 1;
        match (key[0], destination(key)) {
            (b'p', _) => self.profiles_damaged += 1,
            (b'r', _) => self.receipts_damaged += 1,
            (b's', Some(number)) => self.destinations.entry(number).or_default().damaged[0] += 1,
            (b'd', Some(number)) => self.destinations.entry(number).or_default().damaged[1] += 1,
            _ => {}
        }
    }

    fn count(&mut self, key: &[u8], Record { payload, length }: &Record) {
        self.records += 1;
        let number_at = |at: usize| key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        match (key[0], destination(key)) {
            (b'm', _) => return self.meta = serde_json::from_slice(payload).ok(),
            // Not counted as live.
            (b'b' | b'g', _) => return,
            (b'n', Some(destination)) => {
                self.destinations.entry(destination).or_default().name = String::from_utf8(payload.to_vec()).ok();
            }
            (b'p', _) => self.profiles += 1,
            (b'r', _) => self.receipts += receipts::count(payload),
            (b's', Some(destination)) => {
                let share = self.destinations.entry(destination).or_default();
                share.waiting += 1;
                share.oldest = [share.oldest, number_at(5)].into_iter().flatten().min();
            }
            (b'd', Some(destination)) => self.destinations.entry(destination).or_default().dead += 1,
            _ => {}
        }
        if let (b's' | b'd', Some(number)) = (key[0], number_at(5)) {
            self.last_number = self.last_number.max(number);
        }
        self.live_bytes += record::bytes(key, *length);
    }

    /// Waiting exports of all destinations.
    pub(super) fn waiting(&self) -> u64 {
        self.destinations.values().map(|share| share.waiting).sum()
    }

    /// Where the counters say something else than what there is.
    pub(super) fn differences(&self, meta: &Meta, damaged: Damaged) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: String, counted: u64, there: u64| {
            if counted != there {
                found.push(format!("{what}: {counted} counted, {there} there"));
            }
        };
        let taken = |records: u64| if damaged == Damaged::Counted { records } else { 0 };
        compare("profiles".to_owned(), meta.profiles, self.profiles + taken(self.profiles_damaged));
        // How many a damaged record held, nobody knows.
        if damaged == Damaged::Gone || self.receipts_damaged == 0 {
            compare("receipts".to_owned(), meta.receipts, self.receipts);
        }
        let nothing = Share::default();
        for (id, entry) in meta.destinations() {
            let Share { waiting, dead, damaged: [waiting_damaged, dead_damaged], .. } =
                self.destinations.get(&entry.number).unwrap_or(&nothing);
            compare(format!("waiting exports of {id}"), entry.waiting, waiting + taken(*waiting_damaged));
            compare(format!("dead letters of {id}"), entry.letters, dead + taken(*dead_damaged));
        }
        if self.last_number > meta.last_number {
            found.push(format!("export {} is younger than the last one counted", self.last_number));
        }
        found
    }
}

/// The destination that a key names, if it does.
fn destination(key: &[u8]) -> Option<u32> {
    key.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}
