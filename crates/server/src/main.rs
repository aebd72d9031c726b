//! The `weir` binary. Everything it does is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_server::cli::run(std::env::args_os())
}
