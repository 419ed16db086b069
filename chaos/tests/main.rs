//! Chaos: the real executable before servers and clients that fail, lie and vanish.

mod hostile_client;
mod hostile_server;
