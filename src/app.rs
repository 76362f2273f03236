//! Builds everything from a [`Config`], starts it, and ends it in order: inlets first, then deliveries, then the store.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admin,
    clock::Clock,
    config::Config,
    delivery::{CONNECT_TIMEOUT, Worker},
    inlet,
    listen::Listener,
    pipeline::{Pipeline, Plan},
    store::{Store, StoreOwner},
};

/// A running appliance.
pub struct App {
    /// Where the inlets listen.
    pub inlet_address: SocketAddr,
    /// Where the admin interface listens.
    pub admin_address: SocketAddr,
    /// How long deliveries under way may take to end: connecting, and the longest answer that any destination is allowed.
    delivery_grace: Duration,
    stop_inlets: CancellationToken,
    stop_deliveries: CancellationToken,
    stop_admin: CancellationToken,
    inlets: JoinSet<()>,
    deliveries: JoinSet<()>,
    admin: JoinSet<()>,
    stored: Store,
    store: StoreOwner,
}

impl App {
    /// Opens the store, binds the listeners and starts all tasks. Once this returns, updates are taken.
    ///
    /// # Errors
    /// When the store cannot be opened or an address cannot be bound; nothing runs then.
    pub async fn start(config: Config, clock: Clock, figures: PrometheusHandle) -> anyhow::Result<Self> {
        let Config {
            state_dir,
            server_listen,
            admin_listen,
            admin_socket: _,
            log: _,
            store: keeping,
            inlets,
            audiences,
            destinations,
        } = config;
        let (version, state) = (env!("CARGO_PKG_VERSION"), state_dir.display().to_string());
        info!(
            version,
            state,
            inlets = inlets.len(),
            audiences = audiences.len(),
            destinations = destinations.len(),
            "starting"
        );
        let bound = |address| async move {
            Listener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
        };
        let (inlet_listener, admin_listener) = (bound(server_listen).await?, bound(admin_listen).await?);
        let (inlet_address, admin_address) = (inlet_listener.address()?, admin_listener.address()?);

        let ids: Vec<_> = destinations.iter().map(|destination| destination.id().clone()).collect();
        let store = tokio::task::spawn_blocking(move || StoreOwner::open(&state_dir, &ids, &keeping)).await??;
        let handle = store.store();
        // Before anything is in flight: it would have to be waited for.
        handle.finish_forgetting().await?;
        for (forgotten, counted) in handle.counters().await?.destinations {
            if counted.waiting > 0 && !destinations.iter().any(|destination| *destination.id() == forgotten) {
                warn!(destination = %forgotten, waiting = counted.waiting, "exports wait for a destination that is not configured");
            }
        }
        let plan = Plan::new(audiences, destinations.iter().map(|destination| destination.mapping.clone()).collect());

        let longest = destinations.iter().map(|destination| destination.timeout).max().unwrap_or_default();
        let (stop_inlets, stop_deliveries, stop_admin) = Default::default();
        let mut app = Self {
            inlet_address,
            admin_address,
            delivery_grace: CONNECT_TIMEOUT + longest,
            stop_inlets,
            stop_deliveries,
            stop_admin,
            inlets: JoinSet::new(),
            deliveries: JoinSet::new(),
            admin: JoinSet::new(),
            stored: handle.clone(),
            store,
        };
        for destination in destinations {
            let worker = Worker::new(destination, handle.clone(), clock.clone())?;
            app.deliveries.spawn(worker.run(app.stop_deliveries.clone()));
        }
        let admin_routes = admin::router(handle.clone(), clock.clone(), figures);
        app.admin.spawn(admin_listener.serve(admin_routes, app.stop_admin.clone()));
        let inlet_routes = inlet::router(inlets, Pipeline::new(plan, handle), clock);
        app.inlets.spawn(inlet_listener.serve(inlet_routes, app.stop_inlets.clone()));
        info!(inlets = %inlet_address, admin = %admin_address, "listening");
        Ok(app)
    }

    /// Returns when a task has ended that should run until [`App::stop`]: to accept and not send would be the worst of
    /// states, so the process should end then.
    pub async fn broken(&mut self) {
        tokio::select! {
            Some(_) = self.inlets.join_next() => {}
            Some(_) = self.deliveries.join_next() => {}
            Some(_) = self.admin.join_next() => {}
            () = self.stored.ended() => {}
        }
    }

    /// Ends in order: no new updates; deliveries under way end or are given back; all that was answered is on disk.
    pub async fn stop(mut self) {
        self.stop_inlets.cancel();
        join(&mut self.inlets).await;
        self.stop_deliveries.cancel();
        if tokio::time::timeout(self.delivery_grace, join(&mut self.deliveries)).await.is_err() {
            warn!("gave back deliveries that did not end in time");
            self.deliveries.shutdown().await;
        }
        self.stop_admin.cancel();
        join(&mut self.admin).await;
        let store = self.store;
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            warn!("the store did not close");
        }
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "a task ended badly");
        }
    }
}
