//! What a receiver's people ask for: our certificates, in the shape of AEP's certificate API.

use hyper::Method;
use postern::{
    certificate::Certificate,
    tls::issue::{Authority, Period},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance,
    pki::{Pki, fingerprint_of, now, valid},
    set_up::SetUp,
};

const PATH: &str = "/data/core/mtls/v1/certificate/public-certificate";

fn with(mut set_up: SetUp, destinations: usize) -> SetUp {
    for number in 0..destinations {
        set_up = set_up.destination(&format!("d{number}"), "https://127.0.0.1:1/");
    }
    set_up
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_shown_with_what_a_receiver_has_to_know() {
    let pki = Pki::new();
    let site = pki.authority.subordinate("Site authority", valid()).unwrap();
    let pki = Pki { client: site.client("Test client", valid()).unwrap(), ..pki };
    let postern = with(Appliance::set_up(&pki), 2).start().await;

    let (status, answer) = postern.ask(Method::GET, PATH, None).await;

    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["total"], &answer["count"]), (&json!(1), &json!(1)), "one certificate serves both");
    let result = &answer["results"][0];
    assert_eq!((&result["certCommonName"], &result["destinations"]), (&json!("Test client"), &json!(["d0", "d1"])));
    let pem = result["publicCertificate"].as_str().unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains('\r'), "{pem}");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let certificate = Certificate::read(&der).unwrap();
    assert_eq!(result["sha256"], fingerprint_of(&pki.client));
    assert_eq!(result["serialNumber"], certificate.serial);
    assert_eq!(result["expiryDate"], certificate.not_after.to_string().replace('Z', ".000Z"));
    assert_eq!(result["notBefore"], certificate.not_before.to_string().replace('Z', ".000Z"));
    assert_eq!(result["spkiSha256"], certificate.spki_sha256.to_string());
    assert_eq!((&result["daysLeft"], &result["next"]), (&json!(0), &Value::Null));
    assert_eq!(result["chain"].as_array().unwrap().len(), 1);
    assert!(!answer.to_string().contains("PRIVATE"));
    // The same where metrics are.
    let (_, open) = postern.admin(PATH).await;
    assert_eq!(serde_json::from_str::<Value>(&open).unwrap()["results"], answer["results"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_that_is_to_follow_is_shown_beside() {
    let pki = Pki::lasting(std::time::Duration::from_secs(10 * 24 * 3600));
    let postern = with(Appliance::set_up(&pki), 1).start().await;
    let day = std::time::Duration::from_secs(24 * 3600);
    let next = pki.authority.client("Test client", Period { from: now() + day, until: now() + 5 * day }).unwrap();

    pki.replace_client(&next);
    postern.wait_until(&["destination", "show", "d0"], |view| !view["certificate"]["newer"].is_null()).await;

    let (_, answer) = postern.ask(Method::GET, PATH, None).await;
    let result = &answer["results"][0];
    assert_eq!(
        (&result["sha256"], &result["next"]["sha256"]),
        (&json!(fingerprint_of(&pki.client)), &json!(fingerprint_of(&next)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_cut_as_asked() {
    let pki = Pki::new();
    let mut set_up = Appliance::set_up(&pki);
    let others: Vec<Pki> = (0..4)
        .map(|number| {
            let authority = Authority::new("Test authority", valid()).unwrap();
            let client = authority.client(&format!("client {number}"), valid()).unwrap();
            Pki { client, authority, ..Pki::new() }
        })
        .collect();
    for (number, other) in others.iter().enumerate() {
        set_up = set_up.tls(other.client_files()).destination(&format!("d{number}"), "https://127.0.0.1:1/");
    }
    let postern = set_up.start().await;
    let page = async |query: &str| postern.ask(Method::GET, &format!("{PATH}{query}"), None).await;

    let (_, first) = page("?page=1&limit=3").await;
    let (_, zeroth) = page("?page=0&limit=3").await;
    let (_, second) = page("?page=2&limit=3").await;
    let (_, beyond) = page("?page=9&limit=3").await;

    let names = |page: &Value| -> Vec<String> {
        page["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["certCommonName"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["client 0", "client 1", "client 2"]);
    assert_eq!((names(&zeroth), names(&second), names(&beyond)), (names(&first), vec!["client 3".to_owned()], vec![]));
    assert_eq!((&first["total"], &first["count"], &second["count"]), (&json!(4), &json!(3), &json!(1)));
    assert_eq!(first["_links"]["next"], json!({ "href": format!("{PATH}?page=2&limit=3"), "templated": false }));
    assert_eq!((&first["_links"]["prev"], &second["_links"]["next"]), (&Value::Null, &Value::Null));
    assert_eq!(second["_links"]["prev"]["href"], format!("{PATH}?page=1&limit=3"));
    for bad in ["?limit=0", "?limit=101", "?limit=x", "?page=-1", "?offset=1"] {
        assert_eq!(page(bad).await.0, 400, "{bad}");
    }
}
