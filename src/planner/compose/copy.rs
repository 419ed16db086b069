//! COPY.

mod options;

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, Node, SelectStmt};
use pgherd_sql::{LexOptions, Lexer, TokenKind};

use super::definition::whole;
use super::{Builder, deparse};
use crate::catalog::{Column, TypeRef};
use crate::placement::Distribution;
use crate::plan::copy::Form;
use crate::plan::{CopyIn, CopyTarget, Format, Merge, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, Target, inner, strings};
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
            (Some(query), false) => self.copy_query(copy, query, names),
            (None, false) => self.copy_table(copy, names),
            (Some(_), true) => Err(Refusal::new("COPY", "of an unknown form")),
        }
    }

    /// The rows of a query.
    fn copy_query(&mut self, copy: &CopyStmt, query: &Node, names: &Names) -> Result<Plan> {
        let NodeEnum::SelectStmt(select) = inner(query)? else {
            return Err(Refusal::new("COPY", "only a SELECT is copied over shards"));
        };
        let out = options::written(copy);
        if names.hint.is_none() {
            // It counts also where another form of the query has a plan.
            self.copied = out.as_ref().ok().cloned();
        }
        let plan = self.statement(query, names)?;
        if names.hint.is_some() {
            // It leads to one shard, which puts its rows together.
            return Ok(plan);
        }
        let out = match out {
            Ok(out) => out,
            // Its own shard knows them.
            Err(refusal) => return Ok(on_one(plan, &refusal)),
        };
        // Such a text has no parameters but in a form of ours, and a shard would not take it.
        let mut alone = has_parameters(self.text);
        if out.format == Format::Binary {
            let mut resolver = self.resolver(names);
            let columns = resolver.query(select)?.columns;
            alone |= !columns.iter().all(|it| SAME.contains(&it.kind.oid));
        }
        Ok(match alone {
            true => rows_of(plan, select),
            false => plain(plan),
        })
    }

    /// The rows of a table.
    fn copy_table(&mut self, copy: &CopyStmt, names: &Names) -> Result<Plan> {
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
            Place::Key { .. } => {
                let out = options::written(copy)?;
                let is_binary = out.format == Format::Binary;
                self.copied = Some(out);
                match is_binary && !certain {
                    true => Plan::Refused(numbered()),
                    false => pushed,
                }
            }
            Place::At(Distribution::OneShard(shard)) => super::fixed_to(shard),
            Place::At(_) => Plan::Replicated,
            Place::System => Plan::Anywhere,
        })
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

/// In the binary format, values of several shards may have in them the numbers that their types have there.
fn numbered() -> Refusal {
    let reason = "of some types, each shard has a binary form of its own";
    Refusal::new("COPY", reason).hint("Copy in text, or give each column a type by a cast.")
}

/// Whether something in a text may be a parameter.
fn has_parameters(text: &str) -> bool {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    loop {
        match lexer.token() {
            Ok(Some(token)) if token.kind == TokenKind::Param => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Keeps of a plan what one shard does alone.
fn on_one(plan: Plan, refusal: &Refusal) -> Plan {
    match plan {
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(on_one(*otherwise, refusal)),
        },
        Plan::Anywhere | Plan::Replicated | Plan::Refused(_) => plan,
        _ => Plan::Refused(refusal.clone()),
    }
}

/// Keeps of a plan what reads: the rows of several shards one behind the other, what stands before the first and behind the
/// last being the affair of whoever puts them together, or those of queries that are written where they are.
fn plain(plan: Plan) -> Plan {
    match plan {
        Plan::Pushed { writes: false, .. } | Plan::Merged { .. } | Plan::Pulled(_) => plan,
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(plain(*otherwise)),
        },
        other => whole(other, "COPY", "only what reads is copied over shards"),
    }
}

/// The same where no shard writes its rows itself.
fn rows_of(plan: Plan, select: &SelectStmt) -> Plan {
    match plan {
        Plan::Pushed {
            prune,
            writes: false,
        } => {
            let node = NodeEnum::SelectStmt(Box::new(select.clone()));
            match deparse::text_of(node) {
                Ok(text) => Plan::Merged {
                    prune,
                    merge: Merge::Limited {
                        text,
                        limit: None,
                        offset: None,
                    },
                },
                Err(refusal) => Plan::Refused(refusal),
            }
        }
        Plan::OneShard { pins, otherwise } => Plan::OneShard {
            pins,
            otherwise: Box::new(rows_of(*otherwise, select)),
        },
        other => plain(other),
    }
}
