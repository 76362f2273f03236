//! Goes over all profiles where that is owed: one walk at a time, the oldest first, in small slices on the writer's thread.
//!
//! A slice is small, so that updates do not wait for the writer, and it goes on only while what it made before is being
//! sent: exports stand in a queue in the order they are made, and one that follows from an update is not to stand behind
//! more than is sent in a second. A backfill waits while its destination does not take exports; another walk goes on then.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admin::{
        scene::{Scene, Served},
        walks::{Order, Shown, Walks},
    },
    clock::{Clock, Timestamp},
    delivery::{NotDone, State},
    destination::DestinationId,
    metrics,
    pipeline::Pipeline,
    store::{Step, Store},
    walk::{Cause, ENDED_MAX, Errand, Walk, WalkId, room::Rate},
};

/// Orders that may wait: they are taken between two slices.
const ORDERS_MAX: usize = 16;
/// Most profiles in a slice: some milliseconds of the writer's time.
const SLICE_MAX: usize = 64;
/// A slice has so many profiles as are allowed in this part of a second: a low rate is spread evenly.
const SLICES_PER_SECOND: usize = 10;
/// A walk that finds no room goes on by a profile this often all the same: fresh exports alone may fill a queue for ever.
const TRICKLE: Duration = Duration::from_secs(1);
/// How often a queue that is full is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked at whether destinations take exports, and whether the store is well.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How many exports of a walk may stand in a queue at most, for each that may be in flight: enough to never run dry between two looks.
const STANDING_MAX: usize = 4;
/// The rate that is shown is that of so many slices.
const SHOWN_OVER: Duration = Duration::from_secs(10);

/// Who goes over all profiles.
pub(super) struct Walker {
    store: Store,
    pipeline: Pipeline,
    clock: Clock,
    scene: watch::Receiver<Arc<Scene>>,
    orders: mpsc::Receiver<Order>,
    shown: watch::Sender<Arc<Vec<Shown>>>,
    /// All that are owed, and the last that have ended; oldest first.
    walks: Vec<Arc<Walk>>,
    /// Why each that is owed has to wait.
    waiting: BTreeMap<WalkId, String>,
    /// What destinations said last, and when that was.
    said: BTreeMap<DestinationId, Result<State, NotDone>>,
    asked_at: Option<Timestamp>,
    rates: BTreeMap<DestinationId, Rate>,
    /// Those that got exports and have not been seen with room for more since.
    filled: BTreeSet<DestinationId>,
    last_slice: Timestamp,
    /// None is made before.
    next_slice: Timestamp,
    pace: Pace,
}

/// How fast profiles were visited lately.
#[derive(Default)]
struct Pace {
    slices: VecDeque<(Timestamp, u64)>,
}

impl Walker {
    /// A walker for what the store owes, and the handle on it.
    pub(super) fn new(
        walks: Vec<Walk>,
        store: Store,
        pipeline: Pipeline,
        clock: Clock,
        scene: watch::Receiver<Arc<Scene>>,
    ) -> (Self, Walks) {
        let (tell, orders) = mpsc::channel(ORDERS_MAX);
        let shown = watch::Sender::new(Arc::default());
        let handle = Walks { orders: tell, shown: shown.subscribe() };
        let (waiting, said, asked_at, rates, filled, last_slice, next_slice, pace) = Default::default();
        let walker = Self {
            store,
            pipeline,
            clock,
            scene,
            orders,
            shown,
            walks: walks.into_iter().map(Arc::new).collect(),
            waiting,
            said,
            asked_at,
            rates,
            filled,
            last_slice,
            next_slice,
            pace,
        };
        walker.show();
        (walker, handle)
    }

    /// Works until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let again = self.turn().await;
            self.show();
            let later = async {
                match again {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(order) = self.orders.recv() => self.obey(order).await,
                Ok(()) = self.scene.changed() => self.asked_at = None,
                () = later => {}
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        // An error means that nobody waits for the answer any more.
        match order {
            Order::Add(walks) => self.add(walks),
            Order::Start { errand, answer } => {
                let owed = self.walks.iter().find(|walk| walk.is_owed() && covers(walk, &errand)).map(|walk| walk.id);
                let started = match owed {
                    Some(id) => Ok(Err(id)),
                    None => {
                        let walk = Walk::new(errand, Cause::Person, self.clock.now());
                        let kept = self.store.owe(walk.clone()).await;
                        kept.map(|()| {
                            self.add(vec![walk.clone()]);
                            Ok(walk)
                        })
                    }
                };
                let _ = answer.send(started);
            }
            Order::Cancel { id, why, answer } => {
                let cancelled = self.store.cancel(id, why, self.clock.now()).await;
                if let Ok(Some(walk)) = &cancelled {
                    self.put(walk.clone());
                }
                let _ = answer.send(cancelled);
            }
        }
        self.show();
    }

    fn add(&mut self, walks: Vec<Walk>) {
        for walk in &walks {
            let destination = walk.errand.destination().map(tracing::field::display);
            info!(id = %walk.id, work = walk.errand.word(), destination, cause = %walk.cause, "all profiles are gone over");
        }
        self.walks.extend(walks.into_iter().map(Arc::new));
        self.walks.sort_by_key(|walk| walk.turn());
    }

    /// Puts a walk in the place of what was known of it.
    fn put(&mut self, walk: Walk) {
        let Some(known) = self.walks.iter_mut().find(|known| known.id == walk.id) else { return };
        let has_ended = known.is_owed() && !walk.is_owed();
        *known = Arc::new(walk);
        if has_ended {
            let Walk { id, errand, visited, made: exports, end, .. } = &**known;
            let destination = errand.destination().map(tracing::field::display);
            let cancelled = end.as_ref().and_then(|end| end.cancelled.as_deref());
            info!(%id, work = errand.word(), destination, visited, exports, cancelled, "going over all profiles has ended");
            self.filled.clear();
            // As the store does.
            let ended = self.walks.iter().rev().filter(|walk| !walk.is_owed());
            let beyond: Vec<WalkId> = ended.skip(ENDED_MAX).map(|walk| walk.id).collect();
            self.walks.retain(|walk| !beyond.contains(&walk.id));
        }
    }

    /// Makes a slice where one may be made; returns when to look again, if anything is owed.
    async fn turn(&mut self) -> Option<Timestamp> {
        self.waiting.clear();
        self.cancel_what_is_moot().await;
        if !self.owed().any(|_| true) {
            return None;
        }
        let now = self.clock.now();
        let (look_again, is_open) = (now + ASK_EVERY, self.store.room().open);
        if !self.store.is_healthy() || !is_open {
            let what = if is_open { "the store, which is being mended" } else { "room in the store or on its disk" };
            self.waiting = self.owed().map(|walk| (walk.id, what.to_owned())).collect();
            return Some(look_again);
        }
        self.ask(now).await;
        self.waiting = self.owed().filter_map(|walk| Some((walk.id, self.hindrance(&walk.errand)?))).collect();
        let Some(next) = self.next() else { return Some(look_again) };
        if now < self.next_slice && self.next_slice.since(now) <= TRICKLE {
            return Some(self.next_slice);
        }
        let room = self.room(now);
        self.filled.retain(|id| room.get(id) == Some(&0));
        if !self.filled.is_empty() && now.since(self.last_slice) < TRICKLE && now >= self.last_slice {
            return Some(now + LOOK_EVERY);
        }
        Some(self.slice(&next, room, now).await.unwrap_or(look_again))
    }

    fn owed(&self) -> impl Iterator<Item = &Arc<Walk>> {
        self.walks.iter().filter(|walk| walk.is_owed())
    }

    /// The oldest that need not wait.
    fn next(&self) -> Option<Arc<Walk>> {
        self.owed().find(|walk| !self.waiting.contains_key(&walk.id)).cloned()
    }

    /// Makes a slice; returns when the next one may be made, or nothing when it failed.
    async fn slice(
        &mut self,
        before: &Walk,
        room: BTreeMap<DestinationId, usize>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let id = before.id;
        let rate = self.scene.borrow().backfill_rate;
        let most = if self.filled.is_empty() { (rate / SLICES_PER_SECOND).clamp(1, SLICE_MAX) } else { 1 };
        let room = room.into_iter().map(|(id, room)| (id, room.max(1))).collect();
        let Step { walk, made } = match self.pipeline.walk_on(id, most, room, now).await {
            Ok(Some(step)) => step,
            Ok(None) => {
                warn!(%id, "what was to be gone over is not in the store any more");
                self.walks.retain(|walk| walk.id != id);
                return Some(now);
            }
            Err(error) => {
                warn!(%id, error = crate::chain(&error), "going over all profiles is interrupted");
                return None;
            }
        };
        let visited = walk.visited.saturating_sub(before.visited);
        self.pace.note(now, visited);
        self.last_slice = now;
        self.next_slice = now + Duration::from_secs(1).mul_f64(visited as f64 / rate as f64);
        metrics::backfill(&walk, &made);
        self.filled.extend(made.into_keys());
        self.put(walk);
        if before.began.is_none() && before.errand == Errand::Evaluate {
            self.end_those_that_it_does_too(before).await;
        }
        Some(self.next_slice)
    }

    /// How many exports each destination that is sent to has room for.
    fn room(&mut self, now: Timestamp) -> BTreeMap<DestinationId, usize> {
        let scene = self.scene.borrow().clone();
        let mut room = BTreeMap::new();
        for (id, served) in &scene.destinations {
            let Some(queue) = self.store.queue(id) else {
                // It is being called otherwise.
                room.insert(id.clone(), 1);
                continue;
            };
            let rate = self.rates.entry(id.clone()).or_default();
            rate.note(now, queue.left());
            // What waits for one that is held is not waited for by anybody.
            if let Some(Ok(State::Open | State::Throttled { .. })) = self.said.get(id) {
                let a_request = served.destination.batch.as_ref().map_or(1, |batch| batch.max_exports);
                let most = served.destination.max_in_flight * STANDING_MAX;
                room.insert(id.clone(), rate.room(queue.standing(), a_request, most));
            }
        }
        self.rates.retain(|id, _| scene.destinations.contains_key(id));
        room
    }

    /// Asks all destinations how they are, once in a while.
    async fn ask(&mut self, now: Timestamp) {
        if self.asked_at.is_some_and(|at| now >= at && now.since(at) < ASK_EVERY) {
            return;
        }
        self.asked_at = Some(now);
        let scene = self.scene.borrow_and_update().clone();
        self.said.clear();
        for (id, served) in &scene.destinations {
            self.said.insert(id.clone(), served.view().await.map(|view| view.state));
        }
    }

    /// What a walk has to wait for. An evaluation waits for nobody: what it makes for one that is held waits there.
    fn hindrance(&self, errand: &Errand) -> Option<String> {
        let id = errand.destination()?;
        match self.said.get(id) {
            Some(Ok(State::Open)) => None,
            Some(Ok(State::Throttled { until })) => Some(format!("{id}, which asked us to wait until {until}")),
            Some(Ok(State::Held { hold, .. })) => Some(format!("{id}, which is held: {}", hold.fault)),
            Some(Ok(State::Paused { .. })) => Some(format!("{id}, which is paused")),
            Some(Err(_)) | None => Some(format!("{id}, whose worker does not answer yet")),
        }
    }

    /// Ends backfills of what is not mapped any more.
    async fn cancel_what_is_moot(&mut self) {
        let scene = self.scene.borrow().clone();
        self.cancel(self.owed().filter_map(|walk| Some((walk.id, why_moot(walk, &scene)?))).collect()).await;
    }

    /// Ends evaluations that had not begun when this one did: it goes by the rules for which they are owed.
    async fn end_those_that_it_does_too(&mut self, begun: &Walk) {
        let is_done =
            |walk: &&Arc<Walk>| walk.errand == Errand::Evaluate && walk.began.is_none() && walk.id != begun.id;
        let why = format!("evaluation {} does it too", begun.id);
        self.cancel(self.owed().filter(is_done).map(|walk| (walk.id, why.clone())).collect()).await;
    }

    async fn cancel(&mut self, walks: Vec<(WalkId, String)>) {
        for (id, why) in walks {
            match self.store.cancel(id, why, self.clock.now()).await {
                Ok(Some(walk)) => self.put(walk),
                Ok(None) => self.walks.retain(|walk| walk.id != id),
                // It is tried again.
                Err(error) => warn!(%id, error = crate::chain(&error), "cannot cancel a backfill"),
            }
        }
    }

    fn show(&self) {
        let rate = self.pace.rate(self.clock.now());
        let running = self.next().map(|walk| walk.id);
        let shown = |walk: &Arc<Walk>| Shown {
            walk: walk.clone(),
            waits_for: self.waiting.get(&walk.id).cloned(),
            rate: if running == Some(walk.id) { rate } else { 0.0 },
        };
        let shown: Vec<Shown> = self.walks.iter().map(shown).collect();
        metrics::backfills_owed(&self.walks);
        self.shown.send_replace(Arc::new(shown));
    }
}

/// Whether a walk exports some of those whom this errand would export.
fn covers(walk: &Walk, errand: &Errand) -> bool {
    match errand {
        Errand::Evaluate => walk.errand == Errand::Evaluate,
        Errand::Backfill { destination, audiences } => walk.exports(destination, audiences),
    }
}

/// Why nothing would come of a walk any more.
fn why_moot(walk: &Walk, scene: &Scene) -> Option<String> {
    let Errand::Backfill { destination, audiences } = &walk.errand else { return None };
    match scene.destinations.get(destination) {
        None | Some(Served { draining: true, .. }) => Some(format!("{destination} is not configured any more")),
        Some(served) if !audiences.iter().any(|id| served.destination.mapping.audiences.contains(id)) => {
            Some(format!("none of its audiences is mapped to {destination} any more"))
        }
        Some(_) => None,
    }
}

impl Pace {
    fn note(&mut self, now: Timestamp, visited: u64) {
        self.slices.push_back((now, visited));
        while self.slices.front().is_some_and(|(at, _)| now.since(*at) > SHOWN_OVER || *at > now) {
            self.slices.pop_front();
        }
    }

    /// Profiles a second, over the latest slices.
    fn rate(&self, now: Timestamp) -> f64 {
        let recent = || self.slices.iter().filter(|(at, _)| now.since(*at) <= SHOWN_OVER);
        let Some((from, _)) = recent().next() else { return 0.0 };
        let visited: u64 = recent().map(|(_, visited)| visited).sum();
        visited as f64 / now.since(*from).as_secs_f64().max(1.0)
    }
}
