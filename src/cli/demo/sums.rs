//! The end: what the store says must be what was counted from outside.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{
    careless::Careless,
    files::{CARELESS, CRM},
    ledger::Ledger,
    say,
};
use crate::{
    destination::DestinationId,
    export::Cause,
    store::{Counters, DestinationCounters, Store, StoreOwner},
};

/// More entries than the demo makes.
const ENTRIES_MAX: usize = 1000;

/// Reads the stopped store and compares; prints what it found.
pub(super) async fn add_up(state_dir: &Path, ledger: &Ledger, careless: &Careless) -> Result<()> {
    ledger.check()?;
    let state_dir = state_dir.to_owned();
    let owner = tokio::task::spawn_blocking(move || StoreOwner::open_existing(&state_dir)).await??;
    let store = owner.store();
    let counters = store.counters().await?;
    let compared = compare(&store, &counters, ledger, careless);
    drop(store);
    tokio::task::spawn_blocking(move || owner.close()).await?;
    compared
}

fn compare(store: &Store, counters: &Counters, ledger: &Ledger, careless: &Careless) -> Result<()> {
    let Counters { applied, unchanged, quarantined, .. } = counters;
    let (acknowledged, owed, accepted) = (ledger.acknowledged, ledger.owed(), ledger.accepted());
    ensure!(*applied == acknowledged as u64, "{acknowledged} updates were acknowledged, {applied} are applied");
    ensure!(*unchanged == 0, "{unchanged} updates are said to have changed nothing");
    ensure!(*quarantined == 0, "{quarantined} records are damaged");
    let expected = [
        (CRM, Found { made: owed, delivered: accepted, waiting: 0, dead: 1 }),
        (CARELESS, Found { made: owed, delivered: 0, waiting: owed, dead: 0 }),
    ];
    for (name, expected) in &expected {
        let found = found(store, counters, name)?;
        ensure!(found == *expected, "{name}: the store has {found:?}, counted from outside it is {expected:?}");
    }
    let letters = store.dead_letters(&id(CRM)?, 0, ENTRIES_MAX)?.into_iter().filter_map(|(_, letter)| letter);
    let letters: Vec<_> = letters.map(|letter| (letter.export.id.to_string(), letter.cause)).collect();
    let refused: Vec<_> = ledger.refused().iter().map(|key| (key.clone(), Cause::Refused)).collect();
    ensure!(letters == refused, "the dead letters are {letters:?}, and refused were {refused:?}");
    ensure!(careless.bytes() == 0, "{} bytes were sent to the careless receiver", careless.bytes());

    say(format_args!("   updates   acknowledged {acknowledged} = applied {applied}"))?;
    for (name, Found { made, delivered, waiting, dead }) in expected {
        say(format_args!("   {name:<9} made {made} = delivered {delivered} + waiting {waiting} + dead {dead}"))?;
    }
    let (repeats, handshakes) = (ledger.repeats, careless.handshakes());
    say(format_args!(
        "   {CRM} accepted {accepted} exports, {repeats} of them twice; the dead letter is the one it refused"
    ))?;
    say(format_args!("   {CARELESS} completed {handshakes} TLS handshakes and got 0 bytes\n"))
}

/// A destination's exports: made and delivered from the counters, the others counted one by one as well.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    made: usize,
    delivered: usize,
    waiting: usize,
    dead: usize,
}

fn found(store: &Store, counters: &Counters, name: &str) -> Result<Found> {
    let id = id(name)?;
    let counted = counters.destinations.get(&id).with_context(|| format!("the store does not know {name}"))?;
    let DestinationCounters { made, delivered, dead, waiting, .. } = *counted;
    let waiting_found = store.waiting(&id, 0, ENTRIES_MAX)?.len();
    let dead_found = store.dead_letters(&id, 0, ENTRIES_MAX)?.len();
    let same = (waiting, dead) == (waiting_found as u64, dead_found as u64);
    ensure!(same, "{name}: the counters say {counted:?}; there are {waiting_found} waiting and {dead_found} dead");
    ensure!(counters.differences().is_empty(), "it does not add up: {:?}", counters.differences());
    ensure!(made == delivered + waiting + dead, "{name} has lost or dropped exports: {counted:?}");
    Ok(Found {
        made: usize::try_from(made)?,
        delivered: usize::try_from(delivered)?,
        waiting: waiting_found,
        dead: dead_found,
    })
}

fn id(name: &str) -> Result<DestinationId> {
    name.parse().with_context(|| format!("`{name}` as a destination's name"))
}
