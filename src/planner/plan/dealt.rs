//! Rows that a query gives, dealt out to the shards of their keys: to be stored, or to be changed.

use super::evaluate::Evaluation;
use super::{Params, Plan, Statement};
use crate::placement::{Group, KeyType, KeyValue, Shard};
use crate::refusal::{Refusal, Result};

/// `INSERT … SELECT` whose rows are read first, all of them, and then stored each on its shard; or an UPDATE or DELETE whose
/// rows are found first, by their primary keys, and then changed.
#[derive(Debug, Clone)]
pub struct Dealt {
    /// How the rows are read.
    pub(crate) source: Plan,
    pub(crate) deal: Deal,
}

/// What becomes of such rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deal {
    pub(crate) group: Group,
    pub(crate) kinds: Vec<KeyType>,
    /// The modifiers of the key's types: what is stored may be cut or rounded.
    pub(crate) modifiers: Vec<i32>,
    /// The columns of the query that are the key, from 0.
    pub places: Vec<usize>,
    /// The statement as it was written. It is not run, and to be explained on some shard: whatever one Postgres would say
    /// of it before it ran, it says then.
    pub whole: String,
    /// The query that gives the rows.
    pub select: String,
    /// How many columns it had when the statement was planned, all of which are stored.
    pub width: usize,
    /// Whether to read them writes, too: numbers are drawn there.
    pub draws: bool,
    /// Locks those that the rows of a relation `pgherd_rows` stand for, if they are to be changed, and gives those that it
    /// has locked. Either has the query's columns; in the relation they are called `w0`, `w1`, … If the query gives others
    /// then than were locked, these are to be locked, too, and it is asked again.
    pub lock: Option<String>,
    /// Stores, or changes, the rows of such a relation.
    pub store: String,
}

impl Statement {
    /// The shard of a row, by the values of its key, in the order of [`Deal::places`], with the types that servers give
    /// them.
    ///
    /// # Errors
    /// Where it has none, or it is not certain which.
    pub fn shard_of(&self, deal: &Deal, key: &Params<'_>) -> Result<Shard> {
        let evaluation = Evaluation {
            statement: self,
            params: key,
        };
        let mut values: Vec<KeyValue> = Vec::new();
        for (param, (kind, modifier)) in key
            .values
            .iter()
            .zip(deal.kinds.iter().zip(&deal.modifiers))
        {
            let Some(value) = param.value else {
                return Err(Refusal::new("INSERT", "the key of a row is NULL").with("23502"));
            };
            // An assignment may make another value of one of another type.
            let given = KeyType::of(param.oid);
            let alike =
                given.is_some_and(|given| given == *kind || given.is_int() && kind.is_int());
            if !alike {
                let reason = "the key of its rows has another type than its column";
                return Err(Refusal::new("INSERT … SELECT", reason).hint("Cast it to that type."));
            }
            let read = evaluation
                .read(param.oid, param.binary, value, *kind)
                .flatten();
            let stays = |value: &KeyValue| super::insert::stays(value, *modifier);
            let Some(value) = read.filter(stays) else {
                let reason =
                    "the key of a row cannot be read, or is longer or finer than its column stores";
                return Err(Refusal::new("INSERT … SELECT", reason));
            };
            values.push(value);
        }
        let shard = self.placement.shard(deal.group, &values);
        shard.map_err(|error| Refusal::unplaced("INSERT", error, "23514"))
    }
}
