//! Every way in which a receiver can answer or misbehave, and what follows: the table of `docs/delivery.md`, row by row.

mod answers;
mod doors;
mod floods;
mod misbehaviour;
mod rare;
mod throttles;
mod weeks;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use postern::clock::Clock;
use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock, posts, waiting},
    pki::Pki,
    receiver::{PATIENCE, Receiver},
    reply::Reply,
    sender::update,
};

/// The longest that first and second retries may wait by `["15s", "30s"]`.
const RETRIES_MAX: [Duration; 2] = [Duration::from_millis(16_500), Duration::from_secs(33)];
/// So much time that only rows about time run out of it.
const GENEROUS: &str = "20s";

/// A destination of its own, its receiver's reply, and what must follow of that.
struct Row {
    destination: String,
    /// What to do on each request.
    reply: Reply,
    /// Whether it replies before it has read the request.
    unread: bool,
    timeout: &'static str,
    follows: Follows,
}

/// What follows when a receiver replies alike to each POST of an export. Words are those of metrics and logs.
#[derive(Clone, Debug)]
enum Follows {
    Delivered,
    /// Three attempts that met this, at the delays, and a dead letter.
    Exhausted(String),
    /// One attempt that met this, and a dead letter.
    Refused(String),
    /// Trials alone, and a hold for this reason.
    Held(String),
}

/// Whether the receivers have accepted an export over the present certificate before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    NothingAccepted,
    Accepted,
}

impl Row {
    fn new(destination: impl Into<String>, reply: impl Into<Reply>, follows: Follows) -> Self {
        Self { destination: destination.into(), reply: reply.into(), unread: false, timeout: GENEROUS, follows }
    }

    fn within(self, timeout: &'static str) -> Self {
        Self { timeout, ..self }
    }

    fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    /// Whether all is as it must be once its export has gone out so often, or could have; `accepted` were delivered before it.
    fn is_met(&self, figures: &Figures, accepted: u32, chances: u32) -> bool {
        let name = &self.destination;
        let of_outcome = |outcome: &str, charge: &str| figures.get(&posts(name, outcome, charge));
        let [made, delivered, dead] = figures.exports(name);
        assert_eq!(made, accepted + 1, "{name}");
        match &self.follows {
            Follows::Delivered => delivered == accepted + 1,
            Follows::Exhausted(outcome) => {
                of_outcome(outcome, "attempt") == chances
                    && dead == u32::from(chances == 3)
                    && (chances < 3 || figures.is_held(name, "failing"))
            }
            Follows::Refused(outcome) => of_outcome(outcome, "attempt") == 1 && dead == 1,
            Follows::Held(reason) => {
                figures.is_held(name, reason)
                    && of_outcome(reason, "trial") >= chances
                    && figures.get(&waiting(name)) == 1
                    && figures.charged_failures(name) == 0
            }
        }
    }
}

/// Sends one export to each row's receiver, turns the clock past both retries, lets all receivers be good again, and
/// compares what became of the exports.
async fn hold_true(rows: Vec<Row>, before: Before) {
    let (pki, clock) = (Pki::new(), clock());
    let (mut receivers, mut set_up) = (Vec::new(), Appliance::set_up(&pki).quiet().retry_delays(["15s", "30s"]));
    for row in &rows {
        let receiver = Receiver::start(&pki).await;
        set_up = set_up.timeout(row.timeout).destination(&row.destination, &receiver.url());
        receivers.push(receiver);
    }
    let mut postern = set_up.start_by(&clock).await;
    let accepted = u32::from(before == Before::Accepted);
    if before == Before::Accepted {
        postern.post("web", &update("zed", json!({ "plan": "gold" }))).await;
        wait_for_rows(&postern, &rows, |row, figures| figures.exports(&row.destination) == [1, 1, 0]).await;
        // A used connection that goes away says something else than a fresh one.
        for receiver in &receivers {
            receiver.close_connections().await;
        }
    }

    for (row, receiver) in rows.iter().zip(&receivers) {
        match row.unread {
            true => receiver.answer_unread(row.reply.clone()),
            false => receiver.answer_with(row.reply.clone()),
        }
    }
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    wait_for_rows(&postern, &rows, |row, figures| row.is_met(figures, accepted, 1)).await;
    for (delay, chances) in RETRIES_MAX.into_iter().zip(2..) {
        clock.advance(delay);
        wait_for_rows(&postern, &rows, |row, figures| row.is_met(figures, accepted, chances)).await;
    }
    for receiver in &receivers {
        receiver.answer_with(200);
    }
    wait_while_turning(&postern, &clock, &rows, |row, figures| {
        let kept = u32::from(matches!(row.follows, Follows::Delivered | Follows::Held(_)));
        figures.exports(&row.destination) == [accepted + 1, accepted + kept, 1 - kept]
    })
    .await;
    assert_eq!(postern.metric(r#"postern_audit_difference{compared="counters"}"#).await, Some(0.0));
    assert!(postern.stop().await.success());
    for row in &rows {
        has_its_letter(&postern, row).await;
    }
}

async fn has_its_letter(postern: &Appliance, row: &Row) {
    let letters = postern.dead_letters(&row.destination).await;
    let (cause, outcome, count) = match &row.follows {
        Follows::Exhausted(outcome) => ("exhausted", outcome, 3),
        Follows::Refused(outcome) => ("refused", outcome, 1),
        Follows::Delivered | Follows::Held(_) => return assert!(letters.is_empty(), "{letters:?}"),
    };
    let [letter] = &letters[..] else { panic!("{}: {letters:?}", row.destination) };
    let attempts = &letter.export.attempts;
    assert_eq!((letter.cause.to_string().as_str(), attempts.len(), letter.export.trials), (cause, count, 0));
    assert!(attempts.iter().all(|attempt| attempt.outcome.to_string() == *outcome), "{letter:?}");
    let waits: Vec<Duration> = attempts.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    assert_eq!(waits, RETRIES_MAX[..count - 1], "{letter:?}");
    assert_eq!(letter.at, attempts[count - 1].at);
}

async fn wait_for_rows(postern: &Appliance, rows: &[Row], met: impl Fn(&Row, &Figures) -> bool) {
    wait(postern, rows, met, || {}).await;
}

async fn wait_while_turning(postern: &Appliance, clock: &Clock, rows: &[Row], met: impl Fn(&Row, &Figures) -> bool) {
    wait(postern, rows, met, || clock.advance(Duration::from_secs(1))).await;
}

async fn wait(postern: &Appliance, rows: &[Row], met: impl Fn(&Row, &Figures) -> bool, meanwhile: impl Fn()) {
    let until = Instant::now() + PATIENCE;
    loop {
        let figures = Figures::of(postern).await;
        let unmet: Vec<&Row> = rows.iter().filter(|row| !met(row, &figures)).collect();
        if unmet.is_empty() {
            return;
        }
        let seen = |row: &&Row| format!("{:?}: {:#?}", row.follows, figures.of_destination(&row.destination));
        assert!(Instant::now() < until, "{}", unmet.iter().map(seen).collect::<Vec<_>>().join("\n"));
        meanwhile();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the metrics say at one time.
struct Figures(HashMap<String, f64>);

impl Figures {
    async fn of(postern: &Appliance) -> Self {
        let (_, text) = postern.admin("/metrics").await;
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        Self(series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    fn get(&self, series: &str) -> u32 {
        self.0.get(series).map_or(0, |value| *value as u32)
    }

    /// Exports made, delivered and dead.
    fn exports(&self, destination: &str) -> [u32; 3] {
        ["made", "delivered", "dead"].map(|result| {
            self.get(&format!(r#"postern_exports_total{{destination="{destination}",result="{result}"}}"#))
        })
    }

    fn is_held(&self, destination: &str, reason: &str) -> bool {
        let labels = format!(r#"{{destination="{destination}",reason="{reason}"}}"#);
        self.get(&format!("postern_destination_hold_reason{labels}")) == 1
    }

    fn charged_failures(&self, destination: &str) -> u32 {
        let charged = |name: &str| name.contains(r#"charge="attempt""#) && !name.contains(r#"outcome="delivered""#);
        self.posts(destination).filter(|(name, _)| charged(name)).map(|(_, count)| *count as u32).sum()
    }

    fn trials(&self, destination: &str) -> u32 {
        let trials = self.posts(destination).filter(|(name, _)| name.contains(r#"charge="trial""#));
        trials.map(|(_, count)| *count as u32).sum()
    }

    fn posts(&self, destination: &str) -> impl Iterator<Item = (&String, &f64)> {
        let of_it = format!(r#"postern_posts_total{{destination="{destination}","#);
        self.0.iter().filter(move |(name, _)| name.starts_with(&of_it))
    }

    fn of_destination(&self, destination: &str) -> Vec<String> {
        let of_it = format!(r#"destination="{destination}""#);
        let of_it = self.0.iter().filter(|(name, _)| name.contains(&of_it) && !name.contains("certificate"));
        let mut lines: Vec<String> = of_it.map(|(name, value)| format!("{name} {value}")).collect();
        lines.retain(|line| !line.contains("latency"));
        lines.sort();
        lines
    }
}
