use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which kernels take the ports of outgoing connections, so that nobody is
/// given the port of a server that is down for a moment.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many ports this process has looked at, from a start by chance, which keeps processes apart.
///
/// Of all in a process, because the tests of one run side by side: a port that one of them was
/// given and has not bound yet must not be given to another.
static LOOKED_AT: LazyLock<AtomicU16> = LazyLock::new(|| {
    // The keys of a fresh `RandomState` are random enough.
    let seed = RandomState::new().build_hasher().finish();
    AtomicU16::new(u16::try_from(seed % u64::from(COUNT)).unwrap_or_default())
});

/// Gives a TCP port on which nobody listens on 127.0.0.1 now, and which this process was not given
/// before, as far as there are enough.
///
/// Another process may take it before the caller does, so a start that fails should be tried
/// anew with another port.
pub fn free_port() -> u16 {
    // Wrapping at 2^16 only means that some port is given again early, after thousands.
    first_free(|| LOOKED_AT.fetch_add(1, Ordering::Relaxed) % COUNT)
}

/// The first port, by these offsets, on which nobody listens.
fn first_free(mut offset: impl FnMut() -> u16) -> u16 {
    (0..COUNT)
        .map(|_| FIRST + offset())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_given() {
        // Other tests take ports as well, so the first that can be had is held; what is held
        // cannot be given while it is.
        let (port, _held) = (FIRST..FIRST + COUNT)
            .rev()
            .find_map(|port| {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
                Some((port, listener))
            })
            .unwrap();
        for _ in 0..50 {
            let mut offsets = (port - FIRST..COUNT).chain(0..COUNT);
            let given = first_free(|| offsets.next().unwrap());
            assert_ne!(given, port);
            assert!((FIRST..FIRST + COUNT).contains(&given));
        }
    }

    #[test]
    fn no_port_is_given_twice() {
        let given: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(given.len(), 50);
        assert!(
            given
                .iter()
                .all(|port| (FIRST..FIRST + COUNT).contains(port))
        );
    }
}
