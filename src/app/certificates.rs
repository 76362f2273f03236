//! Watches the files of our certificates, and tells each destination's worker what they hold now.
//!
//! It looks at them rather than being told of changes: that works on every file system, through links and mounts, and misses
//! nothing. A pair that does not fit is looked at once more, because one file is always replaced before the other.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::scene::{Scene, Served},
    delivery::Control,
    destination::DestinationId,
    tls::{ClientTls, ClientTlsFiles, RootsSource},
};

/// How often the files are looked at: three calls a destination.
const EVERY: Duration = Duration::from_millis(500);
/// How often they are read although they look the same: two writes within a tick of the kernel's clock look like one.
const READ_EVERY: Duration = Duration::from_secs(60);

/// The files of a destination as they were told to its worker.
struct Watched {
    worker: Control,
    files: ClientTlsFiles,
    stamps: Vec<Stamp>,
    told: Option<Instant>,
}

/// What tells one state of a file from another; none when it is not there.
type Stamp = Option<[i64; 7]>;

/// What a worker is told: a good pair, or what is wrong.
type Found = Result<ClientTls, String>;

/// Watches until `stop`.
pub(super) async fn watch(scene: watch::Receiver<Arc<Scene>>, stop: CancellationToken) {
    let mut watched: BTreeMap<DestinationId, Watched> = BTreeMap::new();
    // The system's time, whatever the appliance's clock says: files are changed by others.
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let shown = scene.borrow().clone();
        watched.retain(|id, _| shown.destinations.contains_key(id));
        // One that waits for the worker before it is told later.
        for (id, served) in shown.destinations.iter().filter(|(_, served)| !served.is_changing()) {
            let before = watched.remove(id);
            if let Some(now) = stop.run_until_cancelled(look(served, before)).await.flatten() {
                watched.insert(id.clone(), now);
            }
        }
    }
}

async fn look(served: &Served, before: Option<Watched>) -> Option<Watched> {
    let tls = served.destination.tls.clone();
    let worker = served.control.clone();
    let before = before.filter(|before| before.files == *tls.files() && before.worker.is_of_the_worker_of(&worker));
    // It cannot panic; should it all the same, the next round looks again.
    let (mut watched, found) = tokio::task::spawn_blocking(move || read(worker, &tls, before)).await.ok()?;
    if let Some(found) = found {
        watched.told = served.control.on_file(found).await.is_ok().then(Instant::now);
    }
    Some(watched)
}

/// Reads the files if there is something to tell of them.
fn read(worker: Control, tls: &ClientTls, before: Option<Watched>) -> (Watched, Option<Found>) {
    let files = tls.files().clone();
    let stamps = stamps(&files);
    let (is_same, told) = match before {
        Some(before) => (before.stamps == stamps, before.told),
        None => (false, None),
    };
    if is_same && told.is_some_and(|told| told.elapsed() < READ_EVERY) {
        return (Watched { worker, files, stamps, told }, None);
    }
    let found = tls.load_again().map_err(|error| crate::chain(&error));
    let may_be_half_done = found.is_err() && !is_same;
    (Watched { worker, files, stamps, told: None }, Some(found).filter(|_| !may_be_half_done))
}

fn stamps(ClientTlsFiles { certificate, key, roots }: &ClientTlsFiles) -> Vec<Stamp> {
    let roots = match roots {
        RootsSource::Public => None,
        RootsSource::File(path) => Some(path),
    };
    [certificate, key].into_iter().chain(roots).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    // Another inode is a file that was renamed here, or a link that leads elsewhere now.
    let bits = |unsigned: u64| unsigned.cast_signed();
    let (file, size, mode) = ([found.dev(), found.ino()].map(bits), bits(found.size()), i64::from(found.mode()));
    let changed = found.ctime().wrapping_mul(1_000_000_000).wrapping_add(found.ctime_nsec());
    let written = found.mtime().wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec());
    Some([file[0], file[1], size, mode, changed, written, i64::from(found.uid())])
}
