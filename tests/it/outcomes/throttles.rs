//! Receivers that ask for time.

use std::time::Duration;

use serde_json::json;

use super::{Before, Follows, Row, hold_true};
use crate::support::{
    appliance::{Appliance, clock},
    pki::Pki,
    receiver::Receiver,
    reply::Reply,
    sender::update,
};

/// Ten minutes: a receiver's mistake must not stop a destination for a day.
const LONGEST: u64 = 600;

#[tokio::test]
async fn retry_after_in_seconds_is_waited_for_to_the_millisecond_and_charged_to_nobody() {
    let (pki, clock) = (Pki::new(), clock());
    let rows = [
        ("three", 503, "3", 3),
        ("seven", 429, "7", 7),
        ("padded", 503, "  12 ", 12),
        ("a-day", 429, "86400", LONGEST),
        ("endless", 503, "99999999999999999999999999", LONGEST),
    ];
    let (mut receivers, mut set_up) = (Vec::new(), Appliance::set_up(&pki));
    for (name, status, wait, _) in rows {
        let receiver = Receiver::start(&pki).await;
        receiver.answer_in_turn([Reply::status(status).with_header("Retry-After", wait)]);
        set_up = set_up.destination(name, &receiver.url());
        receivers.push(receiver);
    }
    let postern = set_up.start_by(&clock).await;
    let start = clock.now();
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    for (name, status, ..) in rows {
        postern.wait_for_posts(name, &format!("throttled_{status}"), "trial", 1).await;
    }
    // Another export of the same destination waits as well.
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;

    for ((name, _, _, seconds), receiver) in rows.into_iter().zip(&receivers) {
        let over = start + Duration::from_secs(seconds);
        if clock.now() < over {
            clock.set(over - Duration::from_millis(1));
            postern.wait_for_exports(name, [2, 0, 0]).await;
            assert_eq!(receiver.requests().len(), 1, "{name}");
        }
        clock.set(over);
        postern.wait_for_exports(name, [0, 2, 0]).await;
        assert_eq!(receiver.requests().len(), 3, "{name}");
        assert_eq!((postern.charged_failures(name).await, postern.trials(name).await), (0, 1), "{name}");
    }
}

#[tokio::test]
async fn retry_after_that_is_no_number_of_seconds_is_a_charged_failure() {
    let mut rows = Vec::new();
    for (name, wait) in [
        ("zero", "0"),
        ("negative", "-1"),
        ("signed", "+7"),
        ("fraction", "1.5"),
        ("word", "soon"),
        ("empty", ""),
        ("list", "3, 4"),
        ("date", "Wed, 21 Oct 2099 07:28:00 GMT"),
        ("long", &"9".repeat(65)),
    ] {
        for status in [429, 503] {
            let reply = Reply::status(status).with_header("Retry-After", wait);
            rows.push(Row::new(format!("{name}-{status}"), reply, Follows::Exhausted(format!("status_{status}"))));
        }
    }
    // Elsewhere it asks for nothing.
    for (status, follows) in [
        (200, Follows::Delivered),
        (500, Follows::Exhausted("status_500".to_owned())),
        (413, Follows::Refused("refused_413".to_owned())),
        (301, Follows::Held("status_301".to_owned())),
    ] {
        rows.push(Row::new(format!("on-{status}"), Reply::status(status).with_header("Retry-After", "7"), follows));
    }

    hold_true(rows, Before::Accepted).await;
}
