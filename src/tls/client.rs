//! The only HTTP client that exports go through: each of its connections is mutual TLS, or is dropped.

use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};
use tokio_util::sync::CancellationToken;

/// What is set on each connection; the probe sets the same.
pub(super) use super::exchange::config;
use super::{
    ClientTls, HttpsUrl, Origin, PostError,
    exchange::{ANSWER_BYTES_MAX, Answer, Exchange, Limits, MutualClientError},
    proof::Demand,
};
use crate::{clock::Clock, token::TokenRequest};

/// Bytes kept of an answer's body: enough for the sentence by which a receiver says what it does not like.
const KEPT_BYTES_MAX: usize = 1024;

/// POSTs over mutual TLS. Clones share connections.
#[derive(Clone, Debug)]
pub struct MutualClient(Exchange);

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
    pub fn sending_from(
        origin: &Origin,
        tls: &ClientTls,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, MutualClientError> {
        Exchange::new(origin, tls, limits, clock, Demand::AsksForOurs).map(Self)
    }

    /// The same, until `stopped`: a request that has not begun to be written by then is not sent.
    #[must_use]
    pub fn until(self, stopped: CancellationToken) -> Self {
        Self(self.0.until(stopped))
    }

    /// Sends a body once and returns what was answered, whatever the status, with at most 1 KiB of the answer's body. Dropping
    /// the future gives the request up and closes its connection.
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
        self.0.send(method, url, headers, body, KEPT_BYTES_MAX).await
    }

    /// Asks for a token, and keeps at most 64 KiB of the answer's body.
    ///
    /// # Errors
    /// As [`MutualClient::post`].
    pub async fn ask(&self, url: &HttpsUrl, request: TokenRequest) -> Result<Answer, PostError> {
        let (headers, form) = request.into_parts();
        self.0.send(Method::POST, url, headers, form, ANSWER_BYTES_MAX).await
    }
}
