//! The key by which a client names the work that it wants cancelled.

use std::fmt;
use std::ops::RangeInclusive;

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Bytes that a secret may have: four up to protocol 3.1, up to 256 since 3.2.
pub const SECRET_LEN: RangeInclusive<usize> = 4..=256;

/// A secret of a length that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid cancel key length {0}")]
pub struct KeyLength(pub usize);

/// What BackendKeyData gives and CancelRequest shows. Compared in constant time; the secret is
/// never printed.
#[derive(Clone)]
pub struct CancelKey {
    /// The process, or the session of a proxy; not secret.
    pub pid: i32,
    secret: Box<[u8]>,
}

impl CancelKey {
    /// A key with a known secret.
    ///
    /// # Errors
    /// The secret is not of 4 to 256 bytes.
    pub fn new(pid: i32, secret: &[u8]) -> Result<Self, KeyLength> {
        if !SECRET_LEN.contains(&secret.len()) {
            return Err(KeyLength(secret.len()));
        }
        Ok(Self {
            pid,
            secret: secret.into(),
        })
    }

    /// A key nobody can guess; `len` is brought into [`SECRET_LEN`].
    ///
    /// Postgres gives 4 bytes to clients below protocol 3.2 and 32 to the others.
    pub fn random(rng: &mut impl CryptoRng, pid: i32, len: usize) -> Self {
        let mut secret = vec![0; len.clamp(*SECRET_LEN.start(), *SECRET_LEN.end())];
        rng.fill_bytes(&mut secret);
        Self {
            pid,
            secret: secret.into(),
        }
    }

    /// The secret, for the wire only.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl PartialEq for CancelKey {
    fn eq(&self, other: &Self) -> bool {
        let same_pid = self.pid.ct_eq(&other.pid);
        bool::from(same_pid & self.secret.ct_eq(&other.secret))
    }
}

impl Eq for CancelKey {}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differs_by_pid_by_secret_and_by_length() {
        let key = CancelKey::new(7, b"abcd").unwrap();
        assert_eq!(key, CancelKey::new(7, b"abcd").unwrap());
        assert_ne!(key, CancelKey::new(8, b"abcd").unwrap());
        assert_ne!(key, CancelKey::new(7, b"abce").unwrap());
        assert_ne!(key, CancelKey::new(7, b"abcde").unwrap());
    }

    #[test]
    fn keeps_to_the_lengths_of_the_protocol() {
        assert_eq!(CancelKey::new(1, b"abc"), Err(KeyLength(3)));
        assert_eq!(CancelKey::new(1, &[0; 257]), Err(KeyLength(257)));
        let mut rng = rand::rng();
        assert_eq!(CancelKey::random(&mut rng, 1, 0).secret().len(), 4);
        assert_eq!(CancelKey::random(&mut rng, 1, 32).secret().len(), 32);
        assert_eq!(CancelKey::random(&mut rng, 1, 999).secret().len(), 256);
        assert_ne!(
            CancelKey::random(&mut rng, 1, 32),
            CancelKey::random(&mut rng, 1, 32)
        );
    }

    #[test]
    fn does_not_print_its_secret() {
        let printed = format!("{:?}", CancelKey::new(7, b"hush").unwrap());
        assert_eq!(printed, "CancelKey { pid: 7, .. }");
    }
}
