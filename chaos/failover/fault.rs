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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Freeze, Self::Revive];

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
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|fault| fault.to_string() == text);
        found.ok_or_else(|| "it is one of kill, stop, freeze, revive".to_owned())
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
