//! Proves a server's TLS from outside: what delivery would meet there, and what anybody without our certificate would.
//!
//! # How it looks
//! Each connection has one question, is bounded in time and bytes, and is the only one at a time:
//! 1. TLS 1.3 *without* our certificate. It tells whether the server asks, whom it names as authorities, its chain, and
//!    whether it takes a client that shows nothing. Every server is let through here, because this is how a bad one is
//!    seen; so our certificate is never at hand, and nothing is sent but a HEAD request without headers of ours.
//! 2. With the very settings that delivery has, if the server asks and its chain and name verify: whether our certificate is
//!    accepted.
//! 3. TLS 1.2 as in 1: delivery would not use it, others might.
//! 4. What TLS libraries of today no longer speak (1.1, 1.0, SSL 3.0, and the old suites of 1.2): a ClientHello of our
//!    own, and the first record of the answer.
//!
//! What was seen is a value (`observed`); what it means is a pure function of it (`judge`, and in words `findings`).
//!
//! # What is never sent
//! Profile data, the `Authorization` header, and the endpoint's query, which may hold a key. A server that does not verify
//! learns not even the path.

mod dial;
mod findings;
mod head;
mod hello;
mod judge;
mod looking;
mod observed;
mod report;
mod tap;
mod target;

use std::{sync::Arc, time::Duration};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use self::{
    dial::Line,
    hello::{Hello, OLD_VERSIONS},
    looking::Looking,
    observed::{Broken, Exchange, Look, Observed, Ours, Reached},
};
pub use self::{
    report::{Accepts, Delivers, Finding, Report, Requires, ServerCertificate, Severity, TlsVersion, VersionSeen},
    target::{NotATarget, Place, Target, TrustedRoots},
};
use super::{ClientTls, HttpVersion, client, roots};
use crate::clock::{Clock, Timestamp};

/// Why there is no chain of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChain {
    /// The name does not resolve, or nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// TLS did not come so far.
    #[error("the server shows no certificate: {0}")]
    Handshake(String),
}

/// Looks at a server and says what delivery would do there. Each of at most eight connections may take `timeout`.
pub async fn probe(target: &Target, timeout: Duration, now: Timestamp) -> Report {
    judge::judge(target.place.to_string(), &observe(target, timeout, now).await, now)
}

/// The server's chain as it shows it, in DER, whether or not it verifies.
///
/// # Errors
/// [`NoChain`].
pub async fn chain_of(place: &Place, timeout: Duration) -> Result<Vec<Vec<u8>>, NoChain> {
    let name = place.name().map_err(|error| NoChain::Unreachable(error.to_string()))?;
    let line = Line::connect(place, timeout, HttpVersion::Http11).await.map_err(NoChain::Unreachable)?;
    let roots = Arc::new(roots::public());
    // Either will do: nothing is spoken.
    let looking = Looking::new(&[&TLS13, &TLS12], &roots, &[HttpVersion::Http11, HttpVersion::Http2]);
    let handshake = line.handshake(looking.settings(), &name).await;
    match (looking.seen().chain, handshake) {
        (chain, _) if !chain.is_empty() => Ok(chain),
        (_, Err(broken)) => Err(NoChain::Handshake(broken.to_string())),
        (_, Ok(_)) => Err(NoChain::Handshake("the handshake was done without one".to_owned())),
    }
}

async fn observe(target: &Target, timeout: Duration, now: Timestamp) -> Observed {
    let line = match Line::connect(&target.place, timeout, target.http()).await {
        Ok(line) => line,
        Err(why) => return Observed::Unreachable(why),
    };
    let tls13 = look(target, &line, &TLS13).await;
    let mut reached = Reached {
        address: line.address(),
        addresses: line.addresses(),
        tls13,
        tls12: None,
        ours: None,
        old: Vec::new(),
        old_suites: None,
    };
    // Whoever does not speak TLS, or says nothing, would do the same again.
    if matches!(reached.tls13.handshake, Err(Broken::NotTls(_) | Broken::Silent)) {
        return Observed::Reached(Box::new(reached));
    }
    if let Some(tls) = &target.ours {
        reached.ours = Some(ours(target, tls, &line, &reached.tls13, now).await);
    }
    let tls12 = look(target, &line, &TLS12).await;
    if !tls12.is_taken() {
        reached.old_suites = Some(line.hello(&Hello::old_suites(&target.name)).await);
    }
    reached.tls12 = Some(tls12);
    for version in OLD_VERSIONS {
        reached.old.push((version, line.hello(&Hello::old(version, &target.name)).await));
    }
    Observed::Reached(Box::new(reached))
}

/// Connects without our certificate, whoever the server is.
async fn look(target: &Target, line: &Line, version: &'static SupportedProtocolVersion) -> Look {
    let looking = Looking::new(&[version], &target.roots, &[target.http()]);
    let mut stream = match line.handshake(looking.settings(), &target.name).await {
        Ok(stream) => stream,
        Err(broken) => return Look { handshake: Err(broken), seen: looking.seen(), answer: None, asked_later: false },
    };
    let seen = looking.seen();
    let path = if seen.is_trusted() { target.path.as_str() } else { "/" };
    let answer = Some(stream.ask(&target.host(), path).await);
    Look { handshake: Ok(()), seen, answer, asked_later: stream.is_handshake_asked_again() }
}

/// Connects as delivery does, if delivery would come so far.
async fn ours(target: &Target, tls: &ClientTls, line: &Line, look: &Look, now: Timestamp) -> Ours {
    let credentials = tls.credentials();
    let certified = credentials.certified();
    let asked = look.seen.asked.as_ref();
    let exchange = match look.handshake.is_ok() && look.seen.is_trusted() && asked.is_some() {
        true => Some(as_delivery(target, tls, line, now).await),
        false => None,
    };
    Ours {
        validity: credentials.validity_at(now),
        leads_to_authority: asked.and_then(|asked| observed::leads_to(&certified.cert, &asked.authorities)),
        can_sign: asked.is_none_or(|asked| certified.key.choose_scheme(&asked.schemes).is_some()),
        exchange,
    }
}

async fn as_delivery(target: &Target, tls: &ClientTls, line: &Line, now: Timestamp) -> Exchange {
    let settings = match client::config(tls, Clock::manual(now)) {
        Ok(settings) => Arc::new(settings),
        Err(error) => return Exchange { handshake: Err(Broken::Other(error.to_string())), answer: None },
    };
    match line.handshake(settings, &target.name).await {
        Ok(mut stream) => Exchange { handshake: Ok(()), answer: Some(stream.ask(&target.host(), &target.path).await) },
        Err(broken) => Exchange { handshake: Err(broken), answer: None },
    }
}

#[cfg(test)]
mod judge_tests;
