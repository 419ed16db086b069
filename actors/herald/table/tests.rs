use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Asked, Change, Channel, Hear, Listener, Note, Table};

/// What one listener has heard.
#[derive(Debug, Default, Clone)]
struct Ear(Rc<RefCell<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    notes: Vec<(i32, String, String)>,
    missed: usize,
    woken: usize,
    deaf: bool,
}

impl Hear for Ear {
    fn hear(&self, note: &Arc<Note>, from: i32) -> bool {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut heard = self.0.borrow_mut();
        heard
            .notes
            .push((from, text(&note.channel), text(&note.payload)));
        !heard.deaf
    }

    fn has_room(&self, _count: usize, _bytes: usize) -> bool {
        !self.0.borrow().deaf
    }

    fn missed(&self) {
        self.0.borrow_mut().missed += 1;
    }

    fn forget(&self, channel: Option<&Channel>) {
        let notes = &mut self.0.borrow_mut().notes;
        notes.retain(|(_, known, _)| channel.is_some_and(|own| **own != *known.as_bytes()));
    }

    fn wake(&self) {
        self.0.borrow_mut().woken += 1;
    }
}

impl Ear {
    fn payloads(&self) -> Vec<String> {
        let mut heard = self.0.borrow_mut();
        heard
            .notes
            .drain(..)
            .map(|(_, _, payload)| payload)
            .collect()
    }
}

fn channel(name: &str) -> Channel {
    name.as_bytes().into()
}

fn note(name: &str, payload: &str) -> Arc<Note> {
    Arc::new(Note {
        channel: channel(name),
        payload: payload.as_bytes().into(),
    })
}

/// A table with a connection whose server answers at once.
struct Rig {
    table: Table<Ear>,
    next: u64,
}

impl Rig {
    fn new() -> Self {
        let mut table = Table::default();
        table.link_up();
        Self { table, next: 0 }
    }

    fn join(&mut self, listener: Listener) -> Ear {
        let ear = Ear::default();
        self.table.join(listener, ear.clone());
        ear
    }

    /// The server answers all that it is asked.
    fn serve(&mut self) {
        while self.table.next_batch().is_some() {
            self.table.answered();
        }
    }

    fn ask(&mut self, listener: Listener, change: Change) -> Asked {
        self.next += 1;
        self.table.ask(listener, self.next, change, 10).unwrap()
    }

    /// A listener whose server is process `process` begins a change.
    fn begin(&mut self, listener: Listener, process: i32, change: Change) -> u64 {
        let asked = self.ask(listener, change);
        self.serve();
        assert!(self.table.is_ready(asked));
        self.table.hold(listener, process);
        asked.token
    }

    fn listen(&mut self, listener: Listener, process: i32, name: &str) {
        let token = self.begin(listener, process, Change::Listen(channel(name)));
        self.table.mark(process, token);
        assert_eq!(self.table.settle(listener).seen, 1);
    }
}

#[test]
fn nothing_is_sent_before_the_server_listens() {
    let mut rig = Rig::new();
    rig.serve();
    let ear = rig.join(1);
    let asked = rig.ask(1, Change::Listen(channel("a")));
    assert!(!rig.table.is_ready(asked));
    let batch = rig.table.next_batch().unwrap();
    assert_eq!(batch.listen, [channel("a")]);
    assert_eq!(rig.table.next_batch(), None, "one question at a time");
    // Whoever comes meanwhile has to wait for the next question.
    let second = rig.ask(1, Change::Listen(channel("a")));
    rig.table.answered();
    assert!(rig.table.is_ready(asked) && !rig.table.is_ready(second));
    assert_eq!(ear.0.borrow().woken, 1);
    rig.serve();
    assert!(rig.table.is_ready(second));
    rig.table.take_back(asked);
    rig.table.take_back(second);
    let batch = rig.table.next_batch().unwrap();
    assert_eq!(batch.unlisten, [channel("a")]);
    rig.table.answered();
    assert_eq!(rig.table.channels(), 0);
}

#[test]
fn only_what_follows_the_mark_is_heard_and_what_its_own_transaction_notified() {
    let mut rig = Rig::new();
    let (ear, other) = (rig.join(1), rig.join(2));
    rig.listen(2, 20, "a");
    let token = rig.begin(1, 10, Change::Listen(channel("a")));
    rig.table.notify(30, &note("a", "before"));
    rig.table.notify(10, &note("a", "own, early"));
    rig.table.mark(10, token);
    rig.table.notify(10, &note("a", "own, late"));
    rig.table.notify(30, &note("a", "after"));
    assert_eq!(ear.payloads(), ["own, early", "own, late", "after"]);
    let all = ["before", "own, early", "own, late", "after"];
    assert_eq!(other.payloads(), all);
    // A rolled back change has no mark, and is over with the transaction.
    let token = rig.begin(1, 10, Change::Unlisten(channel("a")));
    assert_eq!(rig.table.settle(1).seen, 1);
    rig.table.mark(10, token);
    rig.table.notify(30, &note("a", "still"));
    assert_eq!(ear.payloads(), ["still"]);
}

#[test]
fn the_end_of_anothers_transaction_takes_nothing_from_one_that_is_still_being_heard() {
    let mut rig = Rig::new();
    let ear = rig.join(1);
    rig.join(2);
    rig.listen(2, 20, "b");
    let token = rig.begin(1, 10, Change::Listen(channel("a")));
    rig.table.notify(10, &note("a", "own"));
    rig.table.settle(2);
    rig.table.mark(10, token);
    rig.table.settle(1);
    assert_eq!(ear.payloads(), ["own"]);
}

#[test]
fn the_changes_of_one_transaction_are_bounded() {
    let mut rig = Rig::new();
    rig.join(1);
    rig.listen(1, 10, "a");
    for _ in 0..10 {
        rig.ask(1, Change::Unlisten(channel("a")));
    }
    let more = Change::Unlisten(channel("a"));
    assert!(rig.table.ask(1, 99, more.clone(), 10).is_err());
    rig.table.settle(1);
    assert!(rig.table.ask(1, 100, more, 10).is_ok());
}

#[test]
fn a_mark_counts_only_from_its_own_server() {
    let mut rig = Rig::new();
    let ear = rig.join(1);
    let token = rig.begin(1, 10, Change::Listen(channel("a")));
    rig.table.mark(11, token);
    rig.table.notify(11, &note("a", "x"));
    assert!(ear.payloads().is_empty());
    rig.table.mark(10, token);
    rig.table.settle(1);
    rig.table.notify(11, &note("a", "y"));
    assert_eq!(ear.payloads(), ["y"]);
}

#[test]
fn the_numbers_of_processes_are_those_of_clients_only_where_it_is_certain() {
    let mut rig = Rig::new();
    let (one, two) = (rig.join(1), rig.join(2));
    rig.listen(1, 10, "a");
    rig.table.release(1, 10);
    rig.listen(2, 20, "a");
    rig.table.notify(20, &note("a", "x"));
    rig.table.notify(1, &note("a", "y"));
    rig.table.notify(10, &note("a", "z"));
    for ear in [one, two] {
        let numbers: Vec<i32> = ear.0.borrow().notes.iter().map(|note| note.0).collect();
        assert_eq!(numbers, [2, super::foreign(1), super::foreign(10)]);
    }
    assert!(super::foreign(1) > crate::control::NUMBER_MAX);
    assert_eq!(super::foreign(i32::MAX), i32::MAX);
}

#[test]
fn what_was_kept_for_a_session_is_told_when_it_lets_its_server_go() {
    let mut rig = Rig::new();
    let ear = rig.join(1);
    rig.listen(1, 10, "a");
    rig.begin(1, 10, Change::Unlisten(channel("a")));
    rig.table.notify(10, &note("a", "own"));
    assert!(ear.payloads().is_empty(), "it hangs on what comes next");
    rig.table.release(1, 20);
    assert!(ear.payloads().is_empty() && rig.table.holds(1, 10));
    rig.table.release(1, 10);
    assert_eq!(ear.payloads(), ["own"]);
}

#[test]
fn after_a_loss_all_is_listened_to_again_and_told_once() {
    let mut rig = Rig::new();
    let (ear, idle) = (rig.join(1), rig.join(2));
    for name in ["a", "b"] {
        rig.listen(1, 10, name);
    }
    let asked = rig.ask(2, Change::Listen(channel("c")));
    let ticket = rig.table.fence(1);
    for _ in 0..2 {
        rig.table.link_lost();
        assert!(rig.table.is_fenced(1, ticket), "it cannot come any more");
        assert!(!rig.table.is_ready(asked) && !rig.table.holds(1, 10));
        assert_eq!(rig.table.next_batch(), None);
    }
    rig.table.link_up();
    assert_eq!(ear.0.borrow().missed, 0, "not yet");
    let batch = rig.table.next_batch().unwrap();
    let names: HashSet<Channel> = batch.listen.into_iter().collect();
    assert_eq!(names, ["a", "b", "c"].map(channel).into());
    rig.table.answered();
    assert!(rig.table.is_ready(asked) && rig.table.is_up());
    assert_eq!((ear.0.borrow().missed, idle.0.borrow().missed), (1, 0));
    assert!(rig.table.settle(2).interrupted && !rig.table.settle(1).interrupted);
}

#[test]
fn who_has_no_room_is_named_and_channels_are_counted() {
    let mut rig = Rig::new();
    let ear = rig.join(1);
    rig.listen(1, 10, "a");
    ear.0.borrow_mut().deaf = true;
    rig.table.notify(30, &note("a", "x"));
    assert_eq!(rig.table.take_full(), [1]);
    // Nobody waits any more who has left: its sign would come to nobody.
    let ticket = rig.table.fence(1);
    assert!(!rig.table.is_fenced(1, ticket));
    let woken = ear.0.borrow().woken;
    assert!(rig.table.leave(1).is_some());
    assert!(rig.table.is_fenced(1, ticket) && ear.0.borrow().woken > woken);
    rig.join(2);
    for number in 0..10 {
        rig.listen(2, 20, &format!("c{number}"));
    }
    let more = rig.table.ask(2, 999, Change::Listen(channel("d")), 10);
    assert_eq!(more, Err(super::TooMany(10)));
    let again = rig.table.ask(2, 999, Change::Listen(channel("c1")), 10);
    assert!(again.is_ok());
}

/// What happens, one after another, in a model of a server: each step is a whole transaction.
#[derive(Debug, Clone)]
enum Step {
    /// A transaction of a listener: changes, then notifications, and whether it is committed.
    Own(Listener, Vec<(bool, u8)>, Vec<u8>, bool),
    /// A notification by somebody else.
    Other(u8),
    DiscardAll(Listener),
    Loss,
    Leave(Listener),
}

fn step() -> impl Strategy<Value = Step> {
    let listener = || 1..4i32;
    let changes = proptest::collection::vec((any::<bool>(), 0..3u8), 0..4);
    let notes = proptest::collection::vec(0..3u8, 0..3);
    prop_oneof![
        6 => (listener(), changes, notes, any::<bool>())
            .prop_map(|(who, changes, notes, commits)| Step::Own(who, changes, notes, commits)),
        6 => (0..3u8).prop_map(Step::Other),
        1 => listener().prop_map(Step::DiscardAll),
        1 => Just(Step::Loss),
        1 => listener().prop_map(Step::Leave),
    ]
}

/// What Postgres would do.
#[derive(Default)]
struct Model {
    listens: HashMap<Listener, HashSet<u8>>,
    heard: HashMap<Listener, Vec<String>>,
    count: usize,
}

impl Model {
    fn notify(&mut self, of: u8) -> String {
        self.count += 1;
        let payload = format!("{}", self.count);
        for (listener, channels) in &self.listens {
            if channels.contains(&of) {
                self.heard
                    .entry(*listener)
                    .or_default()
                    .push(payload.clone());
            }
        }
        payload
    }
}

fn run(steps: Vec<Step>) {
    let (mut rig, mut model) = (Rig::new(), Model::default());
    let mut ears: HashMap<Listener, Ear> = (1..4).map(|who| (who, rig.join(who))).collect();
    let name = |of: u8| format!("c{of}");
    for step in steps {
        match step {
            Step::Own(who, changes, notes, commits) => {
                let mut tokens = Vec::new();
                for (listen, of) in &changes {
                    let of = channel(&name(*of));
                    let change = match listen {
                        true => Change::Listen(of),
                        false => Change::Unlisten(of),
                    };
                    tokens.push(rig.begin(who, who * 10, change));
                }
                rig.table.hold(who, who * 10);
                if commits {
                    let own = model.listens.entry(who).or_default();
                    for (listen, of) in changes {
                        match listen {
                            true => drop(own.insert(of)),
                            false => drop(own.remove(&of)),
                        }
                    }
                    for of in notes {
                        let payload = model.notify(of);
                        rig.table.notify(who * 10, &note(&name(of), &payload));
                    }
                    tokens
                        .into_iter()
                        .for_each(|token| rig.table.mark(who * 10, token));
                }
                rig.serve();
                rig.table.settle(who);
            }
            Step::Other(of) => {
                let payload = model.notify(of);
                rig.table.notify(99, &note(&name(of), &payload));
            }
            Step::DiscardAll(who) => {
                model.listens.remove(&who);
                rig.table.unlisten_all(who);
            }
            Step::Loss => {
                rig.table.link_lost();
                rig.table.link_up();
                rig.serve();
            }
            Step::Leave(who) => {
                rig.table.leave(who);
                ears.insert(who, rig.join(who));
                model.listens.remove(&who);
                model.heard.remove(&who);
            }
        }
        for (who, ear) in &ears {
            let expected = model.heard.remove(who).unwrap_or_default();
            assert_eq!(ear.payloads(), expected, "{who}");
            let own = rig.table.of(*who).into_iter();
            let own: HashSet<Channel> = own.collect();
            let listens = model.listens.get(who).into_iter().flatten();
            assert_eq!(own, listens.map(|of| channel(&name(*of))).collect());
        }
    }
    for who in 1..4 {
        rig.table.leave(who);
    }
    rig.serve();
    assert_eq!(rig.table.channels.len(), 0, "the server forgets all");
    assert!(rig.table.marks.is_empty() && rig.table.holders.is_empty());
}

proptest! {
    #[test]
    fn whatever_happens_each_hears_what_it_would_from_postgres(
        steps in proptest::collection::vec(step(), 0..30)
    ) {
        run(steps);
    }
}
