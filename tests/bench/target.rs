use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgherd_sandbox::{Account, Certificate, Daemon, Home, Options, Pgbouncer, Server, free_port};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::cell::{Protocol, Setting, Work};
use crate::error::Error;
use crate::settings;

/// How long pgherd may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    /// Postgres itself.
    Direct,
    /// PgBouncer, to which all is compared.
    Pgbouncer,
    /// pgherd.
    Pgherd,
    /// pgherd before shards, compared to pgherd before one database.
    Sharded,
}

impl Who {
    /// The name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pgbouncer => "pgbouncer",
            Self::Pgherd => "pgherd",
            Self::Sharded => "sharded",
        }
    }
}

/// Where to connect, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    /// The user.
    pub(crate) user: String,
    /// The password, for SCRAM.
    pub(crate) password: Option<String>,
    /// The database.
    pub(crate) database: String,
    /// libpq's sslmode.
    pub(crate) tls: &'static str,
}

impl Door {
    /// Gives the environment by which libpq comes here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGSSLMODE", self.tls.to_owned()),
        ];
        if let Some(password) = &self.password {
            variables.push(("PGPASSWORD", password.clone()));
        }
        variables
    }
}

/// A running thing to measure.
#[derive(Debug)]
pub(crate) struct Target {
    /// Who it is.
    pub(crate) who: Who,
    /// How to come in.
    pub(crate) door: Door,
    /// What keeps it alive.
    life: Life,
}

#[derive(Debug)]
enum Life {
    /// The server is kept elsewhere.
    Direct,
    Pgbouncer(Pgbouncer),
    Pgherd(Pgherd),
}

/// A running pgherd. Dropped, it is asked to end, and given some time: one that counts what it does writes it down
/// then.
#[derive(Debug)]
pub(crate) struct Pgherd {
    daemon: Daemon,
    // The process must be gone before its directory is.
    #[expect(dead_code, reason = "held so that it is removed last")]
    home: Home,
}

impl Pgherd {
    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

impl Drop for Pgherd {
    fn drop(&mut self) {
        self.daemon.terminate();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.daemon.ended() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What all targets have in common.
#[derive(Clone, Debug)]
pub(crate) struct Stage<'a> {
    /// The server behind them.
    pub(crate) server: &'a Server,
    /// The database.
    pub(crate) database: &'a str,
    /// One like it, which is the second shard.
    pub(crate) twin: &'a str,
    /// User and password for SCRAM.
    pub(crate) login: (&'a str, &'a str),
    /// Server connections of each proxy.
    pub(crate) pool_size: usize,
    /// The executable, unless it is left out.
    pub(crate) pgherd: Option<PathBuf>,
}

impl Stage<'_> {
    /// Starts all targets for a setting.
    pub(crate) async fn targets(&self, setting: Setting) -> Result<Vec<Target>, Error> {
        if setting == Setting::Sharded {
            let mut targets = Vec::new();
            if let Some(program) = &self.pgherd {
                for who in [Who::Pgherd, Who::Sharded] {
                    targets.push(self.start_pgherd(program, setting, who).await?);
                }
            }
            return Ok(targets);
        }
        let mut targets = vec![
            Target {
                who: Who::Direct,
                door: self.door(self.server.port(), setting),
                life: Life::Direct,
            },
            self.pgbouncer(setting).await?,
        ];
        if let Some(program) = &self.pgherd {
            let target = self.start_pgherd(program, setting, Who::Pgherd).await?;
            targets.push(target);
        }
        Ok(targets)
    }

    fn door(&self, port: u16, setting: Setting) -> Door {
        let scram = setting == Setting::Scram;
        Door {
            port,
            user: if scram { self.login.0 } else { "postgres" }.to_owned(),
            password: scram.then(|| self.login.1.to_owned()),
            database: self.database.to_owned(),
            tls: match setting {
                Setting::Plain | Setting::Scram | Setting::Sharded => "disable",
                Setting::Tls => "require",
            },
        }
    }

    async fn pgbouncer(&self, setting: Setting) -> Result<Target, Error> {
        let (user, password) = self.login;
        let options = Options {
            pool_size: self.pool_size,
            max_clients: settings::CLIENTS_MAX,
            scram: (setting == Setting::Scram).then(|| (user.to_owned(), password.to_owned())),
            tls: setting == Setting::Tls,
            ..Options::default()
        };
        let bouncer = Pgbouncer::start(self.server, &options).await?;
        Ok(Target {
            who: Who::Pgbouncer,
            door: self.door(bouncer.port(), setting),
            life: Life::Pgbouncer(bouncer),
        })
    }

    async fn start_pgherd(
        &self,
        program: &Path,
        setting: Setting,
        who: Who,
    ) -> Result<Target, Error> {
        let home = Home::new(Account::Own)?;
        let port = free_port();
        let certificate = match setting {
            Setting::Tls => Some(Certificate::make(home.path(), Account::Own)?),
            Setting::Plain | Setting::Scram | Setting::Sharded => None,
        };
        let mut door = self.door(port, setting);
        if who == Who::Sharded {
            door.database = settings::SHARDED.to_owned();
        }
        let server = self.server.port();
        let text = match who {
            Who::Sharded => {
                settings::sharded(server, self.pool_size, &door, [self.database, self.twin])
            }
            _ => settings::pgherd(server, self.pool_size, &door, certificate.as_ref()),
        };
        Ok(Target {
            who,
            door,
            life: Life::Pgherd(launch(program, home, port, &text).await?),
        })
    }
}

impl Target {
    /// Gives the process of the proxy; the server itself is not counted.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Direct => None,
            Life::Pgbouncer(bouncer) => Some(bouncer.pid()),
            Life::Pgherd(pgherd) => Some(pgherd.pid()),
        }
    }

    /// Tells whether this work is possible here at all: PgBouncer before 1.21 has no prepared
    /// statements in transaction mode.
    pub(crate) fn can(&self, work: Work) -> bool {
        let prepared =
            matches!(work, Work::Pgbench(pgbench) if pgbench.protocol == Protocol::Prepared);
        match &self.life {
            Life::Pgbouncer(bouncer) => !prepared || bouncer.version().knows_prepared_statements(),
            Life::Direct | Life::Pgherd(..) => true,
        }
    }
}

/// Starts pgherd with a configuration, and waits until it listens.
pub(crate) async fn launch(
    program: &Path,
    mut home: Home,
    port: u16,
    text: &str,
) -> Result<Pgherd, Error> {
    let file = home.join("pgherd.toml");
    fs::write(&file, text).map_err(Error::io("write pgherd's configuration"))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&file).process_group(0);
    let mut daemon = Daemon::spawn("pgherd", command, &mut home)?;
    ready(&mut daemon, &home, port).await?;
    Ok(Pgherd { daemon, home })
}

async fn ready(daemon: &mut Daemon, home: &Home, port: u16) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let log = || home.tail("log");
        if daemon.ended() {
            let (name, log) = ("pgherd", log());
            return Err(pgherd_sandbox::Error::Died { name, log }.into());
        }
        if Instant::now() > deadline {
            let (name, after, log) = ("pgherd", PATIENCE, log());
            return Err(pgherd_sandbox::Error::Silent { name, after, log }.into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
