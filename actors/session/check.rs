//! One look at a server's session for what only a function can have left there.

use std::fmt::Write as _;
use std::sync::Arc;

use pgherd_session::{Parameters, literal};
use pgherd_sql::{Pin, PinSet};
use pgherd_wire::error::ErrorReport;

use crate::hidden::Found;
use crate::pool::Pool;
use crate::server::ServerConn;
use crate::session::setup;

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// It is as its client has set it.
    Clean,
    /// There is something that belongs to its client: what a client is told by name to be bound for, and
    /// [`Pin::Function`] for anything else.
    Changed(PinSet),
    /// There is nothing, but the prepared statements that all clients share are others.
    Altered,
    /// It could not be told.
    Hidden,
}

/// Looks at a server that is idle.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn run(
    pool: &Pool,
    server: &mut ServerConn,
    found: Option<&Found>,
    listener: setup::Listener,
) -> Result<Session, ErrorReport> {
    let welcome = pool.welcome.load_full();
    let is_reported = |name: &str| {
        welcome.as_ref().is_some_and(|welcome| {
            let mut known = welcome.parameters.iter();
            known.any(|(known, _)| known.eq_ignore_ascii_case(name))
        })
    };
    let upstream = &server.about.upstream;
    let mut wanted = Parameters::default();
    for (name, value) in &upstream.parameters {
        wanted.set(name, value);
    }
    if server.doubted.crowded {
        return Ok(Session::Hidden);
    }
    let doubted = server.doubted.names.iter().map(|name| &**name);
    let unmet = unmet(&server.applied, found).chain(doubted);
    let named: Vec<Box<str>> = unmet.map(Into::into).collect();
    let user = &upstream.user;
    let sql = question(&server.applied, &wanted, found, &named, user, is_reported);
    let answer = setup::run_into(
        server,
        sql.as_bytes(),
        setup::Answer::default().heard_by(listener),
    )
    .await?;
    if let Some(error) = answer.error {
        tracing::info!(%error, "a session cannot be looked at, so its client keeps it");
        return Ok(Session::Hidden);
    }
    let [row] = answer.rows.as_slice() else {
        return Ok(Session::Hidden);
    };
    let [changed, kept, by_parse, by_sql, met] = row.as_slice() else {
        return Ok(Session::Hidden);
    };
    meet(server, &named, met.as_deref().unwrap_or_default());
    let statements = statements(by_parse.as_deref(), by_sql.as_deref());
    let (Some(changed), Some(kept)) = (changed.as_deref(), kept.as_deref()) else {
        return Ok(Session::Hidden);
    };
    if changed.is_empty() && kept.is_empty() {
        return Ok(match statements {
            Some((by_parse, by_sql)) if server.statements.are(by_parse, by_sql.iter().copied()) => {
                Session::Clean
            }
            Some(_others) => Session::Altered,
            None => Session::Hidden,
        });
    }
    let what = String::from_utf8_lossy(changed) + String::from_utf8_lossy(kept);
    let client = &pool.key.user;
    tracing::debug!(%what, client, "a session is not as its client was seen to set it");
    Ok(Session::Changed(left(changed, kept)))
}

/// What there is in a session by the answers to [`question`]. Only its end ends what is [`Pin::Unknown`] among that.
fn left(changed: &[u8], kept: &[u8]) -> PinSet {
    let mut left = PinSet::EMPTY;
    if !changed.is_empty() {
        left.insert(Pin::Function);
    }
    for word in kept.split(|byte| *byte == b' ') {
        left.insert(match word {
            b"" => continue,
            b"temporary" => Pin::TempTable,
            b"lock" => Pin::AdvisoryLock,
            b"cursor" => Pin::HoldCursor,
            b"slot" => Pin::Unknown,
            _ => Pin::Function,
        });
    }
    left
}

/// Which of our statements a server says to have: how many by a Parse, and the numbers of those by SQL.
fn statements(by_parse: Option<&[u8]>, by_sql: Option<&[u8]>) -> Option<(usize, Vec<u64>)> {
    let by_parse = std::str::from_utf8(by_parse?).ok()?;
    let by_sql = std::str::from_utf8(by_sql?).ok()?;
    let numbers = by_sql.split_ascii_whitespace().map(str::parse);
    Some((
        by_parse.parse().ok()?,
        numbers.collect::<Result<_, _>>().ok()?,
    ))
}

/// The settings that functions make and that this server has never had, as far as is known.
fn unmet<'a>(applied: &'a Parameters, found: Option<&'a Found>) -> impl Iterator<Item = &'a str> {
    let settings = found.into_iter().flat_map(|found| &found.settings);
    settings
        .map(|name| &**name)
        .filter(|name| !applied.has_met(name))
}

/// Takes note of which of the settings that were asked for are there by now: `told` has their numbers.
fn meet(server: &mut ServerConn, named: &[Box<str>], told: &[u8]) {
    server.applied = server.certain();
    server.doubted.names.clear();
    let told = std::str::from_utf8(told).unwrap_or_default();
    let mut met = told
        .split(' ')
        .filter_map(|at| named.get(at.parse::<usize>().ok()?))
        .peekable();
    if met.peek().is_some() {
        let mut applied = (*server.applied).clone();
        met.for_each(|name| applied.meet(name));
        server.applied = Arc::new(applied);
    }
}

/// Takes back what no look can show: settings of the users' own whose names nobody knows. Whatever is
/// known to be set is set again.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn wash(server: &mut ServerConn) -> Result<Session, ErrorReport> {
    let mut sql = String::from("RESET ALL");
    if let Some(again) = Parameters::default().transition(&server.applied) {
        sql.push_str("; ");
        sql.push_str(&again);
    }
    let answer = setup::run(server, sql.as_bytes()).await?;
    Ok(match answer.error {
        None => Session::Clean,
        Some(_) => Session::Hidden,
    })
}

/// The question, in ASCII, so that it means the same in every encoding and with any setting for strings.
/// Each name and operator in it is Postgres' own, whatever the search path is.
fn question(
    applied: &Parameters,
    start: &Parameters,
    found: Option<&Found>,
    named: &[Box<str>],
    user: &str,
    is_reported: impl Fn(&str) -> bool,
) -> String {
    let mut sql = String::from("SELECT pg_catalog.concat(");
    // Writing to a String cannot fail.
    let _ = write!(
        sql,
        "(SELECT pg_catalog.string_agg(s.name, ' '::pg_catalog.text) FROM pg_catalog.pg_settings AS s \
         WHERE s.source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text \
         AND pg_catalog.lower(s.name) OPERATOR(pg_catalog.<>) ALL (ARRAY["
    );
    for (name, _) in applied.iter() {
        let _ = write!(sql, "{}, ", literal(name));
    }
    // Those of a transaction are set anew for each, whatever the last one has left of them.
    sql.push_str(
        "'transaction_isolation', 'transaction_read_only', 'transaction_deferrable']\
         ::pg_catalog.text[])), ",
    );
    for (name, value) in applied.iter().filter(|(name, _)| !is_reported(name)) {
        let name = literal(name);
        let _ = write!(
            sql,
            "CASE WHEN COALESCE(pg_catalog.current_setting({name}, true), '') \
             OPERATOR(pg_catalog.<>) pg_catalog.set_config({name}, {}, true) \
             THEN 'setting ' END, ",
            literal(value)
        );
    }
    let settings = found.iter().flat_map(|found| &found.settings);
    for name in settings.filter(|name| applied.get(name).is_none()) {
        custom(&mut sql, name, start.get(name));
    }
    if applied.get("role").is_none() {
        role(&mut sql, start.get("role"));
    }
    let _ = write!(
        sql,
        "CASE WHEN SESSION_USER::pg_catalog.text OPERATOR(pg_catalog.<>) {}::pg_catalog.text \
         THEN 'session_authorization ' END, ",
        literal(user)
    );
    sql.push_str(
        "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'listen ' END, \
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements AS p WHERE p.name \
         OPERATOR(pg_catalog.!~) '^pgherd_'::pg_catalog.text OR p.from_sql AND p.name \
         OPERATOR(pg_catalog.!~) '^pgherd_[1-9][0-9]{0,18}$'::pg_catalog.text) \
         THEN 'prepared ' END), \
         pg_catalog.concat(CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
         WHERE d.refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid \
         AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
         AND pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid) \
         THEN 'temporary ' END, \
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks AS l \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text \
         AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) THEN 'lock ' END, \
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors AS c WHERE c.is_holdable) \
         THEN 'cursor ' END, \
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS t WHERE t.temporary \
         AND t.active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) THEN 'slot ' END), \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements AS p \
         WHERE NOT p.from_sql \
         AND p.name OPERATOR(pg_catalog.~) '^pgherd_[0-9]+$'::pg_catalog.text), \
         (SELECT COALESCE(pg_catalog.string_agg(pg_catalog.substr(p.name, 8), ' '::pg_catalog.text), '') \
         FROM pg_catalog.pg_prepared_statements AS p WHERE p.from_sql \
         AND p.name OPERATOR(pg_catalog.~) '^pgherd_[1-9][0-9]{0,18}$'::pg_catalog.text), \
         pg_catalog.concat_ws(' ', ''",
    );
    for (at, name) in named.iter().enumerate() {
        let name = literal(name);
        let _ = write!(
            sql,
            ", CASE WHEN pg_catalog.current_setting({name}, true) IS NOT NULL THEN '{at}' END"
        );
    }
    sql.push(')');
    sql
}

/// What a session's own value of a setting is when it begins, as the database and the role say.
pub(super) fn default_of(name: &str) -> String {
    format!(
        "(SELECT pg_catalog.substr(c, {}) FROM pg_catalog.pg_db_role_setting AS d, \
         pg_catalog.unnest(d.setconfig) AS c \
         WHERE pg_catalog.starts_with(pg_catalog.lower(c), {}) \
         AND d.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, \
         (SELECT b.oid FROM pg_catalog.pg_database AS b \
         WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]) \
         AND d.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, \
         (SELECT r.oid FROM pg_catalog.pg_roles AS r \
         WHERE r.rolname OPERATOR(pg_catalog.=) SESSION_USER)]) \
         ORDER BY d.setrole DESC, d.setdatabase DESC LIMIT 1)",
        name.len() + 2,
        literal(&format!("{name}="))
    )
}

/// A setting of the users' own, which Postgres lists nowhere.
fn custom(sql: &mut String, name: &str, start: Option<&str>) {
    let default = start.map_or_else(|| default_of(name), literal);
    let _ = write!(
        sql,
        "CASE WHEN COALESCE(pg_catalog.current_setting({}, true), '') \
         OPERATOR(pg_catalog.<>) COALESCE({default}, '') THEN 'setting ' END, ",
        literal(name)
    );
}

fn role(sql: &mut String, start: Option<&str>) {
    let default = start.map_or_else(|| default_of("role"), literal);
    let _ = write!(
        sql,
        "CASE WHEN pg_catalog.current_setting('role') \
         OPERATOR(pg_catalog.<>) COALESCE({default}, 'none') THEN 'role ' END, "
    );
}

#[cfg(test)]
mod tests {
    use pgherd_session::Parameters;
    use pgherd_sql::{Pin, PinSet};

    use super::{left, question};
    use crate::hidden::Found;

    #[test]
    fn what_is_left_is_told_by_what_a_client_knows_it_by() {
        let of = |changed: &str, kept: &str| left(changed.as_bytes(), kept.as_bytes());
        assert_eq!(of("", ""), PinSet::EMPTY);
        let both = PinSet::of(&[Pin::TempTable, Pin::HoldCursor]);
        assert_eq!(of("", "temporary cursor "), both);
        let lock = PinSet::of(&[Pin::AdvisoryLock, Pin::Function]);
        assert_eq!(of("work_memrole ", "lock "), lock);
        assert_eq!(of("lock_timeout", ""), PinSet::of(&[Pin::Function]));
        let slot = PinSet::of(&[Pin::TempTable, Pin::Unknown]);
        assert_eq!(of("", "temporary slot "), slot);
    }

    #[test]
    fn the_question_is_ascii_and_asks_only_for_postgres_own() {
        let mut applied = Parameters::default();
        applied.set("work_mem", "1MB'; DROP TABLE t; -- \u{e9}");
        applied.set("TimeZone", "UTC");
        let found = Found {
            settings: vec!["app.x".into()],
            ..Found::default()
        };
        let is_reported = |name: &str| name == "timezone";
        let sql = question(
            &applied,
            &Parameters::default(),
            Some(&found),
            &["app.y".into()],
            "a\"b",
            is_reported,
        );
        assert!(sql.is_ascii());
        assert!(
            !sql.contains(" = ") && !sql.contains(" <> ") && !sql.contains(" IN ("),
            "{sql}"
        );
        assert!(
            sql.contains("set_config(E'work_mem', E'1MB''; DROP TABLE t; -- \\xc3\\xa9', true)")
        );
        assert!(!sql.contains("set_config(E'timezone'"));
        assert!(sql.contains("E'app.x'"));
        assert!(sql.contains("current_setting(E'app.y', true) IS NOT NULL THEN '0'"));
    }
}
