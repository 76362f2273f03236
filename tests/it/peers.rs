//! Receivers that others wrote: what the probe says of each, and what delivery does. One table.

use std::{collections::BTreeSet, time::Duration};

use postern::tls::issue::Issued;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use serde_json::{Value, json};

use crate::{
    probe,
    support::{
        appliance::Appliance,
        flood::flood,
        peer::{
            Kind::{self, Haproxy, Nginx, NginxHttp2, Openssl, OpensslAskingLater, Stunnel},
            Peer, free_port,
        },
        pki::Pki,
        relay::Relay,
        sender::update,
    },
};

const LONG: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What nobody on the way may read.
const ATTRIBUTE: &str = "attr1bute-MARKER";
const IDENTITY: &str = "1dentity-MARKER";
const PATH: &str = "/p4th-MARKER";

const EXPORTS: u64 = 500;

const NGINX_GOOD: Kind =
    Nginx("ssl_protocols TLSv1.3; ssl_verify_client on; ssl_verify_depth 2; ssl_client_certificate clients.pem;");

struct Row {
    name: &'static str,
    kind: Kind,
    client: Client,
    /// `delivers`, `asks`, `requires`, `accepts`, `trusted`.
    fields: Value,
    findings: &'static [&'static str],
    delivery: Delivery,
}

/// Whose certificate we have.
#[derive(Clone, Copy)]
enum Client {
    Good,
    Revoked,
}

/// What becomes of an export.
#[derive(Clone, Copy)]
enum Delivery {
    Arrives,
    /// It waits, for this reason.
    HeldFor(&'static str),
}

use Delivery::{Arrives, HeldFor};

fn rows() -> Vec<Row> {
    let good = || json!(["yes", true, "yes", "yes", true]);
    let open = || json!(["yes", true, "no", "yes", true]);
    let unasked = || json!(["no", false, null, null, true]);
    let refused = || json!(["no", true, "yes", "no", true]);
    // nginx answers 400 to a bad certificate and to none.
    let refused_alike = || json!(["no", true, "unclear", "no", true]);
    let row =
        |name, kind, fields, findings, delivery| Row { name, kind, client: Client::Good, fields, findings, delivery };
    let not_asking = HeldFor("server_did_not_ask_for_certificate");
    vec![
        row("nginx requires", NGINX_GOOD, good(), &[], Arrives),
        row(
            "nginx requires, TLS 1.2 too",
            Nginx("ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_client on; ssl_client_certificate clients.pem;"),
            good(),
            &[],
            Arrives,
        ),
        row(
            "nginx asks only",
            Nginx("ssl_protocols TLSv1.3; ssl_verify_client optional; ssl_client_certificate clients.pem;"),
            open(),
            &["not_required"],
            Arrives,
        ),
        row(
            "nginx asks only, and verifies nothing",
            Nginx("ssl_protocols TLSv1.3; ssl_verify_client optional_no_ca; ssl_client_certificate clients.pem;"),
            open(),
            &["not_required"],
            Arrives,
        ),
        row("nginx does not ask", Nginx("ssl_protocols TLSv1.3;"), unasked(), &["not_asked"], not_asking),
        row(
            "nginx trusts another authority",
            Nginx("ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate others.pem;"),
            refused_alike(),
            &["certificate_refused", "authority_not_named", "requirement_unclear"],
            HeldFor("never_accepted_status_400"),
        ),
        Row {
            client: Client::Revoked,
            ..row(
                "nginx knows that ours is revoked",
                Nginx(
                    "ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate others.pem; ssl_crl others.crl;",
                ),
                refused_alike(),
                &["certificate_refused", "requirement_unclear"],
                HeldFor("never_accepted_status_400"),
            )
        },
        row(
            "nginx has TLS 1.2 only",
            Nginx("ssl_protocols TLSv1.2; ssl_verify_client on; ssl_client_certificate clients.pem;"),
            json!(["no", true, "yes", null, true]),
            &["no_tls13"],
            HeldFor("handshake_failed"),
        ),
        row("haproxy requires", Haproxy("ca-file clients.pem verify required"), good(), &[], Arrives),
        row("haproxy asks only", Haproxy("ca-file clients.pem verify optional"), open(), &["not_required"], Arrives),
        row(
            "haproxy trusts another authority",
            Haproxy("ca-file others.pem verify required"),
            refused(),
            &["certificate_refused", "authority_not_named"],
            HeldFor("certificate_refused"),
        ),
        row(
            "stunnel requires",
            Stunnel("CAfile = clients.pem\nrequireCert = yes\nverifyChain = yes"),
            good(),
            &[],
            Arrives,
        ),
        row(
            "stunnel trusts another authority",
            Stunnel("CAfile = others.pem\nrequireCert = yes\nverifyChain = yes"),
            refused(),
            &["certificate_refused", "authority_not_named"],
            HeldFor("certificate_refused"),
        ),
        row(
            "openssl requires",
            Openssl(&["-CAfile", "clients.pem", "-Verify", "2", "-verify_return_error"]),
            good(),
            &[],
            Arrives,
        ),
        row(
            "openssl asks only",
            Openssl(&["-CAfile", "clients.pem", "-verify", "2"]),
            open(),
            &["not_required"],
            Arrives,
        ),
        row("openssl does not ask", Openssl(&[]), unasked(), &["not_asked"], not_asking),
        row(
            "openssl still has old versions",
            Openssl(&[
                "-CAfile",
                "clients.pem",
                "-Verify",
                "2",
                "-verify_return_error",
                "-min_protocol",
                "TLSv1",
                "-cipher",
                "DEFAULT:@SECLEVEL=0",
            ]),
            good(),
            &["old_version"],
            Arrives,
        ),
        row(
            "openssl has old suites only",
            Openssl(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"]),
            json!(["no", null, null, null, null]),
            &["no_tls13", "old_suites"],
            HeldFor("handshake_failed"),
        ),
        row(
            "openssl asks after the handshake",
            OpensslAskingLater,
            unasked(),
            &["no_tls13", "asks_after_handshake"],
            HeldFor("handshake_failed"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, haproxy, stunnel and openssl"]
async fn probe_and_delivery_say_and_do_what_each_peer_deserves() {
    for row in rows() {
        println!("{}", row.name);
        row.holds_true().await;
    }
}

/// The second one ends each connection after fifty requests, in order.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and haproxy"]
async fn exports_reach_servers_of_others_by_http_2_and_none_is_lost_with_a_connection() {
    const NGINX: &str = "ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate clients.pem;";
    const ENDING: &str =
        "ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate clients.pem; keepalive_requests 50;";
    for kind in [NginxHttp2(NGINX), NginxHttp2(ENDING), Haproxy("alpn h2 ca-file clients.pem verify required")] {
        let (pki, port) = (Pki::lasting(LONG), free_port());
        let peer = Peer::start(kind, port, &pki, &[]);
        let set_up = Appliance::set_up(&pki).quiet().with("http = \"2\"");
        let mut postern = set_up.destination("crm", &format!("https://127.0.0.1:{port}/in")).start().await;
        let probed = postern.verb(&["cert", "probe", "crm", "--json", "--timeout", "10s"]).json();
        assert_eq!((probe::fields(&probed), probe::ids(&probed)), (json!(["yes", true, "yes", "yes", true]), vec![]));

        flood(&postern.inlets(), 0..EXPORTS, |number| {
            update(&format!("p{number}"), json!({ "plan": "gold", "name": ATTRIBUTE })).to_string()
        })
        .await;

        postern.wait_for_exports("crm", [0, EXPORTS as u32, 0]).await;
        assert_eq!(postern.charged_failures("crm").await, 0, "{kind:?}");
        // Where a connection ends after fifty, one of 64 under way may be beyond its end four times in a row: a trial, and a hold.
        let ends = matches!(kind, NginxHttp2(ENDING));
        assert!(ends || postern.trials("crm").await == 0, "{kind:?}");
        let seen = peer.access_log();
        let posts: Vec<_> = seen.lines().filter(|line| line.starts_with("POST")).collect();
        assert!(posts.iter().all(|line| *line == "POST TLSv1.3 HTTP/2.0 SUCCESS 200"), "{kind:?}: {posts:?}");
        assert!(matches!(kind, Haproxy(_)) || posts.len() as u64 == EXPORTS, "{kind:?}: {}", posts.len());
        assert!(postern.stop().await.success());
    }
}

impl Row {
    async fn holds_true(&self) {
        let name = self.name;
        let mut pki = Pki::lasting(LONG);
        let others = Others::new();
        if let Client::Revoked = self.client {
            pki.client = others.client;
        }
        let files = [("others.pem", others.authority_pem), ("others.crl", others.crl_pem)];
        let port = free_port();
        let peer = Peer::start(self.kind, port, &pki, &files);
        let relay = Relay::to(port).await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &relay.url_at(PATH)).write();

        self.is_probed(&postern);
        assert!(!peer.access_log().contains("POST"), "{name}: {}", peer.access_log());

        postern.start_again().await;
        postern.post("web", &update(IDENTITY, json!({ "plan": "gold", "name": ATTRIBUTE }))).await;
        if let HeldFor(reason) = self.delivery {
            is_held(&postern, reason, &peer).await;
            drop(peer);
            let _mended = Peer::start(Kind::good_for(self.client), port, &pki, &files);
            postern.verb(&["destination", "resume", "crm"]).succeeds();
            postern.wait_for_exports("crm", [0, 1, 0]).await;
        } else {
            postern.wait_for_exports("crm", [0, 1, 0]).await;
        }

        assert_eq!(postern.charged_failures("crm").await, 0, "{name}");
        assert!(relay.saw("http/1.1"), "{name}: what every ClientHello says in clear was seen");
        for secret in [ATTRIBUTE, IDENTITY, PATH] {
            assert!(!relay.saw(secret), "{name}: {secret} can be read on the way");
        }
        assert!(postern.stop().await.success(), "{name}");
    }

    fn is_probed(&self, postern: &Appliance) {
        let Self { name, fields, findings, .. } = self;
        let probed = postern.verb(&["cert", "probe", "crm", "--json", "--timeout", "10s"]);
        let report: Value = serde_json::from_str(&probed.stdout).unwrap_or_else(|_| panic!("{name}: {probed:?}"));
        assert_eq!(
            (&probe::fields(&report), probe::ids(&report).as_slice()),
            (fields, *findings),
            "{name}: {report:#}"
        );
        let is_good = findings.iter().all(|id| *id == "old_version");
        assert_eq!(probed.code, if is_good { 0 } else { 1 }, "{name}: {probed:?}");
    }
}

/// The export waits, charged for nothing; a peer that asks for no certificate has not seen it.
async fn is_held(postern: &Appliance, reason: &str, peer: &Peer) {
    postern.wait_for_hold("crm", reason).await;
    postern.wait_for_exports("crm", [1, 0, 0]).await;
    assert!(postern.trials("crm").await > 0, "{reason}");
    let seen = peer.access_log();
    let statuses = seen.lines().filter(|line| line.starts_with("POST")).map(|line| line.rsplit(' ').next().unwrap());
    let statuses: BTreeSet<&str> = statuses.collect();
    let expected = if reason == "never_accepted_status_400" { BTreeSet::from(["400"]) } else { BTreeSet::new() };
    assert_eq!(statuses, expected, "{reason}: {seen}");
}

impl Kind {
    fn good_for(client: Client) -> Self {
        match client {
            Client::Good => NGINX_GOOD,
            Client::Revoked => Nginx("ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate others.pem;"),
        }
    }
}

/// Another authority, with a client that it has revoked.
struct Others {
    authority_pem: String,
    client: Issued,
    crl_pem: String,
}

impl Others {
    fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.remove(DnType::CommonName);
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2999, 1, 1);
            params
        };
        let mut ca = params("Other authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();

        let serial = SerialNumber::from(4711);
        let mut revoked = params("Revoked client");
        revoked.serial_number = Some(serial.clone());
        revoked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = revoked.signed_by(&key, &authority).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 2),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial,
                revocation_time: date_time_ymd(2020, 1, 2),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Self {
            authority_pem: authority.pem(),
            client: Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() },
            crl_pem: list.signed_by(&authority).unwrap().pem().unwrap(),
        }
    }
}
