//! A view whose rows depend on rows of several shards: its query stands in its place.

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, Node, RangeSubselect, RangeVar, SelectStmt};

use super::{Puller, everything};
use crate::catalog::Relation;
use crate::compose::{deparse, upper};
use crate::refusal::{Refusal, Result};

/// A view of the statement's that is read in pieces.
pub(super) struct Pieces {
    pub(super) name: String,
    /// What reads nothing of it, and fails where the client may not read it, or its owner not what is in it.
    check: String,
}

impl Pieces {
    pub(super) fn of(range: &RangeVar) -> Result<Self> {
        let mut select = everything(range)?;
        select.target_list.clear();
        select.where_clause = deparse::select("SELECT WHERE false")?.where_clause;
        Ok(Self {
            name: range.relname.clone(),
            check: deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))?,
        })
    }

    /// The text of a piece that nobody gets who may not read the view.
    pub(super) fn checked(&self, text: &str) -> String {
        format!(
            "SELECT * FROM ({text}) AS pgherd_rows WHERE NOT EXISTS ({})",
            self.check
        )
    }
}

impl Puller<'_> {
    /// The view's query with the names that the view has in FROM.
    pub(super) fn inlined(
        &self,
        range: &RangeVar,
        relation: &Relation,
        text: &str,
    ) -> Result<RangeSubselect> {
        let select = self.view_query(&range.relname, text)?;
        let mut node = deparse::select("SELECT FROM (SELECT 1) AS x")?
            .from_clause
            .into_iter()
            .next()
            .and_then(|node| node.node);
        let Some(NodeEnum::RangeSubselect(sub)) = &mut node else {
            return Err(Refusal::new("view", "its other form cannot be made"));
        };
        let given = range.alias.as_ref();
        let renamed = given
            .map(|alias| alias.colnames.clone())
            .unwrap_or_default();
        let own = relation
            .columns
            .iter()
            .map(|column| upper::name(&column.name));
        let rest = own.skip(renamed.len());
        sub.alias = Some(Alias {
            aliasname: given.map_or_else(|| range.relname.clone(), |alias| alias.aliasname.clone()),
            colnames: renamed.iter().cloned().chain(rest).collect(),
        });
        sub.subquery = Some(Box::new(Node {
            node: Some(NodeEnum::SelectStmt(Box::new(select))),
        }));
        Ok((**sub).clone())
    }

    /// The view's query, if its names mean in the statement what they mean in the view. Those of tables are
    /// qualified; of all others `pg_catalog` is found first, and only where others would fit as well something else
    /// might be meant.
    fn view_query(&self, name: &str, text: &str) -> Result<SelectStmt> {
        let unclear = || {
            Refusal::new(
                name,
                "the view's query may mean something else in the statement",
            )
        };
        let parsed = pg_query::parse(text, 0).map_err(|_| unclear())?;
        let catalog = self.builder.catalog;
        let path = &self.names.search_path;
        for (function, _) in &parsed.functions {
            let known = catalog.functions.get(function).into_iter().flatten();
            if known.into_iter().any(|known| path.contains(&known.schema)) {
                return Err(unclear());
            }
        }
        let mut operators = catalog.operators.values().flatten();
        if operators.any(|operator| path.contains(&operator.schema)) {
            return Err(unclear());
        }
        deparse::select(text)
    }
}
