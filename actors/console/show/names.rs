//! Tables that are always empty here, with their columns.

use crate::console::table::{Column, int, text};

/// DNS_HOSTS: nothing is remembered of names.
pub const HOSTS: [Column; 3] = [text("hostname"), int("ttl"), text("addrs")];

/// DNS_ZONES: nothing is remembered of zones.
pub const ZONES: [Column; 3] = [text("zonename"), int("serial"), int("count")];

/// PEERS: proxies do not know each other.
pub const PEERS: [Column; 4] = [int("peer_id"), text("host"), int("port"), int("pool_size")];

/// PEER_POOLS: as above.
pub const PEER_POOLS: [Column; 5] = [
    int("peer_id"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active_cancel"),
    int("sv_login"),
];
