//! What clients that break the protocol may not do.
