//! One appliance, one receiver and many disks: lives that are logged, and checks of what a power cut leaves of them.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    blocklog::{BlockLog, Keep, save},
    disk::{Disk, empty_ext4, in_memory},
    history::{Events, History, Shape},
    support::{
        appliance::Appliance,
        load::{in_order, step},
        pki::Pki,
        receiver::{PATIENCE, Receiver},
        sender::update,
    },
};

/// Waits until no other trial is at work: the time that one takes is to be its own.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// How many cuts each variant makes.
pub fn cuts() -> usize {
    from_environment("POSTERN_CUTS").unwrap_or(25)
}

pub fn seed() -> u64 {
    from_environment("POSTERN_SEED").unwrap_or(0x5EED_9057)
}

/// Cuts into one life of a store. Then another one begins.
const CUTS_A_LIFE: usize = 50;

pub struct Trial {
    variant: &'static str,
    seed: u64,
    random: u64,
    cuts: usize,
    postern: Appliance,
    receiver: Receiver,
    directory: TempDir,
    started: Instant,
    tally: Tally,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct Tally {
    cuts: usize,
    lost: usize,
    unopenable: usize,
    wrong: usize,
}

/// A run of the appliance, or of one of its verbs, on a disk with a log.
pub struct Life {
    pub log: BlockLog,
    pub history: History,
    /// How long the log was when the appliance first listened.
    pub listened: usize,
    /// How long it was at the end.
    pub ended: usize,
}

/// A disk after a power cut, and what had happened outside by then.
pub struct Cut {
    pub disk: Vec<u8>,
    pub before: Events,
    said: String,
}

/// What is wrong with what a power cut left.
enum Fault {
    Unopenable(String),
    Lost(String),
    Wrong(String),
}

impl Trial {
    pub async fn new(variant: &'static str) -> Self {
        let alone = alone().await;
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
        std::fs::create_dir(&postern.state_dir).unwrap();
        let seed = seed();
        Self {
            variant,
            seed,
            // Another way through the same seed for each variant; never 0, which would stay 0.
            random: variant.bytes().fold(seed | 1, |random, byte| random.rotate_left(5) ^ u64::from(byte)) | 1,
            cuts: cuts(),
            postern,
            receiver,
            directory: in_memory(),
            started: Instant::now(),
            tally: Tally::default(),
            _alone: alone,
        }
    }

    /// How many cuts to make into each life, which may take part in no more than so many.
    pub fn lives(&self, cuts_a_life_max: usize) -> Vec<usize> {
        let most = cuts_a_life_max.min(CUTS_A_LIFE);
        (0..self.cuts).step_by(most).map(|done| most.min(self.cuts - done)).collect()
    }

    /// A life from an empty disk on, under load.
    pub async fn live(&mut self, mib: u64, shape: Shape) -> Life {
        let log = BlockLog::over(empty_ext4(mib));
        let history = History::default();
        let _told = Told(format!("{}, seed {:#x}: the life before the cuts", self.variant, self.seed));
        let disk = Disk::mount(&log.file(), &self.postern.state_dir);
        history.note(&self.receiver, &log.marker(), true);
        self.postern.start_again().await;
        let listened = log.len();
        history.post(&self.postern, &log.marker(), shape).await;
        self.end(log, disk, history, listened).await
    }

    /// A start on what a power cut left, until nothing waits.
    pub async fn recover(&mut self, cut: &Cut) -> Life {
        let log = BlockLog::over(cut.disk.clone());
        let history = History::default();
        let _told = Told(format!("the start after {}", cut.said));
        let disk = Disk::mount(&log.file(), &self.postern.state_dir);
        history.note(&self.receiver, &log.marker(), false);
        self.postern.start_again().await;
        let listened = log.len();
        self.postern.wait_for_metric(r#"postern_exports{destination="crm",state="waiting"}"#, 0.0).await;
        self.end(log, disk, history, listened).await
    }

    async fn end(&mut self, log: BlockLog, disk: Disk, history: History, listened: usize) -> Life {
        let ended = log.len();
        self.postern.kill();
        // What it sent last must not be taken for something that comes after the cut.
        self.receiver.close_connections().await;
        self.receiver.take_requests();
        drop(disk);
        Life { log, history, listened, ended }
    }

    /// A verb of the binary at work on what a power cut left.
    pub fn run_verb(&mut self, verb: &[&str], cut: &Cut) -> Life {
        let log = BlockLog::over(cut.disk.clone());
        let disk = Disk::mount(&log.file(), &self.postern.state_dir);
        let listened = log.len();
        let done = self.postern.command(verb).arg("--state-dir").arg(&self.postern.state_dir).output().unwrap();
        assert!(done.status.success(), "{verb:?} after {}: {}", cut.said, String::from_utf8_lossy(&done.stderr));
        let ended = log.len();
        drop(disk);
        Life { log, history: History::default(), listened, ended }
    }

    /// Cuts the power somewhere in these parts of a life that began after `earlier`.
    pub fn cut(&mut self, life: &Life, within: std::ops::RangeInclusive<usize>, earlier: &Events) -> Cut {
        let among = (within.end() - within.start() + 1) as u64;
        let at = within.start() + (step(&mut self.random) % among) as usize;
        self.cut_at(life, at, earlier)
    }

    /// Cuts the power when the log was so long.
    pub fn cut_at(&mut self, life: &Life, at: usize, earlier: &Events) -> Cut {
        let keep = Keep::ALL[(step(&mut self.random) % 4) as usize];
        let disk = life.log.cut(at, keep, &mut self.random);
        let before = earlier.clone().and(life.history.events().until(at));
        let Self { variant, seed, tally, .. } = self;
        let (number, listened, of) = (tally.cuts + 1, life.listened, life.ended);
        let told = before.acknowledged().count();
        let said = format!(
            "{variant}, seed {seed:#x}: cut {number}, at {at} of {of} writes ({listened} at the start), keeping {keep}, \
             {told} acknowledged"
        );
        Cut { disk, before, said }
    }

    /// Starts the appliance on what a power cut left, and checks all that is promised.
    pub async fn check(&mut self, cut: &Cut) {
        let _told = Told(cut.said.clone());
        self.tally.cuts += 1;
        save(&cut.disk, &self.image()).unwrap();
        let disk = Disk::mount(&self.image(), &self.postern.state_dir);
        let checked = self.start_and_compare(cut).await;
        drop(disk);
        self.receiver.close_connections().await;
        self.receiver.take_requests();
        let Err(fault) = checked else { return };
        let (count, what) = match fault {
            Fault::Unopenable(what) => (&mut self.tally.unopenable, what),
            Fault::Lost(what) => (&mut self.tally.lost, what),
            Fault::Wrong(what) => (&mut self.tally.wrong, what),
        };
        *count += 1;
        // The way of the writes is another one each time: with the image it can be looked into.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cut-{}-{}.img", self.seed, self.tally.cuts));
        save(&cut.disk, &kept).unwrap();
        println!("{}: {what}; the disk is kept in {}", cut.said, kept.display());
    }

    async fn start_and_compare(&mut self, cut: &Cut) -> Result<(), Fault> {
        self.receiver.answer_with(200);
        self.postern.try_start_again().await.map_err(Fault::Unopenable)?;
        // It takes updates again, and delivers them. No other check's version is repeated.
        let version = 1_000_000 + self.tally.cuts;
        self.postern.post("web", &update("after-the-cut", json!({ "plan": "gold", "version": version }))).await;
        let drained = self.wait_until_drained().await;
        let counts = self.counts().await;
        self.postern.kill();
        drained?;

        let after = self.receiver.requests();
        in_order(cut.before.received().map(|receipt| &receipt.request).chain(&after)).map_err(Fault::Wrong)?;
        let accepted = cut.before.received().filter(|receipt| receipt.accepted).map(|receipt| &receipt.request);
        let (delivered, _) = in_order(accepted.chain(&after)).map_err(Fault::Wrong)?;
        let lost: Vec<_> = cut.before.acknowledged().filter(|update| !delivered.contains(update)).collect();
        if !lost.is_empty() {
            return Err(Fault::Lost(format!("acknowledged and lost: {lost:?}")));
        }
        let expected = [delivered.len(), delivered.len(), delivered.len(), 0, 0, 0];
        if counts != expected.map(|count| count as f64) {
            return Err(Fault::Wrong(format!("counters are {counts:?} and should be {expected:?} of {COUNTED:?}")));
        }
        let blobs = std::fs::read_dir(self.postern.state_dir.join("store/blobs")).map_or(0, Iterator::count);
        if blobs > 0 {
            return Err(Fault::Wrong(format!("{blobs} files that are never synced")));
        }
        self.check_store()
    }

    async fn wait_until_drained(&self) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        while self.postern.metric(r#"postern_exports{destination="crm",state="waiting"}"#).await != Some(0.0) {
            if Instant::now() > until {
                return Err(Fault::Wrong(format!("exports wait for ever: {}", self.postern.admin("/metrics").await.1)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn counts(&self) -> [f64; 6] {
        let (_, text) = self.postern.admin("/metrics").await;
        let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        COUNTED.map(|series| value(series).unwrap_or_else(|| panic!("no {series} in {text}")))
    }

    fn check_store(&self) -> Result<(), Fault> {
        let state_dir = &self.postern.state_dir;
        let done = self.postern.command(&["store", "check", "--json", "--state-dir"]).arg(state_dir).output().unwrap();
        match done.status.success() {
            true => Ok(()),
            false => Err(Fault::Wrong(format!("store check: {}", String::from_utf8_lossy(&done.stdout)))),
        }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Says how it went, and fails if anything did.
    pub fn end_of_trial(self) {
        let Tally { cuts, lost, unopenable, wrong } = self.tally;
        let seconds = self.started.elapsed().as_secs_f64();
        let mut line =
            format!("{}, seed {:#x}: {cuts} cuts, {lost} lost, {unopenable} unopenable", self.variant, self.seed);
        let _ = write!(line, ", {wrong} wrong, {seconds:.1} s, {:.2} s a cut", seconds / cuts as f64);
        println!("{line}");
        assert_eq!(lost + unopenable + wrong, 0, "{line}");
    }
}

/// What must be the number of distinct updates that were delivered, and what must be 0.
const COUNTED: [&str; 6] = [
    r#"postern_updates_total{result="applied"}"#,
    r#"postern_exports_total{destination="crm",result="made"}"#,
    r#"postern_exports_total{destination="crm",result="delivered"}"#,
    r#"postern_exports_total{destination="crm",result="dead"}"#,
    r#"postern_exports_total{destination="crm",result="damaged"}"#,
    r#"postern_exports{destination="crm",state="dead"}"#,
];

/// Tells what was being done when a test panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed at {}", self.0);
        }
    }
}

/// A number, decimal or with 0x before it.
fn from_environment<T: TryFrom<u64>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.ok().and_then(|number| T::try_from(number).ok()).or_else(|| panic!("{name} is not a number: {text}"))
}
