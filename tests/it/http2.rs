//! By HTTP/2: the same exports, the same table of outcomes, and what only HTTP/2 has.

use std::{fs, sync::Mutex, time::Duration};

use postern::{
    clock::Clock,
    tls::{Answer, HttpVersion, Limits, MutualClient, PostError},
};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{
    appliance::{Appliance, clock},
    frames::{
        Act, Asked, Frames, answer, empty_continuation, endless_head, go_away, head_alone, ping, reset, settings,
        streams_at_most,
    },
    pki::Pki,
    receiver::{HTTP2, Receiver},
    reply::{Gate, Reply},
    sender::{update, who},
};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// The longest that a first retry may wait by `["15s", "30s"]`.
const FIRST_DELAY_MAX: Duration = Duration::from_millis(16_500);

#[tokio::test]
async fn exports_arrive_by_http_2_over_one_connection_and_in_order() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    let mut postern = Appliance::set_up(&pki).with("http = \"2\"").destination("crm", &receiver.url()).start().await;
    for version in 1..=5 {
        for person in ["ada", "bob", "eve"] {
            postern.post("web", &update(person, json!({ "plan": "gold", "version": version }))).await;
        }
    }

    postern.wait_for_exports("crm", [0, 15, 0]).await;

    let requests = receiver.requests();
    for person in ["ada", "bob", "eve"] {
        let of_one = requests.iter().filter(|request| who(&request.body) == person);
        let versions: Vec<u64> = of_one.map(|request| request.body["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, [1, 2, 3, 4, 5], "{person}");
    }
    assert_eq!(receiver.connections(), 1);
    assert!(requests.iter().all(|request| request.idempotency_key().is_some()));
    assert!(requests.iter().all(|request| request.header("connection").is_none()));
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn requests_share_a_connection_up_to_max_in_flight() {
    let (pki, gate) = (Pki::new(), Gate::default());
    let receiver = speaking_http2(&pki).await;
    let kept = gate.clone();
    receiver.answer_by(move |_| Reply::Behind(kept.clone(), Box::new(Reply::status(200))));
    let set_up = Appliance::set_up(&pki).timeout("20s").max_in_flight(8).with("http = \"2\"");
    let postern = set_up.destination("crm", &receiver.url()).start_by(&clock()).await;
    for person in 0..20 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold" }))).await;
    }
    receiver.wait_for(8).await;

    gate.open();

    postern.wait_for_exports("crm", [0, 20, 0]).await;
    assert_eq!((receiver.most_at_once(), receiver.connections()), (8, 1));
}

/// It takes two at a time for 100 ms each. Thirty take longer than the answer's time: none runs out of it by waiting.
#[tokio::test]
async fn waiting_for_a_stream_is_not_waiting_for_an_answer() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    receiver.take_at_once(2);
    receiver.answer_with(Reply::Late(Duration::from_millis(100), Box::new(Reply::status(200))));
    // Shorter than what all of them take, and so is connecting.
    let limits = Limits { connect: Duration::from_millis(600), answer: Duration::from_millis(700) };
    let client = client_within(&pki, limits);
    assert_eq!(post(&client, &receiver.url()).await.unwrap().status, 200);

    let mut posts = JoinSet::new();
    for _ in 0..30 {
        let (client, url) = (client.clone(), receiver.url());
        posts.spawn(async move { post(&client, &url).await });
    }

    for outcome in posts.join_all().await {
        assert_eq!(outcome.unwrap().status, 200);
    }
    assert_eq!((receiver.most_at_once(), receiver.connections()), (2, 1));
}

/// Whoever ends does not wait for places: what has none yet is not sent.
#[tokio::test]
async fn post_that_waits_for_a_stream_ends_when_its_sender_does() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    receiver.take_at_once(1);
    let stopped = CancellationToken::new();
    let client = client_within(&pki, LIMITS).until(stopped.clone());
    assert_eq!(post(&client, &receiver.url()).await.unwrap().status, 200);
    receiver.answer_with(Reply::Late(Duration::from_secs(60), Box::new(Reply::status(200))));
    let (one, url) = (client.clone(), receiver.url());
    let _first = tokio::spawn(async move { post(&one, &url).await });
    receiver.wait_for(2).await;

    let second = {
        let (client, url) = (client.clone(), receiver.url());
        tokio::spawn(async move { post(&client, &url).await })
    };
    stopped.cancel();

    let outcome = tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(PostError::NotSent(_))), "{outcome:?}");
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn server_that_takes_no_stream_at_all_is_out_of_reach_after_the_time_for_connecting() {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, streams_at_most(0), |_| vec![]).await;
    let limits = Limits { connect: Duration::from_millis(300), ..LIMITS };
    let client = client_within(&pki, limits);
    // The first may go out before the settings are read; it is left alone then.
    let first = tokio::time::timeout(Duration::from_secs(1), post(&client, &receiver.url())).await;

    let outcome = post(&client, &receiver.url()).await;

    assert!(!matches!(first, Ok(Ok(_))), "{first:?}");
    assert!(matches!(outcome, Err(PostError::Connect(_))), "{outcome:?}");
}

#[tokio::test]
async fn each_outcome_has_the_row_that_it_has_by_http_1() {
    for (reply, outcome, charge) in [
        (Reply::status(204), "delivered", "attempt"),
        (Reply::status(500), "status_500", "attempt"),
        (Reply::status(503).with_header("retry-after", "7"), "throttled_503", "trial"),
        (Reply::status(404), "status_404", "trial"),
        (Reply::status(422), "refused_422", "attempt"),
        (Reply::Silent, "timeout", "attempt"),
        (Reply::Trickle, "timeout", "attempt"),
        (Reply::Endless, "bad_answer", "attempt"),
        (Reply::CloseInBody, "connection_lost", "attempt"),
        (Reply::Close, "closed_unanswered", "trial"),
        (Reply::StreamReset(INTERNAL_ERROR), "connection_lost", "attempt"),
        (Reply::StreamResetInBody(INTERNAL_ERROR), "connection_lost", "attempt"),
        (Reply::StreamResetInBody(CANCEL), "connection_lost", "attempt"),
        // It takes the rest back without an error of its own: what came is not what was promised.
        (Reply::StreamResetInBody(NO_ERROR), "connection_lost", "attempt"),
        (Reply::StreamReset(HTTP_1_1_REQUIRED), "other_http_version", "trial"),
    ] {
        let (pki, case) = (Pki::new(), format!("{reply:?}"));
        let receiver = speaking_http2(&pki).await;
        receiver.answer_with(reply);
        let set_up = Appliance::set_up(&pki).timeout("1s").retry_delays(["15s", "30s"]).with("http = \"2\"");
        let postern = set_up.destination("crm", &receiver.url()).start_by(&clock()).await;

        postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

        println!("{case}");
        postern.wait_for_posts("crm", outcome, charge, 1).await;
        assert_eq!(receiver.requests().len(), 1, "{case}: sent once and never again by itself");
    }
}

#[tokio::test]
async fn connection_that_answered_before_and_is_lost_is_charged() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    let client = client(&pki);
    post(&client, &receiver.url()).await.unwrap();
    receiver.answer_with(Reply::Close);

    let outcome = post(&client, &receiver.url()).await;

    assert!(matches!(outcome, Err(PostError::Lost(_))), "{outcome:?}");
    assert_eq!((receiver.requests().len(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn all_that_shared_a_connection_which_never_answered_learn_that() {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, settings(), |asked| match asked.number {
        4 => vec![Act::Close],
        _ => vec![],
    })
    .await;
    let client = client(&pki);
    let mut posts = JoinSet::new();
    for _ in 0..5 {
        let (client, url) = (client.clone(), receiver.url());
        posts.spawn(async move { post(&client, &url).await });
    }

    for outcome in posts.join_all().await {
        assert!(matches!(outcome, Err(PostError::ClosedUnanswered(_))), "{outcome:?}");
    }
    assert_eq!(receiver.seen().connections, 1);
}

#[tokio::test]
async fn stream_that_is_refused_is_sent_again_at_once_and_charged_to_nobody() {
    let refused_first = |asked: Asked| match asked.number {
        0..3 => vec![Act::Write(reset(asked.stream, REFUSED_STREAM))],
        _ => vec![Act::Write(answer(asked.stream, 200))],
    };
    is_delivered_in(4, refused_first).await;
}

#[tokio::test]
async fn stream_that_is_refused_is_sent_again_no_faster_than_max_rate() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Frames::start(&pki, settings(), |asked| match asked.number {
        0..3 => vec![Act::Write(reset(asked.stream, REFUSED_STREAM))],
        _ => vec![Act::Write(answer(asked.stream, 200))],
    })
    .await;
    let set_up = Appliance::set_up(&pki).with("http = \"2\"\nmax_rate = 10").destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    for count in 1..=4 {
        clock.advance(Duration::from_millis(100));
        receiver.wait_until("one each 100 ms", |seen| seen.requests.len() >= count).await;
        // What would go too early would be there by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(receiver.seen().requests.len(), count);
    }
    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (0, 0));
}

#[tokio::test]
async fn stream_beyond_the_last_that_a_server_looked_at_is_sent_again_over_another_connection() {
    for reason in [NO_ERROR, ENHANCE_YOUR_CALM] {
        is_delivered_in(2, move |asked: Asked| match asked.connection {
            0 => vec![Act::Write(go_away(asked.stream - 1, reason)), Act::Close],
            _ => vec![Act::Write(answer(asked.stream, 200))],
        })
        .await;
    }
}

/// Delivered with nothing charged, after so many requests.
async fn is_delivered_in(requests: usize, script: impl Fn(Asked) -> Vec<Act> + Send + Sync + 'static) {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, settings(), script).await;
    let set_up = Appliance::set_up(&pki).with("http = \"2\"").destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock()).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (0, 0));
    let seen = receiver.seen();
    assert_eq!(seen.requests.len(), requests);
    assert!(seen.requests.iter().all(|(_, body)| who(body) == "ada"));
}

#[tokio::test]
async fn stream_up_to_the_last_that_a_server_looked_at_is_charged_when_no_answer_follows() {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, settings(), |asked| match asked.number {
        0 => vec![Act::Write(answer(asked.stream, 200))],
        _ => vec![Act::Write(go_away(asked.stream, NO_ERROR)), Act::Close],
    })
    .await;
    let client = client(&pki);
    post(&client, &receiver.url()).await.unwrap();

    let outcome = post(&client, &receiver.url()).await;

    assert!(matches!(outcome, Err(PostError::Lost(_))), "{outcome:?}");
}

#[tokio::test]
async fn graceful_end_of_a_connection_loses_nothing() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    receiver.answer_by(|request| match request.number % 10 {
        9 => Reply::AnswerThenClose(200),
        _ => Reply::status(200),
    });
    let set_up = Appliance::set_up(&pki).with("http = \"2\"").destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock()).await;

    for person in 0..100 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold" }))).await;
    }

    postern.wait_for_exports("crm", [0, 100, 0]).await;
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (0, 0));
    assert!(receiver.connections() > 5);
}

#[tokio::test]
async fn idle_connection_that_was_closed_loses_no_post() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    let client = client(&pki);
    for round in 1..=20 {
        assert_eq!(post(&client, &receiver.url()).await.unwrap().status, 200);
        assert_eq!(receiver.requests().len(), round);
        receiver.close_connections().await;
    }
}

#[tokio::test]
async fn receiver_that_refuses_every_stream_is_held_and_probed_until_it_takes_one() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Frames::start(&pki, settings(), |asked| match asked.number {
        0..8 => vec![Act::Write(reset(asked.stream, REFUSED_STREAM))],
        _ => vec![Act::Write(answer(asked.stream, 200))],
    })
    .await;
    let set_up = Appliance::set_up(&pki).with("http = \"2\"").destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_hold("crm", "not_processed").await;
    assert_eq!(receiver.seen().requests.len(), 4, "once, and three times over");
    postern.turn_until_delivered(&clock, "crm", 1).await;
    assert_eq!(postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn server_that_does_not_choose_http_2_holds_with_a_reason_of_its_own_and_is_no_longer_held_once_it_does() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).with("http = \"2\"").destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_hold("crm", "other_http_version").await;
    assert_eq!(receiver.plaintext_bytes(), 0);

    receiver.become_as(Receiver::set_up(&pki).speaking(HTTP2)).await;

    postern.turn_until_delivered(&clock, "crm", 1).await;
}

#[tokio::test]
async fn server_that_speaks_http_2_alone_holds_a_destination_of_http_1() {
    let pki = Pki::new();
    let receiver = speaking_http2(&pki).await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock()).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_hold("crm", "other_http_version").await;
    assert_eq!(postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn frames_that_are_none_are_a_bad_answer() {
    let pki = Pki::new();
    let (head, more) = endless_head(1);
    let http1 = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
    let rows: [(&str, Vec<u8>, Vec<Act>); 5] = [
        ("HTTP/1.1 in spite of its choice", http1, vec![]),
        ("garbage", settings(), vec![Act::Write(vec![0xff; 64]), Act::Close]),
        ("a head without end", settings(), vec![Act::Write(head.clone()), Act::Flood(more)]),
        ("continuations without end", settings(), vec![Act::Write(head), Act::Flood(empty_continuation(1))]),
        ("an answer to nobody", settings(), vec![Act::Write(answer(99, 200)), Act::Close]),
    ];
    for (case, opening, acts) in rows {
        let receiver = Frames::start(&pki, opening, move |_| acts.clone()).await;

        let outcome = post(&client(&pki), &receiver.url()).await;

        assert!(matches!(outcome, Err(PostError::NotHttp(_) | PostError::AnswerTooLarge)), "{case}: {outcome:?}");
        receiver.wait_until("the connection's end", |seen| seen.closed == 1).await;
    }
}

/// What is no fault by the letter is borne, but not for longer than an answer may take; then the connection goes.
#[tokio::test]
async fn floods_are_given_up_in_time() {
    for (case, flood) in [("resets", reset(1, CANCEL)), ("pings", ping()), ("settings", settings())] {
        println!("{case}");
        let pki = Pki::new();
        let receiver = Frames::start(&pki, settings(), move |_| vec![Act::Flood(flood.repeat(100))]).await;
        let limits = Limits { answer: Duration::from_millis(500), ..LIMITS };
        let client = client_within(&pki, limits);

        let outcome = post(&client, &receiver.url()).await;

        let is_given_up = matches!(outcome, Err(PostError::Timeout(_) | PostError::Lost(_) | PostError::NotHttp(_)));
        assert!(is_given_up, "{case}: {outcome:?}");
        drop(client);
        receiver.wait_until("the connection's end", |seen| seen.closed == 1).await;
    }
}

#[tokio::test]
async fn connection_that_has_died_is_found_out_and_not_used_again() {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, settings(), |asked| match asked.connection {
        0 if asked.number == 0 => vec![Act::Write(answer(asked.stream, 200))],
        0 => vec![Act::Die],
        _ => vec![Act::Write(answer(asked.stream, 200))],
    })
    .await;
    let client = client(&pki);
    post(&client, &receiver.url()).await.unwrap();

    let outcome = post(&client, &receiver.url()).await;

    assert!(matches!(outcome, Err(PostError::Lost(_))), "not for all the time that an answer may take: {outcome:?}");
    assert_eq!(post(&client, &receiver.url()).await.unwrap().status, 200);
    assert_eq!(receiver.seen().connections, 2);
}

#[tokio::test]
async fn connection_that_is_slow_but_alive_is_waited_for() {
    let pki = Pki::new();
    let receiver = Frames::start(&pki, settings(), |asked| vec![Act::Write(head_alone(asked.stream))]).await;
    let limits = Limits { answer: Duration::from_millis(2500), ..LIMITS };
    let client = client_within(&pki, limits);

    let outcome = post(&client, &receiver.url()).await;

    assert_eq!(outcome, Err(PostError::Timeout(limits.answer)));
    assert!(receiver.seen().pings > 0, "it was asked whether it lives");
}

#[tokio::test]
async fn a_lost_connection_costs_each_export_on_it_one_attempt() {
    let (pki, clock) = (Pki::new(), clock());
    let broken = Mutex::new(false);
    let receiver = Frames::start(&pki, settings(), move |asked| {
        let mut broken = broken.lock().unwrap();
        match (asked.number, *broken) {
            (0, _) => vec![Act::Write(answer(asked.stream, 200))],
            (1..3, false) => vec![],
            (3, false) => {
                *broken = true;
                vec![Act::Close]
            }
            _ => vec![Act::Write(answer(asked.stream, 200))],
        }
    })
    .await;
    let set_up = Appliance::set_up(&pki).timeout("20s").retry_delays(["15s", "30s"]).with("http = \"2\"");
    let postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
    postern.post("web", &update("zed", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;

    for person in ["ada", "bob", "eve"] {
        postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
    }
    postern.wait_for_posts("crm", "connection_lost", "attempt", 3).await;
    clock.advance(FIRST_DELAY_MAX);

    postern.turn_until_delivered(&clock, "crm", 4).await;
    assert_eq!(postern.charged_failures("crm").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_changed_by_a_reload() {
    let pki = Pki::new();
    let receiver = Receiver::set_up(&pki).speaking(&["h2", "http/1.1"]).start().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;

    let config = fs::read_to_string(postern.config_file()).unwrap();
    fs::write(postern.config_file(), config.replace("timeout = \"2s\"", "timeout = \"2s\"\nhttp = \"2\"")).unwrap();
    postern.verb(&["reload"]).succeeds();
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;

    postern.wait_for_exports("crm", [0, 2, 0]).await;
    let hosts: Vec<bool> = receiver.requests().iter().map(|request| request.header("host").is_some()).collect();
    assert_eq!(hosts, [true, false], "HTTP/2 has no Host header");
    assert!(postern.stop().await.success());
}

const LIMITS: Limits = Limits { connect: Duration::from_secs(10), answer: Duration::from_secs(10) };

async fn speaking_http2(pki: &Pki) -> Receiver {
    Receiver::set_up(pki).speaking(HTTP2).start().await
}

fn client(pki: &Pki) -> MutualClient {
    client_within(pki, LIMITS)
}

fn client_within(pki: &Pki, limits: Limits) -> MutualClient {
    MutualClient::new(&pki.client_tls().with_http(HttpVersion::Http2), limits, Clock::system()).unwrap()
}

async fn post(client: &MutualClient, url: &str) -> Result<Answer, PostError> {
    let url = postern::tls::HttpsUrl::parse(url).unwrap();
    client.post(&url, reqwest::header::HeaderMap::new(), bytes::Bytes::from_static(br#"{"a":1}"#)).await
}
