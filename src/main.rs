//! pgherd: arguments, configuration, the root actor, a signal, a drain.

mod command;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::{Arguments, Task};

/// Small blocks come and go with each transaction; and memory must return once clients have left.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.task {
        None => command::serve::run(arguments.serving),
        Some(Task::Check(check)) => command::check::run(check),
        Some(Task::Demo(demo)) => command::demo::run(&demo),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pgherd: {failure}");
            failure.code()
        }
    }
}
