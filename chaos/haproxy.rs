//! HAProxy, as Patroni's documentation has it before its nodes.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pgherd_sandbox::{Account, Daemon, Error, Home, free_port};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Config, NoTls};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and where is told whether it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) server: SocketAddr,
    /// On the same address; `GET /primary` is answered 200 by whoever leads.
    pub(crate) check: u16,
}

/// A running HAProxy that sends everybody to the node of which is told that it leads.
#[derive(Debug)]
pub(crate) struct Haproxy {
    // Fields drop in this order: the process must be gone before its directory is.
    _daemon: Daemon,
    _home: Home,
    port: u16,
}

impl Haproxy {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Silent`].
    pub(crate) async fn start(behind: &[Behind]) -> Result<Self, Error> {
        let account = Account::choose();
        let mut home = Home::new(account)?;
        let port = free_port();
        let file = home.join("haproxy.cfg");
        fs::write(&file, configuration(port, behind)).map_err(|source| Error::Io {
            what: "write haproxy.cfg".to_owned(),
            source,
        })?;
        let mut command = account.command(Path::new("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        let daemon = Daemon::spawn("haproxy", command, &mut home)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    name: "haproxy",
                    after: PATIENCE,
                    log: home.tail("log"),
                });
            }
            sleep(Duration::from_millis(10)).await;
        }
        let looked = Self {
            _daemon: daemon,
            _home: home,
            port,
        };
        // At first it takes all of them for well.
        let mut primaries = 0;
        while primaries < 2 * behind.len() && Instant::now() < deadline {
            match leads(port).await {
                Some(true) => primaries += 1,
                Some(false) | None => {
                    primaries = 0;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(looked)
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Whether the server that one comes to at a port of this machine takes writes; `None` if it does not say.
pub(crate) async fn leads(port: u16) -> Option<bool> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user("postgres")
        .password("postgres")
        .dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.ok()?;
    let asked = async {
        let text = "select pg_is_in_recovery()";
        let rows = client.query_typed(text, &[]).await.ok()?;
        Some(!rows.first()?.get::<_, bool>(0))
    };
    tokio::select! {
        answer = asked => answer,
        _ = connection => None,
    }
}

/// The example of Patroni's documentation, with times for idle clients that no run reaches.
fn configuration(port: u16, behind: &[Behind]) -> String {
    let mut text = format!(
        "global\n    maxconn 1000\n\
         defaults\n    mode tcp\n    retries 2\n    timeout connect 4s\n    timeout check 5s\n    \
         timeout client 60m\n    timeout server 60m\n\
         listen primary\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS /primary\n    \
         http-check expect status 200\n    \
         default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions\n"
    );
    for (number, Behind { server, check }) in behind.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    server n{} {server} maxconn 200 check port {check}",
            number + 1
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{Behind, configuration};

    #[test]
    fn all_nodes_are_asked_whether_they_lead() {
        let node = |number: u8| Behind {
            server: SocketAddr::from(([10, 87, 0, number], 5432)),
            check: 8008,
        };
        let text = configuration(7000, &[node(1), node(2), node(3)]);
        assert!(text.contains("    bind 127.0.0.1:7000\n"), "{text}");
        assert!(text.contains("httpchk OPTIONS /primary\n"), "{text}");
        for number in 1..=3 {
            let line =
                format!("    server n{number} 10.87.0.{number}:5432 maxconn 200 check port 8008\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
