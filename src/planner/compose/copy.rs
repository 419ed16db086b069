//! COPY.

use pg_query::NodeEnum;
use pg_query::protobuf::CopyStmt;

use super::Builder;
use super::definition::whole;
use crate::placement::Distribution;
use crate::plan::{CopyIn, CopyTarget, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, boxed, strings};
use crate::tree::Place;

impl Builder<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt, names: &Names) -> Result<Plan> {
        if copy.is_program || !copy.filename.is_empty() {
            return Err(Refusal::new(
                "COPY",
                "files of one server are not supported over shards",
            ));
        }
        if copy.where_clause.is_some() {
            return Err(Refusal::new("COPY", "WHERE is not supported over shards"));
        }
        match (&copy.query, copy.is_from) {
            (None, true) => self.copy_in(copy, names),
            (Some(query), false) => {
                let plan = match boxed(&copy.query)? {
                    NodeEnum::SelectStmt(_) => self.statement(query, names)?,
                    _ => return Err(Refusal::new("COPY", "only a SELECT is copied over shards")),
                };
                if !is_binary(copy) {
                    return Ok(plain(plan));
                }
                let mut resolver = self.resolver(names);
                let NodeEnum::SelectStmt(select) = boxed(&copy.query)? else {
                    return Ok(numbered(plan));
                };
                let columns = resolver.query(select)?.columns;
                let certain = columns.iter().all(|it| SAME.contains(&it.kind.oid));
                Ok(if certain { plain(plan) } else { numbered(plan) })
            }
            (None, false) => {
                let mut resolver = self.resolver(names);
                let range = copy
                    .relation
                    .as_ref()
                    .ok_or_else(|| Refusal::new("COPY", "its table is missing"))?;
                let (schema, relation) = resolver.locate(range)?;
                let place = resolver.table(&schema, &range.relname, relation)?.place;
                self.anywhere(&resolver.traits)?;
                let pushed = Plan::Pushed {
                    prune: crate::plan::Prune(Vec::new()),
                    writes: false,
                };
                let mut columns = relation.columns.iter();
                let certain = columns.all(|it| SAME.contains(&it.kind.oid));
                Ok(match place {
                    Place::Key { .. } if is_binary(copy) && !certain => numbered(pushed),
                    Place::Key { .. } => plain(pushed),
                    Place::At(Distribution::OneShard(shard)) => super::fixed_to(shard),
                    Place::At(_) => Plan::Replicated,
                    Place::System => Plan::Anywhere,
                })
            }
            (Some(_), true) => Err(Refusal::new("COPY", "of an unknown form")),
        }
    }

    fn copy_in(&self, copy: &CopyStmt, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let (target, _) = resolver.target(&copy.relation)?;
        let columns: Vec<String> = match copy.attlist.is_empty() {
            true => target
                .relation
                .columns
                .iter()
                .filter(|column| !column.generated)
                .map(|column| column.name.clone())
                .collect(),
            false => strings(&copy.attlist)?
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        for column in &target.relation.columns {
            if !columns.contains(&column.name) {
                resolver.default(column)?;
            }
        }
        self.anywhere(&resolver.traits)?;
        let to = match &target.table.place {
            Place::At(Distribution::OneShard(shard)) => CopyTarget::One(*shard),
            Place::At(_) => {
                self.several(&resolver.traits)?;
                CopyTarget::All
            }
            Place::System => {
                return Err(Refusal::new("COPY", "a system catalog is not written to"));
            }
            Place::Key {
                group,
                columns: key,
                kinds,
                ..
            } => {
                self.several(&resolver.traits)?;
                let place = |at: &usize| {
                    let name = &target.relation.columns[*at].name;
                    let place = columns.iter().position(|column| column == name);
                    place
                        .ok_or_else(|| Refusal::new("COPY", format!("the key {name} is not given")))
                };
                let places: Result<Vec<usize>> = key.iter().map(place).collect();
                CopyTarget::ByKey {
                    group: *group,
                    key: places?.into_iter().zip(kinds.iter().copied()).collect(),
                }
            }
        };
        Ok(Plan::CopyIn(CopyIn {
            schema: target.table.schema.clone(),
            table: target.table.name.clone(),
            columns,
            target: to,
        }))
    }
}

/// Types whose binary form has no number of a type or of anything else in a catalogue, and arrays of them, by the
/// OIDs of `pg_type.dat`.
const SAME: [u32; 45] = [
    16, 17, 19, 20, 21, 23, 25, 114, 142, 650, 700, 701, 790, 869, 1042, 1043, 1082, 1083, 1114,
    1184, 1186, 1266, 1700, 2950, 3802, // and arrays of them
    199, 651, 1000, 1001, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1041, 1115, 1182,
    1183, 1185, 1187, 1231,
];

fn is_binary(copy: &CopyStmt) -> bool {
    copy.options.iter().any(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "format" => {
            let said = option.arg.as_ref().and_then(|arg| arg.node.as_ref());
            !matches!(said, Some(NodeEnum::String(said)) if said.sval != "binary")
        }
        _ => false,
    })
}

/// In the binary format, values of several shards may have in them the numbers that their types have there.
fn numbered(plan: Plan) -> Plan {
    let reason = "of some types, each shard has a binary form of its own";
    match plan {
        Plan::Pushed { .. } => {
            let refusal = Refusal::new("COPY", reason);
            Plan::Refused(refusal.hint("Copy in text, or give each column a type by a cast."))
        }
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(numbered(*otherwise)),
        },
        other => plain(other),
    }
}

/// Rows of several shards one behind the other; what stands before the first and behind the last is the affair of
/// whoever puts them together.
fn plain(plan: Plan) -> Plan {
    match plan {
        Plan::Pushed { .. } => plan,
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(plain(*otherwise)),
        },
        other => whole(other, "COPY", "rows of several shards are not merged"),
    }
}
