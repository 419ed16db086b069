//! The right way through SCRAM, on both sides, and the ways to leave it.

use pgherd_wire::scram::client::{Binding, Credentials, Exchange};
use pgherd_wire::scram::{self, Verifier};

use super::answer::{Answer, End};
use super::client::Client;
use super::packet;

/// Answers a request for SCRAM as the password allows.
pub(super) async fn login(client: &mut Client, password: &str, asked: &Answer) -> Answer {
    let body = asked
        .messages
        .last()
        .map_or(&[][..], |message| &message.body);
    let offered = body.get(4..).unwrap_or_default().split(|byte| *byte == 0);
    let end_point = client.end_point();
    let made = Exchange::new(
        Credentials::Password(password.as_bytes().to_vec()),
        offered,
        Binding::Prefer,
        end_point.as_deref(),
        scram::nonce(&mut rand::rng()),
    );
    let Ok(mut exchange) = made else {
        return asked.clone();
    };
    let initial = packet::sasl_initial(exchange.mechanism(), &exchange.first());
    let _ = client.send(&initial).await;
    let challenge = client.hear().await;
    let End::Asked(11) = challenge.end else {
        return challenge;
    };
    let first = challenge
        .messages
        .last()
        .and_then(|message| message.body.get(4..));
    let Ok(last) = exchange.last(first.unwrap_or_default()) else {
        return challenge;
    };
    let _ = client.send(&packet::sasl_response(&last)).await;
    client.hear().await
}

/// How a server lies in SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    None,
    /// A nonce of so many bytes.
    Nonce(usize),
    /// A nonce that does not begin with the client's.
    OtherNonce,
    /// So many iterations.
    Iterations(u32),
    /// An empty salt.
    NoSalt,
    /// A salt that is no base64.
    BadSalt,
    /// A signature that only somebody without the password would make.
    Signature,
    /// AuthenticationOk in place of a signature.
    NoSignature,
    /// AuthenticationOk in place of a challenge.
    NoChallenge,
    /// The server's own words of refusal, before it has shown that it is one.
    Refusal(&'static str),
    /// Only mechanisms that nobody knows.
    Mechanism,
    /// A list of mechanisms that does not end.
    Unended,
}

/// The side of the server.
pub struct Stage {
    lie: Lie,
    exchange: scram::server::Exchange,
}

impl Stage {
    /// A server that knows the password, and lies like this about it.
    pub fn new(password: &str, lie: Lie) -> Self {
        let password = if lie == Lie::Signature {
            "another"
        } else {
            password
        };
        let verifier = Verifier::from_password(password.as_bytes(), b"salt of sixteen.", 4096);
        let nonce = scram::nonce(&mut rand::rng());
        Self {
            lie,
            exchange: scram::server::Exchange::new(verifier, None, nonce),
        }
    }

    /// The mechanisms.
    pub fn offer(&self) -> Vec<u8> {
        let names: &[u8] = match self.lie {
            Lie::Mechanism => b"ROT-13\0\0",
            Lie::Unended => b"SCRAM-SHA-256",
            _ => b"SCRAM-SHA-256\0\0",
        };
        packet::authentication(10, names)
    }

    /// The answer to the client's first message, as its body is.
    pub fn challenge(&mut self, body: &[u8]) -> Vec<u8> {
        let data = body.get(b"SCRAM-SHA-256\0....".len()..).unwrap_or_default();
        let honest = self
            .exchange
            .first(b"SCRAM-SHA-256", data)
            .unwrap_or_default();
        let honest = String::from_utf8_lossy(&honest).into_owned();
        let nonce = honest.split(',').next().unwrap_or_default();
        let told = match self.lie {
            Lie::Nonce(length) => {
                format!("{nonce}{},s=c2FsdA==,i=4096", "n".repeat(length))
            }
            Lie::OtherNonce => "r=abcdefghijklmnopqrstuvwxyz,s=c2FsdA==,i=4096".to_owned(),
            Lie::Iterations(count) => format!("{nonce},s=c2FsdA==,i={count}"),
            Lie::NoSalt => format!("{nonce},s=,i=4096"),
            Lie::BadSalt => format!("{nonce},s=!!!!,i=4096"),
            Lie::NoChallenge => return packet::authentication(0, &[]),
            _ => honest,
        };
        packet::authentication(11, told.as_bytes())
    }

    /// The answer to the client's last message.
    pub fn verdict(&mut self, body: &[u8]) -> Vec<u8> {
        match self.lie {
            Lie::NoSignature => packet::authentication(0, &[]),
            Lie::Refusal(words) => packet::authentication(12, format!("e={words}").as_bytes()),
            Lie::Signature => {
                let words = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
                [
                    packet::authentication(12, words.as_bytes()),
                    packet::authentication(0, &[]),
                ]
                .concat()
            }
            _ => match self.exchange.last(body) {
                Ok((last, _)) => [
                    packet::authentication(12, &last),
                    packet::authentication(0, &[]),
                ]
                .concat(),
                Err(_) => packet::error(&[(b'S', "FATAL"), (b'C', "28P01"), (b'M', "wrong")]),
            },
        }
    }
}
