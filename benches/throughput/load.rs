//! The load: posts updates over keep-alive connections, one under way on each.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{child, figures::Percentiles, machine, update};

/// Its role's name.
pub(crate) const ROLE: &str = "load";

/// The wait before an update is posted again that the appliance was too busy for.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What to post, and how.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) inlets: SocketAddr,
    pub(crate) connections: u64,
    pub(crate) profiles: u64,
    /// The number of the first update, a multiple of `connections`.
    pub(crate) first: u64,
    /// Most updates.
    pub(crate) updates: u64,
    /// Longest time.
    pub(crate) phase: Duration,
    /// Updates a second in all, each at its own instant whatever became of those before; none: as fast as answered.
    pub(crate) pace: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Updates answered 200.
    pub(crate) accepted: u64,
    /// Answers 503: the update was posted again.
    pub(crate) busy: u64,
    /// When the first was begun, in microseconds since 1970.
    pub(crate) begun_micros: u64,
    /// Until the last answer.
    pub(crate) seconds: f64,
    /// CPU seconds of the load itself.
    pub(crate) cpu_seconds: f64,
    /// From the beginning of a request (when paced: from its instant) to the whole answer.
    pub(crate) answer: Percentiles,
    /// The number behind the last update's.
    pub(crate) next: u64,
}

/// The role.
pub(crate) fn send() -> anyhow::Result<()> {
    let order: Order = child::order()?;
    child::end_with_the_runner();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    child::tell(&runtime.block_on(send_all(order))?)
}

#[derive(Default)]
struct Sent {
    answers: Vec<u32>,
    busy: u64,
}

async fn send_all(order: Order) -> anyhow::Result<Report> {
    let mut ready = Vec::new();
    for index in 0..order.connections {
        ready.push((index, Connection::open(order.inlets).await?));
    }
    let (start, begun_micros) = (Instant::now(), machine::now_micros());
    let mut connections = JoinSet::new();
    for (index, connection) in ready {
        connections.spawn(send_over(connection, order, index, start, begun_micros));
    }
    let (mut answers, mut busy, mut rounds) = (Vec::new(), 0, 0);
    while let Some(ended) = connections.join_next().await {
        let sent = ended??;
        rounds = rounds.max(sent.answers.len() as u64);
        answers.extend(sent.answers);
        busy += sent.busy;
    }
    Ok(Report {
        accepted: answers.len() as u64,
        busy,
        begun_micros,
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: machine::cpu_seconds(std::process::id())?,
        answer: Percentiles::of(answers),
        next: order.first + rounds * order.connections,
    })
}

/// Posts every update whose number, modulo the connections, is `index`; so it alone has their profiles.
async fn send_over(
    mut connection: Connection,
    order: Order,
    index: u64,
    start: Instant,
    start_micros: u64,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    for offset in (index..order.updates).step_by(order.connections as usize) {
        let due = order.pace.map(|pace| Duration::from_secs_f64(offset as f64 / pace));
        if due.unwrap_or_else(|| start.elapsed()) >= order.phase {
            break;
        }
        let begun = match due {
            Some(due) => {
                sleep_until(start + due).await;
                start_micros + due.as_micros() as u64
            }
            None => machine::now_micros(),
        };
        let sequence = order.first + offset;
        let body = update::body(sequence, sequence % order.profiles, begun);
        loop {
            match timeout(ANSWER_TIMEOUT, connection.post(&body)).await.context("an update was not answered")?? {
                200 => break,
                503 => sent.busy += 1,
                status => bail!("update {sequence} was answered {status}"),
            }
            sleep(BUSY_PAUSE).await;
        }
        sent.answers.push(u32::try_from(machine::now_micros().saturating_sub(begun)).unwrap_or(u32::MAX));
    }
    Ok(sent)
}

/// An HTTP/1.1 connection, as lean as can be: the load shares the machine with what it measures.
struct Connection {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(inlets: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(inlets).await.context("cannot connect to the inlet")?;
        stream.set_nodelay(true)?;
        let head = format!(
            "POST /collection/{} HTTP/1.1\r\nhost: {inlets}\r\ncontent-type: application/json\r\ncontent-length: ",
            update::SHAPE.inlet
        );
        Ok(Self { stream, head, request: Vec::new(), answer: Vec::new() })
    }

    /// Posts a body; returns the status once the whole answer is there.
    async fn post(&mut self, body: &str) -> anyhow::Result<u16> {
        self.request.clear();
        self.request.extend(self.head.as_bytes());
        self.request.extend(format!("{}\r\n\r\n", body.len()).as_bytes());
        self.request.extend(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the inlet closed the connection");
            }
            if let Some(status) = status_of_whole(&self.answer)? {
                return Ok(status);
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                bail!("an answer has more than {ANSWER_BYTES_MAX} bytes");
            }
        }
    }
}

/// The status of an answer, if it is there to its end.
fn status_of_whole(answer: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("an answer without content-length")?.parse()?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    Ok((answer.len() >= end + 4 + length).then_some(status.parse()?))
}
