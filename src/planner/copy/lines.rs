//! Rows of text and CSV: `CopyReadLineText`.

use memchr::{memchr2, memchr3};

use super::field::Field;
use super::{Lines, Parts, Run, Splitter, Stop, Whither};
use crate::plan::copy::Form;
use crate::refusal::Refusal;

/// So much a server looks at that finds something wrong: the mark of the end, and the end of a line.
const SEEN: usize = 4;

/// How lines end: as the first of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Unknown,
    Lf,
    Cr,
    CrLf,
}

/// What counts in lines, and where in one the reading is.
#[derive(Debug)]
pub(super) struct Style {
    ending: Ending,
    /// What has a meaning in a field that is looked at.
    special: Box<[bool; 256]>,
    delimiter: u8,
    /// None in text.
    quote: Option<u8>,
    /// None if quotes are doubled.
    escape: Option<u8>,
    in_quotes: bool,
    /// The ends of lines in quotes.
    lf: u32,
    cr: u32,
}

/// What comes next.
enum Step {
    /// So many bytes mean nothing.
    On(usize),
    /// A field ends here.
    Field,
    /// A row does, with so many bytes.
    Row(usize),
    /// More must be here to tell.
    Wait,
    /// The data ends.
    End,
    /// No server takes that, for this reason.
    Wrong(&'static str),
}

impl Style {
    pub(super) fn of(form: &Form) -> Self {
        let (delimiter, quote, escape) = match form {
            Form::Text(shape) => (shape.delimiter, None, None),
            Form::Csv(shape, quotes) => {
                let escape = (quotes.escape != quotes.quote).then_some(quotes.escape);
                (shape.delimiter, Some(quotes.quote), escape)
            }
            Form::Binary => (0, None, None),
        };
        let mut special = Box::new([false; 256]);
        for byte in [delimiter, quote.unwrap_or(b'\\'), b'\n', b'\r'] {
            special[usize::from(byte)] = true;
        }
        Self {
            ending: Ending::Unknown,
            special,
            delimiter,
            quote,
            escape,
            in_quotes: false,
            lf: 0,
            cr: 0,
        }
    }

    /// The next byte that may have a meaning. Fields are looked for only where that is asked for.
    fn next(&self, here: &[u8], fields: bool) -> Option<usize> {
        match (self.in_quotes, self.quote, self.escape) {
            (true, Some(quote), None) => memchr3(quote, b'\n', b'\r', here),
            (true, Some(quote), Some(escape)) => {
                let one = memchr2(quote, escape, here);
                let end = one.unwrap_or(here.len());
                memchr2(b'\n', b'\r', &here[..end]).or(one)
            }
            _ if fields => here
                .iter()
                .position(|byte| self.special[usize::from(*byte)]),
            (_, quote, _) => memchr3(quote.unwrap_or(b'\\'), b'\n', b'\r', here),
        }
    }

    /// How many lines the row that ends is, if lines ended so before it.
    fn lines(&mut self, before: Ending) -> Lines {
        let (lf, cr) = (std::mem::take(&mut self.lf), std::mem::take(&mut self.cr));
        Lines {
            usual: 1 + if before == Ending::Lf { lf } else { cr },
            first: 1 + cr,
        }
    }
}

impl Splitter {
    pub(super) fn lines<P: Parts>(&mut self, run: &mut Run<'_, P>, ends: bool) -> Result<(), Stop> {
        let here = run.here;
        while !self.over {
            let looks = !self.header && matches!(self.whither, Whither::Unknown);
            let Some(found) = self.style.next(&here[self.at..], looks) else {
                self.at = here.len();
                break;
            };
            self.at += found;
            let before = self.style.ending;
            match self.step(run, ends) {
                Step::On(count) => self.at += count,
                Step::Field if looks => {
                    let field = Field::Written(&here[self.begins..self.at]);
                    self.at += 1;
                    self.begins = self.at;
                    self.take_field(field)?;
                }
                Step::Field => self.at += 1,
                Step::Row(count) => self.line(run, count, before)?,
                Step::Wait => return Ok(()),
                Step::End => {
                    self.over = true;
                    self.at = run.upto;
                }
                Step::Wrong(reason) => {
                    if !self.partly {
                        // The server that had a line before knows how lines end.
                        self.whither = Whither::Unknown;
                    }
                    return Err(self.stop(run, (self.at + SEEN).min(here.len()), reason));
                }
            }
        }
        if !ends || self.over {
            return Ok(());
        }
        if self.style.in_quotes {
            return Err(self.stop(run, here.len(), "a field in quotes does not end"));
        }
        match self.partly || run.upto < here.len() {
            true => self.line(run, 0, self.style.ending),
            false => Ok(()),
        }
    }

    /// A line ends here, with so many bytes.
    fn line<P: Parts>(
        &mut self,
        run: &mut Run<'_, P>,
        count: usize,
        before: Ending,
    ) -> Result<(), Stop> {
        let (start, end) = (run.upto, self.at);
        let lines = self.style.lines(before);
        if std::mem::take(&mut self.header) {
            self.at += count;
            return self.end_row(run, self.at, lines);
        }
        let is_csv = self.style.quote.is_some();
        if is_csv && !self.partly && run.here[start..end] == *b"\\." {
            let reason =
                "some servers take a line with \\. for the end of CSV, and others for a row";
            return Err(Stop::Refused(Refusal::new("COPY", reason)));
        }
        if matches!(self.whither, Whither::Unknown) {
            self.take_field(Field::Written(&run.here[self.begins..end]))?;
        }
        if matches!(self.whither, Whither::Unknown) {
            self.doubt(Refusal::new("COPY", "a row has too few columns"));
        }
        self.at += count;
        self.end_row(run, self.at, lines)
    }

    /// What the byte means that the reading has come to.
    fn step<P: Parts>(&mut self, run: &Run<'_, P>, ends: bool) -> Step {
        let (byte, next) = (run.here[self.at], run.here.get(self.at + 1).copied());
        let style = &mut self.style;
        if Some(byte) == style.quote {
            style.in_quotes = !style.in_quotes;
            return Step::On(1);
        }
        if style.in_quotes {
            if Some(byte) == style.escape {
                return match next {
                    None if !ends => Step::Wait,
                    Some(next) if next == byte || Some(next) == style.quote => Step::On(2),
                    _ => Step::On(1),
                };
            }
            style.lf += u32::from(byte == b'\n');
            style.cr += u32::from(byte == b'\r');
            return Step::On(1);
        }
        match (byte, style.quote) {
            (b'\n' | b'\r', _) => style.ended(byte, next, ends),
            (b'\\', None) => match next {
                None if !ends => Step::Wait,
                None => Step::Wrong("a backslash is the last byte"),
                // A server looks at the end of the line, too, before it says what is wrong.
                Some(b'.') if !ends && run.here.len() < self.at + SEEN => Step::Wait,
                Some(b'.') if self.partly || run.upto < self.at => {
                    Step::Wrong("the end of the data is marked within a line")
                }
                Some(b'.') => style.marked(&run.here[self.at + 2..], ends),
                Some(_) => Step::On(2),
            },
            (byte, _) if byte == style.delimiter => Step::Field,
            _ => Step::On(1),
        }
    }
}

impl Style {
    /// A line ends with this byte.
    fn ended(&mut self, byte: u8, next: Option<u8>, ends: bool) -> Step {
        const MIXED: &str = "its lines do not all end alike";
        match (byte, self.ending, next) {
            (b'\n', Ending::Unknown | Ending::Lf, _) => {
                self.ending = Ending::Lf;
                Step::Row(1)
            }
            (b'\n', Ending::Cr | Ending::CrLf, _) => Step::Wrong(MIXED),
            (_, Ending::Lf, _) => Step::Wrong(MIXED),
            (_, Ending::Cr, _) => Step::Row(1),
            (_, Ending::Unknown | Ending::CrLf, None) if !ends => Step::Wait,
            (_, Ending::Unknown | Ending::CrLf, Some(b'\n')) => {
                self.ending = Ending::CrLf;
                Step::Row(2)
            }
            (_, Ending::Unknown, _) => {
                self.ending = Ending::Cr;
                Step::Row(1)
            }
            (_, Ending::CrLf, _) => Step::Wrong(MIXED),
        }
    }

    /// The mark of the end stands at the beginning of a line, and this behind it.
    fn marked(&self, behind: &[u8], ends: bool) -> Step {
        match (self.ending, behind) {
            (Ending::Unknown, [b'\n' | b'\r', ..])
            | (Ending::Lf, [b'\n', ..])
            | (Ending::Cr, [b'\r', ..])
            | (Ending::CrLf, [b'\r', b'\n', ..]) => Step::End,
            (_, []) | (Ending::CrLf, [b'\r']) if !ends => Step::Wait,
            _ => Step::Wrong("the mark of the end of the data is not a line of its own"),
        }
    }
}
