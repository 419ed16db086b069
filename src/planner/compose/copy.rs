//! COPY.

mod options;

use pg_query::NodeEnum;
use pg_query::protobuf::CopyStmt;

use super::Builder;
use super::definition::whole;
use crate::catalog::{Column, TypeRef};
use crate::placement::Distribution;
use crate::plan::copy::Form;
use crate::plan::{CopyIn, CopyTarget, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, Target, boxed, strings};
use crate::tree::Place;
use options::Options;

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
                if names.hint.is_some() {
                    // It leads to one shard, which puts its rows together.
                    return Ok(plan);
                }
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
                    Place::Key { .. } if names.hint.is_some() => pushed,
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
        let key: Vec<&Column> = match &target.table.place {
            Place::Key { columns, .. } => {
                let columns = columns.iter().map(|at| &target.relation.columns[*at]);
                columns.collect()
            }
            _ => Vec::new(),
        };
        let columns = given(copy, &target)?;
        let options = match &target.table.place {
            // Nothing of it is looked into.
            Place::At(Distribution::OneShard(_)) => Options::default(),
            _ => {
                let key: Vec<&str> = key.iter().map(|column| column.name.as_str()).collect();
                options::read(copy, &key)?
            }
        };
        for column in &target.relation.columns {
            if options.form.marks_default() || !columns.contains(&column.name) {
                resolver.default(column)?;
            }
        }
        self.anywhere(&resolver.traits)?;
        let to = match &target.table.place {
            Place::At(Distribution::OneShard(shard)) => CopyTarget::One(*shard),
            Place::System => {
                return Err(Refusal::new("COPY", "a system catalog is not written to"));
            }
            place => {
                self.several(&resolver.traits)?;
                destination(place, &columns, &key)?
            }
        };
        let watched = match to {
            CopyTarget::One(_) => Vec::new(),
            _ => self.watched(&options.form, &columns, &target)?,
        };
        Ok(Plan::CopyIn(CopyIn {
            schema: target.table.schema.clone(),
            table: target.table.name.clone(),
            columns,
            target: to,
            encoding: options.encoding,
            form: options.form,
            modifiers: key.iter().map(|column| column.modifier).collect(),
            watched,
        }))
    }

    /// The columns whose texts may mean something else on each shard.
    fn watched(&self, form: &Form, columns: &[String], target: &Target<'_>) -> Result<Vec<usize>> {
        let kind = |name: &String| {
            let at = target.relation.column(name)?;
            Some(&target.relation.columns[at].kind)
        };
        if *form == Form::Binary {
            let mut kinds = columns.iter().filter_map(kind);
            if kinds.all(|kind| SAME.contains(&kind.oid)) {
                return Ok(Vec::new());
            }
            let reason = "of some types, each shard has a binary form of its own";
            return Err(Refusal::new("COPY", reason).hint("Copy in text or CSV."));
        }
        let names_none = |kind: &TypeRef| self.names_no_moment(kind);
        let places = (0..).zip(columns.iter().map(kind));
        let watched = places.filter(|(_, kind)| !kind.is_some_and(names_none));
        Ok(watched.map(|(at, _)| at).collect())
    }

    /// Whether the texts of a type never mean something else at another moment.
    fn names_no_moment(&self, kind: &TypeRef) -> bool {
        const OF_TIME: [u32; 10] = [1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185, 1266, 1270];
        match kind.oid {
            0 => {
                let known = self.catalog.user_type(&kind.schema, &kind.name);
                known.is_some_and(|known| known.kind == 'e')
            }
            oid => SAME.contains(&oid) && !OF_TIME.contains(&oid),
        }
    }
}

/// The columns that a COPY gives, in its order.
fn given(copy: &CopyStmt, target: &Target<'_>) -> Result<Vec<String>> {
    if !copy.attlist.is_empty() {
        let names = strings(&copy.attlist)?;
        return Ok(names.into_iter().map(str::to_owned).collect());
    }
    let columns = target.relation.columns.iter();
    let stored = columns.filter(|column| !column.generated);
    Ok(stored.map(|column| column.name.clone()).collect())
}

/// Where the rows of a table on several shards go.
fn destination(place: &Place, columns: &[String], key: &[&Column]) -> Result<CopyTarget> {
    let Place::Key { group, kinds, .. } = place else {
        return Ok(CopyTarget::All);
    };
    let place = |column: &&Column| {
        let name = &column.name;
        let place = columns.iter().position(|given| given == name);
        place.ok_or_else(|| {
            Refusal::new("COPY", format!("the key {name} is not given"))
                .hint("Name the column, and give it a value.")
        })
    };
    let places: Result<Vec<usize>> = key.iter().map(place).collect();
    Ok(CopyTarget::ByKey {
        group: *group,
        key: places?.into_iter().zip(kinds.iter().copied()).collect(),
    })
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
