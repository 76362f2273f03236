//! What is posted: updates of some 900 bytes that make profiles of about 1 KB and exports of about 900 bytes.

/// What the appliance's configuration says of them.
pub(crate) struct Shape {
    /// The inlet's name.
    pub(crate) inlet: &'static str,
    /// The audience that every profile is in.
    pub(crate) audience: &'static str,
    /// Its rule.
    pub(crate) rule: &'static str,
    /// What is exported: everything. `_bench` is written by each update, so each makes exactly one export.
    pub(crate) mapped: &'static [&'static str],
}

/// As [`body`] makes them.
pub(crate) const SHAPE: Shape = Shape {
    inlet: "bench",
    audience: "gold-members",
    rule: "plan = \"gold\"",
    mapped: &["_bench", "homeAddress", "loyalty", "mobilePhone", "person", "personalEmail", "plan", "preferences"],
};

/// Update number `sequence`, for the given profile. The instant, in microseconds since 1970, comes back in the export.
pub(crate) fn body(sequence: u64, profile: u64, sent_micros: u64) -> String {
    format!(
        r#"{{"identityMap":{{"CRM":[{{"id":"customer-{profile:012}","primary":true}}]}},
"_bench":{{"sentMicros":{sent_micros},"sequence":{sequence}}},
"person":{{"name":{{"firstName":"Ada{profile}","lastName":"Lovelace-Byron"}},"birthDate":"1984-02-29","gender":"female"}},
"personalEmail":{{"address":"ada.{profile}@customers.example","status":"verified"}},
"mobilePhone":{{"number":"+49 30 {profile:010}","status":"active"}},
"homeAddress":{{"street1":"{house} Portobello Road","city":"Berlin","postalCode":"10999","countryISO":"DE","region":"Kreuzberg"}},
"plan":"gold",
"loyalty":{{"tier":"platinum","points":{points},"joined":"2019-11-03","lastPurchase":"2025-01-17T09:12:44Z","stores":["north-gate","river-side","old-town"]}},
"preferences":{{"language":"de-DE","channels":["email","sms","post"],"newsletter":true,"topics":"gardening, alpine walking, early music, bookbinding and the history of computing machines"}}}}"#,
        house = profile % 977,
        points = sequence % 100_000,
    )
}

/// The number and the instant that each export of a request carries: they stand first, members being in order of their names.
pub(crate) fn read(request: &[u8]) -> Vec<(u64, u64)> {
    const BEGINNING: &[u8] = b"{\"_bench\":";
    let starts = request.windows(BEGINNING.len()).enumerate().filter(|(_, window)| *window == BEGINNING);
    starts.filter_map(|(start, _)| read_one(&request[start..])).collect()
}

fn read_one(export: &[u8]) -> Option<(u64, u64)> {
    Some((number_behind(export, b"\"sequence\":")?, number_behind(export, b"\"sentMicros\":")?))
}

fn number_behind(text: &[u8], name: &[u8]) -> Option<u64> {
    let at = text.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
