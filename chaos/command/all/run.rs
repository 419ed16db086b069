//! Waits for a scenario, but not for ever: one that hangs must not keep the others from being run.

use std::fmt;
use std::io;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long it may take to stop all that it has started.
const FAREWELL: Duration = Duration::from_secs(30);

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was wrong.
    Well,
    /// Something was; it has said what.
    Wrong,
    /// It did not come to its end in time.
    Late,
    /// It could not be run.
    Unrun(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("yes"),
            Self::Wrong => f.write_str("**no**"),
            Self::Late => f.write_str("**no**: it took too long"),
            Self::Unrun(why) => write!(f, "**no**: {why}"),
        }
    }
}

/// Waits for a program, and stops it when its time is over.
///
/// # Errors
/// As the system says.
pub(super) fn wait(mut child: Child, limit: Duration) -> io::Result<Outcome> {
    if let Some(status) = ended(&mut child, limit)? {
        return Ok(match status.success() {
            true => Outcome::Well,
            false => Outcome::Wrong,
        });
    }
    // Told so, it stops its servers; killed, it leaves that to their guardians.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if ended(&mut child, FAREWELL)?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Outcome::Late)
}

fn ended(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{Outcome, wait};

    fn outcome(script: &str, limit: Duration) -> Outcome {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        wait(child.expect("there is a shell"), limit).expect("it can be waited for")
    }

    #[test]
    fn a_scenario_ends_well_or_not_or_is_stopped() {
        let long = Duration::from_secs(60);
        assert_eq!(outcome("true", long), Outcome::Well);
        assert_eq!(outcome("false", long), Outcome::Wrong);
        assert_eq!(outcome("kill -KILL $$", long), Outcome::Wrong);
        assert_eq!(outcome("exec sleep 1000", Duration::ZERO), Outcome::Late);
    }
}
