//! Whole answers: what each status means.

use serde_json::json;

use super::{Before, Follows, Row, hold_true};
use crate::support::{
    appliance::{Appliance, clock},
    pki::Pki,
    receiver::Receiver,
    reply::Reply,
    sender::update,
};

const DELIVERED: &[u16] = &[200, 201, 202, 203, 204, 205, 206, 207, 226, 299];
const RETRYABLE: &[u16] = &[
    403, 408, 409, 429, 500, 502, 503, 504, // and what nobody knows, from which it may recover
    506, 507, 508, 510, 520, 522, 525, 530, 599, 600, 999,
];
const REFUSED: &[u16] =
    &[400, 402, 406, 411, 412, 413, 414, 415, 416, 417, 418, 422, 423, 424, 425, 428, 431, 444, 451, 497, 499];
const OF_THE_DESTINATION: &[u16] =
    &[300, 301, 302, 303, 304, 307, 308, 399, 401, 404, 405, 407, 410, 421, 426, 495, 496, 501, 505, 511];

#[tokio::test]
async fn each_status_has_its_row_once_the_receiver_has_accepted_an_export() {
    let delivered = DELIVERED.iter().map(|&status| row(status, Follows::Delivered));
    let retryable = RETRYABLE.iter().map(|&status| row(status, Follows::Exhausted(format!("status_{status}"))));
    let refused = REFUSED.iter().map(|&status| row(status, Follows::Refused(format!("refused_{status}"))));
    let faults = OF_THE_DESTINATION.iter().map(|&status| row(status, Follows::Held(format!("status_{status}"))));

    hold_true(delivered.chain(retryable).chain(refused).chain(faults).collect(), Before::Accepted).await;
}

#[tokio::test]
async fn first_answer_of_a_receiver_may_speak_of_our_certificate() {
    let of_certificate = |status| row(status, Follows::Held(format!("never_accepted_status_{status}")));
    let rows = vec![
        of_certificate(400),
        of_certificate(403),
        row(204, Follows::Delivered),
        row(409, Follows::Exhausted("status_409".to_owned())),
        row(422, Follows::Refused("refused_422".to_owned())),
        row(404, Follows::Held("status_404".to_owned())),
        row(500, Follows::Exhausted("status_500".to_owned())),
    ];

    hold_true(rows, Before::NothingAccepted).await;
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let (pki, clock) = (Pki::new(), clock());
    let (receiver, elsewhere) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    for (status, held) in [(301, "status_301"), (302, "status_302"), (307, "status_307"), (308, "status_308")] {
        receiver.answer_with(Reply::status(status).with_header("Location", &elsewhere.url()));
        if status == 301 {
            postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
        }

        postern.turn_until_metric(&clock, &hold_reason(held), 1.0).await;
    }
    receiver.answer_with(200);
    postern.turn_until_delivered(&clock, "crm", 1).await;

    assert_eq!((elsewhere.connections(), postern.charged_failures("crm").await), (0, 0));
}

/// Half of all POSTs fail, and never three in a row.
#[tokio::test]
async fn receiver_that_fails_each_second_request_is_never_held_and_gets_all() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if request.number % 2 == 1 { 500 } else { 200 }));
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).max_in_flight(1);
    let mut postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;

    for person in 0..40 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold" }))).await;
    }
    // The retries of the twenty go out in their turn, each second of them once more.
    postern.turn_until_metric(&clock, r#"postern_exports{destination="crm",state="waiting"}"#, 0.0).await;

    assert_eq!(postern.trials("crm").await, 0, "it was held");
    assert!(postern.stop().await.success());
    let letters = postern.dead_letters("crm").await;
    let requests = receiver.requests();
    let failed = requests.len() / 2;
    assert_eq!(requests.len() - failed + letters.len(), 40);
    assert!(letters.iter().all(|letter| letter.export.attempts.len() == 3), "{letters:?}");
}

fn row(status: u16, follows: Follows) -> Row {
    Row::new(format!("on-{status}"), status, follows)
}

fn hold_reason(reason: &str) -> String {
    format!(r#"postern_destination_hold_reason{{destination="crm",reason="{reason}"}}"#)
}
