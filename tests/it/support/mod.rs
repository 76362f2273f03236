//! What tests are made of.
#![allow(dead_code, unreachable_pub, reason = "a kit for all tests; not each piece has its user at each time")]

pub mod appliance;
pub mod disk;
pub mod faulty_disk;
pub mod ledger;
pub mod load;
pub mod pki;
pub mod receiver;
pub mod reply;
pub mod sender;
pub mod set_up;
pub mod wire;

/// A number from the environment: how long a test is to go on, or which seed it begins with.
pub fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}
