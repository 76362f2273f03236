//! Postern takes profile updates in over HTTP, keeps profiles and a durable outbound queue on its own disk, decides which
//! changes matter to which destination, and exports those over mutual TLS.
//!
//! # What one must know
//!
//! - An update is answered 2xx only when the profile and every export it causes are on disk, committed as one.
//! - No profile data is written to a connection that is not mutual TLS. There is no switch.
//! - An export has three attempts. What is not its fault is not charged to it: the destination is held, and it waits.
//! - What a receiver sees of one profile is never older than what it saw before.
//!
//! # The way of an update
//!
//! ```text
//! HTTP -> inlet -> pipeline -> store --(due)--> delivery -> tls::MutualClient -> destination
//!                   |   ^ pure: profile, audience, trigger, export                |
//!                   v   |                                                         v
//!                 decide(before) -> Change                     outcome -> gate -> settle(claim)
//! ```
//!
//! The inlet and delivery do not know each other; they meet in the store. Nothing calls upward: the store is handed a pure
//! `decide` and commits what it returns. The modules, in the order the data takes:
//!
//! | module | what it is for |
//! |---|---|
//! | [`inlet`] | updates come in: routes, wire formats |
//! | [`pipeline`] | one update through: merge, memberships, exports |
//! | [`profile`] | who someone is: identities, fragments, memberships |
//! | [`audience`] | who belongs where: the rule language |
//! | [`trigger`] | which changes make an export follow |
//! | [`coalesce`] | which exports may take the place of an older one |
//! | [`walk`] | going over all profiles: what is owed after a change, and how fast |
//! | [`export`] | an export's life as a state machine |
//! | [`store`] | all durable state: the one writer, queues, claims |
//! | [`delivery`] | exports go out: claim, post, judge, settle |
//! | [`destination`] | where exports go: settings and payload |
//! | [`token`] | what a token endpoint is asked, and what it answers |
//! | [`tls`] | the TLS policy, and its proof on each connection; certificates issued, verified, probed |
//! | [`certificate`] | what certificates, and the files that hold them, say |
//!
//! Around them: [`config`] reads `postern.toml` and its drop-ins; [`app`] builds, starts and ends everything; [`listen`] is the HTTP
//! listener; [`admin`] is what operators ask and tell, with [`metrics`]; [`clock`] hands time in, and [`mark`] remembers it; [`cli`] is the command line.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod audience;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod delivery;
pub mod destination;
pub mod export;
pub mod inlet;
pub mod listen;
pub mod mark;
pub mod metrics;
pub mod pipeline;
pub mod profile;
pub mod store;
pub mod tls;
pub mod token;
pub mod trigger;
pub mod walk;

/// The text of an error and of all its sources.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
