//! The side that knows a password, or the keys of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::attribute::{self, Attributes};
use super::{
    ITERATIONS_MAX, Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, auth_message, binding,
};

/// The longest text of a server's refusal that is kept, in bytes.
const REFUSAL_MAX: usize = 256;

/// What the client proves itself by; never printed.
#[derive(Clone)]
pub enum Credentials {
    /// The plain password.
    Password(Vec<u8>),
    /// The keys, as an exchange with a client and a verifier give them. They fit servers that
    /// store the password with the same salt and iterations.
    Keys(Keys),
}

/// Whether to bind to the TLS channel; libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Always, or the login fails.
    Require,
}

/// One login to one server.
pub struct Exchange {
    credentials: Credentials,
    mechanism: &'static str,
    header: &'static str,
    end_point: Option<Vec<u8>>,
    nonce: String,
    state: State,
}

enum State {
    Begun,
    /// Holds the signature that only the right server can make.
    Answered([u8; 32]),
    Proven,
    Over,
}

impl Exchange {
    /// An exchange with a fresh `nonce` by the best of the `offered` mechanisms. `end_point` is
    /// the tls-server-end-point hash of the server's certificate, where there is TLS.
    ///
    /// # Errors
    /// No known mechanism is offered, or binding is required and cannot be had.
    pub fn new<'a>(
        credentials: Credentials,
        offered: impl IntoIterator<Item = &'a [u8]>,
        policy: Binding,
        end_point: Option<&[u8]>,
        nonce: String,
    ) -> Result<Self, ScramError> {
        let (mut plain, mut plus) = (false, false);
        for name in offered {
            plain |= name == SCRAM_SHA_256.as_bytes();
            plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        }
        let end_point = end_point.filter(|_| policy != Binding::Disable);
        let (mechanism, header) = match end_point {
            Some(_) if plus => (SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,"),
            _ if policy == Binding::Require => return Err(ScramError::NoBinding),
            _ if !plain => return Err(ScramError::NoMechanism),
            // Says that we could have, so that a server that did offer it notices the thief.
            Some(_) => (SCRAM_SHA_256, "y,,"),
            None => (SCRAM_SHA_256, "n,,"),
        };
        let end_point = end_point
            .filter(|_| mechanism == SCRAM_SHA_256_PLUS)
            .map(<[u8]>::to_vec);
        Ok(Self {
            credentials,
            mechanism,
            header,
            end_point,
            nonce,
            state: State::Begun,
        })
    }

    /// The mechanism that was chosen.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// The client's first message. The user name is left empty, as libpq does.
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.header, self.first_bare()).into_bytes()
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes the server's first message; gives the client's last. From a password this takes as
    /// long as the server's iterations say, at most [`ITERATIONS_MAX`]: not for an event loop.
    ///
    /// # Errors
    /// Anything malformed, a nonce that does not extend ours, an empty salt, too many iterations;
    /// [`ScramError::OtherPassword`] if keys are of another salt or number of iterations, and then
    /// no proof is made with them.
    pub fn last(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        let State::Begun = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let mut attributes = Attributes::new(server_first)?;
        let nonce = attribute::nonce(attributes.expect(b'r', "nonce expected")?)?;
        let salt = attributes.expect(b's', "salt expected")?;
        let iterations = attributes.expect(b'i', "iteration count expected")?;
        attributes.end()?;
        let salt = attribute::base64(salt, "invalid salt")?;
        let iterations = attribute::number(iterations, "invalid iteration count")?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        if nonce.strip_prefix(&*self.nonce).is_none_or(str::is_empty) {
            return Err(ScramError::Nonce);
        }
        let channel = binding(self.header, self.end_point.as_deref());
        let without_proof = format!("c={channel},r={nonce}");
        let bare = self.first_bare();
        let message = auth_message(bare.as_bytes(), server_first, without_proof.as_bytes());
        let keys = match &self.credentials {
            Credentials::Password(password) => Keys::from_password(password, &salt, iterations),
            Credentials::Keys(keys) if keys.fit(&salt, iterations) => keys.clone(),
            Credentials::Keys(_) => return Err(ScramError::OtherPassword),
        };
        let proof = STANDARD.encode(keys.client.proof(&message));
        self.state = State::Answered(keys.server.signature(&message));
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    /// Judges the server's last message. Only after its success is the server who it should be:
    /// see [`Exchange::is_proven`], without which an AuthenticationOk must be refused.
    ///
    /// # Errors
    /// [`ScramError::Signature`] for a server that does not know the password, a refusal of the
    /// server's, anything malformed.
    pub fn finish(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let State::Answered(expected) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let mut attributes = Attributes::new(server_final)?;
        let signature = match attributes.any()? {
            Some((b'e', reason)) => {
                let reason = reason.get(..REFUSAL_MAX).unwrap_or(reason);
                return Err(ScramError::Refused(
                    String::from_utf8_lossy(reason).into_owned(),
                ));
            }
            Some((b'v', signature)) => signature,
            _ => return Err(ScramError::Malformed("signature expected")),
        };
        attributes.end()?;
        let signature = attribute::key(signature, "invalid signature")?;
        if !bool::from(signature.ct_eq(&expected)) {
            return Err(ScramError::Signature);
        }
        self.state = State::Proven;
        Ok(())
    }

    /// Whether the server has shown that it knows the password.
    pub fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven)
    }
}
