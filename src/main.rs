//! The `postern` command: arguments to the library, its result to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::cli::main()
}
