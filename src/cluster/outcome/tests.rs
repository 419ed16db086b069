use proptest::prelude::*;

use super::Server as Said;
use super::{Chapter, History, Mark, Outcome, PROMOTIONS_MAX, Promotions, Status, Witness, judge};
use crate::lsn::Lsn;

const MARK: Mark = Mark {
    system: 7,
    timeline: 3,
    begins: Some(Lsn::new(40)),
    born: 1,
    xid: 100,
    end: Lsn::new(500),
    replayed: Some(Lsn::new(40)),
};

/// The same server, which nothing has happened to.
const SAME: Witness = Witness {
    system: 7,
    timeline: 3,
    born: 1,
    replayed: Some(Lsn::new(40)),
    checkpoint: 3,
    chapter: Chapter::Unread,
    status: Status::Committed,
};

/// The same server, started anew.
const RESTARTED: Witness = Witness {
    born: 2,
    replayed: None,
    chapter: from(40),
    ..SAME
};

/// Another one that was promoted at the end of the mark.
const PROMOTED: Witness = Witness {
    timeline: 4,
    born: 3,
    replayed: Some(Lsn::new(500)),
    chapter: between(40, 500),
    ..SAME
};

/// A timeline that begins here and goes on.
const fn from(begins: u64) -> Chapter {
    Chapter::Read {
        begins: Some(Lsn::new(begins)),
        left: None,
    }
}

const fn between(begins: u64, left: u64) -> Chapter {
    Chapter::Read {
        begins: Some(Lsn::new(begins)),
        left: Some(Lsn::new(left)),
    }
}

#[test]
fn a_status_is_believed_where_the_mark_was_read() {
    let read = Some(Lsn::new(500));
    let children = Witness {
        replayed: read,
        ..SAME
    };
    let crashed = Witness {
        replayed: read,
        ..RESTARTED
    };
    let far = Witness {
        timeline: 9,
        checkpoint: 9,
        replayed: Some(Lsn::new(900)),
        ..PROMOTED
    };
    for witness in [SAME, children, RESTARTED, crashed, PROMOTED, far] {
        believed(&MARK, witness);
    }
    // The first timeline and the second are what their numbers say.
    let first = Mark {
        timeline: 1,
        begins: None,
        replayed: None,
        ..MARK
    };
    let unread = Witness {
        timeline: 1,
        chapter: Chapter::Unread,
        ..crashed
    };
    let second = Witness {
        timeline: 2,
        checkpoint: 1,
        chapter: Chapter::Unread,
        ..PROMOTED
    };
    for witness in [unread, second] {
        believed(&first, witness);
    }
}

fn believed(mark: &Mark, witness: Witness) {
    for (status, outcome) in [
        (Status::Committed, Outcome::Committed),
        (Status::Aborted, Outcome::Lost),
        (Status::InProgress, Outcome::Open),
        (Status::Forgotten, Outcome::Unknown),
        (Status::Future, Outcome::Lost),
    ] {
        let witness = Witness { status, ..witness };
        assert_eq!(judge(mark, &witness), outcome, "{witness:?}");
    }
}

#[test]
fn what_stands_behind_the_branch_is_lost_whatever_its_id_means_by_now() {
    let behind = Some(Lsn::new(499));
    let crashed = Witness {
        replayed: behind,
        ..SAME
    };
    let told = Witness {
        replayed: Some(Lsn::new(900)),
        chapter: between(40, 499),
        ..PROMOTED
    };
    // Whatever their history is, they have not read so far.
    let restarted = Witness {
        replayed: behind,
        chapter: Chapter::Unread,
        ..RESTARTED
    };
    let promoted = Witness {
        replayed: behind,
        chapter: Chapter::Unread,
        ..PROMOTED
    };
    for witness in [crashed, told, restarted, promoted] {
        assert_eq!(judge(&MARK, &witness), Outcome::Lost, "{witness:?}");
    }
}

/// Two standbys were promoted without knowing of each other.
#[test]
fn a_timeline_is_not_another_of_its_number() {
    let far = Some(Lsn::new(900));
    let twin = Witness {
        replayed: far,
        chapter: from(900),
        ..RESTARTED
    };
    let forked = Witness {
        replayed: far,
        chapter: between(41, 900),
        ..PROMOTED
    };
    // It knew that the number was taken.
    let beside = Witness {
        replayed: far,
        chapter: Chapter::Absent,
        ..PROMOTED
    };
    // It began at the same place, and was asked before anything else befell it.
    let alike = Witness {
        born: 2,
        chapter: from(40),
        ..SAME
    };
    for witness in [twin, forked, beside, alike] {
        assert_eq!(judge(&MARK, &witness), Outcome::Lost, "{witness:?}");
    }
    let unread = Mark {
        begins: None,
        ..MARK
    };
    for witness in [twin, forked] {
        assert_eq!(judge(&unread, &witness), Outcome::Unknown, "{witness:?}");
        let witness = Witness {
            chapter: Chapter::Unread,
            ..witness
        };
        assert_eq!(judge(&MARK, &witness), Outcome::Unknown, "{witness:?}");
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
        chapter: Chapter::Unread,
        ..PROMOTED
    };
    let restarted = Witness {
        replayed: None,
        chapter: Chapter::Unread,
        ..PROMOTED
    };
    // It may have parted from the second timeline, or from another third.
    let next = Witness {
        chapter: Chapter::Unread,
        ..PROMOTED
    };
    for witness in [other, older, later, restarted, next] {
        assert_eq!(judge(&MARK, &witness), Outcome::Unknown, "{witness:?}");
    }
}

#[test]
fn a_history_says_where_a_timeline_begins_and_was_left() {
    let history = "1\t0/3000060\tno recovery target specified\n\n# or so\n3\t16/B374D848\tbefore 2000-01-01\n";
    let first = Chapter::Read {
        begins: None,
        left: Some(Lsn::new(0x300_0060)),
    };
    let history = History::parse(history).expect("it is one");
    assert_eq!(history.chapter(4, 1), first);
    assert_eq!(history.chapter(4, 2), Chapter::Absent);
    assert_eq!(history.chapter(4, 3), between(0x300_0060, 0x16_b374_d848));
    assert_eq!(history.chapter(4, 4), from(0x16_b374_d848));
    for nothing in ["", "nonsense\n1 nowhere x", "1\t0/3000060\n2"] {
        assert_eq!(History::parse(nothing), None);
    }
}

#[test]
fn what_was_said_of_a_promotion_holds_behind_its_checkpoint() {
    let new = Said {
        system: 7,
        born: 3,
        timeline: 2,
        replayed: Some(Lsn::new(500)),
        checkpoint: 1,
        was_standby: false,
    };
    let later = Said {
        checkpoint: 2,
        ..new
    };
    let parted = Chapter::Read {
        begins: None,
        left: Some(Lsn::new(500)),
    };
    let mut promotions = Promotions::default();
    assert_eq!(promotions.chapter(&new, 1), Some(parted), "it says so");
    promotions.note(&later);
    assert_eq!(promotions.beginning(&later), None, "nobody has seen it");
    promotions.note(&new);
    promotions.note(&new);
    assert_eq!(promotions.chapter(&later, 1), Some(parted));
    assert_eq!(promotions.chapter(&later, 2), Some(from(500)));
    assert_eq!(promotions.chapter(&later, 3), None);
    // Another server, also of that number; the same one behind a crash, or started anew.
    for other in [
        Said { system: 8, ..later },
        Said { born: 4, ..later },
        Said {
            timeline: 3,
            checkpoint: 3,
            ..later
        },
        Said {
            replayed: Some(Lsn::new(900)),
            ..later
        },
        Said {
            replayed: None,
            ..later
        },
    ] {
        assert_eq!(promotions.beginning(&other), None, "{other:?}");
    }
    // Of the third timeline it is not known from which it has parted.
    let third = Said {
        timeline: 3,
        checkpoint: 2,
        ..new
    };
    assert_eq!(promotions.chapter(&third, 3), Some(from(500)));
    assert_eq!(promotions.chapter(&third, 2), None);
    assert_eq!(promotions.chapter(&third, 1), None);
    let elsewhere = Said {
        replayed: Some(Lsn::new(501)),
        ..new
    };
    promotions.note(&elsewhere);
    assert_eq!(promotions.beginning(&later), None, "it cannot be both");
    for timeline in 3..200 {
        promotions.note(&Said { timeline, ..new });
    }
    assert_eq!(promotions.began.len(), PROMOTIONS_MAX);
}

#[test]
fn who_has_seen_a_standby_be_promoted_needs_not_come_before_its_checkpoint() {
    let seen = Said {
        system: 7,
        born: 3,
        timeline: 2,
        replayed: Some(Lsn::new(500)),
        checkpoint: 2,
        was_standby: true,
    };
    let asked = Said {
        was_standby: false,
        ..seen
    };
    let mut promotions = Promotions::default();
    assert_eq!(promotions.beginning(&asked), None);
    promotions.note(&seen);
    assert_eq!(promotions.beginning(&asked), Some(Lsn::new(500)));
    let crashed = Said {
        replayed: Some(Lsn::new(900)),
        ..asked
    };
    assert_eq!(promotions.beginning(&crashed), None);
}

#[test]
fn what_was_read_of_a_history_holds_for_its_postmaster() {
    let server = Said {
        system: 7,
        born: 3,
        timeline: 4,
        replayed: None,
        checkpoint: 4,
        was_standby: false,
    };
    let mut promotions = Promotions::default();
    assert!(promotions.lacks_history(&server));
    promotions.read(&server, None);
    assert!(!promotions.lacks_history(&server), "it is tried once");
    assert_eq!(promotions.chapter(&server, 3), None);
    promotions.read(&server, History::parse("1\t0/28\tx\n3\t0/1F4\tx\n"));
    promotions.read(&server, None);
    assert_eq!(promotions.chapter(&server, 3), Some(between(40, 500)));
    assert_eq!(promotions.chapter(&server, 2), Some(Chapter::Absent));
    assert_eq!(promotions.chapter(&server, 4), Some(from(500)));
    for other in [
        Said {
            system: 8,
            ..server
        },
        Said { born: 4, ..server },
        Said {
            timeline: 3,
            ..server
        },
    ] {
        assert!(promotions.lacks_history(&other), "{other:?}");
        assert_eq!(promotions.chapter(&other, 3), None, "{other:?}");
    }
    let first = Said {
        timeline: 1,
        ..server
    };
    assert!(!promotions.lacks_history(&first), "there is none");
    for born in 5..200 {
        promotions.read(&Said { born, ..server }, None);
    }
    assert_eq!(promotions.histories.len(), PROMOTIONS_MAX);
}

/// A record of the log under some id; each is ten bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Write(u64),
    /// Who made the transaction, since its id may be another's, too.
    Commit(u64, Owner),
    /// A recovery has ended here; this is on the disk before anything else is done.
    Recovered,
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
    /// It is shut down and started again.
    Restart,
    /// It crashes, and keeps so many of its records.
    Crash(usize),
    /// Only its processes do, and its postmaster recovers it.
    Children(usize),
    /// A standby that has so many of them is promoted.
    Promotion(usize),
    /// The same, and then it crashes, too, behind all that it has written.
    PromotionAndCrash(usize),
}

/// Who it happens to.
#[derive(Debug, Clone, Copy)]
enum Heir {
    /// The server of the mark.
    Same,
    /// A standby of the first primary that has so many of its records and was promoted to the same number.
    Twin(usize),
    /// The same, to the next number.
    Passing(usize),
}

#[derive(Debug, Clone)]
struct Server {
    log: Vec<Record>,
    /// The number of each timeline of its history, and where it was left.
    past: Vec<(u32, usize)>,
    timeline: u32,
    born: u64,
    replayed: Option<usize>,
    checkpoint: u32,
    next: u64,
    /// It was promoted, and nothing has happened to it since: whoever was connected then is so still.
    is_promoted: bool,
}

const FIRST: u64 = 100;

impl Server {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            past: Vec::new(),
            timeline: 1,
            born: 1,
            replayed: None,
            checkpoint: 1,
            next: FIRST,
            is_promoted: false,
        }
    }

    /// It has read so much of its log, and nothing else.
    fn recovered(mut self, count: usize) -> Self {
        self.log.truncate(count);
        let ids = self.log.iter().map(|record| match record {
            Record::Write(xid) | Record::Commit(xid, _) => *xid + 1,
            Record::Recovered => FIRST,
        });
        self.next = ids.max().unwrap_or(FIRST).max(FIRST);
        self.replayed = Some(self.log.len());
        self.log.push(Record::Recovered);
        self.checkpoint = self.timeline;
        self.is_promoted = false;
        self
    }

    fn promoted(self, count: usize, timeline: u32) -> Self {
        let number = self.timeline;
        let mut server = self.restarted().recovered(count);
        server.past.extend(server.replayed.map(|end| (number, end)));
        server.timeline = timeline;
        server.is_promoted = true;
        server
    }

    fn restarted(mut self) -> Self {
        self.born += 1;
        self.replayed = None;
        self.is_promoted = false;
        self
    }

    fn after(self, event: Event, theirs: usize, monitor: &mut Monitor) -> Self {
        let next = self.timeline + 1;
        let kept = self.replayed.map_or(0, |end| end + 1);
        match event {
            Event::Nothing => self,
            Event::Restart => self.restarted(),
            Event::Crash(count) => self.restarted().recovered(count.max(kept)),
            Event::Children(count) => self.recovered(count.max(kept)),
            Event::Promotion(count) => self.promoted(count.max(kept), next),
            Event::PromotionAndCrash(count) => {
                let mut promoted = self.promoted(count.max(kept), next);
                monitor.sees(&promoted);
                promoted.others(theirs);
                promoted.restarted().recovered(usize::MAX)
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

    /// What its history file says.
    fn history(&self) -> Option<History> {
        let line = |(timeline, at): &(u32, usize)| format!("{timeline}\t{}\tno\n", place(*at));
        let history: String = self.past.iter().map(line).collect();
        History::parse(&history)
    }

    /// What that has of a timeline.
    fn chapter(&self, number: u32) -> Chapter {
        let history = self.history();
        history.map_or(Chapter::Unread, |it| it.chapter(self.timeline, number))
    }

    fn said(&self) -> Said {
        Said {
            system: 7,
            born: self.born,
            timeline: self.timeline,
            replayed: self.replayed.map(place),
            checkpoint: self.checkpoint,
            was_standby: false,
        }
    }

    /// What is known of its timeline's beginning by its history file, if that may be read, or else by its promotion.
    fn begins(&self, reads: bool, monitor: &Monitor) -> Option<Lsn> {
        match self.chapter(self.timeline) {
            Chapter::Read { begins, .. } if reads => begins,
            _ => monitor.promotions.beginning(&self.said()),
        }
    }
}

/// Who looks at servers, perhaps, directly behind their promotion, or over connections that are older than that, and may
/// read their files.
#[derive(Debug, Default)]
struct Monitor {
    looks: bool,
    stays: bool,
    reads: bool,
    promotions: Promotions,
}

impl Monitor {
    fn sees(&mut self, server: &Server) {
        if self.looks {
            self.promotions.note(&server.said());
        }
    }

    /// Looks whenever it may be.
    fn sees_later(&mut self, server: &Server) {
        let said = server.said();
        if self.stays {
            self.promotions.note(&Said {
                was_standby: server.is_promoted,
                ..said
            });
        }
        if self.reads {
            self.promotions.read(&said, server.history());
        }
    }
}

fn place(count: usize) -> Lsn {
    Lsn::new(10 * count as u64)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Nothing),
        Just(Event::Restart),
        (0usize..32).prop_map(Event::Crash),
        (0usize..32).prop_map(Event::Children),
        (0usize..32).prop_map(Event::Promotion),
        (0usize..32).prop_map(Event::PromotionAndCrash),
    ]
}

fn heir() -> impl Strategy<Value = Heir> {
    prop_oneof![
        Just(Heir::Same),
        (0usize..24).prop_map(Heir::Twin),
        (0usize..24).prop_map(Heir::Passing),
    ]
}

proptest! {
    #[test]
    fn no_outcome_is_told_that_is_not_so(
        (before, between, behind, since) in (0usize..6, 0usize..4, 0usize..2, 0usize..6),
        commits in any::<bool>(),
        // Where the mark is made on a second timeline, that begins here.
        second in proptest::option::of(0usize..12),
        checkpoint in any::<bool>(),
        heir in heir(),
        event in event(),
        (reads, told) in any::<(bool, bool)>(),
        (looks, later) in any::<(bool, bool)>(),
        (stays, files) in any::<(bool, bool)>(),
    ) {
        let mut monitor = Monitor { looks, stays, reads: files, ..Monitor::default() };
        let mut first = Server::new();
        first.others(before);
        let mut server = match second {
            Some(count) => first.clone().promoted(count, 2),
            None => first.clone(),
        };
        let begins = server.replayed;
        monitor.sees(&server);
        if checkpoint {
            server.checkpoint = server.timeline;
        }
        monitor.sees_later(&server);
        server.others(before);
        let xid = server.next;
        server.next += 1;
        server.log.push(Record::Write(xid));
        let mark = Mark {
            system: 7,
            timeline: server.timeline,
            begins: server.begins(reads, &monitor),
            born: server.born,
            xid,
            end: place(server.log.len()),
            replayed: server.replayed.map(place),
        };
        server.others(between);
        if commits {
            server.log.push(Record::Commit(xid, Owner::Us));
        }
        server.others(behind);
        // The first primary goes on without the second.
        first.others(since);
        first.born = 10;
        let mut heir = match (heir, second) {
            (Heir::Twin(count), Some(_)) => first.promoted(count, 2),
            (Heir::Passing(count), Some(_)) => first.promoted(count, 3),
            _ => server,
        };
        // Who begins where the other did can be told from it only until it is recovered or left.
        let alike = heir.born > 10 && heir.replayed == begins && heir.timeline == 2;
        prop_assume!(!alike || matches!(event, Event::Nothing));
        monitor.sees(&heir);
        monitor.sees_later(&heir);
        heir.others(since);
        let mut after = heir.after(event, since, &mut monitor);
        monitor.sees(&after);
        // It has made a checkpoint before it is asked.
        if later {
            after.checkpoint = after.timeline;
        }
        monitor.sees_later(&after);
        after.others(since);
        let chapter = match told {
            true => after.chapter(mark.timeline),
            false => {
                let known = monitor.promotions.chapter(&after.said(), mark.timeline);
                known.unwrap_or(Chapter::Unread)
            }
        };
        let witness = Witness {
            system: 7,
            timeline: after.timeline,
            born: after.born,
            replayed: after.replayed.map(place),
            checkpoint: after.checkpoint,
            chapter,
            status: after.status(xid),
        };
        let there = after.log.contains(&Record::Commit(xid, Owner::Us));
        match judge(&mark, &witness) {
            Outcome::Committed => prop_assert!(there, "{mark:?} {witness:?}"),
            Outcome::Lost => prop_assert!(!there, "{mark:?} {witness:?}"),
            Outcome::Open => prop_assert!(false, "nobody is at work"),
            Outcome::Unknown => prop_assert!(!told || !reads, "{mark:?} {witness:?}"),
        }
    }
}
