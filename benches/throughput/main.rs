//! How fast the appliance takes updates and sends exports, beside how fast the same client sends the same bodies from
//! memory. `docs/performance.md` says how to run it and what each figure means.
//!
//! ```text
//! load ──HTTP──▶ appliance ──mutual TLS──▶ receiver        then, alone: bare sender ──mutual TLS──▶ receiver
//! ```
//! Each is a process of its own: the appliance is the real binary, the others are this executable with a role as its
//! argument. The runner holds the standard input of each; a process whose input ends ends too, so none outlives the
//! runner, however that dies.

mod appliance;
mod bare;
mod child;
mod drain;
mod figures;
mod load;
mod machine;
mod receiver;
mod run;
mod settings;
mod update;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [child::ROLE, appliance::ROLE] => appliance::keep(),
        [child::ROLE, receiver::ROLE] => receiver::serve(),
        [child::ROLE, load::ROLE] => load::send(),
        [child::ROLE, bare::ROLE] => bare::send(),
        // `cargo bench` says so; `cargo test` builds and runs this too, and must not take minutes.
        _ if arguments.iter().any(|argument| argument == "--bench") => run::run(),
        _ => {
            println!("not measured: run `cargo bench --bench throughput`");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}
