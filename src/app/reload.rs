//! A new configuration in place of the one in force: what may change while all runs, and what is refused. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    admin::scene::{Reloaded, Removed, RenamedView},
    config::Config,
    destination::{Destination, DestinationId},
    store::DestinationCounters,
};

/// What becomes of each destination.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New ones, and those whose settings changed.
    pub(super) started: Vec<Destination>,
    /// Those that have another certificate, or trust others, and are the same otherwise.
    pub(super) rotated: Vec<Destination>,
    /// Those that are called otherwise, with what they were called.
    pub(super) renamed: Vec<(DestinationId, Destination)>,
    pub(super) drained: Vec<DestinationId>,
    pub(super) discarded: Vec<DestinationId>,
    /// What is told to the one who asked.
    pub(super) told: Reloaded,
}

/// Compares the configuration in force with the one that is to replace it. `counted` has all that exports were ever made
/// for.
///
/// # Errors
/// All reasons for which nothing may change, each with the way out.
pub(super) fn changes(
    before: &Config,
    after: &Config,
    counted: &BTreeMap<DestinationId, DestinationCounters>,
    Removed { drain, discard }: &Removed,
) -> Result<Changes, Vec<String>> {
    let (mut changes, mut reasons) = (Changes::default(), fixed(before, after));
    let told = &mut changes.told;
    let waiting = |id: &DestinationId| counted.get(id).map_or(0, |counted| counted.waiting);
    let olds: BTreeMap<_, _> = before.destinations.iter().map(|destination| (destination.id(), destination)).collect();
    let news: BTreeSet<_> = after.destinations.iter().map(Destination::id).collect();
    for destination in &after.destinations {
        match olds.get(destination.id()) {
            None if let Some(old) = &destination.renamed_from
                && counted.contains_key(old) =>
            {
                let [from, to] = [old, destination.id()].map(ToString::to_string);
                if counted.get(destination.id()).is_some_and(|counted| counted.made > 0) {
                    reasons.push(format!(
                        "destination \"{to}\" has exports of its own from before, and cannot take over those of \"{from}\": \
                         choose another name, or take out `renamed_from`"
                    ));
                }
                told.renamed.push(RenamedView { from, to });
                changes.renamed.push((old.clone(), destination.clone()));
                continue;
            }
            None => told.added.push(destination.id().to_string()),
            Some(old) if old.differs_in_tls_alone(destination) => {
                told.changed.push(destination.id().to_string());
                changes.rotated.push(destination.clone());
                continue;
            }
            Some(old) if *old != destination => told.changed.push(destination.id().to_string()),
            // Its files may lie elsewhere now.
            Some(old) if old.tls.files() != destination.tls.files() => {
                changes.rotated.push(destination.clone());
                continue;
            }
            Some(_) => continue,
        }
        changes.started.push(destination.clone());
    }
    let is_renamed = |id: &DestinationId| changes.renamed.iter().any(|(old, _)| old == id);
    for id in olds.keys().copied().filter(|id| !news.contains(id) && !is_renamed(id)) {
        told.removed.push(id.to_string());
        let count = waiting(id);
        match (drain.contains(id), discard.contains(id)) {
            (true, true) => reasons.push(format!("destination \"{id}\": say --drain or --discard, not both")),
            (_, true) => {
                changes.discarded.push(id.clone());
                told.discarding.push(id.to_string());
            }
            (false, false) if count > 0 => reasons.push(format!(
                "destination \"{id}\" is gone from the configuration and {count} exports wait for it: `postern reload --drain {id}` \
                 sends them first, `--discard {id}` drops them"
            )),
            // What is made before the change is in force is sent all the same.
            (_, false) => {
                changes.drained.push(id.clone());
                if count > 0 {
                    told.draining.push(id.to_string());
                }
            }
        }
    }
    for id in drain.union(discard).filter(|id| !olds.contains_key(id) || news.contains(id) || is_renamed(id)) {
        let waits = waiting(id) > 0;
        if is_renamed(id) {
            reasons.push(format!("destination \"{id}\" is called otherwise now, and what waits for it is sent"));
        } else if news.contains(id) {
            reasons.push(format!("destination \"{id}\" is not gone from the configuration: remove it there first"));
        } else if !waits {
            reasons.push(format!("nothing waits for a destination \"{id}\""));
        } else if discard.contains(id) {
            // It was gone when we started.
            changes.discarded.push(id.clone());
            told.discarding.push(id.to_string());
        } else {
            reasons
                .push(format!("destination \"{id}\" has no settings any more: add it again, and what waits is sent"));
        }
    }
    others(before, after, told);
    match reasons.is_empty() {
        true => Ok(changes),
        false => Err(reasons),
    }
}

/// What cannot change while all runs.
fn fixed(before: &Config, after: &Config) -> Vec<String> {
    let changed = [
        ("state_dir", before.state_dir != after.state_dir),
        ("log.format", before.log.format != after.log.format),
        ("store.receipts_kept or store.receipts_max", before.store.receipts != after.store.receipts),
    ];
    let reason = |key: &str| format!("{key} cannot change while postern runs; set it back, or restart");
    changed.iter().filter(|(_, changed)| *changed).map(|(key, _)| reason(key)).collect()
}

fn others(before: &Config, after: &Config, told: &mut Reloaded) {
    let mapping = |config: &Config| {
        let mappings = config.destinations.iter().map(|destination| &destination.mapping);
        mappings.cloned().map(|mapping| (mapping.destination.clone(), mapping)).collect::<BTreeMap<_, _>>()
    };
    let listeners = |config: &Config| (config.server_listen, config.admin_listen, config.admin_socket.clone());
    let changed = [
        ("inlets", before.inlets != after.inlets),
        ("audiences", before.audiences != after.audiences),
        ("mappings", mapping(before) != mapping(after)),
        ("listeners", listeners(before) != listeners(after)),
        ("log", before.log.level != after.log.level),
        ("limits", before.store.limits != after.store.limits),
        ("backfill", before.backfill_rate != after.backfill_rate),
    ];
    told.others.extend(changed.iter().filter(|(_, changed)| *changed).map(|(what, _)| (*what).to_owned()));
}
