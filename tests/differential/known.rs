//! The differences that are known, each with its reason, and how they are told apart from new ones.
//!
//! The list has a paragraph for each reason: its name in brackets, the reason and the promise, and
//! then the places, in the form in which a run prints what it finds:
//!
//! ```text
//! at guc [simple named] show work_mem
//! - what Postgres says
//! + what is heard through pgherd
//! ```
//!
//! A name with a question mark behind it, `[name?]`, is of differences that hang on what others did
//! on the same server before; of those, one must show. A line `like …` stands for all places where
//! all that is only heard through pgherd has that text in it.

use std::collections::BTreeMap;
use std::fmt;

use crate::request::Mode;

/// One statement's answers differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) script: String,
    pub(crate) statement: String,
    /// What only Postgres says.
    pub(crate) direct: Vec<String>,
    /// What is only heard through pgherd.
    pub(crate) through: Vec<String>,
}

/// Differences, and in which modes they are.
pub(crate) type Found = BTreeMap<Difference, Vec<Mode>>;

/// Writes found differences down as the list has them.
pub(crate) struct Listing<'a>(pub(crate) &'a Found);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (difference, modes) in self.0 {
            let modes: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
            let (script, statement) = (&difference.script, &difference.statement);
            writeln!(f, "at {script} [{}] {statement}", modes.join(" "))?;
            for line in &difference.direct {
                writeln!(f, "- {line}")?;
            }
            for line in &difference.through {
                writeln!(f, "+ {line}")?;
            }
        }
        Ok(())
    }
}

/// A paragraph of the list.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) name: String,
    /// Its places show by chance.
    pub(crate) by_chance: bool,
    /// What is heard in places that are not listed one by one.
    pub(crate) like: Vec<String>,
    pub(crate) places: Found,
}

impl Reason {
    /// Whether all that is only heard through pgherd is of its kind.
    fn is_like(&self, difference: &Difference) -> bool {
        let through = &difference.through;
        let is_known = |line: &String| self.like.iter().any(|text| line.contains(text));
        !through.is_empty() && through.iter().all(is_known)
    }
}

/// What was found and is not in the list.
pub(crate) fn unknown(list: &[Reason], found: &Found) -> Found {
    let mut places = Found::new();
    for (difference, modes) in list.iter().flat_map(|reason| &reason.places) {
        places.entry(difference.clone()).or_default().extend(modes);
    }
    let mut new = without(found, &places);
    new.retain(|difference, _| !list.iter().any(|reason| reason.is_like(difference)));
    new
}

/// What is in the list and was not found, by the names of its reasons.
pub(crate) fn gone(list: &[Reason], found: &Found, scripts: &[String]) -> Vec<String> {
    let mut gone = Vec::new();
    for reason in list {
        let mut places = reason.places.clone();
        places.retain(|difference, _| scripts.contains(&difference.script));
        let missing = without(&places, found);
        let none = missing.len() == places.len() && !found.keys().any(|it| reason.is_like(it));
        let unheard = none && !reason.by_chance && !reason.like.is_empty();
        if unheard || !missing.is_empty() && (none || !reason.by_chance) {
            gone.push(format!("[{}]\n{}", reason.name, Listing(&missing)));
        }
    }
    gone
}

/// Reads the list.
///
/// # Panics
/// If it cannot be read: a place without a reason, a reason without a text.
pub(crate) fn list(text: &str) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    let mut place: Option<(Difference, Vec<Mode>)> = None;
    let mut explained = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            take(&mut reasons, place.take());
            let name = name.trim_end_matches(']');
            reasons.push(Reason {
                name: name.trim_end_matches('?').to_owned(),
                by_chance: name.ends_with('?'),
                like: Vec::new(),
                places: Found::new(),
            });
            explained = false;
        } else if let Some(rest) = line.strip_prefix("like ") {
            let reason = reasons.last_mut().expect("a reason is needed");
            reason.like.push(rest.to_owned());
        } else if let Some(rest) = line.strip_prefix("at ") {
            assert!(explained, "a reason is needed: {line}");
            take(&mut reasons, place.replace(at(rest)));
        } else if let Some((difference, _)) = &mut place
            && let Some(rest) = line.strip_prefix("- ")
        {
            difference.direct.push(rest.to_owned());
        } else if let Some((difference, _)) = &mut place
            && let Some(rest) = line.strip_prefix("+ ")
        {
            difference.through.push(rest.to_owned());
        } else {
            explained |= !line.is_empty() && !line.starts_with('#');
            take(&mut reasons, place.take());
        }
    }
    take(&mut reasons, place);
    reasons
}

fn take(reasons: &mut [Reason], place: Option<(Difference, Vec<Mode>)>) {
    if let (Some((difference, modes)), Some(reason)) = (place, reasons.last_mut()) {
        reason.places.entry(difference).or_default().extend(modes);
    }
}

fn at(rest: &str) -> (Difference, Vec<Mode>) {
    let (script, rest) = rest.split_once(" [").expect("modes in brackets");
    let (modes, statement) = rest.split_once("] ").expect("a statement");
    let named = |name: &str| Mode::ALL.into_iter().find(|mode| mode.name() == name);
    let modes = modes.split(' ').map(|name| named(name).expect("a mode"));
    let difference = Difference {
        script: script.to_owned(),
        statement: statement.to_owned(),
        direct: Vec::new(),
        through: Vec::new(),
    };
    (difference, modes.collect())
}

/// What is in `one` and not in `other`.
fn without(one: &Found, other: &Found) -> Found {
    let mut left = Found::new();
    for (difference, modes) in one {
        let known = other.get(difference);
        let new = modes
            .iter()
            .filter(|mode| known.is_none_or(|known| !known.contains(mode)));
        let new: Vec<_> = new.copied().collect();
        if !new.is_empty() {
            left.insert(difference.clone(), new);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::{Found, Listing, gone, list, unknown};

    const TEXT: &str = "\
# A remark.
[one]
Because.

at guc [simple named] show a
- DataRow 1
+ DataRow 2
at guc [whole] show b
+ ParameterStatus a=b
";

    fn read(text: &str) -> Found {
        let mut all = Found::new();
        for reason in list(text) {
            all.extend(reason.places);
        }
        all
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let found = read(TEXT);
        assert_eq!(found.len(), 2);
        let printed = format!("[one]\nBecause.\n{}", Listing(&found));
        assert_eq!(read(&printed), found);
    }

    #[test]
    fn other_modes_and_other_answers_are_new() {
        let known = list(TEXT);
        assert!(unknown(&known, &read(TEXT)).is_empty());
        let more = TEXT.replace("[whole]", "[whole simple]");
        assert_eq!(unknown(&known, &read(&more)).len(), 1);
        assert!(unknown(&list(&more), &read(TEXT)).is_empty());
        let other = TEXT.replace("DataRow 2", "DataRow 3");
        assert_eq!(unknown(&known, &read(&other)).len(), 1);
        let like = list(&TEXT.replace("Because.", "Because.\nlike DataRow"));
        assert!(unknown(&like, &read(&other)).is_empty());
    }

    #[test]
    fn what_is_gone_is_told_unless_it_shows_by_chance() {
        let scripts = ["guc".to_owned()];
        let all = read(TEXT);
        let mut one = all.clone();
        one.pop_first();
        let nothing = Found::new();
        assert_eq!(gone(&list(TEXT), &all, &scripts).len(), 0);
        assert_eq!(gone(&list(TEXT), &one, &scripts).len(), 1);
        let chance = list(&TEXT.replace("[one]", "[one?]"));
        assert_eq!(gone(&chance, &one, &scripts).len(), 0);
        assert_eq!(gone(&chance, &nothing, &scripts).len(), 1);
        assert_eq!(gone(&chance, &nothing, &[]).len(), 0);
        let like = list("[one]\nlike DataRow\nBecause.\n");
        assert_eq!(gone(&like, &all, &scripts).len(), 0);
        assert_eq!(gone(&like, &nothing, &scripts).len(), 1);
    }
}
