//! From a plan and the values of parameters to shards. Nothing is parsed but the keys.

use std::collections::BTreeSet;

use super::{CopyTarget, Count, Merge, Node, Pin, Plan, Prune, Pulled, Route, Statement};
use crate::analyze::fact::Candidate;
use crate::placement::{KeyType, KeyValue, MethodError, Placement, Shard, Shards};
use crate::refusal::{Refusal, Result};

/// A parameter of a Bind.
#[derive(Debug, Clone, Copy)]
pub struct Param<'a> {
    /// The OID of its type; 0 if neither its Parse nor the server's description has said.
    pub oid: u32,
    /// It has the binary format.
    pub binary: bool,
    /// Its value; None for NULL.
    pub value: Option<&'a [u8]>,
}

/// The parameters of a Bind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params<'a> {
    /// In their order.
    pub values: &'a [Param<'a>],
    /// The client's encoding is not that of the servers, so that texts beyond ASCII are not what they store.
    pub foreign_encoding: bool,
}

/// How many keys a list may name before it is taken for all.
const MOST: usize = 4_096;

/// What a condition says of a column of a key: some values, or nothing that can be read.
type Known = Option<BTreeSet<KeyValue>>;

pub(super) struct Evaluation<'a> {
    pub(super) statement: &'a Statement,
    pub(super) params: &'a Params<'a>,
}

impl<'a> Evaluation<'a> {
    fn placement(&self) -> &'a Placement {
        &self.statement.placement
    }

    /// Where a statement runs for which no shard has a row.
    fn nowhere(&self) -> Shard {
        self.statement.narrow.unwrap_or(Shard(0))
    }

    /// A parameter, with the type that it has or is given.
    fn param(&self, number: u32, array: bool) -> Option<(u32, Param<'a>)> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let param = *self.params.values.get(at)?;
        let oid = match param.oid {
            0 => match self.statement.parameters.get(at) {
                Some((oid, is_array)) if *is_array == array && *oid != 0 => *oid,
                _ => return None,
            },
            oid if array => element_of(oid)?,
            oid => oid,
        };
        Some((oid, param))
    }

    /// A value as the column's type has it: None if it cannot be read, nothing if none is equal to it.
    pub(super) fn read(
        &self,
        oid: u32,
        binary: bool,
        value: &[u8],
        column: KeyType,
    ) -> Option<Option<KeyValue>> {
        let kind = KeyType::of(oid)?;
        // A value in text form of any type is brought to the servers' encoding before it is read: a `bytea` may have
        // such characters, too.
        let text = !binary || matches!(kind, KeyType::Text | KeyType::Bpchar);
        if text && self.params.foreign_encoding && !value.is_ascii() {
            return None;
        }
        let value = match binary {
            true => KeyValue::from_binary(kind, value),
            false => KeyValue::from_text(kind, value),
        };
        value.ok()?.as_type(column).ok()
    }

    pub(super) fn is_null(&self, number: u32) -> bool {
        let at = usize::try_from(number)
            .ok()
            .and_then(|it| it.checked_sub(1));
        let param = at.and_then(|at| self.params.values.get(at));
        param.is_some_and(|param| param.value.is_none())
    }

    pub(super) fn parameter(&self, number: u32, column: KeyType) -> Option<Option<KeyValue>> {
        let (oid, param) = self.param(number, false)?;
        match param.value {
            None => Some(None),
            Some(value) => self.read(oid, param.binary, value, column),
        }
    }

    fn array(
        &self,
        number: u32,
        column: KeyType,
        cast: bool,
        into: &mut BTreeSet<KeyValue>,
    ) -> Option<()> {
        let (oid, param) = self.param(number, true)?;
        let Some(bytes) = param.value else {
            return Some(());
        };
        if is_padded(oid, column) {
            return None;
        }
        if param.binary {
            let (oid, elements) = super::array::binary(bytes)?;
            for element in elements.into_iter().flatten() {
                let value = self.read(oid, true, element, column)?;
                into.extend(certain(value, column, cast)?);
            }
            return Some(());
        }
        for element in super::array::elements(std::str::from_utf8(bytes).ok()?)?
            .into_iter()
            .flatten()
        {
            let value = self.read(oid, false, element.as_bytes(), column)?;
            into.extend(certain(value, column, cast)?);
        }
        Some(())
    }

    fn list(&self, list: &[Candidate], kind: KeyType) -> Known {
        let mut found = BTreeSet::new();
        for candidate in list {
            match candidate {
                Candidate::Value(KeyValue::Text(text))
                    if self.params.foreign_encoding && !text.is_ascii() =>
                {
                    return None;
                }
                Candidate::Value(value) => found.extend(value.as_type(kind).ok()?),
                Candidate::Param {
                    number,
                    column,
                    cast,
                } => {
                    if is_padded(self.param(*number, false)?.0, kind) {
                        return None;
                    }
                    let value = self.parameter(*number, *column)?;
                    let cast = *cast && !self.is_null(*number);
                    if let Some(value) = certain(value, *column, cast)? {
                        found.extend(value.as_type(kind).ok()?);
                    }
                }
                Candidate::Array {
                    number,
                    column,
                    cast,
                } => {
                    let mut values = BTreeSet::new();
                    self.array(*number, *column, *cast, &mut values)?;
                    for value in values {
                        found.extend(value.as_type(kind).ok()?);
                    }
                }
            }
        }
        Some(found)
    }

    /// The shards of an occurrence; None for all.
    pub(super) fn pin(&self, pin: &Pin) -> Result<Option<Shards>> {
        let (group, kinds, values) = match pin {
            Pin::Shard(shard) => return Ok(Some([*shard].into())),
            Pin::Row(row) => return row.shards(self).map(Some),
            Pin::Key {
                group,
                kinds,
                values,
            } => (*group, kinds, values),
        };
        let mut keys: Vec<Vec<KeyValue>> = vec![Vec::new()];
        for (kind, lists) in kinds.iter().zip(values) {
            let known = lists.iter().filter_map(|list| self.list(list, *kind));
            let Some(column) = known.reduce(|one, two| one.intersection(&two).cloned().collect())
            else {
                return Ok(None);
            };
            if keys.len() * column.len() > MOST {
                return Ok(None);
            }
            let with = |key: &Vec<KeyValue>, value: &KeyValue| {
                let mut key = key.clone();
                key.push(value.clone());
                key
            };
            keys = keys
                .iter()
                .flat_map(|key| column.iter().map(move |value| with(key, value)))
                .collect();
        }
        let mut shards = Shards::new();
        for key in keys {
            match self.placement().shard(group, &key) {
                Ok(shard) => drop(shards.insert(shard)),
                // No row can have it.
                Err(MethodError::Unmapped) => {}
                // Of what is looked up that is not certain: what gives it a shard may have been taken away by hand.
                Err(error @ MethodError::Unknown) => {
                    return Err(Refusal::unplaced("key", error, "22023"));
                }
                Err(error) => return Err(Refusal::unplaced("key", error, "0A000")),
            }
        }
        Ok(Some(shards))
    }

    /// The shard of an occurrence whose key is one column with one value; nothing for all others.
    fn single(&self, pin: &Pin) -> Option<Shard> {
        let Pin::Key {
            group,
            kinds,
            values,
        } = pin
        else {
            return None;
        };
        let ([kind], [lists]) = (&kinds[..], &values[..]) else {
            return None;
        };
        let [list] = &lists[..] else { return None };
        let [Candidate::Param { number, column, .. }] = &list[..] else {
            return None;
        };
        if is_padded(self.param(*number, false)?.0, *kind) {
            return None;
        }
        let value = self.parameter(*number, *column)??;
        let value = value.as_type(*kind).ok()??;
        let key = std::slice::from_ref(&value);
        self.placement().shard(*group, key).ok()
    }

    /// The one shard of all occurrences, if that can be told by one value of each, which takes no sets.
    fn all_single(&self, pins: &[Pin]) -> Option<Shard> {
        let (first, others) = pins.split_first()?;
        let shard = self.single(first)?;
        let mut others = others.iter();
        others
            .all(|pin| self.single(pin) == Some(shard))
            .then_some(shard)
    }

    /// The shards of all occurrences, if keys are said of each.
    pub(super) fn together(&self, pins: &[Pin]) -> Result<Option<Shards>> {
        let mut all = Shards::new();
        for pin in pins {
            match self.pin(pin)? {
                Some(shards) => all.extend(shards),
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    /// The one shard of all occurrences, if there is one.
    fn one(&self, pins: &[Pin]) -> Result<Option<Shard>> {
        if let Some(shard) = self.all_single(pins) {
            return Ok(Some(shard));
        }
        let all = self.together(pins)?;
        let all = all.filter(|all| all.len() < 2);
        // Where no row can be, each shard has as many.
        Ok(all.map(|all| all.first().copied().unwrap_or_else(|| self.nowhere())))
    }

    fn node(&self, node: &Node) -> Result<Shards> {
        Ok(match node {
            Node::Of(pin) => self.pin(pin)?.unwrap_or_else(|| self.placement().all()),
            Node::Both(nodes) => self.both(nodes)?,
            Node::Any(nodes) => {
                let mut shards = Shards::new();
                for node in nodes {
                    shards.extend(self.node(node)?);
                }
                shards
            }
        })
    }

    fn both(&self, nodes: &[Node]) -> Result<Shards> {
        let mut shards = self.placement().all();
        for node in nodes {
            let found = self.node(node)?;
            shards.retain(|shard| found.contains(shard));
        }
        Ok(shards)
    }

    fn prune(&self, prune: &Prune) -> Result<Shards> {
        let mut shards = self.both(&prune.0)?;
        if shards.is_empty() && self.statement.narrow.is_none() {
            // Somebody must say what columns there are.
            shards.insert(Shard(0));
        }
        Ok(shards)
    }

    /// Where rows are brought from. Where all that count are on one shard, the query as it is runs there.
    fn pulled<'p>(&self, pulled: &'p Pulled) -> Result<Route<'p>> {
        let mut pulls = Vec::with_capacity(pulled.pulls.len());
        let mut all = Shards::new();
        for pull in &pulled.pulls {
            let shards = self.both(&pull.prune.0)?;
            all.extend(shards.iter().copied());
            pulls.push((shards, pull));
        }
        if all.is_empty() {
            return Ok(Route::One(self.nowhere()));
        }
        let text = &pulled.text;
        several(&all, self.params, Route::Pull { pulls, text })
    }

    fn count(&self, count: Option<&Count>, what: &str, code: &'static str) -> Result<Option<u64>> {
        let number = match count {
            None => return Ok(None),
            Some(Count::Number(number)) => return Ok(Some(*number)),
            Some(Count::Param(number)) => *number,
        };
        match self.parameter(number, KeyType::Int8) {
            // A value that no bigint equals is none, too, but Postgres rounds it.
            Some(None) if self.is_null(number) => Ok(None),
            Some(Some(KeyValue::Int(value))) => u64::try_from(value)
                .map(Some)
                .map_err(|_| Refusal::new(what, format!("{what} must not be negative")).with(code)),
            _ => Err(Refusal::new(
                what,
                "its parameter is not a number that can be read",
            )),
        }
    }
}

/// A value of a type, or that there is none that is equal to it; None where a cast makes another of it, as it rounds what
/// has a fraction.
fn certain(value: Option<KeyValue>, column: KeyType, cast: bool) -> Option<Option<KeyValue>> {
    let is_rounded = value.is_none() && cast && column.is_int();
    (!is_rounded).then_some(value)
}

/// Whether a value is a `char(n)` beside a text. With a `varchar` it is compared without the blanks at the end of
/// either, and so equal to several keys.
fn is_padded(oid: u32, column: KeyType) -> bool {
    KeyType::of(oid) == Some(KeyType::Bpchar) && column == KeyType::Text
}

/// The type of an array's elements, by the OIDs of `pg_type.dat`.
fn element_of(oid: u32) -> Option<u32> {
    Some(match oid {
        1005 => 21,
        1007 => 23,
        1016 => 20,
        2951 => 2950,
        1009 => 25,
        1015 => 1043,
        1014 => 1042,
        1182 => 1082,
        1185 => 1184,
        1231 => 1700,
        1001 => 17,
        _ => return None,
    })
}

/// Words that a date or time takes from the clock of whoever reads them.
fn names_moment(params: &Params<'_>) -> bool {
    const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    params.values.iter().any(|param| {
        let text = param
            .value
            .filter(|value| !param.binary && value.len() < 64);
        text.and_then(|text| std::str::from_utf8(text).ok())
            .is_some_and(|text| {
                let mut words = text.split(|char: char| !char.is_ascii_alphabetic());
                words.any(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)))
            })
    })
}

fn several<'p>(shards: &Shards, params: &Params<'_>, route: Route<'p>) -> Result<Route<'p>> {
    match shards.first() {
        // All rows that count are there, and so it is as good as a server that has all.
        Some(shard) if shards.len() == 1 => Ok(Route::One(*shard)),
        _ if names_moment(params) => {
            let reason = "it may name a moment that each shard would understand by its own clock";
            Err(Refusal::new("parameter", reason))
        }
        _ => Ok(route),
    }
}

/// The one shard of a statement whose keys lead to one; nothing where no row can be.
pub(super) fn only(statement: &Statement, params: &Params<'_>) -> Option<Shard> {
    let evaluation = Evaluation { statement, params };
    match &statement.plan {
        Plan::OneShard { pins, .. } => evaluation.all_single(&pins.0).or_else(|| {
            let all = evaluation.together(&pins.0).ok()??;
            all.first().copied().filter(|_| all.len() == 1)
        }),
        plan => match route(statement, plan, params) {
            Ok(Route::One(shard)) => Some(shard),
            _ => None,
        },
    }
}

pub(super) fn route<'p>(
    statement: &'p Statement,
    plan: &'p Plan,
    params: &Params<'_>,
) -> Result<Route<'p>> {
    let evaluation = Evaluation { statement, params };
    match plan {
        Plan::Session => Ok(Route::Session),
        Plan::Anywhere | Plan::Replicated => Ok(Route::Any),
        Plan::OneShard { pins, otherwise } => match evaluation.one(&pins.0)? {
            Some(shard) => Ok(Route::One(shard)),
            None => route(statement, otherwise, params),
        },
        Plan::Pushed { prune, writes } => {
            let shards = evaluation.prune(prune)?;
            let all = shards.clone();
            several(
                &shards,
                params,
                Route::Concat {
                    shards: all,
                    writes: *writes,
                },
            )
        }
        Plan::Merged { prune, merge } => {
            let shards = evaluation.prune(prune)?;
            let (limit, offset) = match merge {
                Merge::Sorted { limit, offset, .. } | Merge::Limited { limit, offset, .. } => {
                    (limit.as_ref(), offset.as_ref())
                }
                Merge::Combined { .. } => (None, None),
            };
            let limit = evaluation.count(limit, "LIMIT", "2201W")?;
            let offset = evaluation
                .count(offset, "OFFSET", "2201X")?
                .unwrap_or_default();
            let all = shards.clone();
            several(
                &shards,
                params,
                Route::Merge {
                    shards: all,
                    merge,
                    limit,
                    offset,
                },
            )
        }
        Plan::Pulled(pulled) => evaluation.pulled(pulled),
        Plan::All if names_moment(params) => several(&Shards::new(), params, Route::All),
        Plan::All => Ok(Route::All),
        Plan::Insert(split) => super::insert::route(split, &evaluation),
        Plan::Dealt(dealt) => {
            let source = Box::new(route(statement, &dealt.source, params)?);
            let deal = &dealt.deal;
            let all = statement.placement.all();
            several(&all, params, Route::Deal { source, deal })
        }
        Plan::Move(moved) => {
            let (from, to) = moved.ends(&evaluation)?;
            several(&[from, to].into(), params, Route::Move { from, to, moved })
        }
        Plan::CopyIn(copy) => Ok(match copy.target {
            CopyTarget::One(shard) => Route::One(shard),
            _ => Route::CopyIn(copy),
        }),
        Plan::Refused(refusal) => Err(refusal.clone()),
    }
}

/// The shards that a part of a statement concerns.
pub(super) fn shards(statement: &Statement, prune: &Prune, params: &Params<'_>) -> Result<Shards> {
    Evaluation { statement, params }.both(&prune.0)
}
