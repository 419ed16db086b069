//! The harness of the integration tests: the real executable before real Postgres servers.
