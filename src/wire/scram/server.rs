//! The side that knows a verifier.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::attribute::{self, Attributes};
use super::{
    ClientKey, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, Verifier, auth_message, binding,
};

/// One login of one client.
pub struct Exchange {
    verifier: Verifier,
    end_point: Option<Vec<u8>>,
    nonce: String,
    state: State,
}

enum State {
    Begun,
    Challenged(Challenge),
    Over,
}

/// What the client's last message is judged by.
struct Challenge {
    binding: String,
    nonce: String,
    first_bare: Vec<u8>,
    server_first: String,
}

impl Exchange {
    /// An exchange against `verifier`, with a fresh `nonce`. With `channel_binding`, the
    /// tls-server-end-point hash of our certificate, the PLUS mechanism is offered as well.
    pub fn new(verifier: Verifier, channel_binding: Option<Vec<u8>>, nonce: String) -> Self {
        Self {
            verifier,
            end_point: channel_binding,
            nonce,
            state: State::Begun,
        }
    }

    /// The mechanisms to offer, best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self.end_point {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        }
    }

    /// Takes the client's choice and first message; gives the server's first.
    ///
    /// # Errors
    /// A mechanism that is not offered, a flag that does not fit it, anything malformed.
    pub fn first(&mut self, mechanism: &[u8], message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let State::Begun = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let plus = match mechanism {
            _ if mechanism == SCRAM_SHA_256.as_bytes() => false,
            _ if mechanism == SCRAM_SHA_256_PLUS.as_bytes() && self.end_point.is_some() => true,
            _ => return Err(ScramError::Mechanism),
        };
        // Length and NULs are judged for the whole message before any part of it.
        Attributes::new(message)?;
        let (header, bare) = self.header(plus, message)?;
        let client_nonce = first_bare(bare)?;
        let nonce = format!("{client_nonce}{}", self.nonce);
        let salt = STANDARD.encode(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let end_point = self.end_point.as_deref().filter(|_| plus);
        let answer = server_first.clone().into_bytes();
        self.state = State::Challenged(Challenge {
            binding: binding(header, end_point),
            nonce,
            first_bare: bare.to_vec(),
            server_first,
        });
        Ok(answer)
    }

    /// Judges the header as Postgres does; gives it and what follows.
    fn header<'a>(
        &self,
        plus: bool,
        message: &'a [u8],
    ) -> Result<(&'static str, &'a [u8]), ScramError> {
        let (header, rest) = match message {
            [b'n', b',', rest @ ..] if !plus => ("n,,", rest),
            [b'y', b',', ..] if !plus && self.end_point.is_some() => {
                return Err(ScramError::Downgrade);
            }
            [b'y', b',', rest @ ..] if !plus => ("y,,", rest),
            [b'n' | b'y', b',', ..] => return Err(ScramError::BindingFlag),
            [b'p', b'=', ..] if !plus => return Err(ScramError::BindingFlag),
            [b'p', b'=', rest @ ..] => match rest.strip_prefix(b"tls-server-end-point,") {
                Some(rest) => ("p=tls-server-end-point,,", rest),
                None => return Err(ScramError::BindingType),
            },
            _ => return Err(ScramError::Malformed("invalid channel binding flag")),
        };
        match rest {
            [b',', bare @ ..] => Ok((header, bare)),
            [b'a', ..] => Err(ScramError::AuthorizationIdentity),
            _ => Err(ScramError::Malformed("authorization identity expected")),
        }
    }

    /// Takes the client's last message; gives the server's last and the client's key, by which
    /// the client's login can be repeated on a server with the same verifier.
    ///
    /// # Errors
    /// [`ScramError::Proof`] for a wrong password, others for all that is malformed or for
    /// another exchange or channel.
    pub fn last(&mut self, message: &[u8]) -> Result<(Vec<u8>, ClientKey), ScramError> {
        let State::Challenged(challenge) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let (without_proof, proof) = challenge.judge(message)?;
        let auth_message = auth_message(
            &challenge.first_bare,
            challenge.server_first.as_bytes(),
            without_proof,
        );
        let key = ClientKey::from_proof(&proof, &self.verifier.stored_key, &auth_message);
        let key = key.ok_or(ScramError::Proof)?;
        let signature = self.verifier.server_key.signature(&auth_message);
        Ok((
            format!("v={}", STANDARD.encode(signature)).into_bytes(),
            key,
        ))
    }
}

impl Challenge {
    /// The message without its proof, and the proof.
    fn judge<'a>(&self, message: &'a [u8]) -> Result<(&'a [u8], [u8; 32]), ScramError> {
        let mut attributes = Attributes::new(message)?;
        let channel = attributes.expect(b'c', "channel binding expected")?;
        let nonce = attributes.expect(b'r', "nonce expected")?;
        let proof = loop {
            match attributes.any()? {
                Some((b'p', proof)) => break proof,
                Some((b'c' | b'r', _)) => return Err(ScramError::Malformed("attribute repeated")),
                Some((b'm', _)) => return Err(ScramError::Extension),
                Some(_) => {}
                None => return Err(ScramError::Malformed("proof expected")),
            }
        };
        attributes.end()?;
        attribute::base64(channel, "invalid channel binding")?;
        if channel != self.binding.as_bytes() {
            return Err(ScramError::Binding);
        }
        if !bool::from(
            attribute::nonce(nonce)?
                .as_bytes()
                .ct_eq(self.nonce.as_bytes()),
        ) {
            return Err(ScramError::Nonce);
        }
        let without_proof = message.len() - proof.len() - b",p=".len();
        Ok((
            &message[..without_proof],
            attribute::key(proof, "invalid proof")?,
        ))
    }
}

/// The client's nonce in its first message after the header.
fn first_bare(bare: &[u8]) -> Result<&str, ScramError> {
    if bare.first() == Some(&b'm') {
        return Err(ScramError::Extension);
    }
    let mut attributes = Attributes::new(bare)?;
    attributes.expect(b'n', "user name expected")?;
    let nonce = attribute::nonce(attributes.expect(b'r', "nonce expected")?)?;
    while let Some((name, _)) = attributes.any()? {
        if matches!(name, b'm' | b'n' | b'r') {
            return Err(ScramError::Malformed("attribute repeated"));
        }
    }
    Ok(nonce)
}
