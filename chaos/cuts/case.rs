//! What can be done to a flow, and where.

use std::fmt;
use std::str::FromStr;

use super::frames::HEADER;
use super::relay::Passed;

/// Between whom the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The client and pgherd.
    Client,
    /// pgherd and the server.
    Server,
}

/// Which messages are counted: those towards the server or those towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the server.
    Up,
    /// Towards the client.
    Down,
}

/// What is done to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Both ends get a RST.
    Reset,
    /// Both ends get a FIN.
    Close,
    /// Nothing passes any more in either direction, and nobody is told.
    Silence,
    /// All pauses for a moment and goes on.
    Stall,
    /// From here on one byte comes at a time.
    Slices,
    /// In the place of the rest of this direction come bytes that are no protocol.
    Garbage,
}

/// A place in the messages of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// So many messages have passed as a whole.
    pub messages: usize,
    /// And so many bytes of the next one.
    pub bytes: usize,
}

/// One cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// The name of the flow that is cut.
    pub flow: &'static str,
    /// Between whom.
    pub side: Side,
    /// In which direction.
    pub direction: Direction,
    /// Where.
    pub at: Position,
    /// How.
    pub way: Way,
}

impl Side {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl Direction {
    const ALL: [Self; 2] = [Self::Up, Self::Down];

    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Reset,
        Self::Close,
        Self::Silence,
        Self::Stall,
        Self::Slices,
        Self::Garbage,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Silence => "silence",
            Self::Stall => "stall",
            Self::Slices => "slices",
            Self::Garbage => "garbage",
        }
    }

    /// Whether nothing is lost by it.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Stall | Self::Slices)
    }
}

macro_rules! words {
    ($kind:ty, $what:literal) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.into_iter().find(|one| one.name() == text);
                found.ok_or_else(|| format!(concat!("{} is no ", $what), text))
            }
        }
    };
}

words!(Side, "side");
words!(Direction, "direction");
words!(Way, "way");

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flow,
            side,
            direction,
            at,
            way,
        } = self;
        let Position { messages, bytes } = at;
        write!(f, "{flow}/{side}/{direction}/{messages}+{bytes}/{way}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [flow, side, direction, at, way] = parts.as_slice() else {
            return Err(format!(
                "{text} is no case, as insert/server/down/1+0/reset is"
            ));
        };
        let known = super::flows::ALL.iter().find(|known| known.name == *flow);
        let flow = known
            .ok_or_else(|| format!("there is no flow {flow}"))?
            .name;
        let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
        let (messages, bytes) = at.split_once('+').unwrap_or((at, "0"));
        Ok(Self {
            flow,
            side: side.parse()?,
            direction: direction.parse()?,
            at: Position {
                messages: number(messages)?,
                bytes: number(bytes)?,
            },
            way: way.parse()?,
        })
    }
}

/// All cuts of a flow on one side, by the messages that pass there when nothing is cut.
pub(super) fn all(flow: &'static str, side: Side, passed: &[Passed]) -> Vec<Case> {
    let mut cases = Vec::new();
    for way in Way::ALL {
        for direction in Direction::ALL {
            if (side, direction, way) == (Side::Client, Direction::Down, Way::Garbage) {
                // Nobody is tested by it but our own client.
                continue;
            }
            let lengths = passed
                .iter()
                .filter(|passed| passed.direction == direction)
                .map(|passed| passed.length);
            cases.extend(positions(way, lengths).into_iter().map(|at| Case {
                flow,
                side,
                direction,
                at,
                way,
            }));
        }
    }
    cases
}

/// The boundaries and the middles of messages of these lengths.
fn positions(way: Way, lengths: impl Iterator<Item = usize>) -> Vec<Position> {
    let at = |messages, bytes| Position { messages, bytes };
    if way == Way::Slices {
        return vec![at(0, 0)];
    }
    let mut positions = vec![at(0, 0)];
    for (number, length) in lengths.enumerate() {
        let middle = match length.saturating_sub(HEADER) {
            0 => HEADER - 2,
            body => HEADER + body / 2,
        };
        positions.push(at(number, middle));
        positions.push(at(number + 1, 0));
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::{Case, Direction, Position, Side, Way, positions};

    #[test]
    fn a_case_is_known_by_its_name() {
        let case = Case {
            flow: "insert",
            side: Side::Server,
            direction: Direction::Down,
            at: Position {
                messages: 3,
                bytes: 7,
            },
            way: Way::Reset,
        };
        assert_eq!(case.to_string(), "insert/server/down/3+7/reset");
        assert_eq!(case.to_string().parse(), Ok(case));
        for wrong in ["", "x/server/down/3+7/reset", "insert/server/down/3+7/rest"] {
            assert!(wrong.parse::<Case>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_boundary_and_each_middle_is_a_place() {
        let found = positions(Way::Reset, [5, 20].into_iter());
        let found: Vec<_> = found.iter().map(|at| (at.messages, at.bytes)).collect();
        assert_eq!(found, [(0, 0), (0, 3), (1, 0), (1, 12), (2, 0)]);
        assert_eq!(positions(Way::Slices, [5, 20].into_iter()).len(), 1);
    }
}
