//! `postern completion`: what a shell needs to complete verbs, options and files.

use clap::{CommandFactory, ValueEnum};
use clap_complete::aot;

use super::{Arguments, Failure, print};

/// A shell that completes.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn completion(shell: Shell) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut script = Vec::new();
    aot::generate(shell, &mut Arguments::command(), "postern", &mut script);
    print(&String::from_utf8_lossy(&script).trim_end())
}
