//! Nothing leaves but over mutual TLS, and what a POST met is told apart.

mod credentials;
mod outcome;
mod policy;
mod proof;

use std::time::Duration;

use bytes::Bytes;
use postern::{
    clock::Clock,
    tls::{Answer, ClientTls, HttpsUrl, Limits, MutualClient, PostError},
};
use reqwest::header::{HeaderMap, HeaderValue};

use crate::support::{pki::Pki, receiver::Receiver};

/// Generous, so that a busy machine does not decide a test; tests about time set their own.
const LIMITS: Limits = Limits { connect: Duration::from_secs(10), answer: Duration::from_secs(10) };

fn client(tls: &ClientTls) -> MutualClient {
    MutualClient::new(tls, LIMITS, Clock::system()).unwrap()
}

/// Sends an export as delivery does: again at once, at most three times, if it was not sent.
async fn post_to(client: &MutualClient, url: &str) -> Result<Answer, PostError> {
    let url = HttpsUrl::parse(url).unwrap();
    let headers = HeaderMap::from_iter([
        ("idempotency-key".parse().unwrap(), HeaderValue::from_static("0193-export")),
        ("authorization".parse().unwrap(), HeaderValue::from_static("Bearer s3cret-token")),
    ]);
    let body = Bytes::from_static(br#"{"profile":"s3cret-body"}"#);
    for _ in 0..3 {
        match client.post(&url, headers.clone(), body.clone()).await {
            Err(PostError::NotSent(_)) => {}
            outcome => return outcome,
        }
    }
    client.post(&url, headers, body).await
}

async fn post(client: &MutualClient, receiver: &Receiver) -> Result<Answer, PostError> {
    post_to(client, &receiver.url()).await
}

/// A POST by the good client.
async fn good_post(pki: &Pki, receiver: &Receiver) -> Result<Answer, PostError> {
    post(&client(&pki.client_tls()), receiver).await
}
