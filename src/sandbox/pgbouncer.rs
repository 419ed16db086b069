use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::binaries::{Binaries, Missing, find_program};
use crate::certificate::Certificate;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::home::Home;
use crate::port::free_port;
use crate::server::Server;
use crate::tool;

/// How long it may take to answer, or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name in error messages.
const NAME: &str = "pgbouncer";

/// How a PgBouncer is set up; it always pools by transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Server connections for each user and database.
    pub pool_size: usize,
    /// The most clients.
    pub max_clients: usize,
    /// Prepared statements kept on a server connection, where the version can (1.21); 0 is off.
    pub prepared_statements: usize,
    /// User and password for SCRAM on both legs; without it everyone is trusted.
    pub scram: Option<(String, String)>,
    /// TLS, demanded of clients and of the server.
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pool_size: 20,
            max_clients: 10_000,
            prepared_statements: 200,
            scram: None,
            tls: false,
        }
    }
}

/// A PgBouncer before a server, on a port of its own.
#[derive(Debug)]
pub struct Pgbouncer {
    // Fields drop in this order: the process must be gone before its directory is.
    daemon: Daemon,
    home: Home,
    port: u16,
    version: Version,
    certificate: Option<Certificate>,
    account: Account,
    /// The programs of a server, for the way to the console.
    binaries: Binaries,
}

/// A version of PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Version {
    /// Asks the installed PgBouncer for its version.
    ///
    /// # Errors
    /// [`Missing`] without a PgBouncer.
    pub async fn installed() -> Result<Self, Error> {
        let program = find_program(NAME).ok_or_else(|| Missing::program(NAME))?;
        let mut command = Command::new(program);
        command.arg("--version");
        let text = tool::run(command).await?;
        Self::parse(&text).ok_or_else(|| Error::Tool {
            tool: NAME.to_owned(),
            message: format!("its version is not understood: {text}"),
        })
    }

    /// Tells whether protocol prepared statements work in transaction mode.
    pub fn knows_prepared_statements(self) -> bool {
        (self.major, self.minor) >= (1, 21)
    }

    /// Reads the first line of `pgbouncer --version`: "PgBouncer 1.18.0".
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.lines().next()?.rsplit(' ').next()?.split('.');
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl Pgbouncer {
    /// Starts a PgBouncer before a server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::Missing`] without PgBouncer, [`Error::Died`] or [`Error::Silent`] if it does not
    /// come up.
    pub async fn start(server: &Server, options: &Options) -> Result<Self, Error> {
        Self::before(server.binaries(), server.port(), options).await
    }

    /// Starts one before whatever listens at a port of 127.0.0.1; of the binaries it needs `psql`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn before(
        binaries: &Binaries,
        server: u16,
        options: &Options,
    ) -> Result<Self, Error> {
        let version = Version::installed().await?;
        let program = find_program(NAME).ok_or_else(|| Missing::program(NAME))?;
        let account = Account::choose();
        let mut home = Home::new(account)?;
        let certificate = if options.tls {
            Some(Certificate::make(home.path(), account)?)
        } else {
            None
        };
        let port = free_port();
        let ini = configuration(server, options, version, port, home.path());
        write(&home, account, "pgbouncer.ini", &ini)?;
        let users = match &options.scram {
            Some((user, password)) => format!("\"{user}\" \"{password}\"\n"),
            None => String::new(),
        };
        write(&home, account, "users.txt", &users)?;
        let mut command = account.command(program);
        command.arg(home.join("pgbouncer.ini"));
        let daemon = Daemon::spawn(NAME, command, &mut home)?;
        let mut started = Self {
            daemon,
            home,
            port,
            version,
            certificate,
            account,
            binaries: binaries.clone(),
        };
        started.ready().await?;
        Ok(started)
    }

    /// Gives a URL without a password.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Gives the TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the number of its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Gives its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Gives the certificate shown to clients, if it speaks TLS.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Sends it to a server at another port, as an administrator does after a failover: the new
    /// configuration is read, and connections to the old server close as soon as nobody uses them.
    /// Only for one that trusts everyone, as its console does then, too.
    ///
    /// # Errors
    /// [`Error::Io`] if the configuration cannot be written, [`Error::Tool`] if the console refuses.
    pub async fn point(&self, port: u16) -> Result<(), Error> {
        let path = self.home.join("pgbouncer.ini");
        let text = fs::read_to_string(&path).map_err(Error::io("read pgbouncer.ini"))?;
        let lines = text.lines().map(|line| match line.strip_prefix("* = ") {
            Some(_) => format!("* = host=127.0.0.1 port={port} user=postgres\n"),
            None => format!("{line}\n"),
        });
        write(
            &self.home,
            self.account,
            "pgbouncer.ini",
            &lines.collect::<String>(),
        )?;
        let mut psql = self.account.command(self.binaries.tool("psql")?);
        psql.args(["-XAtq", "-c", "reload", "-c", "reconnect"])
            .arg(self.url("postgres", "pgbouncer"));
        tool::run(psql).await.map(drop)
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// [`Error::Stuck`] if it had to be killed.
    pub async fn stop(mut self) -> Result<(), Error> {
        // SIGTERM is PgBouncer's immediate shutdown before 1.23, and waits for clients since;
        // the second one is immediate there.
        self.daemon.terminate();
        self.daemon.terminate();
        self.daemon.wait(PATIENCE).await
    }

    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let log = || self.home.tail("log");
            if self.daemon.ended() {
                return Err(Error::Died {
                    name: NAME,
                    log: log(),
                });
            }
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    name: NAME,
                    after: PATIENCE,
                    log: log(),
                });
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn configuration(
    server: u16,
    options: &Options,
    version: Version,
    port: u16,
    home: &Path,
) -> String {
    let home = home.display();
    let method = match options.scram {
        Some(_) => "scram-sha-256",
        None => "any",
    };
    // With auth_type "any" the server is told a user in the database line, as there is no list.
    let user = match options.scram {
        Some(_) => "",
        None => " user=postgres",
    };
    let mut ini = format!(
        "[databases]\n\
         * = host=127.0.0.1 port={}{user}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = {method}\n\
         admin_users = postgres\n\
         auth_file = {home}/users.txt\n\
         pool_mode = transaction\n\
         default_pool_size = {}\n\
         max_client_conn = {}\n\
         ignore_startup_parameters = extra_float_digits,options\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         log_stats = 0\n",
        server, options.pool_size, options.max_clients,
    );
    // Writing to a String cannot fail.
    if version.knows_prepared_statements() {
        let _ = writeln!(
            ini,
            "max_prepared_statements = {}",
            options.prepared_statements
        );
    }
    if options.tls {
        let _ = write!(
            ini,
            "client_tls_sslmode = require\n\
             client_tls_cert_file = {home}/server.crt\n\
             client_tls_key_file = {home}/server.key\n\
             server_tls_sslmode = require\n"
        );
    }
    ini
}

fn write(home: &Home, account: Account, name: &str, text: &str) -> Result<(), Error> {
    let path = home.join(name);
    fs::write(&path, text)
        .and_then(|()| account.own(&path))
        .map_err(Error::io(format!("write {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Binaries, Error};

    #[test]
    fn reads_versions() {
        let debian = Version::parse("PgBouncer 1.18.0\nlibevent 2.1.12-stable\n").unwrap();
        assert!(!debian.knows_prepared_statements());
        let newer = Version::parse("PgBouncer 1.21.0\n").unwrap();
        assert!(newer.knows_prepared_statements());
        assert_eq!(Version::parse("PgBouncer\n"), None);
    }

    #[tokio::test]
    async fn carries_a_query_with_scram_and_tls_on_both_legs() -> Result<(), Error> {
        let server = Server::builder(&Binaries::find()?)
            .tls(true)
            .auth(&["hostssl all all 127.0.0.1/32 scram-sha-256"])
            .start()
            .await?;
        server.create_user("shepherd", "crook").await?;
        let options = Options {
            scram: Some(("shepherd".to_owned(), "crook".to_owned())),
            tls: true,
            ..Options::default()
        };
        let bouncer = Pgbouncer::start(&server, &options).await?;
        let mut psql = server.client("psql")?;
        psql.env("PGPASSWORD", "crook").args([
            "-XAtc",
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        ]);
        psql.arg(format!(
            "{}?sslmode=require",
            bouncer.url("shepherd", "postgres")
        ));
        assert_eq!(tool::run(psql).await?.trim(), "t");
        let home = bouncer.home.path().to_owned();
        bouncer.stop().await?;
        assert!(!home.exists());
        Ok(())
    }

    #[tokio::test]
    async fn goes_to_another_server_when_told() -> Result<(), Error> {
        let binaries = Binaries::find()?;
        let one = Server::builder(&binaries).start().await?;
        let two = Server::builder(&binaries).start().await?;
        let bouncer = Pgbouncer::start(&one, &Options::default()).await?;
        let ask = || {
            let mut psql = one.client("psql")?;
            psql.args(["-XAtqc", "select inet_server_port()"]);
            psql.arg(bouncer.url("postgres", "postgres"));
            Ok::<_, Error>(psql)
        };
        assert_eq!(tool::run(ask()?).await?.trim(), one.port().to_string());
        bouncer.point(two.port()).await?;
        assert_eq!(tool::run(ask()?).await?.trim(), two.port().to_string());
        Ok(())
    }
}
