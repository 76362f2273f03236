//! What the window hands out, and when.

use super::*;
use crate::{
    export::{Attempt, ExportId, Outcome, Trouble},
    profile::update::UpdateId,
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn profiles<const N: usize>() -> [ProfileKey; N] {
    std::array::from_fn(|_| UpdateId::new(at(0)).into())
}

fn export(lines: &[ProfileKey], due: i64) -> Export {
    let id = ExportId::of(UpdateId::new(at(due)), at(due), &"crm".parse().unwrap());
    Export::new(id, lines.to_vec(), at(due))
}

fn retry(lines: &[ProfileKey], due: i64) -> Export {
    let attempt = Attempt::new(at(0), Outcome::Retryable(Trouble::Timeout));
    Export { attempts: vec![attempt], ..export(lines, due) }
}

fn window(exports: Vec<Export>) -> Window {
    let mut window = Window::new(1, 0, Vec::new());
    let last = exports.len() as u64;
    window.publish(made(1, exports), last);
    window
}

fn made(first: u64, exports: Vec<Export>) -> Vec<Made> {
    (first..).zip(exports).map(|(number, export)| (number, export, Frozen::new(&[], b"{}"))).collect()
}

fn read(exports: &[(u64, Export)]) -> Vec<Read> {
    let read =
        |(number, export): &(u64, Export)| Read { number: *number, export: export.clone(), bytes: 3, frozen: None };
    exports.iter().map(read).collect()
}

fn numbers(window: &mut Window, now: i64) -> Vec<u64> {
    std::iter::from_fn(|| window.claim_due(at(now))).map(|(number, ..)| number).collect()
}

#[test]
fn later_export_of_a_profile_waits_for_the_earlier_one() {
    let [a, b] = profiles();
    let mut window = window(vec![export(&[a], 0), export(&[a], 0), export(&[b], 0)]);

    assert_eq!(numbers(&mut window, 0), [1, 3]);
    window.give_back(1, Some(retry(&[a], 15)));
    assert_eq!(numbers(&mut window, 14), [] as [u64; 0], "the second waits behind the first one's retry");
    assert_eq!(numbers(&mut window, 15), [1]);
    window.finish(1);
    assert_eq!(numbers(&mut window, 15), [2]);
}

#[test]
fn clock_set_back_strands_nothing() {
    let [a, b, c] = profiles();
    let hour = 3600 * 1000;
    let mut window = window(vec![retry(&[a], 24 * hour), retry(&[b], 1000), export(&[c], hour)]);

    assert_eq!(window.next_due(at(0)), Some(at(0)));
    assert_eq!(numbers(&mut window, 0), [1, 3], "a day ahead is no wait of ours, a second is; a first try never waits");
    assert_eq!(window.next_due(at(0)), Some(at(1000)));
}

#[test]
fn export_of_a_joined_profile_waits_behind_both_lines() {
    let [a, b] = profiles();
    let mut window = window(vec![export(&[a], 0), export(&[b], 0), export(&[a, b], 0), export(&[a, b], 0)]);

    assert_eq!(numbers(&mut window, 0), [1, 2]);
    window.finish(1);
    assert_eq!(numbers(&mut window, 0), [] as [u64; 0]);
    window.finish(2);
    assert_eq!(numbers(&mut window, 0), [3]);
}

#[test]
fn probes_walk_the_heads_by_age_and_begin_again() {
    let [a, b, c] = profiles();
    let mut window = window(vec![export(&[a], 99), export(&[a], 0), export(&[b], 0), export(&[c], 0)]);
    let mut after = 0;
    let mut probed = Vec::new();
    for _ in 0..4 {
        let (number, ..) = window.claim_head(after).unwrap();
        window.give_back(number, None);
        (after, _) = (number, probed.push(number));
    }
    assert_eq!(probed, [1, 3, 4, 1]);
}

#[test]
fn what_does_not_fit_is_read_later_and_in_order() {
    let keys: Vec<ProfileKey> = (0..WINDOW_MAX + 10).map(|_| UpdateId::new(at(0)).into()).collect();
    let exports: Vec<Export> = keys.iter().map(|key| export(&[*key], 0)).collect();
    let mut window = Window::new(1, 0, Vec::new());
    let all: Vec<(u64, Export)> = (1..).zip(exports.clone()).collect();
    window.publish(made(1, exports[..WINDOW_MAX].to_vec()), WINDOW_MAX as u64);
    window.publish(made(WINDOW_MAX as u64 + 1, exports[WINDOW_MAX..].to_vec()), all.len() as u64);
    assert_eq!(window.missing(), Some((WINDOW_MAX as u64 + 1, all.len() as u64, 0)));

    let (first, ..) = window.claim_due(at(0)).unwrap();
    window.finish(first);
    assert_eq!(window.missing().unwrap().2, 1);
    let next = WINDOW_MAX as u64 + 1;
    window.refill(read(&all[WINDOW_MAX..=WINDOW_MAX]), next, next, 0);

    let last = numbers(&mut window, 0).into_iter().last();
    assert_eq!(last, Some(WINDOW_MAX as u64 + 1));
    assert_eq!(window.low_water(), 2, "claims still count as waiting");
}
#[test]
fn export_that_is_seized_on_disk_is_not_handed_out_by_a_reading_under_way() {
    let keys: [ProfileKey; 3] = profiles();
    let all: Vec<(u64, Export)> = (1..).zip(keys.map(|key| export(&[key], 0))).collect();
    let mut window = Window::new(1, 0, Vec::new());
    window.synced = 3;

    assert!(matches!(window.seize(2), Seized::Beyond));
    assert!(matches!(window.seize(2), Seized::InFlight));
    assert!(matches!(window.seize(4), Seized::Missing), "it is not synced");
    window.refill(read(&all[..2]), 1, 2, 0);
    assert_eq!((numbers(&mut window, 0), window.claimed()), (vec![1], 2), "it is still in somebody's hands");
    assert!(matches!(window.seize(3), Seized::Beyond));
    let cuts = window.cuts();
    window.finish(3);
    window.refill(read(&all[2..]), 3, 3, cuts);
    assert_eq!((numbers(&mut window, 0), window.claimed()), (vec![], 2), "what was read is older than its end");
    window.refill(vec![], 3, 3, window.cuts());
    assert!(matches!(window.seize(3), Seized::Missing));
    window.finish(2);
    assert_eq!(window.waiting_to(3), 1);
}

#[test]
fn what_is_seized_out_of_line_lets_the_next_go_when_it_is_gone() {
    let [a] = profiles();
    let mut window = window(vec![export(&[a], 0), export(&[a], 0), export(&[a], 0)]);

    assert!(matches!(window.seize(2), Seized::Here(_)));
    assert_eq!(numbers(&mut window, 0), [1]);
    assert!(matches!(window.seize(1), Seized::InFlight));
    window.finish(1);
    assert_eq!(numbers(&mut window, 0), [] as [u64; 0], "the second is on its way out, and first in line");
    window.finish(2);
    assert_eq!(numbers(&mut window, 0), [3]);
}
