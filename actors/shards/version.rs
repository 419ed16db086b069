//! The version of a shard's schema, by which proxies hear of what another has changed.
//!
//! It is a number in a table of ours on each shard, and is raised by each transaction that changes a definition
//! through the sharded database, with its commit. What is known of a shard was read at one of them, and what reads
//! several shards, or writes to them, asks for it first.

use pgherd_wire::error::ErrorReport;

use crate::server::ServerConn;
use crate::session::setup;

/// Asks for the version where the table is.
const READ: &str = "SELECT version::pg_catalog.text AS version FROM pgherd.catalogue";

/// Asks whether the table is there, and may be read.
const IS_THERE: &str = "SELECT c.relname::pg_catalog.text AS version FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE n.nspname OPERATOR(pg_catalog.=) 'pgherd' AND c.relname OPERATOR(pg_catalog.=) 'catalogue' \
AND pg_catalog.has_schema_privilege(n.oid, 'usage') AND pg_catalog.has_table_privilege(c.oid, 'select')";

/// Raises it. Who changes definitions at the same time waits for the others' commits, on each shard in their order.
pub(crate) const RAISE: &str =
    "UPDATE pgherd.catalogue SET version = version OPERATOR(pg_catalog.+) 1 RETURNING version";

/// A version, or nothing where there is no table, since nobody has changed anything yet.
pub(crate) type Version = Option<Box<str>>;

/// What is asked to hear whether this is the version still: one row with it, or nothing.
pub(crate) fn question(known: &Version) -> &'static str {
    match known {
        Some(_) => READ,
        None => IS_THERE,
    }
}

/// Reads it, in the transaction in which the schema is read.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn read(server: &mut ServerConn) -> Result<Version, ErrorReport> {
    match ask(server, &None).await? {
        Some(_) => ask(server, &Some("".into())).await,
        None => Ok(None),
    }
}

/// Asks whether this is the version still; the answer is another one if it is not.
///
/// # Errors
/// When the server cannot be asked, or refuses to tell.
pub(crate) async fn ask(server: &mut ServerConn, known: &Version) -> Result<Version, ErrorReport> {
    let answer = setup::run(server, question(known).as_bytes()).await?;
    if let Some(error) = answer.error {
        return Err(error);
    }
    Ok(answer.first().map(told))
}

/// A version as a server tells it.
pub(crate) fn told(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value).into()
}
