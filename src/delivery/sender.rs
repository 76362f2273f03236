//! POSTs exports with one pair of ours.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::ExposeSecret;

use super::{CONNECT_TIMEOUT, verdict};
use crate::{
    clock::Clock,
    destination::{Authentication, Destination, Query, Unreachable},
    export::{Fault, Outcome},
    store::Claim,
    tls::{ClientTls, Fingerprint, HttpsUrl, Limits, MutualClient, MutualClientError, Origin},
};

/// How often a request that was certainly not processed is sent again at once.
const UNPROCESSED_MAX: u32 = 3;

/// What a POST needs. Clones share connections.
#[derive(Clone)]
pub(super) struct Sender {
    /// Grows with each new pair.
    pub(super) number: u64,
    pub(super) client: MutualClient,
    pub(super) tls: ClientTls,
    limits: Limits,
    clock: Clock,
    pub(super) origin: Origin,
    unreachable: Unreachable,
    pub(super) endpoint: Arc<HttpsUrl>,
    pub(super) headers: HeaderMap,
}

/// A POST that ended: the claim, by which sender it went, what it met, and more words for it where an error has some.
pub(super) struct Ended {
    pub(super) claim: Claim,
    pub(super) sender: u64,
    pub(super) outcome: Outcome,
    pub(super) detail: Option<String>,
}

impl Sender {
    /// With the pair of the destination.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(super) fn new(destination: &Destination, clock: Clock) -> Result<Self, MutualClientError> {
        let limits = Limits { connect: CONNECT_TIMEOUT, answer: destination.timeout };
        let origin = Origin::new(destination.local_address);
        Ok(Self {
            number: 0,
            client: MutualClient::sending_from(&origin, &destination.tls, limits, clock.clone())?,
            tls: destination.tls.clone(),
            limits,
            clock,
            origin,
            unreachable: destination.unreachable,
            endpoint: Arc::new(target(destination)),
            headers: headers(destination),
        })
    }

    /// The same with another pair.
    pub(super) fn with(&self, tls: ClientTls, number: u64) -> Result<Self, MutualClientError> {
        let client = MutualClient::sending_from(&self.origin, &tls, self.limits, self.clock.clone())?;
        Ok(Self { number, client, tls, ..self.clone() })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.tls.credentials().fingerprint()
    }

    pub(super) fn is_usable(&self) -> bool {
        self.tls.credentials().is_usable_by(&self.clock)
    }

    /// POSTs an export, at most a few times over where it was certainly not processed.
    pub(super) async fn send(self, claim: Claim) -> Ended {
        let sender = self.number;
        if !self.is_usable() {
            // Every receiver would have to refuse it, so the POST is not made.
            return Ended { claim, sender, outcome: Outcome::Fault(Fault::CertificateNotValid), detail: None };
        }
        let mut headers = self.headers;
        let key = HeaderValue::try_from(claim.export.id.to_string()).expect("a UUID is a header value");
        headers.insert("idempotency-key", key);
        for _ in 0..=UNPROCESSED_MAX {
            let result = self.client.post(&self.endpoint, headers.clone(), claim.body.clone()).await;
            let detail = result.as_ref().err().map(|error| crate::chain(error));
            if let Some(outcome) = verdict::outcome(result) {
                let outcome = verdict::with_unreachable(self.unreachable, outcome);
                return Ended { claim, sender, outcome, detail };
            }
        }
        // Never written, so no fault of the export: the receiver closes its connections at once.
        let detail = format!("not processed {} times in a row", UNPROCESSED_MAX + 1);
        Ended { claim, sender, outcome: Outcome::Fault(Fault::Closed), detail: Some(detail) }
    }
}

/// Where exports go: the endpoint with what is added to its query.
fn target(Destination { endpoint, query, .. }: &Destination) -> HttpsUrl {
    let with = |query: &Query| endpoint.with_query(query.expose()).expect("it is a URL, checked by the configuration");
    query.as_ref().map_or_else(|| endpoint.clone(), with)
}

/// The headers that every export has.
fn headers(Destination { headers: added, authentication, .. }: &Destination) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION"))));
    headers.extend(added.clone());
    match authentication {
        Authentication::None => {}
        Authentication::Bearer(token) => {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .expect("a token is a legal header value, checked by the configuration");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    headers
}
