//! What servers that break the protocol may not do.
