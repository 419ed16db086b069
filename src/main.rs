//! pgherd: arguments, configuration, the root actor, a signal, a drain.

mod command;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::{Arguments, Task};

/// Of the allocators measured, the one with the least memory for an idle client that also returns
/// it once clients have left (its settings are in `.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
