//! The limit of open files.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are needed beside those of connections.
const OTHERS: u64 = 64;

/// Raises the soft limit as far as the hard one allows, and warns where that is too little for so
/// many connections. Each client and each server connection takes one descriptor, and many systems
/// give a process 1024.
pub(crate) fn make_room(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let needed = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    if let Some(limit) = getrlimit(Resource::Nofile)
        .current
        .filter(|limit| *limit < needed)
    {
        tracing::warn!(
            limit,
            needed,
            "the limit of open files is lower than max_clients and max_connections may need"
        );
    }
}
