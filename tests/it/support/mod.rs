//! What tests are made of.
#![allow(dead_code, unreachable_pub, reason = "a kit for all tests; not each piece has its user at each time")]

pub mod appliance;
pub mod changing;
pub mod disk;
pub mod door;
pub mod faulty_disk;
pub mod flood;
pub mod frames;
mod http2;
pub mod ledger;
pub mod load;
pub mod peer;
pub mod pki;
pub mod receiver;
pub mod relay;
pub mod reply;
pub mod rot;
pub mod sender;
pub mod set_up;
pub mod socket;
pub mod wire;

/// A number from the environment: how long a test is to go on, or which seed it begins with.
pub fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

/// Copies a directory to where there is none.
pub fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap();
    assert!(done.success(), "cannot copy {from:?}");
}

/// What the kernel says of a process's memory: `VmRSS` now, `VmHWM` at most.
pub fn memory_bytes(process: &str, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
    found.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
