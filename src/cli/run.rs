//! `postern run`: the appliance, until it is told to stop.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::Failure;
use crate::{
    app::App,
    clock::Clock,
    config::{Config, Log, LogFormat, LogLevel},
    metrics,
};

pub(super) fn run(config: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
    log(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(serve(config))?)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let figures = metrics::install().context("cannot collect metrics")?;
    let mut app = App::start(config, Clock::system(), figures).await?;
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
