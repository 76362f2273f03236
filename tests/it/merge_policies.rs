//! Several datasets, and what is seen of them by each merge policy.

use serde_json::{Value, json};

use crate::support::{appliance::Appliance, pki::Pki, receiver::Receiver, sender::update};

const POLICIES: &str = r#"
[[merge_policy]]
id = "crm-first"
name = "What the CRM says, else the shop"
type = "dataSetPrecedence"
datasets = ["crm", "shop"]

[[merge_policy]]
id = "shop-alone"
type = "dataSetPrecedence"
datasets = ["shop"]
"#;

/// Two inlets write to two datasets; a destination for each policy. What is shown is what its policy makes of both.
#[tokio::test(flavor = "multi_thread")]
async fn each_destination_is_sent_the_view_of_its_policy_and_the_audiences_that_go_with_it() {
    let pki = Pki::new();
    let names = ["latest", "crm-first", "shop-alone"];
    let mut receivers = Vec::new();
    let mut set_up = Appliance::set_up(&pki).inlet("desk", "dataset = \"crm\"").inlet("till", "dataset = \"shop\"");
    set_up = set_up.inlet("policies", &format!("dataset = \"other\"\n{POLICIES}"));
    for name in names {
        let policy = if name == "latest" { "built-in" } else { name };
        let by = format!("merge_policy = \"{policy}\"");
        for (kind, rule) in [("gold", r#"plan = "gold""#), ("romans", r#"city = "Rome""#)] {
            set_up = set_up.audience_with(&format!("{kind}-{name}"), rule, &by);
        }
        let receiver = Receiver::start(&pki).await;
        let gold = format!("gold-{name}");
        set_up = set_up.mapping(&[&gold], &["plan", "city"]).with(&by).destination(name, &receiver.url());
        receivers.push(receiver);
    }
    let mut postern = set_up.start().await;

    postern.post("desk", &update("ada", json!({ "plan": "gold", "city": "Rome" }))).await;
    postern.post("till", &update("ada", json!({ "plan": "gold", "city": "Oslo" }))).await;
    // Nobody but who reads all datasets hears of it.
    postern.post("policies", &update("ada", json!({ "city": "Bern" }))).await;

    for (name, exports) in [("latest", 3), ("crm-first", 2), ("shop-alone", 1)] {
        postern.wait_for_exports(name, [0, exports, 0]).await;
    }
    let last = |at: usize| receivers[at].requests().last().unwrap().body.clone();
    for (at, city, audiences) in [
        (0, "Bern", vec!["gold-latest", "gold-members"]),
        (1, "Rome", vec!["gold-crm-first", "romans-crm-first"]),
        (2, "Oslo", vec!["gold-shop-alone"]),
    ] {
        let body = last(at);
        let shown: Vec<&str> =
            body["segmentMembership"]["ups"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((&body["plan"], &body["city"], shown), (&json!("gold"), &json!(city), audiences));
    }

    let listed = postern.verb(&["audience", "list", "--json"]).json();
    let policy_of = |id: &str| -> Value {
        listed.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap()["merge_policy"].clone()
    };
    assert_eq!((policy_of("gold-crm-first"), policy_of("gold-latest")), (json!("crm-first"), json!("built-in")));
    assert!(postern.verb(&["audience", "list"]).succeeds().stdout.contains("MERGE POLICY"));
    let shown = postern.verb(&["destination", "show", "shop-alone"]).succeeds().stdout;
    assert!(shown.contains("merge policy  shop-alone"), "{shown}");
    assert!(postern.stop().await.success());
}
