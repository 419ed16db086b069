//! What a database's catalogue says about code that runs unseen.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use pgherd_session::{changes_naming, changes_reading};
use pgherd_sql::{Body, Defines, Runs, body, defines, is_harmless};
use pgherd_wire::error::ErrorReport;

use crate::hidden::{Found, NAMES_MAX, OF_SERVER, OF_SETUP, Sways};
use crate::server::ServerConn;
use crate::session::{planned, setup};

/// More functions than this are not read.
const FUNCTIONS_MAX: usize = 4000;

/// The functions of the users, with their texts up to a bound, and by what they are reached besides by
/// their names: every object that calls a function depends on it (`pg_depend`). Functions that Postgres
/// brings are no one's dependency, so the expressions that might call such as change a session are
/// searched for their numbers (`set_config`, `setseed`, the advisory locks), for those that ask for settings or run a
/// text that they are given (`eyes`), and those that a query may call for the numbers of all that are volatile. The first column says what a row is.
/// Defaults of arguments are part of a function's text: whoever leaves the argument out runs them.
/// What a language is made of runs only functions, which are there themselves.
/// A function is called by what looks like a column, too (`t.f`), where a row fits its only argument without a default.
/// Extensions are trusted that leave nothing in the memory of a session; `isn` is none of them (`isn_weak`).
/// `own` has the views that tell of the server they are asked at, or of a sequence. Those that Postgres brings are told by
/// their names, which [`OF_SERVER`] and [`OF_SETUP`] have, in the place of `@own@`.
/// Functions keep plans where their language is not Postgres' own or C; those in SQL do since Postgres 18.
/// A body that Postgres has parsed is shown only once its tables are locked, and somebody may be changing them. A timeout that
/// runs already is left alone by another, unless it is taken away first.
const QUESTION: &str = "SET LOCAL search_path = pg_catalog, pg_temp; 
SET LOCAL lock_timeout = @lock@; SET LOCAL statement_timeout = 0; SET LOCAL statement_timeout = @whole@;
WITH RECURSIVE f AS (
 SELECT p.oid, p.proname::text AS name, p.provolatile::text AS volatility,
  CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE l.lanname::text END AS language,
  CASE WHEN p.prokind = 'a' THEN (
    SELECT coalesce(string_agg('select ' || quote_ident(s.proname::text) || '(); ', ''), '')
    FROM pg_aggregate a JOIN pg_proc s ON s.oid >= 16384 AND s.oid = ANY (ARRAY[a.aggtransfn,
     a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn,
     a.aggmfinalfn]::oid[]) WHERE a.aggfnoid = p.oid)
   WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid)
   ELSE p.prosrc END || coalesce((SELECT string_agg(chr(10) || '; set local ' || split_part(c, '=', 1) || ' = 1', '')
    FROM unnest(p.proconfig) AS c WHERE split_part(c, '=', 1) ~* '[.]|^(@planned@)$'), '')
   || coalesce(chr(10) || '; select ' || pg_get_expr(p.proargdefaults, 0), '') AS source,
  (SELECT e.extname::text FROM pg_depend x JOIN pg_extension e ON e.oid = x.refobjid
   WHERE x.classid = 1255 AND x.objid = p.oid AND x.refclassid = 3079 AND x.deptype = 'e' LIMIT 1)
   AS extension
 FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384), 
trusted AS (SELECT f.* FROM f WHERE f.extension = ANY ('{uuid-ossp,pgcrypto,postgis,vector,pg_trgm,
citext,hstore,ltree,intarray,cube,earthdistance,unaccent,fuzzystrmatch,btree_gin,btree_gist,bloom,
lo,seg,tsm_system_rows,tsm_system_time,pg_stat_statements,pg_buffercache,pg_prewarm}')), 
as_column AS (
 SELECT p.oid FROM pg_proc p JOIN pg_type t
 ON t.oid = CASE WHEN p.pronargs = 1 AND p.provariadic <> 0 THEN p.provariadic ELSE p.proargtypes[0] END
 WHERE p.oid >= 16384 AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1
  AND (t.typtype = ANY ('{c,p}') OR t.typtype = 'd' AND EXISTS (
   SELECT FROM pg_type b WHERE b.oid = t.typbasetype AND b.typtype = ANY ('{c,d}')))), 
eyes AS (
 SELECT p.oid FROM pg_proc p WHERE p.oid < 16384 AND p.proname = ANY ('{current_setting,pg_show_all_settings,
query_to_xml,query_to_xmlschema,query_to_xml_and_xmlschema,cursor_to_xml,ts_stat,ts_rewrite}')), 
trees AS NOT MATERIALIZED (
 SELECT w.ev_type = '1' AS reads, concat(w.ev_action::text, w.ev_qual::text) AS tree FROM pg_rewrite w WHERE w.oid >= 16384
 UNION ALL SELECT true, concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
 UNION ALL SELECT false, d.adbin::text FROM pg_attrdef d
 UNION ALL SELECT false, g.tgqual::text FROM pg_trigger g
 UNION ALL SELECT c.contypid <> 0, c.conbin::text FROM pg_constraint c WHERE c.oid >= 16384
 UNION ALL SELECT false, y.typdefaultbin::text FROM pg_type y WHERE y.oid >= 16384), 
own AS (
 SELECT c.oid FROM pg_class c JOIN pg_rewrite w ON w.ev_class = c.oid
 WHERE c.relkind = 'v' AND w.oid >= 16384 AND w.ev_type = '1' AND w.ev_action::text ~ concat(':relkind S |:relid (',
  (SELECT string_agg(t.oid::text, '|') FROM pg_class t WHERE t.relkind = 'v' AND t.relname ~ '^pg_(@own@)'),
  ') |:funcid (', (SELECT string_agg(p.oid::text, '|') FROM pg_proc p WHERE p.proname ~ '^pg_(@own@)'), ') ')
 UNION SELECT c.oid FROM own o
 JOIN pg_depend d ON d.refclassid = 1259 AND d.refobjid = o.oid AND d.classid = 2618
 JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_type = '1' JOIN pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'), 
reached AS (
 SELECT d.refobjid AS oid, bool_or(CASE
   WHEN d.classid = ANY ('{2604,2620,1259,3381}') THEN false
   WHEN d.classid = 2606 THEN EXISTS (
    SELECT FROM pg_constraint c WHERE c.oid = d.objid AND c.contypid <> 0)
   WHEN d.classid = 2618 THEN EXISTS (
    SELECT FROM pg_rewrite w WHERE w.oid = d.objid AND w.ev_type = '1')
   ELSE true END) AS reads
 FROM pg_depend d WHERE d.refclassid = 1255 AND d.refobjid >= 16384
  AND d.classid <> ALL ('{1255,2612,3466}') GROUP BY d.refobjid) 
SELECT 'known', t.name, NULL, NULL, NULL FROM (SELECT DISTINCT name FROM trusted) t 
UNION ALL SELECT 'plans', NULL, NULL, NULL, NULL WHERE EXISTS (
 SELECT FROM f WHERE f.language <> ALL ('{c,internal,aggregate,sql}')
 OR f.language = 'sql' AND current_setting('server_version_num')::int >= 180000) 
UNION ALL SELECT 'own', o.name, NULL, NULL, NULL FROM (
 SELECT DISTINCT c.relname::text AS name FROM pg_class c
 WHERE c.relkind = 'S' AND c.relpersistence <> 't' OR c.oid IN (SELECT o.oid FROM own o) LIMIT 4001) o 
UNION ALL SELECT 'tree', NULL, NULL, NULL, t.reads::text FROM (
 SELECT DISTINCT t.reads FROM trees t
 WHERE t.tree ~ ':(funcid|opfuncid) (2078|1599|288[0-9]|289[0-2]) ') t 
UNION ALL SELECT 'sight', NULL, NULL, NULL, t.reads::text FROM (
 SELECT DISTINCT t.reads FROM (
  SELECT * FROM trees UNION ALL SELECT true, p.proargdefaults::text FROM pg_proc p WHERE p.oid >= 16384) t
 WHERE t.tree ~ (SELECT ':(funcid|opfuncid) (' || string_agg(e.oid::text, '|') || ') ' FROM eyes e) 
 UNION SELECT true WHERE EXISTS (SELECT FROM pg_operator o JOIN eyes e ON o.oprcode = e.oid WHERE o.oid >= 16384) 
 OR EXISTS (SELECT FROM pg_cast c JOIN eyes e ON c.castfunc = e.oid WHERE c.oid >= 16384) 
 OR EXISTS (SELECT FROM pg_aggregate a JOIN eyes e ON e.oid = ANY (ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn,
  a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]) WHERE a.aggfnoid >= 16384)) t 
UNION ALL SELECT 'volatile', NULL, NULL, NULL, NULL WHERE EXISTS (
 SELECT FROM (
  SELECT w.ev_action::text AS tree FROM pg_rewrite w WHERE w.oid >= 16384 AND w.ev_type = '1'
  UNION ALL SELECT concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
  UNION ALL SELECT c.conbin::text FROM pg_constraint c WHERE c.oid >= 16384 AND c.contypid <> 0) t
 WHERE t.tree ~ (SELECT ':(funcid|opfuncid) (' || string_agg(p.oid::text, '|') || ') '
  FROM pg_proc p WHERE p.provolatile = 'v' AND p.oid <> ALL (ARRAY(SELECT t.oid FROM trusted t)))) 
 OR EXISTS (
 SELECT FROM pg_proc p
 WHERE p.oid >= 16384 AND p.provolatile = 'v' AND p.oid <> ALL (ARRAY(SELECT t.oid FROM trusted t))
 AND (EXISTS (SELECT FROM pg_proc o WHERE o.oid < 16384 AND o.proname = p.proname)
  OR EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 1255 AND d.refobjid = p.oid
   AND d.classid = ANY ('{1247,2602,2603,2605,2616,2617,3541,3576}'))
  OR p.oid = ANY (ARRAY(SELECT c.oid FROM as_column c)))) 
 OR EXISTS (
 SELECT FROM pg_aggregate a JOIN pg_proc p
 ON p.oid = ANY (ARRAY[a.aggtransfn, a.aggfinalfn]::oid[]) AND p.provolatile = 'v'
 WHERE a.aggfnoid >= 16384) 
UNION ALL (SELECT 'function', f.name, f.language,
  CASE WHEN f.language = 'c' THEN f.volatility
   WHEN sum(octet_length(f.source)) OVER (ORDER BY f.oid) < 8000000 AND octet_length(f.source) < 100000
   THEN f.source END,
  CASE WHEN r.reads OR f.oid = ANY (ARRAY(SELECT c.oid FROM as_column c)) THEN 'reads'
   WHEN r.oid IS NOT NULL THEN 'writes' END
 FROM f LEFT JOIN reached r ON r.oid = f.oid
 WHERE f.oid <> ALL (ARRAY(SELECT t.oid FROM trusted t)) ORDER BY f.oid LIMIT 4001)";

/// So long it waits for a lock: somebody's next request waits with it.
const LOCK: Duration = Duration::from_millis(500);
/// So long it takes at most, and no longer than half of what a server is waited for, which is lost then.
const WHOLE: Duration = Duration::from_secs(10);

/// What this does is told by its arguments, if it is Postgres' own.
const SET_CONFIG: &[u8] = b"set_config";

/// By what a function is reached besides by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    #[default]
    Nothing,
    Writes,
    Reads,
}

impl Reach {
    /// What a row says of an expression: whether whatever reads may come to it.
    fn of(by: &[u8]) -> Self {
        match by {
            b"true" => Self::Reads,
            _ => Self::Writes,
        }
    }

    /// The least that a text must run to come to it.
    fn least(self) -> Runs {
        match self {
            Self::Reads => Runs::Reads,
            Self::Writes => Runs::Writes,
            Self::Nothing => Runs::Unknown,
        }
    }
}

/// One name of functions, which may be several.
#[derive(Debug, Default)]
struct Named {
    body: Body,
    /// Which settings of the users' own it sets, or what it calls: a bit for each.
    sets: u64,
    /// It may ask for settings.
    sees: bool,
    sways: Sways,
    /// Only functions in C bear the name.
    foreign: bool,
    reach: Option<Reach>,
    /// By what those of them are reached that are in C.
    reach_in_c: Reach,
}

/// Asks a server that is idle; `None` if it gives no answer that could be used.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn run(
    server: &mut ServerConn,
    listener: setup::Listener,
) -> Result<Option<Found>, ErrorReport> {
    let question = question(server.about.upstream.patience);
    let answer = setup::Answer::of_rows(FUNCTIONS_MAX * 2 + NAMES_MAX + 1).heard_by(listener);
    let answer = setup::run_into(server, question.as_bytes(), answer).await?;
    if let Some(error) = answer.error {
        tracing::warn!(%error, "the functions of a database cannot be read, so all texts are checked");
        return Ok(None);
    }
    Ok(understand(&answer.rows))
}

fn question(patience: Option<Duration>) -> String {
    let whole = patience.map_or(WHOLE, |patience| WHOLE.min(patience / 2));
    // None at all is no limit.
    let limit = |limit: Duration| limit.as_millis().max(1).to_string();
    QUESTION
        .replace("@own@", &format!("{OF_SERVER}|{OF_SETUP}"))
        .replace("@planned@", &planned::PLANNED.join("|"))
        .replace("@lock@", &limit(LOCK.min(whole)))
        .replace("@whole@", &limit(whole))
}

/// One row: its kind, name, language, source, and reach.
type Row = Vec<Option<Vec<u8>>>;

fn understand(rows: &[Row]) -> Option<Found> {
    let mut found = Found::default();
    let mut functions: HashMap<Box<[u8]>, Named> = HashMap::new();
    let (mut reach, mut sight, mut count) = (Reach::Nothing, Reach::Nothing, 0);
    for row in rows {
        let [kind, name, language, source, by] = row.as_slice() else {
            return None;
        };
        let lower = name.as_deref().unwrap_or_default().to_ascii_lowercase();
        let by = by.as_deref().unwrap_or_default();
        match kind.as_deref()? {
            b"known" => {
                found.known.insert(lower.into());
            }
            b"volatile" => found.volatile = true,
            b"plans" => found.plans = true,
            b"own" => found.own.add(&lower),
            b"tree" => reach = reach.max(Reach::of(by)),
            b"sight" => sight = sight.max(Reach::of(by)),
            _ => {
                count += 1;
                let by = match by {
                    // Where it has the name of one that counts as harmless, any text may mean it.
                    _ if is_harmless(&lower, true) || lower == SET_CONFIG => Reach::Reads,
                    b"reads" => Reach::Reads,
                    b"writes" => Reach::Writes,
                    _ => Reach::Nothing,
                };
                let language = language.as_deref().unwrap_or_default();
                let body = read(language, source.as_deref());
                // What is in C may run a text that it is given (`crosstab`).
                let is_c = language == b"c";
                let sees = is_c || sees(source.as_deref());
                add(&mut functions, lower, body, sees, is_c, by);
            }
        }
    }
    if count > FUNCTIONS_MAX {
        found.threshold = Runs::Reads;
        found.sight = Runs::Reads;
        found.sways = [Runs::Reads; 2];
        found.obscure = true;
        found.volatile = true;
        found.known.clear();
        return Some(found);
    }
    name_settings(&mut functions, &mut found);
    settle(&mut functions, &found, CALLS_MAX);
    conclude(functions, reach, sight, &mut found);
    Some(found)
}

/// What a function in a language does, as far as its source tells.
fn read(language: &[u8], source: Option<&[u8]>) -> Body {
    let harmful = |obscure: bool, defines: Defines| Body {
        harmful: true,
        writes: true,
        obscure,
        defines,
        ..Body::default()
    };
    match (language, source) {
        (b"sql" | b"plpgsql" | b"aggregate", Some(source)) => body(source),
        (b"internal", Some(source)) if is_harmless(source, false) => Body::default(),
        // What is written in C changes the session seldom, and no settings of the users' own; nor does it define
        // anything unless it is volatile, which is all that is known of it.
        (b"c", Some(b"v")) => harmful(false, Defines::Perhaps),
        (b"c" | b"internal", _) => harmful(false, Defines::Nothing),
        (_, source) => {
            let said = source.map_or(Defines::Nothing, defines);
            harmful(true, said.max(Defines::Perhaps))
        }
    }
}

/// Whether the source of a function may ask for settings: it has the name of what does in it, or of what runs a text
/// that is put together, or an escape by which it can be written otherwise.
fn sees(source: Option<&[u8]>) -> bool {
    const SIGNS: [&[u8]; 6] = [b"setting", b"show", b"execute", b"_xml", b"ts_", b"u&"];
    source.is_none_or(|source| {
        let source = source.to_ascii_lowercase();
        let has = |sign: &&[u8]| source.windows(sign.len()).any(|part| part == *sign);
        SIGNS.iter().any(has)
    })
}

/// What a function does by itself to how later texts of its transaction are read.
fn sways(body: &Body) -> Sways {
    let sets = body.parameters.iter().map(|name| match &**name {
        "" => Sways::Texts,
        name if changes_naming(name) => Sways::Names,
        name if changes_reading(name) => Sways::Texts,
        _ => Sways::Nothing,
    });
    let makes = match body.temporary {
        true => Sways::Names,
        false => Sways::Nothing,
    };
    match body.obscure {
        true => Sways::Texts,
        false => sets.max().unwrap_or_default().max(makes),
    }
}

fn add(
    functions: &mut HashMap<Box<[u8]>, Named>,
    name: Vec<u8>,
    body: Body,
    sees: bool,
    c: bool,
    by: Reach,
) {
    // What is in C is believed to change nothing where nobody calls it by its name: it makes up operators and types.
    let (by, in_c) = match c {
        true => (Reach::Nothing, by),
        false => (by, Reach::Nothing),
    };
    let named = functions.entry(name.into()).or_insert_with(|| Named {
        foreign: true,
        ..Named::default()
    });
    named.foreign &= c;
    named.sees |= sees;
    named.sways = named.sways.max(sways(&body));
    named.reach = named.reach.max(Some(by));
    named.reach_in_c = named.reach_in_c.max(in_c);
    named.body.harmful |= body.harmful;
    named.body.writes |= body.writes;
    named.body.obscure |= body.obscure;
    named.body.defines = named.body.defines.max(body.defines);
    named.body.calls.extend(body.calls);
    named.body.settings.extend(body.settings);
}

/// Gives each setting that functions make a bit; what sets one for which there is none is looked at whenever it runs.
fn name_settings(functions: &mut HashMap<Box<[u8]>, Named>, found: &mut Found) {
    let all = functions.values().flat_map(|named| &named.body.settings);
    found.settings = all.cloned().collect();
    found.settings.sort();
    found.settings.dedup();
    for named in functions.values_mut() {
        for name in &named.body.settings {
            match found.settings.binary_search(name) {
                Ok(at) if at < 64 => named.sets |= 1 << at,
                _ => named.body.harmful = true,
            }
        }
    }
}

/// So many calls are followed from who is called to who calls. Where that is not enough, the rest counts as harmful.
const CALLS_MAX: usize = 16_000_000;

/// Who calls what is harmful, or writes, or asks for a setting, or sets something, does so too.
///
/// What is found goes from a function to its callers, all that has come together at once: whoever may make functions
/// must not be able to keep a worker busy with chains of them. Answers how many calls were followed.
fn settle(functions: &mut HashMap<Box<[u8]>, Named>, found: &Found, calls_max: usize) -> usize {
    let numbers: HashMap<Box<[u8]>, usize> = functions.keys().cloned().zip(0..).collect();
    let mut facts = vec![Facts::default(); numbers.len()];
    let mut callers = vec![Vec::new(); numbers.len()];
    for (name, named) in functions.iter_mut() {
        let body = &mut named.body;
        body.calls.sort();
        body.calls.dedup();
        let number = numbers[name];
        for call in &body.calls {
            match numbers.get(call) {
                // It may be meant also where a trusted one has the same name.
                Some(called) => callers[*called].push(number),
                None if found.known.contains(call) => {}
                None => {
                    (body.harmful, body.writes) = (true, true);
                    body.defines = body.defines.max(Defines::Perhaps);
                }
            }
        }
        facts[number] = Facts {
            harmful: body.harmful,
            writes: body.writes,
            sees: named.sees,
            sways: named.sways,
            sets: named.sets,
            defines: body.defines,
        };
    }
    let followed = inherit(&mut facts, &callers, calls_max);
    for (name, named) in functions.iter_mut() {
        let facts = facts[numbers[name]];
        named.sets = facts.sets;
        named.sees = facts.sees;
        named.sways = facts.sways;
        (named.body.harmful, named.body.writes) = (facts.harmful, facts.writes);
        named.body.defines = facts.defines;
    }
    followed
}

/// What a function does, itself or by what it calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Facts {
    harmful: bool,
    writes: bool,
    sees: bool,
    sways: Sways,
    sets: u64,
    defines: Defines,
}

impl Facts {
    fn union(self, other: Self) -> Self {
        Self {
            harmful: self.harmful || other.harmful,
            writes: self.writes || other.writes,
            sees: self.sees || other.sees,
            sways: self.sways.max(other.sways),
            sets: self.sets | other.sets,
            defines: self.defines.max(other.defines),
        }
    }
}

/// Hands what each does on to its callers until nothing new comes of it. A function waits in the queue once at most.
fn inherit(facts: &mut [Facts], callers: &[Vec<usize>], calls_max: usize) -> usize {
    let does = |number: &usize| facts[*number] != Facts::default();
    let mut queue: VecDeque<usize> = (0..facts.len()).filter(does).collect();
    let mut queued: Vec<bool> = facts
        .iter()
        .map(|facts| *facts != Facts::default())
        .collect();
    let mut followed = 0;
    while let Some(called) = queue.pop_front() {
        queued[called] = false;
        followed += callers[called].len();
        if followed > calls_max {
            let unknown = Facts {
                harmful: true,
                writes: true,
                sees: true,
                sways: Sways::Texts,
                sets: 0,
                defines: Defines::Perhaps,
            };
            facts
                .iter_mut()
                .for_each(|facts| *facts = facts.union(unknown));
            break;
        }
        let given = facts[called];
        for &caller in &callers[called] {
            let more = facts[caller].union(given);
            if more != facts[caller] {
                facts[caller] = more;
                if !std::mem::replace(&mut queued[caller], true) {
                    queue.push_back(caller);
                }
            }
        }
    }
    followed
}

fn conclude(functions: HashMap<Box<[u8]>, Named>, trees: Reach, sight: Reach, found: &mut Found) {
    let harmful = functions.values().filter(|named| named.body.harmful);
    let reach = harmful.filter_map(|named| named.reach).max();
    found.threshold = reach.unwrap_or(Reach::Nothing).max(trees).least();
    let seeing = functions.values().filter(|named| named.sees);
    let reach = seeing.map(|named| named.reach.unwrap_or_default().max(named.reach_in_c));
    found.sight = reach.max().unwrap_or_default().max(sight).least();
    // What an expression of the users' own calls itself may be `set_config` as well.
    found.sways = [Sways::Names, Sways::Texts].map(|how| {
        let swaying = functions.values().filter(|named| named.sways >= how);
        let reach = swaying.filter_map(|named| named.reach).max();
        reach.unwrap_or_default().max(trees).least()
    });
    if functions.contains_key(SET_CONFIG) {
        // Which of them a text means hangs on its types, and on the search path.
        found.threshold = Runs::Reads;
    }
    for named in functions.values() {
        found.obscure |= named.body.obscure;
        let least = match named.reach {
            Some(Reach::Reads) => Some(Runs::Reads),
            Some(Reach::Writes) => Some(Runs::Writes),
            Some(Reach::Nothing) | None => None,
        };
        // What runs less comes to fewer: the least of all counts.
        if named.body.defines != Defines::Nothing {
            found.stirs = [found.stirs, least].into_iter().flatten().min();
        }
        match named.reach {
            Some(Reach::Reads) => found.unseen[0] |= named.sets,
            Some(Reach::Writes) => found.unseen[1] |= named.sets,
            Some(Reach::Nothing) | None => {}
        }
    }
    for (name, mut named) in functions {
        if named.body.writes {
            // What triggers do is done by who writes, too.
            named.sets |= found.unseen[1];
            named.sees |= found.sight != Runs::Unknown;
            named.sways = named.sways.max(match found.sways {
                [_, texts] if texts != Runs::Unknown => Sways::Texts,
                [names, _] if names != Runs::Unknown => Sways::Names,
                _ => Sways::Nothing,
            });
        }
        if named.sways != Sways::Nothing {
            found.swayers.insert(name.clone(), named.sways);
        }
        // Where triggers do harm, who writes does it too.
        let quiet = found.threshold == Runs::Unknown || !named.body.writes;
        let other = &*name != SET_CONFIG;
        if !named.body.harmful && quiet && !named.foreign && other {
            if named.sees {
                found.seers.insert(name.clone());
            }
            if named.sets != 0 {
                found.setters.insert(name.clone(), named.sets);
            }
            found.known.insert(name);
        } else {
            // Also where a trusted one has the same name.
            found.known.remove(&name);
            found.definers.insert(name, named.body.defines);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use pgherd_sql::{Body, Defines, Runs};

    use super::{CALLS_MAX, Named, Row, settle, understand};
    use crate::hidden::{Asks, Found, Sways};

    fn function(name: &str, language: &str, source: &str, by: &str) -> Row {
        ["function", name, language, source, by]
            .map(|text| Some(text.as_bytes().to_vec()))
            .into()
    }

    fn threshold(rows: &[Row]) -> Runs {
        understand(rows).expect("an answer").threshold
    }

    const SNEAKY: &str = "begin set role x; return new; end";
    const CLEAN: &str = "begin new.at := now(); return new; end";

    #[test]
    fn only_what_does_harm_and_is_reached_counts() {
        assert_eq!(threshold(&[]), Runs::Unknown);
        assert_eq!(
            threshold(&[function("f", "plpgsql", SNEAKY, "")]),
            Runs::Unknown
        );
        assert_eq!(
            threshold(&[function("f", "plpgsql", SNEAKY, "writes")]),
            Runs::Writes
        );
        assert_eq!(
            threshold(&[function("f", "plpgsql", SNEAKY, "reads")]),
            Runs::Reads
        );
        assert_eq!(
            threshold(&[function("f", "plpgsql", CLEAN, "reads")]),
            Runs::Unknown
        );
        assert_eq!(
            threshold(&[function("f", "plperl", CLEAN, "writes")]),
            Runs::Writes
        );
        assert_eq!(
            threshold(&[function("f", "c", "f", "reads")]),
            Runs::Unknown
        );
        assert_eq!(
            threshold(&[function("lower", "plpgsql", SNEAKY, "")]),
            Runs::Reads
        );
        // The users' own may be meant, and does something else.
        assert_eq!(
            threshold(&[function("set_config", "sql", "select 1", "")]),
            Runs::Reads
        );
        let tree = ["tree", "", "", "", "true"].map(|text| Some(text.as_bytes().to_vec()));
        assert_eq!(threshold(&[tree.into()]), Runs::Reads);
    }

    #[test]
    fn what_defines_something_is_told_with_its_callers() {
        const MAKES: &str = "begin create trigger x before insert on t execute function f(); end";
        let rows = [
            function("makes", "plpgsql", MAKES, ""),
            function("calls", "sql", "select makes()", ""),
            function("runs", "plpgsql", "begin execute $1; end", "writes"),
            function(
                "locks",
                "plpgsql",
                "begin perform pg_advisory_lock(1); end",
                "",
            ),
            function("other", "plperl", "spi_exec_query($_[0])", ""),
            function("says", "plperl", "spi_exec_query('create view v')", ""),
            function("native", "c", "v", "reads"),
            function("steady", "c", "i", "reads"),
            function("missing", "sql", "select gone()", ""),
            function("pure", "sql", "select 1", ""),
        ];
        let found = understand(&rows).expect("an answer");
        for (name, how) in [
            ("makes", Some(Defines::Says)),
            ("calls", Some(Defines::Says)),
            ("runs", Some(Defines::Perhaps)),
            ("locks", Some(Defines::Nothing)),
            ("other", Some(Defines::Perhaps)),
            ("says", Some(Defines::Says)),
            ("native", Some(Defines::Perhaps)),
            ("steady", Some(Defines::Nothing)),
            ("missing", Some(Defines::Perhaps)),
            ("pure", None),
        ] {
            assert_eq!(found.definers.get(name.as_bytes()).copied(), how, "{name}");
        }
        assert!(found.known.contains(&b"pure"[..]));
        assert_eq!(found.stirs, Some(Runs::Writes));
        assert_eq!(understand(&rows[..1]).expect("an answer").stirs, None);
    }

    #[test]
    fn volatile_code_behind_queries_is_told() {
        let row = ["volatile", "", "", "", ""].map(|text| Some(text.as_bytes().to_vec()));
        let found = understand(&[row.into()]).expect("an answer");
        assert!(found.volatile && found.threshold == Runs::Unknown);
        assert!(!understand(&[]).expect("an answer").volatile);
    }

    #[test]
    fn what_each_server_answers_for_itself_is_told() {
        let row = ["own", "Order_seq", "", "", ""].map(|text| Some(text.as_bytes().to_vec()));
        let own = understand(&[row.into()]).expect("an answer").own;
        assert_eq!(own.asked(b"select * from order_seq"), Asks::State);
    }

    #[test]
    fn whether_functions_keep_plans_is_told() {
        let rows = [function("pure", "sql", "select 1", "reads")];
        assert!(!understand(&rows).expect("an answer").plans);
        let row = ["plans", "", "", "", ""].map(|text| Some(text.as_bytes().to_vec()));
        assert!(understand(&[row.into()]).expect("an answer").plans);
    }

    #[test]
    fn who_may_ask_for_a_setting_is_told_with_its_callers() {
        const ASKS: &str = "begin new.by := Current_Setting('app.x', true); return new; end";
        let sight = |rows: &[Row]| understand(rows).expect("an answer").sight;
        assert_eq!(sight(&[]), Runs::Unknown);
        assert_eq!(
            sight(&[function("f", "plpgsql", CLEAN, "reads")]),
            Runs::Unknown
        );
        assert_eq!(
            sight(&[function("f", "plpgsql", ASKS, "writes")]),
            Runs::Writes
        );
        for source in [
            ASKS,
            "begin execute 'select current_' || 'set' || 'ting(1)'; end",
            "select u&\"\\0063urrent_set\\0074ing\"('app.x')",
            "select pure(), query_to_xml(t, true, true, '') from t",
        ] {
            let rows = [
                function("f", "plpgsql", source, ""),
                function("g", "sql", "select f()", ""),
                function("pure", "sql", "select 1", ""),
            ];
            assert_eq!(sight(&rows), Runs::Unknown, "only by its name: {source}");
            let found = understand(&rows).expect("an answer");
            let blind = |name: &[u8]| found.known.contains(name) && !found.seers.contains(name);
            assert!(blind(b"pure") && !blind(b"f") && !blind(b"g"), "{source}");
        }
        let rows = [
            function("f", "plpgsql", ASKS, "writes"),
            function("log", "sql", "insert into t values (1)", ""),
        ];
        let found = understand(&rows).expect("an answer");
        assert!(found.seers.contains(&b"log"[..]), "it wakes the trigger");
        // What is in C may run a text that a view gives it.
        assert_eq!(sight(&[function("f", "c", "", "")]), Runs::Unknown);
        for (by, expected) in [("reads", Runs::Reads), ("writes", Runs::Writes)] {
            assert_eq!(sight(&[function("f", "c", "", by)]), expected);
            assert_eq!(threshold(&[function("f", "c", "", by)]), Runs::Unknown);
        }
        for (by, expected) in [("true", Runs::Reads), ("false", Runs::Writes)] {
            let tree = ["sight", "", "", "", by].map(|text| Some(text.as_bytes().to_vec()));
            assert_eq!(sight(&[tree.into()]), expected);
        }
    }

    #[test]
    fn who_sways_how_texts_are_read_is_told_with_its_callers() {
        const ENTERS: &str = "begin perform set_config('search_path', $1, true); end";
        const RESTYLES: &str = "begin set local datestyle = 'DMY'; return new; end";
        let rows = [
            function("enter", "plpgsql", ENTERS, ""),
            function("calls", "sql", "select enter('a')", ""),
            function("wait", "sql", "set local statement_timeout = 0", ""),
            function(
                "whatever",
                "plpgsql",
                "begin perform set_config(a, b, true); end",
                "",
            ),
            function(
                "fills",
                "plpgsql",
                "begin create temp table x (a int); end",
                "",
            ),
            function("other", "plperl", "1", ""),
            function("native", "c", "v", "reads"),
            function("restyle", "plpgsql", RESTYLES, "writes"),
            function("log", "sql", "insert into t values (1)", ""),
        ];
        let found = understand(&rows).expect("an answer");
        for (name, how) in [
            ("enter", Some(Sways::Names)),
            ("calls", Some(Sways::Names)),
            ("wait", None),
            ("whatever", Some(Sways::Texts)),
            ("fills", Some(Sways::Names)),
            ("other", Some(Sways::Texts)),
            ("restyle", Some(Sways::Texts)),
            // They may write, and wake that.
            ("native", Some(Sways::Texts)),
            ("log", Some(Sways::Texts)),
        ] {
            assert_eq!(found.swayers.get(name.as_bytes()).copied(), how, "{name}");
        }
        assert_eq!(found.sways, [Runs::Writes; 2]);
        let found = understand(&rows[..2]).expect("an answer");
        assert_eq!(found.sways, [Runs::Unknown; 2], "only by its name");
    }

    #[test]
    fn harm_is_inherited_by_callers() {
        let rows = [
            function("g", "sql", "select f()", "writes"),
            function("f", "plpgsql", SNEAKY, ""),
        ];
        assert_eq!(threshold(&rows), Runs::Writes);
        let rows = [
            function("g", "sql", "select f()", "writes"),
            function("f", "sql", "select g()", ""),
        ];
        assert_eq!(threshold(&rows), Runs::Unknown);
        assert_eq!(
            threshold(&[function("g", "sql", "select gone()", "reads")]),
            Runs::Reads
        );
    }

    #[test]
    fn what_sets_in_passing_is_known_with_its_callers() {
        const SETS: &str = "begin perform set_config('app.a', '1', true); return new; end";
        let rows = [
            function("f", "plpgsql", SETS, ""),
            function("g", "sql", "select f(); set local app.b = '1'", ""),
            function("h", "sql", "select f()", "writes"),
            function("log", "sql", "insert into t values (1)", ""),
            function("pure", "sql", "select 1", "reads"),
        ];
        let found = understand(&rows).expect("an answer");
        assert_eq!(found.settings, ["app.a".into(), "app.b".into()]);
        assert_eq!(found.threshold, Runs::Unknown);
        let sets = |name: &[u8]| found.setters.get(name).copied();
        assert_eq!(
            (sets(b"f"), sets(b"g"), sets(b"h")),
            (Some(1), Some(3), Some(1))
        );
        assert_eq!(sets(b"pure"), None);
        assert_eq!(sets(b"log"), Some(1), "it wakes a trigger");
        assert_eq!(found.unseen, [0, 1]);
    }

    #[test]
    fn what_many_set_goes_to_all_who_call_them_at_once() {
        const COUNT: usize = 300;
        // All call all, and 64 of them set something each.
        let functions = || -> HashMap<Box<[u8]>, Named> {
            let name = |number: usize| Box::from(format!("f{number}").as_bytes());
            let named = |number: usize| Named {
                body: Body {
                    calls: (0..COUNT).map(name).collect(),
                    ..Body::default()
                },
                sets: 1_u64
                    .checked_shl(u32::try_from(number).unwrap_or(64))
                    .unwrap_or(0),
                ..Named::default()
            };
            (0..COUNT)
                .map(|number| (name(number), named(number)))
                .collect()
        };
        let mut dense = functions();
        let followed = settle(&mut dense, &Found::default(), CALLS_MAX);
        assert!(followed <= 4 * COUNT * COUNT, "{followed}");
        assert!(
            dense
                .values()
                .all(|named| named.sets == u64::MAX && !named.body.harmful)
        );
        // Where it takes too long, all are looked at.
        let mut dense = functions();
        let followed = settle(&mut dense, &Found::default(), COUNT * COUNT);
        assert!(followed <= COUNT * COUNT + COUNT, "{followed}");
        assert!(
            dense
                .values()
                .all(|named| named.body.harmful && named.body.writes)
        );
    }

    #[test]
    fn a_long_chain_of_functions_takes_no_long_time() {
        let chain: Vec<Row> = (0..4000)
            .map(|number| match number {
                3999 => function("f3999", "plpgsql", SNEAKY, ""),
                _ => {
                    let calls = format!("select f{}(); ", number + 1).repeat(100);
                    function(&format!("f{number}"), "sql", &calls, "writes")
                }
            })
            .collect();
        let began = std::time::Instant::now();
        assert_eq!(threshold(&chain), Runs::Writes);
        // Round by round it would be hours.
        assert!(began.elapsed().as_secs() < 60);
        let first = understand(&chain).expect("an answer");
        assert!(!first.known.contains(&b"f0"[..]));
    }

    #[test]
    fn namesakes_of_trusted_functions_are_not_trusted() {
        let trusted = |name: &str| -> Row {
            ["known", name, "", "", ""]
                .map(|text| Some(text.as_bytes().to_vec()))
                .into()
        };
        let rows = [
            trusted("similarity"),
            trusted("word_similarity"),
            function("Similarity", "plpgsql", SNEAKY, ""),
            function("word_similarity", "sql", "select 1", ""),
            function("calls", "sql", "select similarity(1, 2)", "writes"),
            function("pure", "sql", "select word_similarity(1, 2)", ""),
        ];
        let found = understand(&rows).expect("an answer");
        let knows = |name: &[u8]| found.known.contains(name);
        assert!(!knows(b"similarity") && !knows(b"calls"));
        assert!(knows(b"word_similarity") && knows(b"pure"));
        assert_eq!(found.threshold, Runs::Writes);
        let found = understand(&rows[..2]).expect("an answer");
        assert!(found.known.contains(&b"similarity"[..]));
    }

    #[test]
    fn harmless_functions_are_known_unless_they_wake_triggers() {
        let mut rows = vec![
            function("Pure", "sql", "select 1", ""),
            function("log", "sql", "insert into t values (1)", ""),
            function("native", "c", "native", ""),
            function("two", "sql", "select 1", ""),
            function("two", "plpgsql", SNEAKY, ""),
        ];
        let found = understand(&rows).expect("an answer");
        let knows = |name: &[u8]| found.known.contains(name);
        assert!(knows(b"pure") && knows(b"log"));
        assert!(!knows(b"native") && !knows(b"two"));
        rows.push(function("wake", "plpgsql", SNEAKY, "writes"));
        let found = understand(&rows).expect("an answer");
        assert!(found.known.contains(&b"pure"[..]) && !found.known.contains(&b"log"[..]));
    }
}
