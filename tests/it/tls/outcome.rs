//! What a POST met is told apart, in time and in bounds.

use std::time::{Duration, Instant};

use postern::{
    clock::Clock,
    tls::{Limits, MutualClient, PostError},
};
use tokio::net::TcpListener;

use super::{client, good_post, post, post_to};
use crate::support::{
    pki::{HOST, Pki},
    receiver::Receiver,
    reply::Reply,
};

#[tokio::test]
async fn every_status_is_an_answer() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    for status in [200, 202, 204, 302, 400, 404, 429, 500, 503] {
        receiver.answer_in_turn([status]);

        assert_eq!(post(&client, &receiver).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn retry_after_is_passed_on_in_bounds() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    let flood = "9".repeat(65);
    for (sent, passed) in [("120", Some("120")), (flood.as_str(), None)] {
        receiver.answer_with(Reply::status(503).with_header("retry-after", sent));

        assert_eq!(post(&client, &receiver).await.unwrap().retry_after.as_deref(), passed);
    }
}

#[tokio::test]
async fn misbehaviour_on_a_fresh_connection_is_told_apart() {
    let pki = Pki::new();
    for (reply, fits) in [
        (Reply::Close, (|error| matches!(error, PostError::ClosedUnanswered(_))) as fn(&PostError) -> bool),
        (Reply::CloseInBody, |error| matches!(error, PostError::Lost(_))),
        (Reply::Garbage, |error| matches!(error, PostError::NotHttp(_))),
        (Reply::Endless, |error| matches!(error, PostError::AnswerTooLarge)),
        (Reply::EndlessHead, |error| matches!(error, PostError::AnswerTooLarge)),
    ] {
        let receiver = Receiver::start(&pki).await;
        receiver.answer_with(reply.clone());

        let error = good_post(&pki, &receiver).await.unwrap_err();

        assert!(fits(&error), "{reply:?}: {error:?}");
        assert_eq!(receiver.requests().len(), 1, "{reply:?}: sent once and never again by itself");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("/in"), "{shown}");
    }
}

#[tokio::test]
async fn close_on_a_connection_that_has_answered_is_a_loss() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    post(&client, &receiver).await.unwrap();
    receiver.answer_with(Reply::Close);

    let outcome = post(&client, &receiver).await;

    assert!(matches!(outcome, Err(PostError::Lost(_))), "{outcome:?}");
    assert_eq!((receiver.requests().len(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn connection_closed_while_idle_loses_no_post() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    for round in 1..=20 {
        assert_eq!(post(&client, &receiver).await.unwrap().status, 200);
        assert_eq!(receiver.requests().len(), round);
        receiver.close_connections().await;
    }
}

#[tokio::test]
async fn connection_is_used_again() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    for _ in 0..5 {
        post(&client, &receiver).await.unwrap();
    }

    assert_eq!(receiver.connections(), 1);
    assert!(receiver.requests().iter().all(|request| request.connection == 0));
}

#[tokio::test]
async fn receiver_that_is_down_is_a_connect_failure_until_it_is_back() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    let client = client(&pki.client_tls());
    receiver.stop().await;
    let outcome = post(&client, &receiver).await;
    assert!(matches!(outcome, Err(PostError::Connect(_))), "{outcome:?}");

    receiver.start_again();

    assert_eq!(post(&client, &receiver).await.unwrap().status, 200);
}

#[tokio::test]
async fn name_that_does_not_resolve_is_a_connect_failure() {
    let pki = Pki::new();

    let outcome = post_to(&client(&pki.client_tls()), "https://nowhere.invalid/in?token=s3cret").await;

    match outcome {
        Err(PostError::Connect(text)) => assert!(!text.contains("s3cret"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn silent_receiver_is_given_up_in_time_and_the_next_post_is_not_mixed_up() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let limits = Limits { connect: Duration::from_secs(10), answer: Duration::from_millis(300) };
    let client = MutualClient::new(&pki.client_tls(), limits, Clock::system()).unwrap();
    receiver.answer_in_turn([Reply::Silent]);
    let started = Instant::now();

    let outcome = post(&client, &receiver).await;

    assert_eq!(outcome, Err(PostError::Timeout(limits.answer)));
    let took = started.elapsed();
    assert!(took >= limits.answer && took < limits.connect, "{took:?}");
    assert_eq!(post(&client, &receiver).await.unwrap().status, 200);
    assert_eq!(receiver.requests().last().unwrap().connection, 1, "the silent connection is not used again");
}

#[tokio::test]
async fn answer_that_trickles_or_is_late_is_given_up_in_time() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let limits = Limits { connect: Duration::from_secs(10), answer: Duration::from_millis(300) };
    let client = MutualClient::new(&pki.client_tls(), limits, Clock::system()).unwrap();
    for reply in [Reply::Trickle, Reply::Late(Duration::from_secs(30), Box::new(Reply::status(200)))] {
        receiver.answer_with(reply);

        assert_eq!(post(&client, &receiver).await, Err(PostError::Timeout(limits.answer)));
    }
}

#[tokio::test]
async fn handshake_that_stalls_is_given_up_in_time() {
    let pki = Pki::new();
    // Accepts in the kernel only: TCP is there, TLS never answers.
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let limits = Limits { connect: Duration::from_millis(300), answer: Duration::from_secs(10) };
    let client = MutualClient::new(&pki.client_tls(), limits, Clock::system()).unwrap();
    let started = Instant::now();

    let outcome = post_to(&client, &format!("https://{}/in", listener.local_addr().unwrap())).await;

    assert!(matches!(outcome, Err(PostError::Connect(_))), "{outcome:?}");
    assert!(started.elapsed() < limits.answer);
}
