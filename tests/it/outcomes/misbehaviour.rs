//! Receivers that are slow, break off, or do not speak HTTP as it is.

use std::time::Duration;

use serde_json::json;

use super::{Before, Follows, GENEROUS, RETRIES_MAX, Row, hold_true};
use crate::support::{
    appliance::{Appliance, clock},
    pki::Pki,
    receiver::Receiver,
    reply::{Reply, Then},
    sender::update,
};

/// What a destination waits by default.
const TIMEOUT: &str = "2s";
const NOW_AND_THEN: Duration = Duration::from_millis(50);

#[tokio::test]
async fn receiver_that_accepted_before_and_misbehaves_since_has_its_row() {
    hold_true(rows(), Before::Accepted).await;
}

#[tokio::test]
async fn receiver_that_misbehaves_from_the_first_has_the_same_row() {
    hold_true(rows(), Before::NothingAccepted).await;
}

fn rows() -> Vec<Row> {
    [late(), broken_off(), not_as_said(), not_http(), odd_and_good()].into_iter().flatten().collect()
}

fn late() -> Vec<Row> {
    let again =
        |first: &str, piece: &str| Reply::Again(first.as_bytes().to_vec(), piece.as_bytes().to_vec(), NOW_AND_THEN);
    let late = |name, reply| Row::new(name, reply, exhausted("timeout")).within(TIMEOUT);
    vec![
        late("silent", Reply::Silent),
        late("after-the-timeout", Reply::Late(Duration::from_secs(4), Box::new(Reply::status(200)))),
        late("status-line-alone", Reply::text("HTTP/1.1 200 OK\r\n", Then::Stay)),
        late("head-alone", Reply::text("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Then::Stay)),
        late("half-a-body", Reply::text("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Then::Stay)),
        late("slow-header", again("HTTP/1.1 200 OK\r\nx: ", "a")),
        late("slow-headers", again("HTTP/1.1 200 OK\r\n", "x: y\r\n")),
        late("slow-body", Reply::Trickle),
        late("slow-chunks", again("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n")),
        late("always-continue", again("", "HTTP/1.1 100 Continue\r\n\r\n")),
    ]
}

fn broken_off() -> Vec<Row> {
    let closed = |name, reply| Row::new(name, reply, held("closed_unanswered"));
    let lost = |name, reply| Row::new(name, reply, exhausted("connection_lost"));
    let body = |status: &str, then| Reply::text(&format!("HTTP/1.1 {status}\r\ncontent-length: 9\r\n\r\nhalf"), then);
    vec![
        closed("close", Reply::Close),
        closed("close-untold", Reply::text("", Then::CloseUntold)),
        closed("close-half", Reply::text("", Then::CloseHalf)),
        closed("reset", Reply::text("", Then::Reset)),
        // A part of a head is no answer yet.
        closed("close-in-head", Reply::text("HTTP/1.1 200 OK\r\nx: y", Then::Close)),
        closed("reset-in-head", Reply::text("HTTP/1.1 200 OK\r\nx: y", Then::Reset)),
        lost("close-in-body", body("200 OK", Then::Close)),
        lost("close-untold-in-body", body("200 OK", Then::CloseUntold)),
        lost("close-half-in-body", body("200 OK", Then::CloseHalf)),
        lost("reset-in-body", body("200 OK", Then::Reset)),
        lost("reset-in-body-of-500", body("500 Oh", Then::Reset)),
        lost("reset-in-body-of-404", body("404 No", Then::Reset)),
        // Cut off by whoever is between, for all one can tell.
        lost("end-untold", Reply::text("HTTP/1.0 200 OK\r\n\r\nok", Then::CloseUntold)),
    ]
}

fn not_as_said() -> Vec<Row> {
    let head = |lines: &str, body: &str, then| Reply::text(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}"), then);
    let bad = |name, lines: &str, body: &str| Row::new(name, head(lines, body, Then::Close), exhausted("bad_answer"));
    let lost =
        |name, lines: &str, body: &str| Row::new(name, head(lines, body, Then::Close), exhausted("connection_lost"));
    let delivered = |name, lines: &str, body: &str, then| Row::new(name, head(lines, body, then), Follows::Delivered);
    let chunked = "transfer-encoding: chunked\r\n";
    vec![
        lost("length-too-long", "content-length: 99\r\n", "ok"),
        delivered("length-too-short", "content-length: 1\r\n", "more than that", Then::GoOn),
        bad("length-no-number", "content-length: many\r\n", "ok"),
        bad("length-negative", "content-length: -1\r\n", "ok"),
        bad("length-beyond-all", "content-length: 99999999999999999999999\r\n", "ok"),
        bad("two-lengths", "content-length: 2\r\ncontent-length: 3\r\n", "ok"),
        bad("length-too-large", "content-length: 65537\r\n", &"x".repeat(65_537)),
        delivered("length-largest", "content-length: 65536\r\n", &"x".repeat(65_536), Then::GoOn),
        lost("chunk-no-number", chunked, "zz\r\nok\r\n0\r\n\r\n"),
        lost("chunk-beyond-all", chunked, "fffffffffffffffffff\r\nok\r\n"),
        lost("chunks-without-end", chunked, "2\r\nok\r\n"),
        delivered("chunks", chunked, "2\r\nok\r\n0\r\n\r\n", Then::GoOn),
    ]
}

fn not_http() -> Vec<Row> {
    let bad = |name, text: &str| Row::new(name, Reply::text(text, Then::Close), exhausted("bad_answer"));
    let lines = |count: usize| "x: y\r\n".repeat(count);
    vec![
        Row::new("bytes", Reply::Bytes([0, 0xff, 0x13].repeat(500), Then::Close), exhausted("bad_answer")),
        Row::new("mail", Reply::Garbage, exhausted("bad_answer")),
        bad("garbage-after-status-line", "HTTP/1.1 200 OK\r\n\0\u{1}garbage\u{7f}\r\n\r\n"),
        bad("line-without-colon", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"),
        bad("status-of-two-digits", "HTTP/1.1 20 OK\r\n\r\n"),
        bad("status-of-four-digits", "HTTP/1.1 2000 OK\r\n\r\n"),
        bad("status-below-100", "HTTP/1.1 099 Low\r\n\r\n"),
        bad("status-no-number", "HTTP/1.1 abc OK\r\n\r\n"),
        bad("version-2", "HTTP/2 200 OK\r\n\r\n"),
        bad("version-9", "HTTP/9.9 200 OK\r\n\r\n"),
        bad("no-version", "200 OK\r\n\r\n"),
        bad("request", "POST /in HTTP/1.1\r\nhost: us\r\n\r\n"),
        bad("too-many-headers", &format!("HTTP/1.1 200 OK\r\n{}\r\n", lines(101))),
        Row::new("endless-header", Reply::EndlessHead, exhausted("bad_answer")),
        Row::new(
            "endless-headers",
            Reply::Again(b"HTTP/1.1 200 OK\r\n".to_vec(), lines(1000).into(), Duration::from_millis(1)),
            exhausted("bad_answer"),
        ),
        Row::new("endless-body", Reply::Endless, exhausted("bad_answer")),
    ]
}

fn odd_and_good() -> Vec<Row> {
    let delivered = |name, text: &str, then| Row::new(name, Reply::text(text, then), Follows::Delivered);
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let headers = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", "x: y\r\n".repeat(99));
    vec![
        delivered("version-1-0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Close),
        delivered("until-close", "HTTP/1.0 200 OK\r\n\r\nok", Then::Close),
        delivered("said-to-close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", Then::Close),
        delivered("said-to-stay-and-closed", ok, Then::Close),
        delivered("continue", &format!("HTTP/1.1 100 Continue\r\n\r\n{ok}"), Then::GoOn),
        delivered("hints", &format!("HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n{ok}"), Then::GoOn),
        delivered("two-answers", &format!("{ok}{ok}"), Then::GoOn),
        delivered("no-reason", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Then::GoOn),
        delivered("bare-newlines", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", Then::GoOn),
        delivered("body-of-204", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", Then::GoOn),
        delivered("as-many-headers-as-may-be", &headers, Then::GoOn),
        Row::new(
            "said-to-close-on-500",
            Reply::text("HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Then::Close),
            exhausted("status_500"),
        ),
        Row::new(
            "switching",
            Reply::text("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", Then::Stay),
            exhausted("status_101"),
        ),
        delivered("accepted-unread", ok, Then::Stay).unread(),
        Row::new("refused-unread", 413, Follows::Refused("refused_413".to_owned())).unread(),
        // It would not read the next request either.
        Row::new("failed-unread", Reply::status(503).with_header("connection", "close"), exhausted("status_503"))
            .unread(),
    ]
}

/// The connection had answered, so it is no way to refuse a certificate: charged. The retry goes over a fresh one.
#[tokio::test]
async fn used_connection_that_breaks_is_a_charged_failure_and_a_fresh_one_is_not() {
    for breaking in [Then::Close, Then::CloseUntold, Then::CloseHalf, Then::Reset] {
        let (pki, clock) = (Pki::new(), clock());
        let receiver = Receiver::start(&pki).await;
        receiver.answer_by(move |request| match request.number {
            0 => Reply::status(200),
            1 | 2 => Reply::text("", breaking),
            _ => Reply::status(200),
        });
        let set_up = Appliance::set_up(&pki).timeout(GENEROUS).retry_delays(["15s", "30s"]);
        let postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
        postern.post("web", &update("zed", json!({ "plan": "gold" }))).await;
        postern.wait_for_exports("crm", [0, 1, 0]).await;

        postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
        postern.wait_for_posts("crm", "connection_lost", "attempt", 1).await;
        clock.advance(RETRIES_MAX[0]);
        postern.wait_for_posts("crm", "closed_unanswered", "trial", 1).await;
        postern.turn_until_delivered(&clock, "crm", 2).await;

        let connections: Vec<usize> = receiver.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1, 2], "{breaking:?}");
        assert_eq!(postern.charged_failures("crm").await, 1);
    }
}

fn exhausted(outcome: &str) -> Follows {
    Follows::Exhausted(outcome.to_owned())
}

fn held(reason: &str) -> Follows {
    Follows::Held(reason.to_owned())
}
