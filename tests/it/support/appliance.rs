//! An appliance with a configuration of its own in a temporary directory: the real binary, or in this process by a clock
//! that the test turns.
//!
//! ```ignore
//! let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
//! let answer = postern.post("web", &update("ada", json!({"plan": "gold"}))).await;
//! postern.kill();
//! postern.start_again().await;
//!
//! let clock = clock();
//! let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
//! clock.advance(Duration::from_secs(15));
//! ```

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::PrometheusBuilder;
use postern::{
    app::{App, Surroundings},
    clock::Clock,
    config::Config,
    export::DeadLetter,
    store::StoreOwner,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    pki::{Pki, now},
    receiver::PATIENCE,
    sender::{Sender, http},
    set_up::SetUp,
};

/// An appliance; dropping it kills it.
pub struct Appliance {
    directory: TempDir,
    _tls_directory: Arc<TempDir>,
    pub state_dir: PathBuf,
    running: Option<Running>,
    http: reqwest::Client,
}

struct Running {
    what: What,
    inlets: String,
    admin: String,
}

enum What {
    Binary {
        child: Child,
        log: Log,
    },
    /// The recorder collects what this test's thread counts: a runtime of one thread, as tests have.
    Here {
        app: Box<App>,
        _recorder: LocalRecorderGuard<'static>,
    },
}

type Log = Arc<Mutex<Vec<Value>>>;

/// What became of a start.
#[must_use]
pub enum Start {
    Listening,
    /// With its log.
    Ended(ExitStatus, Vec<Value>),
    /// And was killed, with its log.
    Hangs(Vec<Value>),
}

/// A clock that stands at the present until it is turned: certificates are valid around then.
pub fn clock() -> Clock {
    Clock::manual(now())
}

impl Appliance {
    pub fn set_up(pki: &Pki) -> SetUp {
        SetUp::new(pki)
    }

    pub(super) fn new(directory: TempDir, tls_directory: Arc<TempDir>, state_dir: PathBuf) -> Self {
        Self { directory, _tls_directory: tls_directory, state_dir, running: None, http: http() }
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("postern.toml")
    }

    /// Starts the binary on what is there, and waits until it listens.
    pub async fn start_again(&mut self) {
        self.try_start_again().await.unwrap();
    }

    /// Starts the binary on what is there, and waits until it listens; an error with its log when it does not.
    pub async fn try_start_again(&mut self) -> Result<(), String> {
        match self.try_start_with(&mut self.run()).await {
            Start::Listening => Ok(()),
            Start::Ended(status, log) => Err(format!("{status}: {log:#?}")),
            Start::Hangs(log) => Err(format!("it neither listens nor ends: {log:#?}")),
        }
    }

    /// Starts the binary by this command, and waits until it listens.
    pub async fn start_with(&mut self, command: &mut Command) {
        assert!(matches!(self.try_start_with(command).await, Start::Listening));
    }

    /// Starts the binary by this command, and waits until it listens or has ended.
    pub async fn try_start_with(&mut self, command: &mut Command) -> Start {
        assert!(self.running.is_none(), "it runs already");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let parsed = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "raw": line }));
                kept.lock().unwrap().push(parsed);
            }
        });
        let until = Instant::now() + PATIENCE;
        loop {
            let listening = log.lock().unwrap().iter().find(|line| line["message"] == "listening").cloned();
            if let Some(listening) = listening {
                let address = |name: &str| format!("http://{}", listening[name].as_str().unwrap());
                let (inlets, admin) = (address("inlets"), address("admin"));
                self.running = Some(Running { what: What::Binary { child, log }, inlets, admin });
                return Start::Listening;
            }
            if let Some(status) = child.try_wait().unwrap() {
                reader.join().unwrap();
                return Start::Ended(status, std::mem::take(&mut log.lock().unwrap()));
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                return Start::Hangs(std::mem::take(&mut log.lock().unwrap()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs on what is there, in this process and by this clock.
    pub async fn start_by(&mut self, clock: &Clock) {
        assert!(self.running.is_none(), "it runs already");
        // Some kilobytes a test: the guard borrows it for as long as the test's thread lives.
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let figures = recorder.handle();
        let _recorder = metrics::set_default_local_recorder(recorder);
        let config = Config::load(&self.config_file()).unwrap();
        let around = Surroundings {
            config_file: self.config_file(),
            clock: clock.clone(),
            figures,
            set_log_level: Arc::new(|_| {}),
        };
        let app = Box::new(patiently(async || App::start(config.clone(), around.clone()).await).await);
        let (inlets, admin) = (format!("http://{}", app.inlet_address), format!("http://{}", app.admin_address));
        self.running = Some(Running { what: What::Here { app, _recorder }, inlets, admin });
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let What::Binary { mut child, .. } = self.running.take().unwrap().what else {
            panic!("only the binary can be killed")
        };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&self) {
        let What::Binary { child, .. } = &self.running().what else { panic!("only the binary gets signals") };
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// An orderly end, and how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        if let What::Binary { .. } = &self.running().what {
            self.terminate();
        }
        match self.running.take().unwrap().what {
            What::Binary { mut child, .. } => tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap(),
            What::Here { app, _recorder } => {
                app.stop().await;
                ExitStatus::default()
            }
        }
    }

    /// SIGTERM; how it ended, or none when it had to be killed.
    pub async fn try_stop(&mut self) -> Option<ExitStatus> {
        self.terminate();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.ended() {
                self.running = None;
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.kill();
        None
    }

    /// How the binary ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let What::Binary { child, .. } = &mut self.running.as_mut()?.what else { return None };
        child.try_wait().unwrap()
    }

    /// Whether the binary ends within a second: its sockets are closed before it is gone.
    pub async fn has_ended_soon(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(1);
        while self.ended().is_none() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.ended().is_some()
    }

    /// How the binary, which has ended, did so, and its log.
    pub fn take_ended(&mut self) -> (ExitStatus, Vec<Value>) {
        let status = self.ended().expect("it has ended");
        let log = self.log();
        self.running = None;
        (status, log)
    }

    /// The binary's process.
    pub fn process(&self) -> u32 {
        let What::Binary { child, .. } = &self.running().what else { panic!("it runs in this process") };
        child.id()
    }

    /// `postern run` on what is there.
    pub fn run(&self) -> Command {
        let mut run = command(&["run", "--config"]);
        run.arg(self.config_file());
        run
    }

    /// Any verb of the binary.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(arguments)
    }

    /// A sender that outlives a restart only to find nobody there.
    pub fn sender(&self) -> Sender {
        Sender::new(self.http.clone(), self.inlets())
    }

    /// Posts a JSON body; the status and the answer, or none when there is no answer.
    pub async fn try_post(&self, inlet: &str, body: &Value) -> Option<(u16, Value)> {
        self.sender().try_post(inlet, body).await
    }

    /// Posts a JSON body that is accepted.
    pub async fn post(&self, inlet: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(inlet, body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Where the inlets are.
    pub fn inlets(&self) -> String {
        self.running().inlets.clone()
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Where a path of the admin interface is.
    pub fn admin_at(&self, path: &str) -> String {
        format!("{}{path}", self.running().admin)
    }

    /// A path of the admin interface: status and text.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let response = self.http.get(self.admin_at(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The value of a metric, by its name and labels as Prometheus writes them. The figures come from the store's writer,
    /// so all that was settled before is on disk then.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.admin("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))?;
        value.parse().ok()
    }

    /// What `/readyz` answers, if it does.
    pub async fn readiness(&self) -> Option<u16> {
        let response = self.http.get(self.admin_at("/readyz")).send().await.ok()?;
        Some(response.status().as_u16())
    }

    /// Waits until `/readyz` answers so.
    pub async fn wait_for_readiness(&self, status: u16) {
        let until = Instant::now() + PATIENCE;
        while self.readiness().await != Some(status) {
            assert!(Instant::now() < until, "never {status}: {}", self.admin("/metrics").await.1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether no export of a destination waits any more, within a time.
    pub async fn drains(&self, destination: &str, within: Duration) -> bool {
        let (waiting, until) = (waiting(destination), Instant::now() + within);
        while self.metric(&waiting).await != Some(0.0) {
            if Instant::now() > until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// Waits until a metric has a value.
    pub async fn wait_for_metric(&self, series: &str, wanted: f64) {
        self.wait_for_metric_while(series, wanted, || {}).await;
    }

    /// Turns the clock, a second at a time, until a metric has a value.
    pub async fn turn_until_metric(&self, clock: &Clock, series: &str, wanted: f64) {
        self.wait_for_metric_while(series, wanted, || clock.advance(Duration::from_secs(1))).await;
    }

    async fn wait_for_metric_while(&self, series: &str, wanted: f64, meanwhile: impl Fn()) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.metric(series).await;
            if found == Some(wanted) {
                return;
            }
            assert!(Instant::now() < until, "{series} is {found:?}, not {wanted}: {}", self.admin("/metrics").await.1);
            meanwhile();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Turns the clock until so many exports of a destination are delivered.
    pub async fn turn_until_delivered(&self, clock: &Clock, destination: &str, count: u32) {
        let series = format!(r#"postern_exports_total{{destination="{destination}",result="delivered"}}"#);
        self.turn_until_metric(clock, &series, count.into()).await;
    }

    /// Turns the clock until so many more POSTs, charged to nobody, have failed.
    pub async fn turn_until_probed(&self, clock: &Clock, destination: &str, count: u32) {
        let (before, until) = (self.trials(destination).await, Instant::now() + PATIENCE);
        while self.trials(destination).await < before + count {
            assert!(Instant::now() < until, "{destination} is not probed");
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many exports of a destination are waiting, delivered and dead.
    pub async fn wait_for_exports(&self, destination: &str, [waiting, delivered, dead]: [u32; 3]) {
        let total = |result: &str| format!(r#"postern_exports_total{{destination="{destination}",result="{result}"}}"#);
        self.wait_for_metric(&total("delivered"), delivered.into()).await;
        self.wait_for_metric(&total("dead"), dead.into()).await;
        self.wait_for_metric(&self::waiting(destination), waiting.into()).await;
    }

    /// Waits until so many POSTs met this outcome, paid for by `charge` (`attempt` or `trial`), and are settled.
    pub async fn wait_for_posts(&self, destination: &str, outcome: &str, charge: &str, count: u32) {
        self.wait_for_metric(&posts(destination, outcome, charge), count.into()).await;
        // What was counted before is settled on disk once the writer has answered again.
        self.metric("postern_store_live_bytes").await;
    }

    /// How many POSTs failed and were charged to their exports.
    pub async fn charged_failures(&self, destination: &str) -> u32 {
        self.failures(destination, r#"charge="attempt""#).await
    }

    /// How many failed and were charged to nobody.
    pub async fn trials(&self, destination: &str) -> u32 {
        self.failures(destination, r#"charge="trial""#).await
    }

    async fn failures(&self, destination: &str, charge: &str) -> u32 {
        let (_, text) = self.admin("/metrics").await;
        let of_it = format!(r#"postern_posts_total{{destination="{destination}","#);
        let failed =
            |line: &&str| line.starts_with(&of_it) && line.contains(charge) && !line.contains(r#"="delivered""#);
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
        text.lines().filter(failed).map(count).sum()
    }

    /// Waits until a destination is held for this reason.
    pub async fn wait_for_hold(&self, destination: &str, reason: &str) {
        let series = format!(r#"postern_destination_hold_reason{{destination="{destination}",reason="{reason}"}}"#);
        self.wait_for_metric(&series, 1.0).await;
        self.wait_for_metric(&held(destination), 1.0).await;
    }

    /// Waits for a line of the log.
    pub async fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(self.running().log(), wanted).await
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Value> {
        self.running().log().lock().unwrap().clone()
    }

    /// The dead letters of a destination, oldest first, once it has stopped.
    pub async fn dead_letters(&self, destination: &str) -> Vec<DeadLetter> {
        let owner = patiently(async || StoreOwner::open_existing(&self.state_dir)).await;
        let letters = owner.store().dead_letters(&destination.parse().unwrap(), 0, usize::MAX);
        owner.close();
        letters.unwrap().into_iter().map(|(_, letter)| letter.unwrap()).collect()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

impl Running {
    fn log(&self) -> &Log {
        match &self.what {
            What::Binary { log, .. } => log,
            What::Here { .. } => panic!("only the binary has a log"),
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(Running { what: What::Binary { mut child, log }, .. }) = self.running.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                log.lock().unwrap().iter().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// The binary with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// The series of POSTs.
pub fn posts(destination: &str, outcome: &str, charge: &str) -> String {
    format!(r#"postern_posts_total{{destination="{destination}",outcome="{outcome}",charge="{charge}"}}"#)
}

/// The series of exports that wait.
pub fn waiting(destination: &str) -> String {
    format!(r#"postern_exports{{destination="{destination}",state="waiting"}}"#)
}

/// The series that says whether a destination is held.
pub fn held(destination: &str) -> String {
    format!(r#"postern_destination_held{{destination="{destination}"}}"#)
}

/// Opens a store that this process had open. A process that another test is about to start has our files, and with them
/// our locks, until it becomes the binary.
async fn patiently<T, E: std::fmt::Debug>(open: impl AsyncFn() -> Result<T, E>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match open().await {
            Ok(opened) => return opened,
            Err(error) if Instant::now() > until => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn wait_for(log: &Mutex<Vec<Value>>, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = log.lock().unwrap().iter().find(|line| wanted(line)) {
            return line.clone();
        }
        assert!(Instant::now() < until, "the log has no such line: {:#?}", log.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
