use std::fmt;
use std::str::FromStr;

/// What befalls the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All its processes are killed.
    Kill,
    /// An operator shuts it down.
    Stop,
    /// All its processes are stopped without their knowledge, and go on when another is the primary,
    /// believing that they still are.
    Freeze,
    /// It is killed, and started again on its old timeline when another is the primary.
    Revive,
    /// Its disk is full: for a while it refuses what needs more, then it cannot log any more, and
    /// gives up.
    Full,
    /// The same; there is room again, and it is started again, before anybody takes its place.
    Room,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Kill,
        Self::Stop,
        Self::Freeze,
        Self::Revive,
        Self::Full,
        Self::Room,
    ];

    /// Those that anybody may deal, and whose pauses tell what a user may expect.
    pub const USUAL: [Self; 4] = [Self::Kill, Self::Stop, Self::Freeze, Self::Revive];

    /// Whether it fills a disk, which is one of its own then, as only root can make it.
    pub(super) fn fills(self) -> bool {
        matches!(self, Self::Full | Self::Room)
    }

    /// Whether the old primary is there again and takes writes after another was promoted.
    pub fn leaves_stale(self) -> bool {
        matches!(self, Self::Freeze | Self::Revive)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Revive => "revive",
            Self::Full => "full",
            Self::Room => "room",
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|fault| fault.to_string() == text);
        found.ok_or_else(|| "it is one of kill, stop, freeze, revive, full, room".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn each_is_read_as_it_is_shown() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("fire".parse::<Fault>().is_err());
    }
}
