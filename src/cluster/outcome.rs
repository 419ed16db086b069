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
//! * The number of a timeline does not name it: two standbys that do not know of each other take the same one, and a
//!   history file has nothing but numbers. So a timeline is known by its number and the place where it begins; only the
//!   first is alone with its number. Who has another timeline of the mark's number in its history, or none, has
//!   nothing that was written on the mark's. Where one of the two beginnings is not known, only that is lost which
//!   ends behind all that the witness has read.
//! * One postmaster is one server, and never goes back: where the mark was made under the witness's own, no beginning
//!   has to be known. So what a server has said of its promotion before its first checkpoint, to whomever, stays true
//!   behind that checkpoint: while it is the same postmaster on the same timeline, and the recovery that it began with
//!   has ended where it had ended then, there was no other, and its timeline begins there ([`Promotions`]).
//! * Nor is a checkpoint any matter to who has asked a server in recovery, and asks it over the same connection when it is
//!   none any more: no connection outlives a crash, so that was the only recovery, and a standby's ends on a timeline of its own.
//! * A postmaster writes on one timeline from the end of its recovery to its own, and the history file of that says all of it,
//!   whoever has read it. So one who may read it can have read it for those who may not.
//!
//! One thing nothing can show: a primary that crashed, recovered and handed the same id out again, and was lost once more
//! before anybody was asked. The same holds for two timelines of one number that begin at the same place, where the second
//! was recovered or left again before that. Whoever asks does so as soon as there is a primary, so that each recovery
//! is the only one.

use std::collections::BTreeMap;

use crate::lsn::Lsn;

/// The only timeline that is known by its number.
const FIRST: u32 = 1;
/// The only one that says by its number from which it has parted.
const SECOND: u32 = FIRST + 1;

/// A server on which marks are made, as it was when a connection to it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its system identifier.
    pub system: u64,
    /// When its postmaster was started, in microseconds.
    pub born: u64,
    /// What was known of the timeline that it wrote on.
    pub reign: Reign,
}

/// What is known of the timeline on which a server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reign {
    /// Its number and, if that could be told, where it begins.
    Seen(u32, Option<Lsn>),
    /// The server was in recovery still: its timeline will begin where that ends.
    Coming,
}

impl Origin {
    /// Where the timeline of a mark begins, if that is known. `replayed` is where the server's last recovery ended.
    #[must_use]
    pub fn begins(&self, timeline: u32, replayed: Option<Lsn>) -> Option<Lsn> {
        match self.reign {
            Reign::Seen(seen, at) => at.filter(|_| seen == timeline),
            // The connection would not have outlived any other recovery.
            Reign::Coming => replayed,
        }
    }
}

/// A transaction before its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The system identifier of its server.
    pub system: u64,
    /// The timeline that it was written on.
    pub timeline: u32,
    /// Where that timeline begins, if it is known.
    pub begins: Option<Lsn>,
    /// When the postmaster was started under which it was made, in microseconds.
    pub born: u64,
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

/// What is known of a timeline of some number in the history of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chapter {
    /// Nothing: the history could not be read.
    Unread,
    /// There is none of this number.
    Absent,
    /// There is one.
    Read {
        /// Where it begins; unknown for the first of a history.
        begins: Option<Lsn>,
        /// Where it was left for the next, if it was.
        left: Option<Lsn>,
    },
}

/// What a primary says when it is asked about a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Its system identifier.
    pub system: u64,
    /// The timeline that it writes on.
    pub timeline: u32,
    /// When its postmaster was started, in microseconds.
    pub born: u64,
    /// Up to where the recovery went that it began with, if it began with one.
    pub replayed: Option<Lsn>,
    /// The timeline of its last checkpoint.
    pub checkpoint: u32,
    /// What its history has of a timeline with the number of the mark's.
    pub chapter: Chapter,
    /// What it says of the id; asked behind all the rest.
    pub status: Status,
}

/// What a server that is not in recovery says of itself, over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Its system identifier.
    pub system: u64,
    /// When its postmaster was started, in microseconds.
    pub born: u64,
    /// The timeline that it writes on.
    pub timeline: u32,
    /// Up to where the recovery went that it began with, if it began with one.
    pub replayed: Option<Lsn>,
    /// The timeline of its last checkpoint.
    pub checkpoint: u32,
    /// It was in recovery when it was asked over this connection before.
    pub was_standby: bool,
}

/// More promotions than these are not remembered, nor more histories; the oldest is forgotten.
const PROMOTIONS_MAX: usize = 64;

/// A system identifier, a timeline, and when the postmaster was started that writes on it.
type Key = (u64, u32, u64);

/// Where the timelines of servers began, as these have said behind their promotions, and what their history files say.
#[derive(Debug, Default)]
pub struct Promotions {
    /// `None` where it was said to be at several places, which cannot be.
    began: BTreeMap<Key, Option<Lsn>>,
    /// `None` where it could not be read.
    histories: BTreeMap<Key, Option<History>>,
}

impl Promotions {
    /// Remembers where a server's timeline begins, if it says so now: it was promoted, and has made no checkpoint since.
    pub fn note(&mut self, server: &Server) {
        let Some(at) = server.replayed.filter(|_| server.tells()) else {
            return;
        };
        let known = self.began.entry(server.key()).or_insert(Some(at));
        if *known != Some(at) {
            *known = None;
        }
        if self.began.len() > PROMOTIONS_MAX {
            self.began.pop_first();
        }
    }

    /// Whether nobody has tried yet to read the history file of a server's timeline. The first has none.
    #[must_use]
    pub fn lacks_history(&self, server: &Server) -> bool {
        server.timeline > FIRST && !self.histories.contains_key(&server.key())
    }

    /// Remembers what was read in the history file of a server's timeline; `None` that it could not be.
    pub fn read(&mut self, server: &Server, history: Option<History>) {
        let known = self.histories.entry(server.key()).or_default();
        *known = history.or_else(|| known.take());
        if self.histories.len() > PROMOTIONS_MAX {
            self.histories.pop_first();
        }
    }

    /// Where a server's timeline begins, if it says so or has said so.
    #[must_use]
    pub fn beginning(&self, server: &Server) -> Option<Lsn> {
        if server.tells() {
            return server.replayed;
        }
        let at = self.began.get(&server.key()).copied()??;
        (server.replayed == Some(at)).then_some(at)
    }

    /// What is known by that of the timeline with this number in a server's history; `None` if its file has to tell.
    #[must_use]
    pub fn chapter(&self, server: &Server, number: u32) -> Option<Chapter> {
        if let Some(Some(history)) = self.histories.get(&server.key()) {
            return Some(history.chapter(server.timeline, number));
        }
        let begins = self.beginning(server)?;
        match (number, server.timeline) {
            (number, own) if number == own => Some(Chapter::Read {
                begins: Some(begins),
                left: None,
            }),
            // Only the first timeline can be what was left for the second.
            (FIRST, SECOND) => Some(Chapter::Read {
                begins: None,
                left: Some(begins),
            }),
            _ => None,
        }
    }
}

impl Server {
    /// Whether the recovery that it says has ended is the one from which it was promoted.
    const fn tells(&self) -> bool {
        self.was_standby || self.checkpoint < self.timeline
    }

    const fn key(&self) -> Key {
        (self.system, self.timeline, self.born)
    }
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
    /// They parted before the timeline of the mark.
    Before,
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
        Branch::Before => Outcome::Lost,
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
    if witness.timeline == mark.timeline && witness.born == mark.born {
        return match witness.replayed {
            // Its processes have crashed, and it has recovered.
            Some(end) if mark.replayed != Some(end) => Branch::At(end),
            Some(_) | None => Branch::Never,
        };
    }
    let shared = shares_timeline(mark, witness);
    if shared == Some(false) {
        return Branch::Before;
    }
    let branch = if witness.timeline == mark.timeline {
        // Without a recovery it was shut down in good order and started again.
        witness.replayed.map_or(Branch::Never, Branch::At)
    } else {
        match (witness.chapter, witness.replayed) {
            (Chapter::Read { left: Some(at), .. }, _) => Branch::At(at),
            (_, Some(end)) if parted_at_promotion(mark, witness) => Branch::At(end),
            (_, Some(end)) => Branch::UpTo(end),
            (_, None) => Branch::Unclear,
        }
    };
    match (branch, shared) {
        (_, Some(_)) => branch,
        (Branch::At(at), None) => Branch::UpTo(at),
        (Branch::Never, None) => Branch::Unclear,
        (_, None) => branch,
    }
}

/// Whether the timeline of the mark is in the history of the witness, and not only its number; `None` if that is not known.
fn shares_timeline(mark: &Mark, witness: &Witness) -> Option<bool> {
    match (mark.begins, witness.chapter) {
        _ if mark.timeline == FIRST => Some(true),
        (_, Chapter::Absent) => Some(false),
        (Some(mine), Chapter::Read { begins, .. }) => Some(mine == begins?),
        (None, _) | (_, Chapter::Unread) => None,
    }
}

/// Whether the end of the recovery that the server began with is where its timeline parted from that of the mark.
///
/// Only the second timeline says by its number from which it has parted: a standby passes over each that
/// it knows to be taken.
fn parted_at_promotion(mark: &Mark, witness: &Witness) -> bool {
    witness.checkpoint < witness.timeline && mark.timeline == FIRST && witness.timeline == SECOND
}

/// What a history file says (`pg_wal/XXXXXXXX.history`): each timeline of the past, and where it was left for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History(Vec<(u32, Lsn)>);

impl History {
    /// Reads one: its lines have the number of a timeline, the place where it was left, and a reason; the last one was left for
    /// the timeline whose file it is. `None` if it is no such file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim);
        let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read: Option<Vec<(u32, Lsn)>> = entries
            .map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            })
            .collect();
        read.filter(|entries| !entries.is_empty()).map(Self)
    }

    /// What that of the timeline `own` has of the one with this number.
    #[must_use]
    pub fn chapter(&self, own: u32, number: u32) -> Chapter {
        let Self(entries) = self;
        let at = entries.iter().position(|(timeline, _)| *timeline == number);
        let at = at.or_else(|| (own == number).then_some(entries.len()));
        at.map_or(Chapter::Absent, |at| Chapter::Read {
            begins: at.checked_sub(1).map(|before| entries[before].1),
            left: entries.get(at).map(|entry| entry.1),
        })
    }
}

#[cfg(test)]
mod tests;
