//! The deeds: what an admin may have done.
//!
//! RECONNECT and KILL act on the pools that exist at that moment. PAUSE and RESUME hold for those that are made
//! later, too, by the first login of a user: so does the pause that KILL leaves behind.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::Config;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::drain::Ending;
use crate::facts::Facts;
use crate::pool::Pool;

pub mod adopt;
pub mod disable;
pub mod kill;
pub mod pause;
pub mod reconnect;
pub mod reload;
pub mod switchover;

/// A deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Give no servers until RESUME; answered when all have come back.
    Pause(Scope),
    /// Give servers again.
    Resume(Scope),
    /// Replace each server connection when it is free.
    Reconnect(Scope),
    /// Answered when all server connections that were to be replaced are gone.
    WaitClose(Scope),
    /// Send clients away, close servers, stay paused.
    Kill(Scope),
    /// Send one client away.
    KillClient(i32),
    /// Read the configuration anew.
    Reload,
    /// End the proxy.
    Shutdown(Ending),
    /// Refuse new clients of a database.
    Disable(String),
    /// The opposite.
    Enable(String),
    /// Have new work of a database wait for another primary, and transactions end within the grace time;
    /// answered when none is under way.
    Switchover {
        /// The database, in the name that clients use.
        database: String,
        /// The grace time; `None` is that of the configuration.
        grace: Option<Duration>,
    },
    /// Take the hosts of a database for another cluster than before, or an earlier timeline of it.
    Adopt {
        /// The database, in the name that clients use.
        database: String,
        /// The host that shows which; `None` is the first primary among them.
        host: Option<String>,
    },
    /// Stop all sockets; not supported.
    Suspend,
    /// Change a setting; not supported.
    Set(String),
}

/// What a deed is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// One database, in the name that clients use.
    Database(String),
}

/// What there is to say after a deed.
#[derive(Debug, Default)]
pub struct Done {
    /// Notices, in order.
    pub notices: Vec<ErrorReport>,
    /// How the proxy is to end, once the answer has been sent.
    pub ending: Option<Ending>,
}

impl Scope {
    /// Whether a database is meant.
    pub fn covers(&self, database: &str) -> bool {
        match self {
            Self::All => true,
            Self::Database(name) => name == database,
        }
    }

    /// The name of the database, if only one is meant.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Database(name) => Some(name),
        }
    }

    /// The databases whose servers are meant: of a sharded one, its shards. `None` is all.
    pub fn served(&self, config: &Config) -> Option<Vec<String>> {
        let name = self.database()?;
        let shards = config
            .sharded
            .get(name)
            .map(|sharded| sharded.shards.clone());
        Some(shards.unwrap_or_else(|| vec![name.to_owned()]))
    }

    /// Says whether they give servers.
    pub fn pause(&self, paused: bool, facts: &Facts) {
        match self.served(&facts.config.load()) {
            None => facts.doors.pause(None, paused),
            Some(names) => names
                .iter()
                .for_each(|name| facts.doors.pause(Some(name), paused)),
        }
    }

    /// The pools that are meant.
    ///
    /// # Errors
    /// 3D000 for a database that is neither configured by this name nor has pools: a wrong name must
    /// not look as if something was done, only because there is a wildcard.
    pub fn pools(&self, facts: &Facts) -> Result<Vec<Arc<Pool>>, ErrorReport> {
        let config = facts.config.load();
        let names = self.served(&config);
        let routes = facts.routes.load();
        let is_meant = |name: &String| names.as_ref().is_none_or(|names| names.contains(name));
        let meant = routes.values().filter(|pool| is_meant(&pool.key.database));
        let pools: Vec<_> = meant.map(Arc::clone).collect();
        let is_configured = |name: &String| {
            config.databases.contains_key(name) || config.sharded.contains_key(name)
        };
        match self {
            Self::Database(name) if pools.is_empty() && !is_configured(name) => {
                Err(ErrorReport::error(
                    sqlstate::INVALID_CATALOG_NAME,
                    format!("no such database: {name}"),
                ))
            }
            _ => Ok(pools),
        }
    }
}

impl Verb {
    /// What CommandComplete says.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Reconnect(_) => "RECONNECT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::Reload => "RELOAD",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Switchover { .. } => "SWITCHOVER",
            Self::Adopt { .. } => "ADOPT",
            Self::Suspend => "SUSPEND",
            Self::Set(_) => "SET",
        }
    }

    /// Does it. May wait for long; to drop it is to stop waiting, what was done stays done.
    ///
    /// # Errors
    /// What the asker is told.
    pub async fn act(&self, facts: &Arc<Facts>) -> Result<Done, ErrorReport> {
        match self {
            Self::Pause(scope) => pause::pause(scope, facts).await?,
            Self::Resume(scope) => pause::resume(scope, facts)?,
            Self::Reconnect(scope) => reconnect::reconnect(scope, facts)?,
            Self::WaitClose(scope) => reconnect::wait_close(scope, facts).await?,
            Self::Kill(scope) => kill::kill(scope, facts)?,
            Self::KillClient(id) => kill::client(*id, facts)?,
            Self::Reload => return reload::reload(facts).await,
            Self::Shutdown(ending) => {
                return Ok(Done {
                    ending: Some(*ending),
                    ..Done::default()
                });
            }
            Self::Disable(name) => disable::disable(name, true, facts)?,
            Self::Enable(name) => disable::disable(name, false, facts)?,
            Self::Switchover { database, grace } => {
                switchover::switchover(database, *grace, facts).await?;
            }
            Self::Adopt { database, host } => {
                let notice = adopt::adopt(database, host.as_deref(), facts)?;
                return Ok(Done {
                    notices: notice.into_iter().collect(),
                    ..Done::default()
                });
            }
            Self::Suspend => return Err(suspend()),
            Self::Set(name) => return Err(set(name)),
        }
        Ok(Done::default())
    }
}

fn unsupported(message: String) -> ErrorReport {
    ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
}

fn suspend() -> ErrorReport {
    unsupported("SUSPEND is not supported".to_owned())
        .hint("PAUSE holds clients back without touching their sockets.")
}

fn set(name: &str) -> ErrorReport {
    unsupported(format!("setting {name} cannot be changed from the console"))
        .hint("Edit the configuration file and RELOAD.")
}

#[cfg(test)]
mod tests {
    use super::{Scope, Verb};

    #[test]
    fn a_scope_covers_what_it_says() {
        assert!(Scope::All.covers("a"));
        let one = Scope::Database("a".to_owned());
        assert!(one.covers("a"));
        assert!(!one.covers("A"));
    }

    #[test]
    fn tags_are_the_commands() {
        assert_eq!(Verb::WaitClose(Scope::All).tag(), "WAIT_CLOSE");
        assert_eq!(Verb::KillClient(1).tag(), "KILL_CLIENT");
    }
}
