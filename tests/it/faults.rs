//! Faults of the disk: whichever storage call fails, nothing acknowledged is lost and nobody waits for ever.
//!
//! One call of a kind fails, the first, the second and so on, under the real binary on a new store and on one that was
//! killed with exports waiting. `POSTERN_FAULTS` says how many of the first 500 calls of each kind, `POSTERN_FAULT_SEED`
//! which: `POSTERN_FAULTS=1000 cargo test --test it faults -- --ignored --nocapture`. `POSTERN_FAULT="torn write 17 Used"` with
//! the same number is that one alone, `POSTERN_FAULT=sync` all that begin so.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    appliance::{Appliance, Start},
    copy_directory,
    faulty_disk::{Call, EIO, ENOSPC, FaultyDisk, How},
    ledger::Ledger,
    load::step,
    number_from,
    pki::Pki,
    receiver::{PATIENCE, Receiver},
};

const FAULTS: [(&str, Call, How); 11] = [
    ("write EIO", Call::Write, How::Error(EIO)),
    ("write ENOSPC", Call::Write, How::Error(ENOSPC)),
    ("short write", Call::Write, How::Short),
    ("torn write", Call::Write, How::Torn(EIO)),
    ("torn write ENOSPC", Call::Write, How::Torn(ENOSPC)),
    ("sync EIO", Call::Sync, How::Error(EIO)),
    ("sync ENOSPC", Call::Sync, How::Error(ENOSPC)),
    ("open EIO", Call::Open, How::Error(EIO)),
    ("name EIO", Call::Name, How::Error(EIO)),
    ("name ENOSPC", Call::Name, How::Error(ENOSPC)),
    ("bad block", Call::Read, How::Error(EIO)),
];

const CALLS_MAX: u64 = 500;
const SEED: u64 = 0x5EED_9057;
/// As many updates, one after the other, make more writes and syncs than are ever told to fail.
const UPDATES: usize = 300;
/// And then so many more, to see what the fault did.
const UPDATES_AFTER: usize = 5;

/// How an appliance took a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    /// No update was refused, and it stayed ready.
    Survived,
    /// It refused updates, or was not ready, and came back by itself.
    Recovered,
    /// It did not start, and said why.
    RefusedToStart,
    /// It ended while it ran, and said why.
    Exited,
    /// The call never came.
    NotReached,
}

#[tokio::test]
#[ignore = "some minutes of starts"]
async fn nothing_acknowledged_is_lost_whichever_storage_call_fails() {
    let used = Used::make().await;
    let points = points(&used).await;
    let (todo, started) = (RefCell::new(points.into_iter()), Instant::now());
    let (taken, wrong) = (RefCell::new(BTreeMap::<_, BTreeMap<_, usize>>::new()), RefCell::new(Vec::new()));
    let work = async || {
        while let Some(point) = { todo.borrow_mut().next() } {
            match take(&used, point).await {
                Ok(class) => *taken.borrow_mut().entry(point.name).or_default().entry(class).or_default() += 1,
                Err(error) => {
                    println!("{point}: {error}");
                    wrong.borrow_mut().push(format!("{point}: {}", error.lines().next().unwrap_or_default()));
                }
            }
        }
    };
    tokio::join!(work(), work(), work());

    for (name, classes) in taken.take() {
        println!("{name}: {classes:?}");
    }
    let wrong = wrong.take();
    println!("{} wrong, in {:?}", wrong.len(), started.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One call that fails.
#[derive(Clone, Copy, Debug)]
struct Point {
    name: &'static str,
    call: Call,
    how: How,
    number: u64,
    store: Beginning,
}

/// What an appliance starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    New,
    Used,
}

/// The calls that are made at all when nothing fails, up to a number, or a choice of them.
async fn points(used: &Used) -> Vec<Point> {
    let (each, seed) = (number_from("POSTERN_FAULTS", 20), number_from("POSTERN_FAULT_SEED", SEED));
    println!("seed {seed:#x}, {each} calls of each kind at most");
    let (mut random, mut points) = (seed, Vec::new());
    let [new, of_used] = [untouched(used, Beginning::New).await, untouched(used, Beginning::Used).await];
    for (name, call, how) in FAULTS {
        let of = |disk: &FaultyDisk, store| (1..=disk.count(call).min(CALLS_MAX)).map(move |number| (store, number));
        let mut calls: Vec<_> = of(&new, Beginning::New).chain(of(&of_used, Beginning::Used)).collect();
        println!("{name}: {} calls are within reach", calls.len());
        while calls.len() as u64 > each {
            calls.swap_remove((step(&mut random) % calls.len() as u64) as usize);
        }
        points.extend(calls.into_iter().map(|(store, number)| Point { name, call, how, number, store }));
    }
    let only = std::env::var("POSTERN_FAULT").unwrap_or_default();
    points.retain(|point| point.to_string().starts_with(&only));
    points
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, number, store, .. } = self;
        write!(f, "{name} {number} {store:?}")
    }
}

/// The disk after all that a test does when nothing fails: it has counted the calls.
async fn untouched(used: &Used, store: Beginning) -> FaultyDisk {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    let mut ledger = used.begin(store, &postern);
    let disk = FaultyDisk::below(&postern.state_dir);
    assert_eq!(endure(&mut postern, &disk, &mut ledger).await, Ok(Taken::NotReached));
    assert!(postern.try_stop().await.is_some());
    disk
}

/// Lets one call fail, and looks at everything afterwards. The error says what must not be.
async fn take(used: &Used, point: Point) -> Result<Taken, String> {
    let Point { name: _, call, how, number, store } = point;
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    let mut ledger = used.begin(store, &postern);
    let disk = FaultyDisk::below(&postern.state_dir);
    disk.fail(call, number..=number, how);

    let taken = endure(&mut postern, &disk, &mut ledger).await?;
    if matches!(taken, Taken::Survived | Taken::Recovered | Taken::NotReached) {
        let status = postern.try_stop().await.ok_or("it did not stop")?;
        if !status.success() {
            return Err(format!("it stopped with {status}"));
        }
    }

    disk.heal();
    match postern.try_start_with(&mut postern.run()).await {
        Start::Listening => {}
        Start::Ended(status, log) => return Err(format!("{taken:?}, and on a good disk: {status}\n{log:#?}")),
        Start::Hangs(log) => return Err(format!("{taken:?}, and on a good disk it hangs\n{log:#?}")),
    }
    if !postern.drains("crm", PATIENCE).await {
        return Err(format!("{taken:?}, and then exports stay: {}", postern.admin("/metrics").await.1));
    }
    ledger.all_of(&receiver.requests()).map_err(|wrong| format!("{taken:?}: {wrong}"))?;
    Ok(taken)
}

/// Starts on the faulty disk and posts until the fault has shown itself.
async fn endure(postern: &mut Appliance, disk: &FaultyDisk, ledger: &mut Ledger) -> Result<Taken, String> {
    match postern.try_start_with(disk.under(&mut postern.run())).await {
        Start::Listening => {}
        Start::Ended(status, log) => return said_why(status, &log).map(|()| Taken::RefusedToStart),
        Start::Hangs(log) => return Err(format!("the start hangs\n{log:#?}")),
    }
    let (mut taken, mut after) = (Taken::Survived, 0);
    for turn in 0..UPDATES {
        after += usize::from(disk.failed() > 0);
        if after > UPDATES_AFTER {
            break;
        }
        match post(postern, ledger, turn).await? {
            Some(200) => {}
            Some(_) => {
                taken = Taken::Recovered;
                break;
            }
            None => return exited(postern),
        }
    }
    if disk.failed() == 0 {
        return Ok(Taken::NotReached);
    }
    if postern.ended().is_some() {
        return exited(postern);
    }
    let (until, mut taken_since) = (Instant::now() + PATIENCE, 0);
    while taken_since < UPDATES_AFTER {
        let kept = post(postern, ledger, taken_since).await?;
        taken_since = if kept == Some(200) && postern.readiness().await == Some(200) { taken_since + 1 } else { 0 };
        if taken_since == 0 {
            taken = Taken::Recovered;
            if postern.ended().is_some() {
                return exited(postern);
            }
            if Instant::now() > until {
                return Err(format!("it stays red\n{:#?}", worries(&postern.log())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let panicked = postern.log().iter().any(|line| line.to_string().contains("panicked"));
    if panicked && taken == Taken::Survived {
        return Err(format!("a panic, and nobody was told\n{:#?}", worries(&postern.log())));
    }
    Ok(taken)
}

/// Posts the next version of one of eight people: the status, or none if the binary has ended. The error is silence.
async fn post(postern: &mut Appliance, ledger: &mut Ledger, turn: usize) -> Result<Option<u16>, String> {
    let person = format!("p{}", turn % 8);
    let (version, update) = ledger.next(&person);
    match postern.try_post("web", &update).await {
        Some((200, _)) => {
            ledger.acknowledge(&person, version);
            Ok(Some(200))
        }
        Some((503, answer)) if ["disk_full", "store_failed"].map(Value::from).contains(&answer["report"]["reason"]) => {
            Ok(Some(503))
        }
        Some((status, answer)) => Err(format!("an update is answered {status} {answer}")),
        None if postern.has_ended_soon().await => Ok(None),
        None => Err(format!("an update is not answered\n{:#?}", worries(&postern.log()))),
    }
}

fn exited(postern: &mut Appliance) -> Result<Taken, String> {
    let (status, log) = postern.take_ended();
    said_why(status, &log).map(|()| Taken::Exited)
}

/// An end is clear when it has an exit code of ours and its last line is a sentence, not a panic.
fn said_why(status: ExitStatus, log: &[Value]) -> Result<(), String> {
    let last = log.last().map(Value::to_string).unwrap_or_default();
    match status.code() {
        Some(1) if !last.is_empty() && !last.contains("panicked") && !last.contains("RUST_BACKTRACE") => Ok(()),
        _ => Err(format!("it ended with {status} and the words {last}\n{:#?}", worries(log))),
    }
}

fn worries(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| line["level"] != "DEBUG" && line["level"] != "INFO").collect()
}

/// A store that was killed with exports waiting.
struct Used {
    directory: tempfile::TempDir,
    ledger: Ledger,
}

impl Used {
    async fn make() -> Self {
        let pki = Pki::new();
        let mut receiver = Receiver::start(&pki).await;
        receiver.stop().await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
        let mut ledger = Ledger::default();
        for turn in 0..40 {
            assert_eq!(post(&mut postern, &mut ledger, turn).await, Ok(Some(200)));
        }
        postern.kill();
        let used = Self { directory: tempfile::tempdir().unwrap(), ledger };
        copy_directory(&postern.state_dir, &used.directory.path().join("state"));
        used
    }

    /// Lets an appliance begin with it, or with nothing; what was acknowledged before.
    fn begin(&self, store: Beginning, postern: &Appliance) -> Ledger {
        match store {
            Beginning::New => Ledger::default(),
            Beginning::Used => {
                copy_directory(&self.directory.path().join("state"), &postern.state_dir);
                self.ledger.clone()
            }
        }
    }
}
