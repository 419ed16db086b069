//! What is certain of columns: which are equal, and which values they may have.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::placement::{KeyType, KeyValue};
use crate::resolve::literal;
use crate::tree::Body;
use crate::tree::{Col, Expr, From, JoinKind, Kind, Occurrence, Query, Rel, Select, Source};

/// A value that a column may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidate {
    Value(KeyValue),
    /// A parameter, with the type that its column gives it where nothing else does, or that a cast makes it.
    Param {
        number: u32,
        column: KeyType,
        cast: bool,
    },
    /// The elements of a parameter that is an array.
    Array {
        number: u32,
        column: KeyType,
        cast: bool,
    },
}

/// How many facts are noted of a statement; what more it says is as if it did not say it.
const MOST: usize = 1 << 17;

/// How many lists of values are heeded of one column.
const MOST_LISTS: usize = 64;

/// Something that holds for every row that counts. It is not to be copied: a text may say very many, and nest deeply.
#[derive(Debug, PartialEq)]
pub(crate) enum Fact {
    Same(Col, Col),
    /// None of them is no value at all: no row counts.
    OneOf(Col, Arc<[Candidate]>),
}

impl Fact {
    fn is_of(&self, rel: Rel) -> bool {
        match self {
            Self::Same(one, two) => one.rel == rel || two.rel == rel,
            Self::OneOf(col, _) => col.rel == rel,
        }
    }
}

/// What is said at one place.
#[derive(Default)]
pub(super) struct Said<'a> {
    facts: Vec<Fact>,
    /// The levels all of whose facts are among these.
    levels: Vec<&'a Select>,
}

/// What is known at a place: what is known further out, and what is said there.
#[derive(Clone, Copy)]
pub(crate) struct Known<'k> {
    outer: Option<&'k Self>,
    own: &'k [Fact],
    levels: &'k [&'k Select],
    /// Of this occurrence's columns, nothing counts that is known further out.
    hides: Option<Rel>,
}

impl<'k> Known<'k> {
    pub(crate) const NOTHING: Self = Self {
        outer: None,
        own: &[],
        levels: &[],
        hides: None,
    };

    /// What is said somewhere, and nothing else.
    pub(super) fn only(said: &'k Said<'_>) -> Self {
        Self {
            own: &said.facts,
            levels: &said.levels,
            ..Self::NOTHING
        }
    }

    pub(super) fn and<'s>(&'s self, said: &'s Said<'_>) -> Known<'s> {
        Known {
            outer: Some(self),
            ..Known::only(said)
        }
    }

    /// The same without what is of the columns of an occurrence.
    pub(super) fn without<'s>(&'s self, rel: Rel) -> Known<'s> {
        Known {
            outer: Some(self),
            hides: Some(rel),
            ..Known::NOTHING
        }
    }

    /// Whether all that a level says is known already.
    pub(super) fn has(&self, level: &Select) -> bool {
        let mut at = Some(self);
        while let Some(known) = at {
            if known.levels.iter().any(|it| std::ptr::eq(*it, level)) {
                return true;
            }
            at = known.outer;
        }
        false
    }

    fn each(&self, visit: &mut dyn FnMut(&Fact)) {
        let mut hidden: Vec<Rel> = Vec::new();
        let mut at = Some(self);
        while let Some(known) = at {
            let is_hidden = |fact: &Fact| hidden.iter().any(|rel| fact.is_of(*rel));
            for fact in known.own.iter().filter(|fact| !is_hidden(fact)) {
                visit(fact);
            }
            hidden.extend(known.hides);
            at = known.outer;
        }
    }
}

/// Whether equal values of two types are one value, and of which type it is makes no difference.
fn comparable(one: KeyType, two: KeyType) -> bool {
    let number = |kind: KeyType| kind.is_int() || kind == KeyType::Numeric;
    one == two || number(one) && number(two)
}

/// The type of a parameter that is compared with a column: its own, or that of a cast, if what it is equal to can be told.
fn compared(column: KeyType, cast: Option<u32>) -> Option<KeyType> {
    match cast {
        None => Some(column),
        Some(cast) => KeyType::of(cast).filter(|kind| comparable(*kind, column)),
    }
}

pub(crate) struct Facts<'a> {
    relations: &'a [Occurrence],
    /// How many were noted.
    noted: Cell<usize>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(relations: &'a [Occurrence]) -> Self {
        Self {
            relations,
            noted: Cell::new(0),
        }
    }

    #[cfg(test)]
    pub(crate) fn noted(&self) -> usize {
        self.noted.get()
    }

    fn note(&self, said: &mut Said<'_>, fact: Option<Fact>) {
        if let Some(fact) = fact.filter(|_| self.noted.get() < MOST) {
            self.noted.set(self.noted.get() + 1);
            said.facts.push(fact);
        }
    }

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
    pub(super) fn of(&self, expr: &Expr, said: &mut Said<'_>) {
        match expr {
            Expr::And(parts) => parts.iter().for_each(|part| self.of(part, said)),
            Expr::Equal(left, right) => match (&**left, &**right) {
                (Expr::Col(one), Expr::Col(two)) => self.equal(*one, *two, said),
                (Expr::Col(col), value) | (value, Expr::Col(col)) => {
                    self.note(said, self.one_of(*col, std::slice::from_ref(value)));
                }
                _ => {}
            },
            Expr::OneOf(left, list) => {
                if let Expr::Col(col) = &**left {
                    self.note(said, self.one_of(*col, list));
                }
            }
            Expr::AnyOf(left, number, cast) => {
                if let Expr::Col(col) = &**left
                    && let Some(column) = self.kind(*col).key()
                    && let Some(column) = compared(column, *cast)
                {
                    let (number, cast) = (*number, cast.is_some());
                    let list = [Candidate::Array {
                        number,
                        column,
                        cast,
                    }];
                    self.note(said, Some(Fact::OneOf(*col, list.into())));
                }
            }
            _ => {}
        }
    }

    /// Two columns that an equality makes one.
    pub(super) fn equal(&self, one: Col, two: Col, said: &mut Said<'_>) {
        if let (Some(left), Some(right)) = (self.kind(one).key(), self.kind(two).key())
            && comparable(left, right)
        {
            self.note(said, Some(Fact::Same(one, two)));
        }
    }

    fn one_of(&self, col: Col, list: &[Expr]) -> Option<Fact> {
        let column = self.kind(col).key()?;
        let mut found = Vec::new();
        for item in list {
            match item {
                Expr::Const(constant) => {
                    found.extend(literal::value(constant, column)?.map(Candidate::Value));
                }
                Expr::Param(number, cast) => found.push(Candidate::Param {
                    number: *number,
                    column: compared(column, *cast)?,
                    cast: cast.is_some(),
                }),
                _ => return None,
            }
        }
        Some(Fact::OneOf(col, found.into()))
    }

    /// What holds for all rows of FROM, whatever else is asked of them.
    pub(super) fn hoist(&self, from: &'a From, said: &mut Said<'a>) {
        match from {
            From::Rel(rel) => {
                if let Some(Occurrence {
                    source: Source::Query(query),
                    ..
                }) = self.relations.get(rel.0)
                {
                    self.exported(*rel, query, said);
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
                    on.iter().for_each(|part| self.of(part, said));
                    self.hoist(left, said);
                    self.hoist(right, said);
                }
                JoinKind::Left => self.hoist(left, said),
                JoinKind::Right => self.hoist(right, said),
                JoinKind::Full => {}
            },
        }
    }

    /// All that a level says of its rows.
    pub(super) fn level(&self, select: &'a Select, said: &mut Said<'a>) {
        said.levels.push(select);
        select.filter.iter().for_each(|part| self.of(part, said));
        select.from.iter().for_each(|from| self.hoist(from, said));
    }

    /// What a query in FROM says of its rows, and which of its columns are those of its tables.
    fn exported(&self, rel: Rel, query: &'a Query, said: &mut Said<'a>) {
        let Body::Select(select) = &query.body else {
            return;
        };
        // Without GROUP BY, aggregates give a row also where nothing fulfils what is said of the rows.
        let always = select.aggregates && select.group.is_empty();
        if select.grouping_sets || always {
            return;
        }
        self.level(select, said);
        for (at, target) in select.targets.iter().enumerate() {
            if let Expr::Col(col) = target {
                self.equal(Col { rel, at }, *col, said);
            }
        }
    }
}

/// The columns that are equal to one of these.
pub(super) fn closure(start: impl IntoIterator<Item = Col>, known: &Known<'_>) -> BTreeSet<Col> {
    let mut pairs: Vec<(Col, Col)> = Vec::new();
    known.each(&mut |fact| {
        if let Fact::Same(one, two) = fact {
            pairs.extend([(*one, *two), (*two, *one)]);
        }
    });
    pairs.sort_unstable();
    let mut found: BTreeSet<Col> = start.into_iter().collect();
    let mut next: Vec<Col> = found.iter().copied().collect();
    while let Some(col) = next.pop() {
        let first = pairs.partition_point(|(one, _)| *one < col);
        let equal = pairs[first..].iter().take_while(|(one, _)| *one == col);
        next.extend(equal.map(|(_, two)| *two).filter(|two| found.insert(*two)));
    }
    found
}

/// All that is said of the values of some equal columns; one list is as good as another.
pub(super) fn candidates(columns: &BTreeSet<Col>, known: &Known<'_>) -> Vec<Arc<[Candidate]>> {
    let mut found: Vec<Arc<[Candidate]>> = Vec::new();
    known.each(&mut |fact| {
        if let Fact::OneOf(col, list) = fact
            && columns.contains(col)
            && found.len() < MOST_LISTS
            && !found.contains(list)
        {
            found.push(Arc::clone(list));
        }
    });
    found
}
