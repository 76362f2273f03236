//! Which connections have not answered anything yet.
//!
//! A connection that closes before its first answer speaks of the destination (it may be how a certificate is refused);
//! one that closes later is plainly lost. The request cannot tell: a connection may be dialled for one request, wait in
//! the pool, and carry another.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hyper_util::client::legacy::connect::{Connected, HttpInfo};
use reqwest::Response;

/// Most connections remembered. They go when they answer or fail; left over are those that close unused in the pool, and those of HTTP/2
/// that failed.
/// At this number any one is forgotten, which makes its close count as a lost connection.
const CONNECTIONS_MAX: usize = 1024;

/// The connections of one client without an answer so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Unanswered(Arc<Mutex<HashSet<Ends>>>);

/// Our address and the peer's: no two connections at a time have both the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends(SocketAddr, SocketAddr);

impl Unanswered {
    /// A connection is there.
    pub(super) fn insert(&self, connection: &Connected) {
        let Some(ends) = Ends::of(connection) else { return };
        let mut unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unanswered.len() >= CONNECTIONS_MAX
            && let Some(any) = unanswered.iter().next().copied()
        {
            unanswered.remove(&any);
        }
        unanswered.insert(ends);
    }

    /// A connection has answered.
    pub(super) fn answered(&self, response: &Response) {
        if let Some(info) = response.extensions().get::<HttpInfo>() {
            self.remove(&Ends::from(info));
        }
    }

    /// A connection failed. Says whether it went without ever answering: to each of those whose requests shared it.
    pub(super) fn failed(&self, connection: &Connected) -> bool {
        let Some(ends) = Ends::of(connection) else { return false };
        match connection.is_negotiated_h2() {
            true => self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&ends),
            false => self.remove(&ends),
        }
    }

    fn remove(&self, ends: &Ends) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(ends)
    }
}

impl Ends {
    fn of(connection: &Connected) -> Option<Self> {
        let mut extras = hyper::http::Extensions::new();
        connection.get_extras(&mut extras);
        extras.get::<HttpInfo>().map(Self::from)
    }
}

impl From<&HttpInfo> for Ends {
    fn from(info: &HttpInfo) -> Self {
        Self(info.local_addr(), info.remote_addr())
    }
}
