//! `postern run`: the appliance, until it is told to stop.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Context, ensure};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::{Failure, child};
use crate::{
    app::App,
    clock::Clock,
    config::{Config, Log, LogFormat, LogLevel},
    metrics,
    store::{self, StoreError},
};

pub(super) fn run(config: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
    log(config.log);
    if let Some(missing) = missing(&config) {
        warn!("{missing}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(serve(config))?)
}

/// What a configuration needs before anything goes through: a fresh package has nothing of it, and starts all the same.
fn missing(config: &Config) -> Option<&'static str> {
    match (config.inlets.is_empty(), config.destinations.is_empty()) {
        (true, true) => Some("no inlet and no destination is configured; `postern init` and postern.toml(5) help"),
        (true, false) => Some("no inlet is configured, so no update is taken; `postern init` writes one"),
        (false, true) => Some("no destination is configured, so nothing is sent; postern.toml(5) has an example"),
        (false, false) => None,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let figures = metrics::install().context("cannot collect metrics")?;
    let mut app = match start(&config, &figures).await {
        Err(error) if config.store.salvages && is_damaged(&error) => {
            error!(error = format!("{error:#}"), "salvaging the store");
            let dir = config.state_dir.clone();
            let salvaged = tokio::task::spawn_blocking(move || child::salvage_or_begin_afresh(&dir, false)).await?;
            if let Some(kept) = salvaged.map_err(Failure::into_error)? {
                error!(kept = %kept.display(), "nothing of the store can be read; an empty one takes its place");
            }
            start(&config, &figures).await?
        }
        started => started?,
    };
    let broken = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = app.broken() => true,
    };
    info!("stopping");
    app.stop().await;
    ensure!(!broken, "a task ended unexpectedly; all that was accepted is on disk, start again");
    info!("stopped");
    Ok(())
}

/// Starts on a store that a child has opened first, should whoever had it last have been cut off.
async fn start(config: &Config, figures: &PrometheusHandle) -> anyhow::Result<App> {
    let dir = config.state_dir.clone();
    tokio::task::spawn_blocking(move || if store::was_cut_off(&dir) { child::try_open(&dir) } else { Ok(()) })
        .await??;
    App::start(config.clone(), Clock::system(), figures.clone()).await
}

fn is_damaged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Damaged { .. }))
}

/// Writes our own log lines to stderr. Those of libraries stay out: nobody has promised what is in them.
fn log(Log { level, format }: Log) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let ours = tracing_subscriber::registry().with(Targets::new().with_target("postern", level));
    match format {
        LogFormat::Text => ours.with(lines.with_target(false).with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => ours.with(lines.json().flatten_event(true)).init(),
    }
}
