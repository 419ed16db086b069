//! What the page says of clients that listen.

use pgherd_telemetry::{Exposition, ExpositionError, Labels};

use crate::herald::audience::Census;
use crate::pool::PoolKey;

/// Writes the figures of one pool down, if anybody listens there or has.
pub(super) fn write(
    page: &mut Exposition,
    key: &PoolKey,
    census: &Census,
) -> Result<(), ExpositionError> {
    if !census.is_of_interest() {
        return Ok(());
    }
    let labels: Labels<'_> = &[("database", &key.database), ("user", &key.user)];
    let gauges = [
        (
            "pgherd_listeners",
            "Clients that listen.",
            census.listeners as f64,
        ),
        (
            "pgherd_listener_channels",
            "Channels that clients listen to.",
            census.channels as f64,
        ),
        (
            "pgherd_listener_up",
            "1 if the server connection that listens is there.",
            f64::from(u8::from(census.up)),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, labels, value)?;
    }
    let counters = [
        (
            "pgherd_listener_notifications_total",
            "Notifications that were given to clients.",
            census.delivered,
        ),
        (
            "pgherd_listener_overflows_total",
            "Clients that were sent away since they did not take their notifications.",
            census.overflows,
        ),
        (
            "pgherd_listener_reconnects_total",
            "Times that the server connection that listens was lost and made anew.",
            census.reconnects,
        ),
    ];
    counters
        .into_iter()
        .try_for_each(|(name, help, value)| page.counter(name, help, labels, value))
}
