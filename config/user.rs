use crate::admin::Role;
use crate::limits::LimitOverrides;
use crate::pool::PoolOverrides;
use crate::secret::{Password, Secret};
use crate::timeouts::TimeoutOverrides;

/// A user who may log in to pgherd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, or [`crate::WILDCARD`].
    pub name: String,
    /// What the client must prove to know; `None` lets only methods without a secret succeed.
    pub password: Option<Password>,
    /// What the user may do on the console.
    pub console: Role,
    /// The user on the servers; `None` is the same name.
    pub server_user: Option<String>,
    /// The password on the servers; `None` is the client's own, where it is known.
    pub server_password: Option<Secret>,
    /// Settings of the user's pools.
    pub pool: PoolOverrides,
    /// The user's timeouts.
    pub timeouts: TimeoutOverrides,
    /// The user's limits.
    pub limits: LimitOverrides,
}

impl User {
    /// Gives the plain password for the servers, if one is known.
    pub fn server_secret(&self) -> Option<&Secret> {
        match (&self.server_password, &self.password) {
            (Some(secret), _) | (None, Some(Password::Plain(secret))) => Some(secret),
            _ => None,
        }
    }
}
