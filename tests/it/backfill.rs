//! Rules are evaluated over what is stored, and present members are exported: after a change of the configuration, and when
//! a person wishes it; whatever comes in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    appliance::Appliance,
    pki::Pki,
    receiver::{PATIENCE, Receiver, Request},
    reply::Reply,
    sender::{update, who},
    set_up::GOLD,
};

const OLD: &str = "old-members";
const OLD_RULE: &str = "age > 60";

/// Edits the configuration, and has it put to work.
fn reload_with(postern: &Appliance, that: &str, this: &str) {
    let file = postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(that), "{that}: {text}");
    fs::write(file, text.replace(that, this)).unwrap();
    postern.verb(&["reload"]).succeeds();
}

/// The audiences of the destination, as they stand in the configuration.
fn mapped(audiences: &[&str]) -> String {
    format!("audiences = {audiences:?}")
}

/// Waits until nothing is owed any more; returns all backfills and evaluations.
async fn all_ended(postern: &Appliance) -> Vec<Value> {
    let has_ended = |walks: &Value| walks.as_array().unwrap().iter().all(|walk| !walk["ended_at"].is_null());
    postern.wait_until(&["backfill", "--list"], has_ended).await.as_array().unwrap().clone()
}

/// Makes so many profiles that are in the gold audience, each by an update.
async fn gold_members(postern: &Appliance, count: usize) {
    let (sender, mut posting) = (postern.sender(), JoinSet::new());
    for number in 0..count {
        if posting.len() == 64 {
            posting.join_next().await.unwrap().unwrap();
        }
        let (sender, body) = (sender.clone(), update(&format!("p{number}"), json!({ "plan": "gold" })));
        posting.spawn(async move { assert_eq!(sender.try_post("web", &body).await.unwrap().0, 200) });
    }
    posting.join_all().await;
}

/// Whose exports arrived, and the status of an audience in each.
fn received(requests: &[Request], audience: &str) -> Vec<(String, Option<String>)> {
    let status =
        |request: &Request| request.body["segmentMembership"]["ups"][audience]["status"].as_str().map(str::to_owned);
    let mut all: Vec<_> = requests.iter().map(|request| (who(&request.body).to_owned(), status(request))).collect();
    all.sort();
    all
}

fn as_said(expected: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    expected.iter().map(|(who, status)| ((*who).to_owned(), Some((*status).to_owned()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rule_exports_who_leaves_and_who_enters_and_nobody_else() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    for (person, plan) in [("ada", "gold"), ("bob", "silver"), ("cyd", "platinum"), ("dan", "bronze")] {
        postern.post("web", &update(person, json!({ "plan": plan, "age": 40 }))).await;
    }
    receiver.wait_for(1).await;
    postern.post("web", &update("cyd", json!({ "plan": "gold", "age": 70 }))).await;
    receiver.wait_for(2).await;

    reload_with(&postern, r#"plan = "gold"'"#, r#"plan = "silver" or age > 60'"#);
    let walks = all_ended(&postern).await;
    postern.wait_for_exports("crm", [0, 4, 0]).await;

    assert_eq!(received(&receiver.requests()[2..], GOLD), as_said(&[("ada", "exited"), ("bob", "realized")]));
    let [walk] = &walks[..] else { panic!("{walks:#?}") };
    assert_eq!(
        (&walk["work"], &walk["cause"], &walk["state"]),
        (&json!("evaluation"), &json!("rules"), &json!("done"))
    );
    assert_eq!((&walk["total"], &walk["done"], &walk["exports"]), (&json!(4), &json!(4), &json!(2)));
    let audiences = postern.verb(&["audience", "list", "--json"]).json();
    assert_eq!(audiences[0]["members"], 2, "{audiences}");
    // A visit is no update, and everything adds up.
    assert_eq!(postern.verb(&["status", "--json"]).json()["updates"]["accepted"], 5);
    postern.verb(&["audit"]).succeeds();
    let idle = postern.verb(&["reload"]).succeeds();
    assert!(idle.stdout.contains("nothing changed") && all_ended(&postern).await.len() == 1);
    // At a start what is known is compared too.
    assert!(postern.stop().await.success());
    let file = postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text.replace(r#"plan = "silver" or age > 60"#, "age > 60")).unwrap();
    postern.start_again().await;
    postern.wait_for_exports("crm", [0, 5, 0]).await;
    assert_eq!(received(&receiver.requests()[4..], GOLD), as_said(&[("bob", "exited")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_that_becomes_mapped_exports_its_members_once_and_a_new_one_those_who_enter() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).audience(OLD, OLD_RULE).destination("crm", &receiver.url());
    let postern = set_up.start().await;
    for (person, plan, age) in [("ada", "gold", 70), ("bob", "silver", 80), ("cyd", "silver", 7), ("dan", "gold", 30)] {
        postern.post("web", &update(person, json!({ "plan": plan, "age": age }))).await;
    }
    receiver.wait_for(2).await;

    reload_with(&postern, &mapped(&[GOLD]), &mapped(&[GOLD, OLD]));
    let walks = all_ended(&postern).await;
    postern.wait_for_exports("crm", [0, 4, 0]).await;
    assert_eq!(received(&receiver.requests()[2..], OLD), as_said(&[("ada", "realized"), ("bob", "realized")]));
    let [walk] = &walks[..] else { panic!("{walks:#?}") };
    assert_eq!((&walk["work"], &walk["cause"]), (&json!("backfill"), &json!("mapping")));
    assert_eq!((&walk["destination"], &walk["audiences"], &walk["exports"]), (&json!("crm"), &json!([OLD]), &json!(2)));

    // Unmapping is silent; mapping again is a mapping.
    reload_with(&postern, &mapped(&[GOLD, OLD]), &mapped(&[GOLD]));
    reload_with(&postern, &mapped(&[GOLD]), &mapped(&[GOLD, OLD]));
    all_ended(&postern).await;
    postern.wait_for_exports("crm", [0, 6, 0]).await;
    assert_eq!(received(&receiver.requests()[4..], OLD), as_said(&[("ada", "realized"), ("bob", "realized")]));

    // One that is new altogether is evaluated, and who enters it by that is exported for that, once.
    let young = "\n[[audience]]\nid = \"young\"\nname = \"Young\"\nexpression = { type = \"PQL\", format = \"pql/text\", value = 'age < 10' }\n\n[[destination]]";
    let file = postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&mapped(&[GOLD, OLD]), &mapped(&[GOLD, OLD, "young"]))).unwrap();
    reload_with(&postern, "\n[[destination]]", young);
    let walks = all_ended(&postern).await;
    postern.wait_for_exports("crm", [0, 7, 0]).await;
    assert_eq!(received(&receiver.requests()[6..], "young"), as_said(&[("cyd", "realized")]));
    assert_eq!((walks.len(), &walks[2]["work"]), (3, &json!("evaluation")));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_destination_gets_all_members_and_one_that_goes_away_takes_its_backfill_along() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).backfill_rate(1).start().await;
    gold_members(&postern, 5).await;
    let text = fs::read_to_string(postern.config_file()).unwrap();
    let other = Appliance::set_up(&pki).destination("ads", &receiver.url()).write();
    let with = fs::read_to_string(other.config_file()).unwrap();
    let destination = &with[with.find("\n[[destination]]").unwrap()..];
    let write = |text: &str| fs::write(postern.config_file(), text).unwrap();

    write(&format!("{text}{destination}"));
    postern.verb(&["reload"]).succeeds();
    receiver.wait_for(1).await;
    write(&text);
    postern.verb(&["reload", "--drain", "ads"]).succeeds();
    let walks = all_ended(&postern).await;
    assert_eq!(walks[0]["state"], "cancelled");
    assert!(walks[0]["reason"].as_str().unwrap().contains("ads is not configured any more"), "{walks:#?}");
    write(&format!("{text}{destination}").replace("rate = 1\n", "rate = 1000\n"));
    postern.verb(&["reload"]).succeeds();
    let walks = all_ended(&postern).await;

    assert_eq!((&walks[1]["state"], &walks[1]["exports"]), (&json!("done"), &json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_that_is_wished_for_exports_whom_it_counted_and_is_told_of() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).audience(OLD, OLD_RULE).mapping(&[GOLD, OLD], &["plan", "mail"]);
    let set_up = set_up.with("unique_id = { attribute = \"mail\" }").destination("crm", &receiver.url());
    let postern = set_up.start().await;
    for (person, plan, age, mail) in [
        ("ada", "gold", 70, "a@x"),
        ("bob", "gold", 8, "b@x"),
        ("cyd", "tin", 80, "c@x"),
        ("dan", "gold", 9, ""),
        ("eve", "tin", 9, "e@x"),
    ] {
        postern.post("web", &update(person, json!({ "plan": plan, "age": age, "mail": mail }))).await;
    }
    postern.wait_for_exports("crm", [0, 3, 0]).await;

    let counted = postern.verb(&["backfill", "crm", "--dry-run", "--json"]).json();
    let of_old = postern.verb(&["backfill", "crm", "--audience", OLD, "--dry-run"]).succeeds();
    let done = postern.verb(&["backfill", "crm", "--json"]).json();
    postern.wait_for_exports("crm", [0, 6, 0]).await;
    let again = postern.verb(&["backfill", "crm", "--audience", OLD]).succeeds();
    postern.wait_for_exports("crm", [0, 8, 0]).await;

    assert_eq!(counted, json!({ "profiles": 5, "exports": 3, "skipped": 1 }));
    assert!(of_old.stdout.starts_with("2 of 5 profiles would be exported"), "{of_old:?}");
    assert_eq!((&done["state"], &done["done"], &done["exports"]), (&json!("done"), &json!(5), &json!(3)));
    assert!(again.stdout.contains("backfill crm: 5 of 5 profiles, 2 exports; done"), "{again:?}");
    let people = |requests: &[Request]| requests.iter().map(|r| who(&r.body).to_owned()).collect::<BTreeSet<_>>();
    let requests = receiver.requests();
    assert_eq!(people(&requests[3..6]), ["ada", "bob", "cyd"].map(str::to_owned).into());
    assert_eq!(people(&requests[6..]), ["ada", "cyd"].map(str::to_owned).into());
    let (_, crm) = postern.ask(Method::GET, "/v1/destinations/crm", None).await;
    assert_eq!((&crm["counted"]["skipped"], &crm["backfills"]), (&json!(2), &json!([])));
    let trail = fs::read_to_string(postern.state_dir.join("audit.log")).unwrap();
    assert_eq!(trail.matches(r#""action":"destination.backfill""#).count(), 2, "{trail}");
    postern.verb(&["audit"]).succeeds();
    for (arguments, code, says) in [
        (&["backfill", "nobody"][..], 66, "no destination `nobody`"),
        (
            &["backfill", "crm", "--audience", "young"],
            66,
            "`young` is not mapped to `crm`; mapped are gold-members, old-members",
        ),
        (&["backfill", "--follow", "7"], 2, "is a UUID"),
        (&["backfill", "--cancel", "00000000-0000-7000-8000-000000000000"], 66, "there is no backfill 00000000"),
        (&["backfill"], 2, "required"),
        (&["backfill", "--list", "--dry-run"], 2, "cannot be used with"),
    ] {
        postern.verb(arguments).refuses(code, says);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_waits_while_its_destination_is_held_or_paused_and_an_evaluation_does_not() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).audience(OLD, OLD_RULE).mapping(&[GOLD, OLD], &["plan"]);
    let postern = set_up.destination("crm", &receiver.url()).start().await;
    for person in ["ada", "bob", "cyd"] {
        postern.post("web", &update(person, json!({ "plan": "gold", "age": 61 }))).await;
    }
    postern.wait_for_exports("crm", [0, 3, 0]).await;
    receiver.stop().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_hold("crm", "unreachable").await;

    let walk = postern.verb(&["backfill", "crm", "--detach", "--json"]).json();
    let id = walk["id"].as_str().unwrap().to_owned();
    let of = |id: &str| format!("/v1/backfills/{id}");
    let waits = async |what: &str| {
        let says = |crm: &Value| crm["backfills"][0]["reason"].as_str().is_some_and(|reason| reason.contains(what));
        postern.wait_until(&["destination", "show", "crm"], says).await;
    };
    waits("which is held: unreachable").await;
    let status = postern.verb(&["status"]).succeeds();
    assert!(
        status.stdout.contains("backfill crm: 0 profiles, 0 exports; it waits for crm, which is held"),
        "{status:?}"
    );
    let second = postern.verb(&["backfill", "crm", "--audience", OLD]);
    second.refuses(1, &format!("backfill {id} exports the same members and has not ended"));
    // Another audience's rule changes meanwhile: who leaves is exported, and waits like all.
    reload_with(&postern, OLD_RULE, "age > 99");
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="waiting"}"#, 4.0).await;
    postern.wait_for_metric(r#"postern_backfills_owed{work="evaluation"}"#, 0.0).await;
    postern.wait_for_metric(r#"postern_backfills_owed{work="backfill"}"#, 1.0).await;
    assert_eq!(postern.ask(Method::GET, &of(&id), None).await.1["done"], 0);

    receiver.start_again();
    postern.verb(&["destination", "pause", "crm"]).succeeds();
    waits("which is paused").await;
    postern.verb(&["destination", "resume", "crm"]).succeeds();
    let walks = all_ended(&postern).await;
    postern.wait_for_exports("crm", [0, 10, 0]).await;

    assert_eq!(walks.iter().map(|walk| walk["state"].as_str().unwrap()).collect::<Vec<_>>(), ["done", "done"]);
    let last: BTreeMap<String, Value> =
        receiver.requests().iter().map(|r| (who(&r.body).to_owned(), r.body.clone())).collect();
    assert!(last.values().all(|body| body["segmentMembership"]["ups"][OLD]["status"] == "exited"), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_is_cancelled_by_a_wish_and_an_evaluation_is_not() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).backfill_rate(1).destination("crm", &receiver.url()).start().await;
    gold_members(&postern, 6).await;
    postern.wait_for_exports("crm", [0, 6, 0]).await;
    let id = postern.verb(&["backfill", "crm", "--detach", "--json"]).json()["id"].as_str().unwrap().to_owned();
    receiver.wait_for(7).await;

    // Whoever interrupts the command that waits leaves it running.
    let mut follow = postern.command(&["backfill", "--follow", &id, "--socket"]);
    let follow = follow.arg(postern.socket()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = follow.id().to_string();
    wait_for_handler(&pid).await;
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let interrupted = follow.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&interrupted.stderr).into_owned();
    assert!(interrupted.status.success() && said.contains(&format!("backfill {id} goes on")), "{interrupted:?}");

    let cancelled = postern.verb(&["backfill", "--cancel", &id, "--json"]).json();
    reload_with(&postern, r#"plan = "gold""#, r#"plan != "gold""#);
    let walks = postern.verb(&["backfill", "--list", "--json"]).json();
    let evaluation = walks[1]["id"].as_str().unwrap();
    let refused = postern.verb(&["backfill", "--cancel", evaluation]);

    assert_eq!((&cancelled["state"], &cancelled["reason"]), (&json!("cancelled"), &json!("a person wished it")));
    assert!(cancelled["done"].as_u64().unwrap() < 6, "{cancelled}");
    refused.refuses(1, "an evaluation is not cancelled");
    let followed = postern.verb(&["backfill", "--follow", &id]);
    followed.refuses(1, "did not come to its end");
}

/// Waits until a process has a way of its own to take an interrupt.
async fn wait_for_handler(pid: &str) {
    let until = Instant::now() + PATIENCE;
    let catches = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() & 1 << 1 != 0
    };
    while !catches() {
        assert!(Instant::now() < until, "{pid} takes no interrupt");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_while_all_are_gone_over_are_evaluated_and_the_last_one_counts() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).backfill_rate(1).destination("crm", &receiver.url()).start().await;
    gold_members(&postern, 5).await;
    postern.wait_for_exports("crm", [0, 5, 0]).await;

    reload_with(&postern, r#"plan = "gold""#, r#"plan = "tin""#);
    receiver.wait_for(6).await;
    reload_with(&postern, r#"plan = "tin""#, r#"plan = "iron""#);
    reload_with(&postern, r#"plan = "iron""#, r#"plan != "tin""#);
    reload_with(&postern, "rate = 1\n", "rate = 1000\n");
    let walks = all_ended(&postern).await;
    assert!(postern.drains("crm", Duration::from_secs(20)).await);

    let said: Vec<_> =
        walks.iter().map(|walk| (walk["work"].as_str().unwrap(), walk["state"].as_str().unwrap())).collect();
    assert_eq!(said, [("evaluation", "done"), ("evaluation", "done"), ("evaluation", "cancelled")]);
    let why = walks[2]["reason"].as_str().unwrap();
    assert_eq!(why, format!("evaluation {} does it too", walks[1]["id"].as_str().unwrap()));
    assert_eq!(postern.verb(&["audience", "list", "--json"]).json()[0]["members"], 5);
    let last: BTreeMap<String, Value> =
        receiver.requests().into_iter().map(|request| (who(&request.body).to_owned(), request.body)).collect();
    assert!(last.values().all(|body| body["segmentMembership"]["ups"][GOLD]["status"] == "realized"), "{last:#?}");
}

#[tokio::test]
async fn kill_in_the_middle_of_a_backfill_or_an_evaluation_loses_nobody_and_repeats_only_what_was_in_hand() {
    const MEMBERS: usize = 400;
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern =
        Appliance::set_up(&pki).max_in_flight(4).backfill_rate(400).destination("crm", &receiver.url()).start().await;
    gold_members(&postern, MEMBERS).await;
    postern.wait_for_exports("crm", [0, MEMBERS as u32, 0]).await;
    receiver.take_requests();

    assert_eq!(postern.ask(Method::POST, "/v1/destinations/crm/backfill", None).await.0, 200);
    for seen in [60, 150, 260] {
        receiver.wait_for(seen).await;
        postern.kill();
        postern.start_again().await;
    }
    ended(&postern).await;
    assert!(postern.drains("crm", Duration::from_secs(20)).await);
    let (exports, repeated) = by_person(&receiver.take_requests());
    assert_eq!(exports.len(), MEMBERS, "each is exported");
    assert!(exports.values().all(|keys| keys.len() == 1), "no member is exported twice: only requests are repeated");
    assert!(repeated <= 3 * 4 * 4, "{repeated} requests were repeated");

    // The same of an evaluation, by which all leave.
    let text = fs::read_to_string(postern.config_file()).unwrap();
    fs::write(postern.config_file(), text.replace(r#"plan = "gold""#, r#"plan = "tin""#)).unwrap();
    for seen in [0, 80, 200] {
        receiver.wait_for(seen).await;
        postern.kill();
        postern.start_again().await;
    }
    ended(&postern).await;
    assert!(postern.drains("crm", Duration::from_secs(20)).await);
    let requests = receiver.take_requests();
    let (exports, repeated) = by_person(&requests);
    assert_eq!((exports.len(), exports.values().filter(|keys| keys.len() > 1).count()), (MEMBERS, 0));
    assert!(repeated <= 3 * 4 * 4, "{repeated} requests were repeated");
    let exited = |request: &Request| request.body["segmentMembership"]["ups"][GOLD]["status"] == "exited";
    assert!(requests.iter().all(exited));
    let walks = postern.ask(Method::GET, "/v1/backfills", None).await.1;
    assert_eq!(walks.as_array().unwrap().iter().map(|walk| &walk["done"]).collect::<Vec<_>>(), [MEMBERS, MEMBERS]);
    assert!(postern.stop().await.success());
}

/// Waits until nothing is owed any more.
async fn ended(postern: &Appliance) {
    for work in ["backfill", "evaluation"] {
        postern.wait_for_metric(&format!(r#"postern_backfills_owed{{work="{work}"}}"#), 0.0).await;
    }
}

/// The exports of each person, by their keys, and how many requests repeated one.
fn by_person(requests: &[Request]) -> (BTreeMap<String, BTreeSet<String>>, usize) {
    let mut exports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in requests {
        let key = request.idempotency_key().unwrap().to_owned();
        exports.entry(who(&request.body).to_owned()).or_default().insert(key);
    }
    let distinct: usize = exports.values().map(BTreeSet::len).sum();
    (exports, requests.len() - distinct)
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_export_arrives_within_a_second_while_members_are_exported() {
    fresh_while_members_are_exported(600, Duration::from_millis(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: 20000 members"]
async fn fresh_export_arrives_within_a_second_while_twenty_thousand_members_are_exported() {
    fresh_while_members_are_exported(20_000, Duration::from_millis(10)).await;
}

/// A receiver that takes four at once, each for `answer_after`, is sent all members; updates come in meanwhile.
async fn fresh_while_members_are_exported(members: usize, answer_after: Duration) {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).quiet().max_in_flight(4).backfill_rate(5000);
    let postern = set_up.destination("crm", &receiver.url()).start().await;
    gold_members(&postern, members).await;
    assert!(postern.drains("crm", Duration::from_secs(120)).await);
    receiver.take_requests();
    receiver.answer_by(move |_| Reply::Late(answer_after, Box::new(Reply::status(200))));

    let walk = postern.verb(&["backfill", "crm", "--detach", "--json"]).json();
    let is_over = async || {
        let (_, walk) =
            postern.ask(Method::GET, &format!("/v1/backfills/{}", walk["id"].as_str().unwrap()), None).await;
        !walk["ended_at"].is_null()
    };
    let mut sent = BTreeMap::new();
    while !is_over().await {
        let person = format!("fresh{}", sent.len());
        postern.post("web", &update(&person, json!({ "plan": "gold" }))).await;
        sent.insert(person, Instant::now());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(postern.drains("crm", Duration::from_secs(20)).await);

    let requests = receiver.take_requests();
    let waited = |request: &Request| Some(request.at.duration_since(*sent.get(who(&request.body))?));
    let waits: Vec<Duration> = requests.iter().filter_map(waited).collect();
    let longest = waits.iter().max().unwrap();
    assert!(*longest < Duration::from_secs(1), "a fresh export took {longest:?}");
    assert!(sent.len() > 10 && waits.len() == sent.len(), "{} of {} fresh ones", waits.len(), sent.len());
    assert_eq!(by_person(&requests).0.len(), members + sent.len(), "all members are exported beside");
    let seconds = requests.last().unwrap().at.duration_since(requests[0].at).as_secs_f64();
    let a_second = members as f64 / seconds;
    println!("{a_second:.0} members a second; the slowest of {} fresh exports took {longest:?}", waits.len());
    // Nothing but the receiver slows it down: half of what that takes at most.
    assert!(a_second > 2.0 / answer_after.as_secs_f64(), "{a_second} a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_goes_on_where_it_was_when_its_destination_is_called_otherwise() {
    const MEMBERS: usize = 40;
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).backfill_rate(5).destination("crm", &receiver.url()).start().await;
    gold_members(&postern, MEMBERS).await;
    postern.wait_for_exports("crm", [0, MEMBERS as u32, 0]).await;
    receiver.take_requests();

    assert_eq!(postern.ask(Method::POST, "/v1/destinations/crm/backfill", None).await.0, 200);
    receiver.wait_for(8).await;
    reload_with(&postern, "name = \"crm\"", "name = \"partner\"\nrenamed_from = \"crm\"");
    reload_with(&postern, "rate = 5\n", "rate = 1000\n");
    let walks = all_ended(&postern).await;
    assert!(postern.drains("partner", Duration::from_secs(20)).await);

    let (exports, _) = by_person(&receiver.take_requests());
    assert_eq!(exports.len(), MEMBERS, "each is exported");
    let twice = exports.values().filter(|keys| keys.len() > 1).count();
    // What was visited while the name changed.
    assert!(twice <= 2, "{twice} members were exported twice");
    let said: Vec<_> =
        walks.iter().map(|walk| (walk["destination"].as_str(), walk["state"].as_str().unwrap())).collect();
    assert_eq!(said, [(Some("crm"), "cancelled"), (Some("partner"), "done")]);
    assert_eq!((&walks[1]["total"], &walks[1]["done"]), (&json!(MEMBERS), &json!(MEMBERS)));
    postern.verb(&["audit"]).succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_fills_batches_and_does_not_wait_for_each_of_its_exports() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).with("batch = { max_exports = 100, max_wait = \"5s\" }");
    let postern = set_up.destination("crm", &receiver.url()).start().await;
    gold_members(&postern, 300).await;
    postern.wait_for_exports("crm", [0, 300, 0]).await;

    let begun = Instant::now();
    postern.verb(&["backfill", "crm"]).succeeds();
    let took = begun.elapsed();
    postern.wait_for_exports("crm", [0, 600, 0]).await;

    assert!(took < Duration::from_secs(20), "300 members, 1000 a second: {took:?}");
}
