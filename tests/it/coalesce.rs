//! Newer exports take the places of older ones that wait, where a destination wants that.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, clock, waiting},
    flood::{CONNECTIONS, flood},
    number_from,
    pki::Pki,
    receiver::{Receiver, Request},
    sender::{update, who},
    set_up::GOLD,
};

/// More than the longest pause between two probes.
const TURN: Duration = Duration::from_secs(70);

fn made(result: &str) -> String {
    format!(r#"postern_exports_total{{destination="crm",result="{result}"}}"#)
}

fn status(request: &Request) -> &str {
    request.body["segmentMembership"]["ups"][GOLD]["status"].as_str().unwrap()
}

/// What came of each person, in order.
fn by_person<T>(requests: &[Request], of: impl Fn(&Request) -> T) -> BTreeMap<String, Vec<T>> {
    let mut found = BTreeMap::<_, Vec<T>>::new();
    requests.iter().for_each(|request| found.entry(who(&request.body).to_owned()).or_default().push(of(request)));
    found
}

/// Through a hold, a kill, and a change of the setting.
#[tokio::test(flavor = "multi_thread")]
async fn newer_exports_take_the_places_of_those_that_wait_and_the_last_state_arrives() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(404);
    let set_up = Appliance::set_up(&pki).with("coalesce = \"all\"");
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;
    for version in 1..=20 {
        for person in ["ada", "bob", "cyd"] {
            postern.post("web", &update(person, json!({ "plan": "gold", "version": version }))).await;
        }
        if version == 1 {
            postern.wait_for_hold("crm", "status_404").await;
        }
        if version == 10 {
            postern.kill();
            postern.start_again().await;
        }
    }

    let audit = postern.verb(&["audit"]).succeeds().stdout;
    let counted = postern.verb(&["destination", "show", "crm", "--json"]).json()["counted"].clone();
    receiver.answer_with(200);
    postern.wait_for_metric(&waiting("crm"), 0.0).await;

    let delivered: Vec<Request> = receiver.requests();
    let last = by_person(&delivered, |request| request.body["version"].as_u64().unwrap());
    for (person, versions) in &last {
        assert!(versions.is_sorted() && versions.last() == Some(&20), "{person}: {versions:?}");
    }
    // One may have been under way when the next came.
    let waited = counted["waiting"].as_u64().unwrap();
    assert!((3..=6).contains(&waited), "{counted}");
    assert_eq!(counted["superseded"].as_u64().unwrap() + waited, 60, "{counted}");
    assert!(audit.contains("60 made = ") && audit.contains(" superseded") && audit.contains("everything adds up"));
    assert_eq!(postern.metric(&made("superseded")).await, Some((60 - waited) as f64));
    assert_eq!(postern.metric(&made("delivered")).await, Some(waited as f64));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_lost_its_place_is_not_found_and_the_newer_one_tells_why_both_were_made() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).with("coalesce = \"keep-transitions\"");
    let postern = set_up.destination("crm", &receiver.url()).start().await;
    postern.verb(&["destination", "pause", "crm"]).succeeds();
    let only = || {
        let list = postern.verb(&["export", "list", "--json"]).lines();
        let [only] = &list[..] else { panic!("{list:?}") };
        only["id"].as_str().unwrap().to_owned()
    };
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    let older = only();

    postern.post("web", &update("ada", json!({ "version": 2 }))).await;

    let newer = only();
    assert_ne!(older, newer);
    postern.verb(&["export", "show", &older]).refuses(66, &older);
    let shown = postern.verb(&["export", "show", &newer, "--json"]).json().to_string();
    assert!(shown.contains(GOLD) && shown.contains("version"), "{shown}");
    postern.verb(&["destination", "resume", "crm"]).succeeds();
    let [request] = &receiver.wait_for(1).await[..] else { panic!("one export") };
    assert_eq!((request.idempotency_key(), &request.body["version"]), (Some(newer.as_str()), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entering_and_leaving_is_seen_where_transitions_are_kept() {
    let pki = Pki::new();
    for (how, expected) in [
        ("keep-transitions", vec!["realized", "exited", "realized"]),
        ("all", vec!["realized"]),
        ("off", vec!["realized", "realized", "exited", "realized", "realized"]),
    ] {
        let receiver = Receiver::start(&pki).await;
        let set_up = Appliance::set_up(&pki).with(&format!("coalesce = \"{how}\""));
        let postern = set_up.destination("crm", &receiver.url()).start().await;
        postern.verb(&["destination", "pause", "crm"]).succeeds();
        for (version, plan) in ["gold", "gold", "none", "none", "gold", "gold"].into_iter().enumerate() {
            postern.post("web", &update("ada", json!({ "plan": plan, "version": version }))).await;
        }

        postern.verb(&["destination", "resume", "crm"]).succeeds();
        let requests = receiver.wait_for(expected.len()).await;
        postern.wait_for_metric(&waiting("crm"), 0.0).await;

        assert_eq!(requests.iter().map(status).collect::<Vec<_>>(), expected, "{how}");
        assert_eq!(requests.last().unwrap().body["version"], 5, "{how}");
    }
}

/// A day on the manual clock, with far more updates than people. `POSTERN_COALESCE_EXPORTS=200000` is the long form.
#[tokio::test]
async fn day_of_outage_leaves_one_export_a_profile() {
    const PEOPLE: u64 = CONNECTIONS;
    const HOURS: u64 = 24;
    let an_hour = number_from("POSTERN_COALESCE_EXPORTS", 4800) / HOURS;
    let (pki, clock) = (Pki::lasting(Duration::from_secs(48 * 3600)), clock());
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let set_up = Appliance::set_up(&pki).quiet().with("coalesce = \"all\"");
    let mut postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
    for hour in 0..HOURS {
        let (from, to) = (hour * an_hour, (hour + 1) * an_hour);
        flood(&postern.inlets(), from..to, |number| {
            let (person, version) = (number % PEOPLE, number / PEOPLE + 1);
            update(&format!("p{person}"), json!({ "plan": "gold", "version": version })).to_string()
        })
        .await;
        postern.wait_for_hold("crm", "unreachable").await;
        let next = clock.now() + Duration::from_secs(3600);
        while clock.now() < next {
            clock.advance(TURN);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    let waited = postern.metric(&waiting("crm")).await.unwrap();
    println!("{} exports of {PEOPLE} profiles: {waited} wait", HOURS * an_hour);
    receiver.start_again();
    postern.turn_until_metric(&clock, &waiting("crm"), 0.0).await;

    // A probe under way keeps its export from the next update, which then waits behind it.
    assert!((PEOPLE as f64..=2.0 * PEOPLE as f64).contains(&waited), "{waited} wait");
    let versions = by_person(&receiver.requests(), |request: &Request| request.body["version"].clone());
    assert_eq!(versions.len() as u64, PEOPLE);
    let last = |person: u64| (HOURS * an_hour - 1 - person) / PEOPLE + 1;
    for (person, versions) in versions {
        let versions: Vec<u64> = versions.iter().filter_map(Value::as_u64).collect();
        let number: u64 = person[1..].parse().unwrap();
        assert!(versions.is_sorted() && versions.last() == Some(&last(number)), "{person}: {versions:?}");
    }
    assert_eq!(postern.metric(&made("made")).await, Some((HOURS * an_hour) as f64));
    assert_eq!(postern.metric(&made("dead")).await, Some(0.0));
    assert_eq!(postern.metric("postern_audit_difference{compared=\"counters\"}").await, Some(0.0));
    assert!(postern.stop().await.success());
}
