//! The rows of a `COPY … FROM` as they come: where each of them begins, ends and goes, read exactly as PostgreSQL does
//! (`copyfromparse.c`), of which each shard reads its rows once more.
//!
//! Bytes are cut anywhere. What is given out are parts of them, unchanged, as soon as it is known where they go: of a row,
//! no more is held than what comes before the last column that is looked at. A row that no server would take, or of which it
//! is not certain how it would be read, goes to one of them, which says so in PostgreSQL's words; nothing is read behind it.

mod binary;
mod field;
mod lines;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::placement::{Group, KeyType, KeyValue, Placement, Shard};
use crate::plan::copy::{Form, Shape};
use crate::plan::{CopyIn, CopyTarget};
use crate::refusal::Refusal;
use binary::Stage;
use lines::Style;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To every shard.
    All,
    /// To this one.
    One(Shard),
}

/// For how many lines a server takes a row, or a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Behind others.
    pub usual: u32,
    /// As the first that it reads, when it does not know yet how lines end.
    pub first: u32,
}

/// What takes the bytes.
pub trait Parts {
    /// Takes the next bytes that go there.
    fn bytes(&mut self, to: To, bytes: &[u8]);
    /// A row has ended there, of which all has been given.
    fn row(&mut self, to: To, lines: Lines);
}

/// Why no more is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The last row is one that a server is sure to refuse, or of which it is not certain where it belongs: if none
    /// refuses it, this is why it is refused.
    Doubt(Refusal),
    /// The row is not stored over shards.
    Refused(Refusal),
}

/// What is looked for in a field.
#[derive(Debug, Clone, Copy, Default)]
struct Interest {
    /// Which column of the key it is.
    key: Option<usize>,
    /// It may name a moment.
    watched: bool,
}

/// Where the present row goes.
#[derive(Debug, Clone)]
enum Whither {
    /// It is not known yet.
    Unknown,
    There(To),
    /// There, and nothing behind it is read.
    Doubtful(To, Refusal),
}

/// Tells rows apart.
#[derive(Debug)]
pub struct Splitter {
    placement: Arc<Placement>,
    group: Option<Group>,
    kinds: Vec<KeyType>,
    modifiers: Vec<i32>,
    form: Form,
    foreign: bool,
    most: usize,
    columns: usize,
    /// What is looked at of the first fields.
    interests: Vec<Interest>,
    /// What has come of the present row, and was not given out.
    held: Vec<u8>,
    /// How much of it has been looked at.
    at: usize,
    /// Some of the present row was given out.
    partly: bool,
    /// A header is still to come.
    header: bool,
    /// The field that is read, and where it begins in what is held.
    field: usize,
    begins: usize,
    keys: Vec<Option<KeyValue>>,
    whither: Whither,
    /// Where the last row went.
    last: Shard,
    /// Nothing more is looked at.
    over: bool,
    style: Style,
    stage: Stage,
}

impl Splitter {
    /// See [`crate::Statement::splitter`].
    pub(crate) fn new(
        copy: &CopyIn,
        placement: &Arc<Placement>,
        foreign: bool,
        most: usize,
    ) -> Self {
        let (group, key) = match &copy.target {
            CopyTarget::ByKey { group, key } => (Some(*group), key.as_slice()),
            CopyTarget::All | CopyTarget::One(_) => (None, &[][..]),
        };
        let places = key.iter().map(|(place, _)| *place);
        let count = places
            .chain(copy.watched.iter().copied())
            .max()
            .map_or(0, |last| last + 1);
        let mut interests = vec![Interest::default(); count];
        for (number, (place, _)) in key.iter().enumerate() {
            interests[*place].key = Some(number);
        }
        for place in &copy.watched {
            interests[*place].watched = true;
        }
        let header = match &copy.form {
            Form::Text(Shape { header, .. }) | Form::Csv(Shape { header, .. }, _) => *header,
            Form::Binary => false,
        };
        Self {
            placement: Arc::clone(placement),
            group,
            kinds: key.iter().map(|(_, kind)| *kind).collect(),
            modifiers: copy.modifiers.clone(),
            style: Style::of(&copy.form),
            form: copy.form.clone(),
            foreign,
            most,
            columns: copy.columns.len(),
            interests,
            held: Vec::new(),
            at: 0,
            partly: false,
            header,
            field: 0,
            begins: 0,
            keys: vec![None; key.len()],
            whither: Whither::Unknown,
            last: Shard(0),
            over: false,
            stage: Stage::Head,
        }
    }

    /// Whether all goes everywhere as it is.
    fn passes(&self) -> bool {
        self.interests.is_empty()
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the last row is not, or may not be, stored. Nothing may be fed any more then.
    pub fn feed(&mut self, data: &[u8], parts: &mut impl Parts) -> Result<(), Stop> {
        if self.over {
            return Ok(());
        }
        if self.passes() {
            parts.bytes(To::All, data);
            return Ok(());
        }
        if self.held.is_empty() {
            let gone = self.read(data, false, parts)?;
            self.held.extend_from_slice(&data[gone..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(data);
            let gone = self.read(&held, false, parts)?;
            held.drain(..gone);
            self.held = held;
        }
        if self.held.len() > self.most {
            let reason = "a row is too long before its key";
            return Err(Stop::Refused(
                Refusal::new("COPY", reason)
                    .with("54000")
                    .hint("Let the key be the first column."),
            ));
        }
        Ok(())
    }

    /// No more comes.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn finish(&mut self, parts: &mut impl Parts) -> Result<(), Stop> {
        if self.over || self.passes() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.read(&held, true, parts).map(drop)
    }

    /// Reads what is here, and answers how much of it is done with.
    fn read(&mut self, here: &[u8], ends: bool, parts: &mut impl Parts) -> Result<usize, Stop> {
        let mut run = Run {
            here,
            parts,
            to: None,
            from: 0,
            upto: 0,
        };
        let done = match self.form {
            Form::Binary => self.tuples(&mut run, ends),
            Form::Text(_) | Form::Csv(..) => self.lines(&mut run, ends),
        };
        if done.is_ok()
            && let Whither::There(to) | Whither::Doubtful(to, _) = self.whither
        {
            // What is not here yet goes the same way.
            self.partly |= self.at > run.upto;
            run.give(to, self.at);
        }
        run.flush();
        let gone = match self.over {
            true => here.len(),
            false => run.upto,
        };
        self.at = self.at.saturating_sub(gone);
        self.begins = self.begins.saturating_sub(gone);
        done.map(|()| gone)
    }

    /// Looks at the field that has come.
    fn take_field(&mut self, field: field::Field<'_>) -> Result<(), Stop> {
        let interest = self.interests.get(self.field).copied();
        self.field += 1;
        if let Some(interest) = interest {
            if interest.watched && field.names_moment(&self.form) {
                let reason =
                    "it may name a moment that each shard would understand by its own clock";
                return Err(Stop::Refused(Refusal::new("COPY", reason)));
            }
            if let Some(number) = interest.key {
                let read = field::Reading {
                    form: &self.form,
                    number,
                    kind: self.kinds[number],
                    modifier: self.modifiers.get(number).copied().unwrap_or(-1),
                    foreign: self.foreign,
                };
                match read.key(field) {
                    Ok(value) => self.keys[number] = Some(value),
                    Err(refusal) => self.doubt(refusal),
                }
            }
        }
        if self.field >= self.interests.len() && matches!(self.whither, Whither::Unknown) {
            self.decide()?;
        }
        Ok(())
    }

    /// Where the row goes, of whose key all has come.
    fn decide(&mut self) -> Result<(), Stop> {
        let Some(group) = self.group else {
            self.whither = Whither::There(To::All);
            return Ok(());
        };
        let mut keys = Vec::with_capacity(self.keys.len());
        keys.extend(self.keys.iter_mut().filter_map(Option::take));
        let shard = self
            .placement
            .shard(group, &keys)
            .map_err(|error| Stop::Refused(Refusal::unplaced("COPY", error, "23514")))?;
        self.whither = Whither::There(To::One(shard));
        Ok(())
    }

    /// The present row is the last that is read, and goes where the one before went.
    fn doubt(&mut self, refusal: Refusal) {
        if let Whither::Doubtful(..) = self.whither {
            return;
        }
        let to = match (&self.whither, self.group) {
            (Whither::There(to), _) => *to,
            (_, Some(_)) => To::One(self.last),
            (_, None) => To::All,
        };
        self.whither = Whither::Doubtful(to, refusal);
    }

    /// Nothing behind this place is read: what is here up to it goes to a server, which will not take it.
    fn stop<P: Parts>(&mut self, run: &mut Run<'_, P>, end: usize, reason: &str) -> Stop {
        self.doubt(Refusal::new("COPY", reason));
        self.over = true;
        match std::mem::replace(&mut self.whither, Whither::Unknown) {
            Whither::Doubtful(to, refusal) => {
                run.give(to, end);
                Stop::Doubt(refusal)
            }
            Whither::There(_) | Whither::Unknown => Stop::Doubt(Refusal::new("COPY", reason)),
        }
    }

    /// The present row ends here, where its bytes do.
    fn end_row<P: Parts>(
        &mut self,
        run: &mut Run<'_, P>,
        end: usize,
        lines: Lines,
    ) -> Result<(), Stop> {
        let whither = std::mem::replace(&mut self.whither, Whither::Unknown);
        let (to, refusal) = match whither {
            Whither::There(to) => (to, None),
            Whither::Doubtful(to, refusal) => (to, Some(refusal)),
            Whither::Unknown => (To::All, None),
        };
        run.give(to, end);
        if let To::One(shard) = to {
            self.last = shard;
        }
        self.field = 0;
        self.begins = end;
        self.partly = false;
        if let Some(refusal) = refusal {
            self.over = true;
            return Err(Stop::Doubt(refusal));
        }
        run.parts.row(to, lines);
        Ok(())
    }
}

/// Bytes that go the same way, one behind the other.
struct Run<'a, P: Parts> {
    here: &'a [u8],
    parts: &'a mut P,
    to: Option<To>,
    from: usize,
    /// So much of what is here has a way.
    upto: usize,
}

impl<P: Parts> Run<'_, P> {
    /// What has no way yet, up to this place, goes there.
    fn give(&mut self, to: To, end: usize) {
        if self.to != Some(to) {
            self.flush();
            self.to = Some(to);
        }
        self.upto = self.upto.max(end);
    }

    fn flush(&mut self) {
        if let Some(to) = self.to.take()
            && self.from < self.upto
        {
            self.parts.bytes(to, &self.here[self.from..self.upto]);
        }
        self.from = self.upto;
    }
}
