//! Deadlocks over several servers: each of them sees only a part of the cycle, and waits.
//!
//! Each server of a transaction over several of them holds a lock of ours, its [`Badge`], by which any proxy knows whose
//! it is. Whoever has waited for a second asks all shards who waits for whom ([`search`]). Transactions that wait for each
//! other, as no one server can see, are found alike by all proxies, and the youngest of them is told 40P01 by its own
//! session, which cancels what runs on servers that it holds, and nothing else. Only waits that were there both times that
//! all shards were asked count, so that nobody is told so for those of different moments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::server::ServerConn;
use crate::session::setup::{self, Answer};
use crate::shards::Group;
use crate::transactions::Transactions;

/// Who has waited for so long looks for a deadlock, and again after as long: it is Postgres' own `deadlock_timeout`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// For so long somebody finds another one to be ended before it ends its own wait.
const VAIN: Duration = Duration::from_secs(5);
/// A search that takes longer is given up: what it has heard is old.
const SEARCH_MAX: Duration = Duration::from_secs(5);
/// How long one shard is waited for: it may be away, and the deadlock elsewhere.
const ONE_MAX: Duration = Duration::from_secs(1);
/// More waits than these are not looked through at once.
const WAITS_MAX: usize = 10_000;
/// The first halves of our locks' numbers are from here on, and as many.
const CLASS: u32 = 0x7067_0000;
/// What fails, so that a server gives back what the (sub)transaction has locked there.
pub(crate) const FAIL: &[u8] = b"SELECT 1 OPERATOR(pg_catalog./) 0";

/// Who waits for whom in a database, and whose the servers are: pairs of processes, and a process with its badge. What is
/// waited for may be held by a process of another database, of another shard on the same server.
const QUESTION: &str = "SELECT 'waits', a.pid::pg_catalog.text, b.pid::pg_catalog.text, NULL::pg_catalog.text \
FROM pg_catalog.pg_stat_activity a, \
LATERAL (SELECT pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS pid) b \
WHERE a.datname = pg_catalog.current_database() \
AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) \
UNION ALL SELECT 'badge', l.pid::pg_catalog.text, l.classid::pg_catalog.text, l.objid::pg_catalog.text \
FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.pid IS NOT NULL \
AND l.classid BETWEEN 1885798400 AND 1885863935";

/// A transaction's number on all of its servers. Of two, the greater is the younger, but once in fifty days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Badge {
    /// The low half of the milliseconds since 1970.
    born: u32,
    class: u32,
}

impl Badge {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let born = since.unwrap_or_default().as_millis() & u128::from(u32::MAX);
        Self {
            born: u32::try_from(born).unwrap_or_default(),
            class: CLASS | u32::from(rand::random::<u16>()),
        }
    }

    /// What takes it on a server, to the end of the transaction.
    pub(crate) fn taken(self) -> String {
        format!(
            "pg_catalog.pg_advisory_xact_lock_shared('{}'::pg_catalog.int4, '{}'::pg_catalog.int4)",
            self.class.cast_signed(),
            self.born.cast_signed()
        )
    }
}

/// A transaction over several servers, as far as it may have to wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) badge: Badge,
    state: Mutex<State>,
    woken: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// The number of its wait.
    number: u64,
    waits: bool,
    condemned: bool,
    /// Since when it was found to wait in vain, for another one to be ended.
    vain: Option<Instant>,
}

/// A wait of it, which is over once this is dropped.
#[derive(Debug)]
pub(crate) struct Wait(Arc<Waiter>);

impl Waiter {
    /// It may have to wait from here on.
    pub(crate) fn begin(self: &Arc<Self>) -> Wait {
        let mut state = self.state.lock();
        state.number += 1;
        (state.waits, state.condemned, state.vain) = (true, false, None);
        drop(state);
        Wait(Arc::clone(self))
    }

    /// The number of its wait, if it does.
    fn waits(&self) -> Option<u64> {
        let state = self.state.lock();
        state.waits.then_some(state.number)
    }

    /// Ends the wait of this number, if it is not over; answers whether it was not.
    fn condemn(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let due = state.waits && state.number == number && !state.condemned;
        state.condemned |= due;
        drop(state);
        self.woken.wake();
        due
    }

    /// Another one is to be ended, and is not: it may be committing, or its proxy may stand still. Ends this wait after a while;
    /// answers whether it does.
    fn stands_still(&self, number: u64, now: Instant) -> bool {
        let mut state = self.state.lock();
        if !state.waits || state.number != number {
            return false;
        }
        let since = *state.vain.get_or_insert(now);
        let due = now.saturating_duration_since(since) >= VAIN;
        drop(state);
        due && self.condemn(number)
    }

    /// Nobody has to be ended for this wait; it is not, either.
    fn is_free(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        if state.number == number {
            state.vain = None;
        }
        false
    }
}

impl Wait {
    /// Ready if it is to be ended.
    pub(crate) fn poll_condemned(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.woken.register(cx.waker());
        match self.0.state.lock().condemned {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.state.lock().waits = false;
    }
}

/// All of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Vec<Weak<Waiter>>>);

impl Waiters {
    /// One more.
    pub(crate) fn enter(&self) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            badge: Badge::new(),
            state: Mutex::default(),
            woken: AtomicWaker::new(),
        });
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|waiter| waiter.strong_count() > 0);
        }
        all.push(Arc::downgrade(&waiter));
        drop(all);
        waiter
    }

    /// Those that wait, with the numbers of their waits.
    fn waiting(&self) -> Vec<(Arc<Waiter>, u64)> {
        let all = self.0.lock();
        let living = all.iter().filter_map(Weak::upgrade);
        living
            .filter_map(|waiter| waiter.waits().map(|number| (waiter, number)))
            .collect()
    }
}

/// What the client of the youngest is told.
pub(crate) fn detected() -> ErrorReport {
    ErrorReport::error(sqlstate::DEADLOCK_DETECTED, "deadlock detected")
        .detail("The transaction and others wait for each other on several shards.")
        .hint("Run the transaction again.")
}

/// Looks for deadlocks over the shards of a group, unless somebody does so already.
pub(crate) async fn search(group: Arc<Group>) {
    let Ok(_alone) = group.deadlocks.try_lock() else {
        return;
    };
    let waiters = &group.transactions.waiters;
    // Whose wait is over by then is not ended.
    let waiting = waiters.waiting();
    let looked = tokio::time::timeout(SEARCH_MAX, look_twice(&group, &waiting));
    let Ok(waits) = looked.await else {
        return;
    };
    for (waiter, number) in waiting {
        let ended = match waits.victim(waiter.badge) {
            Some(victim) if victim == waiter.badge => waiter.condemn(number),
            Some(_) => waiter.stands_still(number, clock::now()),
            None => waiter.is_free(number),
        };
        if ended {
            let database = &group.config.name;
            tracing::warn!(database, "ended a deadlock over several shards");
        }
    }
}

/// The waits that there are each time that all shards are asked, if some of these are in a deadlock by the first answers.
async fn look_twice(group: &Group, waiting: &[(Arc<Waiter>, u64)]) -> Waits {
    let mut servers = open(&group.transactions, group).await;
    let mut waits = look(&mut servers).await;
    if !waiting
        .iter()
        .any(|(waiter, _)| waits.victim(waiter.badge).is_some())
    {
        return Waits::default();
    }
    let again = look(&mut servers).await;
    waits.0.retain(|wait| again.0.contains(wait));
    waits
}

/// A server that is asked, and the number of its shard.
type Asked = (u16, Box<ServerConn>);

/// A connection of each shard that has a server to be had. Without the others a deadlock may not be seen, but none is seen
/// where there is none.
async fn open(transactions: &Transactions, group: &Group) -> Vec<Asked> {
    let mut servers = Vec::with_capacity(group.pools.len());
    for (number, pool) in (0..).zip(&group.pools) {
        let upstream = pool.upstream.load_full();
        let opened = tokio::time::timeout(ONE_MAX, transactions.open(&upstream)).await;
        let error = match opened {
            Ok(Ok(server)) => {
                servers.push((number, server));
                continue;
            }
            Ok(Err(error)) => error.report().message,
            Err(_) => "it did not answer in time".to_owned(),
        };
        let shard = &pool.key.database;
        tracing::warn!(
            shard,
            error,
            "cannot look there for deadlocks over several shards"
        );
    }
    servers
}

/// What the servers say; who says nothing is left out from then on.
async fn look(servers: &mut Vec<Asked>) -> Waits {
    let mut waits = Waits::default();
    let mut heard = Vec::with_capacity(servers.len());
    for (shard, mut server) in servers.drain(..) {
        let answer = Answer::of_rows(WAITS_MAX);
        let asked = setup::run_into(&mut server, QUESTION.as_bytes(), answer);
        let answer = tokio::time::timeout(ONE_MAX, asked).await;
        let answer = answer.ok().and_then(Result::ok);
        if let Some(answer) = answer.filter(|answer| answer.error.is_none()) {
            waits.take(shard, &answer.rows);
            heard.push((shard, server));
        }
    }
    *servers = heard;
    waits
}

/// Who may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    /// A transaction over several servers.
    Spread(Badge),
    /// Somebody else, by the number of the shard and of the server's process.
    Other(u16, i32),
}

/// Who waits for whom, and on which shard.
#[derive(Debug, Default)]
struct Waits(BTreeSet<(Party, Party, u16)>);

impl Waits {
    /// Takes what a shard has answered.
    fn take(&mut self, shard: u16, rows: &[Vec<Option<Vec<u8>>>]) {
        fn number<N: std::str::FromStr>(value: &Option<Vec<u8>>) -> Option<N> {
            std::str::from_utf8(value.as_deref()?).ok()?.parse().ok()
        }
        let mut badges: BTreeMap<i32, Badge> = BTreeMap::new();
        let mut pairs: Vec<(i32, i32)> = Vec::new();
        for row in rows {
            let [Some(kind), one, two, three] = row.as_slice() else {
                continue;
            };
            match kind.as_slice() {
                b"waits" => pairs.extend(number(one).zip(number(two))),
                _ => {
                    if let (Some(pid), Some(class), Some(born)) =
                        (number(one), number(two), number(three))
                    {
                        badges.insert(pid, Badge { born, class });
                    }
                }
            }
        }
        let party = |pid: i32| match badges.get(&pid) {
            Some(badge) => Party::Spread(*badge),
            None => Party::Other(shard, pid),
        };
        // What is prepared has no process, and waits for nobody.
        let pairs = pairs.into_iter().filter(|(_, holder)| *holder != 0);
        self.0
            .extend(pairs.map(|(waits, holder)| (party(waits), party(holder), shard)));
    }

    /// All who are reached from one, by waits or against them.
    fn reached(&self, from: Party, along: bool) -> BTreeSet<Party> {
        let mut next: BTreeMap<Party, Vec<Party>> = BTreeMap::new();
        for (waits, holder, _) in &self.0 {
            let (here, there) = match along {
                true => (waits, holder),
                false => (holder, waits),
            };
            next.entry(*here).or_default().push(*there);
        }
        let mut reached = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(party) = ahead.pop() {
            let new = next.get(&party).into_iter().flatten();
            ahead.extend(new.copied().filter(|there| reached.insert(*there)));
        }
        reached
    }

    /// Whose wait has to be ended, if this transaction and others wait for each other over several shards. Waits of one
    /// shard alone are its server's affair.
    fn victim(&self, badge: Badge) -> Option<Badge> {
        let own = Party::Spread(badge);
        let behind = self.reached(own, false);
        let circle: BTreeSet<Party> = self
            .reached(own, true)
            .intersection(&behind)
            .copied()
            .collect();
        let within = |(waits, holder, _): &&(Party, Party, u16)| {
            circle.contains(waits) && circle.contains(holder)
        };
        let shards: BTreeSet<u16> = self
            .0
            .iter()
            .filter(within)
            .map(|(_, _, shard)| *shard)
            .collect();
        // One that waits for itself does so for what two shards on one server have together.
        let alone = circle.len() == 1;
        if shards.len() < 2 && !alone {
            return None;
        }
        let spread = circle.iter().filter_map(|party| match party {
            Party::Spread(badge) => Some(*badge),
            Party::Other(..) => None,
        });
        spread.max()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use super::{Badge, CLASS, Waiters, Waits};

    const fn badge(born: u32) -> Badge {
        Badge { born, class: CLASS }
    }

    fn row(values: [&str; 4]) -> Vec<Option<Vec<u8>>> {
        let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        values.map(value).to_vec()
    }

    /// Processes 1 to 4 of each shard are of the transactions of these numbers, others of nobody's.
    fn waits(shards: &[&[(i32, i32)]]) -> Waits {
        let mut waits = Waits::default();
        for (shard, pairs) in (0..).zip(shards) {
            let mut rows: Vec<_> = pairs
                .iter()
                .map(|(one, two)| row(["waits", &one.to_string(), &two.to_string(), ""]))
                .collect();
            for number in 1..=4 {
                let (number, class) = (format!("{number}"), CLASS.to_string());
                rows.push(row(["badge", &number, &class, &number]));
            }
            waits.take(shard, &rows);
        }
        waits
    }

    #[test]
    fn the_youngest_of_those_who_wait_for_each_other_is_found_by_all() {
        let found = waits(&[&[(1, 2)], &[(2, 1)]]);
        assert_eq!(found.victim(badge(1)), Some(badge(2)));
        assert_eq!(found.victim(badge(2)), Some(badge(2)));
        let three = waits(&[&[(1, 2)], &[(2, 3)], &[(3, 1), (4, 1)]]);
        for number in 1..=3 {
            assert_eq!(three.victim(badge(number)), Some(badge(3)));
        }
        assert_eq!(three.victim(badge(4)), None, "it is only behind them");
    }

    #[test]
    fn a_cycle_may_go_through_sessions_of_one_shard() {
        let found = waits(&[&[(1, 77), (77, 2)], &[(2, 1)]]);
        assert_eq!(found.victim(badge(1)), Some(badge(2)));
        // The number of a process means something on its own shard only.
        assert_eq!(waits(&[&[(1, 77)], &[(77, 1)]]).victim(badge(1)), None);
    }

    #[test]
    fn one_may_wait_for_itself_on_a_server_of_two_shards() {
        let mut waits = Waits::default();
        let class = CLASS.to_string();
        let badges = ["8", "9"].map(|pid| row(["badge", pid, &class, "1"]));
        waits.take(0, &badges);
        assert_eq!(waits.victim(badge(1)), None);
        waits.take(1, &[&badges[..], &[row(["waits", "8", "9", ""])]].concat());
        assert_eq!(waits.victim(badge(1)), Some(badge(1)));
        assert_eq!(waits.victim(badge(2)), None);
    }

    #[test]
    fn who_only_waits_is_left_alone() {
        assert_eq!(waits(&[&[(1, 2)], &[(3, 2)]]).victim(badge(1)), None);
        assert_eq!(waits(&[&[], &[]]).victim(badge(1)), None);
        // Its server sees it, and ends it itself.
        assert_eq!(waits(&[&[(1, 2), (2, 1)], &[]]).victim(badge(1)), None);
        // What is prepared is nobody's process.
        assert_eq!(waits(&[&[(1, 0)], &[(0, 1)]]).victim(badge(1)), None);
    }

    #[tokio::test]
    async fn a_wait_is_ended_once_and_no_other() {
        let waiters = Waiters::default();
        let waiter = waiters.enter();
        assert!(waiters.waiting().is_empty());
        let first = waiter.begin();
        let number = waiters.waiting()[0].1;
        drop(first);
        assert!(!waiter.condemn(number), "it is over");
        let second = waiter.begin();
        assert!(!waiter.condemn(number), "it is another");
        let is_ended = poll_fn(|cx| Poll::Ready(second.poll_condemned(cx).is_ready()));
        assert!(!is_ended.await);
        assert!(waiter.condemn(waiters.waiting()[0].1));
        poll_fn(|cx| second.poll_condemned(cx)).await;
        drop(second);
        // Who was to be ended in its place is not.
        let third = waiter.begin();
        let number = waiters.waiting()[0].1;
        let now = Instant::now();
        let ended = |after| waiter.stands_still(number, now + Duration::from_secs(after));
        assert!(!ended(0) && !ended(4));
        // It was only behind those meanwhile.
        assert!(!waiter.is_free(number));
        for (after, expected) in [(5, false), (9, false), (10, true), (11, false)] {
            assert_eq!(ended(after), expected, "{after}");
        }
        poll_fn(|cx| third.poll_condemned(cx)).await;
        drop((third, waiter));
        assert!(waiters.waiting().is_empty());
    }
}
