//! The keys of an exchange and how they come from a password.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What proves that a client knows the password: as good as the password for servers that store
/// it with the same salt. Never printed, and overwritten when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClientKey(pub(super) [u8; 32]);

/// What proves that a server knows the verifier. Never printed, and overwritten when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ServerKey(pub(super) [u8; 32]);

/// Both keys of a user, enough to log in without the password to servers that store it with the
/// same salt and iterations. Never printed.
#[derive(Clone)]
pub struct Keys {
    pub(super) client: ClientKey,
    pub(super) server: ServerKey,
    salt: Arc<[u8]>,
    iterations: u32,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// The keys of a password: PBKDF2, so as slow as `iterations` says.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new([0; 32]);
        let password = normalize(password);
        pbkdf2::pbkdf2_hmac::<Sha256>(&password, salt, iterations, &mut *salted);
        Self {
            client: ClientKey(hmac(&*salted, b"Client Key")),
            server: ServerKey(hmac(&*salted, b"Server Key")),
            salt: salt.into(),
            iterations,
        }
    }

    /// The keys that were made with this salt and these iterations.
    pub(super) fn new(client: ClientKey, server: ServerKey, salt: &[u8], iterations: u32) -> Self {
        Self {
            client,
            server,
            salt: salt.into(),
            iterations,
        }
    }

    /// Whether a server with this salt and these iterations may store the same password. With
    /// another salt it stores another one, or the same one anew; the keys cannot tell.
    pub fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        *self.salt == *salt && self.iterations == iterations
    }

    /// Whether these are the other's keys. Takes the same time for all.
    pub fn same(&self, other: &Self) -> bool {
        let client = self.client.0.ct_eq(&other.client.0);
        let server = self.server.0.ct_eq(&other.server.0);
        bool::from(client & server) && other.fit(&self.salt, self.iterations)
    }
}

impl ClientKey {
    /// What a server stores of the key.
    pub(super) fn stored(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The proof over an exchange.
    pub(super) fn proof(&self, auth_message: &[u8]) -> [u8; 32] {
        xor(&self.0, &hmac(&self.stored(), auth_message))
    }

    /// The key in a proof that was made for `stored`; the right one only if it hashes to it.
    pub(super) fn from_proof(
        proof: &[u8; 32],
        stored: &[u8; 32],
        auth_message: &[u8],
    ) -> Option<Self> {
        let key = Self(xor(proof, &hmac(stored, auth_message)));
        bool::from(key.stored().ct_eq(stored)).then_some(key)
    }
}

impl ServerKey {
    /// The signature over an exchange.
    pub(super) fn signature(&self, auth_message: &[u8]) -> [u8; 32] {
        hmac(&self.0, auth_message)
    }
}

/// The password after SASLprep; the raw bytes where that cannot be done, as in Postgres.
fn normalize(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = std::str::from_utf8(password).ok();
    Zeroizing::new(
        match text.and_then(|text| stringprep::saslprep(text).ok()) {
            Some(prepared) if !prepared.is_empty() => prepared.into_owned().into_bytes(),
            _ => password.to_vec(),
        },
    )
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(key);
    let mut mac = mac.expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn xor(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}
