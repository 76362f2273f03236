//! The configuration is read anew while updates come in and exports go out: all of it, or nothing.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    appliance::Appliance, changing::Changing, pki::Pki, receiver::Receiver, reply::Reply, sender::update,
};

#[tokio::test(flavor = "multi_thread")]
async fn destination_is_added_changed_and_removed_without_a_restart() {
    let pki = Pki::new();
    let (first, second, third) =
        (Receiver::start(&pki).await, Receiver::start(&pki).await, Receiver::start(&pki).await);
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &first.url())).await;
    let postern = &changing.postern;
    let pid = postern.process();
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    first.wait_for(1).await;

    let file = changing.add(Appliance::set_up(&pki).destination("ads", &second.url()));
    let added = postern.verb(&["reload", "--json"]).json();
    // The member that there is comes first.
    second.wait_for(1).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;
    first.wait_for(2).await;
    second.wait_for(2).await;
    changing.edit(&first.url(), &third.url());
    let changed = postern.verb(&["reload", "--json"]).json();
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 3 }))).await;
    third.wait_for(1).await;
    second.wait_for(3).await;
    fs::remove_file(file).unwrap();
    let removed = postern.verb(&["reload", "--json"]).json();
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 4 }))).await;
    third.wait_for(2).await;
    let unchanged = postern.verb(&["reload"]).succeeds();

    assert_eq!((&added["added"], &added["others"]), (&json!(["ads"]), &json!(["mappings"])));
    assert_eq!((&changed["changed"], &changed["added"]), (&json!(["crm"]), &json!([])));
    assert_eq!((&removed["removed"], &removed["draining"]), (&json!(["ads"]), &json!([])));
    assert!(unchanged.stdout.contains("nothing changed"), "{unchanged:?}");
    assert_eq!((first.requests().len(), second.requests().len()), (2, 3));
    assert_eq!(postern.process(), pid);
    assert_eq!(postern.verb(&["status", "--json"]).json()["destinations"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration_is_refused_whole_and_the_one_before_stays() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &receiver.url())).await;
    let postern = &changing.postern;
    let good = changing.text();
    changing.edit("[[inlet]]\nname = \"web\"", "[[inlet]]\nname = \"other\"");
    changing.edit("timeout = \"2s\"", "timeout = \"2 s\"\nsurprise = 1");

    let refused = postern.verb(&["reload"]);
    fs::write(
        postern.config_file(),
        format!(
            "state_dir = \"/elsewhere\"\n{}",
            good.split_once("server.listen").unwrap().1.replacen(" =", "server.listen =", 1)
        ),
    )
    .unwrap();
    let fixed = postern.verb_on_socket(&["reload"]);

    refused.refuses(78, "timeout: expected a whole number and a unit");
    assert!(
        refused.stderr.contains("surprise: unknown key") && refused.stderr.contains("stays in force"),
        "{refused:?}"
    );
    fixed.refuses(78, "state_dir cannot change while postern runs");
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    receiver.wait_for(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reloads_too() {
    let pki = Pki::new();
    let (first, second) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", &first.url())).await;
    let postern = &changing.postern;
    changing.edit(&first.url(), &second.url());

    let pid = postern.process().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());

    let endpoint = second.url();
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["endpoint"] == endpoint.as_str()).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    second.wait_for(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_with_exports_waiting_is_not_removed_by_accident() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(404);
    let changing = Changing::start(
        Appliance::set_up(&pki).destination("crm", &receiver.url()).destination("ads", &receiver.url()),
    )
    .await;
    let postern = &changing.postern;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    for name in ["crm", "ads"] {
        postern.wait_until(&["destination", "show", name], |found| found["state"] == "held").await;
    }
    changing.remove("crm");
    changing.remove("ads");

    let refused = postern.verb(&["reload"]);
    let wrong = postern.verb(&["reload", "--drain", "crm", "--discard", "ads", "--discard", "web"]);
    let stated = postern.verb(&["reload", "--drain", "crm", "--discard", "ads", "--json"]).json();

    refused.refuses(78, "1 exports wait for it: `postern reload --drain crm`");
    assert!(refused.stderr.contains("--drain ads"), "all reasons at once: {refused:?}");
    wrong.refuses(78, "nothing waits for a destination \"web\"");
    assert_eq!((&stated["draining"], &stated["discarding"]), (&json!(["crm"]), &json!(["ads"])));
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;
    receiver.answer_with(200);
    let status = postern.wait_until(&["status"], |status| status["destinations"].as_array().unwrap().is_empty()).await;
    let delivered: Vec<_> = receiver.requests().into_iter().filter(|request| request.body["plan"] == "gold").collect();
    assert_eq!(status["unconfigured"], json!([]));
    assert_eq!(delivered.last().unwrap().body["identityMap"]["CRM"][0]["id"], "ada", "nothing is made any more");
    assert_eq!(postern.metric(r#"postern_exports_total{destination="ads",result="dropped"}"#).await, Some(1.0));
    assert_eq!(postern.metric(r#"postern_exports_total{destination="crm",result="delivered"}"#).await, Some(1.0));
    assert_eq!(postern.verb(&["audit", "--json"]).json()["differences"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_destination_that_was_gone_at_the_start_can_be_discarded() {
    let pki = Pki::new();
    let mut changing = Changing::start(Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/")).await;
    changing.postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    changing.remove("crm");
    changing.postern.stop().await;
    changing.postern.start_again().await;
    let postern = &changing.postern;
    let left = postern.verb(&["status", "--json"]).json();

    postern.verb(&["reload", "--drain", "crm"]).refuses(78, "add it again");
    postern.verb(&["reload", "--discard", "crm"]).succeeds();

    assert_eq!(left["unconfigured"], json!([{ "name": "crm", "waiting": 1 }]));
    postern.wait_until(&["status"], |status| status["unconfigured"] == json!([])).await;
    assert_eq!(postern.metric(r#"postern_exports_total{destination="crm",result="dropped"}"#).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_listeners_stay_open_and_changed_ones_move() {
    let pki = Pki::new();
    let changing = Changing::start(Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/")).await;
    let postern = &changing.postern;
    let (before, admin) = (postern.inlets(), postern.admin_at(""));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    changing.edit("admin.listen = \"127.0.0.1:0\"", &format!("admin.listen = \"{free}\""));
    changing.edit("[[inlet]]\nname = \"web\"", "[[inlet]]\nname = \"web\"\n[[inlet]]\nname = \"app\"");

    let reloaded = postern.verb(&["reload", "--json"]).json();

    assert_eq!(reloaded["others"], json!(["inlets", "listeners"]));
    assert_eq!(postern.inlets(), before);
    postern.post("app", &update("ada", json!({ "plan": "gold" }))).await;
    let ask = |url: String| async move { Some(postern.http().get(url).send().await.ok()?.status().as_u16()) };
    assert_eq!(ask(format!("http://{free}/livez")).await, Some(200));
    assert_eq!(ask(format!("{admin}/livez")).await, None);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    changing.edit(&free.to_string(), &taken.local_addr().unwrap().to_string());
    postern.verb(&["reload"]).refuses(78, "cannot listen on");
    assert_eq!(ask(format!("http://{free}/livez")).await, Some(200));
}

/// 1000 updates a second, and fifty reloads that add and remove a destination: nothing is lost, and nobody is answered
/// anything but 2xx, 429 or 503.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing() {
    const RELOADS: u64 = 50;
    const SENDERS: u64 = 20;
    let pki = Pki::new();
    let (crm, ads) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    crm.answer_by(|_| Reply::Late(Duration::from_millis(5), Box::new(Reply::status(200))));
    let changing = Changing::start(Appliance::set_up(&pki).quiet().destination("crm", &crm.url())).await;
    let postern = &changing.postern;
    let (done, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for sender_number in 0..SENDERS {
        let (sender, done, accepted) = (postern.sender(), done.clone(), accepted.clone());
        senders.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(1000 * SENDERS / 1000));
            let mut version = 0;
            while !done.load(Ordering::Relaxed) {
                pace.tick().await;
                version += 1;
                let body = update(&format!("p{sender_number}"), json!({ "plan": "gold", "version": version }));
                let (status, answer) = sender.try_post("web", &body).await.expect("an answer");
                match status {
                    200 => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                    429 | 503 => version -= 1,
                    _ => panic!("{status}: {answer}"),
                }
            }
            version
        });
    }

    let drop_in = changing.add(Appliance::set_up(&pki).destination("ads", &ads.url()));
    let away = drop_in.with_extension("disabled");
    for round in 0..RELOADS {
        if round % 2 == 1 {
            fs::rename(&drop_in, &away).unwrap();
        } else if round > 0 {
            fs::rename(&away, &drop_in).unwrap();
        }
        let before = accepted.load(Ordering::Relaxed);
        let arguments = if round % 2 == 1 { &["reload", "--drain", "ads"][..] } else { &["reload"] };
        postern.verb(arguments).succeeds();
        while accepted.load(Ordering::Relaxed) < before + 20 {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    let versions: u64 = senders.join_all().await.into_iter().sum();
    postern
        .wait_until(&["status"], |status| {
            let counted = status["destinations"].as_array().unwrap().iter();
            counted.map(|destination| destination["counted"]["waiting"].as_u64().unwrap()).sum::<u64>() == 0
        })
        .await;

    let status = postern.verb(&["status", "--json"]).json();
    assert_eq!(status["updates"]["accepted"], versions);
    assert_eq!(status["destinations"][0]["name"], "crm");
    assert_eq!(status["destinations"][0]["counted"]["delivered"], versions);
    assert_eq!(crm.requests().len() as u64, versions, "each once");
    let to_ads = ads.requests().len() as u64;
    assert!(to_ads > 0);
    assert_eq!(
        postern.metric(r#"postern_exports_total{destination="ads",result="delivered"}"#).await,
        Some(to_ads as f64)
    );
    assert_eq!(postern.metric(r#"postern_exports_total{destination="crm",result="dead"}"#).await, Some(0.0));
    assert_eq!(postern.verb(&["audit", "--json"]).json()["differences"], json!([]));
}
