//! `postern run`: the appliance, until it is told to stop.

use std::{
    io::{self, IsTerminal},
    path::Path,
    pin::pin,
    sync::Arc,
};

use anyhow::{Context, ensure};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{error, info, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt};

use super::{Failure, child};
use crate::{
    admin::scene::{Removed, Request},
    app::{self, App, Ended, SetLogLevel, Surroundings},
    clock::Clock,
    config::{Config, Log, LogFormat, LogLevel, files::Files},
    listen::Caller,
    metrics,
    store::{self, StoreError},
};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let loaded = Files::read(file)?.load()?;
    let set_log_level = log(loaded.config.log);
    app::warn_of(&loaded, Clock::system().now());
    let config = loaded.config;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(file, config, set_log_level));
    // Somebody's long read of the store is not waited for.
    runtime.shutdown_background();
    Ok(ended?)
}

async fn serve(file: &Path, config: Config, set_log_level: SetLogLevel) -> anyhow::Result<()> {
    let [mut terminate, mut interrupt, mut hangup] =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let figures = metrics::install().context("cannot collect metrics")?;
    let config_file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let around = Surroundings { config_file, clock: Clock::system(), figures, set_log_level };
    let mut stop = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let mut app = tokio::select! {
        started = app::patiently(start_or_salvage(config, around)) => started?,
        () = &mut stop => {
            // As safe as being killed, which may happen at any time.
            info!("stopped while starting");
            return Ok(());
        }
    };
    let (asking, trail) = (app.asking(), app.trail());
    let reload = async {
        while hangup.recv().await.is_some() {
            let (answer, _told_by_the_log) = oneshot::channel();
            let trail = trail.clone();
            let note = move || trail.note(Caller::ourselves(), "reload", "SIGHUP", Clock::system().now());
            // It cannot fail.
            let _ = tokio::task::spawn_blocking(note).await;
            // An error means that we are stopping.
            let _ = asking.send(Request::Reload { removed: Removed::default(), answer }).await;
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = app.run(stop) => ended,
        ended = reload => ended,
    };
    info!("stopping");
    app.stop().await;
    ensure!(ended == Ended::AsTold, "a task ended unexpectedly; all that was accepted is on disk, start again");
    info!("stopped");
    Ok(())
}

async fn start_or_salvage(config: Config, around: Surroundings) -> anyhow::Result<App> {
    // A child opens the store first, should whoever had it last have been cut off.
    let dir = config.state_dir.clone();
    let tried =
        tokio::task::spawn_blocking(move || if store::was_cut_off(&dir) { child::try_open(&dir) } else { Ok(()) });
    let started = match tried.await? {
        Ok(()) => App::start(config.clone(), around.clone()).await,
        Err(error) => Err(error),
    };
    let error = match started {
        Err(error) if config.store.salvages && is_damaged(&error) => error,
        started => return started,
    };
    error!(error = format!("{error:#}"), "salvaging the store");
    let dir = config.state_dir.clone();
    let salvaged = tokio::task::spawn_blocking(move || child::salvage_or_begin_afresh(&dir, false)).await?;
    if let Some(kept) = salvaged.map_err(Failure::into_error)? {
        error!(kept = %kept.display(), "nothing of the store can be read; an empty one takes its place");
    }
    App::start(config, around).await
}

fn is_damaged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Damaged { .. }))
}

/// Writes our own log lines to stderr, and returns what changes their level. Those of libraries stay out: nobody has
/// promised what is in them.
fn log(Log { level, format }: Log) -> SetLogLevel {
    let (filter, handle) = reload::Layer::new(ours(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let ours_only = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => ours_only.with(lines.with_target(false).with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => ours_only.with(lines.json().flatten_event(true)).init(),
    }
    Arc::new(move |level| {
        // An error means that nothing is logged any more.
        let _ = handle.reload(ours(level));
    })
}

fn ours(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_target("postern", level)
}
