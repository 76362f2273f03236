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

mod audience;
mod audit;
mod backfill;
mod cert;
mod check;
mod child;
mod client;
mod clock;
mod completion;
mod config;
mod dead_letter;
mod demo;
mod destination;
mod exit;
mod export;
mod init;
mod lists;
mod man;
mod profile;
mod reload;
mod run;
mod status;
mod store;
mod text;

use exit::{Exit, Failure};

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
    /// Show all of it at work for some seconds, in a temporary directory
    Demo,
    /// Show the running appliance on one screen
    Status(status::StatusArguments),
    /// Read the configuration anew and put it to work: all of it, or nothing
    Reload(reload::ReloadArguments),
    /// Look at destinations, add, test, pause and resume them
    #[command(subcommand)]
    Destination(destination::DestinationVerb),
    /// Look at exports that wait
    #[command(subcommand)]
    Export(export::ExportVerb),
    /// Look at exports that will not be tried again by themselves, make them anew, drop them
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterVerb),
    /// Export the present members of audiences to a destination, and see how far that is
    Backfill(backfill::BackfillArguments),
    /// Look at a profile, or forget it
    #[command(subcommand)]
    Profile(profile::ProfileVerb),
    /// Look at the inlets
    #[command(subcommand)]
    Inlet(lists::InletVerb),
    /// Look at the audiences
    #[command(subcommand)]
    Audience(audience::AudienceVerb),
    /// Prove that everything adds up; exit code 1 when it does not
    Audit(audit::AuditArguments),
    /// Check, compact, save, copy the store
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Inspect, prove, issue and watch certificates
    #[command(subcommand)]
    Cert(cert::CertVerb),
    /// See whether the clock is trusted, and have it trusted
    #[command(subcommand)]
    Clock(clock::ClockVerb),
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
    #[arg(short, long, value_name = "FILE", default_value = crate::config::FILE_DEFAULT)]
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
        Verb::Demo => demo::demo(),
        Verb::Status(arguments) => status::status(arguments),
        Verb::Reload(arguments) => reload::reload(arguments),
        Verb::Destination(verb) => destination::destination(verb),
        Verb::Export(verb) => export::export(verb),
        Verb::DeadLetter(verb) => dead_letter::dead_letter(verb),
        Verb::Backfill(arguments) => backfill::backfill(arguments),
        Verb::Profile(verb) => profile::profile(verb),
        Verb::Inlet(verb) => lists::inlets(verb),
        Verb::Audience(verb) => audience::audience(verb),
        Verb::Audit(arguments) => audit::audit(arguments),
        Verb::Store(verb) => store::store(verb),
        Verb::Cert(verb) => cert::cert(verb),
        Verb::Clock(verb) => clock::clock(&verb),
        Verb::Completion { shell } => completion::completion(shell),
        Verb::Man(pages) => man::man(&pages),
        Verb::Version(output) => version(&output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_answer() {
                talk(&failure);
            }
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
    match writeln!(anstream::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error.into())),
        _ => Ok(()),
    }
}

/// Says something beside the result.
fn talk(words: impl fmt::Display) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(anstream::stderr(), "postern: {words}");
}

/// Says what a verb that destroys would do, unless it was told to do it.
fn confirmed(yes: bool, what: &str) -> Result<(), Failure> {
    match yes {
        true => Ok(()),
        false => Err(Failure::of(Exit::Usage, format_args!("this would {what}; say --yes to do it"))),
    }
}
