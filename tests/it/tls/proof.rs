//! Which connections carry a request, and which do not.

use std::process::Command;

use postern::tls::{Answer, ClientTls, HttpVersion, NotMutual, PostError, issue::Authority};
use tokio::task::JoinSet;

use super::{client, good_post, post, post_to};
use crate::support::{
    pki::{Pki, expired, not_yet_valid, valid},
    receiver::{HTTP1, HTTP2, Receiver},
    reply::Reply,
};

/// Each version of HTTP, and what a server chooses from that speaks it.
const BOTH: [(HttpVersion, &[&str]); 2] = [(HttpVersion::Http11, HTTP1), (HttpVersion::Http2, HTTP2)];

#[tokio::test]
async fn post_over_mutual_tls_arrives_whole_and_once() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).start().await;

        let answer = post(&client(&pki.client_tls().with_http(http)), &receiver).await.unwrap();

        assert_eq!((answer.status, answer.retry_after), (200, None));
        let requests = receiver.wait_for(1).await;
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/in"));
        assert_eq!(request.idempotency_key(), Some("0193-export"));
        assert_eq!(request.body, serde_json::json!({"profile": "s3cret-body"}));
        assert_eq!(request.header("content-length"), Some("25"));
        assert_eq!(request.header("transfer-encoding"), None);
    }
}

#[tokio::test]
async fn server_that_does_not_ask_gets_not_one_byte() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).not_asking().start().await;
        let client = client(&pki.client_tls().with_http(http));

        for _ in 0..3 {
            let outcome = post(&client, &receiver).await;

            assert_eq!(outcome, Err(PostError::NotMutual(NotMutual::NotRequested)));
        }
        receiver.wait_for_closed().await;
        assert_eq!((receiver.connections(), receiver.handshakes(), receiver.plaintext_bytes()), (3, 3, 0));
    }
}

#[tokio::test]
async fn server_that_takes_no_signature_of_our_key_gets_not_one_byte() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).only_ed25519().start().await;

        let outcome = post(&client(&pki.client_tls().with_http(http)), &receiver).await;

        assert_eq!(outcome, Err(PostError::NotMutual(NotMutual::NoCommonSignature)));
        receiver.wait_for_closed().await;
        assert_eq!(receiver.plaintext_bytes(), 0);
    }
}

#[tokio::test]
async fn one_client_judges_each_server_by_itself() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let (good, careless) = (
            Receiver::set_up(&pki).speaking(speaking).start().await,
            Receiver::set_up(&pki).speaking(speaking).not_asking().start().await,
        );
        let client = client(&pki.client_tls().with_http(http));

        // At once, so that their handshakes mingle.
        let outcomes = tokio::join!(
            post(&client, &good),
            post(&client, &careless),
            post(&client, &good),
            post(&client, &careless),
            post(&client, &good),
        );

        assert!(outcomes.0.is_ok() && outcomes.2.is_ok() && outcomes.4.is_ok(), "{outcomes:?}");
        assert!(outcomes.1.is_err() && outcomes.3.is_err(), "{outcomes:?}");
        careless.wait_for_closed().await;
        assert_eq!((good.requests().len(), careless.plaintext_bytes()), (3, 0));
    }
}

#[tokio::test]
async fn server_that_does_not_verify_gets_not_one_byte() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let stranger = Authority::new("Test authority", valid()).unwrap();
        let names = ["127.0.0.1"];
        for (case, certificate, reason) in [
            ("another authority of the same name", stranger.server(&names, valid()), "BadSignature"),
            ("another name", pki.authority.server(&["elsewhere.example"], valid()), "not valid for"),
            ("expired", pki.authority.server(&names, expired()), "expired"),
            ("not yet valid", pki.authority.server(&names, not_yet_valid()), "not valid yet"),
            ("a client's certificate", pki.authority.client("127.0.0.1", valid()), "extended key usage"),
        ] {
            let certificate = certificate.unwrap();
            let receiver = Receiver::set_up(&pki).speaking(speaking).presenting(&certificate).start().await;

            let outcome = post(&client(&pki.client_tls().with_http(http)), &receiver).await;

            match outcome {
                Err(PostError::ServerNotTrusted(text)) => assert!(text.contains(reason), "{case}: {text}"),
                other => panic!("{case}: {other:?}"),
            }
            receiver.wait_for_closed().await;
            assert_eq!(receiver.plaintext_bytes(), 0, "{case}");
        }
    }
}

#[tokio::test]
async fn server_with_only_tls_1_2_is_refused() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).only_tls12().start().await;

        let outcome = post(&client(&pki.client_tls().with_http(http)), &receiver).await;

        assert!(matches!(outcome, Err(PostError::Handshake(_))), "{outcome:?}");
        receiver.wait_for_closed().await;
        assert_eq!((receiver.handshakes(), receiver.plaintext_bytes()), (0, 0));
    }
}

#[tokio::test]
async fn refused_client_certificate_is_told_from_a_lost_connection() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let stranger = Authority::new("Stranger", valid()).unwrap();
        for (case, certificate) in [
            ("expired", pki.authority.client("Test client", expired())),
            ("of another authority", stranger.client("Test client", valid())),
        ] {
            let receiver = Receiver::set_up(&pki).speaking(speaking).start().await;
            let tls = ClientTls::load(&pki.files_of(&certificate.unwrap())).unwrap().with_http(http);

            let outcome = post(&client(&tls), &receiver).await;

            assert!(is_refused(http, &outcome), "{case}: {outcome:?}");
            assert_eq!((receiver.handshakes(), receiver.plaintext_bytes()), (0, 0), "{case}");
        }
    }
}

#[tokio::test]
async fn certificate_of_a_subordinate_authority_is_sent_with_its_chain() {
    let pki = Pki::new();
    let subordinate = pki.authority.subordinate("Site authority", valid()).unwrap();
    let certificate = subordinate.client("Test client", valid()).unwrap();
    let receiver = Receiver::start(&pki).await;

    let outcome = post(&client(&ClientTls::load(&pki.files_of(&certificate)).unwrap()), &receiver).await;

    assert_eq!(outcome.unwrap().status, 200);
}

#[tokio::test]
async fn redirect_is_an_answer_and_never_followed() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let (receiver, elsewhere) = (
            Receiver::set_up(&pki).speaking(speaking).start().await,
            Receiver::set_up(&pki).speaking(speaking).start().await,
        );
        receiver.answer_with(Reply::status(301).with_header("location", &elsewhere.url()));

        let answer = post(&client(&pki.client_tls().with_http(http)), &receiver).await.unwrap();

        assert_eq!(answer.status, 301);
        assert_eq!((receiver.requests().len(), elsewhere.connections()), (1, 0));
    }
}

/// Runs the first test of this file once more where the environment names a proxy that nobody listens at.
#[test]
fn proxies_from_the_environment_are_not_used() {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "tls::proof::post_over_mutual_tls_arrives_whole_and_once"]);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        again.env(name, "http://127.0.0.1:1");
    }
    again.env_remove("NO_PROXY").env_remove("no_proxy");

    let output = again.output().unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn sessions_are_not_resumed_even_where_the_server_offers_it() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).offering_tickets().start().await;
        let client = client(&pki.client_tls().with_http(http));

        for _ in 0..3 {
            assert_eq!(post(&client, &receiver).await.unwrap().status, 200);
            receiver.close_connections().await;
        }

        // A resumed handshake would ask nobody for a certificate.
        assert_eq!((receiver.handshakes(), receiver.resumptions()), (3, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refused_client_certificate_is_told_in_a_crowd_too() {
    for (http, speaking) in BOTH {
        let pki = Pki::new();
        let receiver = Receiver::set_up(&pki).speaking(speaking).start().await;
        let tls = ClientTls::load(&pki.files_of(&pki.authority.client("Test client", expired()).unwrap())).unwrap();
        let client = client(&tls.with_http(http));
        let url = receiver.url();

        let mut posts = JoinSet::new();
        for _ in 0..200 {
            let (client, url) = (client.clone(), url.clone());
            posts.spawn(async move { post_to(&client, &url).await });
        }

        for outcome in posts.join_all().await {
            assert!(is_refused(http, &outcome), "{outcome:?}");
        }
        assert_eq!(receiver.plaintext_bytes(), 0);
    }
}

/// By HTTP/2 we speak first, and may find the connection closed before we read why.
fn is_refused(http: HttpVersion, outcome: &Result<Answer, PostError>) -> bool {
    match outcome {
        Err(PostError::ClientCertificateRefused(_)) => true,
        Err(PostError::ClosedUnanswered(_)) => http == HttpVersion::Http2,
        _ => false,
    }
}

#[tokio::test]
async fn server_that_does_not_choose_http_2_gets_not_one_byte() {
    let pki = Pki::new();
    let client = client(&pki.client_tls().with_http(HttpVersion::Http2));
    // The one says so in the handshake, the other says nothing of versions at all.
    for speaking in [HTTP1, &[]] {
        let receiver = Receiver::set_up(&pki).speaking(speaking).start().await;

        let outcome = post(&client, &receiver).await;

        assert!(matches!(outcome, Err(PostError::OtherHttp(_))), "{outcome:?}");
        receiver.wait_for_closed().await;
        assert_eq!((receiver.requests().len(), receiver.plaintext_bytes()), (0, 0));
    }
}

#[tokio::test]
async fn server_that_speaks_http_2_alone_is_told_from_other_faults() {
    let pki = Pki::new();
    let receiver = Receiver::set_up(&pki).speaking(HTTP2).start().await;

    let outcome = good_post(&pki, &receiver).await;

    assert!(matches!(outcome, Err(PostError::OtherHttp(_))), "{outcome:?}");
    receiver.wait_for_closed().await;
    assert_eq!(receiver.plaintext_bytes(), 0);
}
