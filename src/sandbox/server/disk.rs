use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::server::{NAME, PATIENCE, Server, TICK};

/// What is written at once; the last of it fills the last page of the disk.
const STROKE: usize = 1 << 16;

impl Server {
    /// Fills the server's own disk to its last byte, so that whatever it writes that needs more is
    /// refused (53100).
    ///
    /// # Errors
    /// [`Error::Io`] if it has no disk of its own, or that cannot be written to.
    pub async fn fill(&self) -> Result<(), Error> {
        let filler = self.filler();
        let filled = match self.disk {
            None => Err(io::Error::other("it is not its own")),
            Some(_) => spawn_blocking(move || fill(&filler))
                .await
                .unwrap_or_else(|panicked| Err(panicked.into())),
        };
        filled.map_err(Error::io("fill a disk"))
    }

    /// Fills the disk, and has the server write until it gives up: what cannot be logged any more
    /// ends it, and it cannot recover.
    ///
    /// # Errors
    /// As [`Self::fill`]; [`Error::Stuck`] if it goes on.
    pub async fn choke(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.daemon.as_mut().is_some_and(|daemon| !daemon.ended()) {
            if Instant::now() > deadline {
                return Err(Error::Stuck {
                    name: NAME,
                    after: PATIENCE,
                });
            }
            // What it removes meanwhile would make room for more.
            self.fill().await?;
            // So it needs the next file of its log now. While it recovers, it says something else.
            let next = "select pg_logical_emit_message(false, 'full', ''); select pg_switch_wal()";
            let _ = self.sql(next).await;
            sleep(TICK).await;
        }
        self.kill9();
        Ok(())
    }

    /// Makes room again on a disk that was filled.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be.
    pub fn make_room(&self) -> Result<(), Error> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("make room on a disk")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.home.join("filler")
    }
}

fn fill(filler: &Path) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(filler)?;
    let zeros = vec![0; STROKE];
    loop {
        match file.write(&zeros) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
