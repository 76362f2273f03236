//! Asks for tokens where a server need not want our certificate.

use reqwest::Method;

use super::{
    ClientTls, HttpsUrl, Origin, PostError,
    exchange::{ANSWER_BYTES_MAX, Answer, Exchange, Limits, MutualClientError},
    proof::Demand,
};
use crate::{clock::Clock, token::TokenRequest};

/// Asks for tokens over connections whose server's chain and name verify, and which offer our certificate to one that asks.
/// It sends [`TokenRequest`]s and nothing else, so nothing of a profile can go this way. Clones share connections.
#[derive(Clone, Debug)]
pub struct OfferingClient(Exchange);

impl OfferingClient {
    /// A client with our certificate and roots, from an address of ours, which judges servers by this clock.
    ///
    /// # Errors
    /// When the libraries refuse the settings, which no certificate or file can cause.
    pub fn sending_from(
        origin: &Origin,
        tls: &ClientTls,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, MutualClientError> {
        Exchange::new(origin, tls, limits, clock, Demand::MayAskForOurs).map(Self)
    }

    /// Asks once, and keeps at most 64 KiB of the answer's body.
    ///
    /// # Errors
    /// When there is no whole answer within the limits.
    pub async fn ask(&self, url: &HttpsUrl, request: TokenRequest) -> Result<Answer, PostError> {
        let (headers, form) = request.into_parts();
        self.0.send(Method::POST, url, headers, form, ANSWER_BYTES_MAX).await
    }
}
