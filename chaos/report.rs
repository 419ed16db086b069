//! What came of a run of failovers.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgherd_sandbox::{Error, Replication};

use crate::checks::errors::{Errors, Resolution};
use crate::checks::ledger::Account;
use crate::checks::{Check, Wrong, conclude};
use crate::crowd::{CLIENTS, DIRECT, KINDS, RESOLVED};
use crate::history::History;

pub(crate) mod pauses;

use pauses::Pauses;

/// The head of a table of several runs, behind the name of the run; [`Report::row`] is a line of it. The times are milliseconds.
pub const COLUMNS: &str = "| n | operations | writes acknowledged | lost | direct clients lost | doubled | outcome unknown | idle clients cut | \
     to an old primary | new primary → first write: p50 | p99 | max | direct: p50 | p99 | max | errors that clients were told |\n\
     |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// What came of a run; shown, it is Markdown.
#[derive(Clone, Debug)]
pub struct Report {
    /// What cannot be, or must not be in this mode.
    pub faults: Vec<Wrong>,
    /// Where the history is, if there were faults.
    pub history: Option<PathBuf>,
    /// How many operations clients of all kinds have ended.
    pub operations: u64,
    pub(crate) took: Duration,
    pub(crate) errors: Vec<(&'static str, String, u64)>,
    /// How many appends were acknowledged, and how many of those are lost.
    pub(crate) appends: (usize, usize),
    /// How many answers about identity and session were right.
    pub(crate) answers: u64,
    /// How many clients have looked later at what they had written, and were answered by another server.
    pub(crate) elsewhere: usize,
    /// How many idle clients there were, and how many were cut.
    pub(crate) idle: (usize, usize),
    /// What else there is to say in the first sentence.
    pub(crate) remark: String,
    title: Title,
    rows: Vec<Row>,
    losses: usize,
    failovers: usize,
    stale: usize,
    scenes: Vec<Scene>,
    promotions: Pauses,
    first: Pauses,
    first_directly: Pauses,
    /// Of the first ones those where it was not the servers that had everybody wait.
    own: Pauses,
    each: Pauses,
    each_directly: Pauses,
    /// When servers may have lost what they had acknowledged.
    losing: Vec<(Instant, Instant)>,
    /// Pauses that are too long for any machine.
    slow: Vec<Wrong>,
}

/// How short pauses have to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As short as is promised: a release build is measured, on a machine that nobody else uses.
    Promised,
    /// Of an order that shows that nothing hangs, whatever the build and the machine.
    #[default]
    Loose,
}

/// How long half of the pauses may be at most, from a new primary's first answer to the first write there.
const HALF: Duration = Duration::from_millis(100);

/// How long 99 of a hundred may be.
const MOST: Duration = Duration::from_millis(250);

/// So many failovers are measured before anything is said of that.
const ENOUGH: usize = 20;

/// How much longer than directly it may take where nothing is known of the machine.
const LOOSE: Duration = Duration::from_secs(10);

/// How long before a fault what a server acknowledges may be lost with it. Replicas without load are some milliseconds behind.
const BEHIND: Duration = Duration::from_secs(1);

/// How long behind its end clients may take to see what was acknowledged before.
const LATE: Duration = Duration::from_millis(200);

/// What was run.
#[derive(Clone, Debug)]
pub(crate) struct Title {
    /// Who was tested.
    pub(crate) way: &'static str,
    pub(crate) replication: Replication,
    pub(crate) seed: u64,
}

/// All times that one fault befell the primary.
#[derive(Clone, Debug)]
struct Scene {
    fault: String,
    promotions: Pauses,
    first: Pauses,
    first_directly: Pauses,
}

/// How long clients had to wait for a primary, and then for their first write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    /// From the fault to the moment at which there was a primary for them; `None` if it was the same.
    pub(crate) promotion: Option<Duration>,
    /// From there to the first write of those who went through what was tested.
    pub(crate) through: Duration,
    /// And of those who went directly.
    pub(crate) directly: Duration,
}

/// A ledger beside its table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) account: Account,
}

impl Report {
    pub(crate) fn new(title: Title) -> Self {
        Self {
            faults: Vec::new(),
            history: None,
            operations: 0,
            took: Duration::ZERO,
            errors: Vec::new(),
            appends: (0, 0),
            answers: 0,
            elsewhere: 0,
            idle: (0, 0),
            remark: String::new(),
            title,
            rows: Vec::new(),
            losses: 0,
            failovers: 0,
            stale: 0,
            scenes: Vec::new(),
            promotions: Pauses::default(),
            first: Pauses::default(),
            first_directly: Pauses::default(),
            own: Pauses::default(),
            each: Pauses::default(),
            each_directly: Pauses::default(),
            losing: Vec::new(),
            slow: Vec::new(),
        }
    }

    /// How many failovers there were.
    pub fn failovers(&self) -> usize {
        self.failovers
    }

    /// How many acknowledged inserts and movements of money are lost, of clients that went through
    /// what was tested.
    pub fn lost(&self) -> usize {
        let rows = self.rows.iter().filter(|row| row.name != DIRECT);
        rows.map(|row| row.account.lost.len()).sum::<usize>() + self.appends.1
    }

    /// The longest time from the moment at which a new primary took writes to the first write that
    /// went through what was tested.
    pub fn longest_pause(&self) -> Duration {
        self.first.percentile(100).unwrap_or_default()
    }

    /// Enters that clients write again after a fault.
    pub(crate) fn resumed(&mut self, fault: &impl fmt::Display, pause: Pause) {
        if let Some(promotion) = pause.promotion {
            self.failovers += 1;
            self.promotions.add(promotion);
            self.first.add(pause.through);
            self.first_directly.add(pause.directly);
            if pause.directly <= MOST {
                self.own.add(pause.through);
            }
        }
        let fault = fault.to_string();
        if pause.promotion.is_some() && pause.through > pause.directly + LOOSE {
            let what = format!(
                "after {fault} it took {:.1?} until something was written, and {:.1?} directly",
                pause.through, pause.directly
            );
            self.slow.push(Check::Pause.caught(what));
        }
        let known = self.scenes.iter().position(|scene| scene.fault == fault);
        let known = known.unwrap_or_else(|| {
            self.scenes.push(Scene {
                fault,
                promotions: Pauses::default(),
                first: Pauses::default(),
                first_directly: Pauses::default(),
            });
            self.scenes.len() - 1
        });
        let scene = &mut self.scenes[known];
        if let Some(promotion) = pause.promotion {
            scene.promotions.add(promotion);
        }
        scene.first.add(pause.through);
        scene.first_directly.add(pause.directly);
    }

    pub(crate) fn each(&mut self, pause: Duration) {
        self.each.add(pause);
    }

    pub(crate) fn each_directly(&mut self, pause: Duration) {
        self.each_directly.add(pause);
    }

    /// What was written to an old primary behind the first write to the new one.
    pub(crate) fn stale(&mut self, fault: &impl fmt::Display, rows: &[String]) {
        self.stale += rows.len();
        if !rows.is_empty() {
            let rows = rows.join(" ");
            let what = format!("after {fault} the old primary was given {rows}");
            self.faults.push(Check::OldPrimary.caught(what));
        }
    }

    /// Enters what is not as it was acknowledged at these moments. A synchronous primary must lose nothing, an asynchronous one
    /// what it acknowledged when it was about to be lost itself; anything else was lost by whoever stands before it. For direct
    /// clients that shows that these moments are the right ones. Of what has no moment nothing can be said.
    pub(crate) fn lossy(&mut self, what: impl IntoIterator<Item = (Option<Instant>, Wrong)>) {
        for (moment, wrong) in what {
            self.losses += 1;
            let by_servers = |at: Instant| {
                let mut losing = self.losing.iter();
                losing.any(|(from, until)| (*from..=*until).contains(&at))
            };
            if self.title.replication == Replication::Synchronous {
                self.faults.push(wrong);
            } else if moment.is_some_and(|at| !by_servers(at)) {
                let what = format!("{}, and no server has lost it", wrong.what);
                self.faults.push(wrong.check.caught(what));
            }
        }
    }

    /// Enters the errors that clients were told, of which some must not be where only right ones are, and then how they
    /// resolve commits is said, and with which errors servers may refuse what is written.
    pub(crate) fn told(&mut self, errors: &Errors, right: Option<Resolution>, refusals: &[&str]) {
        self.errors = errors.counts();
        if let Some(resolution) = right {
            let forbidden = errors.forbidden(&KINDS, resolution, refusals);
            self.faults.extend(forbidden);
            let faults: usize = self.scenes.iter().map(|scene| scene.first.len()).sum();
            self.faults.extend(errors.beyond(&CLIENTS, faults));
            if resolution == Resolution::On {
                self.faults.extend(errors.unresolved(&RESOLVED));
            }
        }
    }

    /// Whether any client that went through what was tested was told this error.
    pub(crate) fn has_told(&self, code: &str) -> bool {
        let mut errors = self.errors.iter();
        errors.any(|(workload, told, _)| *workload != DIRECT && told == code)
    }

    /// Enters pauses that are too long.
    pub(crate) fn paced(&mut self, pace: Pace) {
        self.faults.append(&mut self.slow);
        if pace == Pace::Loose || self.failovers < ENOUGH {
            return;
        }
        let limits = [
            (&self.first, 50, HALF, "half of the failovers"),
            (
                &self.own,
                99,
                MOST,
                "99 of a hundred failovers that direct clients did not wait for longer",
            ),
        ];
        if self.own.len() * 2 < self.failovers {
            let what = "direct clients mostly waited for longer than what is promised here";
            self.faults.push(Check::Work.caught(what.to_owned()));
        }
        for (pauses, percent, limit, which) in limits {
            let found = pauses.percentile(percent).unwrap_or_default();
            if found > limit {
                let what = format!(
                    "behind {which} it took up to {found:.0?} until something was written: more than {limit:?}"
                );
                self.faults.push(Check::Pause.caught(what));
            }
        }
    }

    /// What servers acknowledged between these moments they may lose.
    pub(crate) fn losing(&mut self, from: Instant, until: Instant) {
        let from = from.checked_sub(BEHIND).unwrap_or(from);
        self.losing.push((from, until + LATE));
    }

    /// Keeps the history, with what was logged, if anything was wrong; else removes it.
    ///
    /// # Errors
    /// [`Error::Io`] if it can be neither.
    pub(crate) fn close(
        &mut self,
        history: &History,
        log: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Io { what, source }
        };
        if self.faults.is_empty() {
            return history.discard().map_err(failed("remove the history"));
        }
        for line in log() {
            history.note("pgherd", line);
        }
        let kept = history.keep().map_err(failed("write the history"))?;
        self.history = Some(kept.to_owned());
        Ok(())
    }

    /// Enters a ledger beside its table, and when what is lost was acknowledged.
    pub(crate) fn account(&mut self, row: Row, moment: impl Fn(i64) -> Option<Instant>) {
        let faults = row.account.faults().into_iter();
        let name = row.name;
        let of_row = |wrong: Wrong| wrong.check.caught(format!("{name}: {}", wrong.what));
        self.faults.extend(faults.map(of_row));
        let lost = row.account.lost.iter();
        let lost = lost.map(|id| {
            let wrong = Check::Lost.caught(format!("{name}: {id} is lost"));
            (moment(*id), wrong)
        });
        self.lossy(lost);
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replication = match self.title.replication {
            Replication::Synchronous => "synchronous",
            Replication::Asynchronous => "asynchronous",
        };
        writeln!(
            f,
            "{} failovers through {}, {replication} replication, seed {}: {} operations in {:.0} s{}\n",
            self.failovers,
            self.title.way,
            self.title.seed,
            self.operations,
            self.took.as_secs_f64(),
            self.remark,
        )?;
        self.writes(f)?;
        self.pauses(f)?;
        self.scenes(f)?;
        self.errors(f)?;
        self.wrong(f)
    }
}

impl Report {
    /// Its line in a table of several runs, whose head is [`COLUMNS`], behind the name of the run.
    pub fn row(&self) -> String {
        let rows: Vec<&Account> = self
            .rows
            .iter()
            .filter(|row| row.name != DIRECT)
            .map(|row| &row.account)
            .collect();
        let sum = |count: fn(&Account) -> usize| rows.iter().map(|it| count(it)).sum::<usize>();
        let (appended, appends_lost) = self.appends;
        let (idle, cut) = self.idle;
        let cells = |pauses: &Pauses| {
            [50, 99, 100]
                .map(|percent| pauses.cell(percent))
                .join(" | ")
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {cut} of {idle} | {} | {} | {} | {} |\n",
            self.failovers,
            self.operations,
            sum(|it| it.acknowledged) + appended,
            sum(|it| it.lost.len()) + appends_lost,
            self.lost_directly(),
            sum(|it| it.doubled.len()),
            sum(|it| it.unknown),
            self.stale,
            cells(&self.first),
            cells(&self.first_directly),
            self.told_in_all(),
        )
    }

    /// What direct clients were acknowledged and have lost, of how much.
    fn lost_directly(&self) -> String {
        let direct = self.rows.iter().find(|row| row.name == DIRECT);
        direct.map_or_else(String::new, |row| {
            let account = &row.account;
            format!("{} of {}", account.lost.len(), account.acknowledged)
        })
    }

    /// How often which error was told to those who went through what was tested.
    fn told_in_all(&self) -> String {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (workload, code, count) in &self.errors {
            if *workload != DIRECT {
                *counts.entry(code).or_default() += count;
            }
        }
        let words = counts
            .iter()
            .map(|(code, count)| format!("{code}: {count}"));
        let words: Vec<String> = words.collect();
        words.join(", ")
    }

    fn writes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| writes | acknowledged | lost | doubled | failed | of these there | unknown | of these there |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        for Row { name, account } in &self.rows {
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                account.acknowledged,
                account.lost.len(),
                account.doubled.len(),
                account.failed,
                account.undead.len(),
                account.unknown,
                account.unknown_there,
            )?;
        }
        let (acknowledged, lost) = self.appends;
        writeln!(f, "| lists | {acknowledged} | {lost} | | | | | |")?;
        let (idle, cut) = self.idle;
        writeln!(
            f,
            "\n{} answers about identity and session were right; {cut} of {idle} idle clients were cut; \
             {} writes reached an old primary; {} signs of loss\n",
            self.answers, self.stale, self.losses,
        )
    }

    fn pauses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| milliseconds | n | p50 | p99 | max |\n|---|---|---|---|---|"
        )?;
        for (name, pauses) in [
            ("from the fault to a new primary", &self.promotions),
            ("from there to the first write", &self.first),
            ("the same, direct", &self.first_directly),
            ("to each client's first write", &self.each),
            ("the same, direct", &self.each_directly),
        ] {
            writeln!(f, "| {name} | {} |", pauses.cells())?;
        }
        Ok(())
    }

    /// A line for each fault.
    fn scenes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| fault, milliseconds | n | to a new primary: p50 | max | to the first write: p50 | max | direct: p50 | max |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        for scene in &self.scenes {
            let [promotions, first, directly] =
                [&scene.promotions, &scene.first, &scene.first_directly].map(Pauses::short);
            writeln!(
                f,
                "| {} | {} | {promotions} | {first} | {directly} |",
                scene.fault,
                scene.first.len(),
            )?;
        }
        Ok(())
    }

    /// Errors, a line for each workload.
    fn errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| clients | were told |\n|---|---|")?;
        let mut lines: Vec<(&str, String)> = Vec::new();
        for (workload, code, count) in &self.errors {
            match lines.last_mut() {
                Some((known, line)) if known == workload => write!(line, ", {code} {count} times")?,
                _ => lines.push((workload, format!("{code} {count} times"))),
            }
        }
        for (workload, line) in lines {
            writeln!(f, "| {workload} | {line} |")?;
        }
        Ok(())
    }

    fn wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        conclude(f, &self.faults)?;
        if let Some(path) = &self.history {
            writeln!(f, "\nThe history is in {}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Check, Duration, Instant, Pace, Pause, Replication, Report, Row, Title};

    fn report() -> Report {
        Report::new(Title {
            way: "pgherd",
            replication: Replication::Asynchronous,
            seed: 7,
        })
    }

    fn pause(through: u64, directly: u64) -> Pause {
        Pause {
            promotion: Some(Duration::from_secs(1)),
            through: Duration::from_millis(through),
            directly: Duration::from_millis(directly),
        }
    }

    /// How many faults such pauses are.
    fn faults(pace: Pace, pauses: &[(u64, u64)]) -> usize {
        let mut report = report();
        for (through, directly) in pauses {
            report.resumed(&"kill", pause(*through, *directly));
        }
        report.paced(pace);
        assert!(
            report
                .faults
                .iter()
                .all(|wrong| wrong.check == Check::Pause)
        );
        report.faults.len()
    }

    #[test]
    fn pauses_are_held_to_what_is_promised_where_that_is_claimed_and_there_are_enough() {
        let (fine, slow, late) = ([(60, 20); 20], [(101, 20); 20], [(251, 20); 1]);
        assert_eq!(faults(Pace::Promised, &fine), 0);
        assert_eq!(faults(Pace::Promised, &slow), 1);
        assert_eq!(faults(Pace::Loose, &slow), 0);
        assert_eq!(faults(Pace::Promised, &slow[1..]), 0);
        let one_late = [&fine[..], &late].concat();
        assert_eq!(faults(Pace::Promised, &one_late), 1);
        // Clients that are told where the primary is had to wait, too.
        let by_server = [&fine[..], &[(7000, 6900)]].concat();
        assert_eq!(faults(Pace::Promised, &by_server), 0);
    }

    #[test]
    fn what_hangs_is_a_fault_on_any_machine() {
        assert_eq!(faults(Pace::Loose, &[(10_500, 400)]), 1);
        assert_eq!(faults(Pace::Loose, &[(10_500, 600)]), 0);
    }

    #[test]
    fn what_is_lost_must_have_been_acknowledged_when_servers_lost_something() {
        let mut report = report();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        report.losing(at(10), at(12));
        report.losing(at(20), at(22));
        let row = Row {
            name: "acked",
            account: Account {
                lost: vec![9, 11, 13, 16, 21, 30],
                ..Account::default()
            },
        };
        // Each was acknowledged in the second of its number, but for one of which nothing is known.
        report.account(row, |id| (id != 30).then(|| at(id as u64)));
        let told: Vec<&str> = report.faults.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "acked: 13 is lost, and no server has lost it",
                "acked: 16 is lost, and no server has lost it"
            ]
        );
        assert_eq!(report.losses, 6);
    }
}
