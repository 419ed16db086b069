//! The server's demands at login.

use crate::read::{MessageError, Reader};

/// What the server asks for, or says, while a client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The login succeeded.
    Ok,
    /// The plain password.
    Cleartext,
    /// The md5 response to a salt.
    Md5 {
        /// Chosen by the server for this login.
        salt: [u8; 4],
    },
    /// A SASL exchange by one of the mechanisms.
    Sasl(Mechanisms<'a>),
    /// The server's next SASL message.
    SaslContinue(&'a [u8]),
    /// The server's last SASL message.
    SaslFinal(&'a [u8]),
    /// A method that nobody here speaks (Kerberos, crypt, GSSAPI, SSPI), by its code.
    Unsupported(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of an Authentication message.
    ///
    /// # Errors
    /// Too few or too many bytes for the method, or one that does not exist.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let read = match reader.u32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => {
                let salt = reader.bytes(4)?;
                Self::Md5 {
                    salt: salt.try_into().map_err(|_| MessageError::Short)?,
                }
            }
            10 => return Mechanisms::parse(reader.rest()).map(Self::Sasl),
            11 => return Ok(Self::SaslContinue(reader.rest())),
            12 => return Ok(Self::SaslFinal(reader.rest())),
            known @ (1 | 2 | 4 | 6..=9) => return Ok(Self::Unsupported(known)),
            other => return Err(MessageError::Method(other)),
        };
        reader.end()?;
        Ok(read)
    }
}

/// The SASL mechanisms a server offers, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    fn parse(list: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(list);
        while !reader.string()?.is_empty() {}
        reader.end()?;
        Ok(Self(list))
    }

    /// The names in the server's order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0
            .split(|byte| *byte == 0)
            .take_while(|name| !name.is_empty())
    }
}
