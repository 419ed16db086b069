//! Throw-away Postgres servers for the demo, the tests and the benchmark.
