//! UPDATE and DELETE.

use pg_query::protobuf::{DeleteStmt, UpdateStmt};

use super::{Builder, Noted, kinds_agree, pruned, refused};
use crate::analyze::{Analysis, Dist};
use crate::placement::Distribution;
use crate::plan::Plan;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Change, Names, Resolver, Target};
use crate::tree::{Place, Query};

impl Builder<'_> {
    pub(super) fn update(&mut self, update: &UpdateStmt, names: &Names) -> Result<Plan> {
        let change = Change {
            relation: &update.relation,
            with: &update.with_clause,
            from: &update.from_clause,
            set: &update.target_list,
            filter: &update.where_clause,
            returning: &update.returning_clause,
        };
        self.change(&change, names)
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, names: &Names) -> Result<Plan> {
        let change = Change {
            relation: &delete.relation,
            with: &delete.with_clause,
            from: &delete.using_clause,
            set: &[],
            filter: &delete.where_clause,
            returning: &delete.returning_clause,
        };
        self.change(&change, names)
    }

    fn change(&mut self, change: &Change<'_>, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let (target, query) = resolver.change(change)?;
        let plan = self.changed(&resolver, change, &target, &query);
        let noted = Noted::of(&mut resolver);
        self.note(noted);
        plan
    }

    fn changed(
        &self,
        resolver: &Resolver<'_>,
        change: &Change<'_>,
        target: &Target<'_>,
        query: &Query,
    ) -> Result<Plan> {
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let rows = analysis.query(query, &[], &[]).rows;
        analysis.complete(None)?;
        if let Place::At(Distribution::Replicated) = target.table.place {
            let chosen = !change.set.is_empty() && !change.from.is_empty();
            return self.everywhere(&analysis, traits, &rows, chosen);
        }
        let several = match &rows {
            Dist::Parts(parts) => self.several(traits).map(|()| Plan::Pushed {
                prune: pruned(&analysis, parts),
                writes: true,
            }),
            Dist::Merge(why) | Dist::Loose(why) => Err(refused(*why)),
            Dist::Same => Err(Refusal::new("statement", "it is not supported over shards")),
        };
        self.pinned(&analysis, traits, several)
    }

    /// A write that must do the same on every shard.
    pub(super) fn everywhere(
        &self,
        analysis: &Analysis<'_>,
        traits: &crate::tree::Traits,
        rows: &Dist,
        chosen: bool,
    ) -> Result<Plan> {
        self.several(traits)?;
        if !analysis.seen.is_empty() {
            let reason = "rows that are on every shard would depend on rows that are not";
            return Err(Refusal::new("statement", reason));
        }
        if let Some(part) = traits.order {
            let reason =
                "it may depend on how rows lie, or on which of equal values stands for all";
            return Err(Refusal::new(part, reason).hint("Read it first, and write what it gives."));
        }
        if chosen {
            let reason = "each shard might choose another of several rows that are found for one";
            return Err(Refusal::new("UPDATE … FROM", reason).hint("Use a subquery in SET."));
        }
        match rows {
            Dist::Same => Ok(Plan::All),
            Dist::Merge(why) | Dist::Loose(why) => Err(refused(*why)),
            Dist::Parts(_) => Err(Refusal::new("statement", "it is not supported over shards")),
        }
    }
}
