//! A request and its answer over connections of one kind, within limits. What the kinds share, and nothing that tells them apart.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Body, Client, Method, RequestBuilder,
    header::{HeaderMap, RETRY_AFTER},
    redirect, retry,
};
use rustls::{ClientConfig, client::Resumption, pki_types::UnixTime, time_provider::TimeProvider};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    ClientTls, Credentials, HttpVersion, HttpsUrl, Origin, PostError, Validity,
    policy::Judge,
    proof::{Demand, ProofLayer, ProvingResolver},
    provider,
    unanswered::Unanswered,
    under_way::UnderWay,
    writing::ReportingBody,
};
use crate::clock::{Clock, Timestamp};

/// How long an unused connection is kept. Shorter than what receivers commonly allow (Apache and Node close at 5 s), so
/// that we close first and a request seldom meets a connection that is just going away. A new handshake costs less.
const IDLE: Duration = Duration::from_secs(4);

/// Most bytes of an answer's body that are read. Small answers are read to the end because the connection can be used again
/// only then; more than this is a fault or a flood.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest `Retry-After` passed on, in bytes. A date has 29; what is longer is neither a date nor a sensible number.
const RETRY_AFTER_BYTES_MAX: usize = 64;

/// Connections of one kind. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    client: Client,
    http: HttpVersion,
    limits: Limits,
    unanswered: Unanswered,
    /// Requests that are being written or answered.
    under_way: UnderWay,
    /// Those, and those that wait for a place.
    inside: UnderWay,
    /// Whoever sends ends: nothing more begins.
    stopped: CancellationToken,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For name, TCP and TLS together, until the request begins to be written.
    pub connect: Duration,
    /// For the whole answer, from the moment the request begins to be written.
    pub answer: Duration,
}

/// What a receiver answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it came, if it is text of a sensible length.
    pub retry_after: Option<String>,
    /// The beginning of the body, as much as is kept.
    pub body: Vec<u8>,
}

/// Does not show the body: it may repeat what was sent, or be a token.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, retry_after, body } = self;
        let mut shown = f.debug_struct("Answer");
        shown.field("status", status).field("retry_after", retry_after).field("body_bytes", &body.len()).finish()
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MutualClientError {
    /// The cryptography does not do this version of TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client does not take the settings.
    #[error("cannot set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

impl Exchange {
    /// Connects when it is first used, from there; what is demanded of servers beyond chain and name is `demand`.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes an HTTP client")]
    pub(super) fn new(
        origin: &Origin,
        tls: &ClientTls,
        limits: Limits,
        clock: Clock,
        demand: Demand,
    ) -> Result<Self, MutualClientError> {
        let (http, unanswered) = (tls.policy.http, Unanswered::default());
        let proof = ProofLayer { demand, http, unanswered: unanswered.clone(), origin: origin.clone() };
        // Defaults are repeated where a changed one would hurt.
        let client = Client::builder()
            .tls_backend_preconfigured(config(tls, clock).map_err(MutualClientError::Tls)?)
            .connector_layer(proof)
            .local_address(origin.fixed())
            .https_only(true)
            // A proxy from the environment would see names, and ours is not to choose by accident.
            .no_proxy()
            // Another address is another destination: a person's decision, never an answer's.
            .redirect(redirect::Policy::none())
            .referer(false)
            // Attempts are counted and kept in the store. What cannot be switched off is the pool's own second try on a
            // reused connection; it happens only when hyper hands the request back, that is when not one byte of it
            // was given to the connection, so a receiver never sees it twice.
            .retry(retry::never())
            .connect_timeout(limits.connect)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true);
        let client = http.set_up(client).build().map_err(MutualClientError::Http)?;
        let (under_way, inside, stopped) = Default::default();
        Ok(Self { client, http, limits, unanswered, under_way, inside, stopped })
    }

    /// The same, until `stopped`: what has not begun to be written by then is not sent.
    pub(super) fn until(self, stopped: CancellationToken) -> Self {
        Self { stopped, ..self }
    }

    /// Sends a request once, and keeps at most so many bytes of the answer's body.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &HttpsUrl,
        headers: HeaderMap,
        body: Bytes,
        kept_bytes_max: usize,
    ) -> Result<Answer, PostError> {
        let is_body_promised = method != Method::HEAD;
        // Whoever is inside has its place before this one, and ends in time.
        let (_inside, ahead) = (self.inside.enter(), self.inside.count());
        let place_by = Instant::now() + self.limits.connect + self.limits.answer * ahead;
        let (body, mut begun) = ReportingBody::new(body, self.http);
        let request = self.client.request(method, url.as_url().clone()).headers(headers).body(Body::wrap(body));
        let mut exchange = pin!(self.exchange(request, is_body_promised, kept_bytes_max));
        loop {
            let why_not = tokio::select! {
                biased;
                outcome = &mut exchange => return outcome.map_err(|error| match (self.http, begun.has_begun()) {
                    (HttpVersion::Http2, false) => error.unbegun(),
                    (HttpVersion::Http2, true) | (HttpVersion::Http11, _) => error,
                }),
                () = &mut begun => break,
                () = self.stopped.cancelled() => PostError::NotSent("whoever sends ends".to_owned()),
                () = tokio::time::sleep(self.limits.connect) => {
                    // A server that allows few requests at once makes the others wait, but not for ever.
                    let what = match self.http {
                        HttpVersion::Http2 if self.under_way.count() > 0 && Instant::now() < place_by => continue,
                        HttpVersion::Http2 => "no connection that takes a request",
                        HttpVersion::Http11 => "no connection",
                    };
                    PostError::Connect(format!("{what} within {:?}", self.limits.connect))
                }
            };
            match begun.give_up() {
                true => return Err(why_not),
                // The connection took it up in this very moment.
                false => break,
            }
        }
        let _counted = self.under_way.enter();
        match tokio::time::timeout(self.limits.answer, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PostError::Timeout(self.limits.answer)),
        }
    }

    async fn exchange(
        &self,
        request: RequestBuilder,
        is_body_promised: bool,
        kept_bytes_max: usize,
    ) -> Result<Answer, PostError> {
        let mut response = request.send().await.map_err(|error| PostError::sending(error, &self.unanswered))?;
        self.unanswered.answered(&response);
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let promised = response.content_length().filter(|_| is_body_promised);
        let mut answer = Answer { status, retry_after, body: Vec::new() };
        let mut bytes_left = ANSWER_BYTES_MAX;
        while let Some(chunk) = response.chunk().await.map_err(PostError::reading)? {
            bytes_left = bytes_left.checked_sub(chunk.len()).ok_or(PostError::AnswerTooLarge)?;
            let room = kept_bytes_max.saturating_sub(answer.body.len());
            answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        let got = ANSWER_BYTES_MAX - bytes_left;
        // By HTTP/2 a server may take back the rest, which is no error of the stream.
        match promised.filter(|promised| u64::try_from(got).is_ok_and(|got| got < *promised)) {
            Some(promised) => Err(PostError::ended_early(got, promised)),
            None => Ok(answer),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes a client's TLS settings")]
pub(super) fn config(tls: &ClientTls, clock: Clock) -> Result<ClientConfig, rustls::Error> {
    let resolver = ProvingResolver(Arc::clone(tls.credentials.certified()));
    let judge = Judge::new(Arc::clone(&tls.roots), Arc::clone(&tls.policy.pins), clock.clone());
    let present = Present { clock, ours: tls.credentials.clone() };
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(present))
        .with_protocol_versions(tls.policy.min_version.versions())?
        .dangerous()
        // It verifies all that is verified otherwise.
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_client_cert_resolver(Arc::new(resolver));
    // A resumed handshake asks for no certificate, and early data goes out before anything is proven.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = tls.policy.http.alpn();
    Ok(config)
}

/// The time by which servers' certificates are judged.
#[derive(Debug)]
struct Present {
    clock: Clock,
    ours: Credentials,
}

impl TimeProvider for Present {
    /// While the clock is not trusted, what had expired when it was right has expired. It may also have been wrong then, and be
    /// right now: our own certificate is of the present.
    fn current_time(&self) -> Option<UnixTime> {
        let (now, mark) = (self.clock.now(), self.clock.distrusted());
        let is_ours_valid = |at| self.ours.validity_at(at) == Validity::Valid;
        let time = mark.filter(|mark| is_ours_valid(*mark) || !is_ours_valid(now)).unwrap_or(now);
        Some(UnixTime::since_unix_epoch(time.since(Timestamp::default())))
    }
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    (text.len() <= RETRY_AFTER_BYTES_MAX).then(|| text.to_owned())
}
