use std::fmt;

/// Why a session is bound to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Pin {
    /// `SET` or `RESET` of a parameter for the session.
    Set,
    /// `set_config(…)` for the session, or pg_trgm's `set_limit`.
    SetConfig,
    /// `SET ROLE`, `SET SESSION AUTHORIZATION` and their `RESET`.
    Role,
    /// SQL `PREPARE` or `DEALLOCATE` of a name.
    Prepare,
    /// `LISTEN`.
    Listen,
    /// A temporary table, view or sequence that outlives the transaction.
    TempTable,
    /// `DECLARE … WITH HOLD`.
    HoldCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// `LOAD`. Nothing undoes it.
    Load,
    /// `setseed`. Nothing undoes it, not even `DISCARD ALL`.
    Setseed,
    /// A prepared statement whose text names a moment, such as `'now'`: another server would read
    /// another one.
    Moment,
    /// What a function has done, as a look at the server's session has shown.
    Function,
    /// A value of a sequence that the session may ask for next.
    Sequence,
    /// Something that cannot be seen through, or that lives as long as the connection (temporary replication
    /// slots, a running backup, dblink connections).
    Unknown,
}

impl Pin {
    /// All, in the order of their bits.
    pub const ALL: [Self; 14] = [
        Self::Set,
        Self::SetConfig,
        Self::Role,
        Self::Prepare,
        Self::Listen,
        Self::TempTable,
        Self::HoldCursor,
        Self::AdvisoryLock,
        Self::Load,
        Self::Setseed,
        Self::Moment,
        Self::Function,
        Self::Sequence,
        Self::Unknown,
    ];

    /// A short name for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::SetConfig => "set_config",
            Self::Role => "role",
            Self::Prepare => "prepare",
            Self::Listen => "listen",
            Self::TempTable => "temp_table",
            Self::HoldCursor => "hold_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Load => "load",
            Self::Setseed => "setseed",
            Self::Moment => "moment",
            Self::Function => "function",
            Self::Sequence => "sequence",
            Self::Unknown => "unknown",
        }
    }
}

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PinSet(u16);

/// The reasons that a text ends.
pub type UnpinSet = PinSet;

impl PinSet {
    /// No reason.
    pub const EMPTY: Self = Self(0);

    /// What `DISCARD ALL` ends: all but `Load`, `Setseed` and `Unknown`.
    ///
    /// What nobody could see through may be just what outlives it, and which no view shows: a library, a seed, a
    /// connection of dblink, a backup under way, a replication origin. So it proves nothing about `Unknown`, which
    /// ends where nothing of it has run: where the server could not read the text, or has skipped it.
    pub const DISCARD_ALL: Self = Self::of(&[
        Pin::Set,
        Pin::SetConfig,
        Pin::Role,
        Pin::Prepare,
        Pin::Listen,
        Pin::TempTable,
        Pin::HoldCursor,
        Pin::AdvisoryLock,
        Pin::Moment,
        Pin::Function,
        Pin::Sequence,
    ]);

    /// The set of `pins`.
    pub const fn of(pins: &[Pin]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < pins.len() {
            bits |= 1 << pins[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `pin` is among them.
    #[inline]
    pub const fn contains(self, pin: Pin) -> bool {
        self.0 & 1 << pin as u16 != 0
    }

    /// Adds `pin`.
    #[inline]
    pub const fn insert(&mut self, pin: Pin) {
        self.0 |= 1 << pin as u16;
    }

    /// Takes `pin` away.
    pub const fn remove(&mut self, pin: Pin) {
        self.0 &= !(1 << pin as u16);
    }

    /// Those of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in `other`, too.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Pin> {
        Pin::ALL.into_iter().filter(move |pin| self.contains(*pin))
    }
}

impl fmt::Debug for PinSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
