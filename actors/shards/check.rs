//! CHECK SHARDING: whether all rows lie where the placement says.
//!
//! The keys of spread tables come here, a batch at a time, and each is placed by what places statements, so that the count
//! is exact for every method; what is looked up is read anew for it. Replicated tables are compared by the number of their rows and a sum of hashes, which is
//! the same in whatever order the rows lie. A look at a table locks it no longer than the `SELECT` that it is.

mod keys;
mod link;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use pgherd_config::Sharded;
use pgherd_planner::catalog::{Name, Relation, RelationKind};
use pgherd_planner::placement::{Distribution, Placement};

use self::keys::Counted;
use self::link::{Link, Trouble};
use super::known::{self, Facts as Schema};
use super::lookup::Lookup;
use super::placed::{Placed, placed};
use super::{are_disjoint, sequences};
use crate::facts::Facts;

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All is as it should be.
    Ok,
    /// Rows lie where they do not belong.
    Misplaced,
    /// What should be the same on all shards is not.
    Differs,
    /// What of the schema does not agree with the placement.
    Remark,
    /// It could not be looked at.
    Unchecked,
}

impl State {
    /// Its name on the console.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Misplaced => "misplaced",
            Self::Differs => "differs",
            Self::Remark => "remark",
            Self::Unchecked => "not checked",
        }
    }
}

/// What was found of a table on a shard, of a table, or of a shard.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The table, with its schema.
    pub table: Option<String>,
    /// How its rows are placed.
    pub placement: Option<String>,
    /// The shard.
    pub shard: Option<String>,
    /// How many rows the shard has.
    pub rows: Option<u64>,
    /// How many of them belong elsewhere, or nowhere.
    pub misplaced: Option<u64>,
    /// What that comes to.
    pub state: State,
    /// What there is to say of it.
    pub detail: Option<String>,
}

impl Finding {
    fn new(state: State, detail: impl Into<Option<String>>) -> Self {
        Self {
            table: None,
            placement: None,
            shard: None,
            rows: None,
            misplaced: None,
            state,
            detail: detail.into(),
        }
    }

    fn on(self, shard: &str) -> Self {
        Self {
            shard: Some(shard.to_owned()),
            ..self
        }
    }

    fn of(self, (schema, table): &Name) -> Self {
        Self {
            table: Some(format!("{schema}.{table}")),
            ..self
        }
    }

    fn placed(self, placement: &str) -> Self {
        Self {
            placement: Some(placement.to_owned()),
            ..self
        }
    }
}

/// Looks at all tables of a sharded database on all of its shards, until then at the latest. This user asks, if its
/// password is known, and others where it may not; what nobody may see is said to be unchecked.
pub async fn check(
    facts: &Arc<Facts>,
    sharded: &Sharded,
    user: &str,
    until: Instant,
) -> Vec<Finding> {
    let Placed { placement, lookups } = match placed(sharded) {
        Ok(placed) => placed,
        Err(error) => return vec![Finding::new(State::Unchecked, error.to_string())],
    };
    let shards = sharded.shards.iter();
    let mut links: Vec<Link> = shards
        .map(|shard| Link::new(facts, shard, user, until))
        .collect();
    let schemas = join_all(links.iter_mut().map(Link::schema)).await;
    let mut found = Vec::new();
    let mut read = Vec::new();
    for (link, schema) in links.into_iter().zip(schemas) {
        match schema {
            Ok((schema, own)) => read.push((link, schema, own)),
            Err(trouble) => {
                found.push(Finding::new(State::Unchecked, trouble.to_string()).on(&link.shard));
            }
        }
    }
    if let Some((_, schema, _)) = read.first() {
        found.extend(remarks(schema, &placement));
    }
    if are_disjoint(sharded) {
        let each = read.iter().map(|(link, _, own)| (link.shard.as_str(), own));
        let told = sequences::overlap(&each.collect::<Vec<_>>());
        found.extend(told.map(|told| Finding::new(State::Differs, told)));
    }
    let mut looks: Vec<Look> = Vec::new();
    for (link, schema, _) in read {
        if let Some(first) = looks.first() {
            let told = known::differences(&first.schema, &schema);
            let told = told.into_iter().map(|what| {
                let what = format!("unlike {}: {what}", first.link.shard);
                Finding::new(State::Differs, what).on(&link.shard)
            });
            found.extend(told);
        }
        looks.push(Look { link, schema });
    }
    for lookup in &lookups {
        if let Err(trouble) = learn(&mut looks, lookup).await {
            // No row is misplaced by what is not known.
            let why = format!("where keys belong is not known: {trouble}");
            found.push(Finding::new(State::Unchecked, why).on(lookup.on()));
            return found;
        }
    }
    for (name, distribution) in tables(&looks, &placement) {
        found.extend(table(&mut looks, sharded, &placement, &name, &distribution).await);
    }
    found
}

/// A shard that is asked, and what its schema is.
struct Look {
    link: Link,
    schema: Schema,
}

impl Look {
    fn relation(&self, (schema, table): &Name) -> Option<&Relation> {
        self.schema.catalog().relation(schema, table)
    }
}

/// Reads what a lookup gives now.
async fn learn(looks: &mut [Look], lookup: &Lookup) -> Result<(), Trouble> {
    let mut links = looks.iter_mut().map(|look| &mut look.link);
    let link = links.find(|link| link.shard == lookup.on());
    let given = link.ok_or_else(not_there)?.look_up(lookup).await?;
    lookup.mapping().take(given);
    Ok(())
}

/// What of the schema does not agree with the placement.
fn remarks(schema: &Schema, placement: &Placement) -> impl Iterator<Item = Finding> {
    let found = placement.check(schema.catalog()).into_iter();
    found.map(|it| Finding {
        table: Some(it.table),
        ..Finding::new(State::Remark, it.problem)
    })
}

/// The tables that are placed somewhere, each with how. The rows of parts are those of what they are parts of.
fn tables(looks: &[Look], placement: &Placement) -> BTreeMap<Name, Distribution> {
    let mut tables = BTreeMap::new();
    for look in looks {
        for (name, relation) in look.schema.catalog().relations() {
            let is_table = relation.kind == RelationKind::Table && relation.parent.is_none();
            let is_own = matches!(name.0.as_str(), "pg_catalog" | "information_schema");
            if !is_table || is_own || tables.contains_key(name) {
                continue;
            }
            let columns = relation.columns.iter().map(|column| column.name.as_str());
            let columns: Vec<&str> = columns.collect();
            if let Some(distribution) = placement.of(&name.0, &name.1, &columns) {
                tables.insert(name.clone(), distribution);
            }
        }
    }
    tables
}

/// Looks at a table on all shards.
async fn table(
    looks: &mut [Look],
    sharded: &Sharded,
    placement: &Placement,
    name: &Name,
    distribution: &Distribution,
) -> Vec<Finding> {
    let said = match distribution {
        Distribution::Sharded(sharding) => format!("by {}", sharding.columns.join(", ")),
        Distribution::Replicated => "replicated".to_owned(),
        Distribution::OneShard(shard) => format!("on {}", section(sharded, shard.0)),
    };
    let found = match distribution {
        Distribution::Replicated => replicas::compare(looks, name).await,
        _ => {
            let asks = looks.iter_mut();
            let asks = asks.map(|look| one(look, sharded, placement, name, distribution));
            join_all(asks).await
        }
    };
    let found = found.into_iter();
    found.map(|it| it.of(name).placed(&said)).collect()
}

/// Looks at a table on one shard.
async fn one(
    look: &mut Look,
    sharded: &Sharded,
    placement: &Placement,
    name: &Name,
    distribution: &Distribution,
) -> Finding {
    let counted = keys::count(look, sharded, placement, name, distribution).await;
    let found = match counted {
        Ok(counted) => told(counted, sharded),
        Err(trouble) => Finding::new(State::Unchecked, trouble.to_string()),
    };
    found.on(&look.link.shard)
}

/// What was counted, in words.
fn told(counted: Counted, sharded: &Sharded) -> Finding {
    let misplaced = counted.misplaced();
    let mut detail: Vec<String> = counted
        .elsewhere
        .iter()
        .map(|(shard, count)| format!("{count} on {}", section(sharded, *shard)))
        .collect();
    if counted.nowhere > 0 {
        detail.push(format!("{} on none of the shards", counted.nowhere));
    }
    if counted.null > 0 {
        detail.push(format!("{} without a key", counted.null));
    }
    let mut detail = format!("belong: {}", detail.join(", "));
    if let Some(first) = counted.first {
        detail.push_str(&format!("; the first: {first}"));
    }
    Finding {
        rows: Some(counted.rows),
        misplaced: Some(misplaced),
        ..match misplaced {
            0 => Finding::new(State::Ok, None),
            _ => Finding::new(State::Misplaced, detail),
        }
    }
}

/// The name of a shard.
fn section(sharded: &Sharded, shard: u16) -> &str {
    let name = sharded.shards.get(usize::from(shard));
    name.map_or("a shard that is not there", String::as_str)
}

/// A table as SQL has it.
fn named((schema, table): &Name) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What there is to say of all of it in one sentence.
pub fn summary(found: &[Finding]) -> String {
    let tables: BTreeSet<_> = found
        .iter()
        .filter(|it| it.state != State::Remark)
        .filter_map(|it| it.table.as_deref())
        .collect();
    let misplaced: u64 = found.iter().filter_map(|it| it.misplaced).sum();
    let count = |state: State| found.iter().filter(|it| it.state == state).count();
    format!(
        "tables: {}, misplaced rows: {misplaced}, differences: {}, not checked: {}",
        tables.len(),
        count(State::Differs),
        count(State::Unchecked),
    )
}

/// Whether nothing is wrong, and all was looked at.
pub fn is_sound(found: &[Finding]) -> bool {
    let sound = |it: &Finding| matches!(it.state, State::Ok | State::Remark);
    found.iter().all(sound)
}

fn not_there() -> Trouble {
    Trouble::Failed("it is not there".to_owned())
}
