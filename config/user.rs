use crate::admin::Role;
use crate::database::WILDCARD;
use crate::draft::dotted;
use crate::files;
use crate::limits::LimitOverrides;
use crate::pool::PoolOverrides;
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::secret::{Password, Secret};
use crate::section::Section;
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

impl User {
    /// Reads a user of a name.
    pub(crate) fn read(name: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let password = files::secret("password", "password_file", reader);
        let password = password.and_then(|secret| {
            let password = Password::of(secret);
            if password.is_none() {
                let allowed =
                    "a password, `SCRAM-SHA-256$rounds:salt$key:key`, `md5` and 32 digits";
                reader.contradiction("password", "begins like a verifier and is none", allowed);
            }
            password
        });
        let console: Option<Role> = reader.optional("console");
        let server_user: Option<String> = reader.optional("server_user");
        let server_password = files::secret("server_password", "server_password_file", reader);
        let pool = reader.section("pool")?;
        let timeouts = reader.section("timeouts")?;
        let limits = reader.section("limits")?;
        if name == WILDCARD && console.unwrap_or_default() != Role::None {
            reader.contradiction("console", "everyone could command", "for a named user only");
        }
        if name == WILDCARD && password.is_some() {
            reader.contradiction(
                "password",
                "it would be everyone's",
                "for a named user only",
            );
        }
        let user = Self {
            name: name.to_owned(),
            password,
            console: console.unwrap_or_default(),
            server_user,
            server_password,
            pool,
            timeouts,
            limits,
        };
        if user.server_user.is_some() && user.server_secret().is_none() {
            reader.warn(
                "server_user",
                "no password is known for it, so the servers must trust it",
            );
        }
        Some(user)
    }

    /// Gives what is set, to be shown and compared.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let path = dotted("users", &self.name);
        let at = |key: &str| format!("{path}.{key}");
        let next = Effect::NextConnection;
        let mut rows = vec![Row::plain(
            at("console"),
            self.console.word().to_owned(),
            next,
        )];
        rows.extend(
            self.password
                .as_ref()
                .map(|it| Row::secret(at("password"), it.secret(), next)),
        );
        rows.extend(
            self.server_user
                .clone()
                .map(|it| Row::plain(at("server_user"), it, next)),
        );
        rows.extend(
            self.server_password
                .as_ref()
                .map(|it| Row::secret(at("server_password"), it, next)),
        );
        rows.extend(self.pool.rows(&at("pool")));
        rows.extend(self.timeouts.rows(&at("timeouts")));
        rows.extend(self.limits.rows(&at("limits")));
        rows
    }
}
