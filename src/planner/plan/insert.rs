//! Rows that are told apart by their keys.

use std::collections::BTreeMap;

use super::Route;
use super::evaluate::Evaluation;
use crate::analyze::fact::Candidate;
use crate::placement::{Group, KeyType, KeyValue, Shard};
use crate::refusal::{Refusal, Result};

/// A part of a text: words, or the number of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span {
    Text(String),
    Param(u32),
}

/// An INSERT of rows whose keys are literals or parameters.
#[derive(Debug, Clone)]
pub struct Split {
    pub(crate) group: Group,
    pub(crate) kinds: Vec<KeyType>,
    /// The modifiers of the key's types: what is stored may be cut or rounded.
    pub(crate) modifiers: Vec<i32>,
    /// For each row, the value of each column of its key.
    pub(crate) keys: Vec<Vec<Candidate>>,
    /// What stands before the rows, each row, and what stands behind them.
    pub(crate) head: Vec<Span>,
    pub(crate) rows: Vec<Vec<Span>>,
    pub(crate) tail: Vec<Span>,
    /// Why it may not go to several shards.
    pub(crate) whole: Option<Refusal>,
    /// To several shards its rows go one after the other, each by itself.
    pub(crate) singly: bool,
}

/// What is sent to one shard. Where two are for the same one, all of them are run in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The shard.
    pub shard: Shard,
    /// The text.
    pub text: String,
    /// The statement's parameters that it has, by their numbers from 1, in the order of its own.
    pub params: Vec<u32>,
    /// The rows that it has, by their places in the statement; what RETURNING gives is in this order.
    pub rows: Vec<usize>,
}

pub(super) fn route<'p>(split: &Split, evaluation: &Evaluation<'_>) -> Result<Route<'p>> {
    let mut shards: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
    for (at, key) in split.keys.iter().enumerate() {
        let shard = place(split.group, &split.kinds, &split.modifiers, key, evaluation)?;
        shards.entry(shard).or_default().push(at);
    }
    if let (1, Some((shard, _))) = (shards.len(), shards.first_key_value()) {
        return Ok(Route::One(*shard));
    }
    if let Some(refusal) = &split.whole {
        return Err(refusal.clone());
    }
    let mut pieces: Vec<(Shard, Vec<usize>)> = match split.singly {
        false => shards.into_iter().collect(),
        true => {
            let shards = shards.into_iter();
            let each = shards
                .flat_map(|(shard, rows)| rows.into_iter().map(move |row| (shard, vec![row])));
            each.collect()
        }
    };
    if split.singly {
        pieces.sort_by_key(|(_, rows)| rows.first().copied());
    }
    let pieces = pieces.into_iter();
    let pieces = pieces.map(|(shard, rows)| piece(split, shard, rows));
    Ok(Route::Pieces(pieces.collect()))
}

/// The shard where a row is stored.
pub(super) fn place(
    group: Group,
    kinds: &[KeyType],
    modifiers: &[i32],
    key: &[Candidate],
    evaluation: &Evaluation<'_>,
) -> Result<Shard> {
    let key: Vec<KeyValue> = key
        .iter()
        .zip(kinds.iter().zip(modifiers))
        .map(|(candidate, (kind, modifier))| {
            let value = value(candidate, *kind, evaluation)?;
            stays(&value, *modifier).then_some(value).ok_or_else(|| {
                let reason = "the key of a row is longer or finer than its column stores";
                Refusal::new("INSERT", reason)
            })
        })
        .collect::<Result<_>>()?;
    let shard = evaluation.statement.placement.shard(group, &key);
    shard.map_err(|error| Refusal::unplaced("INSERT", error, "23514"))
}

/// Whether a value is stored as it is, by its type's modifier (`atttypmod`).
pub(crate) fn stays(value: &KeyValue, modifier: i32) -> bool {
    if modifier < 0 {
        return true;
    }
    match value {
        KeyValue::Text(text) => std::str::from_utf8(text)
            .is_ok_and(|text| text.chars().count() as i64 <= i64::from(modifier) - 4),
        KeyValue::Numeric(number) => {
            // The scale has eleven bits, of which the first is its sign.
            let scale = ((modifier - 4) & 0x7ff ^ 0x400) - 0x400;
            number.scale().is_none_or(|real| real <= scale)
        }
        KeyValue::Timestamptz(i64::MIN | i64::MAX) => true, // the infinities
        KeyValue::Timestamptz(micros) => {
            u32::try_from(6 - modifier).is_ok_and(|cut| micros % 10_i64.pow(cut) == 0)
        }
        _ => true,
    }
}

fn value(candidate: &Candidate, kind: KeyType, evaluation: &Evaluation<'_>) -> Result<KeyValue> {
    let null = || Refusal::new("INSERT", "the key of a row is NULL").with("23502");
    let unread = || Refusal::new("INSERT", "the key of a row cannot be read");
    let foreign = |value: &KeyValue| match value {
        KeyValue::Text(text) => evaluation.params.foreign_encoding && !text.is_ascii(),
        _ => false,
    };
    match candidate {
        Candidate::Value(value) if foreign(value) => Err(unread()),
        Candidate::Value(value) => Ok(value.clone()),
        Candidate::Param { number, .. } => {
            let value = evaluation.parameter(*number, kind).ok_or_else(unread)?;
            let given = evaluation.params.values.get(*number as usize - 1);
            match (value, given.is_some_and(|given| given.value.is_none())) {
                (Some(value), _) => Ok(value),
                (None, true) => Err(null()),
                (None, false) => Err(unread()),
            }
        }
        Candidate::Array { .. } => Err(unread()),
    }
}

fn piece(split: &Split, shard: Shard, rows: Vec<usize>) -> Piece {
    let mut text = String::new();
    let mut params: Vec<u32> = Vec::new();
    let mut say = |spans: &[Span]| {
        for span in spans {
            match span {
                Span::Text(words) => text.push_str(words),
                Span::Param(number) => {
                    let at = params.iter().position(|known| known == number);
                    let at = at.unwrap_or_else(|| {
                        params.push(*number);
                        params.len() - 1
                    });
                    text.push('$');
                    text.push_str(&(at + 1).to_string());
                }
            }
        }
    };
    say(&split.head);
    for (place, row) in rows.iter().enumerate() {
        if place > 0 {
            say(&[Span::Text(", ".into())]);
        }
        say(&split.rows[*row]);
    }
    say(&split.tail);
    Piece {
        shard,
        text,
        params,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::stays;
    use crate::placement::KeyValue;

    #[test]
    fn infinity_is_as_fine_as_any_column() {
        assert!(stays(&KeyValue::Timestamptz(i64::MAX), 3));
        assert!(stays(&KeyValue::Timestamptz(i64::MIN), 0));
        assert!(stays(&KeyValue::Timestamptz(1_000), 3));
        assert!(!stays(&KeyValue::Timestamptz(1_001), 3));
    }
}
