//! The row that says what becomes of a transaction, and the names of its parts.
//!
//! The row carries the name of the sharded database, too: a server may be a shard of several of them, and who does
//! not know all shards of one must not clear its rows away.
//!
//! A part that is prepared carries in its name all that it takes to end it: the transaction, the section of
//! the decider, and the sharded database. Sections have the same names on all proxies of a database.

use std::time::Duration;

use pgherd_session::literal;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::pool::Pool;
use crate::server::{Cancels, ServerConn};
use crate::session::setup::{self, Answer};
use crate::transactions::Transactions;
use crate::upstream;

/// What every name of a prepared part begins with.
pub const PREFIX: &str = "pgherd:";
/// Postgres takes no longer name (GIDSIZE, less the zero byte).
const NAME_MAX: usize = 199;

/// What makes the table, for who has to do it by hand.
pub const DEFINITION: &str = "CREATE SCHEMA IF NOT EXISTS pgherd; \
CREATE TABLE IF NOT EXISTS pgherd.decisions (transaction text PRIMARY KEY, committed boolean NOT NULL, \
decided timestamptz NOT NULL DEFAULT now(), UNIQUE (decided, transaction)); \
GRANT USAGE ON SCHEMA pgherd TO PUBLIC; \
GRANT SELECT, INSERT, DELETE ON pgherd.decisions TO PUBLIC";

/// Those who make it at the same time wait for each other: neither of the two would see that it is there.
const ALONE: &str = "BEGIN READ WRITE; SELECT pg_catalog.pg_advisory_xact_lock(7240915120313); ";

/// The name of a prepared part.
///
/// # Errors
/// If the names of the sections are too long.
pub fn part(id: &str, leg: usize, decider: &str, database: &str) -> Result<String, ErrorReport> {
    let name = format!("{PREFIX}{id}:{leg}:{decider}:{database}");
    match name.len() <= NAME_MAX {
        true => Ok(name),
        false => Err(ErrorReport::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "the names of this database and its shards are too long for a transaction over several of them",
        )),
    }
}

/// What a prepared part is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// The transaction.
    pub id: &'a str,
    /// The section of its decider.
    pub decider: &'a str,
}

impl<'a> Part<'a> {
    /// Reads a name, if it is that of a part of this sharded database and one of these sections decides.
    pub fn read(name: &'a str, database: &str, sections: &'a [String]) -> Option<Self> {
        let mut fields = name.strip_prefix(PREFIX)?.splitn(3, ':');
        let (id, _leg, rest) = (fields.next()?, fields.next()?, fields.next()?);
        let decider = rest.strip_suffix(database)?.strip_suffix(':')?;
        let is_id = id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let decider = sections.iter().find(|section| *section == decider)?;
        is_id.then_some(Self { id, decider })
    }
}

/// The section of the decider by a part's name, whether or not it is known.
pub(super) fn decider<'a>(name: &'a str, database: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(PREFIX)?.splitn(3, ':').nth(2)?;
    rest.strip_suffix(database)?.strip_suffix(':')
}

/// How many hexadecimal digits the number of a transaction has.
const ID_LEN: usize = 32;

/// What the row of a transaction is found by.
fn key(id: &str, database: &str) -> String {
    format!("{id}:{database}")
}

/// The number of the transaction whose row is found by this.
pub(super) fn id_of(key: &str) -> &str {
    key.get(..ID_LEN).unwrap_or(key)
}

/// What selects the keys of the old rows of a sharded database: those that say yes are kept for [`KEPT`], and those
/// that say no for longer, as a coordinator that was held up must meet one, and decides nothing after ten minutes.
pub(super) fn old(database: &str) -> String {
    let (database, kept) = (literal(database), KEPT.as_secs());
    format!(
        "SELECT transaction FROM pgherd.decisions \
         WHERE pg_catalog.substr(transaction, {}) OPERATOR(pg_catalog.=) {database} \
         AND decided < pg_catalog.now() - interval '{kept} seconds' \
         AND (committed OR decided < pg_catalog.now() - interval '1 day') LIMIT {ROWS_MAX}",
        ID_LEN + 2
    )
}

/// More old rows are not read at once.
pub(super) const ROWS_MAX: usize = 1000;

/// For how long a row that says yes is there. Who may have come later must not ask: there would be none any more,
/// and one that says no would be stored.
pub(super) const KEPT: Duration = Duration::from_secs(3600);

/// A coordinator that has stored its row and does not say COMMIT for so long stands still, and its decider goes without it.
/// In seconds.
const STILL: u64 = 8;

/// What the decider runs before its `COMMIT`. Its transaction may be old already: the row is not. The others are committed
/// for good as soon as that is answered, so that it must not be lost with a crash even if its client would have that. Who
/// asks for the row waits for it from here on, but for no longer than [`STILL`] if its coordinator stands still.
pub(super) fn commit(id: &str, database: &str) -> String {
    let key = literal(&key(id, database));
    format!(
        "SELECT pg_catalog.set_config('synchronous_commit', 'local', true) \
         WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'; \
         SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '{STILL}s', true); \
         INSERT INTO pgherd.decisions (transaction, committed, decided) \
         VALUES ({key}, true, pg_catalog.clock_timestamp())"
    )
}

/// The number of the lock that each part of a transaction takes before any is prepared. The one of the decider is given back
/// with the decision.
fn lock(id: &str) -> i64 {
    let low = id.get(ID_LEN / 2..);
    let low = low.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    low.unwrap_or_default().cast_signed()
}

/// For how long a part may wait for a lock once its transaction is to be committed, in seconds: deferred constraints are
/// checked then. What is prepared meanwhile is held by no process, so that no server would ever find out that who has the lock
/// waits for that.
const LOCKED: u64 = 10;

/// Asks a part of a transaction whether it has written, and takes the lock by which others see that it is not over. Up to its
/// end it also says if its wait for a standby is ended, whatever messages its client wants, and waits for no lock for long.
pub(super) fn question(id: &str) -> String {
    format!(
        "SET LOCAL client_min_messages = warning; \
         SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL, \
         pg_catalog.pg_advisory_xact_lock_shared('{}'::pg_catalog.int8); \
         SELECT pg_catalog.set_config('lock_timeout', '{LOCKED}s', true) \
         WHERE pg_catalog.current_setting('lock_timeout')::pg_catalog.interval \
         NOT BETWEEN interval '1 millisecond' AND interval '{LOCKED} seconds'",
        lock(id)
    )
}

/// Whether a transaction is over on its decider, by what that server says. Then its row is there or never will be: it is stored
/// by that transaction alone, which took the lock before any other part was prepared. It is not over while its coordinator
/// lives, nor while the decider's server has not noticed that it does not; and where the server was replaced, it is.
pub(super) async fn is_over(decider: &mut ServerConn, id: &str) -> bool {
    let sql = format!(
        "SELECT pg_catalog.pg_try_advisory_xact_lock('{}'::pg_catalog.int8)",
        lock(id)
    );
    let answer = setup::run(decider, sql.as_bytes()).await;
    answer.is_ok_and(|answer| answer.first() == Some(b"t"))
}

/// Finds out whether a transaction is committed, and sees to it that it never will be if it is not. It waits
/// for a decision that is under way, and for the standbys that a commit of now waits for: a row may be there that they lack, as
/// where its own commit waits no longer, and be lost with its server.
///
/// # Errors
/// When the server cannot be asked, or not in time, and nothing is known.
pub(super) async fn settle(
    server: &mut ServerConn,
    id: &str,
    database: &str,
) -> Result<bool, ErrorReport> {
    let id = literal(&key(id, database));
    // Under another isolation a row of others would be an error.
    let store = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
         SET LOCAL client_min_messages = warning; \
         INSERT INTO pgherd.decisions (transaction, committed) VALUES ({id}, false) \
         ON CONFLICT (transaction) DO NOTHING; \
         SELECT pg_catalog.pg_logical_emit_message(true, 'pgherd', ''); COMMIT"
    );
    let stored = run_in_time(server, store.as_bytes()).await?;
    if let Some(error) = stored.error {
        let _ = setup::run(server, b"ROLLBACK").await;
        return Err(error);
    }
    if let Some(warning) = stored.warning {
        // Somebody has ended its wait.
        return Err(warning);
    }
    let ask = format!("SELECT committed FROM pgherd.decisions WHERE transaction = {id}");
    let told = setup::run(server, ask.as_bytes()).await?;
    match told.first() {
        Some(b"t") => Ok(true),
        Some(b"f") => Ok(false),
        _ => Err(told.error.unwrap_or_else(unread)),
    }
}

/// Runs what may wait for others, or for a standby, for as long as anything may take to make a connection ready. What waits
/// still is cancelled then: whoever asks again and again must not leave a server full of those who wait.
///
/// # Errors
/// If there is no answer in time, upon which the connection is of no use.
pub(super) async fn run_in_time(
    server: &mut ServerConn,
    sql: &[u8],
) -> Result<Answer, ErrorReport> {
    let (began, patience) = (clock::now(), server.about.upstream.patience);
    let answer = setup::run(server, sql).await;
    if answer.is_err() && patience.is_some_and(|patience| clock::since(began) >= patience) {
        tokio::spawn(upstream::cancel(Cancels::begin(&server.about)));
    }
    answer
}

fn unread() -> ErrorReport {
    let text = "the row that decides about a transaction cannot be read";
    ErrorReport::error(sqlstate::INTERNAL_ERROR, text)
}

/// Whether somebody else is ending the part that was to be ended: both do what the row says.
pub(super) fn is_busy(error: &ErrorReport) -> bool {
    error.code == sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE
}

/// Makes the table on the server of a pool.
///
/// # Errors
/// When that may not be done, with what is to be done by hand.
pub(crate) async fn make(transactions: &Transactions, pool: &Pool) -> Result<(), ErrorReport> {
    let upstream = pool.upstream.load_full();
    let missing = |why: String| {
        let shard = &pool.key.database;
        let text = format!(
            "shard \"{shard}\" has no table pgherd.decisions, which a write to several shards takes"
        );
        ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text)
            .detail(why)
            .hint(format!("Run there, as who may: {DEFINITION}"))
    };
    let opened = transactions.open(&upstream).await;
    let mut server = opened.map_err(|error| missing(error.report().message))?;
    let made = run(&mut server, &format!("{ALONE}{DEFINITION}; COMMIT")).await;
    made.map_err(|error| missing(error.message))
}

async fn run(server: &mut ServerConn, sql: &str) -> Result<(), ErrorReport> {
    let Answer { error, .. } = setup::run(server, sql.as_bytes()).await?;
    error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::{Part, decider, lock, part};

    #[test]
    fn a_name_says_who_decides() {
        let id = "0123456789abcdef0123456789abcdef";
        let sections = ["a".to_owned(), "a:b".to_owned()];
        let name = part(id, 1, "a:b", "c").unwrap();
        let read = Part::read(&name, "c", &sections).unwrap();
        assert_eq!((read.id, read.decider), (id, "a:b"));
        assert_eq!(decider(&name, "c"), Some("a:b"));
        assert_eq!(Part::read(&name, "b:c", &sections).unwrap().decider, "a");
        assert_eq!(Part::read(&name, "d", &sections), None);
        assert_eq!(
            Part::read(&name, "c", &sections[..1]),
            None,
            "no shard of ours"
        );
        assert_eq!(Part::read("pgherd:x:1:a:c", "c", &sections), None);
        assert_eq!(Part::read("other", "c", &sections), None);
        assert!(part(id, 1, &"x".repeat(100), &"y".repeat(100)).is_err());
    }

    #[test]
    fn each_transaction_has_a_lock() {
        assert_eq!(lock("0123456789abcdef0000000000000007"), 7);
        assert_eq!(lock("0123456789abcdefffffffffffffffff"), -1);
        assert_eq!(lock("short"), 0, "no name has such a number");
    }
}
