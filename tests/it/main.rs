//! Postern as a whole, over real sockets and real TLS. The modules are the table of contents.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bad_disk;
mod cert;
mod certificates;
mod certs;
mod cli;
mod clock;
mod config;
mod damage;
mod delivery;
mod demo;
mod disk_full;
mod faults;
mod format;
mod hold;
mod init;
mod inlet;
mod memory;
mod notify;
mod openapi;
mod operate;
mod operations;
mod outage;
mod outcomes;
mod package;
mod peers;
mod probe;
mod profiles;
mod published;
mod reload;
mod restart;
mod rotation;
mod secrets;
mod store;
mod support;
mod tls;
