//! ORDER BY and LIMIT over rows that each shard has sorted itself.

use pg_query::NodeEnum;
use pg_query::protobuf::{LimitOption, Node, SelectStmt, a_const::Val};

use super::deparse;
use crate::catalog::Collation;
use crate::plan::{Count, Merge, SortKey};
use crate::refusal::Result;
use crate::resolve::Resolver;
use crate::tree::{Body, Distinct, Kind, Query};

/// Types whose values have one order everywhere, by the OIDs of `pg_type.dat`: bool, the whole numbers, date and
/// the timestamps, numeric, uuid.
const CERTAIN: [u32; 9] = [16, 20, 21, 23, 1082, 1114, 1184, 1700, 2950];

/// A LIMIT or OFFSET that is a number or a parameter; `Err(())` for anything else.
pub(super) fn count(node: &Option<Box<Node>>) -> std::result::Result<Option<Count>, ()> {
    match node.as_ref().and_then(|node| node.node.as_ref()) {
        None => Ok(None),
        Some(NodeEnum::ParamRef(param)) => u32::try_from(param.number)
            .map(|number| Some(Count::Param(number)))
            .map_err(drop),
        Some(NodeEnum::AConst(constant)) if constant.isnull => Ok(None),
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Ival(number)) => u64::try_from(number.ival)
                .map(|number| Some(Count::Number(number)))
                .map_err(drop),
            _ => Err(()),
        },
        Some(_) => Err(()),
    }
}

/// LIMIT and OFFSET, if the merge can apply them.
pub(super) fn counts(select: &SelectStmt) -> Option<(Option<Count>, Option<Count>)> {
    if select.limit_option() == LimitOption::WithTies {
        return None;
    }
    Some((
        count(&select.limit_count).ok()?,
        count(&select.limit_offset).ok()?,
    ))
}

/// Has each shard give as many rows as may be wanted of it alone.
pub(super) fn limit(
    select: &mut SelectStmt,
    limit: &Option<Count>,
    offset: &Option<Count>,
) -> Result<()> {
    select.limit_offset = None;
    let said = |count: &Count| match count {
        Count::Number(number) => number.to_string(),
        Count::Param(number) => format!("${number}::int8"),
    };
    let text = match (limit, offset) {
        (None, _) => {
            select.limit_count = None;
            select.limit_option = LimitOption::Default as i32;
            return Ok(());
        }
        (Some(limit), None) => said(limit),
        (Some(Count::Number(limit)), Some(Count::Number(offset))) => {
            limit.saturating_add(*offset).to_string()
        }
        // The sum may be more than a bigint; where the OFFSET is NULL, it is the LIMIT.
        (Some(limit), Some(offset)) => {
            let (limit, offset) = (said(limit), said(offset));
            let sum = format!("({limit})::numeric + coalesce({offset}, 0)::numeric");
            format!("least({sum}, {})::int8", i64::MAX)
        }
    };
    select.limit_count = Some(Box::new(deparse::snippet(&text)?));
    select.limit_option = LimitOption::Count as i32;
    Ok(())
}

fn is_certain(kind: Kind) -> bool {
    let text = matches!(kind.oid, 25 | 1043) && kind.collation == Collation::Bytes;
    text || CERTAIN.contains(&kind.oid)
}

/// Whether columns may be added without another answer coming of it.
pub(super) fn may_add(query: &Query) -> bool {
    match &query.body {
        Body::Select(select) => matches!(select.distinct, Distinct::No),
        _ => false,
    }
}

/// Rows that are spread need only be merged, if what they are sorted by has a certain order.
pub(super) fn merged(
    resolver: &Resolver<'_>,
    select: &SelectStmt,
    query: &Query,
) -> Result<Option<Merge>> {
    let Some((count, offset)) = counts(select) else {
        return Ok(None);
    };
    let mut sent = select.clone();
    let mut keys = Vec::new();
    let mut hidden = 0;
    for (at, sort) in query.sort.iter().enumerate() {
        let kind = match sort.output {
            Some(output) => query.columns[output].kind,
            None => resolver.kind(&sort.expr),
        };
        if sort.using || !is_certain(kind) || sort.output.is_none() && !may_add(query) {
            return Ok(None);
        }
        let column = match sort.output {
            Some(output) => output,
            None => {
                let Some(NodeEnum::SortBy(by)) = &select.sort_clause[at].node else {
                    return Ok(None);
                };
                let value = by.node.as_deref().cloned().unwrap_or_default();
                sent.target_list
                    .push(deparse::target(value, &format!("pgherd_sort_{hidden}")));
                hidden += 1;
                query.columns.len() + hidden - 1
            }
        };
        keys.push(SortKey {
            column,
            oid: kind.oid,
            descending: sort.descending,
            nulls_first: sort.nulls_first,
        });
    }
    limit(&mut sent, &count, &offset)?;
    let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(sent)))?;
    Ok(Some(match keys.is_empty() {
        true => Merge::Limited {
            text,
            limit: count,
            offset,
        },
        false => Merge::Sorted {
            text,
            keys,
            hidden,
            limit: count,
            offset,
        },
    }))
}
