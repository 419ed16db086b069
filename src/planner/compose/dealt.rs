//! INSERT … SELECT whose rows belong to other shards than they are found on: they are read as any query, and then dealt
//! out by their keys.

use pg_query::NodeEnum;
use pg_query::protobuf::{InsertStmt, Node, SelectStmt, SetOperation, a_const::Val};

use super::conflict::ordered;
use super::values::Key;
use super::{Builder, deparse};
use crate::plan::{Deal, Dealt, Merge, Plan};
use crate::refusal::{Refusal, Result};
use crate::resolve::Resolver;
use crate::tree::Query;

fn no(reason: &str) -> Refusal {
    Refusal::new("INSERT … SELECT", reason)
}

impl Builder<'_> {
    /// How the rows of a query are stored by their key; `plain` is whether nothing else of the statement reads anything.
    pub(super) fn dealt(
        &self,
        resolver: &Resolver<'_>,
        insert: &InsertStmt,
        select: &SelectStmt,
        (key, query, plain): (Key, &Query, bool),
    ) -> Result<Plan> {
        if insert.with_clause.is_some() || self.within || self.hinted {
            let reason = "its rows would have to move to other shards";
            return Err(no(reason).hint("Put its WITH into the query."));
        }
        if !plain {
            let reason =
                "queries in RETURNING and ON CONFLICT are not run where rows go to several shards";
            return Err(no(reason));
        }
        if query.locks {
            return Err(no(
                "rows are not locked where they are brought to other shards",
            ));
        }
        // A default of chance is each row's own, wherever it is stored; one in the query is refused with that.
        let mut apart = resolver.traits.clone();
        apart.drawn = None;
        self.several(&apart)?;
        ordered(insert)?;
        let targets = targets(select, query.columns.len())?;
        let bare = bare(select, &key.places)?;
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(bare)))?;
        let own = deparse::select(&text)?;
        let mut source = self.fresh(&text);
        source.unsorted = true;
        let source = match source.select(&own, resolver.names)? {
            Plan::Refused(refusal) => return Err(refusal),
            Plan::Merged {
                merge: Merge::Sorted { .. } | Merge::Limited { .. },
                ..
            } => return Err(no("its rows would have to be merged first")),
            plan => plan,
        };
        Ok(Plan::Dealt(Box::new(Dealt {
            source,
            deal: Deal {
                group: key.group,
                kinds: key.kinds,
                modifiers: key.modifiers,
                places: key.places,
                whole: self.text.to_owned(),
                select: text,
                width: query.columns.len(),
                draws: resolver.traits.numbers || resolver.traits.sequence.is_some(),
                lock: None,
                store: store(insert, targets)?,
            },
        })))
    }
}

/// What stores the rows of the query.
fn store(insert: &InsertStmt, targets: Vec<Node>) -> Result<String> {
    let mut store = insert.clone();
    let mut rows = deparse::select("SELECT 1 FROM pgherd_rows")?;
    let targets = targets.into_iter();
    rows.target_list = targets.map(|part| deparse::target(part, "")).collect();
    store.select_stmt = Some(Box::new(Node {
        node: Some(NodeEnum::SelectStmt(Box::new(rows))),
    }));
    deparse::text_of(NodeEnum::InsertStmt(Box::new(store)))
}

/// The columns that are stored. What has no type of its own has that of the column, and not that which it would have in a
/// query by itself.
fn targets(select: &SelectStmt, width: usize) -> Result<Vec<Node>> {
    let carried = |at: usize| deparse::snippet(&format!("pgherd_rows.w{at}"));
    let untyped: Vec<Option<&Node>> = select.target_list.iter().map(untyped).collect();
    if !is_plain(select) || untyped.iter().all(Option::is_none) {
        return (0..width).map(carried).collect();
    }
    // Where it is sorted or told apart by, it is a text.
    let clauses = [&select.sort_clause, &select.group_clause];
    let named = |node: &Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => !target.name.is_empty(),
        _ => true,
    };
    let by_place = clauses
        .iter()
        .any(|it| format!("{it:?}").contains("AConst"));
    let by_name = clauses.iter().any(|it| !it.is_empty())
        && select
            .target_list
            .iter()
            .zip(&untyped)
            .any(|(node, untyped)| untyped.is_some() && named(node));
    if !select.distinct_clause.is_empty() || by_place || by_name {
        let reason = "which type a constant has is not certain where it is sorted or told apart by";
        return Err(no(reason).hint("Give it a cast."));
    }
    if untyped.len() != width || select.target_list.iter().any(is_star) {
        let reason = "which column a constant is stored in is not known beside a star";
        return Err(no(reason).hint("Name the columns."));
    }
    let targets = untyped.into_iter().enumerate();
    let target = |(at, untyped): (usize, Option<&Node>)| match untyped {
        Some(node) => Ok(node.clone()),
        None => carried(at),
    };
    targets.map(target).collect()
}

/// The query as it is read: without what is stored as it stands. There it would be a text, which what is bound to it need not
/// be.
fn bare(select: &SelectStmt, key: &[usize]) -> Result<SelectStmt> {
    let mut bare = select.clone();
    if !is_plain(select) {
        return Ok(bare);
    }
    for (at, node) in bare.target_list.iter_mut().enumerate() {
        let is_stored = !key.contains(&at) && untyped(node).is_some();
        if let Some(NodeEnum::ResTarget(target)) = node.node.as_mut().filter(|_| is_stored) {
            target.val = Some(Box::new(deparse::snippet("NULL")?));
        }
    }
    Ok(bare)
}

/// Whether its columns are its targets.
fn is_plain(select: &SelectStmt) -> bool {
    select.op() == SetOperation::SetopNone && select.values_lists.is_empty()
}

/// What a target is if it has no type of its own.
fn untyped(target: &Node) -> Option<&Node> {
    let Some(NodeEnum::ResTarget(target)) = &target.node else {
        return None;
    };
    let value = target.val.as_deref()?;
    let is_untyped = match value.node.as_ref()? {
        NodeEnum::ParamRef(_) => true,
        NodeEnum::AConst(constant) => constant.isnull || matches!(constant.val, Some(Val::Sval(_))),
        _ => false,
    };
    is_untyped.then_some(value)
}

fn is_star(target: &Node) -> bool {
    let Some(NodeEnum::ResTarget(target)) = &target.node else {
        return true;
    };
    let value = target.val.as_ref().and_then(|value| value.node.as_ref());
    match value {
        Some(NodeEnum::ColumnRef(column)) => column
            .fields
            .iter()
            .any(|field| matches!(field.node, Some(NodeEnum::AStar(_)))),
        // A row that is taken apart.
        Some(NodeEnum::AIndirection(part)) => part
            .indirection
            .iter()
            .any(|step| matches!(step.node, Some(NodeEnum::AStar(_)))),
        _ => false,
    }
}
