//! POSTs exports with one pair of ours.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT},
};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::{
    CONNECT_TIMEOUT, echo,
    pace::{self, Pace},
    tokens::{Landed, Tokens},
    verdict,
};
use crate::{
    clock::Clock,
    destination::{Authentication, Batching, Destination, Format, Query},
    export::{Excerpt, Fault, Outcome},
    store::{Batch, Store},
    tls::{Answer, ClientTls, Fingerprint, HttpsUrl, Limits, MutualClient, MutualClientError, Origin, PostError},
    token::{Refusal, TokenFault},
};

/// How often a request that was certainly not processed is sent again at once.
pub(super) const UNPROCESSED_MAX: u32 = 3;

/// What a POST needs; shared by all that go out at a time.
pub(super) struct Sender {
    /// Grows with each new pair.
    pub(super) number: u64,
    client: MutualClient,
    tokens: Option<Tokens>,
    /// Ends what waits for a token, with whichever pair.
    stopped: CancellationToken,
    /// How fast POSTs may go, with whichever pair.
    pub(super) pace: Option<pace::Shared>,
    pub(super) tls: ClientTls,
    pub(super) origin: Origin,
    destination: Arc<Destination>,
    clock: Clock,
    endpoint: HttpsUrl,
    headers: HeaderMap,
    /// Values of headers and parameters that may be secrets.
    values: Vec<Vec<u8>>,
}

/// A POST that ended: its exports, by which sender they went, and what they met.
pub(super) struct Ended {
    pub(super) batch: Batch,
    pub(super) sender: u64,
    /// `None` when they were not sent: the worker ended, or the store failed before.
    pub(super) met: Option<Met>,
}

/// Why a request was not sent: whoever wanted it sent ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped;

/// What a request met.
pub(super) struct Met {
    /// The status, if it was answered.
    pub(super) status: Option<u16>,
    /// What that means; a fault of the destination, should that go on, when it was certainly not processed.
    pub(super) outcome: Result<Outcome, Fault>,
    /// More words for it where an error has some.
    pub(super) detail: Option<String>,
    /// The beginning of the answer, unless it was delivered.
    pub(super) answer: Excerpt,
}

impl Sender {
    /// With the pair of the destination.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(super) fn new(destination: &Destination, clock: Clock) -> Result<Arc<Self>, MutualClientError> {
        let origin = Origin::new(destination.local_address);
        let pace = destination.max_rate.map(|rate| pace::Shared::new(Pace::new(rate, clock.now())));
        let shared = (origin, CancellationToken::new(), pace);
        Self::build(Arc::new(destination.clone()), shared, destination.tls.clone(), 1, clock)
    }

    /// The same with another pair, and a token of its own.
    pub(super) fn with(&self, tls: ClientTls, number: u64) -> Result<Arc<Self>, MutualClientError> {
        let shared = (self.origin.clone(), self.stopped.clone(), self.pace.clone());
        Self::build(Arc::clone(&self.destination), shared, tls, number, self.clock.clone())
    }

    fn build(
        destination: Arc<Destination>,
        (origin, stopped, pace): (Origin, CancellationToken, Option<pace::Shared>),
        tls: ClientTls,
        number: u64,
        clock: Clock,
    ) -> Result<Arc<Self>, MutualClientError> {
        let limits = Limits { connect: CONNECT_TIMEOUT, answer: destination.timeout };
        let client = MutualClient::sending_from(&origin, &tls, limits, clock.clone())?.until(stopped.clone());
        let tokens = match &destination.authentication {
            Authentication::OAuth2(oauth2) => Some(Tokens::new(&destination, oauth2, &tls, clock.clone())?),
            Authentication::None | Authentication::Bearer(_) => None,
        };
        let (endpoint, headers) = (target(&destination), headers(&destination));
        let values = values(&destination);
        let sender =
            Self { number, client, tokens, stopped, pace, tls, origin, destination, clock, endpoint, headers, values };
        Ok(Arc::new(sender))
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.tls.credentials().fingerprint()
    }

    pub(super) fn is_usable(&self) -> bool {
        self.tls.credentials().is_usable_by(&self.clock)
    }

    /// Ends what waits for a token, now and later: that may take longer than an end has time for.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    /// POSTs exports as one request, at most a few times over where it was certainly not processed. Where they may go together
    /// the store keeps them so first: after a crash they go out again as they were.
    pub(super) async fn send(self: Arc<Self>, mut batch: Batch, store: Option<Store>) -> Ended {
        let sender = self.number;
        if let Some((store, format)) = store.zip(self.format())
            && store.keep_together(&mut batch, format).await.is_err()
        {
            return Ended { batch, sender, met: None };
        }
        let met = self.deliver(&batch).await.ok();
        Ended { batch, sender, met }
    }

    fn format(&self) -> Option<Format> {
        self.destination.batch.map(|Batching { format, .. }| format)
    }

    fn body(&self, batch: &Batch) -> Bytes {
        match self.format() {
            Some(format) => format.join(batch.claims().iter().map(|claim| claim.body.as_ref())),
            None => batch.first().body.clone(),
        }
    }

    async fn deliver(&self, batch: &Batch) -> Result<Met, Stopped> {
        if !self.is_usable() {
            // Every receiver would have to refuse it, so the POST is not made.
            return Ok(Met::fault(Fault::CertificateNotValid, None));
        }
        let key = HeaderValue::try_from(batch.id().to_string()).expect("a UUID is a header value");
        let body = self.body(batch);
        let headers = || {
            let mut headers = self.headers.clone();
            headers.insert("idempotency-key", key.clone());
            headers
        };
        let mut met = self.request(Method::POST, headers(), body.clone()).await?;
        for _ in 0..UNPROCESSED_MAX {
            if met.outcome.is_ok() {
                break;
            }
            if self.stopped.is_cancelled() {
                return Err(Stopped);
            }
            self.turn().await?;
            met = self.request(Method::POST, headers(), body.clone()).await?;
        }
        Ok(match met.outcome {
            Ok(outcome) => {
                let outcome = verdict::with_unreachable(self.destination.unreachable, outcome);
                Met { outcome: Ok(outcome), ..met }
            }
            Err(_) if self.stopped.is_cancelled() => return Err(Stopped),
            Err(fault) => {
                let why = met.detail.unwrap_or_default();
                Met::fault(fault, Some(format!("not processed {} times in a row: {why}", UNPROCESSED_MAX + 1)))
            }
        })
    }

    /// Sends a request that holds nothing of anybody; a body stands in it as an export would.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(super) async fn test(&self, method: Method, body: Option<&'static [u8]>) -> Result<Met, Stopped> {
        let body = match (body, self.format()) {
            (None, _) => Bytes::new(),
            (Some(body), None) => Bytes::from_static(body),
            (Some(body), Some(format)) => format.join(std::iter::once(body)),
        };
        self.request(method, self.headers.clone(), body).await
    }

    /// Sends a request once, with a token where the destination wants one: once more with a fresh one, if the first meets 401.
    async fn request(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Met, Stopped> {
        let Some(tokens) = &self.tokens else {
            let token = headers.get(AUTHORIZATION).cloned();
            let result = self.client.send(method, &self.endpoint, headers, body).await;
            return Ok(Met::of(result, token.as_ref(), &self.values));
        };
        let ticket = match self.token(tokens).await? {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(Met::refusal(refusal)),
        };
        let result = self.send_as(&ticket.authorization, method.clone(), headers.clone(), body.clone()).await;
        if !is_unauthorized(&result) {
            return Ok(Met::of(result, Some(&ticket.authorization), &self.values));
        }
        tokens.discard(&ticket);
        let fresh = match self.token(tokens).await? {
            Ok(fresh) => fresh,
            Err(refusal) => return Ok(Met::refusal(refusal)),
        };
        let result = self.send_as(&fresh.authorization, method, headers, body).await;
        let unauthorized = is_unauthorized(&result);
        let met = Met::of(result, Some(&fresh.authorization), &self.values);
        if !unauthorized {
            return Ok(met);
        }
        tokens.not_accepted();
        Ok(Met { outcome: Ok(Outcome::Fault(Fault::Token(TokenFault::NotAccepted))), ..met })
    }

    /// Waits until another POST may go by the destination's pace.
    async fn turn(&self) -> Result<(), Stopped> {
        let Some(pace) = &self.pace else { return Ok(()) };
        while let Some(next) = pace.take(self.clock.now()) {
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                () = self.stopped.cancelled() => return Err(Stopped),
            }
        }
        Ok(())
    }

    async fn token(&self, tokens: &Tokens) -> Result<Landed, Stopped> {
        tokio::select! {
            biased;
            landed = tokens.token() => Ok(landed),
            () = self.stopped.cancelled() => Err(Stopped),
        }
    }

    async fn send_as(
        &self,
        authorization: &HeaderValue,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, PostError> {
        headers.insert(AUTHORIZATION, authorization.clone());
        self.client.send(method, &self.endpoint, headers, body).await
    }
}

impl Met {
    fn of(result: Result<Answer, PostError>, authorization: Option<&HeaderValue>, values: &[Vec<u8>]) -> Self {
        let outcome = verdict::outcome(&result);
        match result {
            Err(error) => {
                Self { status: None, outcome, detail: Some(crate::chain(&error)), answer: Excerpt::default() }
            }
            Ok(Answer { status, body, .. }) => {
                let answer = match &outcome {
                    Ok(Outcome::Delivered(_)) => Excerpt::default(),
                    _ => Excerpt::of(&echo::without(body, authorization.map(HeaderValue::as_bytes), values)),
                };
                Self { status: Some(status), outcome, detail: None, answer }
            }
        }
    }

    fn fault(fault: Fault, detail: Option<String>) -> Self {
        Self { status: None, outcome: Ok(Outcome::Fault(fault)), detail, answer: Excerpt::default() }
    }

    fn refusal(Refusal { fault, detail }: Refusal) -> Self {
        Self::fault(Fault::Token(fault), Some(detail))
    }
}

fn is_unauthorized(result: &Result<Answer, PostError>) -> bool {
    result.as_ref().is_ok_and(|answer| answer.status == 401)
}

/// Where exports go: the endpoint with what is added to its query.
fn target(Destination { endpoint, query, .. }: &Destination) -> HttpsUrl {
    let with = |query: &Query| endpoint.with_query(query.expose()).expect("it is a URL, checked by the configuration");
    query.as_ref().map_or_else(|| endpoint.clone(), with)
}

/// What was set as values of headers and parameters, as it is sent and as it was meant.
fn values(Destination { headers, query, .. }: &Destination) -> Vec<Vec<u8>> {
    let headers = headers.values().map(|value| value.as_bytes().to_vec());
    let text = query.as_ref().map(Query::expose).unwrap_or_default();
    let sent = text.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.as_bytes().to_vec());
    let meant = form_urlencoded::parse(text.as_bytes()).map(|(_, value)| value.into_owned().into_bytes());
    headers.chain(sent).chain(meant).collect()
}

/// The headers that every request has.
fn headers(Destination { headers: added, authentication, batch, .. }: &Destination) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let content_type = batch.map_or("application/json", |batch| batch.format.content_type());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION"))));
    headers.extend(added.clone());
    match authentication {
        // A token that is asked for comes with each request.
        Authentication::None | Authentication::OAuth2(_) => {}
        Authentication::Bearer(token) => {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .expect("a token is a legal header value, checked by the configuration");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    headers
}
