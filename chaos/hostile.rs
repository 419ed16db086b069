//! Peers that break the protocol on purpose.
