//! SHOW SOCKETS and SHOW ACTIVE_SOCKETS: clients, then servers.

use crate::console::show::{clients, peers, servers};
use crate::console::table::{Cell, Column, Row, int};
use crate::facts::Facts;

/// The columns of SHOW CLIENTS, and PgBouncer's for its buffers. Buffers belong to the sessions
/// alone, so the latter are NULL.
pub const COLUMNS: [Column; 28] = {
    let mut columns = [int("recv_pos"); 28];
    let mut at = 0;
    while at < peers::COLUMNS.len() {
        columns[at] = peers::COLUMNS[at];
        at += 1;
    }
    columns[22] = int("pkt_pos");
    columns[23] = int("pkt_remain");
    columns[24] = int("send_pos");
    columns[25] = int("send_remain");
    columns[26] = int("pkt_avail");
    columns[27] = int("send_avail");
    columns
};

/// Which sockets are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// Those at work.
    Active,
}

/// A row for each socket.
pub fn rows(facts: &Facts, which: Which) -> Vec<Row> {
    let peers = clients::peers(facts)
        .into_iter()
        .chain(servers::peers(facts));
    let wanted = peers.filter(|peer| which == Which::All || peer.is_active());
    let rows = wanted.map(|peer| {
        let mut row = peer.row();
        row.resize(COLUMNS.len(), Cell::Null);
        row
    });
    rows.collect()
}
