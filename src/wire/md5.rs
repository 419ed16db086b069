//! The md5 password method, which Postgres still speaks.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up", AuthenticationMD5Password:
//! `"md5" || md5(md5(password || user) || salt)`, all in lower-case hexadecimal.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

const PREFIX: &str = "md5";
const HASH_LEN: usize = 35;

fn hex(parts: [&[u8]; 2]) -> String {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    let mut text = String::with_capacity(HASH_LEN);
    text.push_str(PREFIX);
    for byte in digest.finalize() {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
    }
    text
}

/// The hash that Postgres stores for a user with this password: `md5` and 32 hexadecimal digits.
pub fn hash(user: &str, password: &[u8]) -> String {
    hex([password, user.as_bytes()])
}

/// Whether `stored` looks like what [`hash`] makes.
pub fn is_hash(stored: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    stored.len() == HASH_LEN
        && stored
            .strip_prefix(PREFIX)
            .is_some_and(|digits| digits.bytes().all(legal))
}

/// The answer to a server's salt from a plain password.
pub fn response(user: &str, password: &[u8], salt: [u8; 4]) -> String {
    hex([&hash(user, password).as_bytes()[PREFIX.len()..], &salt])
}

/// The answer to a server's salt from a stored hash; `None` when `stored` is none.
pub fn response_from_hash(stored: &str, salt: [u8; 4]) -> Option<String> {
    if !is_hash(stored) {
        return None;
    }
    let digits = stored.strip_prefix(PREFIX)?;
    Some(hex([digits.as_bytes(), &salt]))
}

/// Whether `answer` is the right one for a plain password. Takes the same time for all answers of
/// the right length.
pub fn verify(user: &str, password: &[u8], salt: [u8; 4], answer: &[u8]) -> bool {
    response(user, password, salt)
        .as_bytes()
        .ct_eq(answer)
        .into()
}

/// Whether `answer` is the right one for a stored hash.
pub fn verify_hash(stored: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    response_from_hash(stored, salt).is_some_and(|right| right.as_bytes().ct_eq(answer).into())
}

/// Whether a password sent in the clear is the one of a stored hash.
pub fn verify_password(stored: &str, user: &str, password: &[u8]) -> bool {
    is_hash(stored) && bool::from(hash(user, password).as_bytes().ct_eq(stored.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with `md5sum`.
    const STORED: &str = "md54a0a68b43b6cd5cf266fa02f196e2371";
    const ANSWER: &str = "md5986e2194384c07f4fd1df4b1351b3e68";

    #[test]
    fn agrees_with_md5sum() {
        assert_eq!(hash("alice", b"secret"), STORED);
        assert_eq!(response("alice", b"secret", *b"salt"), ANSWER);
        assert_eq!(
            response_from_hash(STORED, *b"salt").as_deref(),
            Some(ANSWER)
        );
    }

    #[test]
    fn verifies_the_right_answer_only() {
        assert!(verify("alice", b"secret", *b"salt", ANSWER.as_bytes()));
        assert!(verify_hash(STORED, *b"salt", ANSWER.as_bytes()));
        assert!(verify_password(STORED, "alice", b"secret"));
        assert!(!verify("alice", b"Secret", *b"salt", ANSWER.as_bytes()));
        assert!(!verify("bob", b"secret", *b"salt", ANSWER.as_bytes()));
        assert!(!verify_hash(STORED, *b"tlas", ANSWER.as_bytes()));
        assert!(!verify_hash(STORED, *b"salt", b""));
        assert!(!verify_password(STORED, "alice", b"secret "));
    }

    #[test]
    fn takes_nothing_else_for_a_hash() {
        for text in [
            "",
            "md5",
            "md54a0a68b43b6cd5cf266fa02f196e2371x",
            "MD5 what",
            "SCRAM-SHA-256$4096:a$b:c",
        ] {
            assert!(!is_hash(text));
            assert!(response_from_hash(text, *b"salt").is_none());
        }
        assert!(!is_hash(&STORED.to_uppercase()));
        assert!(!is_hash("md5éééééééééééééééé"));
    }
}
