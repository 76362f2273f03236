//! A certificate is replaced while exports go out: the new one is used, or the one before, and nothing is lost or charged.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use postern::{
    clock::Clock,
    tls::issue::{Authority, Issued, Period},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    appliance::{Appliance, clock, held},
    number_from,
    pki::{Pki, expired, fingerprint_of, now, valid},
    receiver::{PATIENCE, Receiver, Request},
    reply::Reply,
    sender::update,
};

/// An appliance with one destination, `crm`, that has delivered an export.
struct Running {
    pki: Pki,
    receiver: Receiver,
    postern: Appliance,
}

impl Running {
    async fn start() -> Self {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
        postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
        assert_eq!(receiver.wait_for(1).await[0].certificate, fingerprint_of(&pki.client));
        Self { pki, receiver, postern }
    }

    fn another_client(&self) -> Issued {
        self.pki.authority.client("Test client", valid()).unwrap()
    }

    /// Waits until what is shown of the certificate is as wanted.
    async fn shows(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let shown = self.postern.wait_until(&["destination", "show", "crm"], |view| wanted(&view["certificate"])).await;
        shown["certificate"].clone()
    }

    async fn uses(&self, client: &Issued) -> Value {
        self.shows(|certificate| certificate["fingerprint"] == fingerprint_of(client)).await
    }

    /// One more export arrives, over this certificate.
    async fn delivers_over(&self, client: &Issued, version: u64) {
        self.postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
        let (wanted, over) = (json!(version), fingerprint_of(client));
        let arrived = |all: &[Request]| all.iter().any(|one| one.body["version"] == wanted && one.certificate == over);
        self.receiver.wait_until("the export over that certificate", arrived).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificate_is_used_without_being_told() {
    let running = Running::start().await;
    let (before, new) = (fingerprint_of(&running.pki.client), running.another_client());
    let shown = running.shows(|shown| shown["accepted"] == before).await;
    assert_eq!((&shown["fingerprint"], &shown["on_file"]), (&json!(before), &json!(before)));

    running.pki.replace_client(&new);

    let shown = running.uses(&new).await;
    assert_eq!((&shown["on_file"], &shown["accepted"]), (&json!(fingerprint_of(&new)), &json!(before)));
    running.delivers_over(&new, 2).await;
    running.shows(|shown| shown["accepted"] == fingerprint_of(&new)).await;
    for role in ["in_use", "on_file", "accepted"] {
        let series = |client| {
            let fingerprint = fingerprint_of(client);
            format!(r#"postern_certificate_info{{destination="crm",role="{role}",fingerprint="{fingerprint}"}}"#)
        };
        running.postern.wait_for_metric(&series(&new), 1.0).await;
        running.postern.wait_for_metric(&series(&running.pki.client), 0.0).await;
    }
    let metric = async |name: &str| running.postern.metric(&format!("{name}{{destination=\"crm\"}}")).await;
    assert_eq!(metric("postern_certificate_differs").await, Some(0.0));
    let days = running.postern.metric(r#"postern_certificate_days_left{destination="crm",role="in_use"}"#).await;
    assert_eq!(days, Some(0.0), "it lasts an hour");
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pair_is_not_used_and_both_facts_show() {
    let running = Running::start().await;
    let (pki, other) = (&running.pki, running.another_client());
    let good = |what: &str| match what {
        "certificate" => pki.replace("client.crt", &pki.client.certificate_pem, 0o644),
        _ => pki.replace("client.key", &pki.client.key_pem, 0o640),
    };
    let (late, server) = (pki.authority.client("Late", expired()).unwrap(), &pki.server);
    type Break<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Break<'_>); 6] = [
        ("does not belong to certificate", Box::new(|| pki.replace("client.key", &other.key_pem, 0o640))),
        ("is open to everybody", Box::new(|| pki.replace("client.key", &pki.client.key_pem, 0o644))),
        ("holds no certificate", Box::new(|| pki.replace("client.crt", "", 0o644))),
        ("cannot read client certificate", Box::new(|| fs::remove_file(pki.path().join("client.crt")).unwrap())),
        ("expired at", Box::new(|| pki.replace_client(&late))),
        ("is not for clients", Box::new(|| pki.replace_client(server))),
    ];
    for ((problem, break_it), version) in cases.into_iter().zip(2..) {
        break_it();

        let says = |shown: &Value| shown["problem"].as_str().is_some_and(|text| text.contains(problem));
        let shown = running.shows(says).await;
        assert_eq!((&shown["fingerprint"], &shown["on_file"]), (&json!(fingerprint_of(&pki.client)), &Value::Null));
        running.postern.wait_for_metric(r#"postern_certificate_differs{destination="crm"}"#, 1.0).await;
        running.delivers_over(&pki.client, version).await;

        good("certificate");
        good("key");
        running.shows(|shown| shown["problem"].is_null()).await;
    }
    running.pki.replace_client(&other);
    running.uses(&other).await;
    running.delivers_over(&other, 9).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_refuses_the_new_certificate_gets_the_one_before() {
    let running = Running::start().await;
    let strangers = Authority::new("Another authority", valid()).unwrap();
    let refused = strangers.client("Test client", valid()).unwrap();

    running.pki.replace_client(&refused);

    running.uses(&refused).await;
    running.delivers_over(&running.pki.client, 2).await;
    let shown = running.shows(|shown| !shown["newer"].is_null()).await;
    assert_eq!(shown["newer"]["fingerprint"], fingerprint_of(&refused));
    assert!(shown["newer"]["refused_since"].is_string() && shown["newer"]["try_at"].is_string(), "{shown}");
    assert_eq!((&shown["on_file"], &shown["problem"]), (&json!(fingerprint_of(&refused)), &Value::Null));
    running.postern.wait_for_metric(r#"postern_certificate_refused{destination="crm"}"#, 1.0).await;
    let says = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("refuses our new certificate"));
    assert_eq!(running.postern.wait_for_log(says).await["level"], "ERROR");
    let status = running.postern.verb(&["status"]).succeeds().stdout;
    assert!(status.contains("the receiver refuses the new certificate"), "{status}");
    assert_eq!(running.postern.charged_failures("crm").await, 0);
    assert_eq!(running.postern.metric(&held("crm")).await, Some(0.0));

    // It is tried again, looked at again, and refused again.
    running.postern.verb(&["destination", "resume", "crm"]).succeeds();
    running.uses(&refused).await;
    running.pki.replace("client.key", "", 0o640);
    running.shows(|shown| shown["problem"].is_string()).await;
    running.pki.replace("client.key", &refused.key_pem, 0o640);
    running.shows(|shown| shown["problem"].is_null()).await;
    running.delivers_over(&running.pki.client, 3).await;

    // Whoever runs the receiver trusts the new authority, and our operator says so.
    let both = running.pki.authority.certificate_pem() + &strangers.certificate_pem();
    running.receiver.become_as(Receiver::set_up(&running.pki).trusting(both)).await;
    running.postern.verb(&["destination", "resume", "crm"]).succeeds();
    running.uses(&refused).await;
    running.delivers_over(&refused, 4).await;
    running.shows(|shown| shown["newer"].is_null() && shown["accepted"] == fingerprint_of(&refused)).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pair_that_was_accepted_is_kept_however_many_follow_unused() {
    let running = Running::start().await;
    let strangers = Authority::new("Another authority", valid()).unwrap();
    for _ in 0..3 {
        let refused = strangers.client("Test client", valid()).unwrap();
        running.pki.replace_client(&refused);
        running.uses(&refused).await;
    }

    running.delivers_over(&running.pki.client, 2).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_400_for_the_new_certificate_falls_back_too() {
    let running = Running::start().await;
    let (old, new) = (fingerprint_of(&running.pki.client), running.another_client());
    running.receiver.answer_by({
        let old = old.clone();
        move |request| Reply::status(if request.certificate == old { 200 } else { 400 })
    });

    running.pki.replace_client(&new);

    running.uses(&new).await;
    running.delivers_over(&running.pki.client, 2).await;
    running.shows(|shown| shown["fingerprint"] == old && !shown["newer"]["refused_since"].is_null()).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_is_refused_over_both_is_at_fault_and_the_new_certificate_is_not() {
    let running = Running::start().await;
    let new = running.another_client();
    running.receiver.answer_by(|request| Reply::status(if request.body["version"] == 2 { 400 } else { 200 }));

    running.pki.replace_client(&new);

    running.uses(&new).await;
    running.postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;
    running.postern.wait_for_exports("crm", [0, 1, 1]).await;
    running.uses(&new).await;
    running.delivers_over(&new, 3).await;
    running.shows(|shown| shown["newer"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_refuses_both_is_held_and_nothing_is_charged() {
    let running = Running::start().await;
    let strangers = Pki::new();
    let other_clients = strangers.authority.certificate_pem();
    running.receiver.become_as(Receiver::set_up(&running.pki).trusting(other_clients)).await;
    running.pki.replace_client(&running.another_client());
    running.shows(|shown| shown["fingerprint"] != fingerprint_of(&running.pki.client)).await;

    running.postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;

    running.postern.wait_for_hold("crm", "certificate_refused").await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);

    running.receiver.become_as(Receiver::set_up(&running.pki)).await;
    running.postern.wait_for_exports("crm", [0, 2, 0]).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn refused_certificates_are_probed_ever_more_slowly() {
    for has_another in [false, true] {
        let (pki, clock) = (Pki::new(), clock());
        let receiver = Receiver::start(&pki).await;
        let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
        receiver.become_as(Receiver::set_up(&pki).trusting(Pki::new().authority.certificate_pem())).await;
        if has_another {
            let other = pki.authority.client("Test client", valid()).unwrap();
            pki.replace_client(&other);
            let in_use = format!(
                r#"postern_certificate_info{{destination="crm",role="in_use",fingerprint="{}"}}"#,
                fingerprint_of(&other)
            );
            postern.turn_until_metric(&clock, &in_use, 1.0).await;
        }
        postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
        postern.turn_until_metric(&clock, &held("crm"), 1.0).await;
        let (began, probes) = (clock.now(), if has_another { 10 } else { 5 });

        postern.turn_until_probed(&clock, "crm", probes).await;

        let took = clock.now().since(began);
        assert!(took >= Duration::from_secs(25), "{probes} probes within {took:?}");
    }
}

#[tokio::test]
async fn certificate_that_is_not_valid_yet_waits_for_its_time() {
    let day = Duration::from_secs(24 * 3600);
    // The receiver goes by the system's time: ours is behind.
    let (pki, clock) = (Pki::of(Period { from: now() - 30 * day, until: now() + day }), Clock::manual(now() - 2 * day));
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    let later = Period { from: now() - day, until: now() + day };
    let next = pki.authority.client("Test client", later).unwrap();
    let differs = r#"postern_certificate_differs{destination="crm"}"#;

    pki.replace_client(&next);

    postern.turn_until_metric(&clock, differs, 1.0).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    assert_eq!(receiver.wait_for(1).await[0].certificate, fingerprint_of(&pki.client));

    clock.advance(2 * day);
    postern.turn_until_metric(&clock, differs, 0.0).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;
    assert_eq!(receiver.wait_for(2).await[1].certificate, fingerprint_of(&next));
}

/// The receiver refuses the new certificate until the old one ends; then the new one is all there is.
#[tokio::test]
async fn old_certificate_is_given_up_when_it_ends() {
    let day = Duration::from_secs(24 * 3600);
    let (mut pki, clock) = (Pki::lasting(30 * day), clock());
    let short = Period { from: now() - day, until: now() + 2 * day };
    pki.client = pki.authority.client("Test client", short).unwrap();
    let receiver = Receiver::start(&pki).await;
    let strangers = Authority::new("Another", Period { from: now() - day, until: now() + 20 * day }).unwrap();
    let new = strangers.client("Test client", Period { from: now() - day, until: now() + 20 * day }).unwrap();
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    receiver.wait_for(1).await;
    let refused = r#"postern_certificate_refused{destination="crm"}"#;

    pki.replace_client(&new);
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;
    assert_eq!(receiver.wait_for(2).await[1].certificate, fingerprint_of(&pki.client));
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 3 }))).await;
    receiver.wait_for(3).await;
    let falls_back = Instant::now() + PATIENCE;
    let mut version = 4;
    while postern.metric(refused).await != Some(1.0) {
        assert!(Instant::now() < falls_back, "the new certificate was never tried");
        postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
        version += 1;
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    clock.advance(3 * day);
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
    postern.turn_until_metric(&clock, &held("crm"), 1.0).await;
    let both = pki.authority.certificate_pem() + &strangers.certificate_pem();
    receiver.become_as(Receiver::set_up(&pki).trusting(both)).await;
    postern.turn_until_metric(&clock, &held("crm"), 0.0).await;

    let requests = receiver.wait_until("the last", |all| all.iter().any(|one| one.body["version"] == version)).await;
    assert_eq!(requests.last().unwrap().certificate, fingerprint_of(&new));
    assert_eq!(postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_roots_count_from_the_next_connection_on() {
    let running = Running::start().await;
    let other = Pki::new();
    running.pki.replace("ca.crt", &other.authority.certificate_pem(), 0o644);
    let since = Instant::now();
    let mut version = 2;
    while running.postern.metric(&held("crm")).await != Some(1.0) {
        assert!(since.elapsed() < PATIENCE, "a server of the old authority is still trusted");
        running.postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
        version += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.postern.wait_for_hold("crm", "server_not_trusted").await;

    running.pki.replace("ca.crt", &running.pki.authority.certificate_pem(), 0o644);

    running.postern.wait_for_metric(&held("crm"), 0.0).await;
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_takes_a_new_certificate_at_once_and_says_so() {
    let running = Running::start().await;
    let new = running.another_client();
    running.pki.replace_client(&new);

    running.postern.verb(&["reload"]).succeeds();

    let shown = running.postern.verb(&["destination", "show", "crm", "--json"]).json();
    assert_eq!((&shown["certificate"]["fingerprint"], &shown["state"]), (&json!(fingerprint_of(&new)), &json!("open")));
    running.delivers_over(&new, 2).await;
}

/// Swaps as fast as they are seen, every tenth pair bad, while updates come in: `POSTERN_SWAPS=100` takes about a minute.
#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_lose_nothing_and_charge_nothing() {
    const SENDERS: u64 = 8;
    let running = Running::start().await;
    let (pki, postern) = (&running.pki, &running.postern);
    let (done, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let (sender, done, accepted) = (postern.sender(), done.clone(), accepted.clone());
        senders.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let mut version = 0;
            while !done.load(Ordering::Relaxed) {
                pace.tick().await;
                version += 1;
                let body = update(&format!("p{number}"), json!({ "plan": "gold", "version": version }));
                assert_eq!(sender.try_post("web", &body).await.expect("an answer").0, 200);
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (mut good, mut bad) = (vec![fingerprint_of(&pki.client)], Vec::new());
    let began = Instant::now();
    let swaps = number_from("POSTERN_SWAPS", 10);
    for swap in 1..=swaps {
        let client = running.another_client();
        if swap % 10 != 0 {
            pki.replace_client(&client);
            running.uses(&client).await;
            good.push(fingerprint_of(&client));
            continue;
        }
        // Not its key; over; for a server.
        let bad_one = match (swap / 10) % 3 {
            1 => client,
            2 => pki.authority.client("Test client", expired()).unwrap(),
            _ => pki.authority.server(&["127.0.0.1"], valid()).unwrap(),
        };
        bad.push(fingerprint_of(&bad_one));
        match (swap / 10) % 3 {
            1 => pki.replace("client.crt", &bad_one.certificate_pem, 0o644),
            _ => pki.replace_client(&bad_one),
        }
        running.shows(|shown| shown["problem"].is_string()).await;
    }
    println!("{swaps} swaps in {:?}", began.elapsed());
    done.store(true, Ordering::Relaxed);
    senders.join_all().await;
    let accepted = accepted.load(Ordering::Relaxed);
    postern.wait_for_exports("crm", [0, u32::try_from(accepted).unwrap(), 0]).await;

    let requests = running.receiver.requests();
    assert_eq!(requests.len() as u64, accepted, "each once");
    let used: std::collections::BTreeSet<_> = requests.iter().map(|request| &request.certificate).collect();
    assert!(used.iter().all(|used| good.contains(used) && !bad.contains(used)));
    assert!(used.len() as u64 > swaps / 2, "{} certificates were used", used.len());
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (0, 0));
}

#[tokio::test]
async fn end_of_a_certificate_is_told_in_time() {
    for (days, level, says) in [(10, "WARN", "certificate expires soon"), (0, "ERROR", "certificate has expired")] {
        let pki = Pki::lasting(Duration::from_secs(100 * 24 * 3600));
        let client = match days {
            0 => pki.authority.client("Test client", expired()).unwrap(),
            days => {
                let until = now() + Duration::from_secs(days * 24 * 3600 + 60);
                pki.authority.client("Test client", Period { from: now() - Duration::from_secs(60), until }).unwrap()
            }
        };
        let pki = Pki { client, ..pki };
        let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").start().await;

        let line = postern.wait_for_log(|line| line["message"] == says).await;

        assert_eq!(
            (&line["level"], &line["what"], &line["destination"]),
            (&json!(level), &json!("client certificate"), &json!("crm"))
        );
        if days > 0 {
            assert_eq!(line["days"], days);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_that_are_refused_in_two_ways_make_no_dead_letter() {
    let running = Running::start().await;
    let strangers = Authority::new("Another authority", valid()).unwrap();
    let new = strangers.client("Test client", valid()).unwrap();
    let both = running.pki.authority.certificate_pem() + &strangers.certificate_pem();
    running.receiver.become_as(Receiver::set_up(&running.pki).trusting(both)).await;
    running.pki.replace_client(&new);
    running.uses(&new).await;
    running.delivers_over(&new, 2).await;
    running.shows(|shown| shown["accepted"] == fingerprint_of(&new)).await;

    // From now on the new one by an alert, the old one by a status.
    running.receiver.answer_with(495);
    running.receiver.become_as(Receiver::set_up(&running.pki)).await;
    running.postern.post("web", &update("ada", json!({ "plan": "gold", "version": 3 }))).await;

    running.postern.wait_for_metric(&held("crm"), 1.0).await;
    running.receiver.wait_until("some probes", |all| all.len() > 4).await;
    let view = running.postern.verb(&["destination", "show", "crm", "--json"]).json();
    assert_eq!((&view["counted"]["dead"], &view["counted"]["waiting"]), (&json!(0), &json!(1)), "{view:#}");
    assert_eq!(running.postern.charged_failures("crm").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pair_that_install_kept_serves_after_a_restart() {
    let day = Duration::from_secs(24 * 3600);
    let pki = Pki::lasting(10 * day);
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    let next = pki.authority.client("Test client", Period { from: now() + day, until: now() + 5 * day }).unwrap();
    // As `cert install` does it.
    pki.write("client.crt.previous", &pki.client.certificate_pem, 0o644);
    pki.write("client.key.previous", &pki.client.key_pem, 0o600);
    pki.replace_client(&next);

    postern.stop().await;
    postern.start_again().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    assert_eq!(receiver.wait_for(1).await[0].certificate, fingerprint_of(&pki.client));
    let newer = |crm: &Value| crm["certificate"]["newer"]["fingerprint"] == fingerprint_of(&next);
    postern.wait_until(&["destination", "show", "crm"], newer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_that_changes_settings_too_keeps_the_pair_before() {
    let running = Running::start().await;
    let strangers = Authority::new("Another authority", valid()).unwrap();
    let refused = strangers.client("Test client", valid()).unwrap();
    let file = running.postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("timeout = \"2s\"", "timeout = \"3s\"")).unwrap();
    running.pki.replace_client(&refused);

    running.postern.verb(&["reload"]).succeeds();

    running.delivers_over(&running.pki.client, 2).await;
    running.shows(|shown| shown["newer"]["fingerprint"] == fingerprint_of(&refused)).await;
    for role in ["in_use", "on_file"] {
        let of = |client| {
            let fingerprint = fingerprint_of(client);
            format!(r#"postern_certificate_info{{destination="crm",role="{role}",fingerprint="{fingerprint}"}}"#)
        };
        let has =
            |client: &Issued| (role == "in_use") == (fingerprint_of(client) == fingerprint_of(&running.pki.client));
        for client in [&running.pki.client, &refused] {
            running.postern.wait_for_metric(&of(client), if has(client) { 1.0 } else { 0.0 }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_destination_that_is_gone_say_nothing() {
    let running = Running::start().await;
    running.pki.replace("client.key", "", 0o640);
    running.postern.wait_for_metric(r#"postern_certificate_differs{destination="crm"}"#, 1.0).await;
    let days = r#"postern_certificate_days_left{destination="crm",role="on_file"}"#;
    assert!(running.postern.metric(days).await.is_some_and(f64::is_nan), "it cannot be used");
    running.pki.replace("client.key", &running.pki.client.key_pem, 0o640);
    running.postern.wait_for_metric(days, 0.0).await;
    running.pki.replace("client.key", "", 0o640);
    running.postern.wait_for_metric(r#"postern_certificate_differs{destination="crm"}"#, 1.0).await;

    running.pki.replace("client.key", &running.pki.client.key_pem, 0o640);
    let file = running.postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.find("[[destination]]").unwrap()]).unwrap();
    running.postern.verb(&["reload"]).succeeds();

    running.postern.wait_for_metric(r#"postern_certificate_differs{destination="crm"}"#, 0.0).await;
}

/// A pipe that nobody writes to is no file, and must not be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn pipe_in_place_of_a_certificate_is_a_problem_like_any_other() {
    let running = Running::start().await;
    let path = running.pki.path().join("client.crt");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    running.shows(|shown| shown["problem"].as_str().is_some_and(|text| text.contains("not a regular file"))).await;

    let new = running.another_client();
    running.pki.replace_client(&new);

    running.uses(&new).await;
    running.delivers_over(&new, 2).await;
}
