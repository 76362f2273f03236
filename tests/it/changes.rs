//! What a change of the configuration does to what waits, to what is made from then on, and to what is known: the table in
//! `docs/changes.md`.

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, held, waiting},
    changing::Changing,
    pki::Pki,
    receiver::{Receiver, Request},
    sender::{update, who},
    set_up::GOLD,
};

fn total(destination: &str, result: &str) -> String {
    format!(r#"postern_exports_total{{destination="{destination}",result="{result}"}}"#)
}

/// The status of an audience in what came.
fn status<'r>(request: &'r Request, audience: &str) -> &'r Value {
    &request.body["segmentMembership"]["ups"][audience]["status"]
}

/// What came of a person.
fn of<'r>(requests: &'r [Request], person: &str) -> Vec<&'r Request> {
    requests.iter().filter(|request| who(&request.body) == person).collect()
}

async fn paused(set_up: crate::support::set_up::SetUp) -> Changing {
    let changing = Changing::start(set_up).await;
    changing.postern.verb(&["destination", "pause", "crm"]).succeeds();
    changing
}

impl Changing {
    fn resume(&self) {
        self.postern.verb(&["destination", "resume", "crm"]).succeeds();
    }

    fn reload(&self) -> Value {
        self.postern.verb(&["reload", "--json"]).json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_as_it_was_made_to_where_the_destination_is_now() {
    let pki = Pki::new();
    let (before, now) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    let changing = paused(Appliance::set_up(&pki).destination("crm", &before.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1, "name": "Ada" }))).await;

    changing.edit(&before.url(), &now.url());
    changing.edit("retry_delays", "headers = \"X-Tenant:7\"\nretry_delays");
    changing.edit(r#"["plan", "version", "name"]"#, r#"["version"]"#);
    changing.reload();
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    changing.resume();

    let requests = now.wait_for(2).await;
    let bodies: Vec<_> = requests.iter().map(|request| [&request.body["version"], &request.body["name"]]).collect();
    assert_eq!(bodies, [[&json!(1), &json!("Ada")], [&json!(2), &Value::Null]]);
    assert!(requests.iter().all(|request| request.header("x-tenant") == Some("7")));
    assert_eq!(before.requests().len(), 0);
    assert_eq!(postern.metric(&total("crm", "made")).await, Some(2.0), "the change itself makes none");
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_that_is_unmapped_makes_no_exit_and_what_waits_still_shows_it() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| if who(&request.body) == "dan" { 422.into() } else { 200.into() });
    let set_up =
        Appliance::set_up(&pki).audience("vips", "version > 100").mapping(&[GOLD, "vips"], &["plan", "version"]);
    let changing = Changing::start(set_up.with("memberships = \"mapped\"").destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("dan", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    postern.verb(&["destination", "pause", "crm"]).succeeds();
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 101 }))).await;
    postern.post("web", &update("bob", json!({ "plan": "gold", "version": 1 }))).await;

    changing.edit(&format!(r#"["{GOLD}", "vips"]"#), r#"["vips"]"#);
    changing.reload();
    postern.post("web", &update("ada", json!({ "version": 102 }))).await;
    postern.post("web", &update("bob", json!({ "version": 2 }))).await;
    postern.post("web", &update("bob", json!({ "plan": "none" }))).await;
    let letter = postern.verb(&["dead-letter", "list", "--json"]).lines()[0]["id"].as_str().unwrap().to_owned();
    let redriven = postern.verb(&["dead-letter", "redrive", &letter]).succeeds();
    changing.resume();
    postern.wait_for_metric(&waiting("crm"), 0.0).await;

    let requests = receiver.requests();
    let [entered, later] = of(&requests, "ada")[..] else { panic!("{requests:?}") };
    assert_eq!((status(entered, GOLD), status(later, GOLD)), (&json!("realized"), &Value::Null));
    assert_eq!(status(later, "vips"), &json!("realized"));
    let [only] = of(&requests, "bob")[..] else { panic!("no export follows any more: {requests:?}") };
    assert_eq!((status(only, GOLD), &only.body["version"]), (&json!("realized"), &json!(1)));
    assert!(redriven.stdout.contains("no mapped audience"), "{redriven:?}");
    assert_eq!(postern.metric(&total("crm", "moot")).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_that_is_mapped_is_shown_from_then_on() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).audience("vips", "version > 100").with("memberships = \"mapped\"");
    let changing = paused(set_up.destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 101 }))).await;

    changing.edit(&format!(r#"audiences = ["{GOLD}"]"#), &format!(r#"audiences = ["{GOLD}", "vips"]"#));
    changing.reload();
    postern.post("web", &update("ada", json!({ "version": 102 }))).await;
    changing.resume();

    let requests = receiver.wait_until("the last version", |seen| seen.iter().any(|r| r.body["version"] == 102)).await;
    assert_eq!((status(&requests[0], GOLD), status(&requests[0], "vips")), (&json!("realized"), &Value::Null));
    assert_eq!(status(requests.last().unwrap(), "vips"), &json!("realized"));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rule_lets_profiles_enter_and_leave() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let changing = paused(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.post("web", &update("bob", json!({ "plan": "silver" }))).await;

    changing.edit(r#"plan = "gold""#, r#"plan = "silver""#);
    changing.reload();
    for person in ["ada", "bob"] {
        postern.post("web", &update(person, json!({ "name": person }))).await;
    }
    changing.resume();

    let last = |seen: &[Request], person: &str| of(seen, person).last().map(|request| status(request, GOLD).clone());
    let is_told =
        |seen: &[Request]| [last(seen, "ada"), last(seen, "bob")] == [Some(json!("exited")), Some(json!("realized"))];
    let requests = receiver.wait_until("one who leaves and one who enters", is_told).await;
    assert_eq!(status(of(&requests, "ada")[0], GOLD), &json!("realized"), "as it was when it was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_of_another_id_is_entered_and_the_old_one_is_not_left() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    receiver.wait_for(1).await;
    let text = changing.text();

    changing.edit(&format!("id = \"{GOLD}\""), "id = \"golden\"");
    postern.verb(&["reload"]).refuses(78, &format!("no audience `{GOLD}`"));
    std::fs::write(postern.config_file(), text.replace(GOLD, "golden")).unwrap();
    changing.reload();
    postern.post("web", &update("ada", json!({ "name": "Ada" }))).await;

    let requests =
        receiver.wait_until("the new audience", |seen| seen.iter().any(|r| !status(r, "golden").is_null())).await;
    assert_eq!(status(&requests[0], GOLD), &json!("realized"));
    assert!(requests[1..].iter().all(|request| status(request, GOLD).is_null()), "{requests:?}");
    assert_eq!(status(requests.last().unwrap(), "golden"), &json!("realized"));
}

#[tokio::test(flavor = "multi_thread")]
async fn inlet_of_another_name_takes_updates_and_profiles_keep_what_they_have() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1, "name": "Ada" }))).await;
    receiver.wait_for(1).await;

    changing.edit("name = \"web\"\n", "name = \"shop\"\ndataset = \"orders\"\n");
    assert_eq!(changing.reload()["others"], json!(["inlets"]));
    let refused = postern.try_post("web", &update("ada", json!({ "version": 2 }))).await.unwrap();
    postern.post("shop", &update("ada", json!({ "version": 3 }))).await;

    assert_eq!(refused.0, 404, "{refused:?}");
    let last = receiver.wait_for(2).await.pop().unwrap().body;
    assert_eq!([&last["version"], &last["plan"], &last["name"]], [&json!(3), &json!("gold"), &json!("Ada")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_that_comes_back_goes_on_with_its_letters_and_counters() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(422);
    let set_up = Appliance::set_up(&pki).destination("crm", &receiver.url()).destination("ads", &receiver.url());
    let changing = Changing::start(set_up).await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    postern.wait_for_exports("ads", [0, 0, 1]).await;
    receiver.answer_with(404);
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    postern.wait_for_hold("crm", "status_404").await;
    let text = changing.text();

    changing.remove("crm");
    postern.verb(&["reload", "--discard", "crm"]).succeeds();
    postern.wait_for_metric(&total("crm", "dropped"), 1.0).await;
    postern.wait_for_metric(&held("crm"), 0.0).await;
    let hold = r#"postern_destination_hold_reason{destination="crm",reason="status_404"}"#;
    assert_eq!(postern.metric(hold).await, Some(0.0), "nothing is held any more");
    let letters = || postern.verb(&["dead-letter", "list", "--destination", "crm", "--json"]).lines();
    let [letter] = &letters()[..] else { panic!("the letter stays") };
    let id = letter["id"].as_str().unwrap();
    postern.verb(&["dead-letter", "redrive", id]).refuses(1, "not configured");
    assert_eq!(postern.metric(&total("crm", "dead")).await, Some(1.0));
    std::fs::write(postern.config_file(), text).unwrap();
    changing.reload();
    receiver.answer_with(200);
    postern.verb(&["dead-letter", "redrive", id]).succeeds();
    postern.wait_for_metric(&total("crm", "delivered"), 1.0).await;

    let counted = postern.verb(&["destination", "show", "crm", "--json"]).json()["counted"].clone();
    let expected = [("made", 3), ("delivered", 1), ("dropped", 1), ("redriven", 1), ("dead", 0)];
    assert!(expected.iter().all(|(what, count)| counted[what] == *count), "{counted}");
    assert_eq!(postern.verb(&["audit", "--json"]).json()["differences"], json!([]));
}

/// A hold, a letter, what waits, and updates that go on all the while.
#[tokio::test(flavor = "multi_thread")]
async fn renamed_destination_keeps_what_waits_and_all_that_is_known_of_it() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(422);
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    receiver.answer_with(404);
    for version in 1..=5 {
        postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
    }
    postern.wait_for_hold("crm", "status_404").await;

    changing.edit("name = \"crm\"", "name = \"partner\"\nrenamed_from = \"crm\"");
    postern.verb(&["reload", "--drain", "crm"]).refuses(78, "is called otherwise now");
    let sending = tokio::spawn({
        let sender = postern.sender();
        async move {
            for version in 6..=60 {
                let (status, _) = sender.try_post("web", &update("ada", json!({ "version": version }))).await.unwrap();
                assert_eq!(status, 200);
            }
        }
    });
    let told = changing.reload();
    sending.await.unwrap();
    let shown = postern.verb(&["destination", "show", "partner", "--json"]).json();
    receiver.answer_with(200);
    postern.wait_for_metric(&waiting("partner"), 0.0).await;

    assert_eq!(told["renamed"], json!([{ "from": "crm", "to": "partner" }]));
    assert_eq!([&told["added"], &told["removed"]], [&json!([]), &json!([])]);
    assert_eq!((&shown["state"], &shown["counted"]["dead"]), (&json!("held"), &json!(1)), "{shown}");
    let requests = receiver.requests();
    let mut versions: Vec<u64> = of(&requests, "ada").iter().filter_map(|r| r.body["version"].as_u64()).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    versions.dedup();
    assert_eq!(versions, (1..=60).collect::<Vec<_>>());
    assert_eq!(postern.metric(&total("partner", "delivered")).await, Some(60.0));
    assert_eq!((postern.metric(&waiting("crm")).await, postern.metric(&held("crm")).await), (Some(0.0), Some(0.0)));
    let letter = postern.verb(&["dead-letter", "list", "--json"]).lines().remove(0);
    assert_eq!(letter["destination"], "partner");
    postern.verb(&["dead-letter", "redrive", letter["id"].as_str().unwrap()]).succeeds();
    postern.wait_for_metric(&total("partner", "delivered"), 61.0).await;
    let status = postern.verb(&["status", "--json"]).json();
    assert_eq!((status["destinations"].as_array().unwrap().len(), &status["unconfigured"]), (1, &json!([])));
    assert_eq!(postern.verb(&["audit", "--json"]).json()["differences"], json!([]));
    assert!(postern.verb(&["reload"]).succeeds().stdout.contains("nothing changed"), "the key may stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_is_renamed_at_a_start_too() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut changing = paused(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    changing.postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    changing.postern.stop().await;
    changing.edit("name = \"crm\"", "name = \"partner\"\nrenamed_from = \"crm\"");

    changing.postern.start_again().await;
    let postern = &changing.postern;
    let shown = postern.verb(&["destination", "show", "partner", "--json"]).json();
    postern.verb(&["destination", "resume", "partner"]).succeeds();
    receiver.wait_for(1).await;

    assert_eq!((&shown["state"], &shown["counted"]["waiting"]), (&json!("paused"), &json!(1)), "{shown}");
    postern.wait_for_metric(&total("partner", "delivered"), 1.0).await;
    // It was used by now, so it cannot take over anybody else's.
    changing.edit("renamed_from = \"crm\"", "");
    changing.edit("name = \"partner\"", "name = \"third\"");
    changing.reload();
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    // Its member, and the update.
    postern.wait_for_metric(&total("third", "delivered"), 2.0).await;
    changing.edit("name = \"third\"", "name = \"partner\"\nrenamed_from = \"third\"");
    postern.verb(&["reload"]).refuses(78, "has exports of its own");
    assert_eq!(postern.verb(&["audit", "--json"]).json()["differences"], json!([]));
}
