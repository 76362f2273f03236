//! What a person wishes of the store: for the model test, and for cases of its own.

use super::{tests::*, *};
use crate::{
    export::{Export, ExportId, NewExport},
    profile::{ProfileKey, update::UpdateId},
    trigger::Reason,
};

impl Tried {
    pub(super) async fn drop_export(&mut self, from: usize, number: u64) {
        let expected = match self.queues[from].get(&number) {
            Some(waiting) if waiting.claimed => Dropped::InFlight,
            Some(_) => Dropped::Gone,
            None => Dropped::Missing,
        };
        assert_eq!(self.owner.store().drop_export(&destination(from), number).await.unwrap(), expected);
        if expected == Dropped::Gone {
            self.queues[from].remove(&number);
            self.expected[from].dropped += 1;
        }
    }

    pub(super) async fn drop_letter(&mut self, from: usize, letter: usize) {
        let number = self.nth_letter(from, letter).unwrap_or(letter as u64 % 50 + 1000);
        let is_there = self.dead[from].remove(&number).is_some();
        assert_eq!(self.owner.store().drop_letter(&destination(from), number).await.unwrap(), is_there);
        self.expected[from].dropped += u64::from(is_there);
    }

    fn nth_letter(&self, from: usize, letter: usize) -> Option<u64> {
        let letters = &self.dead[from];
        letters.keys().nth(letter.checked_rem(letters.len())?).copied()
    }

    pub(super) async fn discard(&mut self, from: usize) {
        self.let_go(|claimed_from, _| claimed_from == from);
        let dropped = std::mem::take(&mut self.queues[from]).len() as u64;
        let discarded = self.owner.store().discard(&destination(from)).await.unwrap();
        assert_eq!(discarded, Discarded { dropped, stayed: 0 });
        self.expected[from].dropped += dropped;
    }

    /// Gives claims back, so that nothing is waited for.
    fn let_go(&mut self, which: impl Fn(usize, &Export) -> bool) {
        for (from, claim) in std::mem::take(&mut self.claims) {
            match which(from, &claim.export) {
                true => self.queues[from].get_mut(&claim.number()).unwrap().claimed = false,
                false => self.claims.push((from, claim)),
            }
        }
    }

    pub(super) async fn redrive(&mut self, from: usize, letter: usize, how: Redrive, moot: bool) {
        let Some(number) = self.nth_letter(from, letter) else { return };
        let of = self.dead[from][&number].export.clone();
        let (id, now, to) = (UpdateId::new(at(self.now)), at(self.now), destination(from));
        let export = NewExport {
            destination: to.clone(),
            id: ExportId::of(id, now, &to),
            body: b"again".to_vec(),
            reasons: vec![Reason::Redrive(of.id)],
        };
        let (made, lines, expected) = (export.clone(), of.lines.clone(), of.id);
        let remake = move |letter: &Letter, _: Found| {
            assert_eq!(letter.letter.export.id, expected);
            let (export, lines, accepted_at) = (export.clone(), lines.clone(), now);
            Ok(if moot { Remade::Moot } else { Remade::Export { export, lines, accepted_at } })
        };

        let redriven = self.owner.store().redrive(&to, number, how, vec![], remake).await;

        let is_overtaken = || {
            let delivered = |(by, other, profile): &(usize, u64, ProfileKey)| {
                *by == from && *other > number && of.lines.contains(profile)
            };
            let waits = |other: &Waiting| other.export.lines.iter().any(|line| of.lines.contains(line));
            self.receipts.iter().any(delivered) || self.queues[from].range(number..).any(|(_, other)| waits(other))
        };
        match redriven {
            Ok(Redriven::Moot) => {
                assert!(moot);
                self.expected[from].moot += 1;
            }
            Ok(Redriven::Exported(id)) => {
                assert!(!moot && id == made.id && (how == Redrive::Present || !is_overtaken()));
                self.last_number += 1;
                let waiting = Export::new(id, of.lines.clone(), now);
                let waiting = Waiting { export: waiting, body: made.body, claimed: false };
                self.queues[from].insert(self.last_number, waiting);
                self.expected[from].made += 1;
                self.expected[from].redriven += 1;
            }
            Err(why) => {
                let right = matches!(why, NotRedriven::Overtaken) && is_overtaken();
                return assert!(!moot && how == Redrive::AsWas && right, "{why}");
            }
        }
        self.dead[from].remove(&number);
    }

    pub(super) async fn forget(&mut self, number: usize) {
        let Some(person) = self.people.get(&number).cloned() else {
            assert_eq!(self.owner.store().forget(&identity(number)).await.unwrap(), None);
            return;
        };
        let is_theirs = |export: &Export| export.lines.iter().any(|line| person.lines.contains(line));
        self.let_go(|_, export| is_theirs(export));
        let mut expected = Forgotten::default();
        for from in 0..2 {
            let (waiting, dead) = (self.queues[from].len(), self.dead[from].len());
            self.queues[from].retain(|_, waiting| !is_theirs(&waiting.export));
            self.dead[from].retain(|_, letter| !is_theirs(&letter.export));
            let exports = (waiting - self.queues[from].len()) as u64;
            let letters = (dead - self.dead[from].len()) as u64;
            self.expected[from].dropped += exports + letters;
            (expected.exports, expected.letters) = (expected.exports + exports, expected.letters + letters);
        }
        let before = self.receipts.len();
        self.receipts.retain(|(_, _, profile)| !person.lines.contains(profile));
        expected.receipts = (before - self.receipts.len()) as u64;
        self.people.retain(|_, other| other.key != person.key);
        self.forgotten += 1;

        let forgotten = self.owner.store().forget(&identity(number)).await.unwrap();

        assert_eq!(forgotten, Some(expected));
        let db = self.owner.store.live.db().unwrap();
        assert!(db.scan_prefix(layout::FORGETTING).next().is_none(), "nothing is left to be erased");
    }

    pub(super) fn verify_receipts(&self, counters: &Counters) {
        let mut profiles: Vec<ProfileKey> = self.receipts.iter().map(|(_, _, profile)| *profile).collect();
        profiles.dedup();
        let found = self.owner.store().receipts(&profiles).unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|Receipt { destination, number, profile, .. }| (destination, number, profile))
            .collect();
        let expected: Vec<_> =
            self.receipts.iter().map(|(from, number, profile)| (destination(*from), *number, *profile)).collect();
        assert_eq!((counters.receipts, found), (expected.len() as u64, expected));
    }
}
