//! The `postern` command: arguments to the library, its result to an exit code.

use std::process::ExitCode;

/// sled's pages and JSON trees are many small allocations on many threads, which glibc's allocator makes slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern::cli::main()
}
