//! What a check has caught, by the name of the check.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A promise that is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// What was acknowledged is there.
    Lost,
    /// Nothing is there twice.
    Doubled,
    /// What had failed for certain is not there.
    Undead,
    /// Nothing is there that nobody has written.
    Strange,
    /// The money is all there, in every snapshot.
    Balance,
    /// What is over several shards is on all of them or on none, and nothing is left prepared.
    Whole,
    /// One order explains what all transactions saw.
    Order,
    /// Clients find what they have written.
    OwnWrites,
    /// Answers, notices and errors reach whoever has asked.
    Identity,
    /// Who cancels nothing is not cancelled.
    Cancel,
    /// A session is as its client has left it.
    Session,
    /// Each listener hears all of its channels, in order, and of no others.
    Listen,
    /// Only errors that say what has happened.
    Errors,
    /// With commits resolved no outcome is left unknown.
    Unresolved,
    /// Who does nothing is not cut off.
    Idle,
    /// Nothing is written to a primary that was replaced.
    OldPrimary,
    /// Clients go on, in good time.
    Stuck,
    /// Writes go on behind a new primary as soon as is promised.
    Pause,
    /// When all is quiet, nothing is held any more.
    Leak,
    /// A replica that does not answer is read from no more, soon.
    Rotation,
    /// What is answered is what Postgres answers, or an error that may be.
    Answer,
    /// The rows are there that the client was told of.
    Rows,
    /// A session that was told of a loss goes on.
    GoesOn,
    /// The next client finds a session as new.
    NextClient,
    /// Judges do not believe what the truth denies.
    Verdict,
    /// Nothing of an earlier epoch is lent, or lies idle.
    Epoch,
    /// A seed is one run.
    Seed,
    /// Enough has happened to show anything.
    Work,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::Lost,
        Self::Doubled,
        Self::Undead,
        Self::Strange,
        Self::Balance,
        Self::Whole,
        Self::Order,
        Self::OwnWrites,
        Self::Identity,
        Self::Cancel,
        Self::Session,
        Self::Listen,
        Self::Errors,
        Self::Unresolved,
        Self::Idle,
        Self::OldPrimary,
        Self::Stuck,
        Self::Pause,
        Self::Leak,
        Self::Rotation,
        Self::Answer,
        Self::Rows,
        Self::GoesOn,
        Self::NextClient,
        Self::Verdict,
        Self::Epoch,
        Self::Seed,
        Self::Work,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Undead => "undead",
            Self::Strange => "strange",
            Self::Balance => "balance",
            Self::Whole => "whole",
            Self::Order => "order",
            Self::OwnWrites => "own-writes",
            Self::Identity => "identity",
            Self::Cancel => "cancel",
            Self::Session => "session",
            Self::Listen => "listen",
            Self::Errors => "errors",
            Self::Unresolved => "unresolved",
            Self::Idle => "idle",
            Self::OldPrimary => "old-primary",
            Self::Stuck => "stuck",
            Self::Pause => "pause",
            Self::Leak => "leak",
            Self::Rotation => "rotation",
            Self::Answer => "answer",
            Self::Rows => "rows",
            Self::GoesOn => "goes-on",
            Self::NextClient => "next-client",
            Self::Verdict => "verdict",
            Self::Epoch => "epoch",
            Self::Seed => "seed",
            Self::Work => "work",
        }
    }

    /// Something that it has caught.
    pub fn caught(self, what: impl Into<String>) -> Wrong {
        Wrong {
            check: self,
            what: what.into(),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|check| check.name() == text);
        found.ok_or_else(|| format!("{text} is no check"))
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// By which check it was caught.
    pub check: Check,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, what } = self;
        write!(f, "{check}: {what}")
    }
}

/// What begins the line that [`summary`] makes.
const CAUGHT: &str = "caught by: ";

/// More faults than these are counted, and not shown.
const SHOWN: usize = 40;

/// Writes how a report ends: what was wrong, if anything was.
///
/// # Errors
/// Those of the writer.
pub fn conclude(f: &mut fmt::Formatter<'_>, faults: &[Wrong]) -> fmt::Result {
    if faults.is_empty() {
        return writeln!(f, "\nNothing was wrong.");
    }
    writeln!(f, "\n{} faults", faults.len())?;
    writeln!(f, "{}", summary(faults))?;
    for fault in faults.iter().take(SHOWN) {
        writeln!(f, "* {fault:.500}")?;
    }
    Ok(())
}

/// How often which check has caught something, in one line.
pub fn summary<'a>(all: impl IntoIterator<Item = &'a Wrong>) -> String {
    let mut counts: BTreeMap<Check, usize> = BTreeMap::new();
    for wrong in all {
        *counts.entry(wrong.check).or_default() += 1;
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(check, count)| format!("{check} ({count})"))
        .collect();
    format!("{CAUGHT}{}", words.join(", "))
}

/// The checks that are named in such lines of what a scenario has said, each once.
pub fn named(said: &str) -> Vec<Check> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(CAUGHT));
    let words = lines.flat_map(|line| line.split(", "));
    let mut checks: Vec<Check> = words
        .filter_map(|word| word.split_once(" (")?.0.parse().ok())
        .collect();
    checks.sort_unstable();
    checks.dedup();
    checks
}

#[cfg(test)]
mod tests {
    use super::{Check, named, summary};

    #[test]
    fn each_check_is_read_as_it_is_shown() {
        for check in Check::ALL {
            assert_eq!(check.to_string().parse(), Ok(check));
        }
        assert!("luck".parse::<Check>().is_err());
    }

    #[test]
    fn what_was_caught_is_read_from_the_summary() {
        let all = [
            Check::Leak.caught("a"),
            Check::Lost.caught("b"),
            Check::Leak.caught("c"),
        ];
        let line = summary(&all);
        assert_eq!(line, "caught by: lost (1), leak (2)");
        let said = format!("lost: b\n{line}\nand more\n{}", summary(&all[..1]));
        assert_eq!(named(&said), [Check::Lost, Check::Leak]);
        assert!(named("all was well, caught by: nobody").is_empty());
        assert!(named(&summary(&[])).is_empty());
    }
}
