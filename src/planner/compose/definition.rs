//! Statements that are neither queries nor changes of rows.

use pg_query::NodeEnum;
use pg_query::protobuf::{ExplainStmt, LockStmt, Node, TruncateStmt};

use super::{Builder, fixed_to};
use crate::placement::{Distribution, Shard};
use crate::plan::{Merge, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, Resolver, boxed, inner, unknown_node};
use crate::tree::Place;

/// Where a definition is made: on one shard or on all.
pub(super) enum Home {
    All,
    One(Shard),
}

impl Home {
    pub(super) fn plan(self) -> Plan {
        match self {
            Self::All => Plan::All,
            Self::One(shard) => fixed_to(shard),
        }
    }
}

impl Builder<'_> {
    pub(super) fn definition(&mut self, node: &NodeEnum, names: &Names) -> Result<Plan> {
        match node {
            NodeEnum::TransactionStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::ExecuteStmt(_)
            | NodeEnum::FetchStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::DeallocateStmt(_) => Ok(Plan::Session),
            // Who listens must be where others notify.
            NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) | NodeEnum::NotifyStmt(_) => {
                Ok(fixed_to(Shard(0)))
            }
            NodeEnum::TruncateStmt(truncate) => self.truncate(truncate, names),
            NodeEnum::LockStmt(lock) => self.lock(lock, names),
            NodeEnum::CopyStmt(copy) => self.copy(copy, names),
            NodeEnum::ExplainStmt(explain) => self.explain(explain, names),
            NodeEnum::DeclareCursorStmt(cursor) => {
                let names = &Names {
                    together: true,
                    ..names.clone()
                };
                let plan = self.nested(&cursor.query, names)?;
                Ok(match names.hint {
                    // It leads to one.
                    Some(_) => plan,
                    None => held(plan),
                })
            }
            other => self.schema(other, names),
        }
    }

    fn nested(&mut self, query: &Option<Box<Node>>, names: &Names) -> Result<Plan> {
        let node = query.as_deref();
        self.statement(
            node.ok_or_else(|| Refusal::new("statement", "a part is missing"))?,
            names,
        )
    }

    fn explain(&mut self, explain: &ExplainStmt, names: &Names) -> Result<Plan> {
        boxed(&explain.query)?;
        let plan = self.nested(&explain.query, names)?;
        let reason = "only what runs on one shard is explained";
        Ok(match names.hint {
            // It leads to one.
            Some(_) => plan,
            None => whole(plan, "EXPLAIN", reason),
        })
    }

    /// Where tables are that are all named together.
    fn homes(&self, ranges: &[Node], names: &Names, writes: bool) -> Result<Home> {
        let mut resolver = self.resolver(names);
        let mut homes = Vec::new();
        for range in ranges {
            let NodeEnum::RangeVar(range) = inner(range)? else {
                return Err(Refusal::new(
                    "statement",
                    "a table's name is of an unknown form",
                ));
            };
            let range = Some(range.clone());
            homes.push(match writes {
                true => resolver.target(&range)?.0.table.place,
                false => located(&mut resolver, &range)?,
            });
        }
        let one = |place: &Place| match place {
            Place::At(Distribution::OneShard(shard)) => Some(*shard),
            _ => None,
        };
        let shards: Vec<Option<Shard>> = homes.iter().map(one).collect();
        match shards.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => {
                Ok(first.map_or(Home::All, Home::One))
            }
            _ => Err(Refusal::new(
                "statement",
                "its tables are not on the same shards",
            )),
        }
    }

    fn truncate(&self, truncate: &TruncateStmt, names: &Names) -> Result<Plan> {
        Ok(self.homes(&truncate.relations, names, true)?.plan())
    }

    fn lock(&self, lock: &LockStmt, names: &Names) -> Result<Plan> {
        Ok(self.homes(&lock.relations, names, false)?.plan())
    }
}

fn located(
    resolver: &mut Resolver<'_>,
    range: &Option<pg_query::protobuf::RangeVar>,
) -> Result<Place> {
    let range = range
        .as_ref()
        .ok_or_else(|| Refusal::new("statement", "a table is missing"))?;
    let (schema, relation) = resolver.locate(range)?;
    Ok(resolver.table(&schema, &range.relname, relation)?.place)
}

/// Keeps of a plan what runs on one shard as it is.
pub(super) fn whole(plan: Plan, part: &str, reason: &str) -> Plan {
    match plan {
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(whole(*otherwise, part, reason)),
        },
        Plan::Anywhere | Plan::Replicated | Plan::Refused(_) => plan,
        _ => Plan::Refused(Refusal::new(part, reason)),
    }
}

/// Keeps of a plan what has one server give its rows, as a cursor needs it.
fn held(plan: Plan) -> Plan {
    match plan {
        Plan::Merged {
            merge: Merge::Combined { .. },
            ..
        }
        | Plan::Pulled(_) => plan,
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(held(*otherwise)),
        },
        other => whole(other, "DECLARE", "a cursor reads from one shard"),
    }
}

pub(super) fn unsupported(node: &NodeEnum) -> Refusal {
    unknown_node("statement", node)
}
