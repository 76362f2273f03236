//! The command line: the only module that names clap, prints, and picks exit codes.
//!
//! stdout is the result, stderr the talk.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

mod check;
mod child;
mod completion;
mod config;
mod dead_letter;
mod demo;
mod destination;
mod exit;
mod init;
mod man;
mod run;
mod store;

use exit::Failure;

#[derive(Parser)]
#[command(name = "postern", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write a first configuration that takes updates, where there is none; overwrites nothing
    Init(init::Init),
    /// Run the appliance until it is told to stop
    Run(ConfigFile),
    /// Check the configuration: everything `run` would refuse; touches no network and writes nothing
    Check(check::Check),
    /// Show the configuration that is in effect
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Add places where exports go
    #[command(subcommand)]
    Destination(destination::DestinationVerb),
    /// Show all of it at work for some seconds, in a temporary directory
    Demo,
    /// Look at exports that will not be tried again by themselves
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterVerb),
    /// Check, compact, save, copy a stopped store
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Print what a shell needs to complete all this
    Completion {
        /// The shell
        shell: completion::Shell,
    },
    /// Write a manual page for each verb
    #[command(hide = true)]
    Man(man::Pages),
    /// Print the version
    Version(Output),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/postern/postern.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct Output {
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Does what the process's arguments say; returns its exit code.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Init(init) => init::init(&init),
        Verb::Run(file) => run::run(&file.config),
        Verb::Check(what) => check::check(&what),
        Verb::Config(verb) => config::config(verb),
        Verb::Destination(verb) => destination::destination(verb),
        Verb::Demo => demo::demo(),
        Verb::DeadLetter(verb) => dead_letter::dead_letter(verb),
        Verb::Store(verb) => store::store(verb),
        Verb::Completion { shell } => completion::completion(shell),
        Verb::Man(pages) => man::man(&pages),
        Verb::Version(output) => version(&output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "postern: {failure}");
            failure.code()
        }
    }
}

fn version(output: &Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match output.json {
        true => print(&serde_json::json!({ "version": version })),
        false => print(&format_args!("postern {version}")),
    }
}

/// Prints a line of the result. A reader that has gone away is not our failure: `postern … | head` is fine.
fn print(line: &dyn fmt::Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error.into())),
        _ => Ok(()),
    }
}
