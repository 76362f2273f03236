//! Power cuts: nothing acknowledged is lost, and order holds, when the power fails under the real binary at any write.
//!
//! The binary works on an ext4 whose disk remembers each write and each flush ([`blocklog`]). Any point of that log is a
//! disk after a power cut: it is mounted, the binary is started on it, and what the receiver got before and gets after is
//! compared with what was acknowledged. A `kill -9` proves nothing of the kind: the page cache survives it.
//!
//! `cargo test --test powercut -- --ignored --nocapture`, as root; `docs/testing.md` says more.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod blocklog;
mod control;
mod disk;
mod history;
mod shutdown;
#[path = "../it/support/mod.rs"]
mod support;
mod trial;

use history::{Events, Shape};
use trial::Trial;

const SMALL: Shape = Shape { updates: 800, name_bytes: 700 };
const SMALL_MIB: u64 = 64;
/// Above what sled writes to a file of its own, which it never syncs.
const LARGE: Shape = Shape { updates: 120, name_bytes: 92_000 };
const LARGE_MIB: u64 = 96;

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn small_updates_survive_power_cuts() {
    anywhere("small updates", SMALL_MIB, SMALL).await;
}

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn profiles_of_100_kib_survive_power_cuts() {
    anywhere("profiles of 100 KiB", LARGE_MIB, LARGE).await;
}

async fn anywhere(variant: &'static str, mib: u64, shape: Shape) {
    let mut trial = Trial::new(variant).await;
    for cuts in trial.lives(usize::MAX) {
        let life = trial.live(mib, shape).await;
        for _ in 0..cuts {
            let cut = trial.cut(&life, 0..=life.ended, &Events::default());
            trial.check(&cut).await;
        }
    }
    trial.end_of_trial();
}

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn first_start_survives_power_cuts() {
    let mut trial = Trial::new("first start").await;
    for cuts in trial.lives(usize::MAX) {
        let life = trial.live(SMALL_MIB, Shape { updates: 20, ..SMALL }).await;
        for _ in 0..cuts {
            let cut = trial.cut(&life, 0..=life.ended, &Events::default());
            trial.check(&cut).await;
        }
    }
    trial.end_of_trial();
}

/// Recoveries begin with a new log each, and that takes time: so many cuts into each.
const CUTS_A_RECOVERY: usize = 5;

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn recovery_survives_power_cuts() {
    let mut trial = Trial::new("recovery").await;
    let life = trial.live(SMALL_MIB, SMALL).await;
    for cuts in trial.lives(CUTS_A_RECOVERY) {
        let first = trial.cut(&life, life.listened..=life.ended, &Events::default());
        let recovery = trial.recover(&first).await;
        for _ in 0..cuts {
            let cut = trial.cut(&recovery, 0..=recovery.ended, &first.before);
            trial.check(&cut).await;
        }
    }
    trial.end_of_trial();
}

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn compaction_survives_power_cuts() {
    rewriting("compaction", &["store", "compact"]).await;
}

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn salvage_of_a_whole_store_survives_power_cuts() {
    rewriting("salvage", &["store", "salvage", "--yes"]).await;
}

async fn rewriting(variant: &'static str, verb: &[&str]) {
    let mut trial = Trial::new(variant).await;
    let life = trial.live(SMALL_MIB, SMALL).await;
    for cuts in trial.lives(CUTS_A_RECOVERY) {
        let first = trial.cut(&life, life.listened..=life.ended, &Events::default());
        let rewrite = trial.run_verb(verb, &first);
        for _ in 0..cuts {
            let cut = trial.cut(&rewrite, 0..=rewrite.ended, &first.before);
            trial.check(&cut).await;
        }
    }
    trial.end_of_trial();
}
