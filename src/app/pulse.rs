//! What systemd is told: that we are ready, how we are doing, and that we are alive.
//!
//! The watchdog is fed by the delivery loops: only when each destination's worker has answered between two rounds.

use std::{pin::pin, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{health, scene::Scene},
    clock::Clock,
    delivery::{NotDone, State, View},
    destination::DestinationId,
    store::Store,
};

/// How often the status is told, and the watchdog fed, at least.
const EVERY: Duration = Duration::from_secs(5);
/// For how long a start may go on after each word of ours.
const START_MORE: Duration = Duration::from_secs(60);
/// Rounds of a third of that: an hour, after which systemd's own limit ends what is a hang after all.
const START_ROUNDS_MAX: u32 = 180;
/// How long the writer is waited for: while a backup copies files it answers nobody, and that is no hang.
const COUNT_MAX: Duration = Duration::from_secs(1);
/// Destinations named in the status: it is one line.
const NAMED_MAX: usize = 4;

/// Tells systemd, if it is there. Should it be gone, nobody needs to know.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Tells systemd that the configuration is being read anew.
pub(super) fn reloading() {
    // Without the time, systemd takes the message for one of an older kind, which it still understands.
    let at = NotifyState::monotonic_usec_now().ok();
    tell(&[&[NotifyState::Reloading], at.as_slice()].concat());
}

/// Asks for more time for as long as `work` takes: a large store that is read, mended or compacted is no hang.
pub async fn patiently<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    for _ in 0..START_ROUNDS_MAX {
        tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(START_MORE.as_micros()).unwrap_or(u32::MAX))]);
        if let Ok(done) = tokio::time::timeout(START_MORE / 3, &mut work).await {
            return done;
        }
    }
    work.await
}

/// Feeds the watchdog and tells the status until `stop`.
pub(super) async fn beat(scene: watch::Receiver<Arc<Scene>>, store: Store, clock: Clock, stop: CancellationToken) {
    let every = sd_notify::watchdog_enabled().map_or(EVERY, |limit| (limit / 4).min(EVERY));
    let mut said = String::new();
    loop {
        let shown = scene.borrow().clone();
        let mut views = Vec::new();
        // One that waits for the worker before it has nothing to say yet.
        for (id, served) in shown.destinations.iter().filter(|(_, served)| !served.is_changing()) {
            views.push((id, served.view().await));
        }
        if views.iter().all(|(_, view)| view.is_ok()) {
            tell(&[NotifyState::Watchdog]);
        }
        let counters = tokio::time::timeout(COUNT_MAX, store.counters()).await;
        let waiting = counters.ok().and_then(Result::ok).map(|counters| counters.waiting());
        let oldest = store.queues().iter().filter_map(|(_, queue)| queue.oldest()).min();
        let status = match (shown.missing(), health::why_not_ready(&store)) {
            (_, Some(why)) => why.to_owned(),
            (Some(missing), None) => missing.to_owned(),
            (None, None) => status(waiting, oldest.map(|oldest| clock.now().since(oldest)), &views),
        };
        let status = match clock.distrusted() {
            Some(_) => format!("clock not trusted; {status}"),
            None => status,
        };
        if status != said {
            tell(&[NotifyState::Status(&status)]);
            said = status;
        }
        // The system's time, whatever the appliance's clock says: systemd goes by it.
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return;
        }
    }
}

/// One line: `12 exports wait, the oldest since 3 min; crm held (unreachable), 2 open`.
fn status(waiting: Option<u64>, oldest: Option<Duration>, views: &[(&DestinationId, Result<View, NotDone>)]) -> String {
    let waiting = match (waiting, oldest) {
        (Some(0), _) => "nothing waits".to_owned(),
        (None, _) => "the store is busy".to_owned(),
        (Some(count), oldest) => {
            let minutes = oldest.unwrap_or_default().as_secs() / 60;
            let oldest = if minutes > 0 { format!(", the oldest since {minutes} min") } else { String::new() };
            format!("{count} exports wait{oldest}")
        }
    };
    let word = |view: &Result<View, NotDone>| match view.as_ref().map(|view| &view.state) {
        Ok(State::Open) => None,
        Ok(State::Throttled { .. }) => Some("throttled".to_owned()),
        Ok(State::Held { hold, .. }) => Some(format!("held ({})", hold.fault)),
        Ok(State::Paused { .. }) => Some("paused".to_owned()),
        Err(_) => Some("stuck".to_owned()),
    };
    let others: Vec<String> =
        views.iter().filter_map(|(id, view)| word(view).map(|word| format!("{id} {word}"))).collect();
    let open = views.len() - others.len();
    let more = others.len().saturating_sub(NAMED_MAX);
    let mut parts: Vec<String> = others.into_iter().take(NAMED_MAX).collect();
    parts.extend((more > 0).then(|| format!("{more} more not open")));
    parts.extend((open > 0).then(|| format!("{open} open")));
    format!("{waiting}; {}", parts.join(", "))
}
