//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, as state machines without I/O.
//!
//! Source: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point), PostgreSQL documentation, "SASL
//! Authentication". As in Postgres, the user name within the exchange is not looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::CryptoRng;
use thiserror::Error;

mod attribute;
pub mod client;
mod keys;
pub mod server;
#[cfg(test)]
mod tests;
mod verifier;

pub use keys::{ClientKey, Keys, ServerKey};
pub use verifier::Verifier;

/// The name of the mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The name of the mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The iterations that Postgres uses unless told otherwise.
pub const ITERATIONS: u32 = 4096;
/// The most iterations that a server may ask of us; more is an attack on our processors.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// The longest message of an exchange in bytes, and so the longest of each of its parts.
pub const MESSAGE_MAX: usize = 4096;
/// The longest nonce in bytes, both halves together.
pub const NONCE_MAX: usize = 1024;

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScramError {
    /// A message that does not follow the grammar; the text says where.
    #[error("malformed SCRAM message ({0})")]
    Malformed(&'static str),
    /// A message at the wrong time.
    #[error("SCRAM message out of order")]
    OutOfOrder,
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The client wants to act as somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// A mandatory extension.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// The mechanism binds to the channel, the message does not, or the other way round.
    #[error("SCRAM mechanism and channel binding flag do not agree")]
    BindingFlag,
    /// The client thinks that we cannot bind to the channel: somebody took it from our offer.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// A type other than tls-server-end-point.
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    /// The other side sees another channel.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The nonce is not the one agreed on.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The password is wrong.
    #[error("password authentication failed")]
    Proof,
    /// The server does not know the password.
    #[error("incorrect server signature")]
    Signature,
    /// Too few or too many iterations.
    #[error("SCRAM iteration count {0} is out of range")]
    Iterations(u32),
    /// The server stores another password, or the same one anew, than the one the keys are of.
    #[error("the server stores another password than the one that is known")]
    OtherPassword,
    /// None of our mechanisms is offered.
    #[error("none of the server's SASL authentication mechanisms are supported")]
    NoMechanism,
    /// Channel binding is required and cannot be had.
    #[error("channel binding required, but not available")]
    NoBinding,
    /// The server says no in its last message.
    #[error("server refused the SCRAM exchange: {0}")]
    Refused(String),
}

/// A nonce that nobody can guess: 24 characters that hold 18 random bytes, as Postgres makes them.
pub fn nonce(rng: &mut impl CryptoRng) -> String {
    let mut raw = [0; 18];
    rng.fill_bytes(&mut raw);
    STANDARD.encode(raw)
}

/// The channel binding data as both sides write it into `c=`.
fn binding(header: &str, end_point: Option<&[u8]>) -> String {
    let mut data = header.as_bytes().to_vec();
    data.extend_from_slice(end_point.unwrap_or_default());
    STANDARD.encode(data)
}

/// What both proof and signature are made over.
fn auth_message(first_bare: &[u8], server_first: &[u8], without_proof: &[u8]) -> Vec<u8> {
    [first_bare, server_first, without_proof].join(&b","[..])
}
