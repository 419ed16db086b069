use std::fs::OpenOptions;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::home::Home;
use crate::process;

/// How often the end of a process is looked for.
const TICK: Duration = Duration::from_millis(5);

/// A running server process; dropped, it is killed with its children.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
}

impl Daemon {
    /// Starts a program in `home`, with its output appended to the file `log` there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be started.
    pub fn spawn(name: &'static str, mut command: Command, home: &mut Home) -> Result<Self, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join("log"))
            .map_err(Error::io("open a log file"))?;
        let errors = log
            .try_clone()
            .map_err(Error::io("open a log file twice"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::io(format!("start {name}")))?;
        home.watch(child.id());
        Ok(Self { name, child })
    }

    /// Gives the number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives the numbers of its children.
    pub fn children(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    /// Tells whether the process has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Gives how the process ended; `None` if it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process and its children without their knowledge (SIGSTOP).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        for child in self.children() {
            process::signal(child, Signal::STOP);
        }
    }

    /// Lets a frozen process and its children go on.
    pub fn thaw(&self) {
        for child in self.children() {
            process::signal(child, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Kills the process and its children (SIGKILL), and waits until they are gone.
    pub fn kill(&mut self) {
        if !self.ended() {
            process::kill_family(self.pid());
            let _ = self.child.wait();
        }
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// [`Error::Stuck`] if it did not end in time; it is killed then.
    pub async fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        while !self.ended() {
            if Instant::now() > deadline {
                self.kill();
                return Err(Error::Stuck {
                    name: self.name,
                    after: patience,
                });
            }
            sleep(TICK).await;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
