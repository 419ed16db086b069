//! Every order in which answers, losses, a death of the coordinator and recoveries may come.

use std::collections::HashSet;

use super::{Commit, Heard, Outcome, Step};

/// What a server really has of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Truth {
    Open,
    Prepared,
    Committed,
    Undone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    writes: Vec<bool>,
    truth: Vec<Truth>,
    /// The decider's row.
    row: Option<bool>,
    /// The coordinator, unless it has died.
    coordinator: Option<Commit>,
    /// Steps that it has asked for, and that no server has seen yet.
    sent: Vec<Step>,
    /// Its outcome, once its client may have heard of it.
    told: Option<Outcome>,
    decider: Option<usize>,
    losses: u8,
    deaths: u8,
    /// Somebody has read the row to recover, and will do what it said, however late.
    recoverers: Vec<bool>,
}

impl World {
    fn new(writes: &[bool]) -> Self {
        let (commit, sent) = Commit::new(writes);
        let mut world = Self {
            writes: writes.to_vec(),
            truth: vec![Truth::Open; writes.len()],
            row: None,
            decider: commit.decider(),
            coordinator: Some(commit),
            sent,
            told: None,
            losses: 2,
            deaths: 1,
            recoverers: Vec::new(),
        };
        world.tell();
        world
    }

    fn tell(&mut self) {
        let outcome = self.coordinator.as_ref().and_then(Commit::outcome);
        self.told = self.told.or(outcome);
    }

    /// A server runs a step.
    fn run(&mut self, step: Step) -> Heard {
        let leg = step.leg();
        match (step, self.truth[leg]) {
            (Step::Commit(_), Truth::Open) => self.truth[leg] = Truth::Committed,
            (Step::Prepare(_), Truth::Open) => self.truth[leg] = Truth::Prepared,
            (Step::Decide(_), Truth::Open) if self.row.is_none() => {
                self.row = Some(true);
                self.truth[leg] = Truth::Committed;
            }
            (Step::Decide(_) | Step::Undo(_), Truth::Open) => {
                self.truth[leg] = Truth::Undone;
                if matches!(step, Step::Decide(_)) {
                    return Heard::Refused;
                }
            }
            (Step::Resolve(_), _) => {
                let row = *self.row.get_or_insert(false);
                return if row { Heard::Done } else { Heard::Refused };
            }
            (Step::Finish(_), Truth::Prepared) => self.truth[leg] = Truth::Committed,
            (Step::Revoke(_), Truth::Prepared) => self.truth[leg] = Truth::Undone,
            _ => return Heard::Refused,
        }
        Heard::Done
    }

    fn hear(&mut self, step: Step, heard: Heard) {
        if let Some(commit) = &mut self.coordinator {
            let next = commit.heard(step, heard);
            self.sent.extend(next);
        }
        self.tell();
    }

    /// The connection of a server is gone: what it had open is undone.
    fn cut(&mut self, leg: usize) {
        if self.truth[leg] == Truth::Open {
            self.truth[leg] = Truth::Undone;
        }
    }

    fn next(&self) -> Vec<Self> {
        let mut worlds = Vec::new();
        for (at, step) in self.sent.iter().copied().enumerate() {
            let mut taken = self.clone();
            taken.sent.remove(at);
            let mut done = taken.clone();
            let heard = done.run(step);
            done.hear(step, heard);
            worlds.push(done);
            // It fails there, for a reason of the server's own.
            if !matches!(step, Step::Resolve(_)) {
                let mut failed = taken.clone();
                failed.cut(step.leg());
                failed.hear(step, Heard::Refused);
                worlds.push(failed);
            }
            if self.losses > 0 {
                let mut before = taken.clone();
                before.losses -= 1;
                before.cut(step.leg());
                before.hear(step, Heard::Lost);
                worlds.push(before);
                let mut behind = taken;
                behind.losses -= 1;
                behind.run(step);
                behind.cut(step.leg());
                behind.hear(step, Heard::Lost);
                worlds.push(behind);
            }
        }
        if self.deaths > 0 && self.coordinator.is_some() {
            // What it has sent may still be run, before its connections are found to be gone.
            let mut dead = self.clone();
            dead.deaths -= 1;
            dead.coordinator = None;
            worlds.push(dead);
        }
        if self.coordinator.is_none() {
            for leg in 0..self.truth.len() {
                if self.truth[leg] == Truth::Open && !self.sent.iter().any(|step| step.leg() == leg)
                {
                    let mut cut = self.clone();
                    cut.cut(leg);
                    worlds.push(cut);
                }
            }
            for at in 0..self.sent.len() {
                let mut cut = self.clone();
                let step = cut.sent.remove(at);
                cut.cut(step.leg());
                worlds.push(cut);
            }
        }
        // Somebody finds what is prepared, at any time.
        if self.truth.contains(&Truth::Prepared) && self.recoverers.len() < 2 {
            let mut found = self.clone();
            let row = *found.row.get_or_insert(false);
            found.recoverers.push(row);
            worlds.push(found);
        }
        for (at, commits) in self.recoverers.iter().copied().enumerate() {
            for leg in 0..self.truth.len() {
                if self.truth[leg] == Truth::Prepared {
                    let mut ended = self.clone();
                    ended.truth[leg] = if commits {
                        Truth::Committed
                    } else {
                        Truth::Undone
                    };
                    worlds.push(ended);
                }
            }
            let mut gone = self.clone();
            gone.recoverers.remove(at);
            worlds.push(gone);
        }
        worlds
    }

    fn check(&self) {
        let of = |truth: Truth| {
            let writers = (0..self.truth.len()).filter(|leg| self.writes[*leg]);
            writers.filter(|leg| self.truth[*leg] == truth).count()
        };
        assert!(
            of(Truth::Committed) == 0 || of(Truth::Undone) == 0,
            "half of it is done: {self:?}"
        );
        match self.told {
            Some(Outcome::Committed) => assert_eq!(of(Truth::Undone), 0, "{self:?}"),
            Some(Outcome::Aborted) => assert_eq!(of(Truth::Committed), 0, "{self:?}"),
            Some(Outcome::Unknown) | None => {}
        }
        let over = self.coordinator.as_ref().is_some_and(Commit::is_over);
        if over && self.sent.is_empty() {
            assert!(self.told.is_some(), "nobody is told: {self:?}");
            let left = self
                .coordinator
                .as_ref()
                .is_some_and(Commit::is_left_behind);
            assert!(
                of(Truth::Prepared) == 0 || left,
                "it is forgotten: {self:?}"
            );
        }
    }
}

fn explore(writes: &[bool]) -> usize {
    let mut seen = HashSet::new();
    let mut todo = vec![World::new(writes)];
    while let Some(world) = todo.pop() {
        if seen.contains(&world) {
            continue;
        }
        world.check();
        todo.extend(world.next());
        seen.insert(world);
    }
    seen.len()
}

#[test]
fn whatever_happens_it_is_all_or_nothing() {
    for writes in [
        &[false][..],
        &[true],
        &[false, true],
        &[true, true],
        &[true, false, true],
        &[true, true, true],
    ] {
        let worlds = explore(writes);
        assert!(worlds > writes.len(), "{worlds}");
    }
}

#[test]
fn what_is_decided_by_one_is_said_at_once() {
    let (mut commit, steps) = Commit::new(&[true, false, true]);
    assert_eq!(steps, [Step::Prepare(2)]);
    assert_eq!(commit.heard(steps[0], Heard::Done), [Step::Decide(0)]);
    assert_eq!(
        commit.heard(Step::Decide(0), Heard::Done),
        [Step::Finish(2)]
    );
    assert_eq!(commit.outcome(), Some(Outcome::Committed));
    assert!(!commit.is_over());
    // Who has only read keeps its locks until then.
    assert_eq!(
        commit.heard(Step::Finish(2), Heard::Done),
        [Step::Commit(1)]
    );
    assert!(commit.heard(Step::Commit(1), Heard::Lost).is_empty());
    assert!(commit.is_over() && !commit.is_left_behind());
}

#[test]
fn one_writer_needs_no_more_than_its_commit() {
    let (mut commit, steps) = Commit::new(&[false, true]);
    assert_eq!(steps, [Step::Commit(1)]);
    let mut lost = commit.clone();
    assert!(lost.heard(Step::Commit(1), Heard::Lost).is_empty());
    assert_eq!(lost.outcome(), Some(Outcome::Unknown));
    assert_eq!(
        commit.heard(Step::Commit(1), Heard::Done),
        [Step::Commit(0)]
    );
    commit.heard(Step::Commit(0), Heard::Refused);
    assert_eq!(commit.outcome(), Some(Outcome::Committed));
    assert!(commit.is_over());
}
