//! Who is where. The networks of two runs never meet, so their addresses may be the same.

use std::net::{Ipv4Addr, SocketAddr};

/// Two of them are enough for a majority, and to acknowledge what the third one writes.
pub(super) const NODES: usize = 3;

/// All addresses.
pub(super) const NETWORK: &str = "10.87.0.0/24";

/// Those of clients and of what stands before the nodes.
pub(super) const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 100);

/// That of etcd.
pub(super) const DCS: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 10);

/// That of a node, by its number from zero.
pub(super) fn node(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number + 1).expect("there are few nodes");
    Ipv4Addr::new(10, 87, 0, last)
}

/// Where a node's Postgres listens.
pub(super) const POSTGRES: u16 = 5432;

/// The same with the address of a node.
pub(super) fn address(number: usize) -> SocketAddr {
    SocketAddr::from((node(number), POSTGRES))
}

/// Where its Patroni answers.
pub(super) const REST: u16 = 8008;

/// Where etcd listens for clients, and for others of its kind.
pub(super) const ETCD: [u16; 2] = [2379, 2380];
