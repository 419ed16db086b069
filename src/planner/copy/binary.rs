//! Rows in the binary format: a count of fields, and each with its length before it.

use super::field::Field;
use super::{Lines, Parts, Run, Splitter, Stop, To, Whither};
use crate::refusal::Refusal;

/// The signature; two numbers of four bytes follow it, the second of which says how much else does before the rows.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

const ROW: Lines = Lines { usual: 1, first: 1 };

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// What stands before the rows.
    Head,
    /// The count of a row's fields.
    Count,
    /// The length of a field.
    Length,
    /// A field of so many bytes.
    Value(usize),
    /// Nothing: the rows have ended.
    Behind,
}

impl Splitter {
    pub(super) fn tuples<P: Parts>(
        &mut self,
        run: &mut Run<'_, P>,
        ends: bool,
    ) -> Result<(), Stop> {
        let here = run.here;
        loop {
            let rest = &here[self.at..];
            let more = match self.stage {
                Stage::Head => self.head(run)?,
                Stage::Count => self.count(run, rest)?,
                Stage::Length => self.length(run, rest)?,
                Stage::Value(length) => self.value(rest, length)?,
                Stage::Behind if rest.is_empty() => false,
                Stage::Behind => {
                    return Err(self.stop(run, here.len(), "there is data behind its end"));
                }
            };
            if self.field == self.columns && self.stage == Stage::Length {
                self.stage = Stage::Count;
                self.end_row(run, self.at, ROW)?;
                continue;
            }
            if !more {
                break;
            }
        }
        let whole = match self.stage {
            Stage::Count => self.at == here.len() && !self.partly && run.upto == self.at,
            stage => stage == Stage::Behind,
        };
        if ends && self.stage == Stage::Head {
            self.whither = Whither::There(To::All);
        }
        match ends && !whole {
            true => Err(self.stop(run, here.len(), "the data ends within a row")),
            false => Ok(()),
        }
    }

    /// What stands before the rows goes everywhere.
    fn head<P: Parts>(&mut self, run: &mut Run<'_, P>) -> Result<bool, Stop> {
        let here = run.here;
        let known = here.len().min(SIGNATURE.len());
        if here[..known] != SIGNATURE[..known] {
            self.whither = Whither::There(To::All);
            return Err(self.stop(run, here.len(), "the signature of its format is missing"));
        }
        let Some([a, b, c, d]) = here.get(SIGNATURE.len() + 4..SIGNATURE.len() + 8) else {
            return Ok(false);
        };
        let more = i32::from_be_bytes([*a, *b, *c, *d]);
        let Ok(more) = usize::try_from(more) else {
            self.whither = Whither::There(To::All);
            return Err(self.stop(run, SIGNATURE.len() + 8, "its header has a wrong length"));
        };
        let length = SIGNATURE.len() + 8 + more;
        if here.len() < length {
            return Ok(false);
        }
        self.at = length;
        self.begins = length;
        run.give(To::All, length);
        self.stage = Stage::Count;
        Ok(true)
    }

    fn count<P: Parts>(&mut self, run: &mut Run<'_, P>, rest: &[u8]) -> Result<bool, Stop> {
        let [a, b, ..] = *rest else {
            return Ok(false);
        };
        let count = i16::from_be_bytes([a, b]);
        self.at += 2;
        if count == -1 {
            run.give(To::All, self.at);
            self.stage = Stage::Behind;
            return Ok(true);
        }
        if usize::try_from(count) != Ok(self.columns) {
            return Err(self.stop(run, self.at, "a row has another number of columns"));
        }
        self.stage = Stage::Length;
        Ok(true)
    }

    fn length<P: Parts>(&mut self, run: &mut Run<'_, P>, rest: &[u8]) -> Result<bool, Stop> {
        let [a, b, c, d, ..] = *rest else {
            return Ok(false);
        };
        self.at += 4;
        match i32::from_be_bytes([a, b, c, d]) {
            -1 => self.take_field(Field::Binary(None))?,
            length => match usize::try_from(length) {
                Ok(length) => self.stage = Stage::Value(length),
                Err(_) => return Err(self.stop(run, self.at, "a field has a wrong length")),
            },
        }
        Ok(true)
    }

    fn value(&mut self, rest: &[u8], length: usize) -> Result<bool, Stop> {
        if !matches!(self.whither, Whither::Unknown) {
            // It only has to go by.
            let passed = length.min(rest.len());
            self.at += passed;
            self.stage = Stage::Value(length - passed);
            if passed < length {
                return Ok(false);
            }
            self.field += 1;
            self.stage = Stage::Length;
            return Ok(true);
        }
        if length > self.most {
            let reason = "a row is too long before its key";
            return Err(Stop::Refused(Refusal::new("COPY", reason).with("54000")));
        }
        let Some(value) = rest.get(..length) else {
            return Ok(false);
        };
        self.at += length;
        self.stage = Stage::Length;
        self.take_field(Field::Binary(Some(value)))?;
        Ok(true)
    }
}
