//! How a transaction over several servers is committed: all of it, or nothing.
//!
//! Whoever has written nothing is committed plainly, behind those who have: until then its locks must keep others
//! out, and what becomes of it changes nothing. One writer alone is committed plainly, too. Of several, one is the *decider*: the others are prepared, then the decider stores a row
//! that says so and commits, its own work and the decision being one; then the others are committed. Who
//! comes later, because the coordinator has died, stores a row that says the opposite. The first row
//! wins, and everybody does what it says.
//!
//! This is the order of the steps and no more: it is told what has become of each and answers what is to be
//! done next. The tests try every order of answers, losses and deaths.

#[cfg(test)]
mod tests;

/// A step, for the server of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `COMMIT`.
    Commit(usize),
    /// `PREPARE TRANSACTION`.
    Prepare(usize),
    /// The row that says that all is committed, and `COMMIT`.
    Decide(usize),
    /// Finding out, over another connection, what the decider's row says; one that says no is stored if there is none.
    Resolve(usize),
    /// `COMMIT PREPARED`.
    Finish(usize),
    /// `ROLLBACK`.
    Undo(usize),
    /// `ROLLBACK PREPARED`.
    Revoke(usize),
}

impl Step {
    /// The server.
    pub fn leg(self) -> usize {
        match self {
            Self::Commit(leg)
            | Self::Prepare(leg)
            | Self::Decide(leg)
            | Self::Resolve(leg)
            | Self::Finish(leg)
            | Self::Undo(leg)
            | Self::Revoke(leg) => leg,
        }
    }
}

/// What has become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heard {
    /// It is done. Of [`Step::Resolve`]: it is committed.
    Done,
    /// It is not done, and nothing of it stays. Of [`Step::Resolve`]: it is not committed, and never will be.
    Refused,
    /// Nobody knows.
    Lost,
}

/// What has become of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// Nothing of it stays.
    Aborted,
    /// It is one or the other.
    Unknown,
}

/// Where one server's part of it stands, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Open,
    Asked(Step),
    Prepared,
    /// Over, or not ours any more.
    Over,
}

/// The way of one transaction from its `COMMIT` to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit {
    parts: Vec<Part>,
    /// Who has written.
    writers: Vec<usize>,
    outcome: Option<Outcome>,
    /// Some part failed before anything was decided.
    failed: bool,
}

impl Commit {
    /// One of these servers, by whether each has written, and the first steps.
    pub fn new(writes: &[bool]) -> (Self, Vec<Step>) {
        let writers = (0..writes.len()).filter(|leg| writes[*leg]).collect();
        let mut commit = Self {
            parts: vec![Part::Open; writes.len()],
            writers,
            outcome: None,
            failed: false,
        };
        let decider = commit.decider();
        let first = match decider {
            Some(_) => commit.writers[1..]
                .iter()
                .copied()
                .map(Step::Prepare)
                .collect(),
            None => commit.open().map(Step::Commit).collect(),
        };
        let mut steps = commit.ask(first);
        if steps.is_empty() {
            steps = commit.decide();
        }
        (commit, steps)
    }

    /// The server whose commit is that of the whole, if anybody has written.
    pub fn decider(&self) -> Option<usize> {
        self.writers.first().copied()
    }

    /// Whether several have written.
    pub fn is_of_two_phases(&self) -> bool {
        self.writers.len() > 1
    }

    /// What has become of it, once that is certain or will not be known.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        self.outcome.is_some() && !self.is_asked()
    }

    fn is_asked(&self) -> bool {
        let asked = |part: &Part| matches!(part, Part::Asked(_));
        self.parts.iter().any(asked)
    }

    /// Whether something stays prepared that nobody here will end: whoever recovers does.
    pub fn is_left_behind(&self) -> bool {
        self.parts.contains(&Part::Prepared)
    }

    /// A step was answered: what is to be done next.
    pub fn heard(&mut self, step: Step, heard: Heard) -> Vec<Step> {
        let leg = step.leg();
        if self.parts.get(leg) != Some(&Part::Asked(step)) {
            return Vec::new();
        }
        self.parts[leg] = match (step, heard) {
            (Step::Prepare(_), Heard::Done) => Part::Prepared,
            // It may be prepared, or may not have ended: in both cases it is not ended from here.
            (Step::Finish(_) | Step::Revoke(_), Heard::Lost | Heard::Refused)
            | (Step::Prepare(_), Heard::Lost) => Part::Prepared,
            _ => Part::Over,
        };
        match step {
            Step::Finish(_) => self.release(),
            Step::Revoke(_) | Step::Undo(_) => Vec::new(),
            Step::Decide(_) if heard == Heard::Lost => self.ask(vec![Step::Resolve(leg)]),
            Step::Decide(_) | Step::Resolve(_) => self.decided(heard),
            Step::Commit(_) if self.decider() == Some(leg) => self.decided(heard),
            // It had written nothing, and the others have committed.
            Step::Commit(_) if self.outcome.is_some() => Vec::new(),
            Step::Commit(_) | Step::Prepare(_) => {
                self.failed |= heard != Heard::Done;
                // Whoever may be prepared without our knowledge must not be told to go back, nor forgotten.
                match self.is_asked() {
                    true => Vec::new(),
                    false => self.decide(),
                }
            }
        }
    }

    /// All others have answered.
    fn decide(&mut self) -> Vec<Step> {
        if self.failed {
            return self.abort();
        }
        match self.decider() {
            None => {
                self.outcome = Some(Outcome::Committed);
                Vec::new()
            }
            Some(leg) if self.is_of_two_phases() => self.ask(vec![Step::Decide(leg)]),
            Some(leg) => self.ask(vec![Step::Commit(leg)]),
        }
    }

    fn decided(&mut self, heard: Heard) -> Vec<Step> {
        match heard {
            Heard::Done => {
                self.outcome = Some(Outcome::Committed);
                let finish: Vec<Step> = self.prepared().map(Step::Finish).collect();
                match finish.is_empty() {
                    true => self.release(),
                    false => self.ask(finish),
                }
            }
            Heard::Refused => self.abort(),
            Heard::Lost => {
                self.outcome = Some(Outcome::Unknown);
                Vec::new()
            }
        }
    }

    fn abort(&mut self) -> Vec<Step> {
        self.outcome = Some(Outcome::Aborted);
        let undo = self.open().map(Step::Undo);
        let steps = undo.chain(self.prepared().map(Step::Revoke)).collect();
        self.ask(steps)
    }

    /// Those who have written nothing end once all others have.
    fn release(&mut self) -> Vec<Step> {
        if self.is_asked() {
            return Vec::new();
        }
        let steps = self.open().map(Step::Commit).collect();
        self.ask(steps)
    }

    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.parts.len()).filter(|leg| self.parts[*leg] == Part::Open)
    }

    fn prepared(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.parts.len()).filter(|leg| self.parts[*leg] == Part::Prepared)
    }

    fn ask(&mut self, steps: Vec<Step>) -> Vec<Step> {
        for step in &steps {
            self.parts[step.leg()] = Part::Asked(*step);
        }
        steps
    }
}
