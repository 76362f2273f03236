//! A receiver that cannot do with one export in a hundred does not slow the others.

use std::{
    collections::HashSet,
    sync::Mutex,
    time::{Duration, Instant},
};

use postern::{
    clock::Clock,
    export::{Cause, Outcome},
};
use serde_json::json;

use super::{Figures, GENEROUS};
use crate::support::{
    appliance::{Appliance, clock},
    flood::flood,
    load::in_order,
    pki::Pki,
    receiver::{Receiver, Request},
    reply::Reply,
    sender::{update, who},
};

const EXPORTS: u64 = 2_000;
const RARE: u64 = 100;
/// So few that each has many versions, some of them the rare ones.
const PEOPLE: u64 = 128;

#[tokio::test]
async fn one_refused_in_a_hundred_costs_the_others_no_wait_and_no_attempt() {
    let (mut postern, receiver, clock) = start().await;
    receiver.answer_by(|request| Reply::status(if is_rare(request) { 400 } else { 200 }));
    let start = clock.now();

    let took = post_all(&postern).await;
    let (dead, delivered) = (EXPORTS / RARE, EXPORTS - EXPORTS / RARE);
    postern.wait_for_exports("crm", [0, delivered as u32 + 1, dead as u32]).await;

    // The clock stands: nothing waited for anything.
    assert_eq!(clock.now(), start);
    let figures = Figures::of(&postern).await;
    assert_eq!((figures.charged_failures("crm"), figures.trials("crm")), (dead as u32, 0));
    let requests = receiver.requests();
    assert_eq!(requests.len() as u64, EXPORTS + 1, "each went out once");
    let (received, repeats) = in_order(&requests).unwrap();
    assert_eq!((received.len() as u64, repeats), (EXPORTS + 1, 0), "in order for each person, over refused ones too");
    println!("{EXPORTS} exports, {dead} of them refused, posted and sent within {took:?}");
    assert!(postern.stop().await.success());
    let refused: HashSet<&str> = requests.iter().filter(|request| is_rare(request)).filter_map(key).collect();
    let letters = postern.dead_letters("crm").await;
    assert_eq!(letters.len() as u64, dead);
    for letter in letters {
        let [attempt] = &letter.export.attempts[..] else { panic!("{letter:?}") };
        assert!(refused.contains(letter.export.id.to_string().as_str()), "{letter:?}");
        assert_eq!((letter.cause, &attempt.outcome), (Cause::Refused, &Outcome::Refused(400)));
        assert_eq!((letter.export.accepted_at, attempt.at, letter.at), (start, start, start));
        assert_eq!(letter.export.trials, 0);
    }
}

#[tokio::test]
async fn one_failed_in_a_hundred_delays_only_what_is_of_the_same_profile() {
    let (mut postern, receiver, clock) = start().await;
    let failed = Mutex::new(HashSet::new());
    receiver.answer_by(move |request| {
        let first = is_rare(request) && failed.lock().unwrap().insert(key(request).unwrap().to_owned());
        Reply::status(if first { 500 } else { 200 })
    });

    post_all(&postern).await;
    let rare: HashSet<u64> =
        (0..EXPORTS).filter(|number| is_rare_number(*number)).map(|number| number % PEOPLE).collect();
    let others = |request: &Request| !rare.iter().any(|person| who(&request.body) == format!("p{person}"));
    let of_others = (0..EXPORTS).filter(|number| !rare.contains(&(number % PEOPLE))).count() + 1;
    let before = receiver
        .wait_until("all of the others", |requests| {
            requests.iter().filter(|request| others(request)).count() == of_others
        })
        .await;
    assert!(before.len() as u64 >= EXPORTS / 2, "they are most of them: {}", before.len());
    postern.turn_until_delivered(&clock, "crm", EXPORTS as u32 + 1).await;

    postern.wait_for_exports("crm", [0, EXPORTS as u32 + 1, 0]).await;
    let figures = Figures::of(&postern).await;
    assert_eq!((figures.charged_failures("crm"), figures.trials("crm")), ((EXPORTS / RARE) as u32, 0));
    let (received, repeats) = in_order(&receiver.requests()).unwrap();
    assert_eq!((received.len() as u64, repeats as u64), (EXPORTS + 1, EXPORTS / RARE));
    assert!(postern.stop().await.success());
}

/// An appliance whose destination has accepted an export before.
async fn start() -> (Appliance, Receiver, Clock) {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki).quiet().timeout(GENEROUS).retry_delays(["15s", "30s"]);
    let postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
    postern.post("web", &update("zed", json!({ "plan": "gold", "version": 1 }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;
    (postern, receiver, clock)
}

async fn post_all(postern: &Appliance) -> Duration {
    let begun = Instant::now();
    flood(&postern.inlets(), 0..EXPORTS, |number| {
        let attributes = json!({ "plan": "gold", "version": number / PEOPLE + 1, "name": number.to_string() });
        update(&format!("p{}", number % PEOPLE), attributes).to_string()
    })
    .await;
    begun.elapsed()
}

fn is_rare(request: &Request) -> bool {
    request.body["name"].as_str().is_some_and(|number| is_rare_number(number.parse().unwrap()))
}

fn is_rare_number(number: u64) -> bool {
    number % RARE == RARE - 1
}

fn key(request: &Request) -> Option<&str> {
    request.idempotency_key()
}
