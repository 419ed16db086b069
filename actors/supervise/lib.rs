//! The supervisor kit: restart strategies, intensity, backoff, ordered shutdown, heartbeats.
