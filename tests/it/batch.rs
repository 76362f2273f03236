//! Exports that go together, several in one request: what a receiver sees, and what follows from its answer.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, clock, held, posts},
    pki::Pki,
    receiver::{Receiver, Request},
    reply::{Gate, Reply},
    sender::{update, who},
    set_up::SetUp,
};

/// A second more than the longest first retry delay of `["15s", "30s"]`, and than the longest second one.
const FIRST_DELAY_MAX: Duration = Duration::from_millis(16_500);
const SECOND_DELAY_MAX: Duration = Duration::from_millis(33_000);

/// Requests of so many exports, which wait for each other for as long as a test may take.
fn of(pki: &Pki, exports: usize) -> SetUp {
    let batch = format!("batch = {{ max_exports = {exports}, max_wait = \"60s\" }}");
    Appliance::set_up(pki).retry_delays(["15s", "30s"]).with(&batch)
}

async fn post(postern: &Appliance, people: std::ops::Range<usize>) {
    for person in people {
        postern.post("web", &update(&format!("person-{person}"), json!({ "plan": "gold" }))).await;
    }
}

/// Whose exports are in a request, in their order.
fn people(request: &Request) -> Vec<&str> {
    request.body.as_array().unwrap_or_else(|| panic!("no array: {request:?}")).iter().map(who).collect()
}

fn key(request: &Request) -> &str {
    request.idempotency_key().unwrap()
}

#[tokio::test]
async fn exports_go_together_byte_for_byte_as_an_array_or_a_line_each() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).destination("single", &receiver.url_at("/single"));
    let set_up =
        set_up.with("batch = { max_exports = 3, max_wait = \"5s\" }").destination("array", &receiver.url_at("/array"));
    let lines = "batch = { max_exports = 3, max_wait = \"5s\", format = \"ndjson\" }";
    let mut postern = set_up.with(lines).destination("lines", &receiver.url_at("/lines")).start_by(&clock).await;

    post(&postern, 0..3).await;
    postern.post("web", &update("odd\n\"é", json!({ "plan": "gold" }))).await;
    let at = |path: &str| receiver.requests().into_iter().filter(|request| request.path == path).collect::<Vec<_>>();
    receiver.wait_until("four, and a full request for each of the others", |requests| requests.len() >= 6).await;
    assert_eq!((at("/array").len(), at("/lines").len()), (1, 1), "the fourth waits for others");
    clock.advance(Duration::from_secs(5));
    receiver.wait_for(8).await;

    let singles = at("/single");
    let mut bodies: Vec<&[u8]> = singles.iter().map(|request| request.raw_body.as_slice()).collect();
    bodies.sort_by_key(|body| who(&serde_json::from_slice(body).unwrap()).to_owned());
    let [odd, others @ ..] = &bodies[..] else { panic!("no requests") };
    assert_eq!(others.len(), 3);
    let array = [b"[".as_slice(), &others.join(b",".as_slice()), b"]"].concat();
    let lines = [&others.join(b"\n".as_slice()), b"\n".as_slice()].concat();
    for (path, kind, three, one) in [
        ("/array", "application/json", array, [b"[".as_slice(), odd, b"]"].concat()),
        ("/lines", "application/x-ndjson", lines, [odd, b"\n".as_slice()].concat()),
    ] {
        let requests = at(path);
        assert_eq!(requests.iter().map(|request| &request.raw_body).collect::<Vec<_>>(), [&three, &one], "{path}");
        assert!(requests.iter().all(|request| request.header("content-type") == Some(kind)));
        assert_ne!(key(&requests[0]), key(&requests[1]));
    }
    for destination in ["single", "array", "lines"] {
        postern.wait_for_exports(destination, [0, 4, 0]).await;
    }
    let of_array = |figure: &str| format!(r#"postern_post_exports_{figure}{{destination="array"}}"#);
    assert_eq!(postern.metric(&posts("array", "delivered", "attempt")).await, Some(2.0));
    assert_eq!(postern.metric(&of_array("sum")).await, Some(4.0));
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn request_has_no_more_bytes_than_max_bytes_unless_one_export_alone_is_longer() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let gate = Gate::default();
    let opened = gate.clone();
    receiver.answer_by(move |_| Reply::Behind(opened.clone(), Box::new(Reply::status(200))));
    let batch = "batch = { max_bytes = \"1KiB\", max_wait = \"0s\" }";
    let set_up = Appliance::set_up(&pki).timeout("20s").max_in_flight(1).with(batch);
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;

    for person in 0..20 {
        let name = "n".repeat(if person == 7 { 3000 } else { 50 });
        postern.post("web", &update(&format!("person-{person}"), json!({ "plan": "gold", "name": name }))).await;
    }
    gate.open();

    postern.wait_for_exports("crm", [0, 20, 0]).await;
    let requests = receiver.requests();
    let (long, short): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.raw_body.len() > 1024);
    assert_eq!(long.iter().map(|request| people(request)).collect::<Vec<_>>(), [["person-7"]]);
    assert!(short.iter().any(|request| people(request).len() > 2), "{short:#?}");
    assert_eq!(receiver.most_at_once(), 1, "requests count as being under way");
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn batch_goes_again_as_it_was_and_each_export_is_charged() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([500, 503]);
    let mut postern = of(&pki, 4).destination("crm", &receiver.url()).start_by(&clock).await;

    post(&postern, 0..4).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    // Younger ones of the same people and of others, which would fit.
    post(&postern, 2..6).await;
    postern.wait_for_exports("crm", [8, 0, 0]).await;
    clock.advance(FIRST_DELAY_MAX);
    postern.wait_for_posts("crm", "status_503", "attempt", 1).await;
    clock.advance(SECOND_DELAY_MAX);
    postern.turn_until_delivered(&clock, "crm", 8).await;

    let requests = receiver.requests();
    let of_first: Vec<&Request> = requests.iter().filter(|request| key(request) == key(&requests[0])).collect();
    assert_eq!(of_first.len(), 3, "{requests:#?}");
    assert!(of_first.iter().all(|request| request.raw_body == requests[0].raw_body));
    assert_eq!(people(of_first[0]), ["person-0", "person-1", "person-2", "person-3"]);
    let delivered: Vec<&str> =
        requests.iter().filter(|request| key(request) != key(&requests[0])).flat_map(people).collect();
    assert_eq!(delivered.len(), 4, "{requests:#?}");
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (2, 0));
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn batch_goes_again_as_it_was_after_a_kill_in_the_midst_of_it_and_between_attempts() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([Reply::Silent, Reply::status(500)]);
    let set_up = of(&pki, 4).retry_delays(["2s", "2s"]).timeout("20s");
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;
    post(&postern, 0..4).await;
    receiver.wait_for(1).await;

    postern.kill();
    postern.start_again().await;
    post(&postern, 4..5).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    postern.kill();
    postern.start_again().await;
    let delivered = r#"postern_exports_total{destination="crm",result="delivered"}"#;
    postern.wait_for_metric(delivered, 4.0).await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(people(&requests[0]), ["person-0", "person-1", "person-2", "person-3"]);
    for request in &requests {
        assert_eq!((key(request), &request.raw_body), (key(&requests[0]), &requests[0].raw_body));
    }
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn export_that_went_alone_goes_alone_again_with_the_same_key() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([Reply::Silent, Reply::status(500)]);
    let batch = "batch = { max_exports = 10, max_wait = \"50ms\" }";
    let set_up = Appliance::set_up(&pki).timeout("20s").retry_delays(["1s", "1s"]).max_in_flight(1).with(batch);
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;
    post(&postern, 0..1).await;
    receiver.wait_for(1).await;
    post(&postern, 1..4).await;

    postern.kill();
    postern.start_again().await;

    postern.wait_for_exports("crm", [0, 4, 0]).await;
    let requests = receiver.requests();
    let alone: Vec<&Request> = requests.iter().filter(|request| people(request).contains(&"person-0")).collect();
    assert_eq!(alone.len(), 3, "{requests:#?}");
    assert!(alone.iter().all(|request| people(request).len() == 1 && key(request) == key(alone[0])));
    assert!(postern.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_batch_goes_in_halves_until_one_export_alone_is_refused() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| match people(request).contains(&"person-5") {
        true => Reply::status(422).with_body("no such plan"),
        false => Reply::status(200),
    });
    let mut postern = of(&pki, 8).quiet().destination("crm", &receiver.url()).start().await;

    post(&postern, 0..8).await;

    postern.wait_for_exports("crm", [0, 7, 1]).await;
    let requests = receiver.requests();
    let mut sizes: Vec<usize> = requests.iter().map(|request| people(request).len()).collect();
    assert_eq!(sizes[0], 8);
    sizes.sort();
    assert_eq!(sizes, [1, 1, 2, 2, 4, 4, 8]);
    assert_eq!(postern.metric(&posts("crm", "refused_422", "trial")).await, Some(3.0), "the halves cost nothing");
    assert_eq!(postern.metric(&posts("crm", "refused_422", "attempt")).await, Some(1.0));
    assert_eq!(postern.metric(&held("crm")).await, Some(0.0));
    assert_eq!(postern.metric(r#"postern_audit_difference{compared="counters"}"#).await, Some(0.0));
    assert!(postern.stop().await.success());
    let [letter] = &postern.dead_letters("crm").await[..] else { panic!("not one letter") };
    let alone = requests.iter().find(|request| people(request) == ["person-5"]).unwrap();
    assert_eq!(letter.export.id.to_string(), key(alone), "one alone has its own key");
    assert_eq!((letter.cause.to_string().as_str(), letter.export.trials), ("refused", 3));
    assert_eq!(letter.export.attempts[0].answer.text(), "no such plan");
}

#[tokio::test]
async fn receiver_that_takes_only_small_requests_gets_all_in_small_ones() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if people(request).len() > 2 { 413 } else { 200 }));
    let mut postern = of(&pki, 8).destination("crm", &receiver.url()).start().await;

    post(&postern, 0..8).await;

    postern.wait_for_exports("crm", [0, 8, 0]).await;
    assert_eq!(receiver.requests().len(), 1 + 2 + 4);
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn halves_survive_a_kill() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([Reply::status(422), Reply::Silent, Reply::Silent]);
    let mut postern = of(&pki, 6).timeout("20s").destination("crm", &receiver.url()).start().await;
    post(&postern, 0..6).await;
    let before = receiver.wait_for(3).await;

    postern.kill();
    postern.start_again().await;

    postern.wait_for_exports("crm", [0, 6, 0]).await;
    let mut after = receiver.requests().split_off(3);
    let mut before = before[1..].to_vec();
    for requests in [&mut before, &mut after] {
        requests.sort_by_key(|request| request.raw_body.clone());
    }
    assert_eq!(after.len(), 2);
    for (one, other) in before.iter().zip(&after) {
        assert_eq!((key(one), &one.raw_body), (key(other), &other.raw_body));
        assert_eq!(people(one).len(), 3);
    }
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn export_that_makes_a_receiver_fail_takes_no_others_with_it() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if people(request).contains(&"person-2") { 500 } else { 200 }));
    let mut postern = of(&pki, 4).destination("crm", &receiver.url()).start_by(&clock).await;

    post(&postern, 0..4).await;

    postern.turn_until_delivered(&clock, "crm", 3).await;
    postern.turn_until_metric(&clock, r#"postern_exports_total{destination="crm",result="dead"}"#, 1.0).await;
    assert!(postern.stop().await.success());
    let [letter] = &postern.dead_letters("crm").await[..] else { panic!("not one letter") };
    assert_eq!((letter.cause.to_string().as_str(), letter.export.attempts.len()), ("exhausted", 3));
    let sizes: Vec<usize> = receiver.requests().iter().map(|request| people(request).len()).collect();
    assert_eq!(sizes[..3], [4, 4, 4], "three attempts together");
    let of_letter = receiver.requests().into_iter().filter(|request| people(request).contains(&"person-2"));
    // Twice charged together, once alone; in between the halves, and probes where three failures in a row held it.
    assert!(of_letter.count() >= 5);
}

#[tokio::test]
async fn outage_answered_with_errors_makes_no_letters_of_batches() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(500);
    let mut postern = of(&pki, 10).destination("crm", &receiver.url()).start_by(&clock).await;

    post(&postern, 0..10).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    clock.advance(FIRST_DELAY_MAX);
    postern.wait_for_posts("crm", "status_500", "attempt", 2).await;
    clock.advance(SECOND_DELAY_MAX);
    postern.wait_for_hold("crm", "failing").await;
    postern.turn_until_probed(&clock, "crm", 6).await;

    postern.wait_for_exports("crm", [10, 0, 0]).await;
    receiver.answer_with(200);
    postern.turn_until_delivered(&clock, "crm", 10).await;
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn held_destination_is_probed_with_one_export_alone() {
    for (reply, reason) in [(404, "status_404"), (400, "never_accepted_status_400"), (403, "never_accepted_status_403")]
    {
        let (pki, clock) = (Pki::new(), clock());
        let receiver = Receiver::start(&pki).await;
        receiver.answer_with(reply);
        let mut postern = of(&pki, 3).destination("crm", &receiver.url()).start_by(&clock).await;

        post(&postern, 0..3).await;
        postern.wait_for_hold("crm", reason).await;
        postern.turn_until_probed(&clock, "crm", 3).await;
        postern.wait_for_exports("crm", [3, 0, 0]).await;
        assert_eq!(postern.charged_failures("crm").await, 0, "{reason}");
        let while_held = receiver.take_requests();
        receiver.answer_with(200);
        postern.turn_until_delivered(&clock, "crm", 3).await;

        let sizes: Vec<usize> = while_held.iter().map(|request| people(request).len()).collect();
        assert!(sizes[0] == 3 && sizes.len() > 3 && sizes[1..].iter().all(|size| *size == 1), "{sizes:?}");
        let after = receiver.requests();
        let mut all: Vec<&str> = after.iter().flat_map(people).collect();
        all.sort();
        assert_eq!(
            (after.len(), all),
            (2, vec!["person-0", "person-1", "person-2"]),
            "each once: the probe, then the rest"
        );
        assert!(postern.stop().await.success());
    }
}

#[tokio::test]
async fn receiver_that_asks_for_time_gets_the_same_batch_then() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([Reply::status(429).with_header("retry-after", "7")]);
    let mut postern = of(&pki, 3).destination("crm", &receiver.url()).start_by(&clock).await;

    post(&postern, 0..3).await;
    postern.wait_for_posts("crm", "throttled_429", "trial", 1).await;
    clock.advance(Duration::from_secs(6));
    postern.wait_for_exports("crm", [3, 0, 0]).await;
    assert_eq!(receiver.requests().len(), 1);
    clock.advance(Duration::from_secs(1));

    postern.wait_for_exports("crm", [0, 3, 0]).await;
    let [first, second] = &receiver.requests()[..] else { panic!("not two requests") };
    assert_eq!((key(first), &first.raw_body), (key(second), &second.raw_body));
    assert_eq!(postern.charged_failures("crm").await, 0);
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn lost_silent_and_broken_answers_are_charged_to_each_and_the_same_batch_goes_again() {
    for reply in [Reply::Silent, Reply::CloseInBody, Reply::Garbage] {
        let (pki, clock) = (Pki::new(), clock());
        let receiver = Receiver::start(&pki).await;
        receiver.answer_in_turn([Reply::status(200), reply.clone()]);
        let set_up = of(&pki, 2).timeout("300ms").destination("crm", &receiver.url());
        let mut postern = set_up.start_by(&clock).await;
        post(&postern, 0..2).await;
        postern.wait_for_exports("crm", [0, 2, 0]).await;

        post(&postern, 2..4).await;
        let [_, first] = &receiver.wait_for(2).await[..] else { panic!("more than two") };
        postern.wait_for_exports("crm", [2, 2, 0]).await;
        postern.turn_until_delivered(&clock, "crm", 4).await;

        let again = receiver.requests().pop().unwrap();
        assert_eq!((key(first), &first.raw_body), (key(&again), &again.raw_body), "{reply:?}");
        assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (1, 0), "{reply:?}");
        assert!(postern.stop().await.success());
    }
}

#[tokio::test]
async fn receiver_that_refuses_everything_is_held_after_ten_exports() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([200]);
    let mut postern = of(&pki, 20).quiet().max_in_flight(4).destination("crm", &receiver.url()).start().await;
    post(&postern, 0..20).await;
    postern.wait_for_exports("crm", [0, 20, 0]).await;

    receiver.answer_with(422);
    post(&postern, 0..100).await;

    postern.wait_for_hold("crm", "refusing").await;
    postern.wait_for_exports("crm", [90, 20, 10]).await;
    assert!(postern.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_without_one_that_is_forgotten_goes_anew() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([500]);
    let set_up = of(&pki, 3).retry_delays(["3s", "3s"]);
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;
    post(&postern, 0..3).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;

    postern.verb(&["profile", "forget", "CRM:person-1", "--yes"]).succeeds();

    let [first, second] = &receiver.wait_for(2).await[..] else { panic!("more than two") };
    assert_eq!(people(second), ["person-0", "person-2"]);
    assert_ne!(key(first), key(second));
    let delivered = r#"postern_exports_total{destination="crm",result="delivered"}"#;
    postern.wait_for_metric(delivered, 2.0).await;
    assert_eq!(postern.metric(r#"postern_audit_difference{compared="counters"}"#).await, Some(0.0));
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn batch_that_would_be_another_request_by_the_new_settings_goes_anew() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([503]);
    let set_up = of(&pki, 2).retry_delays(["2s", "2s"]).destination("crm", &receiver.url());
    let mut postern = set_up.start().await;
    post(&postern, 0..2).await;
    postern.wait_for_posts("crm", "status_503", "attempt", 1).await;
    assert!(postern.stop().await.success());
    let text = std::fs::read_to_string(postern.config_file()).unwrap();

    let lines = text.replace("max_wait = \"60s\"", "max_wait = \"60s\", format = \"ndjson\"");
    assert_ne!(lines, text);
    std::fs::write(postern.config_file(), lines).unwrap();
    postern.start_again().await;

    let [first, second] = &receiver.wait_for(2).await[..] else { panic!("more than two") };
    let lines: Vec<Value> =
        second.raw_body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(json!(lines), first.body);
    postern.wait_for_exports("crm", [0, 2, 0]).await;
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn versions_of_a_profile_arrive_in_order_and_never_two_at_once() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    // Some fail, each once.
    let failed = Mutex::new(HashSet::new());
    receiver.answer_by(move |request| {
        let fails = request.number % 9 == 4 && failed.lock().unwrap().insert(key(request).to_owned());
        let reply = Reply::status(if fails { 500 } else { 200 });
        Reply::Late(Duration::from_millis(request.number as u64 % 7), Box::new(reply))
    });
    let set_up = Appliance::set_up(&pki).quiet().retry_delays(["50ms", "50ms"]);
    let set_up = set_up.with("batch = { max_exports = 5, max_wait = \"1ms\" }").max_in_flight(3);
    let mut postern = set_up.destination("crm", &receiver.url()).start().await;

    for version in 0..40 {
        for person in 0..6 {
            let attributes = json!({ "plan": "gold", "version": version });
            postern.post("web", &update(&format!("person-{person}"), attributes)).await;
        }
    }

    postern.wait_for_exports("crm", [0, 240, 0]).await;
    for request in receiver.requests() {
        let mut people = people(&request);
        people.sort();
        people.dedup();
        assert_eq!(people.len(), request.body.as_array().unwrap().len(), "two of one profile in a request");
    }
    for person in 0..6 {
        let name = format!("person-{person}");
        let mut seen = Vec::new();
        for request in receiver.requests() {
            let of_it = request.body.as_array().unwrap().iter().filter(|body| who(body) == name);
            seen.extend(of_it.map(|body| body["version"].as_u64().unwrap()));
        }
        assert!(seen.is_sorted(), "{name}: {seen:?}");
        seen.dedup();
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }
    assert!(receiver.most_at_once() <= 3);
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn max_rate_counts_requests() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let batch = "max_rate = 10\nbatch = { max_exports = 20, max_wait = \"0s\" }";
    let mut postern = Appliance::set_up(&pki).with(batch).destination("crm", &receiver.url()).start_by(&clock).await;

    post(&postern, 0..50).await;

    for (count, waiting) in [(1, 30), (2, 10), (3, 0)] {
        clock.advance(Duration::from_millis(100));
        postern.wait_for_exports("crm", [waiting, 50 - waiting, 0]).await;
        assert_eq!(receiver.requests().len(), count, "one each 100 ms");
    }
    assert!(postern.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn test_sends_its_sample_as_exports_are_sent_and_show_says_how() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if request.body.is_array() { 200 } else { 400 }));
    let mut postern = of(&pki, 2).destination("crm", &receiver.url()).start().await;

    postern.verb(&["destination", "test", "crm", "--sample"]).succeeds();

    let shown = postern.verb(&["destination", "show", "crm"]).succeeds().stdout;
    assert!(shown.contains("array: up to 2 exports, 1048576 bytes, after 60.0 s at most"), "{shown}");

    assert_eq!(receiver.requests().len(), 1);
    assert!(postern.stop().await.success());
}
