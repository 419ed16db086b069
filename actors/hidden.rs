//! Code in a database that runs without standing in any client's text: triggers, views, policies, operators.
//!
//! One value for each database, shared by the pools of all its users. Sessions read it at the end of their
//! turns; the one that finds it out of date asks the catalogue, by [`crate::session::survey`].

mod own;

use crate::clock;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pgherd_sql::{Defines, LexOptions, Runs, effects_knowing};

pub use own::{Asks, NAMES_MAX, OF_SERVER, OF_SETUP, Own};

/// After this time the catalogue is asked again, since not every change of it passes through here.
const FRESH: Duration = Duration::from_secs(30);
/// It is not asked more often than this, however often it changes.
const PAUSE: Duration = Duration::from_millis(200);
/// Nor so often that asking takes more than a twentieth of the time; a hundredth where it only may have changed, which
/// it may in some databases with every statement.
const SHARES: [u64; 2] = [20, 100];
/// But no later than this behind a change, whatever it takes.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a text may run besides what stands in it, as far as is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// Which code.
    pub runs: Runs,
    /// Settings of the users' own that functions set which it calls by name and which change nothing else.
    pub sets: Vec<Box<str>>,
    /// Whether what it calls by name changes what the database consists of.
    pub defines: Defines,
    /// What it does to how later texts of its transaction are read.
    pub sways: Sways,
}

/// What code may do to how later texts of its transaction are read. Each outweighs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Sways {
    /// Nothing.
    #[default]
    Nothing,
    /// Names may mean something else: it sets the search path, or a role, or makes something temporary.
    Names,
    /// Constants may, too: it sets another of the settings by which they are read, or nobody knows which.
    Texts,
}

impl Ran {
    /// This code, which sets and changes nothing that is known.
    pub fn only(runs: Runs) -> Self {
        Self {
            runs,
            sets: Vec::new(),
            defines: Defines::Nothing,
            sways: Sways::Nothing,
        }
    }
}

/// What a look at the catalogue has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Which texts may run code that changes a session: those that run at least this.
    pub threshold: Runs,
    /// Functions that are no part of Postgres and change no session, in lower case.
    pub known: HashSet<Box<[u8]>>,
    /// Settings of their own that functions set, in lower case.
    pub settings: Vec<Box<str>>,
    /// Of the known functions, those that set some of these, or call what does: a bit for each.
    pub setters: HashMap<Box<[u8]>, u64>,
    /// Those of the settings that whatever reads may set without naming a function, and whatever writes.
    pub unseen: [u64; 2],
    /// Whether a function may set others, whose names it makes up.
    pub obscure: bool,
    /// The other functions, which may change a session, in lower case, and whether they change what the database
    /// consists of.
    pub definers: HashMap<Box<[u8]>, Defines>,
    /// Which texts may come to such a function without naming it: those that run at least this. None without a level.
    pub stirs: Option<Runs>,
    /// Of the known functions, those that may ask for settings, or call what does.
    pub seers: HashSet<Box<[u8]>>,
    /// Which texts may ask for settings by code that they do not name: those that run at least this.
    pub sight: Runs,
    /// Whether a query may call a volatile function that its text does not name: by a view, a policy, a type,
    /// an operator, or because it has the name of one of Postgres' own.
    pub volatile: bool,
    /// Of all functions, those that sway how texts are read, or call what does, in lower case.
    pub swayers: HashMap<Box<[u8]>, Sways>,
    /// Which texts may come to such a function without naming it: those that run at least this. One level for names,
    /// and one for all that is read.
    pub sways: [Runs; 2],
    /// What each server answers for itself.
    pub own: Own,
    /// Whether there are functions that keep plans.
    pub plans: bool,
}

impl Found {
    /// The settings of these bits.
    fn named(&self, bits: u64) -> Vec<Box<str>> {
        let all = self.settings.iter().take(64).enumerate();
        all.filter(|(at, _)| (bits >> at) & 1 == 1)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Whether a function changes what the database consists of. One that is not there was made a moment ago.
    fn defines(&self, lower: &[u8]) -> Defines {
        const SETS: [&[u8]; 2] = [b"set_config", b"setseed"];
        match self.definers.get(lower) {
            Some(defines) => *defines,
            None if SETS.contains(&lower) => Defines::Nothing,
            None => Defines::Perhaps,
        }
    }

    /// What a function does to how texts are read. One that is not there was made a moment ago, unless it is one of
    /// Postgres' own; what `set_config` does is followed by its arguments.
    fn sways(&self, lower: &[u8]) -> Sways {
        let is_there = self.known.contains(lower) || self.definers.contains_key(lower);
        let is_told = is_there || lower.starts_with(b"pg_") || lower == b"set_config";
        let missing = if is_told {
            Sways::Nothing
        } else {
            Sways::Texts
        };
        self.swayers.get(lower).copied().unwrap_or(missing)
    }
}

/// What is known about one database.
#[derive(Debug)]
pub struct Hidden {
    threshold: AtomicU8,
    /// A query runs no volatile function but those that its text names.
    steady: AtomicBool,
    /// From what on a text may set the users' own settings by code that it does not name.
    sets: AtomicU8,
    /// From what on a text may ask for settings by code that it does not name.
    sight: AtomicU8,
    /// From what on a text may change the catalogue by code that it does not name; above all if there is none.
    stirs: AtomicU8,
    /// From what on a text may sway how others are read by code that it does not name: which names, and which texts.
    sways: [AtomicU8; 2],
    /// There may be functions that keep plans.
    plans: AtomicBool,
    /// What is known was found since the last change.
    surveyed: AtomicBool,
    /// A transaction was prepared that changes the catalogue.
    prepared: AtomicBool,
    /// When the catalogue was asked last, in nanoseconds after `born`.
    asked: AtomicU64,
    /// How long that took, in nanoseconds.
    cost: AtomicU64,
    /// Transactions under way that change the catalogue.
    altering: AtomicU32,
    /// When to look again, in nanoseconds after `born`.
    due: AtomicU64,
    born: Instant,
    found: ArcSwapOption<Found>,
    /// How often the catalogue has changed; held while what was found is taken over.
    changes: Mutex<u64>,
    /// How often by what has passed through here.
    own_changes: AtomicU64,
    /// How often somebody has said that it may have changed.
    heard: AtomicU64,
}

impl Default for Hidden {
    fn default() -> Self {
        Self {
            threshold: AtomicU8::new(Runs::Reads as u8),
            steady: AtomicBool::new(false),
            sets: AtomicU8::new(Runs::Unknown as u8),
            sight: AtomicU8::new(Runs::Reads as u8),
            stirs: AtomicU8::new(u8::MAX),
            sways: [Runs::Reads; 2].map(|runs| AtomicU8::new(runs as u8)),
            plans: AtomicBool::new(true),
            surveyed: AtomicBool::new(false),
            prepared: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            cost: AtomicU64::new(0),
            altering: AtomicU32::new(0),
            due: AtomicU64::new(0),
            born: clock::now(),
            found: ArcSwapOption::empty(),
            changes: Mutex::new(0),
            own_changes: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }
}

impl Hidden {
    /// From what on a text may run code that changes its session. While that is not known, whatever reads.
    pub fn threshold(&self) -> Runs {
        if self.altering.load(Ordering::Acquire) > 0 {
            return Runs::Reads;
        }
        let level = usize::from(self.threshold.load(Ordering::Acquire));
        Runs::ALL.get(level).copied().unwrap_or(Runs::Reads)
    }

    /// How often the catalogue has been changed by what has passed through here.
    pub fn changes(&self) -> u64 {
        *self.changes.lock()
    }

    /// How often it has been changed by what has passed through here.
    pub fn own_changes(&self) -> u64 {
        self.own_changes.load(Ordering::Acquire)
    }

    /// Somebody else has changed it, or says so, as anybody may: what is known is asked for again, and code that no text
    /// names is not trusted until then; but no more than that, or whoever notifies would fail what others do.
    pub fn has_heard(&self) {
        let _changes = self.changes.lock();
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.distrust();
        self.due.fetch_min(self.soon(SHARES[0]), Ordering::AcqRel);
    }

    /// How often somebody has said that it may have changed.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Whether a query runs no volatile function but those that its text names. While that is not known, not.
    pub fn is_steady(&self) -> bool {
        self.altering.load(Ordering::Acquire) == 0 && self.steady.load(Ordering::Acquire)
    }

    /// Whether there may be functions that keep the plans of what they run. While that is not known, there may.
    pub fn keeps_plans(&self) -> bool {
        self.altering.load(Ordering::Acquire) > 0 || self.plans.load(Ordering::Acquire)
    }

    /// What was found when the catalogue was last asked.
    pub fn found(&self) -> Option<Arc<Found>> {
        self.found.load_full()
    }

    /// Whether nothing has changed since the catalogue was asked last.
    pub fn is_surveyed(&self) -> bool {
        self.surveyed.load(Ordering::Acquire)
    }

    /// Whether it is time to ask the catalogue.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.load(Ordering::Relaxed) <= self.since_birth(now)
    }

    /// Takes it on to ask the catalogue, if it is time and nobody else does. Is it not told of what was
    /// found, somebody else asks later.
    pub fn claim(&self, now: Instant) -> Option<Claim> {
        let due = self.due.load(Ordering::Relaxed);
        let here = self.since_birth(now);
        if due > here {
            return None;
        }
        let next = here.saturating_add(nanos(FRESH));
        let claimed = self
            .due
            .compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed);
        claimed.ok()?;
        self.asked.store(here, Ordering::Relaxed);
        let changes = self.changes.lock();
        Some(Claim {
            changes: *changes,
            heard: self.heard(),
            at: here,
        })
    }

    /// Takes over what was found, unless the catalogue has changed meanwhile.
    pub fn learn(&self, claim: &Claim, found: Found) {
        self.has_taken(claim);
        let changes = self.changes.lock();
        if *changes == claim.changes && self.heard() == claim.heard {
            let threshold = found.threshold.max(Runs::Reads);
            // By what is found reads are told from what each server answers for itself: it comes before.
            let steady = !found.volatile;
            self.steady.store(false, Ordering::Release);
            let sets = match found.unseen {
                [0, 0] => Runs::Unknown,
                [0, _] => Runs::Writes,
                _ => Runs::Reads,
            };
            self.sets.store(sets as u8, Ordering::Release);
            let sight = found.sight.max(Runs::Reads);
            self.sight.store(sight as u8, Ordering::Release);
            let stirs = found.stirs.map_or(u8::MAX, |runs| runs as u8);
            self.stirs.store(stirs, Ordering::Release);
            for (level, runs) in self.sways.iter().zip(found.sways) {
                level.store(runs.max(Runs::Reads) as u8, Ordering::Release);
            }
            self.plans.store(found.plans, Ordering::Release);
            self.surveyed.store(true, Ordering::Release);
            self.found.store(Some(Arc::new(found)));
            self.steady.store(steady, Ordering::Release);
            self.threshold.store(threshold as u8, Ordering::Release);
        }
    }

    /// It was asked in vain: what is known stays, and a change has it asked again as if there had been an answer.
    pub fn learn_nothing(&self, claim: &Claim) {
        self.has_taken(claim);
    }

    fn has_taken(&self, claim: &Claim) {
        let took = self.since_birth(clock::now()).saturating_sub(claim.at);
        self.cost.store(took, Ordering::Relaxed);
    }

    /// What the functions that a text calls may do besides, as far as they are known by now.
    pub fn reread(&self, text: &[u8], options: LexOptions) -> Ran {
        let Some(found) = self.found() else {
            let mut ran = Ran::only(Runs::Unknown);
            (ran.defines, ran.sways) = (Defines::Perhaps, Sways::Texts);
            return ran;
        };
        let bits = Cell::new(0);
        let defines = Cell::new(Defines::Nothing);
        let sways = Cell::new(Sways::Nothing);
        let known = |name: &[u8]| {
            let lower = name.to_ascii_lowercase();
            sways.set(sways.get().max(found.sways(&lower)));
            bits.set(bits.get() | found.setters.get(&*lower).copied().unwrap_or_default());
            let is_known = found.known.contains(name) || found.known.contains(&*lower);
            if !is_known {
                defines.set(defines.get().max(found.defines(&lower)));
            }
            is_known
        };
        let runs = effects_knowing(text, options, &known).runs;
        let defines = match defines.get() {
            // What it is to run may stand in the text, as a string.
            Defines::Perhaps => pgherd_sql::defines(text).max(Defines::Perhaps),
            certain => certain,
        };
        let besides = match runs {
            // What the functions do that it names is known by now, and what it executes by its name is told elsewhere.
            Runs::Unknown => {
                let effects = effects_knowing(text, options, &|_| true);
                let executes = effects.executes.then_some(Runs::Writes);
                executes.unwrap_or(effects.runs)
            }
            runs => runs,
        };
        Ran {
            runs,
            sets: found.named(bits.get()),
            defines,
            sways: sways.get().max(self.sways(besides)),
        }
    }

    /// What a text that runs this may do to how later ones are read, by code that it does not name. While that is not
    /// known, whatever reads may do anything.
    pub fn sways(&self, runs: Runs) -> Sways {
        let comes_to = |level: &AtomicU8| runs as u8 >= level.load(Ordering::Acquire);
        let [names, texts] = &self.sways;
        if comes_to(texts) {
            Sways::Texts
        } else if comes_to(names) {
            Sways::Names
        } else {
            Sways::Nothing
        }
    }

    /// Whether a text that runs this may change the catalogue by code that it does not name.
    pub fn stirs(&self, runs: Runs) -> bool {
        runs as u8 >= self.stirs.load(Ordering::Relaxed)
    }

    /// A transaction that changes the catalogue was prepared, and may be committed by anybody.
    pub fn prepare(&self) {
        self.prepared.store(true, Ordering::Release);
    }

    /// Whether a transaction that was prepared may change the catalogue, as far as has passed through here.
    pub fn has_prepared(&self) -> bool {
        self.prepared.load(Ordering::Acquire)
    }

    /// Whether a text that runs this surely sets and asks for no settings by code that does not stand in it, and changes
    /// nothing in its session by such code. While that is not known, not.
    pub fn is_blind(&self, text: &[u8], runs: Runs, options: LexOptions) -> bool {
        let runs = match (runs, self.found()) {
            (Runs::Unknown, Some(found)) => {
                let known = |name: &[u8]| {
                    let lower = name.to_ascii_lowercase();
                    let is_known = found.known.contains(name) || found.known.contains(&*lower);
                    let sets = found.setters.contains_key(&*lower);
                    is_known && !sets && !found.seers.contains(&*lower)
                };
                effects_knowing(text, options, &known).runs
            }
            _ => runs,
        };
        let sight = usize::from(self.sight.load(Ordering::Acquire));
        let sight = Runs::ALL.get(sight).copied().unwrap_or(Runs::Reads);
        // The threshold comes last: it falls first when the catalogue changes.
        runs < sight && self.sets(runs).is_empty() && runs < self.threshold()
    }

    /// The users' own settings that a text which runs this may set by code that it does not name.
    pub fn sets(&self, runs: Runs) -> Vec<Box<str>> {
        if (runs as u8) < self.sets.load(Ordering::Acquire) {
            return Vec::new();
        }
        let bits = |found: &Found| match runs {
            Runs::Nothing => 0,
            Runs::Reads => found.unseen[0],
            Runs::Writes | Runs::Unknown => found.unseen[0] | found.unseen[1],
        };
        let found = self.found();
        found.map_or_else(Vec::new, |found| found.named(bits(&found)))
    }

    fn since_birth(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.born))
    }

    fn changed(&self) {
        let mut changes = self.changes.lock();
        *changes += 1;
        self.distrust();
        let soon = self.soon(SHARES[0]);
        // What was asked for lately may be asked for again at once only the first time.
        let due = if *changes == 1 { 0 } else { soon };
        self.due.fetch_min(due, Ordering::AcqRel);
    }

    /// Nothing that was found is relied on; `changes` is held meanwhile.
    fn distrust(&self) {
        self.threshold.store(Runs::Reads as u8, Ordering::Release);
        self.steady.store(false, Ordering::Release);
        self.plans.store(true, Ordering::Release);
        self.surveyed.store(false, Ordering::Release);
        self.sight.store(Runs::Reads as u8, Ordering::Release);
        for level in &self.sways {
            level.store(Runs::Reads as u8, Ordering::Release);
        }
    }

    /// It may have changed.
    fn suspected(&self) {
        self.due.fetch_min(self.soon(SHARES[1]), Ordering::AcqRel);
    }

    /// When to ask next, if that may take one part of so many of the time.
    fn soon(&self, share: u64) -> u64 {
        let (asked, cost) = (&self.asked, &self.cost);
        let rest = cost.load(Ordering::Relaxed).saturating_mul(share);
        let rested = asked.load(Ordering::Relaxed).saturating_add(rest);
        let soon = |pause| self.since_birth(clock::now()).saturating_add(nanos(pause));
        rested.clamp(soon(PAUSE), soon(PAUSE_MAX))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The errand of asking the catalogue.
#[derive(Debug)]
pub struct Claim {
    changes: u64,
    heard: u64,
    at: u64,
}

/// A transaction that changes the catalogue: as long as it may not have ended, nothing is believed. Or one that may do
/// so, where no text says it: then the catalogue is asked soon behind it, and what is known is believed until then.
#[derive(Debug)]
pub struct Alteration {
    hidden: Arc<Hidden>,
    certain: bool,
}

impl Alteration {
    /// Begins one.
    pub fn begin(hidden: &Arc<Hidden>) -> Self {
        let mut begun = Self::perhaps(hidden);
        begun.confirm();
        begun
    }

    /// Begins what may be one.
    pub fn perhaps(hidden: &Arc<Hidden>) -> Self {
        Self {
            hidden: Arc::clone(hidden),
            certain: false,
        }
    }

    /// Whether it surely is one.
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// It is one.
    pub fn confirm(&mut self) {
        if !std::mem::replace(&mut self.certain, true) {
            self.hidden.altering.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Alteration {
    fn drop(&mut self) {
        if !self.certain {
            self.hidden.suspected();
            return;
        }
        // In this order: there is no moment at which the old knowledge holds.
        self.hidden.changed();
        self.hidden.own_changes.fetch_add(1, Ordering::AcqRel);
        self.hidden.altering.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use pgherd_sql::{Defines, LexOptions, Runs};

    use super::{Alteration, FRESH, Found, Hidden, Sways, nanos};

    fn found(threshold: Runs) -> Found {
        Found {
            threshold,
            known: [Box::from(&b"pure"[..])].into(),
            ..Found::default()
        }
    }

    #[test]
    fn nothing_is_believed_before_the_catalogue_was_asked() {
        let hidden = Hidden::default();
        assert_eq!(hidden.threshold(), Runs::Reads);
        assert!(!hidden.is_steady());
        let now = Instant::now();
        let claim = hidden.claim(now).expect("it is time");
        assert!(hidden.claim(now).is_none(), "somebody asks already");
        hidden.learn(&claim, found(Runs::Unknown));
        assert_eq!(hidden.threshold(), Runs::Unknown);
        assert!(hidden.is_steady());
        assert!(!hidden.is_due(now));
        assert!(hidden.is_due(now + FRESH + Duration::from_secs(1)));
    }

    #[test]
    fn what_changed_meanwhile_makes_an_answer_worthless() {
        let hidden = Arc::new(Hidden::default());
        let claim = hidden.claim(Instant::now()).expect("it is time");
        let alteration = Alteration::begin(&hidden);
        hidden.learn(&claim, found(Runs::Unknown));
        assert_eq!(hidden.threshold(), Runs::Reads, "a change is under way");
        drop(alteration);
        assert_eq!(hidden.threshold(), Runs::Reads, "it has happened");
        assert!(!hidden.is_steady());
        let later = Instant::now() + FRESH;
        let claim = hidden.claim(later).expect("it is asked soon");
        hidden.learn(&claim, found(Runs::Writes));
        assert_eq!(hidden.threshold(), Runs::Writes);
    }

    #[test]
    fn what_may_have_changed_is_looked_after_soon() {
        let hidden = Arc::new(Hidden::default());
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.learn(&claim, found(Runs::Unknown));
        drop(Alteration::perhaps(&hidden));
        assert_eq!(hidden.threshold(), Runs::Unknown, "it is believed");
        assert_eq!(hidden.changes(), 0);
        let now = Instant::now();
        assert!(!hidden.is_due(now));
        assert!(hidden.is_due(now + FRESH / 2));
        // It turns out to be one while it is under way.
        let mut alteration = Alteration::perhaps(&hidden);
        assert_eq!(hidden.threshold(), Runs::Unknown);
        alteration.confirm();
        alteration.confirm();
        assert_eq!(hidden.threshold(), Runs::Reads);
        drop(alteration);
        assert_eq!(hidden.changes(), 1);
        assert_eq!(hidden.altering.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_others_say_is_no_change_but_looked_after() {
        let hidden = Hidden::default();
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.has_heard();
        hidden.learn(&claim, found(Runs::Unknown));
        assert_eq!(hidden.threshold(), Runs::Reads, "it may be of before");
        let later = Instant::now() + FRESH;
        let claim = hidden.claim(later).expect("it is asked soon");
        hidden.learn(&claim, found(Runs::Unknown));
        assert!(hidden.is_steady());
        hidden.has_heard();
        assert!(!hidden.is_steady() && !hidden.is_surveyed());
        assert_eq!((hidden.changes(), hidden.heard()), (0, 2));
    }

    #[test]
    fn to_ask_does_not_take_all_of_the_time() {
        let hidden = Arc::new(Hidden::default());
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.learn(&claim, found(Runs::Unknown));
        hidden
            .cost
            .store(nanos(Duration::from_millis(100)), Ordering::Relaxed);
        drop(Alteration::perhaps(&hidden));
        let now = Instant::now();
        assert!(!hidden.is_due(now + Duration::from_secs(5)));
        assert!(hidden.is_due(now + Duration::from_secs(11)));
    }

    #[test]
    fn what_is_asked_in_vain_is_not_asked_all_the_time() {
        let begun = Instant::now();
        let hidden = Arc::new(Hidden {
            born: begun.checked_sub(Duration::from_secs(1)).unwrap_or(begun),
            ..Hidden::default()
        });
        let claim = hidden.claim(hidden.born).expect("it is time");
        hidden.learn_nothing(&claim);
        assert_eq!(hidden.threshold(), Runs::Reads, "nothing is known");
        drop(Alteration::perhaps(&hidden));
        let now = Instant::now();
        assert!(!hidden.is_due(now + Duration::from_secs(5)));
        assert!(hidden.is_due(now + Duration::from_secs(11)));
    }

    #[test]
    fn functions_tell_whether_they_define_something() {
        let hidden = Hidden::default();
        let claim = hidden.claim(Instant::now()).expect("it is time");
        let definers = [
            (&b"locks"[..], Defines::Nothing),
            (b"runs", Defines::Perhaps),
            (b"makes", Defines::Says),
        ];
        let told = Found {
            definers: definers.map(|(name, how)| (Box::from(name), how)).into(),
            stirs: Some(Runs::Writes),
            ..found(Runs::Unknown)
        };
        hidden.learn(&claim, told);
        let defines = |text: &str| {
            let options = LexOptions::default();
            hidden.reread(text.as_bytes(), options).defines
        };
        for (text, how) in [
            ("select pure(1), locks(1)", Defines::Nothing),
            (
                "select set_config('work_mem', a, false) from t",
                Defines::Nothing,
            ),
            ("select Runs($1)", Defines::Perhaps),
            ("select made_just_now()", Defines::Perhaps),
            ("select runs('create trigger x')", Defines::Says),
            ("select pure(makes())", Defines::Says),
            ("call makes()", Defines::Says),
        ] {
            assert_eq!(defines(text), how, "{text}");
        }
        assert!(hidden.stirs(Runs::Writes) && !hidden.stirs(Runs::Reads));
    }

    #[test]
    fn who_sways_how_texts_are_read_is_told() {
        let hidden = Hidden::default();
        let sways = |text: &str| {
            let options = LexOptions::default();
            hidden.reread(text.as_bytes(), options).sways
        };
        assert_eq!(sways("select pure(1)"), Sways::Texts, "nothing is known");
        assert_eq!(hidden.sways(Runs::Reads), Sways::Texts);
        assert_eq!(hidden.sways(Runs::Nothing), Sways::Nothing);
        let claim = hidden.claim(Instant::now()).expect("it is time");
        let swayers = [(&b"enter"[..], Sways::Names), (b"restyle", Sways::Texts)];
        let told = Found {
            swayers: swayers.map(|(name, how)| (Box::from(name), how)).into(),
            sways: [Runs::Writes, Runs::Unknown],
            ..found(Runs::Unknown)
        };
        hidden.learn(&claim, told);
        for (text, how) in [
            ("select pure(1)", Sways::Nothing),
            ("select Enter('one')", Sways::Names),
            ("select restyle(), enter('one')", Sways::Texts),
            ("insert into t values (pure(1))", Sways::Names),
            ("select made_just_now()", Sways::Texts),
            (
                "select set_config('work_mem', a, true) from t",
                Sways::Nothing,
            ),
            ("do $$ begin end $$", Sways::Texts),
            ("begin; execute s", Sways::Names),
        ] {
            assert_eq!(sways(text), how, "{text}");
        }
        assert_eq!(hidden.sways(Runs::Reads), Sways::Nothing);
        assert_eq!(hidden.sways(Runs::Writes), Sways::Names);
    }

    #[test]
    fn known_functions_are_no_reason() {
        let hidden = Hidden::default();
        let reread = |text: &str| hidden.reread(text.as_bytes(), LexOptions::default()).runs;
        assert_eq!(reread("select pure(1)"), Runs::Unknown);
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.learn(&claim, found(Runs::Unknown));
        assert_eq!(reread("select PURE(1)"), Runs::Reads);
        assert_eq!(reread("select pure(1), other(2)"), Runs::Unknown);
    }

    #[test]
    fn who_asks_for_settings_is_not_blind() {
        let hidden = Arc::new(Hidden::default());
        let is_blind = |text: &str, runs| {
            let options = LexOptions::default();
            hidden.is_blind(text.as_bytes(), runs, options)
        };
        assert!(!is_blind("select 1", Runs::Reads), "nothing is known yet");
        let told = |sight| Found {
            sight,
            known: [&b"pure"[..], b"seer", b"setter"].map(Box::from).into(),
            seers: [Box::from(&b"seer"[..])].into(),
            setters: [(Box::from(&b"setter"[..]), 1)].into(),
            ..found(Runs::Unknown)
        };
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.learn(&claim, told(Runs::Writes));
        assert!(is_blind("select 1", Runs::Reads));
        assert!(!is_blind("delete from t", Runs::Writes));
        assert!(is_blind("select Pure(1)", Runs::Unknown));
        for text in ["select Seer(1)", "select setter(1)", "select other(1)"] {
            assert!(!is_blind(text, Runs::Unknown), "{text}");
        }
        let alteration = Alteration::begin(&hidden);
        assert!(!is_blind("select 1", Runs::Reads));
        drop(alteration);
        assert!(!is_blind("select 1", Runs::Reads));
    }

    #[test]
    fn plans_are_believed_to_be_kept_until_it_is_known() {
        let hidden = Arc::new(Hidden::default());
        assert!(hidden.keeps_plans());
        let claim = hidden.claim(Instant::now()).expect("it is time");
        hidden.learn(&claim, found(Runs::Unknown));
        assert!(!hidden.keeps_plans());
        let alteration = Alteration::begin(&hidden);
        assert!(hidden.keeps_plans());
        drop(alteration);
        assert!(hidden.keeps_plans(), "one was made, perhaps");
    }

    #[test]
    fn what_is_set_in_passing_is_named() {
        let hidden = Hidden::default();
        let claim = hidden.claim(Instant::now()).expect("it is time");
        assert!(hidden.sets(Runs::Writes).is_empty());
        let told = Found {
            settings: vec!["app.a".into(), "app.b".into()],
            setters: [(Box::from(&b"pure"[..]), 2)].into(),
            unseen: [0, 1],
            ..found(Runs::Unknown)
        };
        hidden.learn(&claim, told);
        assert!(hidden.sets(Runs::Reads).is_empty());
        assert_eq!(hidden.sets(Runs::Writes), ["app.a".into()]);
        let sets = |text: &str| hidden.reread(text.as_bytes(), LexOptions::default()).sets;
        assert_eq!(sets("select Pure(1)"), ["app.b".into()]);
        assert!(sets("select 1").is_empty());
    }
}
