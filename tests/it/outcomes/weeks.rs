//! An outage of each kind with an export a minute: of a day, or of a week by `POSTERN_OUTAGE_MINUTES=10080`.

use std::time::{Duration, Instant};

use postern::{
    clock::Clock,
    tls::{
        ClientTlsFiles, RootsSource,
        issue::{Issued, Period},
    },
};
use serde_json::json;

use super::{Figures, GENEROUS};
use crate::support::{
    appliance::{Appliance, clock, held, waiting},
    load::in_order,
    number_from,
    pki::{Pki, fingerprint_of, now},
    receiver::{PATIENCE, Receiver},
    reply::Reply,
    sender::update,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MINUTES: u64 = 24 * 60;
/// These go by a second at a time, so that retries fall due when they would; in ten of them ten refusals hold a destination.
const MINUTES_IN_SECONDS: u64 = 12;
/// Few enough that each has many exports in line.
const PEOPLE: u64 = 60;
/// How long a step waits for the probes that it may bring.
const STEP: Duration = Duration::from_millis(50);

/// What a token endpoint answers: a token for half a minute.
const TOKEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":30}"#;

/// A destination in an outage.
struct Row {
    name: &'static str,
    reason: &'static str,
    /// The most exports that may become dead letters before it is held.
    dead_max: u32,
}

const ROWS: [Row; 7] = [
    Row { name: "down", reason: "unreachable", dead_max: 0 },
    Row { name: "distrusted", reason: "server_not_trusted", dead_max: 0 },
    Row { name: "missing", reason: "status_404", dead_max: 0 },
    // It answers 400 to a certificate that it does not know.
    Row { name: "choosy", reason: "never_accepted_status_400", dead_max: 0 },
    // The one that was being retried when the third charged failure in a row held it.
    Row { name: "busy", reason: "failing", dead_max: 1 },
    // As many as hold it: it accepted our certificate before, so until then each may be the export's own fault.
    Row { name: "refusing", reason: "refusing", dead_max: 10 },
    // Its token endpoint takes us for nobody.
    Row { name: "tokenless", reason: "token_refused_401", dead_max: 0 },
];

#[tokio::test]
async fn outage_of_each_kind_costs_at_most_what_shows_it_and_ends_in_order() {
    let minutes = number_from("POSTERN_OUTAGE_MINUTES", DAY_MINUTES);
    let clock = clock();
    let mut world = World::start(&clock, MINUTE * u32::try_from(3 * minutes).unwrap()).await;
    world.break_all().await;

    let began = Instant::now();
    for minute in 0..minutes {
        let (person, version) = (format!("p{}", minute % PEOPLE), minute / PEOPLE + 1);
        let made = update(&person, json!({ "plan": "gold", "version": version }));
        if minute < MINUTES_IN_SECONDS {
            world.postern.post("web", &made).await;
            world.pass_in_seconds(&clock).await;
        } else {
            tokio::join!(world.postern.post("web", &made), world.pass(&clock));
        }
    }

    let during = Figures::of(&world.postern).await;
    println!("{minutes} minutes in {:?}", began.elapsed());
    for Row { name, reason, dead_max } in &ROWS {
        let ([made, _, dead], trials) = (during.exports(name), during.trials(name));
        println!("{name}: {trials} probes, {} charged failures, {dead} dead letters", during.charged_failures(name));
        assert!(during.is_held(name, reason), "{name}: {:#?}", during.of_destination(name));
        assert!(dead <= *dead_max, "{name}: {dead} dead letters");
        assert_eq!(u64::from(made), minutes + 1);
        assert!(u64::from(trials) > minutes / 2, "{name} was probed {trials} times");
    }

    let began = Instant::now();
    world.mend_all().await;
    world.drain(&clock, PATIENCE + Duration::from_millis(20 * minutes)).await;
    println!("drained in {:?}", began.elapsed());

    let after = Figures::of(&world.postern).await;
    for (Row { name, .. }, receiver) in ROWS.iter().zip(&world.receivers) {
        let [made, _, dead] = during.exports(name);
        assert_eq!(after.exports(name), [made, made - dead, dead], "{name}");
        assert_eq!(
            (after.get(&held(name)), after.charged_failures(name)),
            (0, during.charged_failures(name)),
            "{name}"
        );
        let accepted = receiver.requests().into_iter().filter(|request| world.is_accepted(name, &request.certificate));
        let accepted: Vec<_> = accepted.collect();
        let (received, repeats) = in_order(&accepted).unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = u32::from(*name != "choosy");
        assert_eq!((received.len() as u32, repeats), (made - dead - before, 0), "{name}");
    }
    assert_eq!(world.postern.metric(r#"postern_audit_difference{compared="counters"}"#).await, Some(0.0));
    assert!(world.postern.stop().await.success());
}

/// An appliance, and a receiver for each row.
struct World {
    postern: Appliance,
    receivers: Vec<Receiver>,
    /// Where tokens for the last one come from.
    endpoint: Receiver,
    pki: Pki,
    elsewhere: Pki,
    /// Where the files are of the client that the choosy receiver is shown.
    shown: Pki,
    /// The client that it wants.
    wanted: Issued,
}

impl World {
    /// Each receiver but the choosy one has accepted an export.
    async fn start(clock: &Clock, valid: Duration) -> Self {
        let [pki, elsewhere, shown] = [(); 3].map(|()| Pki::lasting(valid));
        let wanted = pki.authority.client("Wanted", Period { from: now() - MINUTE, until: now() + valid }).unwrap();
        let ours = pki.client_files();
        let unknown = ClientTlsFiles {
            certificate: shown.write("client.crt", &pki.client.certificate_pem, 0o644),
            key: shown.write("client.key", &pki.client.key_pem, 0o640),
            roots: RootsSource::File(shown.write("ca.crt", &pki.authority.certificate_pem(), 0o644)),
        };
        let (mut receivers, mut set_up) = (Vec::new(), Appliance::set_up(&pki).quiet());
        set_up = set_up.timeout(GENEROUS).retry_delays(["15s", "30s"]);
        let endpoint = Receiver::start(&pki).await;
        endpoint.answer_with(Reply::status(200).with_body(TOKEN));
        for Row { name, .. } in &ROWS {
            if *name == "tokenless" {
                set_up = set_up.oauth2(&endpoint.url_at("/token"), r#"grant = "client_credentials""#);
            }
            let receiver = Receiver::start(&pki).await;
            let files = if *name == "choosy" { &unknown } else { &ours };
            set_up = set_up.tls(files.clone()).destination(name, &receiver.url());
            receivers.push(receiver);
        }
        let known = fingerprint_of(&wanted);
        receivers[3].answer_by(move |request| Reply::status(if request.certificate == known { 200 } else { 400 }));
        let postern = set_up.start_by(clock).await;
        postern.post("web", &update("zed", json!({ "plan": "gold", "version": 1 }))).await;
        for Row { name, .. } in ROWS.iter().filter(|row| row.name != "choosy") {
            postern.wait_for_exports(name, [0, 1, 0]).await;
        }
        postern.wait_for_hold("choosy", "never_accepted_status_400").await;
        // The token ends.
        clock.advance(MINUTE);
        Self { postern, receivers, endpoint, pki, elsewhere, shown, wanted }
    }

    async fn break_all(&mut self) {
        let [down, distrusted, missing, _, busy, refusing, _] = &mut self.receivers[..] else { panic!("seven rows") };
        down.stop().await;
        distrusted.become_as(Receiver::set_up(&self.elsewhere)).await;
        missing.answer_with(404);
        busy.answer_with(503);
        refusing.answer_with(400);
        self.endpoint.answer_with(401);
    }

    async fn mend_all(&mut self) {
        self.forget_requests();
        let [down, distrusted, missing, _, busy, refusing, _] = &mut self.receivers[..] else { panic!("seven rows") };
        down.start_again();
        distrusted.become_as(Receiver::set_up(&self.pki)).await;
        [missing, busy, refusing].into_iter().for_each(|receiver| receiver.answer_with(200));
        self.endpoint.answer_with(Reply::status(200).with_body(TOKEN));
        self.shown.replace_client(&self.wanted);
    }

    fn is_accepted(&self, name: &str, certificate: &str) -> bool {
        name != "choosy" || certificate == fingerprint_of(&self.wanted)
    }

    /// A minute, a second at a time.
    async fn pass_in_seconds(&self, clock: &Clock) {
        for _ in 0..60 {
            clock.advance(Duration::from_secs(1));
            // What was sent meanwhile is settled.
            self.postern.metric("postern_store_live_bytes").await;
        }
    }

    /// A minute at once; then the probes that receivers see, if they come soon.
    async fn pass(&self, clock: &Clock) {
        self.forget_requests();
        clock.advance(MINUTE);
        let until = Instant::now() + STEP;
        let probed = || self.receivers[2..6].iter().chain([&self.endpoint]).all(|asked| !asked.requests().is_empty());
        while Instant::now() < until && !probed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn forget_requests(&self) {
        self.receivers.iter().chain([&self.endpoint]).for_each(|asked| drop(asked.take_requests()));
    }

    async fn drain(&self, clock: &Clock, within: Duration) {
        let until = Instant::now() + within;
        for Row { name, .. } in &ROWS {
            while self.postern.metric(&waiting(name)).await != Some(0.0) {
                let figures = Figures::of(&self.postern).await;
                assert!(Instant::now() < until, "{name}: {:#?}", figures.of_destination(name));
                clock.advance(Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
