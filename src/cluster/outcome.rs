//! What became of a transaction whose COMMIT was sent and whose answer was lost.
//!
//! Before a COMMIT is sent, its transaction says which one it is and puts a *mark* into the log: a record of its own
//! (`pg_logical_emit_message`, which does nothing else), whose end is known. When the answer is lost, whoever is the
//! primary by then is asked about both. Why [`judge`] is right:
//!
//! * A commit record stands behind the mark of its transaction, since COMMIT was sent when the mark was there.
//! * A recovery reads the log up to its end and goes on writing from there: a server has in its history what was
//!   written up to the *branch*, where its reign parted from that of the mark, and nothing behind it. So if the mark ends behind the
//!   branch, the commit record is not in its history, and never will be: the transaction is lost. That also holds
//!   for an old primary that is still alive, or frozen, and commits later.
//! * If the mark ends at the branch or before, the server has read it, and with it that its transaction id is taken:
//!   it hands out none that is not above it. What it says of the id, it says of our transaction. Without the
//!   mark that would not follow: a transaction need not write anything under its id before its commit record, and behind
//!   an asynchronous failover, or a crash, ids that nobody has seen in the log are handed out again.
//! * `pg_last_wal_replay_lsn()` stays what it was at the end of the recovery that a server began with, and is NULL if
//!   it began without one, after a shutdown in good order. It rises with each recovery, so if it is what it was when
//!   the mark was made, on the same timeline, there was none in between.
//! * After a promotion it is the branch itself, unless the server has crashed and recovered since; each such recovery ends
//!   with a checkpoint on the new timeline, so while the last checkpoint is of an older one, there was none.
//!   It is never below the branch, so a mark behind it is lost in any case.
//!
//! One thing nothing can show: a primary that crashed, recovered and handed the same id out again, and was lost once more
//! before anybody was asked. Whoever asks does so as soon as there is a primary, so that each recovery is the only one.

use crate::lsn::Lsn;

/// A transaction before its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The system identifier of its server.
    pub system: u64,
    /// The timeline that it was written on.
    pub timeline: u32,
    /// Its full transaction id (`xid8`).
    pub xid: u64,
    /// Where its mark ends in the log.
    pub end: Lsn,
    /// `pg_last_wal_replay_lsn()` of the server at the time.
    pub replayed: Option<Lsn>,
}

/// What `pg_xact_status` says of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is committed.
    Committed,
    /// It was rolled back, or was not at its end when its server was.
    Aborted,
    /// It is under way. A COMMIT that waits for a standby is that, too.
    InProgress,
    /// It is so old that nothing is known of it any more.
    Forgotten,
    /// It was not handed out yet.
    Future,
}

/// What a primary says when it is asked about a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Its system identifier.
    pub system: u64,
    /// The timeline that it writes on.
    pub timeline: u32,
    /// Up to where the recovery went that it began with, if it began with one.
    pub replayed: Option<Lsn>,
    /// The timeline of its last checkpoint.
    pub checkpoint: u32,
    /// Where the timeline of the mark ends in its history, if it is known.
    pub switch: Option<Lsn>,
    /// What it says of the id; asked behind all the rest.
    pub status: Status,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// It is not, and will not be.
    Lost,
    /// It is not decided yet: ask again.
    Open,
    /// Nobody can know.
    Unknown,
}

/// Up to where a server's history is that of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// They never parted.
    Never,
    /// They parted here.
    At(Lsn),
    /// They parted here or before.
    UpTo(Lsn),
    /// It cannot be told.
    Unclear,
}

/// Tells what became of the transaction of a mark, by what the present primary says. The head of this file says why.
#[must_use]
pub fn judge(mark: &Mark, witness: &Witness) -> Outcome {
    if witness.system != mark.system || witness.timeline < mark.timeline {
        return Outcome::Unknown;
    }
    if witness.status == Status::Future {
        // No record with this id is in its history.
        return Outcome::Lost;
    }
    match branch(mark, witness) {
        Branch::At(branch) | Branch::UpTo(branch) if mark.end > branch => Outcome::Lost,
        Branch::Never | Branch::At(_) => match witness.status {
            Status::Committed => Outcome::Committed,
            Status::Aborted | Status::Future => Outcome::Lost,
            Status::InProgress => Outcome::Open,
            Status::Forgotten => Outcome::Unknown,
        },
        Branch::UpTo(_) | Branch::Unclear => Outcome::Unknown,
    }
}

fn branch(mark: &Mark, witness: &Witness) -> Branch {
    if witness.timeline == mark.timeline {
        return match witness.replayed {
            Some(end) if mark.replayed != Some(end) => Branch::At(end),
            // It is the same server still, or was shut down in good order and started again.
            Some(_) | None => Branch::Never,
        };
    }
    match (witness.switch, witness.replayed) {
        (Some(switch), _) => Branch::At(switch),
        (None, Some(end)) if parted_at_promotion(mark, witness) => Branch::At(end),
        (None, Some(end)) => Branch::UpTo(end),
        (None, None) => Branch::Unclear,
    }
}

/// Whether the end of the recovery that the server began with is where its timeline parted from that of the mark.
fn parted_at_promotion(mark: &Mark, witness: &Witness) -> bool {
    witness.checkpoint < witness.timeline && mark.timeline.checked_add(1) == Some(witness.timeline)
}

/// Where a timeline ends, as the history file of a later one has it (`pg_wal/XXXXXXXX.history`): lines with the number of
/// a timeline, the place where it was left, and a reason. `None` if the timeline is not in it.
#[must_use]
pub fn switch_point(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number: u32 = words.next()?.parse().ok()?;
        let place = words.next()?.parse().ok()?;
        (number == timeline).then_some(place)
    })
}

#[cfg(test)]
mod tests;
