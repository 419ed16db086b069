//! What is certain of columns: which are equal, and which values they may have.

use std::collections::BTreeSet;

use crate::placement::{KeyType, KeyValue};
use crate::resolve::literal;
use crate::tree::Body;
use crate::tree::{Col, Expr, From, JoinKind, Kind, Occurrence, Query, Rel, Source};

/// A value that a column may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidate {
    Value(KeyValue),
    /// A parameter, with the type that its column gives it where nothing else does.
    Param {
        number: u32,
        column: KeyType,
    },
    /// The elements of a parameter that is an array.
    Array {
        number: u32,
        column: KeyType,
    },
}

/// Something that holds for every row that counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    Same(Col, Col),
    /// None of them is no value at all: no row counts.
    OneOf(Col, Vec<Candidate>),
}

impl Fact {
    pub(crate) fn is_of(&self, rel: Rel) -> bool {
        match self {
            Self::Same(one, two) => one.rel == rel || two.rel == rel,
            Self::OneOf(col, _) => col.rel == rel,
        }
    }
}

/// Whether equal values of two types are one value, and of which type it is makes no difference.
fn comparable(one: KeyType, two: KeyType) -> bool {
    let number = |kind: KeyType| kind.is_int() || kind == KeyType::Numeric;
    one == two || number(one) && number(two)
}

pub(crate) struct Facts<'a> {
    pub(super) relations: &'a [Occurrence],
}

impl<'a> Facts<'a> {
    pub(crate) fn relations(&self) -> &'a [Occurrence] {
        self.relations
    }

    pub(super) fn kind(&self, col: Col) -> Kind {
        self.relations
            .get(col.rel.0)
            .and_then(|relation| relation.columns.get(col.at))
            .map_or(Kind::UNKNOWN, |column| column.kind)
    }

    /// What a condition says that holds.
    pub(super) fn of(&self, expr: &Expr, facts: &mut Vec<Fact>) {
        match expr {
            Expr::And(parts) => parts.iter().for_each(|part| self.of(part, facts)),
            Expr::Equal(left, right) => match (&**left, &**right) {
                (Expr::Col(one), Expr::Col(two)) => facts.extend(self.same(*one, *two)),
                (Expr::Col(col), value) | (value, Expr::Col(col)) => {
                    facts.extend(self.one_of(*col, std::slice::from_ref(value)));
                }
                _ => {}
            },
            Expr::OneOf(left, list) => {
                if let Expr::Col(col) = &**left {
                    facts.extend(self.one_of(*col, list));
                }
            }
            Expr::AnyOf(left, number) => {
                if let Expr::Col(col) = &**left
                    && let Some(column) = self.kind(*col).key()
                {
                    let number = *number;
                    facts.push(Fact::OneOf(*col, vec![Candidate::Array { number, column }]));
                }
            }
            _ => {}
        }
    }

    /// Two columns that an equality makes one.
    pub(super) fn same(&self, one: Col, two: Col) -> Option<Fact> {
        let kinds = (self.kind(one).key()?, self.kind(two).key()?);
        comparable(kinds.0, kinds.1).then_some(Fact::Same(one, two))
    }

    fn one_of(&self, col: Col, list: &[Expr]) -> Option<Fact> {
        let column = self.kind(col).key()?;
        let mut found = Vec::new();
        for item in list {
            match item {
                Expr::Const(constant) => {
                    found.extend(literal::value(constant, column)?.map(Candidate::Value));
                }
                Expr::Param(number, cast) => {
                    if let Some(cast) = cast
                        && !KeyType::of(*cast).is_some_and(|kind| comparable(kind, column))
                    {
                        return None;
                    }
                    let number = *number;
                    let column = cast.and_then(KeyType::of).unwrap_or(column);
                    found.push(Candidate::Param { number, column });
                }
                _ => return None,
            }
        }
        Some(Fact::OneOf(col, found))
    }

    /// What holds for all rows of FROM, whatever else is asked of them.
    pub(super) fn hoist(&self, from: &From, facts: &mut Vec<Fact>) {
        match from {
            From::Rel(rel) => {
                if let Some(Occurrence {
                    source: Source::Query(query),
                    ..
                }) = self.relations.get(rel.0)
                {
                    self.exported(*rel, query, facts);
                }
            }
            From::Join {
                kind,
                left,
                right,
                on,
                ..
            } => match kind {
                JoinKind::Inner => {
                    on.iter().for_each(|part| self.of(part, facts));
                    self.hoist(left, facts);
                    self.hoist(right, facts);
                }
                JoinKind::Left => self.hoist(left, facts),
                JoinKind::Right => self.hoist(right, facts),
                JoinKind::Full => {}
            },
        }
    }

    /// What a query in FROM says of its rows, and which of its columns are those of its tables.
    fn exported(&self, rel: Rel, query: &Query, facts: &mut Vec<Fact>) {
        let Body::Select(select) = &query.body else {
            return;
        };
        if select.grouping_sets {
            return;
        }
        select.filter.iter().for_each(|part| self.of(part, facts));
        select.from.iter().for_each(|from| self.hoist(from, facts));
        for (at, target) in select.targets.iter().enumerate() {
            if let Expr::Col(col) = target {
                facts.extend(self.same(Col { rel, at }, *col));
            }
        }
    }
}

/// The columns that are equal to one of these.
pub(super) fn closure(start: impl IntoIterator<Item = Col>, facts: &[Fact]) -> BTreeSet<Col> {
    let mut found: BTreeSet<Col> = start.into_iter().collect();
    loop {
        let known = found.len();
        for fact in facts {
            if let Fact::Same(one, two) = fact {
                if found.contains(one) {
                    found.insert(*two);
                } else if found.contains(two) {
                    found.insert(*one);
                }
            }
        }
        if found.len() == known {
            return found;
        }
    }
}

/// All that is said of the values of some equal columns; one list is as good as another.
pub(super) fn candidates(columns: &BTreeSet<Col>, facts: &[Fact]) -> Vec<Vec<Candidate>> {
    let mut found = Vec::new();
    for fact in facts {
        if let Fact::OneOf(col, list) = fact
            && columns.contains(col)
            && !found.contains(list)
        {
            found.push(list.clone());
        }
    }
    found
}
