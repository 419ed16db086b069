//! The run-time parameters of a session, and what it takes to bring a server to them.

mod met;
mod visit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// How many proven values are remembered for one pool before the memory starts anew.
const PROVEN_MAX: usize = 4096;

/// A longer value is not remembered.
const VALUE_MAX: usize = 1024;

/// Parameters that a session has set to values of its own, by lower-case name.
///
/// Two sessions with the same parameters usually share one `Arc<Parameters>`, so that comparing a
/// client with a server is a pointer comparison on the usual path.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Parameters {
    values: BTreeMap<Box<str>, Box<str>>,
    /// The users' own settings that the session has ever had: Postgres forgets none of them before the
    /// connection ends, and what is set no more is an empty text from then on.
    met: BTreeSet<Box<str>>,
}

impl Parameters {
    /// Sets `name` to `value`; names are case-insensitive.
    pub fn set(&mut self, name: &str, value: &str) {
        self.meet(name);
        self.values.insert(key(name), value.into());
    }

    /// Leaves `name` at what the server has.
    pub fn remove(&mut self, name: &str) {
        self.values.remove(&*key(name));
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        let met = self.met.iter().map(|name| name.len());
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .chain(met)
            .sum()
    }

    /// The names that are not set alike here and in `other`.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let changed = other
            .iter()
            .filter(|(name, value)| self.values.get(*name).map(|own| &**own) != Some(*value));
        let gone = self
            .iter()
            .filter(|(name, _)| !other.values.contains_key(*name));
        changed.chain(gone).map(|(name, _)| name)
    }

    /// The value of `name`, if this session has one of its own.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&*key(name)).map(|value| &**value)
    }

    /// All names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whatever of these may change what a text means when it is parsed: constants are read then
    /// under `DateStyle`, `TimeZone`, the encoding and others. Only what surely does not is left out.
    pub fn reading(&self) -> Vec<u8> {
        let mut reading = Vec::new();
        for (name, value) in self.iter().filter(|(name, _)| !is_not_read(name)) {
            reading.extend_from_slice(name.as_bytes());
            reading.push(0);
            reading.extend_from_slice(value.as_bytes());
            reading.push(0);
        }
        reading
    }

    /// Whether what [`Self::reading`] tells is the same of both.
    pub fn reads_as(&self, other: &Self) -> bool {
        !self.differing(other).any(changes_reading)
    }

    /// Whether plans that were made under these may be gone by under `other`. What only changes how a text is taken
    /// apart does not matter: that is done once, and not again with a plan.
    pub fn plans_as(&self, other: &Self) -> bool {
        self.differing(other).all(|name| !Self::is_planned(name))
    }

    /// Whether a plan may hang on this setting, named in lower case, by what it changes in the meaning of constants.
    pub fn is_planned(name: &str) -> bool {
        const OF_TEXTS: [&str; 4] = [
            "backslash_quote",
            "client_encoding",
            "escape_string_warning",
            "standard_conforming_strings",
        ];
        !is_not_read(name) && !OF_TEXTS.contains(&name)
    }

    /// Whatever of these may change what names in a text mean: the path, and who the session is, as that may be a part
    /// of the path, and says which schemas of it are open. A statement is analysed anew under other settings of these,
    /// but not all of it: the types of its parameters and of its columns stay.
    pub fn naming(&self) -> Vec<u8> {
        let mut naming = Vec::new();
        for name in NAMING {
            if let Some(value) = self.get(name) {
                naming.extend_from_slice(name.as_bytes());
                naming.push(0);
                naming.extend_from_slice(value.as_bytes());
                naming.push(0);
            }
        }
        naming
    }

    /// Whether what [`Self::naming`] tells is the same of both.
    pub fn names_as(&self, other: &Self) -> bool {
        !self.differing(other).any(changes_naming)
    }

    /// The one statement that sets all of these for the session, and `local` for the transaction; `None` if there
    /// are none.
    pub fn assignment(&self, local: &Self) -> Option<String> {
        let mut sql = String::new();
        for (parameters, is_local) in [(self, false), (local, true)] {
            for (name, value) in parameters.iter() {
                push_call(&mut sql, name, Some(value), is_local);
            }
        }
        (!sql.is_empty()).then_some(sql)
    }

    /// The statement that turns a server at `self` into one at `wanted`; `None` when they agree.
    ///
    /// One `SELECT` of `set_config` calls, so that all of it happens or none: a NULL value resets.
    /// The text is pure ASCII whatever the values are, because the server may still be set to a
    /// client encoding whose multi-byte sequences swallow a quote.
    ///
    /// Postgres calls them one after the other. A user that the session has become, or a role that
    /// it has taken on, may not be allowed what its login is, so both are left first and entered last.
    pub fn transition(&self, wanted: &Self) -> Option<String> {
        let mut calls = Calls::default();
        let is_who = |name: &str| name == ROLE || name == SESSION_AUTHORIZATION;
        let differing = || self.differing(wanted);
        // One that is set no more has to be there as an empty text.
        let unmet = wanted.strange_to(self);
        let unmet: Vec<&str> = unmet.filter(|name| wanted.get(name).is_none()).collect();
        if unmet.is_empty() {
            differing().next()?;
        }
        let others: Vec<&str> = differing()
            .filter(|name| !is_who(name))
            .chain(unmet)
            .collect();
        let (user, other_user) = (
            self.get(SESSION_AUTHORIZATION),
            wanted.get(SESSION_AUTHORIZATION),
        );
        let (role, other_role) = (self.get(ROLE), wanted.get(ROLE));
        let leaves_user = user.is_some() && (user != other_user || !others.is_empty());
        let leaves_role = role.is_some() && (leaves_user || !others.is_empty());
        if leaves_role {
            calls.push(ROLE, Some("none"));
        }
        if leaves_user {
            calls.push(SESSION_AUTHORIZATION, None);
        }
        for name in others {
            if name == DATE_STYLE && self.get(name).is_some() && wanted.get(name).is_some() {
                // A part of it leaves the other as it is: that is to be the usual one.
                calls.push(name, None);
            }
            calls.push(name, wanted.get(name));
        }
        let enters_user = other_user.is_some() && (leaves_user || user != other_user);
        if enters_user {
            calls.push(SESSION_AUTHORIZATION, other_user);
        }
        // A change of the user is one of the role, too.
        if leaves_role || role != other_role || leaves_user || enters_user {
            calls.push(ROLE, other_role);
        }
        Some(calls.0)
    }
}

/// The setting of two parts, each of which may be set by itself.
const DATE_STYLE: &str = "datestyle";
/// The setting of `SET ROLE`.
pub(crate) const ROLE: &str = "role";
/// The setting of `SET SESSION AUTHORIZATION`.
pub(crate) const SESSION_AUTHORIZATION: &str = "session_authorization";

/// The settings by which names are looked up.
const NAMING: [&str; 3] = ["search_path", ROLE, SESSION_AUTHORIZATION];

/// Whether a setting, by its name in lower case, may change what a text means when it is parsed or planned, as far as
/// that is not what its names mean.
pub fn changes_reading(name: &str) -> bool {
    !is_not_read(name)
}

/// Whether a setting, by its name in lower case, may change what the names in a text mean.
pub fn changes_naming(name: &str) -> bool {
    NAMING.contains(&name)
}

/// Whether a setting surely does not change what a text means when it is parsed, or when it is planned: what calls only
/// functions that are marked as immutable is worked out then, and how a value is written is one of them.
fn is_not_read(name: &str) -> bool {
    const NOT_READ: [&str; 21] = [
        "application_name",
        "client_min_messages",
        "default_tablespace",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "jit",
        "join_collapse_limit",
        "maintenance_io_concurrency",
        "plan_cache_mode",
        ROLE, // As search_path.
        "row_security",
        "search_path", // See [`Parameters::naming`].
        SESSION_AUTHORIZATION,
        "session_replication_role",
        "synchronous_commit",
        "temp_tablespaces",
        "work_mem",
    ];
    const PARTS: [&str; 7] = [
        "enable_",
        "geqo",
        "jit_",
        "log_",
        "max_parallel_",
        "track_",
        "vacuum_",
    ];
    // What an application names itself, or an extension that is no part of the parser.
    name.contains('.')
        || NOT_READ.contains(&name)
        || PARTS.iter().any(|part| name.starts_with(part))
        || name.ends_with("_timeout")
        || name.ends_with("_cost")
        || name.ends_with("_work_mem")
}

/// A `SELECT` of `set_config` calls.
#[derive(Default)]
struct Calls(String);

impl Calls {
    fn push(&mut self, name: &str, value: Option<&str>) {
        push_call(&mut self.0, name, value, false);
    }
}

fn key(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

fn push_call(sql: &mut String, name: &str, value: Option<&str>, local: bool) {
    sql.push_str(if sql.is_empty() { "SELECT " } else { ", " });
    sql.push_str("pg_catalog.set_config(");
    push_literal(sql, name);
    sql.push_str(", ");
    match value {
        Some(value) => push_literal(sql, value),
        None => sql.push_str("NULL"),
    }
    sql.push_str(if local { ", true)" } else { ", false)" });
}

/// An escape-string literal in ASCII for any text: it means the same whatever the session is set to.
pub fn literal(text: &str) -> String {
    let mut sql = String::with_capacity(text.len() + 3);
    push_literal(&mut sql, text);
    sql
}

/// An escape-string literal: its meaning does not depend on `standard_conforming_strings`.
fn push_literal(sql: &mut String, text: &str) {
    sql.push_str("E'");
    for byte in text.bytes() {
        match byte {
            b'\'' => sql.push_str("''"),
            b'\\' => sql.push_str("\\\\"),
            0x20..=0x7e => sql.push(char::from(byte)),
            _ => sql.push_str(&format!("\\x{byte:02x}")),
        }
    }
    sql.push('\'');
}

/// How many sets are kept for sharing; those that nobody has any more go first.
const SHARED_MAX: usize = 1024;

/// Sets of parameters that sessions of one pool have, each kept once.
#[derive(Debug, Default)]
pub struct Shared(Mutex<HashSet<Arc<Parameters>>>);

impl Shared {
    /// The one value for all sets equal to this one, as long as there are not too many.
    pub fn share(&self, parameters: Parameters) -> Arc<Parameters> {
        let mut known = self.0.lock();
        if let Some(same) = known.get(&parameters) {
            return Arc::clone(same);
        }
        if known.len() >= SHARED_MAX {
            known.retain(|set| Arc::strong_count(set) > 1);
        }
        let parameters = Arc::new(parameters);
        if known.len() < SHARED_MAX {
            known.insert(Arc::clone(&parameters));
        }
        parameters
    }
}

/// Values that a server of this pool has accepted, with the form in which it reports them.
///
/// A value that was never tried must be tried before a query runs behind it: were it refused in
/// the same write, the query would already be on its way under the wrong parameters.
#[derive(Debug, Default)]
pub struct Proven(RwLock<HashMap<Setting, Option<Arc<str>>>>);

/// A parameter's name, in lower case, and its value.
type Setting = (Box<str>, Box<str>);

impl Proven {
    /// Remembers that `name = value` was accepted, and how the server reports it (`None` when the
    /// parameter is not a reported one).
    pub fn learn(&self, name: &str, value: &str, reported: Option<&str>) {
        if value.len() > VALUE_MAX {
            return;
        }
        let mut known = self.0.write();
        if known.len() >= PROVEN_MAX {
            known.clear();
        }
        known.insert((key(name), value.into()), reported.map(Arc::from));
    }

    /// Forgets all: servers may accept and report other values by now.
    pub fn forget(&self) {
        self.0.write().clear();
    }

    /// Whether every value in `wanted` that differs from `current` was accepted before.
    pub fn covers(&self, current: &Parameters, wanted: &Parameters) -> bool {
        let known = self.0.read();
        wanted.iter().all(|(name, value)| {
            current.get(name) == Some(value)
                || harmless(name, value)
                || known.contains_key(&(key(name), Box::from(value)))
        })
    }

    /// As [`Self::covers`], but only of those parameters that the server reports: what others are
    /// like there need not be learnt.
    pub fn covers_reported(
        &self,
        current: &Parameters,
        wanted: &Parameters,
        is_reported: impl Fn(&str) -> bool,
    ) -> bool {
        let known = self.0.read();
        wanted.iter().all(|(name, value)| {
            current.get(name) == Some(value)
                || harmless(name, value)
                || !is_reported(name)
                || known.contains_key(&(key(name), Box::from(value)))
        })
    }

    /// How the server reports `name = value`: outer `None` when it was never tried.
    pub fn reported(&self, name: &str, value: &str) -> Option<Option<Arc<str>>> {
        if harmless(name, value) {
            return Some(Some(value.into()));
        }
        self.0.read().get(&(key(name), Box::from(value))).cloned()
    }
}

/// Values that every server accepts and reports unchanged.
fn harmless(name: &str, value: &str) -> bool {
    match name {
        "application_name" => value.len() < 64 && value.bytes().all(|b| (0x20..0x7f).contains(&b)),
        "client_encoding" => value == "UTF8",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Parameters, Proven};

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        let mut set = Parameters::default();
        for (name, value) in pairs {
            set.set(name, value);
        }
        set
    }

    #[test]
    fn equal_sets_need_no_statement() {
        let set = parameters(&[("TimeZone", "UTC")]);
        assert_eq!(set.transition(&parameters(&[("timezone", "UTC")])), None);
    }

    #[test]
    fn differences_are_set_and_leftovers_reset() {
        let now = parameters(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let wanted = parameters(&[("a", "1"), ("b", "x")]);
        assert_eq!(
            now.transition(&wanted).as_deref(),
            Some(
                "SELECT pg_catalog.set_config(E'b', E'x', false), \
                 pg_catalog.set_config(E'c', NULL, false)"
            )
        );
    }

    #[test]
    fn a_part_of_a_setting_is_laid_over_the_usual_one() {
        let set = |now: &[(&str, &str)], wanted: &[(&str, &str)]| {
            let sql = parameters(now).transition(&parameters(wanted)).unwrap();
            sql.matches("E'DateStyle'").count() + sql.matches("E'datestyle'").count()
        };
        let (british, iso) = ([("datestyle", "SQL, DMY")], [("DateStyle", "ISO")]);
        assert_eq!(set(&[], &iso), 1);
        assert_eq!(set(&british, &iso), 2);
        assert_eq!(set(&british, &[]), 1);
    }

    #[test]
    fn users_and_roles_are_left_first_and_entered_last() {
        let calls = |now: &[(&str, &str)], wanted: &[(&str, &str)]| {
            let sql = parameters(now).transition(&parameters(wanted)).unwrap();
            sql.replace("pg_catalog.set_config", "")
                .replace("SELECT ", "")
                .replace(", false", "")
        };
        assert_eq!(
            calls(&[], &[("role", "a"), ("x", "1")]),
            "(E'x', E'1'), (E'role', E'a')"
        );
        assert_eq!(calls(&[("role", "a")], &[("role", "b")]), "(E'role', E'b')");
        assert_eq!(calls(&[("role", "a")], &[]), "(E'role', NULL)");
        assert_eq!(
            calls(&[("role", "a"), ("x", "1")], &[("role", "a"), ("x", "2")]),
            "(E'role', E'none'), (E'x', E'2'), (E'role', E'a')"
        );
        assert_eq!(
            calls(
                &[("session_authorization", "u"), ("role", "a")],
                &[("session_authorization", "v"), ("x", "1")]
            ),
            "(E'role', E'none'), (E'session_authorization', NULL), (E'x', E'1'), \
             (E'session_authorization', E'v'), (E'role', NULL)"
        );
        assert_eq!(
            calls(
                &[("role", "a")],
                &[("role", "a"), ("session_authorization", "u")]
            ),
            "(E'session_authorization', E'u'), (E'role', E'a')"
        );
    }

    #[test]
    fn only_what_may_change_a_reading_parts_statements() {
        let set = [
            ("app.tenant", "7"),
            ("role", "a"),
            ("work_mem", "1MB"),
            ("enable_sort", "off"),
        ];
        assert!(parameters(&set).reading().is_empty());
        assert!(!parameters(&[("datestyle", "ISO")]).reading().is_empty());
        assert!(!parameters(&[("array_nulls", "off")]).reading().is_empty());
        let digits = parameters(&[("extra_float_digits", "0")]);
        assert!(!digits.reading().is_empty());
        assert!(parameters(&set).reads_as(&parameters(&[])) && !digits.reads_as(&parameters(&[])));
    }

    #[test]
    fn plans_hang_on_what_constants_mean() {
        let none = Parameters::default();
        for (name, reads, plans) in [
            ("app.tenant", true, true),
            ("search_path", true, true),
            ("client_encoding", false, true),
            ("standard_conforming_strings", false, true),
            ("timezone", false, false),
            ("intervalstyle", false, false),
        ] {
            let set = parameters(&[(name, "x"), ("work_mem", "1MB")]);
            assert_eq!(set.reads_as(&none), reads, "{name}");
            assert_eq!(set.plans_as(&none), plans, "{name}");
            assert_eq!(none.plans_as(&set), plans, "{name}");
            assert!(set.reads_as(&set) && set.plans_as(&set));
        }
        let zone = |zone: &str| parameters(&[("timezone", zone)]);
        assert!(!zone("UTC").plans_as(&zone("Asia/Tokyo")));
    }

    #[test]
    fn values_cannot_leave_their_literal() {
        let wanted = parameters(&[("a", "'; DROP TABLE t; \\' -- \u{e9}")]);
        let sql = Parameters::default().transition(&wanted).expect("differs");
        assert!(sql.is_ascii());
        assert_eq!(
            sql,
            "SELECT pg_catalog.set_config(E'a', E'''; DROP TABLE t; \\\\'' -- \\xc3\\xa9', false)"
        );
    }

    #[test]
    fn equal_sets_are_one_while_somebody_has_them() {
        let shared = super::Shared::default();
        let first = shared.share(parameters(&[("a", "1")]));
        assert!(Arc::ptr_eq(
            &first,
            &shared.share(parameters(&[("A", "1")]))
        ));
        for number in 0..2 * super::SHARED_MAX {
            drop(shared.share(parameters(&[("b", &number.to_string())])));
        }
        assert!(Arc::ptr_eq(
            &first,
            &shared.share(parameters(&[("a", "1")]))
        ));
        assert!(shared.0.lock().len() <= super::SHARED_MAX);
    }

    #[test]
    fn only_tried_values_are_covered() {
        let proven = Proven::default();
        let none = Parameters::default();
        let wanted = parameters(&[("datestyle", "ISO"), ("application_name", "psql")]);
        assert!(!proven.covers(&none, &wanted));
        proven.learn("DateStyle", "ISO", Some("ISO, MDY"));
        assert!(proven.covers(&none, &wanted));
        assert_eq!(
            proven.reported("datestyle", "ISO").flatten().as_deref(),
            Some("ISO, MDY")
        );
        assert_eq!(proven.reported("datestyle", "SQL"), None);
        proven.forget();
        assert!(!proven.covers(&none, &wanted));
    }
}
