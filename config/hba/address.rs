//! From where a rule lets in.

use std::fmt;
use std::net::IpAddr;

use crate::draft::Node;
use crate::hba::fault::RuleFault;
use crate::hba::token::Token;
use crate::setting::Setting;

/// The addresses a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Every one.
    All,
    /// Those of this machine.
    SameHost,
    /// Those of the networks that this machine is part of.
    SameNet,
    /// Those of a network.
    Net(Network),
}

/// A network, by one of its addresses and the mask that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// The bits that its addresses share; of the same family.
    pub mask: IpAddr,
}

impl Addresses {
    /// Takes a field, and the mask if the next field is that; `None` if it is missing.
    pub(crate) fn read(
        token: &Token,
        mask: impl FnOnce() -> Option<String>,
    ) -> Result<Self, RuleFault> {
        if token.is("all") {
            return Ok(Self::All);
        }
        if token.is("samehost") {
            return Ok(Self::SameHost);
        }
        if token.is("samenet") {
            return Ok(Self::SameNet);
        }
        let text = &token.text;
        let wrong = || RuleFault::Address(text.clone());
        let network = if text.contains('/') {
            Network::of(text).ok_or_else(wrong)?
        } else {
            let address: IpAddr = text.parse().map_err(|_| wrong())?;
            let given = mask().ok_or(RuleFault::Ends("mask"))?;
            let mask = given.parse().ok();
            let mask = mask.filter(|mask: &IpAddr| mask.is_ipv4() == address.is_ipv4());
            Network {
                address,
                mask: mask.ok_or_else(|| RuleFault::Mask(given, text.clone()))?,
            }
        };
        Ok(Self::Net(network))
    }

    /// Tells whether an address is one of these; `own` gives the networks of this machine.
    pub(super) fn fit(&self, address: IpAddr, own: &dyn Fn() -> Vec<Network>) -> bool {
        match self {
            Self::All => true,
            Self::SameHost => own().iter().any(|network| network.address == address),
            Self::SameNet => own().iter().any(|network| network.has(address)),
            Self::Net(network) => network.has(address),
        }
    }
}

impl Network {
    /// Takes an address with the length of its mask.
    fn of(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits)?;
        let mask = mask_of(address, length)?;
        Some(Self { address, mask })
    }

    /// The network itself, of IPv4 where it is written as one of addresses that IPv6 maps from there.
    #[must_use]
    pub fn canonical(self) -> Self {
        match (self.address.to_canonical(), self.address, self.mask) {
            (IpAddr::V4(address), IpAddr::V6(_), IpAddr::V6(mask))
                if mask.to_bits() >> 32 == u128::MAX >> 32 =>
            {
                let [.., a, b, c, d] = mask.octets();
                Self {
                    address: IpAddr::V4(address),
                    mask: IpAddr::V4([a, b, c, d].into()),
                }
            }
            _ => self,
        }
    }

    /// Tells whether an address belongs to it.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.address, self.mask, address) {
            (IpAddr::V4(net), IpAddr::V4(mask), IpAddr::V4(address)) => {
                (net.to_bits() ^ address.to_bits()) & mask.to_bits() == 0
            }
            (IpAddr::V6(net), IpAddr::V6(mask), IpAddr::V6(address)) => {
                (net.to_bits() ^ address.to_bits()) & mask.to_bits() == 0
            }
            _ => false,
        }
    }
}

/// Gives the mask with so many leading bits; `None` if an address has not so many.
fn mask_of(address: IpAddr, length: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(_) => {
            let rest = 32_u32.checked_sub(length)?;
            IpAddr::V4(u32::MAX.checked_shl(rest).unwrap_or(0).into())
        }
        IpAddr::V6(_) => {
            let rest = 128_u32.checked_sub(length)?;
            IpAddr::V6(u128::MAX.checked_shl(rest).unwrap_or(0).into())
        }
    })
}

impl Setting for Network {
    fn allowed() -> String {
        "a network such as \"10.0.0.0/8\", or an address".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let text = node.text()?;
        if text.contains('/') {
            return Self::of(text);
        }
        let address: IpAddr = text.parse().ok()?;
        let mask = mask_of(address, if address.is_ipv4() { 32 } else { 128 })?;
        Some(Self { address, mask })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SameHost => f.write_str("samehost"),
            Self::SameNet => f.write_str("samenet"),
            Self::Net(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ones = match self.mask {
            IpAddr::V4(mask) => mask.to_bits().leading_ones(),
            IpAddr::V6(mask) => mask.to_bits().leading_ones(),
        };
        if mask_of(self.mask, ones) == Some(self.mask) {
            write!(f, "{}/{ones}", self.address)
        } else {
            write!(f, "{} {}", self.address, self.mask)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Network};
    use crate::hba::token::Token;

    fn read(text: &str) -> Addresses {
        let mut words = text.split(' ');
        let first = Token::of(words.next().unwrap());
        Addresses::read(&first, || words.next().map(str::to_owned)).unwrap()
    }

    #[test]
    fn networks_have_their_addresses() {
        let own = || {
            let network = |address: &str, mask: &str| Network {
                address: address.parse().unwrap(),
                mask: mask.parse().unwrap(),
            };
            vec![
                network("192.168.7.5", "255.255.255.0"),
                network("fd00::5", "ffff::"),
            ]
        };
        for (addresses, address, fits) in [
            ("all", "::1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.1.1.1", false),
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            // As in Postgres, the bits behind the mask are not looked at.
            ("10.1.2.3/16", "10.1.9.9", true),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("10.0.0.7 255.0.0.255", "10.9.9.7", true),
            ("10.0.0.7 255.0.0.255", "10.9.9.8", false),
            ("fd00::/8", "fd12::9", true),
            ("fd00::/8", "fe00::9", false),
            ("::1/128", "::2", false),
            ("samehost", "192.168.7.5", true),
            ("samehost", "192.168.7.6", false),
            ("samenet", "192.168.7.6", true),
            ("samenet", "192.168.8.6", false),
            ("samenet", "fd00:1::6", true),
        ] {
            let fit = read(addresses).fit(address.parse().unwrap(), &own);
            assert_eq!(fit, fits, "{addresses} {address}");
        }
    }

    #[test]
    fn are_written_as_they_are_read() {
        for text in [
            "all",
            "samehost",
            "samenet",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::1/128",
            "10.0.0.7 255.0.0.255",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(read("10.0.0.0 255.0.0.0").to_string(), "10.0.0.0/8");
    }
}
