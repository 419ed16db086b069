//! A simulated run in a process of its own, from which chance was taken.
//!
//! The proxy leaves to chance what may be left to it: where a `select!` looks first, the order of a map, jitter. All
//! of that comes from `getrandom`, so a run is the same each time if that function is, and if nothing was counted
//! before the run began. A small library in C, loaded before the system's, sees to the first, a new process to the second.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::thread;
use std::time::Duration;

use super::Broken;
use super::actors::{self, Seen};
use crate::checks::{Check, named};

/// The library, in C since Rust may only name a function of the system's where it is `unsafe`.
const CHANCE: &str = include_str!("process/chance.c");

/// Of real time: longer than any run takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs seeds each in a process of its own.
#[derive(Debug)]
pub struct Processes {
    executable: PathBuf,
    chance: PathBuf,
}

impl Processes {
    /// Makes the library, beside the executable of `cargo chaos`.
    ///
    /// # Errors
    /// There is no C compiler, which Rust needs, too; or no place to write to.
    pub fn prepare(executable: &Path) -> io::Result<Self> {
        let home = executable.parent().unwrap_or_else(|| Path::new("."));
        let making = tempfile::tempdir_in(home)?;
        let (source, made) = (
            making.path().join("chance.c"),
            making.path().join("chance.so"),
        );
        fs::write(&source, CHANCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        let status = compiler.arg(&made).arg(&source).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cc: {status}")));
        }
        let chance = home.join("pgherd-chaos-chance.so");
        // Another run may be using the one that is there.
        fs::rename(&made, &chance)?;
        Ok(Self {
            executable: executable.to_owned(),
            chance,
        })
    }

    /// Runs a seed.
    ///
    /// # Errors
    /// What was broken.
    pub fn run(&self, seed: u64, steps: usize, tail: usize) -> Result<Seen, Broken> {
        let broken = |check: Check, why: String| Broken {
            why: check.caught(why),
            tail: Vec::new(),
        };
        let run = Command::new(&self.executable)
            .args(["simulate", "--inside", "--seed", &seed.to_string()])
            .args(["--steps", &steps.to_string()])
            .args(["--tail", &tail.to_string()])
            .env("LD_PRELOAD", &self.chance)
            .env("CHAOS_SEED", seed.to_string())
            .output()
            .map_err(|error| broken(Check::Work, error.to_string()))?;
        let said = String::from_utf8_lossy(&run.stdout);
        let read = said.lines().last().and_then(read);
        match read {
            Some(seen) if run.status.success() => Ok(seen),
            _ => {
                let told = String::from_utf8_lossy(&run.stderr);
                // One that has ended in another way says nothing of a check.
                let check = named(&told).first().copied().unwrap_or(Check::Stuck);
                let why = format!("{}\n{}", told.trim_end(), run.status);
                Err(broken(check, why))
            }
        }
    }
}

/// What the process of a seed does: it runs it, and says in one line what it has seen.
///
/// # Errors
/// What was broken.
pub fn inside(seed: u64, steps: usize, tail: usize) -> Result<String, Broken> {
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the run does not come to its end");
        exit(3);
    });
    // Actors are made to panic, and what they would say of it is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let seen = actors::run(seed, steps, tail)?;
    let figures = [
        seen.done,
        seen.undone,
        seen.unknown,
        seen.errors,
        seen.promotions,
        seen.events,
        seen.millis,
        seen.sum,
    ];
    Ok(figures.map(|figure| figure.to_string()).join(" "))
}

fn read(line: &str) -> Option<Seen> {
    let mut figures = line.split(' ').map(str::parse);
    let mut next = || figures.next()?.ok();
    Some(Seen {
        done: next()?,
        undone: next()?,
        unknown: next()?,
        errors: next()?,
        promotions: next()?,
        events: next()?,
        millis: next()?,
        sum: next()?,
    })
}
