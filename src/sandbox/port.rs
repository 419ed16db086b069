use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which kernels take the ports of outgoing connections, so that nobody is
/// given the port of a server that is down for a moment.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Gives a TCP port on which nobody listens on 127.0.0.1 now.
///
/// Another process may take it before the caller does, so a start that fails should be tried
/// anew with another port.
pub fn free_port() -> u16 {
    // The keys of a fresh `RandomState` are random enough to keep test processes apart.
    let seed = RandomState::new().build_hasher().finish();
    let offset = u16::try_from(seed % u64::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|step| FIRST + (offset + step) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_given() {
        let taken: Vec<_> = (0..50)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap())
            .collect();
        let mut ports: Vec<u16> = taken
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
        assert!(
            ports
                .iter()
                .all(|port| (FIRST..FIRST + COUNT).contains(port))
        );
    }
}
