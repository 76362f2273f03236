//! The document of the admin API says what is served: each path that it names is there, and each answer is as it says.

use std::{collections::BTreeSet, fs, path::Path};

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{appliance::Appliance, pki::Pki, receiver::Receiver, reply::Reply, sender::update};

/// Where it is published; `POSTERN_WRITE_OPENAPI=1` writes it anew.
const PUBLISHED: &str = "docs/openapi.json";

#[test]
fn published_document_is_the_one_that_is_served() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PUBLISHED);
    let served = postern::admin::document();
    if std::env::var_os("POSTERN_WRITE_OPENAPI").is_some() {
        fs::write(&file, format!("{served:#}\n")).unwrap();
    }

    let published: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();

    assert_eq!(published, served, "POSTERN_WRITE_OPENAPI=1 cargo test openapi writes it anew");
    assert_eq!(served["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_path_answers_as_the_document_says() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if request.body["name"] == "bad" { 422 } else { 200 }));
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("good", json!({ "plan": "gold" }))).await;
    for name in ["ada", "bob", "eve"] {
        postern.post("web", &update(name, json!({ "plan": "gold", "name": "bad" }))).await;
    }
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 3.0).await;
    let document = postern.ask(Method::GET, "/v1/openapi.json", None).await.1;
    let (_, page) = postern.ask(Method::GET, "/v1/dead-letters", None).await;
    let letters: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    let backup = postern.state_dir.join("backup").display().to_string();
    let (_, walk) = postern.ask(Method::POST, "/v1/destinations/crm/backfill", None).await;
    let walk = walk["id"].as_str().unwrap().to_owned();
    let nobody = "00000000-0000-7000-8000-000000000000";
    let seen = Seen { document: &document, postern: &postern, paths: BTreeSet::new() };

    // The template, what stands for its name, the query, the body, and the statuses that are wanted.
    let cases = [
        (Method::GET, "/v1/status", "", "", None, 200),
        (Method::POST, "/v1/clock/trust", "", "", None, 200),
        (Method::GET, CERTIFICATES, "", "", None, 200),
        (Method::GET, CERTIFICATES, "", "?page=2&limit=1", None, 200),
        (Method::GET, CERTIFICATES, "", "?limit=101", None, 400),
        (Method::GET, "/v1/inlets", "", "", None, 200),
        (Method::GET, "/v1/audiences", "", "", None, 200),
        (Method::GET, "/v1/destinations", "", "", None, 200),
        (Method::GET, "/v1/destinations/{name}", "crm", "", None, 200),
        (Method::GET, "/v1/destinations/{name}", "nobody", "", None, 404),
        (Method::POST, "/v1/destinations/{name}/pause", "crm", "", None, 200),
        (Method::POST, "/v1/destinations/{name}/resume", "crm", "", None, 200),
        (Method::POST, "/v1/destinations/{name}/test", "crm", "", None, 200),
        (Method::POST, "/v1/destinations/{name}/test", "crm", "?sample=true", None, 200),
        (Method::GET, "/v1/destinations/{name}/backfill", "crm", "?audience=gold-members", None, 200),
        (Method::GET, "/v1/destinations/{name}/backfill", "crm", "?audience=nobodies", None, 404),
        (Method::POST, "/v1/destinations/{name}/backfill", "nobody", "", None, 404),
        (Method::POST, "/v1/destinations/{name}/backfill", "crm", "?audiance=gold-members", None, 400),
        (Method::GET, "/v1/backfills", "", "", None, 200),
        (Method::GET, "/v1/backfills/{id}", &walk, "", None, 200),
        (Method::GET, "/v1/backfills/{id}", nobody, "", None, 404),
        (Method::GET, "/v1/backfills/{id}", "5", "", None, 400),
        (Method::DELETE, "/v1/backfills/{id}", &walk, "", None, 200),
        (Method::DELETE, "/v1/backfills/{id}", nobody, "", None, 404),
        (Method::GET, "/v1/exports", "", "", None, 200),
        (Method::GET, "/v1/exports", "", "?state=lost", None, 400),
        (Method::GET, "/v1/exports", "", "?limit=0", None, 400),
        (Method::GET, "/v1/exports", "", "?limt=5", None, 400),
        (Method::GET, "/v1/exports/{id}", &letters[0], "?reveal=true", None, 200),
        (Method::GET, "/v1/exports/{id}", nobody, "", None, 404),
        (Method::GET, "/v1/exports/{id}", "5", "", None, 400),
        (Method::GET, "/v1/dead-letters", "", "?destination=crm", None, 200),
        (Method::GET, "/v1/dead-letters", "", "?before=yesterday", None, 400),
        (Method::GET, "/v1/dead-letters/{id}", &letters[0], "", None, 200),
        (Method::POST, "/v1/dead-letters/{id}/redrive", &letters[0], "", None, 200),
        (Method::POST, "/v1/dead-letters/{id}/redrive", &letters[0], "", None, 404),
        (Method::POST, "/v1/dead-letters/redrive", "", "?cause=exhausted", None, 200),
        (Method::DELETE, "/v1/dead-letters/{id}", &letters[1], "", None, 200),
        (Method::DELETE, "/v1/dead-letters", "", "?destination=crm", None, 200),
        (Method::GET, "/v1/profiles", "", "?identity=CRM:ada&reveal=true", None, 200),
        (Method::GET, "/v1/profiles", "", "?identity=ada", None, 400),
        (Method::DELETE, "/v1/profiles", "", "?identity=CRM:ada", None, 200),
        (Method::DELETE, "/v1/profiles", "", "?identity=CRM:ada", None, 404),
        (Method::GET, "/v1/store", "", "", None, 200),
        (Method::POST, "/v1/store/backup", "", "", Some(json!({ "directory": backup })), 200),
        (Method::POST, "/v1/store/backup", "", "", Some(json!({ "directory": "here" })), 400),
        (Method::GET, "/v1/audit", "", "", None, 200),
        (Method::POST, "/v1/reload", "", "", Some(json!({})), 200),
        (Method::POST, "/v1/reload", "", "", Some(json!({ "drain": ["nobody"] })), 422),
        (Method::POST, "/v1/reload", "", "", Some(json!({ "drian": [] })), 400),
    ];
    let mut seen = seen;
    for (method, template, name, query, body, status) in cases {
        seen.ask(method, template, name, query, body, status).await;
    }

    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    assert_eq!(seen.paths, documented, "each path is asked here");
}

/// Where AEP has it.
const CERTIFICATES: &str = "/data/core/mtls/v1/certificate/public-certificate";

struct Seen<'a> {
    document: &'a Value,
    postern: &'a Appliance,
    paths: BTreeSet<String>,
}

impl Seen<'_> {
    async fn ask(&mut self, method: Method, template: &str, name: &str, query: &str, body: Option<Value>, wanted: u16) {
        let path = template.replace("{name}", name).replace("{id}", name) + query;
        let (status, answer) = self.postern.ask(method.clone(), &path, body.as_ref()).await;
        let method = method.as_str().to_lowercase();
        assert_eq!(status, wanted, "{method} {path}: {answer:#}");
        let place =
            ["paths", template, &method, "responses", &status.to_string(), "content", "application/json", "schema"];
        let place: String =
            place.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
        assert!(self.document.pointer(&place).is_some(), "{method} {template} {status} is not in the document");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("postern.json", self.document.clone()).unwrap();
        // Its braces are no part of a URL.
        let place = place.replace('{', "%7B").replace('}', "%7D");
        let schema = compiler.compile(&format!("postern.json#{place}"), &mut schemas).unwrap();
        let valid = schemas.validate(&answer, schema).map_err(|error| error.to_string());
        assert_eq!(valid, Ok(()), "{method} {path}: {answer:#}");
        self.paths.insert(format!("{method} {template}"));
    }
}
