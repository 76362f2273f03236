//! An operator sees and steers a running appliance by the command line.

use std::{fs, os::unix::fs::MetadataExt};

use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance, pki::Pki, receiver::Receiver, reply::Reply, sender::update, set_up::GOLD, socket::Done,
};

/// An appliance with one destination whose receiver refuses what says `"name": "bad"`, after the first.
async fn with_a_dead_letter(pki: &Pki, receiver: &Receiver) -> (Appliance, String) {
    receiver.answer_by(|request| Reply::status(if request.body["name"] == "bad" { 422 } else { 200 }));
    let postern = Appliance::set_up(pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("good", json!({ "plan": "gold", "name": "good" }))).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "name": "bad" }))).await;
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 1.0).await;
    let letters = postern.verb(&["dead-letter", "list", "--json"]).lines();
    assert_eq!(letters.len(), 1);
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    (postern, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_one_screen() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, _) = with_a_dead_letter(&pki, &receiver).await;

    let status = postern.verb(&["status", "--json"]).json();
    let screen = postern.verb(&["status"]).succeeds().stdout;

    assert_eq!((&status["ready"], &status["updates"]["accepted"]), (&json!(true), &json!(2)));
    let crm = &status["destinations"][0];
    assert_eq!(
        (&crm["state"], &crm["counted"]["delivered"], &crm["counted"]["dead"]),
        (&json!("open"), &json!(1), &json!(1))
    );
    assert_eq!(crm["last_failure"]["outcome"], "refused_422");
    assert!(crm["latency"]["p99_seconds"].as_f64().unwrap() > 0.0);
    for part in ["ready", "2 accepted", "2 profiles", "0 waiting", "1 dead letters", "crm", "open", "refused_422"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(!screen.contains('\u{1b}'), "colour is for terminals");
    assert!(screen.lines().count() < 12, "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_personal_is_shown_unless_it_is_asked_for() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;

    let hidden: String = [
        &["profile", "show", "CRM:ada"][..],
        &["dead-letter", "show", &letter],
        &["export", "show", &letter],
        &["dead-letter", "list"],
        &["status"],
        &["destination", "show", "crm"],
    ]
    .iter()
    .map(|verb| postern.verb(verb).succeeds().stdout)
    .collect();
    let profile = postern.verb(&["profile", "show", "CRM:ada", "--reveal", "--json"]).json();
    let export = postern.verb(&["export", "show", &letter, "--reveal", "--json"]).json();

    assert!(!hidden.contains("ada") && !hidden.contains("\"bad\""), "{hidden}");
    assert!(hidden.contains("realized") && hidden.contains("refused_422"), "{hidden}");
    assert_eq!(profile["identities"]["CRM"], json!(["ada"]));
    assert_eq!(profile["fragments"][0]["attributes"], json!({ "plan": "gold", "name": "bad" }));
    assert_eq!(profile["memberships"][0]["audience"], GOLD);
    assert_eq!(profile["exports"][0]["state"], "dead");
    assert_eq!(export["body"]["identityMap"]["CRM"][0]["id"], "ada");
    assert_eq!(export["reasons"][0], json!({ "kind": "realized", "of": GOLD }));
}

#[tokio::test(flavor = "multi_thread")]
async fn group_of_the_socket_may_steer_and_not_see_what_is_personal() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("left out: only root can become another user");
    }
    const NOBODY: u32 = 65_534;
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    let socket = postern.socket();
    // The directories of a test are closed to others.
    for dir in socket.ancestors().skip(1).take(2) {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let group = fs::metadata(&socket).unwrap().gid();

    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    postern.verb_as(NOBODY, group, &["status"]).succeeds();
    postern.verb_as(NOBODY, group, &["destination", "pause", "crm"]).succeeds();
    postern.verb_as(NOBODY, group, &["export", "show", &letter]).succeeds();
    postern.verb_as(NOBODY, group, &["export", "show", &letter, "--reveal"]).refuses(77, "without reveal");
    postern.verb_as(NOBODY, group, &["profile", "show", "CRM:ada", "--reveal"]).refuses(77, "without reveal");
    postern.verb_as(NOBODY, NOBODY, &["status"]).refuses(77, "member of the group");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_destination_is_sent_nothing_over_a_restart_until_it_is_resumed() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;

    let paused = postern.verb(&["destination", "pause", "crm", "--json"]).json();
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.stop().await;
    postern.start_again().await;
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;
    let status = postern.wait_until(&["destination", "show", "crm"], |crm| crm["counted"]["waiting"] == 2).await;

    assert_eq!((&paused["state"], &status["state"]), (&json!("paused"), &json!("paused")));
    assert_eq!(paused["since"], status["since"]);
    assert_eq!(postern.metric(r#"postern_destination_paused{destination="crm"}"#).await, Some(1.0));
    assert!(receiver.requests().is_empty());
    postern.verb(&["destination", "resume", "crm"]).succeeds();
    receiver.wait_for(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_a_held_destination_probes_it_at_once() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    let crm = postern
        .wait_until(&["destination", "show", "crm"], |crm| crm["state"] == "held" && crm["next_at"].is_string())
        .await;

    receiver.start_again();
    postern.verb(&["destination", "resume", "crm"]).succeeds();

    assert_eq!(crm["reason"], "unreachable");
    receiver.wait_for(1).await;
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["state"] == "open").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_says_whether_exports_would_arrive_and_sends_nothing_of_anybody() {
    let pki = Pki::new();
    let (mut receiver, careless) = (Receiver::start(&pki).await, Receiver::set_up(&pki).not_asking().start().await);
    let postern = Appliance::set_up(&pki)
        .destination("crm", &receiver.url())
        .destination("careless", &careless.url())
        .start()
        .await;

    let head = postern.verb(&["destination", "test", "crm", "--json"]).json();
    let sample = postern.verb(&["destination", "test", "crm", "--sample", "--json"]).json();
    receiver.answer_with(422);
    let refused = postern.verb(&["destination", "test", "crm", "--sample"]);
    let careless_done = postern.verb(&["destination", "test", "careless"]);
    let requests = receiver.requests();
    receiver.stop().await;
    let gone = postern.verb(&["destination", "test", "crm"]);

    assert_eq!((&head["good"], &head["status"], &head["method"]), (&json!(true), &json!(200), &json!("HEAD")));
    assert_eq!((&sample["good"], &sample["outcome"]), (&json!(true), &json!("delivered")));
    refused.refuses(1, "exports to crm would not arrive");
    assert!(refused.stdout.contains("refused_422"), "{refused:?}");
    assert!(careless_done.stdout.contains("server_did_not_ask_for_certificate"), "{careless_done:?}");
    assert!(careless.requests().is_empty());
    assert!(gone.stdout.contains("unreachable"), "{gone:?}");
    let methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["HEAD", "POST", "POST"]);
    assert_eq!(requests[1].body["identityMap"], json!({ "PosternTest": [{ "id": "test" }] }));
    assert_eq!(postern.verb(&["destination", "show", "crm", "--json"]).json()["counted"]["made"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_is_redriven_with_the_present_state() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    postern.post("web", &update("ada", json!({ "name": "better" }))).await;
    let before = receiver.wait_for(3).await.len();

    let redriven = postern.verb(&["dead-letter", "redrive", &letter, "--json"]).json();
    let requests = receiver.wait_for(before + 1).await;

    let last = requests.last().unwrap();
    assert_eq!(last.idempotency_key(), redriven["export"].as_str());
    assert_ne!(last.idempotency_key(), Some(letter.as_str()));
    assert_eq!(last.body["name"], "better");
    assert_eq!(postern.verb(&["dead-letter", "list", "--json"]).lines(), Vec::<Value>::new());
    postern.verb(&["dead-letter", "show", &letter]).refuses(66, "there is no dead letter");
    let shown = postern.verb(&["export", "show", redriven["export"].as_str().unwrap(), "--json"]);
    assert_eq!(shown.json()["state"], "delivered", "its receipt");
    adds_up(&postern);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_body_is_not_sent_after_a_newer_one_was_delivered() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    postern.post("web", &update("ada", json!({ "name": "better" }))).await;
    receiver.wait_for(3).await;
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["counted"]["delivered"] == 2).await;

    let refused = postern.verb(&["dead-letter", "redrive", &letter, "--as-was"]);

    refused.refuses(1, "newer");
    assert_eq!(postern.verb(&["dead-letter", "list", "--json"]).lines().len(), 1);
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_as_it_was_is_sent_again_where_nothing_newer_was() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    receiver.answer_with(200);

    let redriven = postern.verb(&["dead-letter", "redrive", &letter, "--as-was", "--json"]).json();
    let requests = receiver.wait_for(3).await;

    let bad = requests.iter().find(|request| request.body["name"] == "bad").unwrap();
    assert_eq!(requests[2].body, bad.body);
    assert_eq!(requests[2].idempotency_key(), redriven["export"].as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn letter_of_a_profile_that_left_is_closed() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    postern.post("web", &update("ada", json!({ "plan": "none", "name": "x" }))).await;
    receiver.wait_for(3).await;

    let closed = postern.verb(&["dead-letter", "redrive", &letter]).succeeds();

    assert!(closed.stdout.contains("in no mapped audience"), "{closed:?}");
    assert_eq!(receiver.requests().len(), 3);
    adds_up(&postern);
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_learns_of_an_exit_whose_export_died() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if request.body["plan"] == "none" { 422 } else { 200 }));
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.post("web", &update("ada", json!({ "plan": "none" }))).await;
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 1.0).await;
    receiver.answer_with(200);

    let letter = postern.verb(&["dead-letter", "list", "--json"]).lines()[0]["id"].as_str().unwrap().to_owned();
    postern.verb(&["dead-letter", "redrive", &letter]).succeeds();

    let requests = receiver.wait_for(3).await;
    assert_eq!(requests[2].body["segmentMembership"]["ups"][GOLD]["status"], "exited");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_again_is_not_redriven_for_ever() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, _) = with_a_dead_letter(&pki, &receiver).await;
    for name in ["eve", "bob", "joe"] {
        postern.post("web", &update(name, json!({ "plan": "gold", "name": "bad" }))).await;
    }
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 4.0).await;

    let redriven = postern.verb(&["dead-letter", "redrive", "--all", "--json"]).json();

    assert_eq!(redriven["exported"], 4);
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 4.0).await;
    assert_eq!(receiver.requests().len(), 9, "the good one, and each of four twice");
    postern.verb(&["dead-letter", "redrive", "--all", "--as-was"]).refuses(2, "takes one id");
    let (_, page) = postern.ask(hyper::Method::DELETE, "/v1/dead-letters?limit=3", None).await;
    assert_eq!(page["dropped"], 3);
    let rest = format!("/v1/dead-letters?cursor={}", page["next"].as_str().unwrap());
    assert_eq!(postern.ask(hyper::Method::DELETE, &rest, None).await.1, json!({ "dropped": 1, "next": null }));
    adds_up(&postern);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_mends_belongs_to_the_service_afterwards() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("left out: only root can make files for another user");
    }
    const SERVICE: u32 = 4711;
    let pki = Pki::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("backup");
    postern.verb(&["store", "backup", backup.to_str().unwrap()]).succeeds();
    assert!(postern.stop().await.success());
    let chown = |who: &str| {
        let done = std::process::Command::new("chown").args(["-R", who]).arg(&postern.state_dir).status().unwrap();
        assert!(done.success());
    };
    chown(&format!("{SERVICE}:{SERVICE}"));
    let of_others = || {
        let found = std::process::Command::new("find").arg(&postern.state_dir).args(["!", "-uid", "4711"]).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };

    postern.verb(&["store", "compact"]).succeeds();
    let after_compaction = of_others();
    postern.verb(&["store", "restore", backup.to_str().unwrap(), "--yes"]).succeeds();
    let after_restoring = of_others();

    assert_eq!((after_compaction.as_str(), after_restoring.as_str()), ("", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_takes_the_place_of_no_other_file() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").write();
    fs::create_dir(&postern.state_dir).unwrap();
    fs::write(postern.socket(), "precious").unwrap();

    let done = Done::of(&mut postern.run());

    done.refuses(1, "cannot listen on the socket");
    assert_eq!(fs::read_to_string(postern.socket()).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_redriven_and_dropped_by_filter_and_only_on_purpose() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, _) = with_a_dead_letter(&pki, &receiver).await;
    for name in ["eve", "bob", "joe"] {
        postern.post("web", &update(name, json!({ "plan": "gold", "name": "bad" }))).await;
        postern.post("web", &update("good", json!({ "name": "good" }))).await;
    }
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 4.0).await;

    postern.verb(&["dead-letter", "drop"]).refuses(2, "say which");
    postern.verb(&["dead-letter", "drop", "--cause", "refused"]).refuses(2, "drop 4 dead letters; say --yes");
    let none = postern.verb(&["dead-letter", "drop", "--cause", "exhausted", "--yes", "--json"]).json();
    let limited = postern.verb(&["dead-letter", "list", "--limit", "1"]).succeeds();
    let one = postern.verb(&["dead-letter", "list", "--json"]).lines()[0]["id"].as_str().unwrap().to_owned();
    let dropped = postern.verb(&["dead-letter", "drop", &one, "--yes", "--json"]).json();
    receiver.answer_with(200);
    let redriven = postern.verb(&["dead-letter", "redrive", "--outcome", "refused_422", "--json"]).json();

    assert_eq!((&none["dropped"], &dropped["dropped"]), (&json!(0), &json!(1)));
    assert!(limited.stderr.contains("there are more"), "{limited:?}");
    assert_eq!((&redriven["exported"], &redriven["refused"]), (&json!(3), &json!(0)));
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["counted"]["waiting"] == 0).await;
    adds_up(&postern);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_profile_leaves_nothing_behind() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, _) = with_a_dead_letter(&pki, &receiver).await;
    postern.verb(&["destination", "pause", "crm"]).succeeds();
    postern.post("web", &update("ada", json!({ "name": "waits" }))).await;

    postern.verb(&["profile", "forget", "CRM:ada"]).refuses(2, "say --yes");
    let forgotten = postern.verb(&["profile", "forget", "CRM:ada", "--yes", "--json"]).json();

    assert_eq!(forgotten, json!({ "exports": 1, "letters": 1, "receipts": 0, "stayed": 0 }));
    postern.verb(&["profile", "show", "CRM:ada"]).refuses(66, "no profile");
    assert!(postern.verb(&["export", "list", "--json"]).lines().is_empty());
    assert!(postern.verb(&["dead-letter", "list", "--json"]).lines().is_empty());
    let audiences = postern.verb(&["audience", "list", "--json"]).json();
    assert_eq!((&audiences[0]["id"], &audiences[0]["members"]), (&json!(GOLD), &json!(1)));
    adds_up(&postern);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_audit_log_and_whose_profile_it_was_is_not() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, letter) = with_a_dead_letter(&pki, &receiver).await;
    postern.verb(&["destination", "pause", "crm"]).succeeds();
    postern.verb(&["destination", "resume", "crm"]).succeeds();
    postern.verb(&["dead-letter", "redrive", &letter]).succeeds();
    postern.verb(&["profile", "forget", "CRM:ada", "--yes"]).succeeds();
    postern.verb(&["reload"]).succeeds();

    let log = fs::read_to_string(postern.state_dir.join("audit.log")).unwrap();

    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["action"].as_str().unwrap(), line["object"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            ("destination.pause", "crm"),
            ("destination.resume", "crm"),
            ("dead-letter.redrive", letter.as_str()),
            ("profile.forget", "CRM"),
            ("reload", r#"{"drain":[],"discard":[]}"#),
        ]
    );
    assert_eq!(lines[0]["uid"], rustix::process::getuid().as_raw());
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_listed_by_page_and_state() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern =
        Appliance::set_up(&pki).destination("ads", &receiver.url()).destination("crm", &receiver.url()).start().await;
    for name in ["ads", "crm"] {
        postern.verb(&["destination", "pause", name]).succeeds();
    }
    for number in 0..25 {
        postern.post("web", &update(&format!("p{number}"), json!({ "plan": "gold" }))).await;
    }

    let all = postern.verb(&["export", "list", "--json", "--all"]).lines();
    let ads = postern.verb(&["export", "list", "--json", "--destination", "ads"]).lines();
    let retrying = postern.verb(&["export", "list", "--json", "--state", "retrying"]).lines();
    let (mut paged, mut path) = (Vec::new(), "/v1/exports?limit=7".to_owned());
    loop {
        let (status, page) = postern.ask(hyper::Method::GET, &path, None).await;
        assert_eq!(status, 200, "{page}");
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/exports?limit=7&cursor={next}"),
            None => break,
        }
    }

    assert_eq!((all.len(), ads.len(), retrying.len()), (50, 25, 0));
    assert_eq!(paged, all);
    assert_eq!((&all[0]["destination"], &all[49]["destination"]), (&json!("ads"), &json!("crm")));
    assert!(all.iter().all(|export| export["state"] == "waiting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn store_is_backed_up_and_measured_while_it_runs() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (postern, _) = with_a_dead_letter(&pki, &receiver).await;
    let backup = postern.state_dir.join("backup");

    let stats = postern.verb(&["store", "stats", "--json"]).json();
    let done = Done::of(
        postern.command(&["store", "backup"]).arg(&backup).arg("--json").arg("--config").arg(postern.config_file()),
    )
    .json();
    let again = Done::of(postern.command(&["store", "backup"]).arg(&backup).arg("--config").arg(postern.config_file()));
    let checked = Done::of(postern.command(&["store", "check", "--json", "--state-dir"]).arg(&backup)).json();

    assert!(stats["disk_bytes"].as_u64().unwrap() > 0, "{stats}");
    assert!(done["records"].as_u64().unwrap() > 0, "{done}");
    again.refuses(1, "is not empty");
    assert_eq!((&checked["whole"], &checked["counters"]["profiles"]), (&json!(true), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_say_how_to_start_what_does_not_run() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").write();

    for verb in [&["status"][..], &["destination", "list"], &["dead-letter", "list"], &["reload"], &["audit"]] {
        postern.verb(verb).refuses(69, "start it with");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_works_while_the_configuration_on_disk_is_wrong() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").start().await;
    let text = fs::read_to_string(postern.config_file()).unwrap();
    fs::write(postern.config_file(), text.replace("endpoint", "endpiont")).unwrap();

    postern.verb(&["status"]).succeeds();
}

/// Everything adds up, by the command that says so.
fn adds_up(postern: &Appliance) {
    let audit = postern.verb(&["audit", "--json"]).json();
    assert_eq!(audit["differences"], json!([]), "{audit}");
}
