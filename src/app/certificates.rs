//! Watches the files of our certificates, and tells each destination's worker what they hold now.
//!
//! It looks at them rather than being told of changes: that works on every file system, through links and mounts, and misses
//! nothing. A pair that does not fit is looked at once more, because one file is always replaced before the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::scene::{Scene, Served},
    delivery::{By, Control},
    destination::DestinationId,
    tls::{ClientTls, ClientTlsFiles, RootsSource},
};

/// How often the files are looked at: three calls a destination.
const EVERY: Duration = Duration::from_millis(500);
/// How often they are read although they look the same: two writes within a tick of the kernel's clock look like one.
const READ_EVERY: Duration = Duration::from_secs(60);

/// A worker, and the files as they were told to it.
struct Watched {
    worker: Control,
    files: Files,
}

/// Files as they were when they were looked at last.
struct Files {
    files: ClientTlsFiles,
    stamps: Vec<Stamp>,
    told: Option<Instant>,
}

/// What tells one state of a file from another; none when it is not there.
type Stamp = Option<[i64; 7]>;

/// What a worker is told: a good pair, or what is wrong.
type Found = Result<ClientTls, String>;

/// Watches until `stop`. A file system that does not answer keeps nobody waiting but its own destination.
pub(super) async fn watch(scene: watch::Receiver<Arc<Scene>>, stop: CancellationToken) {
    let mut watched: BTreeMap<DestinationId, Watched> = BTreeMap::new();
    let (mut looks, mut under_way) = (JoinSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            // The system's time, whatever the appliance's clock says: files are changed by others.
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        while let Some(Ok((id, seen))) = looks.try_join_next() {
            under_way.remove(&id);
            watched.extend(Option::zip(Some(id), seen));
        }
        let shown = scene.borrow().clone();
        watched.retain(|id, _| shown.destinations.contains_key(id));
        // One that waits for the worker before it is told later.
        for (id, served) in shown.destinations.iter().filter(|(_, served)| !served.is_changing()) {
            if under_way.insert(id.clone()) {
                let (id, served, before) = (id.clone(), served.clone(), watched.remove(id));
                looks.spawn(async move { (id, look(&served, before).await) });
            }
        }
    }
}

async fn look(served: &Served, before: Option<Watched>) -> Option<Watched> {
    let (worker, tls) = (served.control.clone(), served.destination.tls.clone());
    let before = before.filter(|before| before.worker.is_of_the_worker_of(&worker)).map(|before| before.files);
    // It cannot panic; should it all the same, the next round looks again.
    let (mut files, found) = tokio::task::spawn_blocking(move || read(&tls, before)).await.ok()?;
    if let Some(found) = found {
        files.told = worker.on_file(found, By::Watch).await.is_ok().then(Instant::now);
    }
    Some(Watched { worker, files })
}

/// Reads the files if there is something to tell of them.
fn read(tls: &ClientTls, before: Option<Files>) -> (Files, Option<Found>) {
    let files = tls.files().clone();
    let stamps = stamps(&files);
    let before = before.filter(|before| before.files == files && before.stamps == stamps);
    let (is_same, told) = (before.is_some(), before.and_then(|before| before.told));
    if told.is_some_and(|told| told.elapsed() < READ_EVERY) {
        return (Files { files, stamps, told }, None);
    }
    let found = tls.load_again().map_err(|error| crate::chain(&error));
    let may_be_half_done = found.is_err() && !is_same;
    (Files { files, stamps, told: None }, Some(found).filter(|_| !may_be_half_done))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        clock::Clock,
        tls::{
            MinVersion, Policy,
            issue::{Authority, Issued, Period},
        },
    };

    #[test]
    fn half_of_a_replacement_is_given_time_for_the_other_half() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("Test authority", period()).unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("ca"), authority.certificate_pem()).unwrap();
        let write_certificate = |client: &Issued| fs::write(path("crt"), &client.certificate_pem).unwrap();
        let write_key = |client: &Issued| {
            fs::write(path("key.new"), &client.key_pem).unwrap();
            fs::set_permissions(path("key.new"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(path("key.new"), path("key")).unwrap();
        };
        let files = ClientTlsFiles { certificate: path("crt"), key: path("key"), roots: RootsSource::File(path("ca")) };
        let client = || authority.client("Test client", period()).unwrap();
        let told = |mut files: Files| {
            files.told = Some(Instant::now());
            Some(files)
        };

        let first = client();
        write_certificate(&first);
        write_key(&first);
        let policy = Policy { min_version: MinVersion::Tls12, ..Policy::default() };
        let tls = ClientTls::load(&files).unwrap().with_policy(policy);
        let (seen, found) = read(&tls, None);
        assert_eq!(found.unwrap(), Ok(tls.clone()), "with the policy that it had");
        let (seen, found) = read(&tls, told(seen));
        assert!(found.is_none(), "nothing has changed");

        let next = client();
        write_certificate(&next);
        let (seen, found) = read(&tls, Some(seen));
        assert!(found.is_none(), "half of it");
        write_key(&next);
        let (seen, found) = read(&tls, Some(seen));
        assert!(found.unwrap().is_ok(), "all of it");

        write_certificate(&client());
        let (seen, found) = read(&tls, told(seen));
        assert!(found.is_none(), "half of it");
        let (_, found) = read(&tls, Some(seen));
        assert!(found.unwrap().unwrap_err().contains("does not belong"), "nothing follows");
    }

    fn period() -> Period {
        Period::starting(Clock::system().now(), Duration::from_secs(3600))
    }
}
