//! The rest of a query, resolved once more: it reads carriers and what is the same on every shard, and no more.

use pg_query::NodeEnum;
use pg_query::protobuf::SelectStmt;

use super::{Puller, said, walk};
use crate::analyze::Analysis;
use crate::refusal::{Refusal, Result};
use crate::resolve::Resolver;

impl Puller<'_> {
    /// Takes the schemas from the names of columns whose tables have become carriers.
    pub(super) fn unqualify(&self, select: &mut SelectStmt) -> Result<()> {
        walk::query(select, &mut |node| {
            let NodeEnum::ColumnRef(column) = node else {
                return Ok(());
            };
            let alias = match said::names(column).as_slice() {
                [Some(_), Some(alias), _] if self.taken.iter().any(|taken| taken == alias) => {
                    *alias
                }
                _ => return Ok(()),
            };
            if self.said.aliases.get(alias) != Some(&1) {
                let reason = "its schema is said, and another thing in FROM has the same name";
                return Err(Refusal::new(alias, reason).hint("Give it an alias."));
            }
            column.fields.remove(0);
            Ok(())
        })
    }

    pub(super) fn verify(&self, rest: &SelectStmt, given: &[String]) -> Result<()> {
        let failed = |reason: &str| Refusal::new("statement", reason);
        let mut resolver = Resolver::new(self.builder.catalog, self.builder.placement, self.names);
        resolver.carriers = Some(&self.carriers);
        let query = resolver.query(rest)?;
        let mut analysis = Analysis::new(&resolver.relations);
        analysis.query(&query);
        analysis.complete(None)?;
        if !analysis.seen.is_empty() {
            return Err(failed("what is left of it would read sharded tables"));
        }
        let names = query.columns.iter().map(|column| &column.name);
        match names.eq(given) {
            true => Ok(()),
            false => Err(failed("what is left of it would give other columns")),
        }
    }
}
