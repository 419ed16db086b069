//! Statements of sharded databases.

use std::sync::Arc;

use pgherd_telemetry::{Exposition, ExpositionError};

use crate::shards::Counts;

pub(super) fn write(
    page: &mut Exposition,
    (database, counts): &(String, Arc<Counts>),
) -> Result<(), ExpositionError> {
    for (tier, count) in counts.tiers() {
        page.counter(
            "pgherd_sharded_statements_total",
            "Statements of a sharded database that were sent, by how they run.",
            &[("database", database), ("tier", tier)],
            count,
        )?;
    }
    for (reason, count) in counts.refusals() {
        page.counter(
            "pgherd_sharded_refusals_total",
            "Statements of a sharded database that were refused (0A000), by what of them is not supported.",
            &[("database", database), ("reason", reason)],
            count,
        )?;
    }
    Ok(())
}
