//! The header in front of a connection by which a proxy in between tells from where it comes: the PROXY protocol, in
//! its version of text (1) and in that of bytes (2).
//!
//! A TLS handshake may stand behind it, so nothing behind it must be read: a reader is told how much it may read.
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What one of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The part of a header of version 2 that each has.
const FIXED: usize = 16;
/// The shortest header of all, of version 1.
const SHORTEST: usize = b"PROXY UNKNOWN\r\n".len();
/// The longest line of version 1, with its end.
const LINE_MAX: usize = 107;
/// What may stand behind the fixed part: addresses take 216 bytes at most, and a few remarks (TLV) fit beside them.
const BODY_MAX: usize = 4096;

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more are sure to belong to it.
    Needs(usize),
    /// It is whole, and says that the connection comes from here; `None` is from the proxy itself, or from where it
    /// does not know.
    From(Option<SocketAddr>),
}

/// Why something is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// It begins otherwise.
    #[error("there is no PROXY header")]
    Missing,
    /// It is longer than is read.
    #[error("the PROXY header is too long")]
    Long,
    /// It says something that does not exist, or says it in another way.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads the bytes that have come so far, none of which are behind the header.
///
/// # Errors
/// As soon as they cannot be the begin of a header.
pub fn header(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, known)| byte == known);
    if !begins(&SIGNATURE) && !begins(WORD) {
        return Err(ProxyError::Missing);
    }
    if bytes.len() < SHORTEST {
        return Ok(Progress::Needs(SHORTEST - bytes.len()));
    }
    match bytes.first() {
        Some(b'P') => line(bytes),
        _ => binary(bytes),
    }
}

fn line(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let Some(end) = end else {
        return match LINE_MAX.checked_sub(bytes.len()) {
            None | Some(0) => Err(ProxyError::Long),
            // Its end are two bytes, of which one may be here.
            Some(rest) if bytes.last() != Some(&b'\r') => Ok(Progress::Needs(rest.min(2))),
            Some(_) => Ok(Progress::Needs(1)),
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| ProxyError::Malformed)?;
    let fields: Vec<&str> = text.split(' ').collect();
    let (address, ports): (IpAddr, &[&str]) = match fields.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return Ok(Progress::From(None)),
        ["PROXY", "TCP4", source, target, ports @ ..] => {
            (pair::<Ipv4Addr>(source, target)?.into(), ports)
        }
        ["PROXY", "TCP6", source, target, ports @ ..] => {
            (pair::<Ipv6Addr>(source, target)?.into(), ports)
        }
        _ => return Err(ProxyError::Malformed),
    };
    let [near, far] = ports else {
        return Err(ProxyError::Malformed);
    };
    port(far)?;
    Ok(from(address, port(near)?))
}

/// The first of two addresses, both of which must be sound.
fn pair<T: std::str::FromStr>(source: &str, target: &str) -> Result<T, ProxyError> {
    let read = |text: &str| text.parse::<T>().map_err(|_| ProxyError::Malformed);
    read(target)?;
    read(source)
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| plain);
    port.ok_or(ProxyError::Malformed)
}

fn binary(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((fixed, body)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Needs(FIXED - bytes.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_own = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Malformed),
    };
    if length > BODY_MAX {
        return Err(ProxyError::Long);
    }
    if body.len() < length {
        return Ok(Progress::Needs(length - body.len()));
    }
    if is_own {
        // A look whether we are there; what else it says is to be passed over.
        return Ok(Progress::From(None));
    }
    let part = |at: usize| body.get(at..at + 2).map(|port| [port[0], port[1]]);
    let (address, port): (IpAddr, _) = match family {
        // Whatever it is, it has no address that could be told.
        0x00 => return Ok(Progress::From(None)),
        0x11 if length >= 12 => {
            let address = body.first_chunk::<4>().ok_or(ProxyError::Malformed)?;
            (Ipv4Addr::from(*address).into(), part(8))
        }
        0x21 if length >= 36 => {
            let address = body.first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            (Ipv6Addr::from(*address).into(), part(32))
        }
        // A unix socket on the proxy's machine.
        0x31 if length >= 216 => return Ok(Progress::From(None)),
        _ => return Err(ProxyError::Malformed),
    };
    let port = u16::from_be_bytes(port.ok_or(ProxyError::Malformed)?);
    Ok(from(address, port))
}

/// An address of version 4 in the clothes of version 6 is the former, as for rules.
fn from(address: IpAddr, port: u16) -> Progress {
    Progress::From(Some(SocketAddr::new(address.to_canonical(), port)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;

    use super::{BODY_MAX, LINE_MAX, Progress, ProxyError, SIGNATURE, header};

    /// Reads a header as a session does: never more than is sure to belong to it. Answers what is left, too.
    fn read(mut rest: &[u8], most: usize) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
        let mut bytes = Vec::new();
        loop {
            match header(&bytes)? {
                Progress::From(source) => return Ok((source, rest)),
                Progress::Needs(count) => {
                    assert!(count > 0 && bytes.len() + count <= 16 + BODY_MAX);
                    let (more, behind) = rest.split_at(count.min(most).min(rest.len()));
                    assert!(!more.is_empty(), "{bytes:?} needs {count}");
                    bytes.extend(more);
                    rest = behind;
                }
            }
        }
    }

    fn version2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a short body");
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn encoded(source: SocketAddr, target: SocketAddr, more: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for address in [source, target] {
            match address.ip() {
                IpAddr::V4(v4) => body.extend(v4.octets()),
                IpAddr::V6(v6) => body.extend(v6.octets()),
            }
        }
        body.extend(source.port().to_be_bytes());
        body.extend(target.port().to_be_bytes());
        body.extend(more);
        version2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &body)
    }

    #[test]
    fn lines_say_from_where() {
        for (line, expected) in [
            (
                "PROXY TCP4 10.1.2.3 10.0.0.1 56324 5432\r\n",
                "10.1.2.3:56324",
            ),
            ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", "[2001:db8::1]:1"),
            ("PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n", "10.1.2.3:1"),
            ("PROXY UNKNOWN\r\n", "none"),
            ("PROXY UNKNOWN ffff::1 what ever\r\n", "none"),
            ("PROXY UNKNOWN \r x\r\n", "none"),
        ] {
            let bytes = [line.as_bytes(), b"\x16rest"].concat();
            let (source, rest) = read(&bytes, usize::MAX).expect(line);
            let told = source.map_or_else(|| "none".to_owned(), |source| source.to_string());
            assert_eq!((&*told, rest), (expected, &b"\x16rest"[..]), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_a_proxy_is_refused() {
        for line in [
            "PROXY TCP4 10.1.2.3 10.0.0.1 56324\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 56324 5432 1\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 65536 5432\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 +1 5432\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 1 \r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4  10.1.2.3 10.0.0.1 1 2\r\n",
            "PROXY TCP6 10.1.2.3 10.0.0.1 1 2\r\n",
            "PROXY TCP4 10.1.2.3 nowhere 1 2\r\n",
            "PROXY UDP4 10.1.2.3 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 \r\n    ",
        ] {
            let read = read(line.as_bytes(), usize::MAX);
            assert_eq!(read, Err(ProxyError::Malformed), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}", " ".repeat(LINE_MAX));
        assert_eq!(read(long.as_bytes(), 7), Err(ProxyError::Long));
        // What a client says that comes without a proxy is told from a header by its first bytes.
        for other in [
            &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
            b"\x16\x03\x01",
            b"PROXX",
            b"\r\n\r\n\r",
        ] {
            assert_eq!(read(other, usize::MAX), Err(ProxyError::Missing));
        }
    }

    #[test]
    fn bytes_say_from_where() {
        let source: SocketAddr = "10.1.2.3:56324".parse().unwrap();
        let target: SocketAddr = "10.0.0.1:5432".parse().unwrap();
        let plain = encoded(source, target, b"");
        assert_eq!(read(&plain, usize::MAX), Ok((Some(source), &b""[..])));
        for (command, family, length, expected) in [
            (0x20, 0x00, 0, Ok(None)),
            (0x20, 0x11, 3, Ok(None)),
            (0x21, 0x00, 40, Ok(None)),
            (0x21, 0x31, 216, Ok(None)),
            (0x21, 0x31, 215, Err(ProxyError::Malformed)),
            (0x21, 0x11, 11, Err(ProxyError::Malformed)),
            (0x21, 0x21, 35, Err(ProxyError::Malformed)),
            (0x21, 0x12, 12, Err(ProxyError::Malformed)),
            (0x21, 0x41, 40, Err(ProxyError::Malformed)),
            (0x22, 0x11, 12, Err(ProxyError::Malformed)),
            (0x11, 0x11, 12, Err(ProxyError::Malformed)),
            (0x21, 0x11, BODY_MAX + 1, Err(ProxyError::Long)),
        ] {
            let bytes = version2(command, family, &vec![0; length]);
            let read = read(&bytes, usize::MAX).map(|(source, _)| source);
            assert_eq!(read, expected, "{command:x} {family:x} {length}");
        }
    }

    fn address(v4: bool) -> impl Strategy<Value = SocketAddr> {
        let ip = match v4 {
            true => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
            false => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
        };
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_behind_it(
            (source, target) in any::<bool>().prop_flat_map(|v4| (address(v4), address(v4))),
            more in prop::collection::vec(any::<u8>(), 0..40),
            behind in prop::collection::vec(any::<u8>(), 0..40),
            most in 1..50_usize,
        ) {
            let family = if source.is_ipv4() { 4 } else { 6 };
            let line = format!(
                "PROXY TCP{family} {} {} {} {}\r\n",
                source.ip(), target.ip(), source.port(), target.port(),
            );
            let canonical = SocketAddr::new(source.ip().to_canonical(), source.port());
            for bytes in [line.into_bytes(), encoded(source, target, &more)] {
                let bytes = [&bytes[..], &behind].concat();
                prop_assert_eq!(read(&bytes, most), Ok((Some(canonical), &behind[..])));
            }
        }

        #[test]
        fn noise_comes_to_an_end(
            signed in any::<bool>(),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = if signed { [&SIGNATURE[..], &noise].concat() } else { noise };
            let mut here = 0;
            while let Ok(Progress::Needs(count)) = header(&bytes[..here]) {
                prop_assert!(count > 0);
                here += count;
                if here > bytes.len() {
                    break;
                }
            }
        }
    }
}
