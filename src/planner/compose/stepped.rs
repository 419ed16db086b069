//! UPDATE and DELETE whose rows are found by rows of other shards: they are found as a query finds them, by their
//! primary key, and then changed each on its shard.
//!
//! They are locked in between, and found again until none is found that was not locked before: so nothing of them has
//! changed since the moment at which they were found, and what is done is what one Postgres does at that moment.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RangeVar};

use super::values::Key;
use super::{Builder, deparse};
use crate::plan::{Deal, Dealt, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Change, Changed, Resolver};
use crate::tree::Place;

fn no(reason: &str) -> Refusal {
    Refusal::new("UPDATE or DELETE", reason)
}

impl Builder<'_> {
    /// How rows are found first, and changed then.
    pub(super) fn stepped(
        &self,
        resolver: &Resolver<'_>,
        change: &Change<'_>,
        changed: &Changed<'_>,
    ) -> Result<Plan> {
        if change.with.is_some() || !change.from.is_empty() || self.within || self.hinted {
            return Err(no(
                "rows are not found first by what stands in WITH, FROM or USING",
            ));
        }
        let (set, returning) = (change.set, change.returning);
        if format!("{set:?}{returning:?}").contains("SubLink") {
            return Err(no("queries in SET and RETURNING are not run behind others"));
        }
        self.several(&resolver.traits)?;
        let target = &changed.target;
        let (key, columns) = key_of(changed)?;
        let relation = change.relation.as_ref();
        let relation = relation.ok_or_else(|| no("its table is missing"))?;
        let alias = relation
            .alias
            .as_ref()
            .map(|alias| alias.aliasname.as_str());
        let name = deparse::quoted(alias.unwrap_or(&target.table.name));
        let columns: Vec<String> = columns
            .iter()
            .map(|column| format!("{name}.{}", deparse::quoted(column)))
            .collect();
        let select = find(relation, change.filter, &columns)?;
        let own = deparse::select(&select)?;
        let mut source = self.fresh(&select);
        source.unsorted = true;
        let source = match source.select(&own, resolver.names)? {
            Plan::Refused(refusal) => return Err(refusal),
            plan => plan,
        };
        let among = format!(
            "({}) IN (SELECT {} FROM pgherd_rows)",
            columns.join(", "),
            (0..columns.len())
                .map(|at| format!("pgherd_rows.w{at}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        Ok(Plan::Dealt(Box::new(Dealt {
            source,
            deal: Deal {
                group: key.group,
                kinds: key.kinds,
                modifiers: key.modifiers,
                places: key.places,
                whole: self.text.to_owned(),
                select,
                width: columns.len(),
                draws: false,
                lock: Some(lock(
                    relation,
                    &columns,
                    (&among, &name),
                    change.set.is_empty(),
                )?),
                store: store(change, &among)?,
            },
        })))
    }
}

/// The key of a table, by its columns' places in its primary key, and that.
fn key_of<'c>(changed: &'c Changed<'_>) -> Result<(Key, &'c [String])> {
    let target = &changed.target;
    let Place::Key {
        group,
        columns,
        kinds,
        nullable: false,
    } = &target.table.place
    else {
        return Err(no("its table is not sharded, or its key may be NULL"));
    };
    let mut uniques = target.relation.uniques.iter();
    let primary = uniques.find(|unique| unique.primary && unique.plain);
    let primary = primary.ok_or_else(|| no("its table has no primary key to find rows by"))?;
    let place = |at: &usize| {
        let name = &target.relation.columns[*at].name;
        let mut columns = primary.columns.iter();
        columns.position(|column| column == name)
    };
    let places: Option<Vec<usize>> = columns.iter().map(place).collect();
    let places = places.ok_or_else(|| no("its table's primary key has not the key in it"))?;
    let modifiers = columns
        .iter()
        .map(|at| target.relation.columns[*at].modifier);
    let key = Key {
        group: *group,
        kinds: kinds.clone(),
        modifiers: modifiers.collect(),
        places,
    };
    Ok((key, primary.columns.as_slice()))
}

/// What finds the rows.
fn find(relation: &RangeVar, filter: &Option<Box<Node>>, columns: &[String]) -> Result<String> {
    let mut select = deparse::select(&format!("SELECT {}", columns.join(", ")))?;
    select.from_clause = vec![Node {
        node: Some(NodeEnum::RangeVar(relation.clone())),
    }];
    select.where_clause = filter.clone();
    deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))
}

/// What locks those of them that are here, and gives them: one that is gone meanwhile, or no longer what it was looked for
/// as, is passed over.
fn lock(
    relation: &RangeVar,
    columns: &[String],
    (among, name): (&str, &str),
    deletes: bool,
) -> Result<String> {
    let how = if deletes { "UPDATE" } else { "NO KEY UPDATE" };
    let columns = columns.join(", ");
    let text = format!("SELECT {columns} FROM pgherd_rows WHERE {among} FOR {how} OF {name}");
    let mut select = deparse::select(&text)?;
    select.from_clause = vec![Node {
        node: Some(NodeEnum::RangeVar(relation.clone())),
    }];
    deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))
}

/// What changes those of them that are here.
fn store(change: &Change<'_>, among: &str) -> Result<String> {
    let among = Some(Box::new(deparse::snippet(among)?));
    if change.set.is_empty() {
        let NodeEnum::DeleteStmt(mut delete) = deparse::statement("DELETE FROM pgherd_rows")?
        else {
            return Err(no("its other form cannot be made"));
        };
        delete.relation = change.relation.clone();
        delete.where_clause = among;
        delete.returning_clause = change.returning.clone();
        return deparse::text_of(NodeEnum::DeleteStmt(delete));
    }
    let NodeEnum::UpdateStmt(mut update) = deparse::statement("UPDATE pgherd_rows SET a = 1")?
    else {
        return Err(no("its other form cannot be made"));
    };
    update.relation = change.relation.clone();
    update.target_list = change.set.to_vec();
    update.where_clause = among;
    update.returning_clause = change.returning.clone();
    deparse::text_of(NodeEnum::UpdateStmt(update))
}
