//! Postern as a whole, over real sockets and real TLS. The modules are the table of contents.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cli;
mod delivery;
mod demo;
mod hold;
mod inlet;
mod profiles;
mod published;
mod restart;
mod secrets;
mod support;
mod tls;
