//! Tests of the whole pool.
