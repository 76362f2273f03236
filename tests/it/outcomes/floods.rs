//! Answers without end, many at once: the real binary stays small.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Figures, GENEROUS};
use crate::support::{
    appliance::Appliance,
    memory_bytes,
    pki::Pki,
    receiver::{PATIENCE, Receiver},
    reply::{Reply, Then},
    sender::update,
};

/// More than all read buffers together: each of 64 connections with a flood of a head has one of 408 KiB, which makes 26 MiB, and
/// the allocator keeps as much again; of a body nothing is kept. Unbounded, the heads alone would take 4 GiB.
const GROWTH_MAX: u64 = 96 << 20;
/// POSTs at once to each receiver: as many as a destination has under way by default.
const AT_ONCE: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_heads_and_bodies_leave_memory_bounded() {
    let pki = Pki::new();
    let flood = |first: &str, piece: Vec<u8>| Reply::Again(first.as_bytes().to_vec(), piece, Duration::ZERO);
    let head_of_64_mib = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; 64 << 20], b"\r\n\r\n"].concat();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let rows = [
        ("head", Reply::Bytes(head_of_64_mib, Then::Close), "bad_answer"),
        ("headers", flood("HTTP/1.1 200 OK\r\n", b"x: y\r\n".repeat(1000)), "bad_answer"),
        ("continues", flood("", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)), "timeout"),
        ("body", flood("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk), "bad_answer"),
        ("body-of-error", flood("HTTP/1.1 500 Oh\r\n\r\n", vec![b'x'; 0x10000]), "bad_answer"),
    ];
    let (mut receivers, mut set_up) = (Vec::new(), Appliance::set_up(&pki).quiet());
    for (name, reply, outcome) in &rows {
        let receiver = Receiver::start(&pki).await;
        receiver.answer_in_turn([200]);
        receiver.answer_with(reply.clone());
        // Only the one that nothing but time ends is to run out of it.
        let timeout = if *outcome == "timeout" { "1s" } else { GENEROUS };
        set_up = set_up.timeout(timeout).retry_delays(["10m", "10m"]).destination(name, &receiver.url());
        receivers.push(receiver);
    }
    let mut postern = set_up.start().await;
    postern.post("web", &update("zed", json!({ "plan": "gold" }))).await;
    for (name, ..) in &rows {
        postern.wait_for_exports(name, [0, 1, 0]).await;
    }
    let peak = |postern: &Appliance| memory_bytes(&postern.process().to_string(), "VmHWM");
    let before = peak(&postern);

    // All that waits goes out at once when the destination is resumed.
    for (name, ..) in &rows {
        postern.verb(&["destination", "pause", name]).succeeds();
    }
    let sender = postern.sender();
    let posts = (0..AT_ONCE).map(|person| {
        let (sender, body) = (sender.clone(), update(&format!("p{person}"), json!({ "plan": "gold" })));
        tokio::spawn(async move { sender.try_post("web", &body).await.map(|(status, _)| status) })
    });
    for post in posts.collect::<Vec<_>>() {
        assert_eq!(post.await.unwrap(), Some(200));
    }
    // One after the other: beside four floods at once a handshake of the fifth may take longer than connecting may.
    for (name, _, outcome) in &rows {
        postern.verb(&["destination", "resume", name]).succeeds();
        postern.wait_for_hold(name, "failing").await;
        postern.wait_for_posts(name, outcome, "attempt", 3).await;
        let failed = |figures: &Figures| figures.charged_failures(name) + figures.trials(name);
        wait_for(&postern, name, |figures| u64::from(failed(figures)) >= AT_ONCE).await;
    }

    let after = peak(&postern);
    println!("{} MiB before, {} MiB after", before >> 20, after >> 20);
    assert!(after - before < GROWTH_MAX, "{} MiB more", (after - before) >> 20);
    for receiver in &receivers {
        receiver.answer_with(200);
    }
    for (name, ..) in &rows {
        // Three have a retry ahead that the test does not wait for.
        wait_for(&postern, name, |figures| u64::from(figures.exports(name)[1]) >= AT_ONCE - 2).await;
    }
    assert!(postern.stop().await.success());
}

async fn wait_for(postern: &Appliance, name: &str, met: impl Fn(&Figures) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let figures = Figures::of(postern).await;
        if met(&figures) {
            return;
        }
        assert!(Instant::now() < until, "{name}: {:#?}", figures.of_destination(name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
