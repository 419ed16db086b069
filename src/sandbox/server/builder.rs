use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::home::Home;
use crate::port::free_port;
use crate::server::Server;

/// How often a start is tried anew when somebody else took the port.
pub(super) const ATTEMPTS: usize = 5;

/// What Postgres' log says then.
const TAKEN: &str = "Address already in use";

/// The administrator's way in, whatever rules a test gives.
const ADMIN_RULES: &str = "local all postgres trust\nlocal replication postgres trust\n";

/// Who else may log in, unless rules are given.
const OPEN_RULES: &str = "local all all trust\n\
                          host all all 127.0.0.1/32 trust\n\
                          host replication all 127.0.0.1/32 trust\n";

/// A description of a server to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    binaries: Binaries,
    port: Option<u16>,
    settings: Vec<(String, String)>,
    rules: Option<Vec<String>>,
    tls: bool,
    durable: bool,
    disk: Option<u64>,
}

impl Builder {
    pub(super) fn new(binaries: &Binaries) -> Self {
        Self {
            binaries: binaries.clone(),
            port: None,
            settings: Vec::new(),
            rules: None,
            tls: false,
            durable: false,
            disk: None,
        }
    }

    /// Asks for a certain port; without this a free one is found.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds lines to `postgresql.conf`; later ones win.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        let owned = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.settings.extend(owned);
        self
    }

    /// Replaces the rules of `pg_hba.conf`, by which otherwise everyone on this machine is
    /// trusted. The user `postgres` stays trusted on the unix socket.
    pub fn auth(mut self, rules: &[&str]) -> Self {
        self.rules = Some(rules.iter().map(|rule| (*rule).to_owned()).collect());
        self
    }

    /// Makes the server speak TLS, with a certificate of its own.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Keeps `fsync` and `full_page_writes` on, which are off otherwise to save time.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Gives the server, and each replica of it, a disk of its own of so many bytes, which only root
    /// can do; see [`Server::fill`].
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = Some(bytes);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Missing`] without Postgres, [`Error::Tool`] if there is to be a disk and cannot be,
    /// [`Error::Died`] or [`Error::Silent`] with the end of
    /// the log if it does not come up.
    pub async fn start(self) -> Result<Server, Error> {
        let account = Account::choose();
        let home = Home::new(account)?;
        if let Some(bytes) = self.disk {
            home.mount(account, bytes).await?;
        }
        let data = home.join("data");
        self.binaries.template().await?.copy(data.clone()).await?;
        let certificate = if self.tls {
            Some(Certificate::make(&data, account)?)
        } else {
            None
        };
        fs::write(data.join("pg_hba.conf"), self.rules())
            .map_err(Error::io("write pg_hba.conf"))?;
        append(&data, &self.configuration())?;
        let attempts = if self.port.is_some() { 1 } else { ATTEMPTS };
        let mut server = Server {
            daemon: None,
            home,
            binaries: self.binaries,
            account,
            port: self.port.unwrap_or_else(free_port),
            certificate,
            disk: self.disk,
        };
        server.settle(attempts).await?;
        Ok(server)
    }

    fn rules(&self) -> String {
        let others = self.rules.as_ref().map_or_else(
            || OPEN_RULES.to_owned(),
            |rules| {
                rules
                    .iter()
                    .fold(String::new(), |all, rule| all + rule + "\n")
            },
        );
        ADMIN_RULES.to_owned() + &others
    }

    fn configuration(&self) -> String {
        let mut lines = String::from(
            "listen_addresses = '127.0.0.1'\n\
             max_connections = 200\n\
             wal_level = logical\n\
             max_wal_senders = 20\n\
             max_replication_slots = 20\n\
             wal_keep_size = '256MB'\n\
             max_prepared_transactions = 64\n\
             logging_collector = off\n\
             log_line_prefix = '%m [%p] '\n\
             # In the data directory, so that nothing stays in /dev/shm after a kill.\n\
             dynamic_shared_memory_type = mmap\n",
        );
        if !self.durable {
            lines += "fsync = off\nfull_page_writes = off\n";
        }
        if self.tls {
            lines += "ssl = on\n";
        }
        for (name, value) in &self.settings {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
        }
        lines
    }
}

impl Server {
    /// Starts for the first time, on other ports if somebody else was faster.
    pub(super) async fn settle(&mut self, attempts: usize) -> Result<(), Error> {
        let mut left = attempts;
        loop {
            let place = format!(
                "port = {}\nunix_socket_directories = '{}'\n",
                self.port,
                self.home.path().display()
            );
            append(&self.data_dir(), &place)?;
            left -= 1;
            match self.launch().await {
                Err(Error::Died { log, .. }) if left > 0 && log.contains(TAKEN) => {
                    self.port = free_port();
                }
                done => return done,
            }
        }
    }
}

/// Adds lines to `postgresql.conf`, where the last one of a name wins.
fn append(data: &Path, lines: &str) -> Result<(), Error> {
    OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(Error::io("write postgresql.conf"))
}
