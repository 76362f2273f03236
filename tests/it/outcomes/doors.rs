//! Peers that never get as far as HTTP.

use std::time::Duration;

use serde_json::json;

use super::Figures;
use crate::support::{
    appliance::{Appliance, clock, held, posts},
    door::{Door, Kept},
    pki::Pki,
    sender::update,
};

#[tokio::test]
async fn peer_without_tls_holds_and_costs_nothing() {
    let (pki, clock) = (Pki::new(), clock());
    let rows = [
        ("full", Door::Full, "unreachable"),
        ("mute", Door::Mute, "unreachable"),
        ("closing", Door::Closing, "handshake_failed"),
        ("resetting", Door::Resetting, "handshake_failed"),
        ("plain", Door::Plain, "handshake_failed"),
    ];
    let (mut kept, mut set_up): (Vec<Kept>, _) = (Vec::new(), Appliance::set_up(&pki));
    for (name, door, _) in rows {
        kept.push(door.keep().await);
        set_up = set_up.destination(name, &kept[kept.len() - 1].url());
    }
    let mut postern = set_up.start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    for trials in 1..=2 {
        for (name, _, reason) in rows {
            postern.wait_for_metric(&posts(name, reason, "trial"), trials.into()).await;
            postern.wait_for_hold(name, reason).await;
        }
        // To the first probe, which waits a second; the next would wait two.
        clock.advance(Duration::from_secs(1));
    }
    let figures = Figures::of(&postern).await;
    for (name, ..) in rows {
        assert_eq!((figures.exports(name), figures.charged_failures(name)), ([1, 0, 0], 0), "{name}");
        assert_eq!(figures.get(&held(name)), 1, "{name}");
    }
    assert!(postern.stop().await.success());
}
