//! PostgreSQL protocol 3.x: bytes to messages and back, without I/O.
