//! Older versions of TLS, and pinned keys: what is verified and proven is the same, or more.

use std::sync::Arc;

use postern::tls::{ClientTls, MinVersion, NotMutual, Policy, PostError, issue::Authority};

use super::{client, post};
use crate::support::{
    pki::{HOST, Pki, expired, pin, valid},
    receiver::Receiver,
};

fn with_tls12(tls: ClientTls) -> ClientTls {
    tls.with_policy(Policy { min_version: MinVersion::Tls12, ..Policy::default() })
}

fn pinning(pki: &Pki, certificate_pem: &str) -> ClientTls {
    pki.client_tls().with_policy(Policy { pins: Arc::new([pin(certificate_pem)]), ..Policy::default() })
}

#[tokio::test]
async fn server_with_only_tls_1_2_is_sent_to_where_that_is_allowed_and_sessions_are_not_resumed() {
    let pki = Pki::new();
    let receiver = Receiver::set_up(&pki).only_tls12().start().await;
    let client = client(&with_tls12(pki.client_tls()));

    for _ in 0..3 {
        assert_eq!(post(&client, &receiver).await.unwrap().status, 200);
        receiver.close_connections().await;
    }

    assert_eq!((receiver.handshakes(), receiver.resumptions()), (3, 0));
    assert!(receiver.requests().iter().all(|request| !request.certificate.is_empty()));
}

#[tokio::test]
async fn server_that_does_not_ask_over_tls_1_2_gets_not_one_byte() {
    let pki = Pki::new();
    let receiver = Receiver::set_up(&pki).not_asking_over_tls12().start().await;

    let outcome = post(&client(&with_tls12(pki.client_tls())), &receiver).await;

    assert_eq!(outcome, Err(PostError::NotMutual(NotMutual::NotRequested)));
    receiver.wait_for_closed().await;
    assert_eq!((receiver.handshakes(), receiver.plaintext_bytes()), (1, 0));
}

#[tokio::test]
async fn server_that_does_not_verify_over_tls_1_2_gets_not_one_byte() {
    let pki = Pki::new();
    let old = pki.authority.server(&[HOST], expired()).unwrap();
    let receiver = Receiver::set_up(&pki).only_tls12().presenting(&old).start().await;

    let outcome = post(&client(&with_tls12(pki.client_tls())), &receiver).await;

    assert!(matches!(outcome, Err(PostError::ServerNotTrusted(_))), "{outcome:?}");
    receiver.wait_for_closed().await;
    assert_eq!(receiver.plaintext_bytes(), 0);
}

#[tokio::test]
async fn refused_client_certificate_is_told_over_tls_1_2_too() {
    let pki = Pki::new();
    let stranger = Authority::new("Stranger", valid()).unwrap();
    let receiver = Receiver::set_up(&pki).only_tls12().start().await;
    for certificate in [pki.authority.client("Test client", expired()), stranger.client("Test client", valid())] {
        let tls = ClientTls::load(&pki.files_of(&certificate.unwrap())).unwrap();

        let outcome = post(&client(&with_tls12(tls)), &receiver).await;

        assert!(matches!(outcome, Err(PostError::ClientCertificateRefused(_))), "{outcome:?}");
    }
    assert_eq!(receiver.plaintext_bytes(), 0);
}

#[tokio::test]
async fn key_that_is_pinned_may_be_the_servers_an_issuers_or_the_roots() {
    let pki = Pki::new();
    let site = pki.authority.subordinate("Site authority", valid()).unwrap();
    let server = site.server(&[HOST], valid()).unwrap();
    let receiver = Receiver::set_up(&pki).presenting(&server).start().await;
    let issuer = server.certificate_pem.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap();

    for pinned in [&server.certificate_pem, issuer, &pki.authority.certificate_pem()] {
        assert_eq!(post(&client(&pinning(&pki, pinned)), &receiver).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn server_without_a_pinned_key_gets_not_one_byte_whatever_else_it_shows() {
    let pki = Pki::new();
    let stranger = Authority::new("Stranger", valid()).unwrap();
    let mut shown = pki.authority.server(&[HOST], valid()).unwrap();
    // Anybody has this certificate; it vouches for nothing here.
    shown.certificate_pem += &stranger.certificate_pem();
    for server in [&pki.server, &shown] {
        let receiver = Receiver::set_up(&pki).presenting(server).start().await;

        let outcome = post(&client(&pinning(&pki, &stranger.certificate_pem())), &receiver).await;

        match outcome {
            Err(PostError::ServerNotTrusted(text)) => assert!(text.contains("none of the pinned keys"), "{text}"),
            other => panic!("{other:?}"),
        }
        receiver.wait_for_closed().await;
        assert_eq!((receiver.handshakes(), receiver.plaintext_bytes()), (0, 0));
    }
}

#[test]
fn files_that_are_read_again_are_used_by_the_same_policy() {
    let pki = Pki::new();
    let tls = pinning(&pki, &pki.server.certificate_pem);

    assert_eq!(tls.load_again().unwrap(), tls);
    assert_ne!(ClientTls::load(tls.files()).unwrap(), tls);
}
