//! A part of a query, looked at by itself: what it means there is what it means in its place, as all that it
//! names is its own.

use pg_query::NodeEnum;
use pg_query::protobuf::SelectStmt;

use super::Puller;
use crate::analyze::{Analysis, Dist};
use crate::compose::risk::Risk;
use crate::compose::{combine, deparse, kinds_agree, pruned, sorted};
use crate::plan::{Merge, Prune};
use crate::refusal::Result;
use crate::resolve::Resolver;

/// How a query's rows can be had.
pub(super) enum Look {
    /// It reads no table that is spread.
    Same,
    /// From the shards, one behind the other.
    Parts {
        prune: Prune,
        names: Vec<String>,
        /// Something that it computes may fail.
        risky: bool,
    },
    /// From the shards in another form, and then from one server.
    Partial {
        prune: Prune,
        partial: String,
        combine: String,
        width: usize,
        risky: bool,
    },
    /// Its rows depend on others.
    Unknown,
}

impl Puller<'_> {
    pub(super) fn look(&self, select: &SelectStmt) -> Look {
        self.try_look(select).unwrap_or(Look::Unknown)
    }

    fn try_look(&self, select: &SelectStmt) -> Result<Look> {
        let mut resolver = Resolver::new(self.builder.catalog, self.builder.placement, self.names);
        resolver.carriers = Some(&self.carriers);
        let query = resolver.query(select)?;
        let traits = &resolver.traits;
        self.builder.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let found = analysis.query(&query);
        analysis.complete(None)?;
        // A bare name that is a whole row here may be a column further out.
        if resolver.rows {
            return Ok(Look::Unknown);
        }
        if analysis.seen.is_empty() {
            return Ok(Look::Same);
        }
        // What tells the way to a row is a record, of which no carrier has a column.
        if traits.paths {
            return Ok(Look::Unknown);
        }
        if !self.carriers.is_empty() && self.is_mixed(select) {
            return Ok(Look::Unknown);
        }
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(select.clone())))?;
        self.builder.several_in(traits, &text)?;
        if query.locks || traits.locks || query.columns.is_empty() || sorted::gives_rows(select) {
            return Ok(Look::Unknown);
        }
        let risky = Risk::of_query(&resolver).query(select);
        if let (Dist::Parts(parts), true, true) =
            (&found.core, query.limits.is_empty(), query.sort.is_empty())
        {
            return Ok(Look::Parts {
                prune: pruned(&analysis, parts),
                names: query
                    .columns
                    .into_iter()
                    .map(|column| column.name)
                    .collect(),
                risky,
            });
        }
        let (parts, merge) = combine::combined(&resolver, select, &query, &found)?;
        let prune = pruned(&analysis, parts);
        match merge {
            Merge::Combined { partial, combine } => {
                let width = width(&partial)?;
                Ok(Look::Partial {
                    prune,
                    partial,
                    combine,
                    width,
                    risky,
                })
            }
            _ => Ok(Look::Unknown),
        }
    }

    /// Whether something of it is on the answering server already.
    fn is_mixed(&self, select: &SelectStmt) -> bool {
        format!("{select:?}").contains("relname: \"pgherd_pull_")
    }
}

/// How many columns a query of ours gives, whose names are those of its targets or of all that it reads.
fn width(text: &str) -> Result<usize> {
    let select = deparse::select(text)?;
    let alias = match select
        .from_clause
        .first()
        .and_then(|node| node.node.as_ref())
    {
        Some(NodeEnum::RangeSubselect(sub)) if super::said::has_star(&select) => sub.alias.as_ref(),
        _ => None,
    };
    Ok(alias.map_or(select.target_list.len(), |alias| alias.colnames.len()))
}
