//! Damage: one flipped bit or a cut tail in the files of a stopped store. It starts with the damaged records put aside, or it
//! is refused and salvage makes it start; in no case does the receiver get what was never made, or an older version.
//!
//! `POSTERN_DAMAGES=500 cargo test --test it damage:: -- --ignored --nocapture`; `POSTERN_DAMAGE_SEED` says where. What went wrong is kept below `target/tmp`, as it was
//! before the start.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fs,
    ops::AddAssign,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{
    appliance::{Appliance, Start, command},
    copy_directory,
    ledger::Ledger,
    number_from,
    pki::Pki,
    receiver::{PATIENCE, Receiver, Request},
    rot::Rot,
};

const SEED: u64 = 0x5EED_9057;
const DELIVERED: usize = 60;
const WAITING: usize = 150;
const PEOPLE: usize = 24;
/// Longest run of a verb.
const VERB_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "some minutes of starts"]
async fn damaged_store_starts_or_is_salvaged_and_sends_nothing_that_was_never_made() {
    let (count, mut random) = (number_from("POSTERN_DAMAGES", 25), number_from("POSTERN_DAMAGE_SEED", SEED));
    println!("seed {random:#x}, {count} damages");
    let stores = [Whole::make(End::Stop).await, Whole::make(End::Kill).await, Whole::make(End::Reopen).await];
    let choose = |whole| (whole, Rot::choose(&Whole::state_dir(whole).join("store"), &mut random));
    let damages: Vec<_> = stores.iter().cycle().take(count as usize).map(choose).collect();
    let (todo, started) = (RefCell::new(damages.into_iter()), Instant::now());
    let (met, wrong) = (RefCell::new(BTreeMap::<_, BTreeMap<_, Sum>>::new()), RefCell::new(Vec::new()));
    let work = async || {
        while let Some((whole, rot)) = { todo.borrow_mut().next() } {
            match meet(whole, &rot).await {
                Ok((class, sum)) => *met.borrow_mut().entry(rot.kind()).or_default().entry(class).or_default() += sum,
                Err(error) => {
                    println!("{:?} {rot}: {error}", whole.end);
                    let first = error.lines().next().unwrap_or_default();
                    wrong.borrow_mut().push(format!("{:?} {rot}: {first}", whole.end));
                }
            }
        }
    };
    tokio::join!(work(), work(), work());

    for (file, classes) in met.take() {
        println!("{file}: {classes:?}; {WAITING} exports waited in each");
    }
    let wrong = wrong.take();
    println!("{} wrong, in {:?}", wrong.len(), started.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What became of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nobody noticed.
    Unharmed,
    /// It started, with records put aside.
    PutAside,
    /// It started, met the damage later, was red then, and had to be salvaged.
    WentRed,
    /// It was refused, and salvaged.
    Salvaged,
}

#[derive(Debug, Default)]
struct Sum {
    stores: usize,
    /// Exports that waited and never arrived, but are dead letters now.
    kept: usize,
    /// Exports that waited and are nowhere.
    gone: usize,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, Self { stores, kept, gone }: Self) {
        self.stores += stores;
        self.kept += kept;
        self.gone += gone;
    }
}

/// Damages a copy, starts it, salvages it if need be, and looks at all that arrives. The error says what must not be.
async fn meet(whole: &Whole, rot: &Rot) -> Result<(Class, Sum), String> {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    copy_directory(&whole.state_dir(), &postern.state_dir);
    rot.inflict(&postern.state_dir.join("store"));
    let met = endure(&mut postern, &receiver, whole).await;
    if met.is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{:?} {rot}", whole.end).replace(' ', "-"));
        let _ = fs::remove_dir_all(&kept);
        copy_directory(&whole.state_dir(), &kept);
        rot.inflict(&kept.join("store"));
    }
    met
}

async fn endure(postern: &mut Appliance, receiver: &Receiver, whole: &Whole) -> Result<(Class, Sum), String> {
    let mut ledger = whole.ledger.clone();
    let mut class = match start(postern).await? {
        Started::Well => Class::PutAside,
        Started::Refused => {
            salvage(postern).await?;
            Class::Salvaged
        }
    };
    if class == Class::PutAside && !drains(postern, PATIENCE / 4).await {
        if postern.ended().is_some() {
            let (status, log) = postern.take_ended();
            return Err(format!("it started, and ended with {status}\n{log:#?}"));
        }
        if postern.readiness().await == Some(200) {
            return Err(format!("exports stay, and it is ready: {}", postern.admin("/metrics").await.1));
        }
        postern.try_stop().await.ok_or("it was red and does not stop")?;
        salvage(postern).await?;
        class = Class::WentRed;
    }
    if !drains(postern, PATIENCE).await {
        return Err(format!("{class:?}, and exports stay: {}", postern.admin("/metrics").await.1));
    }
    for person in 0..PEOPLE {
        let person = format!("p{person}");
        let (version, update) = ledger.next(&person);
        match postern.try_post("web", &update).await {
            Some((200, _)) => ledger.acknowledge(&person, version),
            other => return Err(format!("{class:?}, and an update of {person} is answered {other:?}")),
        }
    }
    if !drains(postern, PATIENCE).await {
        return Err(format!("{class:?}, and new exports stay: {}", postern.admin("/metrics").await.1));
    }
    let all = [whole.delivered.clone(), receiver.requests()].concat();
    let lost = ledger.compare(&all).map_err(|wrong| format!("{class:?}: {wrong}"))?.lost;
    let put_aside = postern.metric("postern_store_quarantined_total").await.unwrap_or_default();
    if class == Class::PutAside {
        if lost.len() as f64 > put_aside {
            return Err(format!(
                "it started, {put_aside} records were put aside, and {} are lost: {lost:?}",
                lost.len()
            ));
        }
        if put_aside == 0.0 {
            class = Class::Unharmed;
        }
    }
    match postern.try_stop().await {
        Some(status) if status.success() => {}
        ended => return Err(format!("{class:?}, and it stopped with {ended:?}")),
    }
    let arrived: HashSet<_> = all.iter().filter_map(Request::idempotency_key).collect();
    let letters = postern.dead_letters("crm").await;
    let kept = letters.iter().filter(|letter| !arrived.contains(&*letter.export.id.to_string())).count();
    Ok((class, Sum { stores: 1, kept, gone: lost.len().saturating_sub(kept) }))
}

enum Started {
    Well,
    Refused,
}

async fn start(postern: &mut Appliance) -> Result<Started, String> {
    match postern.try_start_with(&mut postern.run()).await {
        Start::Listening => Ok(Started::Well),
        Start::Ended(status, log) => {
            let says_how = log.iter().any(|line| line.to_string().contains("postern store salvage"));
            match (status.code(), says_how) {
                (Some(1), true) => Ok(Started::Refused),
                _ => Err(format!("the start ended with {status}, salvage named: {says_how}\n{log:#?}")),
            }
        }
        Start::Hangs(log) => Err(format!("the start hangs\n{log:#?}")),
    }
}

async fn salvage(postern: &mut Appliance) -> Result<(), String> {
    let mut verb = command(&["store", "salvage", "--yes", "--json", "--state-dir"]);
    let verb = verb.arg(&postern.state_dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, until) = (verb.spawn().unwrap(), Instant::now() + VERB_MAX);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("salvage hangs".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("salvage ended with {}, signal {:?}\n{said}", output.status, output.status.signal()));
    }
    match start(postern).await? {
        Started::Well => Ok(()),
        Started::Refused => Err(format!("refused after salvage\n{said}")),
    }
}

/// Whether no export waits any more; false early when it has ended.
async fn drains(postern: &mut Appliance, within: Duration) -> bool {
    let until = Instant::now() + within;
    while postern.ended().is_none() && Instant::now() < until {
        // It may end between the two.
        let Ok(response) = postern.http().get(postern.admin_at("/metrics")).send().await else { continue };
        let text = response.text().await.unwrap_or_default();
        if text.lines().any(|line| line == r#"postern_exports{destination="crm",state="waiting"} 0"#)
            && postern.readiness().await == Some(200)
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// A store that is well, with exports waiting.
struct Whole {
    directory: tempfile::TempDir,
    end: End,
    ledger: Ledger,
    delivered: Vec<Request>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
    /// Stopped, started and stopped: the snapshot that opening writes speaks of all there is.
    Reopen,
}

impl Whole {
    async fn make(end: End) -> Self {
        let pki = Pki::new();
        let mut receiver = Receiver::start(&pki).await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
        let mut ledger = Ledger::default();
        for turn in 0..DELIVERED + WAITING {
            if turn == DELIVERED {
                assert!(postern.drains("crm", PATIENCE).await);
                receiver.stop().await;
            }
            if turn == DELIVERED + WAITING / 2 {
                assert!(postern.stop().await.success());
                postern.start_again().await;
            }
            let person = format!("p{}", turn % PEOPLE);
            let (version, update) = ledger.next(&person);
            postern.post("web", &update).await;
            ledger.acknowledge(&person, version);
        }
        match end {
            End::Stop => assert!(postern.stop().await.success()),
            End::Kill => postern.kill(),
            End::Reopen => {
                assert!(postern.stop().await.success());
                postern.start_again().await;
                assert!(postern.stop().await.success());
            }
        }
        let whole = Self { directory: tempfile::tempdir().unwrap(), end, ledger, delivered: receiver.requests() };
        copy_directory(&postern.state_dir, &whole.state_dir());
        whole
    }

    fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }
}
