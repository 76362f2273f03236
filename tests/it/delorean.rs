//! The example by which the documentation of AEP's HTTP API destination explains when it exports and what, told once more.

use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance,
    pki::Pki,
    receiver::{Receiver, Request},
};

/// "An HTTP destination dataflow, where three audiences are selected in the dataflow and four attributes are mapped to the destination."
const MAPPED: [(&str, &str); 3] = [
    (CARS, r#"car.model = "DeLorean""#),
    ("basic-site-active-and-city-dallas", r#"site = "basic" and city = "Dallas""#),
    ("loyalty-members-with-points", "loyalty.points > 1000"),
];
const CARS: &str = "customer-with-delorean-cars";
const ATTRIBUTES: [&str; 4] =
    ["person.name.firstName", "person.name.lastName", "personalEmail.address", "homeAddress.countryCode"];

/// Others that the profile may be in. They are not mapped.
const WATCHED: (&str, &str) = ("watched-back-to-the-future-movie", r#"watched = "Back to the Future""#);
const FANS: (&str, &str) = ("science-fiction-fans", r#"genre = "science fiction""#);

#[tokio::test]
async fn export_follows_and_shows_what_the_documentation_says() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut set_up = Appliance::set_up(&pki);
    for (id, rule) in MAPPED.into_iter().chain([WATCHED, FANS]) {
        set_up = set_up.audience(id, rule);
    }
    let ids = MAPPED.map(|(id, _)| id);
    let mut postern = set_up.mapping(&ids, &ATTRIBUTES).destination("crm", &receiver.url()).start().await;
    let dataflow = Dataflow { postern: &postern, receiver: &receiver };

    // Nobody's export is determined by audiences and attributes that are not mapped.
    dataflow.exports_nothing_for(json!({ "watched": "Back to the Future", "genre": "science fiction" })).await;
    // Nor by a mapped attribute of a profile that is in none of the mapped audiences.
    dataflow.exports_nothing_for(json!({ "person": { "name": { "firstName": "Marty", "lastName": "McFly" } } })).await;

    // "A profile export to the destination can be determined by a profile qualifying for or exiting one of the three mapped segments."
    let qualified = dataflow.exports_for(json!({ "car": { "model": "DeLorean", "year": 1981 } })).await;
    // It is "a member of two other segments": all three are there, though only the first is mapped.
    let all = [CARS, FANS.0, WATCHED.0].map(|id| (id.to_owned(), "realized".to_owned()));
    assert_eq!(memberships(&qualified), all);
    // "Any of the four mapped attributes" that the profile has, and nothing else of it.
    assert_eq!(attributes(&qualified), json!({ "person": { "name": { "firstName": "Marty", "lastName": "McFly" } } }));

    // "If any of the four mapped attributes change on the profile, this will also determine a destination export."
    for (written, seen) in [
        (json!({ "personalEmail": { "address": "marty@hill-valley.example" } }), "/personalEmail/address"),
        (json!({ "homeAddress": { "countryCode": "US", "city": "Hill Valley" } }), "/homeAddress/countryCode"),
        (json!({ "person": { "name": { "firstName": "Calvin" } } }), "/person/name/firstName"),
        (json!({ "person": { "name": { "lastName": "Klein" } } }), "/person/name/lastName"),
    ] {
        let export = dataflow.exports_for(written.clone()).await;
        assert_eq!(export.body.pointer(seen), written.pointer(seen));
        assert_eq!(memberships(&export), all);
    }
    // And not, if others do: of the same car, of the same address, anywhere.
    for unmapped in [
        json!({ "car": { "year": 1982 } }),
        json!({ "homeAddress": { "city": "Dallas" } }),
        json!({ "watched": "Back to the Future" }),
        json!({ "skateboard": true }),
    ] {
        dataflow.exports_nothing_for(unmapped).await;
    }
    // To leave an audience that is not mapped makes none either; the next export does not show it any more.
    dataflow.exports_nothing_for(json!({ "genre": "western" })).await;

    let second = dataflow.exports_for(json!({ "loyalty": { "points": 1985 } })).await;
    let left = dataflow.exports_for(json!({ "car": { "model": "Tesla" } })).await;

    let ids_of = |export: &Request| memberships(export).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids_of(&second), [CARS, "loyalty-members-with-points", WATCHED.0]);
    let statuses = [(CARS, "exited"), ("loyalty-members-with-points", "realized"), (WATCHED.0, "realized")];
    assert_eq!(memberships(&left), statuses.map(|(id, status)| (id.to_owned(), status.to_owned())));
    let all_four = json!({
        "person": { "name": { "firstName": "Calvin", "lastName": "Klein" } },
        "personalEmail": { "address": "marty@hill-valley.example" },
        "homeAddress": { "countryCode": "US" },
    });
    assert_eq!(attributes(&left), all_four, "whatever changed, the profile's mapped attributes are there");
    assert!(postern.stop().await.success());
}

/// A dataflow that one profile goes through.
struct Dataflow<'a> {
    postern: &'a Appliance,
    receiver: &'a Receiver,
}

impl Dataflow<'_> {
    /// Writes attributes of the profile, and returns the one export that follows.
    async fn exports_for(&self, attributes: Value) -> Request {
        let before = self.receiver.requests().len();
        self.write(attributes).await;
        let requests = self.receiver.wait_for(before + 1).await;
        self.is_all(before + 1).await;
        requests.last().unwrap().clone()
    }

    async fn exports_nothing_for(&self, attributes: Value) {
        let before = self.receiver.requests().len();
        self.write(attributes).await;
        self.is_all(before).await;
    }

    async fn write(&self, mut attributes: Value) {
        attributes["identityMap"] = json!({ "CRM": [{ "id": "marty" }] });
        self.postern.post("web", &attributes).await;
    }

    /// An update is answered when its exports are made, so what is not made by now never is.
    async fn is_all(&self, count: usize) {
        let made = self.postern.metric(r#"postern_exports_total{destination="crm",result="made"}"#).await;
        assert_eq!(made, Some(count as f64));
    }
}

/// Ids and statuses.
fn memberships(export: &Request) -> Vec<(String, String)> {
    let shown = export.body["segmentMembership"]["ups"].as_object().unwrap();
    let mut shown: Vec<_> =
        shown.iter().map(|(id, held)| (id.clone(), held["status"].as_str().unwrap().to_owned())).collect();
    shown.sort();
    shown
}

/// The body but for memberships and identities.
fn attributes(export: &Request) -> Value {
    let mut body = export.body.clone();
    body.as_object_mut().unwrap().retain(|name, _| !["segmentMembership", "identityMap"].contains(&name.as_str()));
    body
}
