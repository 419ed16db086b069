//! What a server stores of a password.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::keys::hmac;
use super::{ClientKey, ITERATIONS, Keys, SCRAM_SHA_256, ScramError, ServerKey, attribute};

/// A stored password, in the form of `pg_authid.rolpassword`. Its keys are never printed by
/// `Debug`.
#[derive(Clone)]
pub struct Verifier {
    /// Rounds of PBKDF2, at least one.
    pub iterations: u32,
    /// The salt, not empty.
    pub salt: Vec<u8>,
    /// The hash of the client's key.
    pub stored_key: [u8; 32],
    /// The server's key.
    pub server_key: ServerKey,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    ///
    /// # Errors
    /// Any other form.
    pub fn parse(stored: &str) -> Result<Self, ScramError> {
        const FORM: ScramError = ScramError::Malformed("invalid SCRAM verifier");
        let mut parts = stored.split('$');
        if parts.next() != Some(SCRAM_SHA_256) {
            return Err(FORM);
        }
        let (Some(cost), Some(keys), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FORM);
        };
        let (iterations, salt) = cost.split_once(':').ok_or(FORM)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(FORM)?;
        let iterations = attribute::number(iterations.as_bytes(), "invalid iteration count")?;
        if iterations == 0 || iterations > i32::MAX.unsigned_abs() {
            return Err(ScramError::Iterations(iterations));
        }
        Ok(Self {
            iterations,
            salt: attribute::base64(salt.as_bytes(), "invalid salt")?,
            stored_key: attribute::key(stored_key.as_bytes(), "invalid stored key")?,
            server_key: ServerKey(attribute::key(server_key.as_bytes(), "invalid server key")?),
        })
    }

    /// The verifier of a plain password; as slow as `iterations` says, which is at least one.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.max(1);
        let keys = Keys::from_password(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: keys.client.stored(),
            server_key: keys.server,
        }
    }

    /// A verifier that no password fits, for a user who does not exist: the same for the same
    /// name and `secret`, so that asking twice tells nothing.
    pub fn mock(user: &str, secret: &[u8]) -> Self {
        let derive = |what: &str| hmac(secret, format!("{what}:{user}").as_bytes());
        Self {
            iterations: ITERATIONS,
            salt: derive("salt").into_iter().take(16).collect(),
            stored_key: derive("stored"),
            server_key: ServerKey(derive("server")),
        }
    }

    /// Whether a plain password is the one; as slow as the iterations say.
    pub fn verify(&self, password: &[u8]) -> bool {
        let keys = Keys::from_password(password, &self.salt, self.iterations);
        self.accepts(&keys.client)
    }

    /// What a client's key, learned in an exchange with this verifier, opens servers with.
    pub fn keys(&self, client: ClientKey) -> Keys {
        Keys::new(client, self.server_key.clone(), &self.salt, self.iterations)
    }

    /// Whether a client's key is the right one.
    pub fn accepts(&self, key: &ClientKey) -> bool {
        key.stored().ct_eq(&self.stored_key).into()
    }

    /// The stored form, as [`Verifier::parse`] reads it.
    pub fn format(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key.0].map(|raw| STANDARD.encode(raw));
        format!(
            "{SCRAM_SHA_256}${}:{salt}${stored}:{server}",
            self.iterations
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
