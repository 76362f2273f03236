//! Builds everything from a [`Config`], starts it, changes it while it runs, and ends it in order: inlets first, then
//! deliveries, then the store.

use std::{net::SocketAddr, path::PathBuf, pin::pin, sync::Arc};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    admin::{
        Admin,
        scene::{Reloaded, Removed, Request, Scene},
        trail::Trail,
        walks::Order,
    },
    audience::{AudienceId, RULE_NAMESPACE},
    clock::{Clock, Timestamp},
    config::{Config, Loaded, LogLevel, files::Files},
    destination::Mapping,
    inlet::{Entrance, Inlets},
    mark::Mark,
    pipeline::{Pipeline, Plan},
    store::{self, Renamed, Store, StoreError, StoreOwner},
    walk::known::{Known, Learned},
};

mod certificates;
mod deliveries;
mod doors;
mod pulse;
mod reload;
mod walks;

pub use pulse::patiently;

use deliveries::Deliveries;
use doors::{Bound, Doors};
use walks::Walker;

/// Requests that change the whole, and wait for the one before them.
const REQUESTS_MAX: usize = 16;

/// Changes the least important level of lines that are logged.
pub type SetLogLevel = Arc<dyn Fn(LogLevel) + Send + Sync>;

/// What an appliance is started with, beside its configuration.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the configuration is read anew.
    pub config_file: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Writes the metrics out.
    pub figures: PrometheusHandle,
    /// Changes what is logged.
    pub set_log_level: SetLogLevel,
}

/// A running appliance.
pub struct App {
    /// Where the inlets listen.
    pub inlet_address: SocketAddr,
    /// Where health and metrics are served.
    pub admin_address: SocketAddr,
    config: Config,
    around: Surroundings,
    started_at: Timestamp,
    plan: watch::Sender<Arc<Plan>>,
    inlets: watch::Sender<Arc<Inlets>>,
    scene: watch::Sender<Arc<Scene>>,
    requests: mpsc::Receiver<Request>,
    asking: mpsc::Sender<Request>,
    admin: Admin,
    doors: Doors,
    deliveries: Deliveries,
    pulse: JoinSet<()>,
    stop_pulse: CancellationToken,
    store: StoreOwner,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody wished it.
    AsTold,
    /// A task has ended that should run until [`App::stop`]: to accept and not send would be the worst of states.
    Broken,
}

impl App {
    /// Opens the store, binds the listeners and starts all tasks. Once this returns, updates are taken.
    ///
    /// # Errors
    /// When the store cannot be opened or an address cannot be bound; nothing runs then.
    pub async fn start(config: Config, around: Surroundings) -> anyhow::Result<Self> {
        let (version, state) = (env!("CARGO_PKG_VERSION"), config.state_dir.display().to_string());
        let Config { inlets: entrances, audiences, destinations, .. } = &config;
        let (entrances, audiences, destinations) = (entrances.len(), audiences.len(), destinations.len());
        info!(version, state, inlets = entrances, audiences, destinations, "starting");
        let was_cut_off = store::was_cut_off(&config.state_dir);
        let owner = open(&config).await?;
        let store = owner.store();
        // The state directory is there now, and the socket may be in it.
        let bound = Bound::new(None, &config).await?;
        let trail = Trail::open(&config.state_dir).context("cannot open the audit log")?;

        let mark = Arc::new(Mark::of(&config.state_dir, around.clock.clone()));
        let started_at = around.clock.now();
        rename(&config, &store).await?;
        let mut deliveries = Deliveries::new(store.clone(), around.clock.clone());
        deliveries.finish_forgetting();
        for destination in &config.destinations {
            let ready = deliveries.prepare(destination.clone())?;
            deliveries.start(ready);
        }
        let walks =
            learn_at_start(&store, &config, started_at).await.context("cannot keep what is known of mappings")?;
        let plan = watch::Sender::new(Arc::new(plan(&config, &walks.known)));
        let inlets = watch::Sender::new(Arc::new(inlets(&config)));
        let scene = watch::Sender::new(Arc::new(scene(&config, &around, &mut deliveries, [started_at; 2])));
        let pipeline = Pipeline::new(plan.subscribe(), store.clone());
        let (asking, requests) = mpsc::channel(REQUESTS_MAX);
        let (walker, walks) =
            Walker::new(walks.walks, store.clone(), pipeline.clone(), around.clock.clone(), scene.subscribe());
        let admin = Admin {
            store: store.clone(),
            clock: around.clock.clone(),
            figures: around.figures.clone(),
            scene: scene.subscribe(),
            pipeline: pipeline.clone(),
            walks,
            requests: asking.clone(),
            trail: Arc::new(trail),
            mark: mark.clone(),
        };
        let entrance = Entrance::new(inlets.subscribe(), pipeline, around.clock.clone());
        let (inlet_address, admin_address) = bound.addresses((config.server_listen, config.admin_listen));
        let mut doors = Doors::new(entrance, admin.clone());
        doors.serve(bound);
        let (mut pulse, stop_pulse) = (JoinSet::new(), CancellationToken::new());
        pulse.spawn(pulse::beat(scene.subscribe(), store.clone(), around.clock.clone(), stop_pulse.clone()));
        pulse.spawn(certificates::watch(scene.subscribe(), stop_pulse.clone()));
        pulse.spawn(mark.clone().keep(stop_pulse.clone()));
        pulse.spawn(walker.run(stop_pulse.clone()));
        let app = Self {
            inlet_address,
            admin_address,
            config,
            around,
            started_at,
            plan,
            inlets,
            scene,
            requests,
            asking,
            admin,
            doors,
            deliveries,
            pulse,
            stop_pulse,
            store: owner,
        };
        app.say_what_is_missing();
        app.say_what_is_left().await;
        if was_cut_off {
            count_beside(store);
        }
        info!(inlets = %inlet_address, admin = %admin_address, socket = %app.config.admin_socket.display(), "listening");
        pulse::tell(&[NotifyState::Ready]);
        Ok(app)
    }

    fn say_what_is_missing(&self) {
        if let Some(missing) = self.scene.borrow().missing() {
            warn!("{missing}");
        }
    }

    async fn say_what_is_left(&self) {
        let scene = self.scene.borrow().clone();
        let Ok(counters) = self.admin.store.counters().await else { return };
        for (gone, counted) in counters.destinations {
            if counted.waiting > 0 && !scene.destinations.contains_key(&gone) {
                warn!(destination = %gone, waiting = counted.waiting, "exports wait for a destination that is not configured");
            }
        }
    }

    /// Where changes are written down.
    pub fn trail(&self) -> Arc<Trail> {
        self.admin.trail.clone()
    }

    /// Where requests that change the whole go; answered while [`App::run`] runs.
    pub fn asking(&self) -> mpsc::Sender<Request> {
        self.asking.clone()
    }

    /// Does what is asked of the whole, until `stop` or until it is broken. What was begun is ended first.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Ended {
        let mut stop = pin!(stop);
        let store = self.admin.store.clone();
        loop {
            let request = tokio::select! {
                () = &mut stop => return Ended::AsTold,
                () = self.doors.broken() => return Ended::Broken,
                ended = self.deliveries.ended() => match ended {
                    deliveries::Ended::ByItself => return Ended::Broken,
                    deliveries::Ended::AsTold => {
                        let loaded_at = self.scene.borrow().loaded_at;
                        self.show(loaded_at);
                        continue;
                    }
                },
                Some(_) = self.pulse.join_next() => return Ended::Broken,
                () = store.ended() => return Ended::Broken,
                Some(request) = self.requests.recv() => request,
            };
            match request {
                Request::Reload { removed, answer } => {
                    pulse::reloading();
                    let reloaded = self.reload(removed).await;
                    pulse::tell(&[NotifyState::Ready]);
                    // An error means that nobody waits for the answer any more.
                    let _ = answer.send(reloaded);
                }
            }
        }
    }

    /// Reads the configuration anew and puts it to work, all of it or nothing.
    async fn reload(&mut self, removed: Removed) -> Result<Reloaded, Vec<String>> {
        let done = self.try_reload(removed).await;
        match &done {
            Ok(told) => info!(changes = ?told, "configuration reloaded"),
            Err(reasons) => {
                error!(reasons = reasons.join("; "), "reload refused; the configuration before stays in force");
            }
        }
        done
    }

    async fn try_reload(&mut self, removed: Removed) -> Result<Reloaded, Vec<String>> {
        let refused = |error: &dyn std::fmt::Display| vec![error.to_string()];
        let file = self.around.config_file.clone();
        let loaded = tokio::task::spawn_blocking(move || Files::read(&file)?.load());
        let loaded = loaded.await.map_err(|error| refused(&error))?.map_err(|error| match error.problems() {
            [] => refused(&crate::chain(&error)),
            problems => problems.iter().map(ToString::to_string).collect(),
        })?;
        warn_of(&loaded, self.around.clock.now());
        let config = loaded.config;
        let store = self.admin.store.clone();
        let counted = store.counters().await.map_err(|error| refused(&error))?.destinations;
        let changes = reload::changes(&self.config, &config, &counted, &removed)?;

        // Whatever can fail comes first.
        let bound =
            Bound::new(Some(&self.config), &config).await.map_err(|error| refused(&format_args!("{error:#}")))?;
        let mut ready = Vec::new();
        for destination in changes.started {
            store.introduce(destination.id().clone()).await.map_err(|error| refused(&error))?;
            ready.push(self.deliveries.prepare(destination).map_err(|error| refused(&crate::chain(&error)))?);
        }
        let renamed =
            self.deliveries.rename(changes.renamed).await.map_err(|error| refused(&format_args!("{error:#}")))?;

        let learned = match learn(&store, &config, self.around.clock.now()).await {
            Ok(learned) => learned,
            Err(error) => {
                self.deliveries.call_back(&renamed).await;
                return Err(refused(&error));
            }
        };

        ready.into_iter().for_each(|ready| self.deliveries.start(ready));
        renamed.into_iter().for_each(|(old, ready)| self.deliveries.take_over(ready, &old));
        for destination in changes.rotated {
            self.deliveries.rotate(destination).await;
        }
        self.plan.send_replace(Arc::new(plan(&config, &learned.known)));
        self.inlets.send_replace(Arc::new(inlets(&config)));
        // Updates are decided in the order in which the store is told: after this answer, no export is made by the plan before.
        let _ = store.counters().await;
        for id in &changes.drained {
            if let Err(error) = self.deliveries.drain(id) {
                warn!(destination = %id, error = crate::chain(&error), "what waits for it stays where it is");
            }
        }
        changes.discarded.iter().for_each(|id| self.deliveries.discard(id));
        (self.around.set_log_level)(config.log.level);
        store.set_limits(&config.store.limits);
        (self.inlet_address, self.admin_address) = bound.addresses((self.inlet_address, self.admin_address));
        self.doors.serve(bound);
        self.config = config;
        self.show(self.around.clock.now());
        // Not before: what is gone over by the plan before would have to be gone over again.
        if self.admin.walks.orders.send(Order::Add(learned.walks)).await.is_err() {
            warn!("nobody goes over all profiles; the next start does");
        }
        self.say_what_is_missing();
        Ok(changes.told)
    }

    /// Shows the admin side what runs now, by a configuration that is in force since then.
    fn show(&mut self, loaded_at: Timestamp) {
        let times = [self.started_at, loaded_at];
        self.scene.send_replace(Arc::new(scene(&self.config, &self.around, &mut self.deliveries, times)));
    }

    /// Ends in order: no new updates; deliveries under way end or are given back; all that was answered is on disk.
    pub async fn stop(self) {
        pulse::tell(&[NotifyState::Stopping]);
        let Self { mut doors, deliveries, mut pulse, stop_pulse, store, requests, .. } = self;
        // Who asks for a reload now is told that it is too late.
        drop(requests);
        doors.close_inlets().await;
        deliveries.stop().await;
        doors.close().await;
        stop_pulse.cancel();
        join(&mut pulse).await;
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            warn!("the store did not close");
        }
    }
}

/// Logs what is odd about a configuration that is used all the same. Of certificates that run out the workers tell.
pub fn warn_of(loaded: &Loaded, now: Timestamp) {
    let warnings = loaded.warnings(now);
    warnings.iter().filter(|finding| !finding.kind.is_about_time()).for_each(|finding| warn!("{finding}"));
}

/// Counts all that a process left that did not end in order, beside everything else. It ends by itself, or with the store.
fn count_beside(store: Store) {
    tokio::task::spawn_blocking(move || match store.count_all() {
        Ok(count) if count.differences.is_empty() => info!("everything adds up after an end that was not in order"),
        Ok(count) => error!(differences = count.differences.join("; "), "not everything adds up; see `postern audit`"),
        Err(error) => warn!(error = crate::chain(&error), "could not count whether everything adds up"),
    });
}

async fn open(config: &Config) -> anyhow::Result<StoreOwner> {
    let ids: Vec<_> = config.destinations.iter().map(|destination| destination.id().clone()).collect();
    let (dir, keeping) = (config.state_dir.clone(), config.store.clone());
    Ok(tokio::task::spawn_blocking(move || StoreOwner::open(&dir, &ids, &keeping)).await??)
}

/// Gives destinations what is known under the names that they had.
async fn rename(config: &Config, store: &Store) -> anyhow::Result<()> {
    for destination in &config.destinations {
        let Some(old) = &destination.renamed_from else { continue };
        match store.rename(old, destination.id()).await? {
            Renamed::Done => info!(destination = %destination.id(), %old, "destination is called otherwise now"),
            Renamed::Unknown => {}
            Renamed::Taken => {
                warn!(destination = %destination.id(), %old, "it has exports of its own, and does not take over those of its old name");
            }
        }
    }
    Ok(())
}

fn scene(
    config: &Config,
    around: &Surroundings,
    deliveries: &mut Deliveries,
    [started_at, loaded_at]: [Timestamp; 2],
) -> Scene {
    Scene {
        started_at,
        loaded_at,
        config_file: around.config_file.clone(),
        inlets: config.inlets.iter().map(|inlet| (inlet.name.clone(), inlet.dataset.clone())).collect(),
        audiences: config.audiences.clone(),
        destinations: deliveries.served(),
        backfill_rate: config.backfill_rate,
    }
}

fn inlets(config: &Config) -> Inlets {
    config.inlets.iter().map(|inlet| (inlet.name.clone(), inlet.clone())).collect()
}

fn plan(config: &Config, known: &Known) -> Plan {
    let mut mappings = mappings(config);
    known.date(&mut mappings);
    Plan::new(config.audiences.clone(), mappings)
}

fn mappings(config: &Config) -> Vec<Mapping> {
    config.destinations.iter().map(|destination| destination.mapping.clone()).collect()
}

/// Compares what the store knows of rules and mappings with the configuration, and keeps what follows. To be called before
/// updates are decided by that; the walks are made after it.
async fn learn(store: &Store, config: &Config, now: Timestamp) -> Result<Learned, StoreError> {
    let reader = store.clone();
    let members = tokio::task::spawn_blocking(move || reader.members()).await.map_err(|_| StoreError::Failed)??;
    let has_members = |id: &AudienceId| members.get(&format!("{RULE_NAMESPACE}:{id}")).is_some_and(|count| *count > 0);
    let (mut before, mut follow) = (store.learned().await?, Vec::new());
    for destination in &config.destinations {
        if let (Some(old), Some(before)) = (&destination.renamed_from, &mut before)
            && before.rename(old, destination.id())
        {
            follow.extend(store.walks().await?.iter().filter_map(|walk| walk.renamed(old, destination.id(), now)));
        }
    }
    let mut learned = Known::learn(before, &config.audiences, &mappings(config), has_members, now);
    learned.walks.extend(follow);
    store.learn(learned.known.clone(), learned.walks.clone()).await?;
    Ok(learned)
}

/// As [`learn`], while no update comes in; with the walks that were owed before.
async fn learn_at_start(store: &Store, config: &Config, now: Timestamp) -> Result<Learned, StoreError> {
    if store.learned().await?.is_none() && store.counters().await?.profiles == 0 {
        // There is nothing to go over.
        let Learned { known, .. } = Known::learn(None, &config.audiences, &mappings(config), |_| false, now);
        store.learn(known, Vec::new()).await?;
    }
    let learned = learn(store, config, now).await?;
    Ok(Learned { walks: store.walks().await?, ..learned })
}

async fn join(tasks: &mut JoinSet<impl Send + 'static>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "a task ended badly");
        }
    }
}
