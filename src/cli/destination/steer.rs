//! `postern destination list | show | test | pause | resume`: how destinations are doing, and what a person tells them.

use std::time::Duration;

use clap::Args;
use indicatif::HumanCount;
use serde_json::json;

use crate::{
    admin::destinations::{BatchView, CertificateView, Counted, DestinationView, LatencyView, NewerView, TestView},
    cli::{
        Failure, Output,
        client::{NONE as NO_PARAMETERS, Reach},
        exit::Exit,
        print,
        text::{Cell, NONE, Table, ago, bad, good, latency, long, or_none, rate, watch},
    },
};

#[derive(Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(in crate::cli) struct One {
    /// The destination
    name: String,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(in crate::cli) struct Test {
    #[command(flatten)]
    one: One,
    /// POST a made-up export of nobody, rather than send a HEAD request
    #[arg(long)]
    sample: bool,
}

pub(super) fn list(List { reach, output }: &List) -> Result<(), Failure> {
    let destinations: Vec<DestinationView> = reach.get("/v1/destinations", NO_PARAMETERS)?;
    if output.json {
        return print(&json!(destinations));
    }
    let mut table = Table::new(HEADING);
    destinations.iter().for_each(|destination| table.row(row(destination)));
    table.print()
}

pub(super) fn show(One { name, reach, output }: &One) -> Result<(), Failure> {
    let view: DestinationView = reach.get(&path(name, ""), NO_PARAMETERS)?;
    if output.json { print(&json!(view)) } else { whole(&view) }
}

pub(super) fn pause(one: &One) -> Result<(), Failure> {
    tell(one, "/pause")
}

pub(super) fn resume(one: &One) -> Result<(), Failure> {
    tell(one, "/resume")
}

fn tell(One { name, reach, output }: &One, order: &str) -> Result<(), Failure> {
    let view: DestinationView = reach.post(&path(name, order), NO_PARAMETERS)?;
    match output.json {
        true => print(&json!(view)),
        false => print(&format_args!("{name} is {}", state(&view).paint())),
    }
}

pub(super) fn test(Test { one: One { name, reach, output }, sample }: &Test) -> Result<(), Failure> {
    let tested: TestView = reach.post(&path(name, "/test"), &[("sample", sample)])?;
    let TestView { good: is_good, method, status, outcome, detail, seconds } = &tested;
    if output.json {
        print(&json!(tested))?;
    } else {
        let answer = match status {
            Some(status) => format!("answered {status} to {method} in {}", latency(*seconds)),
            None => format!("not reached: {}", or_none(detail.as_ref())),
        };
        print(&format_args!("{}  {name}: {answer}", if *is_good { good("good").paint() } else { bad("bad").paint() }))?;
        if let Some(outcome) = outcome {
            print(&format_args!("an export would have met: {outcome}"))?;
        }
    }
    match is_good {
        true => Ok(()),
        false => Err(Failure::of(Exit::Failed, format_args!("exports to {name} would not arrive"))),
    }
}

fn path(name: &str, order: &str) -> String {
    format!("/v1/destinations/{name}{order}")
}

pub(in crate::cli) const HEADING: [&str; 12] = [
    "DESTINATION",
    "STATE",
    "REASON",
    "SINCE",
    "NEXT",
    "WAITING",
    "OLDEST",
    "DEAD",
    "RATE/S",
    "P50",
    "P99",
    "LAST FAILURE",
];

/// A destination in a line.
pub(in crate::cli) fn row(view: &DestinationView) -> [Cell; 12] {
    let counted = |of: fn(&Counted) -> u64| or_none(view.counted.as_ref().map(|counted| HumanCount(of(counted))));
    let dead = view.counted.filter(|counted| counted.dead > 0);
    let percentile = |of: fn(&LatencyView) -> f64| or_none(view.latency.as_ref().map(|view| latency(of(view))));
    let failure = view.last_failure.as_ref().map(|failure| format!("{} {} ago", failure.outcome, ago(&failure.at)));
    [
        (&view.name).into(),
        state(view),
        or_none(view.reason.as_ref()).into(),
        or_none(view.since.as_deref().map(ago)).into(),
        or_none(view.next_at.as_ref().and_then(|at| at.split(['T', 'Z']).nth(1))).into(),
        counted(|counted| counted.waiting).into(),
        or_none(view.oldest_seconds.map(|age| long(Duration::from_secs_f64(age)))).into(),
        dead.map_or_else(|| counted(|counted| counted.dead).into(), |counted| watch(HumanCount(counted.dead))),
        rate(view.rate).into(),
        percentile(|latency| latency.p50_seconds).into(),
        percentile(|latency| latency.p99_seconds).into(),
        failure.unwrap_or_else(|| NONE.to_owned()).into(),
    ]
}

fn state(view: &DestinationView) -> Cell {
    match (view.state.as_str(), view.draining) {
        ("open", false) => good("open"),
        ("open", true) => watch("draining"),
        (state @ ("paused" | "throttled"), _) => watch(state),
        (state, _) => bad(state),
    }
}

/// What a person should know of a destination's certificate, with the destination's name.
pub(in crate::cli) fn about_certificate(view: &DestinationView) -> Vec<(&str, String)> {
    let CertificateView { newer, problem, days_left, .. } = &view.certificate;
    let newer = newer.as_ref().map(|NewerView { not_before, refused_since, try_at, .. }| match refused_since {
        None => format!("a new certificate is on file; it is valid from {not_before} and used then"),
        Some(since) => format!(
            "the receiver refuses the new certificate since {since}; exports go out with the one before; it is tried again at {}",
            or_none(try_at.as_ref())
        ),
    });
    let problem = problem.as_ref().map(|problem| format!("what is on file is not used: {problem}"));
    let ends = match days_left {
        Some(..0) => Some("the certificate has expired".to_owned()),
        Some(days @ 0..=30) => Some(format!("the certificate expires in {days} days")),
        Some(_) | None => None,
    };
    newer.into_iter().chain(problem).chain(ends).map(|word| (view.name.as_str(), word)).collect()
}

fn whole(view: &DestinationView) -> Result<(), Failure> {
    let line = |name: &str, what: &dyn std::fmt::Display| print(&format_args!("{name:<14}{what}"));
    line("name", &view.name)?;
    if let Some(description) = &view.description {
        line("description", description)?;
    }
    line("endpoint", &view.endpoint)?;
    if !view.query.is_empty() {
        line("query", &format_args!("{} (values are not shown)", view.query.join(", ")))?;
    }
    if !view.headers.is_empty() {
        line("headers", &format_args!("{} (values are not shown)", view.headers.join(", ")))?;
    }
    let since = view.since.as_deref().map(|since| format!(", since {} ({since})", ago(since)));
    let reason = view.reason.as_ref().map(|reason| format!(": {reason}"));
    line("state", &format_args!("{}{}{}", state(view).paint(), reason.unwrap_or_default(), since.unwrap_or_default()))?;
    if let Some(at) = &view.next_at {
        line("sent to again", at)?;
    }
    if let Some(Counted { made, delivered, waiting, dead, damaged, dropped, redriven, moot, skipped }) = view.counted {
        let [made, delivered, waiting, dead] = [made, delivered, waiting, dead].map(HumanCount);
        line("exports", &format_args!("{made} made, {delivered} delivered, {waiting} waiting, {dead} dead"))?;
        line(
            "",
            &format_args!("{damaged} damaged, {dropped} dropped, {redriven} redriven, {moot} moot, {skipped} skipped"),
        )?;
    }
    if let Some(BatchView { max_exports, max_bytes, max_wait_seconds, format }) = &view.batch {
        let wait = latency(*max_wait_seconds);
        line("batch", &format_args!("{format}: up to {max_exports} exports, {max_bytes} bytes, after {wait} at most"))?;
    }
    line("in flight", &view.in_flight)?;
    line("oldest", &or_none(view.oldest_seconds.map(|age| long(Duration::from_secs_f64(age)))))?;
    line("rate", &format_args!("{}/s over the last minute", rate(view.rate)))?;
    if let Some(LatencyView { p50_seconds, p95_seconds, p99_seconds }) = view.latency {
        let [p50, p95, p99] = [p50_seconds, p95_seconds, p99_seconds].map(latency);
        line("latency", &format_args!("p50 {p50}, p95 {p95}, p99 {p99}"))?;
    }
    line("last delivery", &or_none(view.last_delivery.as_ref()))?;
    if let Some(failure) = &view.last_failure {
        line("last failure", &format_args!("{} at {}", failure.outcome, failure.at))?;
        if let Some(detail) = &failure.detail {
            line("", detail)?;
        }
    }
    let CertificateView { subject, fingerprint, on_file, accepted, not_after, days_left, valid, .. } =
        &view.certificate;
    let valid = match valid {
        Some(true) => good("valid"),
        Some(false) => bad("not valid"),
        None => watch("not judged,"),
    };
    let days = days_left.map(|days| format!(", {days} days")).unwrap_or_default();
    line("certificate", &format_args!("{subject}, {} until {not_after}{days}", valid.paint()))?;
    line("", &format_args!("in use    {fingerprint}"))?;
    line("", &format_args!("on file   {}", or_none(on_file.as_ref())))?;
    line("", &format_args!("accepted  {}", or_none(accepted.as_ref())))?;
    for (_, word) in about_certificate(view) {
        line("", &watch(word).paint())?;
    }
    let sends_from = Some(view.sends_from.join(", ")).filter(|addresses| !addresses.is_empty());
    line("sends from", &sends_from.as_deref().unwrap_or("no connection yet"))?;
    line("audiences", &view.audiences.join(", "))?;
    line("attributes", &view.attributes.join(", "))
}
