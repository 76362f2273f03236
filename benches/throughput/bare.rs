//! The bare sender: the appliance's own client posts bodies from memory, and does nothing else. It is what this machine
//! could send at best, and so what the appliance is measured by.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use bytes::Bytes;
use postern::{
    clock::Clock,
    profile::update::UpdateId,
    tls::{ClientTls, ClientTlsFiles, HttpsUrl, Limits, MutualClient, RootsSource},
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{child, machine};

/// Its role's name.
pub(crate) const ROLE: &str = "bare-sender";

/// POSTs under way at once: the appliance's default, and said in its configuration here.
pub(crate) const IN_FLIGHT: usize = 64;

/// What to send.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) endpoint: String,
    pub(crate) tls: Files,
    pub(crate) phase: Duration,
    pub(crate) bodies: Vec<String>,
}

/// [`ClientTlsFiles`] that travel.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Files {
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
    roots: std::path::PathBuf,
}

impl Files {
    pub(crate) fn of(files: &ClientTlsFiles) -> anyhow::Result<Self> {
        let ClientTlsFiles { certificate, key, roots: RootsSource::File(roots) } = files.clone() else {
            anyhow::bail!("the authority here is a private one");
        };
        Ok(Self { certificate, key, roots })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// POSTs answered 200.
    pub(crate) delivered: u64,
    pub(crate) seconds: f64,
    /// CPU seconds of the bare sender itself.
    pub(crate) cpu_seconds: f64,
}

/// The role.
pub(crate) fn send() -> anyhow::Result<()> {
    let order: Order = child::order()?;
    child::end_with_the_runner();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    child::tell(&runtime.block_on(send_all(order))?)
}

async fn send_all(order: Order) -> anyhow::Result<Report> {
    let Order { endpoint, tls: Files { certificate, key, roots }, phase, bodies } = order;
    ensure!(!bodies.is_empty(), "there is nothing to send");
    let tls = ClientTls::load(&ClientTlsFiles { certificate, key, roots: RootsSource::File(roots) })?;
    // The appliance's own defaults.
    let limits = Limits { connect: Duration::from_secs(5), answer: Duration::from_secs(2) };
    let client = MutualClient::new(&tls, limits, Clock::system())?;
    let endpoint = Arc::new(HttpsUrl::parse(&endpoint)?);
    let bodies: Arc<[Bytes]> = bodies.into_iter().map(Bytes::from).collect();
    let start = Instant::now();
    let mut posts = JoinSet::new();
    for index in 0..IN_FLIGHT {
        let (client, endpoint, bodies) = (client.clone(), Arc::clone(&endpoint), Arc::clone(&bodies));
        posts.spawn(async move {
            let mut delivered = 0;
            for body in bodies.iter().cycle().skip(index) {
                if start.elapsed() >= phase {
                    break;
                }
                let answer = client.post(&endpoint, headers()?, body.clone()).await?;
                ensure!(answer.status == 200, "the receiver answered {}", answer.status);
                delivered += 1;
            }
            Ok(delivered)
        });
    }
    let mut delivered = 0;
    while let Some(ended) = posts.join_next().await {
        delivered += ended??;
    }
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), machine::cpu_seconds(std::process::id())?);
    Ok(Report { delivered, seconds, cpu_seconds })
}

/// The headers that the appliance sends, each time with another id.
fn headers() -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("postern-bench"));
    headers.insert("idempotency-key", HeaderValue::try_from(UpdateId::new(Clock::system().now()).to_string())?);
    Ok(headers)
}
