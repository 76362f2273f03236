//! The demo's audiences and people. All of them are made up, or stand in published examples.

use serde_json::{Value, json};

/// An audience of the demo.
pub(super) struct DemoAudience {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    rule: &'static str,
    /// One that is not mapped makes no export, and is told along with the others.
    pub(super) mapped: bool,
}

/// With the ids of the published example.
pub(super) const AUDIENCES: [DemoAudience; 4] = [
    DemoAudience {
        id: "7841ba61-23c1-4bb3-a495-00d3g5fe1e93",
        name: "On trial",
        rule: r#"subscription.plan = "trial""#,
        mapped: true,
    },
    DemoAudience {
        id: "59bd2fkd-3c48-4b18-bf56-4f5c5e6967ae",
        name: "Homes in the US",
        rule: r#"homeAddress.countryISO = "US""#,
        mapped: true,
    },
    DemoAudience {
        id: "947c1c46-008d-40b0-92ec-3af86eaf41c1",
        name: "Gold",
        rule: "loyalty.points >= 1000 and not loyalty.closed = true",
        mapped: true,
    },
    DemoAudience {
        id: "5114d758-ce71-43ba-b53e-e2a91d67b67f",
        name: "May be written to",
        rule: "consents.email = true",
        mapped: false,
    },
];

impl DemoAudience {
    /// As a section of `postern.toml`.
    pub(super) fn as_toml(&self) -> String {
        let Self { id, name, rule, mapped: _ } = self;
        format!(
            r#"
[[audience]]
id = "{id}"
name = "{name}"
expression = {{ type = "PQL", format = "pql/text", value = '{rule}' }}
"#
        )
    }
}

/// What is sent of a person.
pub(super) struct Update {
    /// First and last name, as exports show them.
    pub(super) person: String,
    pub(super) message: Value,
}

impl Update {
    fn new(first: &str, last: &str, entity: Value) -> Self {
        let message = json!({ "header": { "source": { "name": "postern demo" } }, "body": { "xdmEntity": entity } });
        Self { person: format!("{first} {last}"), message }
    }
}

/// Four updates, after which John Doe's export is the published example.
pub(super) fn john_doe() -> [Update; 4] {
    let ecid = json!({ "id": "14575006536349286404619648085736425115", "primary": true });
    let identities = json!({ "ecid": [ecid], "email_lc_sha256": [{ "id": "655332b5fa2aea4498bf7a290cff017cb4" }] });
    let more_identities = json!({
        "ecid": [ecid, { "id": "66478888669296734530114754794777368480" }],
        "email_lc_sha256": [{ "id": "66baf76ef9de8b42df8903f00e0e3dc0b7" }],
    });
    [
        json!({
            "identityMap": identities,
            "person": { "birthDate": "YYYY-MM-DD", "name": { "firstName": "John", "lastName": "Doe" } },
            "personalEmail": { "address": "john@acme.com" },
            "homeAddress": { "countryISO": "US" },
            "subscription": { "plan": "trial" },
        }),
        json!({ "identityMap": more_identities, "consents": { "email": true } }),
        json!({
            "identityMap": identities,
            "personalEmail": { "address": "john.doe@acme.com" },
            "loyalty": { "points": 1200 },
        }),
        json!({ "identityMap": identities, "subscription": { "plan": "paid" } }),
    ]
    .map(|entity| Update::new("John", "Doe", entity))
}

/// The published example of an export.
pub(super) fn published_example() -> Value {
    serde_json::from_str(include_str!("../../../docs/examples/export.json"))
        .expect("the example is JSON, and part of the program")
}

/// Jane, Max and Juan enter an audience.
pub(super) fn three_enter() -> [Update; 3] {
    [("Jane", "Roe"), ("Max", "Mustermann"), ("Juan", "Nadie")].map(|(first, last)| {
        let entity = json!({
            "identityMap": { "crmId": [{ "id": crm_id(first), "primary": true }] },
            "person": { "birthDate": "2000-01-01", "name": { "firstName": first, "lastName": last } },
            "personalEmail": { "address": address(first, 0) },
            "homeAddress": { "countryISO": "US" },
        });
        Update::new(first, last, entity)
    })
}

/// Erika is in no audience, so nobody hears of her.
pub(super) fn nobodys_member() -> Update {
    let entity = json!({
        "identityMap": { "crmId": [{ "id": "erika", "primary": true }] },
        "person": { "name": { "firstName": "Erika", "lastName": "Mustermann" } },
        "homeAddress": { "countryISO": "DE" },
    });
    Update::new("Erika", "Mustermann", entity)
}

/// Max gets a new address.
pub(super) fn max_moves(version: u32) -> Update {
    moves("Max", "Mustermann", version)
}

/// Jane, Max and Juan get new addresses.
pub(super) fn three_move(version: u32) -> [Update; 3] {
    [("Jane", "Roe"), ("Max", "Mustermann"), ("Juan", "Nadie")].map(|(first, last)| moves(first, last, version))
}

fn moves(first: &str, last: &str, version: u32) -> Update {
    let entity = json!({
        "identityMap": { "crmId": [{ "id": crm_id(first), "primary": true }] },
        "personalEmail": { "address": address(first, version) },
    });
    Update::new(first, last, entity)
}

fn crm_id(first: &str) -> String {
    first.to_lowercase()
}

fn address(first: &str, version: u32) -> String {
    format!("{}.{version}@example.com", first.to_lowercase())
}
