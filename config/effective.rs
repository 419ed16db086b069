use crate::config::Config;
use crate::database::Database;
use crate::failover::CommitResolution;
use crate::limits::{LimitOverrides, Limits, Share};
use crate::notifications::Notifications;
use crate::pool::PoolDefaults;
use crate::reads::Reads;
use crate::timeouts::Timeouts;
use crate::user::User;

/// What holds in the pool of a user and a database, all overrides applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Mode, sizes and manners.
    pub pool: PoolDefaults,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// The limit over all pools of the database.
    pub database: Share,
    /// The limit over all pools of the user.
    pub user: Share,
    /// The limits that know neither database nor user.
    pub limits: Limits,
    /// Which servers are read from.
    pub reads: Reads,
    /// What clients that listen may have.
    pub notifications: Notifications,
    /// Whether the outcome of a COMMIT whose answer is lost is found out.
    pub commit_resolution: CommitResolution,
    /// Whether errors that pgherd itself gives its clients are written to the log.
    pub log_errors: bool,
}

impl Config {
    /// Gives what holds in a pool: the general settings, under the database's, under the user's.
    pub fn effective_pool(&self, database: &Database, user: Option<&User>) -> PoolSettings {
        let mut pool = self.pool.clone();
        let mut timeouts = self.timeouts.clone();
        database.pool.apply(&mut pool);
        database.timeouts.apply(&mut timeouts);
        let mut reads = self.reads.clone();
        database.reads.apply(&mut reads);
        if let Some(user) = user {
            user.pool.apply(&mut pool);
            user.timeouts.apply(&mut timeouts);
        }
        // An override of the size alone must not leave a minimum that can never be reached.
        pool.min = pool.min.min(pool.size.get());
        let limits = &self.limits;
        let database = share(
            &database.limits,
            Share {
                max_clients: limits.max_database_clients,
                max_connections: limits.max_database_connections,
            },
        );
        let general = Share {
            max_clients: limits.max_user_clients,
            max_connections: limits.max_user_connections,
        };
        let user = user.map_or(general, |user| share(&user.limits, general));
        PoolSettings {
            pool,
            timeouts,
            database,
            user,
            limits: limits.clone(),
            reads,
            notifications: self.notifications.clone(),
            commit_resolution: self.failover.commit_resolution,
            log_errors: self.log.errors,
        }
    }
}

fn share(overrides: &LimitOverrides, general: Share) -> Share {
    Share {
        max_clients: overrides.max_clients.unwrap_or(general.max_clients),
        max_connections: overrides.max_connections.unwrap_or(general.max_connections),
    }
}
