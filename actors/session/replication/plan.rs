//! Where a replication client will go, decided at its login.

use std::sync::Arc;

use pgherd_config::{Config, PoolSettings};
use pgherd_pool::Quota;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{sqlstate, startup};

use crate::caps::Seat;
use crate::control::Identity;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::router;
use crate::session::login::Claim;
use crate::session::prove::Proof;
use crate::session::replication::{Kind, route};
use crate::upstream::Upstream;

/// The name in the place of a database that libpq sends for physical replication, too.
const NO_DATABASE: &str = "replication";

/// What is to be opened for one replication client.
pub struct Plan {
    /// What it asked for.
    pub(super) kind: Kind,
    /// The database and the user that it counts for.
    pub(super) key: PoolKey,
    /// Bytes of the secret in the key for cancels that the client is given.
    pub(super) secret_len: usize,
    /// The settings of that database and user.
    pub settings: PoolSettings,
    /// Where the connection leads; the client's start-up parameters are among its own.
    pub(super) upstream: Arc<Upstream>,
    /// The limits that the connection counts towards.
    pub(super) quotas: Vec<Arc<Quota>>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// The way of a client that has proved who it is.
    ///
    /// # Errors
    /// There is no such place, worded for the client.
    pub(in crate::session) fn make(
        claim: &Claim,
        kind: Kind,
        facts: &Facts,
        config: &Config,
        proof: &Proof,
    ) -> Result<Self, ErrorReport> {
        if config.is_console(&claim.database) {
            return Err(ErrorReport::fatal(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "the console cannot be replicated",
            ));
        }
        // They come from `options`, where Postgres knows none of the names by which the server would be told who
        // logs in, and where.
        let mut names = claim.parameters.iter().map(|(name, _)| name);
        if let Some(name) = names.find(|name| startup::is_protocols(name)) {
            return Err(ErrorReport::fatal(
                sqlstate::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            ));
        }
        let Some(database) = config.database(&claim.database) else {
            return Err(match kind {
                Kind::Physical => route::ambiguous(),
                Kind::Logical => ErrorReport::fatal(
                    sqlstate::INVALID_CATALOG_NAME,
                    format!("database \"{}\" does not exist", claim.database),
                ),
            });
        };
        let key = PoolKey::new(claim.database.clone(), claim.user.clone());
        let settings = config.effective_pool(&database, config.user(&key.user).as_deref());
        let usual = router::upstream(facts, config, &database, &key, proof)?;
        let quotas = router::quotas(&facts.memory, config, &settings, &key, &usual.name);
        Ok(Self {
            kind,
            key,
            secret_len: claim.version.spoken().secret_len(),
            settings,
            upstream: Arc::new(replicating(&usual, kind, &claim.parameters)),
            quotas,
        })
    }

    /// Takes a seat among the clients of the database and the user.
    ///
    /// # Errors
    /// The limit that is reached, worded for the client.
    pub(in crate::session) fn seat(
        &self,
        facts: &Facts,
        identity: &Arc<Identity>,
    ) -> Result<Seat, ErrorReport> {
        let (database, user) = (self.settings.database, self.settings.user);
        facts.caps.enter(identity, database, user)
    }
}

/// The way of the usual connections with the client's own parameters, which win over configured
/// ones of the same name, and with the wish for replication.
pub(in crate::session) fn replicating(
    usual: &Upstream,
    kind: Kind,
    parameters: &[(String, String)],
) -> Upstream {
    let mut own = usual.clone();
    let given = |name: &str| {
        parameters
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    own.parameters.retain(|name, _| !given(name));
    own.parameters.extend(parameters.iter().cloned());
    own.replication = Some(kind.parameter());
    if kind == Kind::Physical {
        NO_DATABASE.clone_into(&mut own.database);
    }
    own
}
