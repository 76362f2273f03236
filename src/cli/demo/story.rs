//! What the demo tells, step by step.

use anyhow::{Result, bail, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    appliance::Appliance,
    arrival::Arrival,
    careless::Careless,
    files::{CARELESS, CRM, Files},
    ledger::Ledger,
    loopback,
    people::{self, Update},
    receiver::Receiver,
    say, sums,
};

/// Tells all of it.
pub(super) async fn tell(files: &Files) -> Result<()> {
    let mut story = Story::begin(files).await?;
    story.published_example().await?;
    story.more_people().await?;
    story.careless_receiver().await?;
    story.dead_letter().await?;
    story.outage().await?;
    let mut story = story.killed(files).await?;
    story.step("It is asked to stop (SIGTERM), and its store is read")?;
    story.drain()?;
    let Story { appliance, careless, ledger, .. } = story;
    appliance.stop().await?;
    careless.wait_for_idle().await?;
    sums::add_up(&files.state_dir(), &ledger, &careless).await
}

struct Story {
    appliance: Appliance,
    receiver: Receiver,
    careless: Careless,
    ledger: Ledger,
    steps: usize,
}

impl Story {
    async fn begin(files: &Files) -> Result<Self> {
        say(format_args!("\n1. Made: a private authority and its certificates, in {}", files.path().display()))?;
        let receiver = Receiver::start(files.requiring_tls()?).await?;
        let careless = Careless::start(files.careless_tls()?).await?;
        files.write_config(&receiver.url(), &careless.url())?;
        say("\n2. Two receivers listen, and postern.toml names them")?;
        say(format_args!("   {CRM}: {}, requires a client certificate", receiver.url()))?;
        say(format_args!("   {CARELESS}: {}, takes data from anybody", careless.url()))?;
        let appliance = Appliance::start(files.path()).await?;
        let (process, inlets) = (appliance.process(), appliance.inlets());
        say(format_args!(
            "\n3. The appliance runs: process {process}, takes updates at http://{inlets}/collection/web"
        ))?;
        Ok(Self { appliance, receiver, careless, ledger: Ledger::default(), steps: 3 })
    }

    async fn published_example(&mut self) -> Result<()> {
        self.step("Four updates about John Doe, and what crm gets of them")?;
        for (index, update) in people::john_doe().into_iter().enumerate() {
            self.send([update]).await?;
            self.receive().await?;
            if index == 0 {
                say("      the whole of it:")?;
                let body = serde_json::to_string_pretty(&self.last_body("John Doe"))?;
                body.lines().try_for_each(|line| say(format_args!("      {line}")))?;
            }
        }
        let last = Arrival::timeless(self.last_body("John Doe"));
        let published = Arrival::timeless(people::published_example());
        ensure!(last == published, "the last export is not the published example: {last:#}");
        say("   The last one is, but for its times, the example that Adobe's HTTP API destination publishes.")
    }

    async fn more_people(&mut self) -> Result<()> {
        self.step("More people: three enter an audience, a fourth is in none")?;
        self.send(people::three_enter()).await?;
        let answer = loopback::post(self.appliance.inlets(), INLET, &people::nobodys_member().message).await?;
        ensure!(answer["inletId"] == "web", "the inlet answered {answer}");
        self.ledger.acknowledged += 1;
        self.receive().await?;
        self.appliance.wait_for_metric(&total(CRM, "made"), self.ledger.owed() as f64).await?;
        say("   Erika Mustermann is kept as a profile, and nothing is exported.")
    }

    async fn careless_receiver(&mut self) -> Result<()> {
        self.step("The careless receiver asks for no certificate")?;
        let reason = r#"reason="server_did_not_ask_for_certificate""#;
        let series = format!(r#"postern_destination_hold_reason{{destination="{CARELESS}",{reason}}}"#);
        self.appliance.wait_for_metric(&series, 1.0).await?;
        let waiting = self.ledger.owed();
        self.appliance.wait_for_metric(&state(CARELESS, "waiting"), waiting as f64).await?;
        let handshakes = self.careless.wait_for_idle().await?;
        ensure!(self.careless.bytes() == 0, "{} bytes were sent to the careless receiver", self.careless.bytes());
        say(format_args!("   held: {reason}"))?;
        say(format_args!(
            "   TLS handshakes that it completed: {handshakes}; bytes sent to it: 0; exports waiting: {waiting}"
        ))
    }

    async fn dead_letter(&mut self) -> Result<()> {
        self.step("crm refuses one export with 422: a dead letter, which holds up nothing")?;
        self.receiver.answer(StatusCode::UNPROCESSABLE_ENTITY);
        self.send([people::max_moves(1)]).await?;
        self.receive().await?;
        self.appliance.wait_for_metric(&state(CRM, "dead"), 1.0).await?;
        self.receiver.answer(StatusCode::OK);
        self.send([people::max_moves(2)]).await?;
        self.receive().await
    }

    async fn outage(&mut self) -> Result<()> {
        self.step("crm answers 503 for a while: it is held, and its exports wait")?;
        self.fail_with_six_waiting([3, 4]).await?;
        self.receiver.answer(StatusCode::OK);
        say("   crm is well again: a probe finds out, and the rest follows in order")?;
        self.receive().await?;
        self.appliance.wait_for_metric(&state(CRM, "dead"), 1.0).await?;
        say("   Nothing was lost, nobody's exports changed places, and there is no further dead letter.")
    }

    async fn killed(mut self, files: &Files) -> Result<Self> {
        self.step("Killed (SIGKILL) while exports wait, and started again")?;
        self.fail_with_six_waiting([5, 6]).await?;
        let Self { appliance, receiver, careless, ledger, steps } = self;
        appliance.kill()?;
        receiver.answer(StatusCode::OK);
        let appliance = Appliance::start(files.path()).await?;
        say(format_args!("   killed, and running again: process {}", appliance.process()))?;
        let mut story = Self { appliance, receiver, careless, ledger, steps };
        story.receive().await?;
        say("   What arrived is what was acknowledged: all of it, and nothing else.")?;
        Ok(story)
    }

    /// Makes crm fail, and sends two updates each about three people; returns when it is held and six exports wait.
    async fn fail_with_six_waiting(&mut self, versions: [u32; 2]) -> Result<()> {
        // What is settled already cannot come again.
        self.appliance.wait_for_metric(&state(CRM, "waiting"), 0.0).await?;
        self.receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
        for version in versions {
            self.send(people::three_move(version)).await?;
        }
        let held = format!(r#"postern_destination_hold_reason{{destination="{CRM}",reason="failing"}}"#);
        self.appliance.wait_for_metric(&held, 1.0).await?;
        self.appliance.wait_for_metric(&state(CRM, "waiting"), 6.0).await?;
        self.drain()?;
        say("   held: reason=\"failing\"; six updates were acknowledged, six exports wait")
    }

    /// Sends updates about different people at the same time. All must be acknowledged, and each owes an export.
    async fn send(&mut self, updates: impl IntoIterator<Item = Update>) -> Result<()> {
        let mut posts = JoinSet::new();
        for Update { person, message } in updates {
            let inlets = self.appliance.inlets();
            posts
                .spawn(async move { Ok::<_, anyhow::Error>((person, loopback::post(inlets, INLET, &message).await?)) });
        }
        while let Some(posted) = posts.join_next().await {
            let (person, answer) = posted??;
            self.ledger.owe(person, answer)?;
        }
        Ok(())
    }

    /// Shows what arrives until all that is owed has been accepted or refused, and checks it.
    async fn receive(&mut self) -> Result<()> {
        while self.ledger.missing() > 0 {
            let arrival = tokio::select! {
                arrival = self.receiver.next() => arrival?,
                status = self.appliance.ended() => bail!("the appliance ended by itself: {}", status?),
            };
            self.show(arrival)?;
        }
        self.ledger.check()
    }

    /// Shows what has arrived.
    fn drain(&mut self) -> Result<()> {
        while let Some(arrival) = self.receiver.try_next() {
            self.show(arrival)?;
        }
        Ok(())
    }

    fn show(&mut self, arrival: Arrival) -> Result<()> {
        say(format_args!("   {}", arrival.line(self.ledger.last_body(&arrival.person()))))?;
        self.ledger.arrived(arrival);
        Ok(())
    }

    fn last_body(&self, person: &str) -> Value {
        self.ledger.last_body(person).cloned().unwrap_or(json!(null))
    }

    fn step(&mut self, title: &str) -> Result<()> {
        self.steps += 1;
        say(format_args!("\n{}. {title}", self.steps))
    }
}

const INLET: &str = "/collection/web";

fn total(destination: &str, result: &str) -> String {
    format!(r#"postern_exports_total{{destination="{destination}",result="{result}"}}"#)
}

fn state(destination: &str, state: &str) -> String {
    format!(r#"postern_exports{{destination="{destination}",state="{state}"}}"#)
}
