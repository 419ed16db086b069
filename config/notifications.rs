use std::num::NonZeroUsize;

use crate::section::Check;

section! {
    /// Clients that listen, by LISTEN.
    pub struct Notifications {
        /// Clients of one pool that listen.
        [Now] max_listeners: NonZeroUsize,
        /// Channels that one client listens to.
        [Now] max_channels: NonZeroUsize,
        /// Notifications that wait for one client. It holds for clients that begin to listen later.
        [Now] max_waiting: NonZeroUsize,
        /// Their channels' names and payloads, in bytes. It holds as `max_waiting` does.
        [Now] max_waiting_bytes: NonZeroUsize,
    }
}

impl Check for Notifications {}
