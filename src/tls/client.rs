//! The only HTTP client there is: each of its connections is mutual TLS, or is dropped.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Body, Client, Method, RequestBuilder,
    header::{HeaderMap, RETRY_AFTER},
    redirect, retry,
};
use rustls::{ClientConfig, client::Resumption, pki_types::UnixTime, time_provider::TimeProvider};

use super::{
    ClientTls, Credentials, HttpsUrl, Origin, PostError, Validity,
    policy::Pinned,
    proof::{ProofLayer, ProvingResolver},
    provider,
    unanswered::Unanswered,
    writing::ReportingBody,
};
use crate::clock::{Clock, Timestamp};

/// How long an unused connection is kept. Shorter than what receivers commonly allow (Apache and Node close at 5 s), so
/// that we close first and a request seldom meets a connection that is just going away. A new handshake costs less.
const IDLE: Duration = Duration::from_secs(4);

/// Most bytes of an answer's body that are read, and dropped: only the status counts. Small answers are read to the end
/// because the connection can be used again only then; more than this is a fault or a flood.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most header lines of an answer. Their bytes are bounded by the connection's read buffer, 417,792 bytes in hyper 1.
const ANSWER_HEADERS_MAX: usize = 100;

/// Longest `Retry-After` passed on, in bytes. A date has 29; what is longer is neither a date nor a sensible number.
const RETRY_AFTER_BYTES_MAX: usize = 64;

/// POSTs over mutual TLS. Clones share connections.
#[derive(Clone, Debug)]
pub struct MutualClient {
    http: Client,
    limits: Limits,
    unanswered: Unanswered,
}

/// How long a POST may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For name, TCP and TLS together, until the request begins to be written.
    pub connect: Duration,
    /// For the whole answer, from the moment the request begins to be written.
    pub answer: Duration,
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it came, if it is text of a sensible length.
    pub retry_after: Option<String>,
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

impl MutualClient {
    /// A client with our certificate and roots, which judges servers by this clock. It connects when it first posts.
    ///
    /// # Errors
    /// When the libraries refuse the settings, which no certificate or file can cause.
    pub fn new(tls: &ClientTls, limits: Limits, clock: Clock) -> Result<Self, MutualClientError> {
        Self::sending_from(&Origin::default(), tls, limits, clock)
    }

    /// As [`MutualClient::new`], from an address of ours.
    ///
    /// # Errors
    /// As [`MutualClient::new`].
    #[expect(clippy::disallowed_methods, reason = "the one place that makes an HTTP client")]
    pub fn sending_from(
        origin: &Origin,
        tls: &ClientTls,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, MutualClientError> {
        let unanswered = Unanswered::default();
        // Defaults are repeated where a changed one would hurt.
        let http = Client::builder()
            .tls_backend_preconfigured(config(tls, clock).map_err(MutualClientError::Tls)?)
            .connector_layer(ProofLayer { unanswered: unanswered.clone(), origin: origin.clone() })
            .local_address(origin.fixed())
            .https_only(true)
            .http1_only()
            .http1_max_headers(ANSWER_HEADERS_MAX)
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
            .tcp_nodelay(true)
            .build()
            .map_err(MutualClientError::Http)?;
        Ok(Self { http, limits, unanswered })
    }

    /// Sends a body once and returns what was answered, whatever the status. Dropping the future gives the request up
    /// and closes its connection.
    ///
    /// # Errors
    /// When there is no whole answer within the limits; see [`PostError`] for what that says of the request.
    pub async fn post(&self, url: &HttpsUrl, headers: HeaderMap, body: Bytes) -> Result<Answer, PostError> {
        self.send(Method::POST, url, headers, body).await
    }

    /// As [`MutualClient::post`], by another method.
    ///
    /// # Errors
    /// As [`MutualClient::post`].
    pub async fn send(
        &self,
        method: Method,
        url: &HttpsUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, PostError> {
        let (body, begun) = ReportingBody::new(body);
        let request = self.http.request(method, url.as_url().clone()).headers(headers).body(Body::wrap(body));
        let mut exchange = pin!(self.exchange(request));
        tokio::select! {
            biased;
            outcome = &mut exchange => return outcome,
            _ = begun => {}
            () = tokio::time::sleep(self.limits.connect) => {
                return Err(PostError::Connect(format!("no connection within {:?}", self.limits.connect)));
            }
        }
        match tokio::time::timeout(self.limits.answer, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PostError::Timeout(self.limits.answer)),
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Answer, PostError> {
        let mut response = request.send().await.map_err(|error| PostError::sending(error, &self.unanswered))?;
        self.unanswered.answered(&response);
        let answer = Answer { status: response.status().as_u16(), retry_after: retry_after(response.headers()) };
        let mut bytes_left = ANSWER_BYTES_MAX;
        while let Some(chunk) = response.chunk().await.map_err(PostError::reading)? {
            bytes_left = bytes_left.checked_sub(chunk.len()).ok_or(PostError::AnswerTooLarge)?;
        }
        Ok(answer)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes a client's TLS settings")]
fn config(tls: &ClientTls, clock: Clock) -> Result<ClientConfig, rustls::Error> {
    let resolver = ProvingResolver(Arc::clone(tls.credentials.certified()));
    let (present, roots) = (Present { clock, ours: tls.credentials.clone() }, Arc::clone(&tls.roots));
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(present))
        .with_protocol_versions(tls.policy.min_version.versions())?;
    let builder = match tls.policy.pins.is_empty() {
        true => builder.with_root_certificates(roots),
        // It verifies all that is verified otherwise, and the pins.
        false => {
            let pinned = Pinned::new(roots, Arc::clone(&tls.policy.pins));
            builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
        }
    };
    let mut config = builder.with_client_cert_resolver(Arc::new(resolver));
    // A resumed handshake asks for no certificate, and early data goes out before anything is proven.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
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
