use std::num::NonZeroUsize;
use std::time::Duration;

use crate::draft::Node;
use crate::reader::Reader;
use crate::section::Check;
use crate::setting::Setting;

section! {
    /// How a pool, one per user and database, behaves unless set anew there.
    pub struct PoolDefaults {
        /// When a server connection goes back.
        [NextConnection] mode: PoolMode,
        /// The most server connections, without the reserve.
        [Now] size: NonZeroUsize,
        /// Server connections kept open even without clients.
        [Now] min: usize,
        /// Server connections beyond the size, for clients who have waited `reserve_after`.
        [Now] reserve: usize,
        /// How long a client waits before the reserve is used.
        [Now] reserve_after: Duration,
        /// The most clients in the queue; a further one is refused.
        [Now] max_waiters: NonZeroUsize,
        /// Which idle connection is taken first.
        [Now] order: Order,
        /// The query that makes a server connection as new after session mode; `None` closes
        /// the connection instead.
        [Now] reset_query: Option<String>,
        /// When a server's session is looked at for what functions left in it.
        [Now] function_check: FunctionCheck,
        /// The most prepared statements kept on a server connection; the least recently used
        /// makes room.
        [NextConnection] max_prepared_statements: NonZeroUsize,
        /// Their texts, in bytes: what a server keeps of them is some times that.
        [NextConnection] max_prepared_bytes: NonZeroUsize,
        /// Whether a BEGIN that stands alone waits for the first statement behind it before it
        /// takes a server.
        [Now] defer_begin: bool,
        /// Whether a client that never had a setting of the users' own gets a server that never had it, a new one if
        /// need be.
        [Now] custom_settings_apart: SettingsApart,
    }
}

overrides! {
    /// Settings of a pool, for a database or a user.
    pub struct PoolOverrides over PoolDefaults {
        /// When a server connection goes back.
        mode: PoolMode,
        /// The most server connections, without the reserve.
        size: NonZeroUsize,
        /// Server connections kept open even without clients.
        min: usize,
        /// Server connections beyond the size.
        reserve: usize,
        /// How long a client waits before the reserve is used.
        reserve_after: Duration,
        /// The most clients in the queue.
        max_waiters: NonZeroUsize,
        /// Which idle connection is taken first.
        order: Order,
        /// The query that makes a server connection as new.
        reset_query: Option<String>,
        /// When a server's session is looked at for what functions left in it.
        function_check: FunctionCheck,
        /// The most prepared statements kept on a server connection.
        max_prepared_statements: NonZeroUsize,
        /// Their texts, in bytes.
        max_prepared_bytes: NonZeroUsize,
        /// Whether a BEGIN waits for the first statement behind it.
        defer_begin: bool,
        /// Whether who never had a setting of the users' own gets a server that never had it.
        custom_settings_apart: SettingsApart,
    }
}

/// When a server connection goes back to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the transaction is over.
    Transaction,
    /// When the client leaves.
    Session,
    /// After each statement; transactions over several statements are refused.
    Statement,
}

/// After which transactions a server's session is looked at before another client may have the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionCheck {
    /// Where a function may have run of which the catalogue does not prove that it changes nothing.
    Auto,
    /// After all that read or write.
    Always,
    /// Never: for databases whose functions are known to leave nothing behind.
    Never,
}

/// When a client that never had a setting of the users' own gets a server that never had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsApart {
    /// For whatever it sends.
    Always,
    /// For what may ask for a setting, as far as texts and the catalogue tell.
    IfAsked,
    /// Never: it may find an empty text where a new connection has nothing.
    Never,
}

/// Which idle server connection is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one last used: few connections stay warm, the others may end.
    Lifo,
    /// The one longest unused: load is spread evenly.
    Fifo,
}

words! { PoolMode { Transaction = "transaction", Session = "session", Statement = "statement", } }
words! { FunctionCheck { Auto = "auto", Always = "always", Never = "never", } }
words! { Order { Lifo = "lifo", Fifo = "fifo", } }

impl Setting for SettingsApart {
    fn allowed() -> String {
        format!("{}, {}", bool::allowed(), Self::IF_ASKED)
    }

    fn parse(node: &Node) -> Option<Self> {
        match bool::parse(node) {
            Some(true) => Some(Self::Always),
            Some(false) => Some(Self::Never),
            None => (node.text() == Some(Self::IF_ASKED)).then_some(Self::IfAsked),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Always => true.show(),
            Self::IfAsked => Self::IF_ASKED.to_owned(),
            Self::Never => false.show(),
        }
    }
}

impl SettingsApart {
    /// What is written where it hangs on what is asked.
    const IF_ASKED: &str = "if_asked";
}

impl Check for PoolDefaults {
    fn check(&self, reader: &mut Reader<'_>) {
        check_min(self.min, self.size, reader);
    }
}

impl Check for PoolOverrides {
    fn check(&self, reader: &mut Reader<'_>) {
        if let (Some(min), Some(size)) = (self.min, self.size) {
            check_min(min, size, reader);
        }
    }
}

fn check_min(min: usize, size: NonZeroUsize, reader: &mut Reader<'_>) {
    if min > size.get() {
        reader.contradiction(
            "min",
            format!("{min} is more than the size, {size}"),
            "0 to `size`",
        );
    }
}
