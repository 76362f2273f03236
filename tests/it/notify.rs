//! What the service manager is told, on a socket as systemd's.

use std::{os::unix::net::UnixDatagram, time::Duration};

use serde_json::json;

use crate::support::{appliance::Appliance, pki::Pki, receiver::PATIENCE, receiver::Receiver, sender::update};

/// A service manager that only listens.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
    heard: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory, heard: Vec::new() }
    }

    /// Listens until it is told this.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let mut bytes = [0; 4096];
            let length =
                self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{word}: {error}; {:?}", self.heard));
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.push(text.clone());
            if let Some(line) = text.lines().find(|line| line.contains(word)) {
                return line.to_owned();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manager_is_told_the_truth() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut manager = Manager::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    let mut run = postern.run();
    run.env("NOTIFY_SOCKET", manager.directory.path().join("notify")).env("WATCHDOG_USEC", "1000000");

    postern.start_with(&mut run).await;
    tokio::task::block_in_place(|| {
        manager.wait_for("READY=1");
        assert!(manager.heard[0].contains("EXTEND_TIMEOUT_USEC="), "{:?}", manager.heard);
        manager.wait_for("WATCHDOG=1");
    });
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    tokio::task::block_in_place(|| manager.wait_for("STATUS=1 exports wait; crm held (unreachable)"));
    postern.verb(&["reload"]).succeeds();
    tokio::task::block_in_place(|| {
        manager.wait_for("RELOADING=1");
        assert!(manager.heard.last().unwrap().contains("MONOTONIC_USEC="), "{:?}", manager.heard);
        manager.wait_for("READY=1");
    });
    receiver.start_again();
    postern.verb(&["destination", "resume", "crm"]).succeeds();
    tokio::task::block_in_place(|| manager.wait_for("STATUS=nothing waits; 1 open"));
    postern.terminate();
    tokio::task::block_in_place(|| manager.wait_for("STOPPING=1"));
    let _ = postern.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_process_feeds_no_watchdog() {
    let pki = Pki::new();
    let mut manager = Manager::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").write();
    let mut run = postern.run();
    run.env("NOTIFY_SOCKET", manager.directory.path().join("notify")).env("WATCHDOG_USEC", "400000");
    postern.start_with(&mut run).await;
    let signal = |name: &str| {
        let pid = postern.process().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    tokio::task::block_in_place(|| (0..3).for_each(|_| drop(manager.wait_for("WATCHDOG=1"))));

    signal("-STOP");
    // What was sent before is read; then nothing comes for longer than the watchdog allows.
    manager.socket.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
    let silent = tokio::task::block_in_place(|| {
        let mut bytes = [0; 4096];
        (0..50).any(|_| manager.socket.recv(&mut bytes).is_err())
    });
    signal("-CONT");

    assert!(silent);
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    tokio::task::block_in_place(|| manager.wait_for("WATCHDOG=1"));
}
