//! The benchmark: direct, PgBouncer and pgherd in turn, as ratios.
