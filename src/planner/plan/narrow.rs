//! Hints: the client says itself on which shard a statement runs. A hint leaves shards out, and adds none: what would
//! put rows where they do not belong is refused, and so is what looks for rows of keys that are elsewhere.

use super::evaluate::Evaluation;
use super::{CopyTarget, Node, Pin, Pins, Plan, Route};
use crate::catalog::{Catalog, Collation, RelationKind, is_system};
use crate::placement::{Distribution, Group, KeyType, KeyValue, Placement, Shard};
use crate::refusal::{Refusal, Result};

/// What a client says of where its statements run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// On this shard.
    Shard(Shard),
    /// On that of the rows of this key, as a text.
    Key(String),
}

/// The setting that names a key.
const SETTING: &str = "pgherd.sharding_key";
/// What else says where a statement runs.
const INSTEAD: &str = "Name the shard by pgherd.shard.";
/// What is done about a hint.
const WITHOUT: &str = "Run it without the hint.";

impl Hint {
    /// Adds what tells it from all others.
    pub fn write(hint: Option<&Self>, out: &mut Vec<u8>) {
        match hint {
            None => out.push(b'-'),
            Some(Self::Shard(shard)) => {
                out.push(b's');
                out.extend_from_slice(&shard.0.to_be_bytes());
            }
            Some(Self::Key(text)) => {
                out.push(b'k');
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        }
    }

    /// The shard.
    pub(crate) fn shard(&self, catalog: &Catalog, placement: &Placement) -> Result<Shard> {
        let text = match self {
            Self::Shard(shard) => return Ok(*shard),
            Self::Key(text) => text,
        };
        let no = |reason: &str| Refusal::new(SETTING, reason).hint(INSTEAD);
        let (group, kind) = keys(catalog, placement)
            .map_err(|()| {
                no("tables are placed by keys of several types or columns, or by several methods")
            })?
            .ok_or_else(|| no("no table has a key"))?;
        let value = KeyValue::from_text(kind, text.as_bytes());
        let value = value.map_err(|error| no(&error.to_string()).with("22023"))?;
        let shard = placement.shard(group, &[value]);
        shard.map_err(|error| Refusal::unplaced(SETTING, error, "22023").hint(INSTEAD))
    }
}

/// The group and type of the keys, if all tables have keys of one column that are placed alike.
fn keys(
    catalog: &Catalog,
    placement: &Placement,
) -> std::result::Result<Option<(Group, KeyType)>, ()> {
    let mut found: Option<(Group, KeyType)> = None;
    for ((schema, name), relation) in catalog.relations() {
        if is_system(schema) || relation.kind != RelationKind::Table {
            continue;
        }
        let columns: Vec<&str> = relation
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let Some(Distribution::Sharded(sharding)) = placement.of(schema, name, &columns) else {
            continue;
        };
        let [key] = sharding.columns.as_slice() else {
            return Err(());
        };
        // A table without such a column is refused by itself.
        let Some(column) = relation.column(key).map(|at| &relation.columns[at]) else {
            continue;
        };
        let kind = (column.collation != Collation::Nondeterministic)
            .then(|| KeyType::of(column.kind.oid))
            .flatten()
            .ok_or(())?;
        let kind = if kind.is_int() { KeyType::Int8 } else { kind };
        match &found {
            None => found = Some((sharding.group, kind)),
            Some((group, known)) => {
                let alike =
                    *known == kind && placement.method(*group) == placement.method(sharding.group);
                if !alike {
                    return Err(());
                }
            }
        }
    }
    Ok(found)
}

/// A plan that leads to this shard, as far as that is told before its parameters are known.
pub(crate) fn narrowed(plan: Plan, only: Shard) -> Plan {
    match plan {
        Plan::Anywhere | Plan::Replicated => Plan::OneShard {
            pins: Pins(vec![Pin::Shard(only)]),
            otherwise: Box::new(plan),
        },
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(narrowed(*otherwise, only)),
        },
        Plan::All => Plan::Refused(
            Refusal::new(
                "hint",
                "what is to be done on every shard cannot be done on one",
            )
            .hint(WITHOUT),
        ),
        Plan::CopyIn(copy) => match copy.target {
            CopyTarget::One(shard) if shard == only => Plan::CopyIn(copy),
            _ => Plan::Refused(
                Refusal::new("hint", "where the rows of a COPY belong is told row by row")
                    .hint(WITHOUT),
            ),
        },
        other => other,
    }
}

/// Where a statement of this plan goes that would go this way without a hint: to this shard, as it is.
pub(super) fn narrow<'p>(
    evaluation: &Evaluation<'_>,
    plan: &Plan,
    route: Route<'p>,
    only: Shard,
) -> Result<Route<'p>> {
    let leads = match route {
        Route::Session => return Ok(route),
        Route::Any => true,
        // What its rows are bound to may be less than all that is said of keys.
        Route::One(shard) => shard == only && evaluation.leads(plan, only)?,
        Route::Concat { .. } | Route::Merge { .. } | Route::Pull { .. } => {
            evaluation.leads(plan, only)?
        }
        Route::All
        | Route::CopyIn(_)
        | Route::Pieces(_)
        | Route::Move { .. }
        | Route::Deal { .. }
        | Route::At { .. } => false,
    };
    match leads {
        true => Ok(Route::One(only)),
        false => Err(Refusal::new(
            "hint",
            format!("its rows are not, or not all, on shard {}", only.0),
        )
        .hint(WITHOUT)),
    }
}

impl Evaluation<'_> {
    /// Whether nothing that is known of a plan's keys leads elsewhere.
    fn leads(&self, plan: &Plan, only: Shard) -> Result<bool> {
        match plan {
            Plan::OneShard { pins, otherwise } => {
                for pin in &pins.0 {
                    if !self.pin_leads(pin, only)? {
                        return Ok(false);
                    }
                }
                self.leads(otherwise, only)
            }
            Plan::Pushed { prune, .. } | Plan::Merged { prune, .. } => {
                self.nodes_lead(&prune.0, only)
            }
            Plan::Pulled(pulled) => {
                for pull in &pulled.pulls {
                    if !self.nodes_lead(&pull.prune.0, only)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    fn nodes_lead(&self, nodes: &[Node], only: Shard) -> Result<bool> {
        for node in nodes {
            let leads = match node {
                Node::Of(pin) => self.pin_leads(pin, only)?,
                Node::Both(nodes) | Node::Any(nodes) => self.nodes_lead(nodes, only)?,
            };
            if !leads {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pin_leads(&self, pin: &Pin, only: Shard) -> Result<bool> {
        let shards = self.pin(pin)?;
        Ok(shards.is_none_or(|shards| shards.iter().all(|shard| *shard == only)))
    }
}
