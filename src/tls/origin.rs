//! The addresses that a client sends from: what a receiver's allow list has to know.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hyper_util::client::legacy::connect::{Connected, HttpInfo};

/// Most addresses remembered: a machine that has more of its own is told from its routes, not from here.
const ADDRESSES_MAX: usize = 16;

/// From which of our addresses connections are made, and from which they were. Clones share what they have seen.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    fixed: Option<IpAddr>,
    seen: Arc<Mutex<BTreeSet<IpAddr>>>,
}

impl Origin {
    /// Connections are made from this address; from whichever the system chooses when there is none.
    pub fn new(fixed: Option<IpAddr>) -> Self {
        Self { fixed, seen: Arc::default() }
    }

    /// The address that was set.
    pub(super) fn fixed(&self) -> Option<IpAddr> {
        self.fixed
    }

    /// A connection is there.
    pub(super) fn note(&self, connection: &Connected) {
        let mut extras = hyper::http::Extensions::new();
        connection.get_extras(&mut extras);
        let Some(info) = extras.get::<HttpInfo>() else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < ADDRESSES_MAX {
            seen.insert(info.local_addr().ip());
        }
    }

    /// The address that was set, or those that connections had so far.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.fixed {
            Some(address) => vec![address],
            None => self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect(),
        }
    }
}
