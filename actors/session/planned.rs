//! What changes the meaning of constants in the texts of functions.
//!
//! A function in PL/pgSQL keeps its plans for as long as its session lasts, with constants as they were read under the
//! settings of whoever has called it first there (`'2024-01-01'::timestamptz` under his `TimeZone`). Before a client
//! with others of these settings gets a server, this discards its plans ([`ServerConn::would_misread`]).
//!
//! [`ServerConn::would_misread`]: crate::server::ServerConn::would_misread

/// Settings that change what constants mean, those of Postgres of which functions may be believed to set them.
pub(super) const PLANNED: [&str; 12] = [
    "array_nulls",
    "bytea_output",
    "datestyle",
    "default_text_search_config",
    "extra_float_digits",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "timezone",
    "transform_null_equals",
    "xmloption",
];
