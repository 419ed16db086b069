//! What is known of the shards: their schemas and settings, which must be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use pgherd_planner::catalog::{Catalog, Loader, Part, SNAPSHOT};
use pgherd_planner::placement::Placement;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::hidden::Hidden;
use crate::pool::Pool;
use crate::router;
use crate::server::ServerConn;
use crate::session::setup;
use crate::shards::sequences::{self, Sequences};
use crate::shards::types::{self, OwnTypes};
use crate::shards::unique::{self, Unique};

/// More rows of one question are no schema that is planned for.
const ROWS_MAX: usize = 1_000_000;
/// How many differences are told.
const TOLD_MAX: usize = 5;

/// What changes the meaning of a statement or the look of its answer, as this user has it at login, and
/// the schemas that it may use. Two columns: a name and a value.
const SETTINGS: &str = "SELECT 'setting ' || name, setting FROM pg_catalog.pg_settings
 WHERE name = ANY ('{TimeZone,DateStyle,IntervalStyle,bytea_output,extra_float_digits,search_path,
standard_conforming_strings,server_encoding,client_encoding,lc_collate,lc_ctype,lc_monetary,lc_numeric,
lc_time,default_text_search_config,xmlbinary,xmloption,array_nulls,transform_null_equals,
backslash_quote,row_security,timezone_abbreviations,default_transaction_isolation,session_replication_role}')
 UNION ALL SELECT 'version', (setting::int / 10000)::text FROM pg_catalog.pg_settings
 WHERE name = 'server_version_num'
 UNION ALL SELECT 'user', current_user::text
 UNION ALL SELECT 'database ' || e.key, e.value FROM pg_catalog.pg_database d,
  pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(d)) e
 WHERE d.datname = pg_catalog.current_database() AND e.key = ANY ('{datcollate,datctype,datlocprovider,
daticulocale,datlocale,datcollversion}')
 UNION ALL SELECT 'usage ' || nspname, '' FROM pg_catalog.pg_namespace
 WHERE pg_catalog.has_schema_privilege(oid, 'usage') AND NOT nspname::text ~ '^pg_(toast|temp)'
  AND nspname <> 'pgherd'
 ORDER BY 1, 2";

/// What is known of the shards.
#[derive(Debug, Clone)]
pub struct Known {
    /// Another one for another schema.
    number: u64,
    /// Until when all had been written that made the schemas what they are.
    since: Instant,
    shards: Box<[(Arc<Facts>, Seen)]>,
    /// Every shard that was to be read anew has been.
    whole: bool,
    /// Why nothing can be planned by it.
    fault: Option<Box<ErrorReport>>,
    settings: Settings,
}

/// How often a catalogue had changed when it was read, and what of it each shard has for itself.
#[derive(Debug, Clone)]
struct Seen {
    hidden: Arc<Hidden>,
    changes: u64,
    /// How often others had said until then that it may have changed.
    heard: u64,
    own: Arc<Own>,
}

/// What need not be equal on all shards.
#[derive(Debug, Default)]
struct Own {
    types: OwnTypes,
    sequences: Sequences,
    /// The body of `pgherd.unique_id()`.
    unique: Option<String>,
}

impl Seen {
    fn now(pool: &Pool) -> Self {
        let hidden = Arc::clone(&pool.upstream.load().hidden.0);
        let (changes, heard) = (hidden.changes(), hidden.heard());
        let own = Arc::default();
        Self {
            hidden,
            changes,
            heard,
            own,
        }
    }

    fn is_current(&self, pool: &Pool) -> bool {
        let hidden = &pool.upstream.load().hidden.0;
        Arc::ptr_eq(hidden, &self.hidden) && hidden.changes() == self.changes
    }

    /// Whether nobody has said since that it may have changed.
    fn is_undoubted(&self) -> bool {
        self.hidden.heard() == self.heard
    }
}

/// What one shard says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    catalog: Catalog,
    settings: Vec<(String, String)>,
}

impl Facts {
    /// The schema.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What of the schema does not agree with a placement.
    pub(super) fn remarks(&self, placement: &Placement) -> impl Iterator<Item = String> {
        let found = placement.check(&self.catalog).into_iter();
        found.map(|finding| format!("table {} {}", finding.table, finding.problem))
    }
}

/// What a session of this user begins with.
#[derive(Debug, Clone, Default)]
struct Settings {
    search_path: String,
    server_encoding: String,
    client_encoding: String,
    user: String,
    usable: BTreeSet<String>,
    /// The major version of the servers.
    version: u32,
    /// All that were asked for, by their names in lower case.
    all: BTreeMap<String, String>,
}

/// How old what is known of a shard may be, to be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// As old as the last change that has passed through here, or that others have told of.
    Current,
    /// It is read anew in any case.
    Any,
}

impl Known {
    /// Of shards that have nothing.
    #[cfg(test)]
    pub(super) fn of_nothing(pools: &[Arc<Pool>]) -> Self {
        let facts = Arc::new(Facts {
            catalog: Catalog::default(),
            settings: Vec::new(),
        });
        let shards = pools
            .iter()
            .map(|pool| (Arc::clone(&facts), Seen::now(pool)));
        Self {
            number: 1,
            since: clock::now(),
            shards: shards.collect(),
            whole: true,
            fault: None,
            settings: Settings::default(),
        }
    }

    /// The number of these schemas: another one, where they are others.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The moment by which the schemas were what they are: a replica that has less may have others.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The schema, which is that of all shards.
    pub fn catalog(&self) -> &Catalog {
        &self.shards[0].0.catalog
    }

    /// The `search_path` of a session that has set none.
    pub fn search_path(&self) -> &str {
        &self.settings.search_path
    }

    /// The encoding of a session that has set none.
    pub fn client_encoding(&self) -> &str {
        &self.settings.client_encoding
    }

    /// The encoding that the shards store texts in.
    pub fn server_encoding(&self) -> &str {
        &self.settings.server_encoding
    }

    /// What a setting is for a session that has not set it, if it is one of those that change meanings.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let value = self.settings.all.get(&name.to_ascii_lowercase());
        value.map(String::as_str)
    }

    /// The major version of the shards' servers; 0 where they have not said.
    pub fn version(&self) -> u32 {
        self.settings.version
    }

    /// Who the user is on the shards.
    pub fn user(&self) -> &str {
        &self.settings.user
    }

    /// Whether the user may look into a schema; in others nothing of it is found.
    pub fn is_usable(&self, schema: &str) -> bool {
        self.settings.usable.contains(schema)
    }

    /// Whether types that have these numbers on these shards are the same, so that values in this format mean the
    /// same.
    pub fn are_alike(&self, one: (u16, u32), two: (u16, u32), binary: bool) -> bool {
        let types = |at: u16| {
            self.shards
                .get(usize::from(at))
                .map(|(_, seen)| &seen.own.types)
        };
        match (types(one.0), types(two.0)) {
            (Some(here), Some(there)) => here.is_alike(one.1, (there, two.1), binary),
            _ => false,
        }
    }

    /// Why this text must not run, if it may call `pgherd.unique_id()` and one of the shards has none.
    pub fn lacks_unique(&self, text: &[u8], pools: &[Arc<Pool>]) -> Option<ErrorReport> {
        if unique::is_mentioned(text) {
            return unusable(pools, &self.shards);
        }
        let is_wrong = uniques(&self.shards).any(|unique| unique == Unique::Wrong);
        match is_wrong && unique::may_hide(text) {
            true => unusable(pools, &self.shards),
            false => None,
        }
    }

    /// Whether no change of a schema has passed through here since.
    pub(super) fn is_current(&self, pools: &[Arc<Pool>]) -> bool {
        let mut shards = self.shards.iter().zip(pools);
        shards.all(|((_, seen), pool)| seen.is_current(pool))
    }

    /// Whether nobody has said since that a schema may have changed.
    pub(super) fn is_undoubted(&self) -> bool {
        self.shards.iter().all(|(_, seen)| seen.is_undoubted())
    }

    /// Whether none of this shard's has.
    pub(super) fn is_current_on(&self, shard: usize, pool: &Pool) -> bool {
        let shard = self.shards.get(shard);
        shard.is_some_and(|(_, seen)| seen.is_current(pool))
    }

    /// The same by another number: keys are not where they were, and nothing that was planned before holds.
    pub(super) fn renumbered(&self) -> Self {
        Self {
            number: self.number + 1,
            ..self.clone()
        }
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.fault.is_none()
    }

    /// Whether none was left out since it has no primary.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Itself, if the shards agree.
    pub(crate) fn agreed(self: Arc<Self>) -> Result<Arc<Self>, ErrorReport> {
        match &self.fault {
            None => Ok(self),
            Some(fault) => Err((**fault).clone()),
        }
    }
}

/// Asks the shards, those of which nothing is known that will do.
pub(super) async fn ask(
    pools: &[Arc<Pool>],
    before: Option<&Known>,
    age: Age,
    disjoint: bool,
) -> Result<Known, ErrorReport> {
    let mut shards: Vec<(Arc<Facts>, Seen)> = Vec::with_capacity(pools.len());
    let mut whole = true;
    for (at, pool) in pools.iter().enumerate() {
        let known = before.map(|before| &before.shards[at]);
        let known = known.filter(|(_, seen)| seen.is_current(pool));
        let told = known.filter(|(_, seen)| age == Age::Current && seen.is_undoubted());
        // One without a primary runs nothing that changes rows or tables: it is asked once it has one.
        let passed = known.filter(|_| told.is_none() && pool.core.held().is_some());
        whole &= passed.is_none();
        let known = told.or(passed);
        if let Some((facts, seen)) = known {
            shards.push((Arc::clone(facts), seen.clone()));
            continue;
        }
        // What changes while it is read is read again.
        let mut seen = Seen::now(pool);
        let (facts, own) = one(pool).await?;
        seen.own = Arc::new(own);
        // What is equal is kept once.
        let equal = shards.iter().map(|(facts, _)| facts);
        let equal = equal.chain(before.map(|before| &before.shards[at].0));
        let equal = equal.into_iter().find(|known| ***known == facts).cloned();
        shards.push((equal.unwrap_or_else(|| Arc::new(facts)), seen));
    }
    let number = match before {
        Some(before) if before.shards[0].0 == shards[0].0 => before.number,
        Some(before) => before.number + 1,
        None => 1,
    };
    let unchanged = before.filter(|before| {
        let mut pairs = before.shards.iter().zip(&shards);
        pairs.all(|(before, now)| before.0 == now.0)
    });
    Ok(Known {
        number,
        since: unchanged.map_or_else(clock::now, |before| before.since),
        whole,
        fault: fault(pools, &shards, disjoint).map(Box::new),
        settings: Settings::of(&shards[0].0.settings),
        shards: shards.into(),
    })
}

/// What is wrong if the shards differ, or their sequences do not where they should.
fn fault(
    pools: &[Arc<Pool>],
    shards: &[(Arc<Facts>, Seen)],
    disjoint: bool,
) -> Option<ErrorReport> {
    let first = &shards[0].0;
    let differs = shards
        .iter()
        .map(|(facts, _)| facts)
        .enumerate()
        .find(|(_, facts)| *facts != first && ***facts != **first);
    let Some((at, other)) = differs else {
        let unusable = || unusable(pools, shards).filter(|_| unique::is_hidden(&first.catalog));
        return overlap(pools, shards)
            .filter(|_| disjoint)
            .or_else(unusable);
    };
    let (one, two) = (&pools[0].key.database, &pools[at].key.database);
    let text = format!("shards \"{one}\" and \"{two}\" differ");
    let told = differences(first, other).join("; ");
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text).detail(told);
    Some(report.hint("Make their schemas and settings the same; nothing is run before that."))
}

/// What each shard has of `pgherd.unique_id()`.
fn uniques(shards: &[(Arc<Facts>, Seen)]) -> impl Iterator<Item = Unique> {
    let each = (0..).zip(shards);
    each.map(|(at, (_, seen))| match &seen.own.unique {
        None => Unique::Missing,
        Some(body) => Unique::of(body, at),
    })
}

/// Why `pgherd.unique_id()` must not be called, if that is so.
fn unusable(pools: &[Arc<Pool>], shards: &[(Arc<Facts>, Seen)]) -> Option<ErrorReport> {
    let names = pools.iter().map(|pool| pool.key.database.as_str());
    unique::unusable(names.zip(uniques(shards)))
}

/// What is wrong if a number may come of the sequences of two shards.
fn overlap(pools: &[Arc<Pool>], shards: &[(Arc<Facts>, Seen)]) -> Option<ErrorReport> {
    let names = pools.iter().map(|pool| pool.key.database.as_str());
    let each = shards.iter().map(|(_, seen)| &seen.own.sequences);
    let told = sequences::overlap(&names.zip(each).collect::<Vec<_>>())?;
    let text = "the sequences of the shards are said to be disjoint, and are not";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text).detail(told);
    Some(report.hint(
        "ALTER SEQUENCE … INCREMENT BY (the number of shards) START (another one on each) on each shard by its own name, \
         or leave out sequences = \"disjoint\"; nothing is run before that.",
    ))
}

/// What differs between two shards, each thing in a sentence.
pub(super) fn differences(one: &Facts, two: &Facts) -> Vec<String> {
    let mut found = one.catalog.differences(&two.catalog);
    let only = |these: &Facts, others: &Facts| -> Vec<String> {
        let gone = these.settings.iter();
        let gone = gone.filter(|it| !others.settings.contains(it));
        gone.map(|(name, value)| format!("{name} is {value:?} on one of the two"))
            .collect()
    };
    found.extend(only(one, two));
    found.extend(only(two, one));
    if found.is_empty() && one != two {
        found.push("their catalogues are not equal".to_owned());
    }
    found.truncate(TOLD_MAX);
    found
}

async fn one(pool: &Arc<Pool>) -> Result<(Facts, Own), ErrorReport> {
    let mut lease = router::lease(pool).await?;
    // Whoever had the server before may have left other settings.
    setup::apply(pool, &mut lease, &Arc::default()).await?;
    let facts = read_all(&mut lease).await?;
    if lease.exchange.is_over() {
        lease.mark_clean();
    }
    Ok(facts)
}

pub(super) async fn read(server: &mut ServerConn) -> Result<(Facts, Sequences), ErrorReport> {
    let (facts, own) = read_all(server).await?;
    Ok((facts, own.sequences))
}

async fn read_all(server: &mut ServerConn) -> Result<(Facts, Own), ErrorReport> {
    let mut settings = Vec::new();
    for row in rows(server, SETTINGS).await? {
        let row = texts(&row)?;
        if let [Some(name), value] = row[..] {
            settings.push((name.to_owned(), value.unwrap_or_default().to_owned()));
        }
    }
    rows(server, SNAPSHOT).await?;
    let mut loader = Loader::default();
    for part in Part::ALL {
        for row in rows(server, part.query()).await? {
            let read = loader.row(part, &texts(&row)?);
            read.map_err(|error| unread(&error.to_string()))?;
        }
    }
    let mut own = Own::default();
    for row in rows(server, types::QUESTION).await? {
        own.types.take(&texts(&row)?);
    }
    for row in rows(server, sequences::QUESTION).await? {
        own.sequences.take(&texts(&row)?);
    }
    for row in rows(server, unique::QUESTION).await? {
        own.unique = texts(&row)?.first().copied().flatten().map(str::to_owned);
    }
    rows(server, "COMMIT").await?;
    let catalog = loader.finish();
    Ok((Facts { catalog, settings }, own))
}

type Row = Vec<Option<Vec<u8>>>;

async fn rows(server: &mut ServerConn, sql: &str) -> Result<Vec<Row>, ErrorReport> {
    let answer = setup::Answer::of_rows(ROWS_MAX);
    let answer = setup::run_into(server, sql.as_bytes(), answer).await?;
    match answer.error {
        None if answer.rows.len() < ROWS_MAX => Ok(answer.rows),
        None => Err(unread("there is too much of it")),
        Some(error) => Err(unread(&error.to_string())),
    }
}

fn texts(row: &Row) -> Result<Vec<Option<&str>>, ErrorReport> {
    let text = |value: &'_ Option<Vec<u8>>| -> Result<(), ErrorReport> {
        match value.as_deref().map(std::str::from_utf8) {
            Some(Err(_)) => Err(unread("it is not in UTF-8")),
            _ => Ok(()),
        }
    };
    row.iter().try_for_each(text)?;
    let texts = row.iter().map(|value| {
        let value = value.as_deref()?;
        std::str::from_utf8(value).ok()
    });
    Ok(texts.collect())
}

fn unread(why: &str) -> ErrorReport {
    let text = "the schema of a shard cannot be read";
    ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text).detail(why)
}

impl Settings {
    fn of(rows: &[(String, String)]) -> Self {
        let mut settings = Self::default();
        for (name, value) in rows {
            if let Some(setting) = name.strip_prefix("setting ") {
                settings
                    .all
                    .insert(setting.to_ascii_lowercase(), value.clone());
            }
            match name.as_str() {
                "version" => settings.version = value.parse().unwrap_or_default(),
                "setting search_path" => settings.search_path.clone_from(value),
                "setting server_encoding" => settings.server_encoding.clone_from(value),
                "setting client_encoding" => settings.client_encoding.clone_from(value),
                "user" => settings.user.clone_from(value),
                other => {
                    if let Some(schema) = other.strip_prefix("usage ") {
                        settings.usable.insert(schema.to_owned());
                    }
                }
            }
        }
        settings
    }
}
