use proptest::prelude::*;

use super::{Mark, Outcome, Status, Witness, judge, switch_point};
use crate::lsn::Lsn;

const MARK: Mark = Mark {
    system: 7,
    timeline: 3,
    xid: 100,
    end: Lsn::new(500),
    replayed: Some(Lsn::new(40)),
};

/// The same server, which nothing has happened to.
const SAME: Witness = Witness {
    system: 7,
    timeline: 3,
    replayed: Some(Lsn::new(40)),
    checkpoint: 3,
    switch: None,
    status: Status::Committed,
};

/// Another one that was promoted at the end of the mark, and has made no checkpoint yet.
const PROMOTED: Witness = Witness {
    timeline: 4,
    replayed: Some(Lsn::new(500)),
    ..SAME
};

#[test]
fn a_status_is_believed_where_the_mark_was_read() {
    let crashed = Witness {
        replayed: Some(Lsn::new(500)),
        ..SAME
    };
    let restarted = Witness {
        replayed: None,
        ..SAME
    };
    let told = Witness {
        checkpoint: 4,
        switch: Some(Lsn::new(500)),
        ..PROMOTED
    };
    let far = Witness {
        timeline: 9,
        ..told
    };
    for witness in [SAME, crashed, restarted, PROMOTED, told, far] {
        for (status, outcome) in [
            (Status::Committed, Outcome::Committed),
            (Status::Aborted, Outcome::Lost),
            (Status::InProgress, Outcome::Open),
            (Status::Forgotten, Outcome::Unknown),
            (Status::Future, Outcome::Lost),
        ] {
            let witness = Witness { status, ..witness };
            assert_eq!(judge(&MARK, &witness), outcome, "{witness:?}");
        }
    }
}

#[test]
fn what_stands_behind_the_branch_is_lost_whatever_its_id_means_by_now() {
    let behind = Some(Lsn::new(499));
    let crashed = Witness {
        replayed: behind,
        ..SAME
    };
    let promoted = Witness {
        replayed: behind,
        ..PROMOTED
    };
    // It has crashed since it was promoted, and still what it has read ends before the mark.
    let again = Witness {
        checkpoint: 4,
        ..promoted
    };
    let told = Witness {
        switch: behind,
        replayed: Some(Lsn::new(900)),
        checkpoint: 4,
        ..PROMOTED
    };
    for witness in [crashed, promoted, again, told] {
        assert_eq!(judge(&MARK, &witness), Outcome::Lost, "{witness:?}");
    }
}

#[test]
fn what_cannot_be_known_is_not_guessed() {
    let other = Witness { system: 8, ..SAME };
    let older = Witness {
        timeline: 2,
        ..SAME
    };
    // It may have crashed since its promotion, and have written the mark's place itself.
    let later = Witness {
        checkpoint: 4,
        replayed: Some(Lsn::new(900)),
        ..PROMOTED
    };
    let restarted = Witness {
        replayed: None,
        ..PROMOTED
    };
    // Two promotions since, and only the last one is seen.
    let twice = Witness {
        timeline: 5,
        checkpoint: 4,
        ..PROMOTED
    };
    for witness in [other, older, later, restarted, twice] {
        assert_eq!(judge(&MARK, &witness), Outcome::Unknown, "{witness:?}");
    }
}

#[test]
fn a_history_says_where_a_timeline_was_left() {
    let history =
        "1\t0/3000060\tno recovery target specified\n\n2\t16/B374D848\tbefore 2000-01-01\n";
    assert_eq!(switch_point(history, 1), Some(Lsn::new(0x300_0060)));
    assert_eq!(switch_point(history, 2), Some(Lsn::new(0x16_b374_d848)));
    assert_eq!(switch_point(history, 3), None);
    assert_eq!(switch_point("nonsense\n1 nowhere x", 1), None);
}

/// A record of the log under some id; each is ten bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Write(u64),
    /// Who made the transaction, since its id may be another's, too.
    Commit(u64, Owner),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Us,
    Another,
}

/// What happens to a primary, once.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    /// It crashes, and keeps so many of its records.
    Crash(usize),
    /// A standby that has so many of them is promoted.
    Promotion(usize),
    /// The same, and then it crashes, too, behind all that it has written.
    PromotionAndCrash(usize),
}

#[derive(Debug, Clone)]
struct Server {
    log: Vec<Record>,
    timeline: u32,
    replayed: Option<usize>,
    checkpoint: u32,
    next: u64,
}

const FIRST: u64 = 100;

impl Server {
    /// A server that has read so much of a log.
    fn recovered(log: &[Record], count: usize, timeline: u32, checkpoint: u32) -> Self {
        let log = log[..count.min(log.len())].to_vec();
        let ids = log.iter().map(|record| match record {
            Record::Write(xid) | Record::Commit(xid, _) => *xid + 1,
        });
        Self {
            next: ids.max().unwrap_or(FIRST).max(FIRST),
            replayed: Some(log.len()),
            log,
            timeline,
            checkpoint,
        }
    }

    fn after(self, event: Event, theirs: usize) -> Self {
        match event {
            Event::Nothing => self,
            Event::Crash(count) => Self::recovered(&self.log, count, self.timeline, self.timeline),
            Event::Promotion(count) => {
                Self::recovered(&self.log, count, self.timeline + 1, self.timeline)
            }
            Event::PromotionAndCrash(count) => {
                let mut promoted = self.after(Event::Promotion(count), theirs);
                promoted.others(theirs);
                let (all, timeline) = (promoted.log.len(), promoted.timeline);
                Self::recovered(&promoted.log, all, timeline, timeline)
            }
        }
    }

    /// Others commit so many transactions.
    fn others(&mut self, count: usize) {
        for _ in 0..count {
            self.log.push(Record::Write(self.next));
            self.log.push(Record::Commit(self.next, Owner::Another));
            self.next += 1;
        }
    }

    fn status(&self, xid: u64) -> Status {
        let committed = self
            .log
            .iter()
            .any(|record| matches!(record, Record::Commit(it, _) if *it == xid));
        match (xid >= self.next, committed) {
            (true, _) => Status::Future,
            (false, true) => Status::Committed,
            (false, false) => Status::Aborted,
        }
    }
}

fn place(count: usize) -> Lsn {
    Lsn::new(10 * count as u64)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Nothing),
        (0usize..24).prop_map(Event::Crash),
        (0usize..24).prop_map(Event::Promotion),
        (0usize..24).prop_map(Event::PromotionAndCrash),
    ]
}

proptest! {
    #[test]
    fn no_outcome_is_told_that_is_not_so(
        before in 0usize..4,
        between in 0usize..4,
        commits in any::<bool>(),
        behind in 0usize..2,
        event in event(),
        since in 0usize..4,
        told in any::<bool>(),
    ) {
        let mut server = Server { log: Vec::new(), timeline: 1, replayed: None, checkpoint: 1, next: FIRST };
        server.others(before);
        let xid = server.next;
        server.next += 1;
        server.log.push(Record::Write(xid));
        let mark = Mark { system: 7, timeline: 1, xid, end: place(server.log.len()), replayed: None };
        server.others(between);
        if commits {
            server.log.push(Record::Commit(xid, Owner::Us));
        }
        server.others(behind);
        let left = server.log.len();
        let mut after = server.after(event, since);
        after.others(since);
        let switch = match event {
            Event::Promotion(count) | Event::PromotionAndCrash(count) if told => Some(place(count.min(left))),
            _ => None,
        };
        let witness = Witness {
            system: 7,
            timeline: after.timeline,
            replayed: after.replayed.map(place),
            checkpoint: after.checkpoint,
            switch,
            status: after.status(xid),
        };
        let there = after.log.contains(&Record::Commit(xid, Owner::Us));
        match judge(&mark, &witness) {
            Outcome::Committed => prop_assert!(there, "{mark:?} {witness:?}"),
            Outcome::Lost => prop_assert!(!there, "{mark:?} {witness:?}"),
            Outcome::Open => prop_assert!(false, "nobody is at work"),
            // Only that is not known which the crash of a new primary hides.
            Outcome::Unknown => prop_assert!(!told && matches!(event, Event::PromotionAndCrash(_))),
        }
    }
}
