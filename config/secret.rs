use std::fmt;

/// A text that is never printed: `Debug` masks it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives the secret; every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// What is known of a user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Plain(Secret),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    /// <https://www.postgresql.org/docs/current/catalog-pg-authid.html>
    Scram(Secret),
    /// `md5` and the hex digest of password and name.
    Md5(Secret),
}

impl Password {
    /// Tells by its form what a secret is, as Postgres does for `pg_authid.rolpassword`.
    ///
    /// `None` if it begins like a verifier and is none.
    pub fn of(secret: Secret) -> Option<Self> {
        let text = secret.expose();
        if text.starts_with("SCRAM-SHA-256$") {
            return is_verifier(text).then_some(Self::Scram(secret));
        }
        let is_md5 = text
            .strip_prefix("md5")
            .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        Some(if is_md5 {
            Self::Md5(secret)
        } else {
            Self::Plain(secret)
        })
    }

    /// Gives what was written, whatever it is.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Plain(secret) | Self::Scram(secret) | Self::Md5(secret) => secret,
        }
    }
}

fn is_verifier(text: &str) -> bool {
    let parts: Vec<&str> = text.split('$').collect();
    let [_, rounds, keys] = parts[..] else {
        return false;
    };
    let base64 = |text: &str| {
        let plain = text.trim_end_matches('=');
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
        !plain.is_empty() && text.len().is_multiple_of(4) && plain.bytes().all(word)
    };
    let (Some((rounds, salt)), Some((stored, server))) =
        (rounds.split_once(':'), keys.split_once(':'))
    else {
        return false;
    };
    // Both keys are SHA-256 digests: 32 bytes are 44 digits of base64.
    rounds.parse::<u32>().is_ok_and(|rounds| rounds > 0)
        && base64(salt)
        && [stored, server]
            .iter()
            .all(|key| key.len() == 44 && base64(key))
}

#[cfg(test)]
mod tests {
    use super::{Password, Secret};

    #[test]
    fn tells_verifiers_from_passwords() {
        let of = |text: &str| Password::of(Secret::new(text));
        let key = "A".repeat(43) + "=";
        let verifier = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert!(matches!(of(&verifier), Some(Password::Scram(_))));
        assert!(matches!(of("md5c0ffee"), Some(Password::Plain(_))));
        assert!(matches!(
            of(&format!("md5{}", "0f".repeat(16))),
            Some(Password::Md5(_))
        ));
        assert_eq!(of("SCRAM-SHA-256$4096:c2FsdA==$short:keys"), None);
        assert_eq!(of(&verifier.replace("4096", "0")), None);
        assert_eq!(of("SCRAM-SHA-256$4096:c2FsdA==$AAA=:AAA="), None);
    }

    #[test]
    fn never_prints() {
        let shown = format!("{:?}", Password::of(Secret::new("hunter2")));
        assert_eq!(shown, "Some(Plain(********))");
    }
}
