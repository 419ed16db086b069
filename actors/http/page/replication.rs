//! What the page says of replication, which no pool knows of.

use pgherd_telemetry::{Exposition, ExpositionError};

use crate::session::replication::Census;

/// Writes the figures down.
pub(super) fn write(page: &mut Exposition, census: &Census) -> Result<(), ExpositionError> {
    for (key, kind, count) in &census.live {
        page.gauge(
            "pgherd_replication_sessions",
            "Replication clients, each on a server connection of its own.",
            &[
                ("database", &key.database),
                ("user", &key.user),
                ("kind", kind.name()),
            ],
            *count as f64,
        )?;
    }
    let numbers = [
        (
            "pgherd_replication_sessions_total",
            "Replication clients that were given a server.",
            census.begun,
        ),
        (
            "pgherd_replication_received_bytes_total",
            "Bytes from replication clients.",
            census.from_clients,
        ),
        (
            "pgherd_replication_sent_bytes_total",
            "Bytes to replication clients.",
            census.from_servers,
        ),
    ];
    numbers
        .into_iter()
        .try_for_each(|(name, help, value)| page.counter(name, help, &[], value))
}
