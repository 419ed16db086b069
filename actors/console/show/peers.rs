//! What SHOW CLIENTS, SERVERS and SOCKETS have in common.

use std::time::Duration;

use crate::console::table::{Column, Row, int, text};
use crate::session::replication::Kind;

/// The columns of PgBouncer. `ptr` and `link` name clients as `c7` and servers as `s7`.
///
/// `request_time` is when a client's last transaction began; of a server it is not known, and NULL.
pub const COLUMNS: [Column; 21] = [
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int("port"),
    text("local_addr"),
    int("local_port"),
    text("connect_time"),
    text("request_time"),
    int("wait"),
    int("wait_us"),
    int("close_needed"),
    text("ptr"),
    text("link"),
    int("remote_pid"),
    text("tls"),
    text("application_name"),
    int("prepared_statements"),
    int("id"),
];

/// One end of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// `C` or `S`.
    pub kind: &'static str,
    /// The user on that side.
    pub user: String,
    /// The database as clients name it.
    pub database: String,
    /// The kind of its replication, if it replicates.
    pub replication: Option<Kind>,
    /// Where it stands.
    pub state: &'static str,
    /// The address at the other end and its port.
    pub remote: (String, u16),
    /// Our address and port; `None` where unknown.
    pub local: Option<(String, u16)>,
    /// When it was connected, written out.
    pub since: String,
    /// When it has asked for something last, written out; `None` where unknown.
    pub asked: Option<String>,
    /// How long it has waited, if it waits.
    pub waited: Duration,
    /// It is to be closed when it is free.
    pub closing: bool,
    /// Its name.
    pub name: String,
    /// The name of whom it is linked to, or empty.
    pub link: String,
    /// The process at the other end, 0 where unknown.
    pub pid: i32,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// The name of the application, or empty.
    pub application: String,
    /// Its prepared statements; `None` where unknown.
    pub prepared: Option<usize>,
    /// Its number.
    pub id: u64,
}

impl Peer {
    /// Whether it is at work at this moment.
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }

    /// Its row.
    pub fn row(self) -> Row {
        let (local_address, local_port) = self.local.unzip();
        vec![
            self.kind.into(),
            self.user.into(),
            self.database.into(),
            self.replication.map_or("none", Kind::name).into(),
            self.state.into(),
            self.remote.0.into(),
            self.remote.1.into(),
            local_address.into(),
            local_port.into(),
            self.since.into(),
            self.asked.into(),
            self.waited.as_secs().into(),
            u64::from(self.waited.subsec_micros()).into(),
            self.closing.into(),
            self.name.into(),
            self.link.into(),
            self.pid.into(),
            self.tls.into(),
            self.application.into(),
            self.prepared.into(),
            self.id.into(),
        ]
    }
}

/// Parts `address:port`; what has no port is a unix socket.
pub fn part(address: &str) -> (String, u16) {
    match address
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse()))
    {
        Some((host, Ok(port))) => (
            host.trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
        ),
        _ => (address.to_owned(), 0),
    }
}
