//! One proxy: what it believes, and the connections that it lends by it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pgherd_cluster::{Absence, Epoch, Fault, HostName, Judge, Look, Rules, Standing, Writer};
use pgherd_pool::{
    Age, Ask, Lease, LeaseError, Limits, Meta, OpenSlot, Order, Place, PoolCore, SweepRules, Waiter,
};

use super::truth::Truth;

/// As in the default configuration.
const EXPIRY: Duration = Duration::from_secs(3);

const LIMITS: Limits = Limits {
    size: 4,
    min: 1,
    reserve: 0,
    reserve_after: Duration::from_secs(5),
    max_waiters: 40,
    max_opening: 2,
    order: Order::Lifo,
};

/// A connection: where it leads, and as what its server was seen when it was opened.
#[derive(Debug)]
pub(super) struct Conn {
    host: usize,
    timeline: u32,
    lives: Arc<AtomicUsize>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.lives.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notes that it was woken.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What was told of a host, and when.
type Evidence = (usize, Result<Look, Fault>, Instant);

/// A session that waits.
struct Queued {
    waiter: Waiter<Conn>,
    bell: Arc<Bell>,
}

/// What a lease or a place turned out to be.
pub(super) enum Got {
    Lease(u64),
    Place(u64),
    Refused,
}

pub(super) struct Proxy {
    /// It leaves it to the fence to keep away from who was replaced, where the router is careful twice.
    fences_only: bool,
    judge: Judge,
    /// Is told the same in another order.
    twin: Judge,
    untold: Vec<Evidence>,
    /// The verdict of which the router was told.
    last: (Writer, Epoch),
    /// The last word of each host that counts, and whether it has failed since.
    words: BTreeMap<usize, (Look, Instant, bool)>,
    /// The highest timeline of any primary that it was told of.
    reached: u32,
    epoch: Epoch,
    reigns: HashMap<Epoch, HostName>,
    pub(super) core: Arc<PoolCore<Conn>>,
    hint: Arc<AtomicBool>,
    /// What the router has made of the verdict.
    target: Option<usize>,
    /// The highest timeline that was known by then.
    followed: u32,
    leases: BTreeMap<u64, Lease<Conn>>,
    slots: BTreeMap<u64, (OpenSlot<Conn>, usize)>,
    queue: BTreeMap<u64, Queued>,
    lives: Arc<AtomicUsize>,
    next: u64,
    pub(super) waited: u64,
    pub(super) lent: u64,
    pub(super) fenced: u64,
    pub(super) splits: u64,
}

fn judge(truth: &Truth, now: Instant) -> Judge {
    let rules = Rules {
        expiry: EXPIRY,
        pace: Duration::from_millis(250),
        ill_after: 2,
        ..Rules::default()
    };
    let mut judge = Judge::new(rules);
    judge.members(truth.hosts.iter().map(|host| host.name.clone()), now);
    judge
}

impl Proxy {
    pub(super) fn new(number: usize, truth: &Truth, now: Instant) -> Self {
        let hint = Arc::new(AtomicBool::new(true));
        let hinted = Arc::clone(&hint);
        let core = PoolCore::new(LIMITS, Vec::new(), move || {
            hinted.store(true, Ordering::Relaxed);
        });
        core.hold(now);
        Self {
            fences_only: !number.is_multiple_of(2),
            judge: judge(truth, now),
            twin: judge(truth, now),
            untold: Vec::new(),
            last: (Writer::Nobody(Absence::Asking), Epoch::default()),
            words: BTreeMap::new(),
            reached: 0,
            epoch: Epoch::default(),
            reigns: HashMap::new(),
            core,
            hint,
            target: None,
            followed: 0,
            leases: BTreeMap::new(),
            slots: BTreeMap::new(),
            queue: BTreeMap::new(),
            lives: Arc::default(),
            next: 0,
            waited: 0,
            lent: 0,
            fenced: 0,
            splits: 0,
        }
    }

    /// How many epochs it has begun.
    pub(super) fn epochs(&self) -> u64 {
        self.reigns.len() as u64
    }

    pub(super) fn pace(&self, host: &HostName, now: Instant) -> Duration {
        self.judge.pace(host, now)
    }

    /// Who is to be written to, as it believes.
    pub(super) fn writer(&mut self, now: Instant) -> Option<HostName> {
        self.judge.verdict(now).writer().cloned()
    }

    /// Is told of a host. Gives whether there is something for the router to follow.
    pub(super) fn saw(
        &mut self,
        truth: &Truth,
        host: usize,
        outcome: Result<Look, Fault>,
        at: Instant,
        now: Instant,
    ) -> bool {
        // What is told twice is no new word: it does not undo what has failed behind it.
        let late = self.words.get(&host).is_some_and(|word| at <= word.1);
        match &outcome {
            Ok(look) => {
                if look.standing == Standing::Primary {
                    self.reached = self.reached.max(look.timeline);
                }
                if !late {
                    self.words.insert(host, (look.clone(), at, false));
                }
            }
            Err(_) if late => {}
            Err(_) => {
                if let Some(word) = self.words.get_mut(&host) {
                    word.2 = true;
                }
            }
        }
        self.untold.push((host, outcome.clone(), at));
        self.judge.saw(&truth.hosts[host].name, outcome, at);
        let after = self.judge.verdict(now);
        let same = after.writer == self.last.0 && after.epoch == self.last.1;
        if !same {
            self.last = (after.writer.clone(), after.epoch);
        }
        !same
    }

    /// Tells the twin, of one host after the other, what this one was told in the order of time.
    pub(super) fn compare(&mut self, truth: &Truth, now: Instant) -> Result<(), String> {
        let mut untold = std::mem::take(&mut self.untold);
        untold.sort_by_key(|(host, ..)| std::cmp::Reverse(*host));
        for (host, outcome, at) in untold {
            self.twin.saw(&truth.hosts[host].name, outcome, at);
        }
        let (mine, other) = (self.judge.verdict(now), self.twin.verdict(now));
        if mine.writer() != other.writer() || mine.timeline != other.timeline {
            return Err(format!(
                "two judges with the same evidence disagree: {:?} on {} and {:?} on {}",
                mine.writer, mine.timeline, other.writer, other.timeline
            ));
        }
        Ok(())
    }

    /// The verdict against the truth, and against what was told.
    pub(super) fn check_verdict(&mut self, truth: &Truth, now: Instant) -> Result<(), String> {
        let verdict = self.judge.verdict(now);
        if verdict.epoch < self.epoch || verdict.epoch.as_u64() < self.epoch.as_u64() {
            return Err(format!("the epoch fell to {}", verdict.epoch));
        }
        self.epoch = verdict.epoch;
        let both: Vec<usize> = self.writable_as_told(now);
        if both.len() > 1 {
            self.splits += u64::from(!matches!(verdict.writer, Writer::Nobody(Absence::Asking)));
            if let Some(writer) = verdict.writer() {
                return Err(format!(
                    "{writer} is written to while {both:?} are writable"
                ));
            }
        }
        let Some(writer) = verdict.writer() else {
            return Ok(());
        };
        let host = truth.number(writer).ok_or("an unknown host")?;
        let held = verdict.holder.as_ref().ok_or("a writer without a reign")?;
        if !truth.reigned(host, held.timeline) {
            return Err(format!("{writer} was never primary on {}", held.timeline));
        }
        if held.timeline < self.reached {
            return Err(format!(
                "{writer} is written to on {} although {} was reached",
                held.timeline, self.reached
            ));
        }
        let reign = self
            .reigns
            .entry(verdict.epoch)
            .or_insert_with(|| writer.clone());
        if reign != writer {
            return Err(format!("epoch {} has two hosts", verdict.epoch));
        }
        Ok(())
    }

    /// Hosts that are writable on the highest timeline by their last word, which is fresh and was not followed by
    /// a failure.
    fn writable_as_told(&self, now: Instant) -> Vec<usize> {
        let counts = |(look, at, failed): &(Look, Instant, bool)| {
            look.standing == Standing::Primary
                && look.timeline == self.reached
                && !failed
                && now.saturating_duration_since(*at) <= EXPIRY
        };
        let words = self.words.iter().filter(|(_, word)| counts(word));
        words.map(|(host, _)| *host).collect()
    }

    /// What the router does with a verdict: `Pool::lead_to`, `Pool::abandon`, or no more than a hold.
    pub(super) fn follow(&mut self, truth: &Truth, now: Instant) {
        let verdict = self.judge.verdict(now);
        self.followed = self.reached;
        let before = self.core.snapshot(now).lost.total();
        match &verdict.writer {
            Writer::At(name) => {
                let host = truth.number(name);
                drop(self.core.fence(verdict.epoch.as_u64()));
                if host != self.target && !self.fences_only {
                    drop(self.core.retire_all());
                }
                self.target = host;
                self.core.release(now);
            }
            Writer::Nobody(absence) => {
                self.core.hold(now);
                let left = !matches!(
                    absence,
                    Absence::Asking
                        | Absence::NoneSeen
                        | Absence::Full { .. }
                        | Absence::Gone { .. }
                        | Absence::Silent { .. }
                        | Absence::ReadOnly { .. }
                );
                if left {
                    drop(self.core.retire_all());
                }
            }
        }
        self.fenced += self.core.snapshot(now).lost.total() - before;
    }

    /// Begins to open what the pool wants, if it has asked. Gives where to.
    pub(super) fn open(&mut self, now: Instant) -> Vec<(u64, usize)> {
        let mut begun = Vec::new();
        if !self.hint.swap(false, Ordering::Relaxed) {
            return begun;
        }
        self.core.heard();
        let Some(host) = self.target else {
            return begun;
        };
        for _ in 0..self.core.wanted(now) {
            let Ok(slot) = self.core.begin_open(now) else {
                break;
            };
            self.next += 1;
            self.slots.insert(self.next, (slot, host));
            begun.push((self.next, host));
        }
        begun
    }

    /// Looks at the pool again after a connection that could not be had.
    pub(super) fn look_again(&self) {
        self.hint.store(true, Ordering::Relaxed);
    }

    /// A connection stands, or cannot be had. Gives whether it could.
    pub(super) fn opened(&mut self, truth: &Truth, slot: u64, stands: bool, now: Instant) -> bool {
        let Some((slot, host)) = self.slots.remove(&slot) else {
            return true;
        };
        // A server that follows says so when it greets, and is not taken in.
        let takes = truth.hosts[host].standing == Standing::Primary;
        if stands && takes {
            self.lives.fetch_add(1, Ordering::Relaxed);
            let conn = Conn {
                host,
                timeline: truth.hosts[host].timeline,
                lives: Arc::clone(&self.lives),
            };
            let _ = slot.fill(conn, now);
            return true;
        }
        false
    }

    /// A session wants a connection.
    pub(super) fn ask(&mut self, now: Instant) -> Result<Got, String> {
        self.next += 1;
        match self.core.lease(0, now) {
            Ok(Ask::Ready(lease)) => {
                self.check_lease(&lease)?;
                self.lent += 1;
                self.leases.insert(self.next, lease);
                Ok(Got::Lease(self.next))
            }
            Ok(Ask::Wait(waiter)) => {
                let bell = Arc::new(Bell(AtomicBool::new(true)));
                self.queue.insert(self.next, Queued { waiter, bell });
                Ok(Got::Place(self.next))
            }
            Err(LeaseError::QueueFull { limit }) if self.queue.len() >= limit => Ok(Got::Refused),
            Err(error) => Err(format!("refused: {error}")),
        }
    }

    /// Serves who was woken. Gives the leases that begin.
    pub(super) fn serve(&mut self) -> Result<Vec<u64>, String> {
        let mut begun = Vec::new();
        let mut left = BTreeMap::new();
        for (number, mut queued) in std::mem::take(&mut self.queue) {
            let woken = queued.bell.0.swap(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&queued.bell));
            let polled = Pin::new(&mut queued.waiter).poll(&mut Context::from_waker(&waker));
            match polled {
                Poll::Pending => {
                    left.insert(number, queued);
                }
                Poll::Ready(_) if !woken => {
                    return Err("who waits was given something and not woken".to_owned());
                }
                Poll::Ready(Ok(lease)) => {
                    self.check_lease(&lease)?;
                    self.waited += 1;
                    self.lent += 1;
                    self.leases.insert(number, lease);
                    begun.push(number);
                }
                Poll::Ready(Err(error)) => return Err(format!("a waiter was failed: {error}")),
            }
        }
        self.queue = left;
        Ok(begun)
    }

    /// What is lent leads to who may be written to, as far as the router knows.
    fn check_lease(&self, lease: &Lease<Conn>) -> Result<(), String> {
        let epoch = self.core.snapshot(lease.meta().opened).epoch;
        if lease.meta().epoch != epoch {
            return Err(format!(
                "a connection of epoch {} was lent in {epoch}",
                lease.meta().epoch
            ));
        }
        if lease.timeline < self.followed {
            return Err(format!(
                "a connection on timeline {} was lent although {} was reached",
                lease.timeline, self.followed
            ));
        }
        if Some(lease.host) != self.target {
            return Err(format!(
                "a connection to host {} was lent, {:?} is written to",
                lease.host, self.target
            ));
        }
        Ok(())
    }

    /// A session is done, or was cut off.
    pub(super) fn done(&mut self, number: u64, clean: bool) {
        if let Some(mut lease) = self.leases.remove(&number)
            && clean
        {
            lease.mark_clean();
        }
    }

    /// The deadline of who waits is over; it may have been served long ago.
    pub(super) fn expire(&mut self, number: u64) {
        self.queue.remove(&number);
    }

    /// What is unused or too old is closed.
    pub(super) fn sweep(&self, now: Instant) {
        let rules = SweepRules {
            idle_timeout: Some(Duration::from_secs(20)),
            lifetime: |_: &Meta| Age::Fresh,
        };
        drop(self.core.sweep(now, &rules));
    }

    /// The accounts balance, and what is idle is of the current epoch.
    pub(super) fn check_counts(&self, now: Instant) -> Result<(), String> {
        let is = self.core.snapshot(now);
        let should = (self.leases.len(), self.slots.len(), self.queue.len());
        if (is.leased, is.opening, is.waiting) != should {
            return Err(format!("the pool counts {is:?}, there are {should:?}"));
        }
        let lives = self.lives.load(Ordering::Relaxed);
        if lives != is.idle + is.leased || lives + is.opening > LIMITS.size {
            return Err(format!("{lives} connections live, the pool counts {is:?}"));
        }
        let mut stale = None;
        self.core.each(|seen| {
            if seen.place == Place::Idle && seen.meta.epoch != is.epoch {
                stale = Some(seen.meta.epoch);
            }
        });
        match stale {
            Some(epoch) => Err(format!("idle of epoch {epoch} in {}", is.epoch)),
            None => Ok(()),
        }
    }
}
