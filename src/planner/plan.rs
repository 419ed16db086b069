//! What is to be done with a statement.

use std::sync::Arc;

use crate::analyze::fact::Candidate;
use crate::copy::Splitter;
use crate::placement::{Group, KeyType, Placement, Shard, Shards};
use crate::refusal::Refusal;
use crate::resolve::unnest::is_array_of_scalars;

pub(crate) mod array;
pub(crate) mod copy;
mod dealt;
mod evaluate;
mod explain;
pub(crate) mod insert;
mod moved;
mod narrow;
mod pull;

pub use copy::{CopyIn, CopyOut, CopyTarget, Format, Quoted};
pub use dealt::{Deal, Dealt};
pub use evaluate::{Param, Params};
pub(crate) use insert::Span;
pub use insert::{Piece, Split};
pub use moved::{CHANGED, Moved};
pub use narrow::Hint;
pub(crate) use narrow::narrowed;
pub use pull::{Key, Pull, Pulled, Rule};

/// What is to be done with a statement, whatever its parameters are. Immutable; to be kept for as long as its
/// text, the session's names, the catalog and the placement are the same.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) plan: Plan,
    pub(crate) placement: Arc<Placement>,
    /// The types that its text gives to parameters that have none, by their numbers less one; 0 where it
    /// does not say.
    pub(crate) parameters: Vec<(u32, bool)>,
    /// The parameters that have to be arrays of what is no row, and whether the text says that they are.
    pub(crate) arrays: Vec<(u32, bool)>,
    /// The same with the time as a parameter.
    pub(crate) moment: Option<Box<Fixed>>,
    /// It locks rows that are the same on every shard.
    pub(crate) locks: bool,
    /// The only shard where the client wants it to run.
    pub(crate) narrow: Option<Shard>,
    /// It writes by what it reads of such rows.
    pub(crate) reads: bool,
    /// SQL allows of several answers, as which rows are the first of those that are equal.
    pub(crate) open: bool,
    /// Its rows are those of a `COPY … TO`, which writes them so.
    pub(crate) copied: Option<Box<CopyOut>>,
}

/// A statement in which the time of the transaction is a parameter.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    pub(crate) text: String,
    pub(crate) parameter: u32,
    pub(crate) plan: Plan,
}

/// Keys that are to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The statement names them, and nothing is known of them.
    Named,
    /// It comes upon them while it runs.
    Met,
}

/// The kinds of plans.
#[derive(Debug, Clone)]
pub enum Plan {
    /// It is about the session or the transaction, and not the planner's affair.
    Session,
    /// It reads no table of the users: any one shard.
    Anywhere,
    /// It reads tables that are the same on every shard: any one.
    Replicated,
    /// On one shard if its keys say so, where anything may be done; else as said.
    OneShard {
        /// What the keys are.
        pins: Pins,
        /// What is done if they lead to several shards, or cannot be read.
        otherwise: Box<Self>,
    },
    /// As it is on the shards concerned, the answers one behind the other. The rows that a write of it
    /// counts are to be added up.
    Pushed {
        /// Which shards are concerned.
        prune: Prune,
        /// It writes.
        writes: bool,
    },
    /// On the shards concerned in another form, and the answers merged.
    Merged {
        /// Which shards are concerned.
        prune: Prune,
        /// How.
        merge: Merge,
    },
    /// Rows of the shards are brought to one server, which answers.
    Pulled(Box<Pulled>),
    /// As it is on every shard, with the same effect on each; the answer of one is the answer.
    All,
    /// Rows to be stored, each on its shard.
    Insert(Box<Split>),
    /// Rows that a query gives, read first and then stored, each on its shard.
    Dealt(Box<Dealt>),
    /// Rows whose new key belongs to another shard than their old one.
    Move(Box<Moved>),
    /// `COPY … FROM`: the rows are told apart as they come.
    CopyIn(CopyIn),
    /// Nothing.
    Refused(Refusal),
}

/// How the answers of several shards become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// Each shard's rows are sorted; rows are taken from the least.
    Sorted {
        /// What is sent to the shards. Its last columns, [`Self::Sorted::hidden`] of them, are for sorting only.
        text: String,
        /// What is compared, in this order.
        keys: Vec<SortKey>,
        /// How many columns at the end are to be left out.
        hidden: usize,
        /// LIMIT.
        limit: Option<Count>,
        /// OFFSET.
        offset: Option<Count>,
    },
    /// Rows as they come, up to a number.
    Limited {
        /// What is sent to the shards.
        text: String,
        /// LIMIT.
        limit: Option<Count>,
        /// OFFSET.
        offset: Option<Count>,
    },
    /// All rows of all shards become a relation `pgherd_partials`, with the types and collations that the
    /// shards' answers have (as `CREATE TEMP TABLE … AS … WITH NO DATA` keeps them); the last query runs on one
    /// server that has it.
    Combined {
        /// What is sent to the shards; its columns are named `c0`, `c1`, …
        partial: String,
        /// What makes the answer of it. It may have the statement's parameters.
        combine: String,
    },
}

/// A number that LIMIT or OFFSET gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// A literal.
    Number(u64),
    /// A parameter, by its number from 1; NULL is no limit.
    Param(u32),
}

/// What rows are merged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The column, from 0.
    pub column: usize,
    /// The OID of its type, which is one whose order is certain.
    pub oid: u32,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// Which occurrences of tables are bound to which keys.
#[derive(Debug, Clone)]
pub struct Pins(pub(crate) Vec<Pin>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pin {
    Shard(Shard),
    Key {
        group: Group,
        kinds: Vec<KeyType>,
        /// For each column of the key, lists of values all of which hold.
        values: Vec<Vec<Arc<[Candidate]>>>,
    },
    /// A row that is stored.
    Row(Row),
}

/// The key of a row that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) group: Group,
    pub(crate) kinds: Vec<KeyType>,
    /// The modifiers of the key's types: what is stored may be cut or rounded.
    pub(crate) modifiers: Vec<i32>,
    pub(crate) key: Vec<Candidate>,
    /// A row gets it that is there already, if it is found.
    pub(crate) changed: bool,
}

/// Which shards may have rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune(pub(crate) Vec<Node>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Of(Pin),
    Both(Vec<Self>),
    Any(Vec<Self>),
}

/// Where a statement goes with these parameters, and how its answers become one.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// It is not the planner's affair.
    Session,
    /// Any one shard, as it is.
    Any,
    /// This shard, as it is.
    One(Shard),
    /// These shards, as it is, the answers one behind the other.
    Concat {
        /// The shards.
        shards: Shards,
        /// It writes.
        writes: bool,
    },
    /// These shards, and the answers merged.
    Merge {
        /// The shards.
        shards: Shards,
        /// How.
        merge: &'p Merge,
        /// LIMIT, if there is one.
        limit: Option<u64>,
        /// OFFSET.
        offset: u64,
    },
    /// Rows are brought to one server, where the rest of the query runs behind it.
    Pull {
        /// What is brought, and from which shards.
        pulls: Vec<(Shards, &'p Pull)>,
        /// What runs on the server that has it.
        text: &'p str,
    },
    /// All shards, as it is; one's answer.
    All,
    /// Each piece on its shard.
    Pieces(Vec<Piece>),
    /// Rows are taken from one shard, and stored on another.
    Move {
        /// Where they are.
        from: Shard,
        /// Where they belong then.
        to: Shard,
        /// How.
        moved: &'p Moved,
    },
    /// Rows are read, and then stored, each on the shard of its key.
    Deal {
        /// How they are read.
        source: Box<Self>,
        /// What becomes of them.
        deal: &'p Deal,
    },
    /// Rows that come later.
    CopyIn(&'p CopyIn),
    /// As said, but with another text, in which the time is a parameter behind all others.
    At {
        /// The text, where the route says that it is sent as it is.
        text: &'p str,
        /// The number of the parameter, from 1: to be given what `now()` is on one of the shards.
        parameter: u32,
        /// Where it goes.
        route: Box<Self>,
    },
}

impl Statement {
    /// What is done, for those who explain it.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether a hint leads it to one shard.
    pub fn is_narrowed(&self) -> bool {
        self.narrow.is_some()
    }

    /// Whether it locks rows that are the same on every shard, on the first of them, as those do who write to them.
    pub fn locks_replicated(&self) -> bool {
        self.locks
    }

    /// Whether it writes by what it reads of rows that are the same on every shard, which on several shards have to be the
    /// same while it runs.
    pub fn writes_by_replicated(&self) -> bool {
        self.reads
    }

    /// Its text with the time as a parameter, and the parameter's number, if it asks for the time, and only in its text or by
    /// defaults.
    pub fn timed(&self) -> Option<(&str, u32)> {
        let moment = self.moment.as_deref()?;
        Some((&moment.text, moment.parameter))
    }

    /// Whether SQL leaves it open which of several answers a query gives, as one that heeds how rows lie.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// How its rows are written, if it is a `COPY … TO`. What goes to shards as it is has them write their own; texts of its
    /// plan, and that of [`Route::At`] with [`Route::Merge`] or [`Route::Pull`] in it, are queries that give rows.
    pub fn copied(&self) -> Option<&CopyOut> {
        self.copied.as_deref()
    }

    /// Whether a query reads rows that are spread over the shards by their keys, wherever it goes.
    pub fn reads_spread(&self) -> bool {
        fn spread(plan: &Plan) -> bool {
            match plan {
                Plan::OneShard { pins, otherwise } => {
                    let keyed = |pin: &Pin| matches!(pin, Pin::Key { .. });
                    pins.0.iter().any(keyed) || spread(otherwise)
                }
                Plan::Pushed { writes, .. } => !writes,
                Plan::Merged { .. } | Plan::Pulled(_) => true,
                _ => false,
            }
        }
        let moment = self.moment.as_ref();
        spread(&self.plan) || moment.is_some_and(|moment| spread(&moment.plan))
    }

    /// The OIDs of the types that the text gives to its parameters, for those that were given none; 0 where it
    /// does not say.
    pub fn parameter_types(&self) -> impl Iterator<Item = u32> {
        let plain = |(oid, array): &(u32, bool)| if *array { 0 } else { *oid };
        self.parameters.iter().map(plain)
    }

    /// What tells the rows of its `COPY … FROM` apart, if it is one. `foreign` is whether they are in another
    /// encoding than the servers', and no row is held that is longer than `most` before its key has come.
    pub fn splitter(&self, foreign: bool, most: usize) -> Option<Splitter> {
        match &self.plan {
            Plan::CopyIn(copy) => Some(Splitter::new(copy, &self.placement, foreign, most)),
            _ => None,
        }
    }

    /// Where it goes with these parameters.
    ///
    /// # Errors
    /// When it is refused, also with these parameters only.
    pub fn route(&self, params: &Params<'_>) -> Result<Route<'_>, Refusal> {
        self.are_arrays(params)?;
        let (plan, route) = self.widest(params)?;
        let Some(only) = self.narrow else {
            return Ok(route);
        };
        let evaluation = evaluate::Evaluation {
            statement: self,
            params,
        };
        match route {
            // The time is that of the one shard.
            Route::At { route, .. } => narrow::narrow(&evaluation, plan, *route, only),
            route => narrow::narrow(&evaluation, plan, route, only),
        }
    }

    /// That what `unnest` is given is what it was taken for: of rows, it would give a column for each of theirs.
    fn are_arrays(&self, params: &Params<'_>) -> Result<(), Refusal> {
        let is_array = |(number, said): &(u32, bool)| {
            let at = usize::try_from(*number)
                .ok()
                .and_then(|it| it.checked_sub(1));
            match at
                .and_then(|at| params.values.get(at))
                .map_or(0, |param| param.oid)
            {
                0 => *said,
                oid => is_array_of_scalars(oid),
            }
        };
        match self.arrays.iter().all(is_array) {
            true => Ok(()),
            false => {
                let reason = "whether it gives rows, and of which columns, is not known";
                let hint = "Give the parameter a type, as in $1::text[].";
                Err(Refusal::new("unnest", reason).hint(hint))
            }
        }
    }

    /// Where it goes whatever a hint says, and by which plan.
    fn widest(&self, params: &Params<'_>) -> Result<(&Plan, Route<'_>), Refusal> {
        match (evaluate::route(self, &self.plan, params), &self.moment) {
            (Err(refusal), Some(moment)) => match evaluate::route(self, &moment.plan, params) {
                Ok(route) => Ok((
                    &moment.plan,
                    Route::At {
                        text: &moment.text,
                        parameter: moment.parameter,
                        route: Box::new(route),
                    },
                )),
                // The other one is not the reason, if it is only that a key is not known.
                Err(other) if other.unknown => Err(other),
                Err(_) => Err(refusal),
            },
            (route, _) => route.map(|route| (&self.plan, route)),
        }
    }

    /// Whether it is refused, with any parameters, for no other reason than that nothing is known of a key.
    pub fn names_unknown(&self) -> bool {
        matches!(&self.plan, Plan::Refused(refusal) if refusal.unknown)
    }

    /// Which keys are to be looked up before it runs, so that all are known that can be.
    pub fn wanted(&self, params: &Params<'_>) -> Option<Wanted> {
        let met = |group| self.placement.is_looked_up(group).then_some(Wanted::Met);
        match self.route(params) {
            Err(refusal) => refusal.unknown.then_some(Wanted::Named),
            Ok(Route::Deal { deal, .. }) => met(deal.group),
            Ok(Route::CopyIn(copy)) => match copy.target {
                CopyTarget::ByKey { group, .. } => met(group),
                CopyTarget::One(_) | CopyTarget::All => None,
            },
            Ok(Route::At { route, .. }) => match *route {
                Route::Deal { deal, .. } => met(deal.group),
                _ => None,
            },
            Ok(_) => None,
        }
    }

    /// Whether its keys may say that it runs on one shard as it is. That is told by [`Self::only`].
    pub fn is_keyed(&self) -> bool {
        match &self.plan {
            // There is more to do than to run it.
            _ if self.locks || !self.arrays.is_empty() => false,
            Plan::OneShard { .. } => true,
            // Of several rows, one may say something of the types of others.
            Plan::Insert(split) => split.keys.len() == 1,
            _ => false,
        }
    }

    /// The one shard where it runs as it is with these parameters, if it [is keyed](Self::is_keyed) and that is
    /// told at once: then [`Self::route`] tells the same.
    pub fn only(&self, params: &Params<'_>) -> Option<Shard> {
        if !self.is_keyed() {
            return None;
        }
        let shard = evaluate::only(self, params)?;
        self.narrow
            .is_none_or(|only| only == shard)
            .then_some(shard)
    }

    /// The shards that it goes to with these parameters; any one will do if there are none.
    ///
    /// # Errors
    /// As [`Self::route`].
    pub fn shards(&self, params: &Params<'_>) -> Result<Shards, Refusal> {
        Ok(self.of(&self.route(params)?))
    }

    fn of(&self, route: &Route<'_>) -> Shards {
        match route {
            Route::At { route, .. } => self.of(route),
            Route::Session | Route::Any => Shards::new(),
            Route::One(shard) => [*shard].into(),
            Route::Concat { shards, .. } | Route::Merge { shards, .. } => shards.clone(),
            Route::All | Route::CopyIn(_) | Route::Deal { .. } => self.placement.all(),
            Route::Pull { pulls, .. } => pulls
                .iter()
                .flat_map(|(shards, _)| shards.iter().copied())
                .collect(),
            Route::Pieces(pieces) => pieces.iter().map(|piece| piece.shard).collect(),
            Route::Move { from, to, .. } => [*from, *to].into(),
        }
    }
}
