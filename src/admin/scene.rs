//! What runs now, as the wiring hands it to the admin side, and what the admin side asks of the wiring.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    audience::Audience,
    clock::Timestamp,
    delivery::{Control, NotDone, View},
    destination::{Destination, DestinationId},
};

/// What runs now. A reload replaces it.
#[derive(Clone)]
pub struct Scene {
    /// Since when the process takes updates.
    pub started_at: Timestamp,
    /// Since when this configuration is in force.
    pub loaded_at: Timestamp,
    /// Where it was read.
    pub config_file: PathBuf,
    /// Each inlet and the dataset that it writes to.
    pub inlets: BTreeMap<String, String>,
    /// The audiences, by id.
    pub audiences: Vec<Audience>,
    /// The destinations.
    pub destinations: BTreeMap<DestinationId, Served>,
    /// Profiles a second that a walk goes over at most.
    pub backfill_rate: usize,
}

/// A destination that has a worker.
#[derive(Clone)]
pub struct Served {
    /// Its settings.
    pub destination: Destination,
    /// Its worker.
    pub control: Control,
    /// It was removed from the configuration: no export is made for it, and it ends once none waits.
    pub draining: bool,
    /// Ended when the worker has ended that this one takes the place of.
    pub before: Option<CancellationToken>,
}

impl Served {
    /// How its worker sees it; nothing while that one waits for the one before.
    pub(crate) async fn view(&self) -> Result<View, NotDone> {
        if self.is_changing() { Err(NotDone::NoAnswer) } else { self.control.view().await }
    }

    /// Whether its worker waits for the POSTs of the one before.
    pub(crate) fn is_changing(&self) -> bool {
        self.before.as_ref().is_some_and(|before| !before.is_cancelled())
    }
}

impl Scene {
    /// What has to be configured before anything can be done, in a sentence.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match (self.inlets.is_empty(), self.destinations.is_empty()) {
            (true, true) => {
                Some("no inlet and no destination is configured; `postern init` writes a first configuration")
            }
            (true, false) => Some("no inlet is configured: no update can come in; add [[inlet]]"),
            (false, true) => Some(
                "no destination is configured: profiles are kept, nothing is exported; `postern destination add` adds one",
            ),
            (false, false) => None,
        }
    }
}

/// What the admin side asks of the wiring.
pub enum Request {
    /// To read the configuration anew and put it to work.
    Reload {
        /// What becomes of exports that wait for destinations that are gone.
        removed: Removed,
        /// Gets what changed, or why nothing did.
        answer: oneshot::Sender<Result<Reloaded, Vec<String>>>,
    },
}

/// What becomes of exports that wait for destinations that are no longer configured. Of those named in neither list, a
/// reload is refused while exports wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Removed {
    /// Destinations whose waiting exports are still sent.
    #[schema(value_type = Vec<String>)]
    pub drain: BTreeSet<DestinationId>,
    /// Destinations whose waiting exports are dropped, and counted as dropped.
    #[schema(value_type = Vec<String>)]
    pub discard: BTreeSet<DestinationId>,
}

/// A destination that is called otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenamedView {
    /// What it was called.
    pub from: String,
    /// What it is called.
    pub to: String,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// New destinations.
    pub added: Vec<String>,
    /// Destinations whose settings, certificates or secrets changed.
    pub changed: Vec<String>,
    /// Destinations that are called otherwise, and keep what is theirs.
    pub renamed: Vec<RenamedView>,
    /// Destinations that are gone.
    pub removed: Vec<String>,
    /// Of those, the ones whose waiting exports are still sent.
    pub draining: Vec<String>,
    /// Of those, the ones whose waiting exports are being dropped.
    pub discarding: Vec<String>,
    /// What else changed: `inlets`, `audiences`, `mappings`, `listeners`, `log`, `limits`, `backfill`.
    pub others: Vec<String>,
}
