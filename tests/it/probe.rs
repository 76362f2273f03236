//! `postern cert probe`: what it says of good and bad servers, and what it never sends.

use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

use postern::tls::{
    ClientTlsFiles, HttpsUrl, RootsSource,
    probe::{NoChain, Place, chain_of},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    appliance::{Appliance, command},
    pki::{HOST, Pki, expired, valid},
    receiver::{HTTP1, HTTP2, Receiver, SetUp},
    reply::Reply,
    socket::Done,
};

/// Longer than what is pointed out as ending soon.
const LONG: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const BEARER: &str = "t0ken-MARKER";

#[tokio::test(flavor = "multi_thread")]
async fn good_destination_is_good_and_gets_one_head_request_without_a_secret() {
    let pki = Pki::lasting(LONG);
    let receiver = Receiver::start(&pki).await;
    let endpoint = receiver.url_at("/in?key=quer1-MARKER");
    let postern = Appliance::set_up(&pki).bearer(BEARER).destination("crm", &endpoint).write();

    let text = postern.verb(&["cert", "probe", "crm"]).succeeds();
    let json = postern.verb(&["cert", "probe", "crm", "--json"]).succeeds();

    assert!(text.stdout.starts_with("good  crm: delivery would send here"), "{text:?}");
    let report = json.json();
    assert_eq!(fields(&report), json!(["yes", true, "yes", "yes", true]), "{report:#}");
    assert_eq!((ids(&report), &report["leads_to_authority"]), (vec![], &json!(true)));
    assert_eq!(report["authorities"], json!(["CN=Test authority"]));
    assert_eq!(report["answer_without_certificate"], "alert certificate_required");
    assert_eq!(taken(&report), ["TLS 1.3"]);
    assert_eq!(report["chain"][0]["names"]["dns"], json!(["localhost"]));
    assert_eq!(report["chain"][0]["days_left"], 89);

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2, "the other connections did not come so far: {requests:?}");
    for request in &requests {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("HEAD", "/in"));
        let names: Vec<&str> = request.headers.keys().map(String::as_str).collect();
        assert_eq!(names, ["accept", "connection", "host", "user-agent"]);
    }
    let key = fs::read_to_string(pki.path().join("client.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for done in [text, json] {
        let said = done.stdout + &done.stderr;
        assert!(!said.contains("MARKER") && !said.contains("PRIVATE") && !said.contains(key), "{said}");
    }
    assert!(!postern.state_dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_delivery_would_not_send_to_is_bad_and_why() {
    let (pki, other) = (Pki::lasting(LONG), Pki::lasting(LONG));
    let old = pki.authority.server(&[HOST], expired()).unwrap();
    let elsewhere = pki.authority.server(&["dest.example"], valid()).unwrap();
    let strangers = || other.authority.certificate_pem();
    for (name, set_up, expected, findings) in [
        (
            "does not ask",
            Receiver::set_up(&pki).not_asking(),
            json!(["no", false, null, null, true]),
            &["not_asked"][..],
        ),
        ("TLS 1.2 only", Receiver::set_up(&pki).only_tls12(), json!(["no", true, "yes", null, true]), &["no_tls13"]),
        (
            "another authority",
            Receiver::set_up(&other),
            json!(["no", true, "yes", null, false]),
            &["server_not_trusted"],
        ),
        (
            "expired",
            Receiver::set_up(&pki).presenting(&old),
            json!(["no", true, "yes", null, false]),
            &["server_not_trusted"],
        ),
        (
            "another name",
            Receiver::set_up(&pki).presenting(&elsewhere),
            json!(["no", true, "yes", null, false]),
            &["server_not_trusted", "server_expires"],
        ),
        (
            "trusts strangers",
            Receiver::set_up(&pki).trusting(strangers()),
            json!(["no", true, "yes", "no", true]),
            &["certificate_refused"],
        ),
        (
            "takes no signature of ours",
            Receiver::set_up(&pki).only_ed25519(),
            json!(["no", true, "yes", "no", true]),
            &["no_common_signature", "certificate_refused"],
        ),
    ] {
        let (code, report, _) = look(&pki, set_up).await;

        let found = ids(&report);
        // Whose issuer is named does not matter here: all authorities of tests have one name.
        assert_eq!((code, fields(&report), found.as_slice()), (1, expected, findings), "{name}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_does_not_verify_learns_neither_path_nor_our_certificate() {
    let (pki, other) = (Pki::lasting(LONG), Pki::lasting(LONG));
    let receiver = Receiver::set_up(&other).not_asking().start().await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url_at("/secret-path")).write();

    let done = postern.verb(&["cert", "probe", "crm", "--json"]);

    assert_eq!(done.code, 1, "{done:?}");
    let requests = receiver.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.path == "/"), "{requests:?}");

    // This one would take ours, and no other: a handshake would be one in which it was shown.
    let receiver = Receiver::set_up(&other).trusting(pki.authority.certificate_pem()).start().await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    assert_eq!(postern.verb(&["cert", "probe", "crm", "--json"]).code, 1);
    assert!(receiver.connections() > 0);
    assert_eq!(receiver.handshakes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_named_in_time() {
    let pki = Pki::new();
    for (says, finding, words) in [
        (&b""[..], "no_answer", "says nothing"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not_tls", "plain HTTP, not TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls", "SSH, not TLS"),
        (b"220 mail.example ESMTP\r\n", "not_tls", "SMTP or FTP, not TLS"),
        (b"\x00\xff\x00\xff garbage \x1b[31m", "not_tls", "something unknown"),
        // A record that never ends.
        (b"\x16\x03\x03\x40\x00\x02", "no_answer", "says nothing"),
        // Not a ServerHello, but a record.
        (b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00", "handshake_failed", "TLS handshake failed"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake_failed", "alert handshake_failure"),
    ] {
        let place = speaking(HOST, says).await.unwrap().to_string();

        let (code, report, done) = probe(&pki, &place, &["--timeout", "300ms"]);

        assert_eq!((code, ids(&report)), (1, vec![finding]), "{says:?}: {done:?}");
        let verdict = report["verdict"].as_str().unwrap();
        assert!(verdict.contains(words) && !verdict.contains('\x1b'), "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn address_of_ipv6_stands_in_brackets() {
    // A machine without IPv6 has no such address to listen on.
    let Ok(address) = speaking("::1", b"SSH-2.0-OpenSSH_9.2\r\n").await else { return };

    let (code, report, done) = probe(&Pki::new(), &address.to_string(), &[]);

    assert_eq!((code, &report["address"]), (1, &json!(address)), "{done:?}");
    assert!(done.stderr.contains("[::1]:") && report["place"].as_str().unwrap().starts_with("[::1]:"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_every_kind_are_read_in_bounds() {
    let pki = Pki::lasting(LONG);
    let receiver = Receiver::start(&pki).await;
    let place = format!("{HOST}:{}", port(&receiver));
    for (reply, code, accepts, answer) in [
        (Reply::status(404), 0, "yes", "status 404"),
        // Who shows nothing is refused by TLS, so this is about something else.
        (Reply::status(403), 0, "yes", "status 403"),
        (Reply::status(495), 1, "no", "status 495"),
        (Reply::EndlessHead, 0, "yes", "status 200"),
        (Reply::Garbage, 0, "unclear", "the answer is not HTTP"),
        (Reply::Silent, 0, "unclear", "no answer in time"),
        (Reply::Close, 1, "no", "connection closed"),
    ] {
        receiver.answer_with(reply.clone());

        let (found, report, done) = probe(&pki, &place, &["--timeout", "2s"]);

        let [accepted, answered] = ["accepts", "answer_with_certificate"].map(|field| report[field].as_str().unwrap());
        assert_eq!((found, accepted, answered), (code, accepts, answer), "{reply:?}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_is_probed_and_tested_by_its_version_of_http() {
    let pki = Pki::lasting(LONG);
    for (http, speaking, is_good) in
        [("2", HTTP2, true), ("2", HTTP1, false), ("1.1", HTTP1, true), ("1.1", HTTP2, false)]
    {
        let receiver = Receiver::set_up(&pki).speaking(speaking).start().await;
        let setting = format!("http = {http:?}");
        let mut postern = Appliance::set_up(&pki).with(&setting).destination("crm", &receiver.url()).start().await;

        let [probed, tested] = [["cert", "probe", "crm", "--json"], ["destination", "test", "crm", "--json"]]
            .map(|verb| serde_json::from_str::<Value>(&postern.verb(&verb).stdout).unwrap());

        let (delivers, found) = if is_good { ("yes", vec![]) } else { ("no", vec!["other_http_version"]) };
        assert_eq!((&probed["delivers"], ids(&probed)), (&json!(delivers), found), "{http} {speaking:?}: {probed:#}");
        let (status, outcome) =
            if is_good { (json!(200), Value::Null) } else { (Value::Null, "other_http_version".into()) };
        assert_eq!((&tested["status"], &tested["outcome"]), (&status, &outcome), "{http} {speaking:?}: {tested:#}");
        assert!(receiver.requests().iter().all(|request| request.method == "HEAD" && request.path == "/in"));
        assert!(postern.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_69() {
    let pki = Pki::new();
    for place in ["127.0.0.1:1", "[::1]:1", "nowhere.invalid:443"] {
        let (code, report, done) = probe(&pki, place, &["--timeout", "10s"]);

        assert_eq!((code, ids(&report)), (69, vec!["unreachable"]), "{done:?}");
        assert_eq!((&report["place"], &report["address"]), (&json!(place), &Value::Null));
        assert!(done.stderr.contains("nobody answers there"), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_name_or_no_certificate_is_taken_into_account() {
    let pki = Pki::lasting(LONG);
    let receiver = Receiver::start(&pki).await;
    let place = format!("{HOST}:{}", port(&receiver));

    let (code, report, _) = probe(&pki, &place, &["--name", "localhost"]);
    assert_eq!((code, fields(&report)), (0, json!(["yes", true, "yes", "yes", true])), "{report:#}");
    let (code, report, _) = probe(&pki, &place, &["--name", "dest.example"]);
    assert_eq!((code, ids(&report)), (1, vec!["server_not_trusted"]));
    assert!(report["trust_error"].as_str().unwrap().contains("dest.example"), "{report:#}");

    let roots = pki.path().join("ca.crt");
    let without = json_of(command(&["cert", "probe", &place, "--json", "--roots", roots.to_str().unwrap()]));
    assert_eq!((without.0, fields(&without.1)), (0, json!(["unclear", true, "yes", null, true])), "{without:?}");
    let public = json_of(command(&["cert", "probe", &place, "--json", "--roots", "public"]));
    assert_eq!((public.0, ids(&public.1)), (1, vec!["server_not_trusted"]), "{public:?}");
}

#[tokio::test]
async fn chain_is_shown_by_servers_of_every_kind_or_there_is_a_reason() {
    let (pki, limit) = (Pki::new(), Duration::from_secs(10));
    for set_up in [Receiver::set_up(&pki), Receiver::set_up(&pki).only_tls12(), Receiver::set_up(&pki).not_asking()] {
        let receiver = set_up.start().await;

        let place = Place::parse(&format!("localhost:{}", port(&receiver))).unwrap();
        let chain = chain_of(&place, limit).await.unwrap();

        let expected = CertificateDer::from_pem_slice(pki.server.certificate_pem.as_bytes()).unwrap();
        assert_eq!(chain, [expected.to_vec()]);
    }
    let plain = speaking(HOST, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let refused = chain_of(&Place::parse(&format!("{HOST}:{}", plain.port())).unwrap(), limit).await;
    assert!(matches!(&refused, Err(NoChain::Handshake(why)) if why.contains("plain HTTP")), "{refused:?}");
    let nobody = Place::parse("[::1]:1").unwrap();
    assert!(matches!(chain_of(&nobody, limit).await, Err(NoChain::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_certificate_that_expired_is_found() {
    let mut pki = Pki::lasting(LONG);
    pki.client = pki.authority.client("Old client", expired()).unwrap();

    let (code, report, _) = look(&pki, Receiver::set_up(&pki)).await;

    assert_eq!((code, &report["delivers"]), (1, &json!("no")));
    assert_eq!(ids(&report), ["certificate_refused", "certificate_not_valid"], "{report:#}");
}

#[test]
fn what_cannot_be_probed_is_told_apart() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/in").write();
    let of = |arguments: &[&str]| postern.verb(&[&["cert", "probe"], arguments].concat());

    of(&["erp"]).refuses(66, "no destination erp: there are crm");
    of(&["crm"]).refuses(69, "crm: nobody answers there");
    of(&["crm", "--name", "dest.example"]).refuses(2, "--name is for HOST:PORT");
    of(&["crm", "--timeout", "5"]).refuses(2, "a whole number and a unit");
    of(&["crm", "--timeout", "5m"]).refuses(2, "from 1ms to 60s");
    of(&["https://dest.example"]).refuses(2, "expected HOST:PORT");
    of(&["dest.example:0"]).refuses(2, "expected HOST:PORT");
    of(&["a_b..c:443"]).refuses(2, "neither a host name nor an IP address");
    of(&["dest.example:443", "--certificate", "client.crt"]).refuses(2, "--key");
    of(&["dest.example:443", "--roots", "/nowhere/ca.crt"]).refuses(78, "/nowhere/ca.crt");
    let key = pki.path().join("client.key");
    let (key, certificate) = (key.to_str().unwrap(), "/nowhere/client.crt");
    of(&["dest.example:443", "--certificate", certificate, "--key", key]).refuses(78, certificate);
    fs::write(postern.config_file(), "what = 1").unwrap();
    of(&["crm"]).refuses(78, "what");
    Done::of(&mut command(&["cert", "probe", "crm", "--config", "/nowhere.toml"])).refuses(66, "/nowhere.toml");
}

/// What a receiver that is so is said to be, by exit code, report, and words.
async fn look(pki: &Pki, set_up: SetUp<'_>) -> (i32, Value, Done) {
    let receiver = set_up.start().await;
    probe(pki, &format!("{HOST}:{}", port(&receiver)), &[])
}

fn port(receiver: &Receiver) -> u16 {
    HttpsUrl::parse(&receiver.url()).unwrap().port()
}

/// Probes a place with the good client.
fn probe(pki: &Pki, place: &str, more: &[&str]) -> (i32, Value, Done) {
    let ClientTlsFiles { certificate, key, roots } = pki.client_files();
    let RootsSource::File(roots) = roots else { panic!("tests have a private authority") };
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let mut command = command(&["cert", "probe", place, "--json"]);
    command.args(["--certificate", &file(&certificate), "--key", &file(&key), "--roots", &file(&roots)]).args(more);
    json_of(command)
}

fn json_of(mut command: std::process::Command) -> (i32, Value, Done) {
    let done = Done::of(&mut command);
    let report = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    (done.code, report, done)
}

/// Whether delivery would send, and whether the server asks, requires, accepts ours, and verifies.
pub(crate) fn fields(report: &Value) -> Value {
    json!(["delivers", "asks", "requires", "accepts", "trusted"].map(|field| report[field].clone()))
}

pub(crate) fn ids(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap()).collect()
}

fn taken(report: &Value) -> Vec<&str> {
    let versions = report["versions"].as_array().unwrap().iter();
    versions.filter(|seen| seen["taken"] == true).map(|seen| seen["version"].as_str().unwrap()).collect()
}

/// A server that says this to each connection, whatever it is told, and stays.
async fn speaking(host: &str, says: &'static [u8]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((host, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(says).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    Ok(address)
}
