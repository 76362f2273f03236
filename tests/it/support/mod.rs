//! What tests are made of.
#![allow(dead_code, unreachable_pub, reason = "a kit for all tests; not each piece has its user at each time")]

pub mod appliance;
pub mod load;
pub mod pki;
pub mod receiver;
pub mod reply;
pub mod sender;
pub mod set_up;
pub mod wire;
