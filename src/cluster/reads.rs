//! Which of the offered hosts a reading statement goes to.

use crate::lag::LagBounds;
use crate::look::Standing;
use crate::lsn::Lsn;
use crate::verdict::{HostState, Offer};

/// How the hosts that may be read from are chosen among.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Of two at random, the one with fewer statements under way for its weight.
    #[default]
    LeastOutstanding,
    /// One after the other.
    RoundRobin,
    /// At random, by weight.
    Weighted,
    /// Of two at random, the one that answered the last look faster.
    Latency,
}

/// Whether the primary is read from too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PrimaryReads {
    /// As one of all.
    Included,
    /// Never.
    Excluded,
    /// If no replica is well and near enough.
    #[default]
    Fallback,
}

/// How readers are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadRules<'a> {
    /// How to choose among equals.
    pub strategy: Strategy,
    /// Whether the primary is one of them.
    pub primary: PrimaryReads,
    /// Replicas further behind are left out, beside what the judge leaves out.
    pub lag: LagBounds,
    /// The zone whose hosts are preferred, as long as one of them will do and has room.
    pub zone: Option<&'a str>,
}

/// A host, and what is known of it here.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// From the verdict.
    pub state: &'a HostState,
    /// How many statements are under way there.
    pub outstanding: u32,
    /// How much it takes compared to others; zero: nothing.
    pub weight: u32,
    /// The zone it is in, if that is known.
    pub zone: Option<&'a str>,
    /// A statement would have to wait for a connection there.
    pub is_full: bool,
}

/// What a session has written and wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The timeline on which it was written.
    pub timeline: u32,
    /// Where the log was behind the write.
    pub lsn: Lsn,
}

/// Why there is nobody to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoReader {
    /// There are hosts, but none of them is known to have what the session has written.
    #[error("no replica is known to have replayed what the session has written")]
    NotReplayed,
    /// No host may be read from.
    #[error("there is no host to read from")]
    Nobody,
}

/// Chooses a reader, and gives its place in the list. Takes no memory.
///
/// First come replicas (and the primary, if it is included), then the primary as a fallback, then replicas that are only
/// offered as a last resort; within each, those of the zone first. `draw` is a random number, but for
/// [`Strategy::RoundRobin`] one that counts.
///
/// # Errors
/// [`NoReader`] if there is none.
pub fn choose(
    rules: &ReadRules<'_>,
    readers: &[Reader<'_>],
    need: Option<Need>,
    draw: u64,
) -> Result<usize, NoReader> {
    let usable = |reader: &Reader<'_>| {
        let tier = rules.tier(reader)?;
        need.is_none_or(|need| has(reader.state, need))
            .then_some(tier)
    };
    let Some(best) = readers.iter().filter_map(usable).min() else {
        let any = readers.iter().any(|reader| rules.tier(reader).is_some());
        return Err(if any {
            NoReader::NotReplayed
        } else {
            NoReader::Nobody
        });
    };
    let equals = || {
        let all = readers.iter().enumerate();
        all.filter(|(_, reader)| usable(reader) == Some(best))
    };
    let chosen = match rules.strategy {
        Strategy::RoundRobin => nth(equals(), draw, equals().count()),
        Strategy::Weighted => by_weight(equals(), draw),
        Strategy::LeastOutstanding => better_of_two(equals, draw, |one, two| {
            let load =
                |a: &Reader<'_>, b: &Reader<'_>| u64::from(a.outstanding) * u64::from(b.weight);
            load(two, one) < load(one, two)
        }),
        Strategy::Latency => better_of_two(equals, draw, |one, two| {
            // Who has no latency has not answered lately.
            let slow = |reader: &Reader<'_>| (reader.state.latency.is_none(), reader.state.latency);
            slow(two) < slow(one)
        }),
    };
    chosen.ok_or(NoReader::Nobody)
}

impl ReadRules<'_> {
    /// Which readers come first; lower is better, `None` never.
    fn tier(&self, reader: &Reader<'_>) -> Option<u8> {
        let state = reader.state;
        let is_primary = state.standing == Some(Standing::Primary);
        if reader.weight == 0 || (!is_primary && self.lag.exceeded_by(&state.lag)) {
            return None;
        }
        let tier = match (state.offer, is_primary, self.primary) {
            (Offer::Withheld(_), ..) | (_, true, PrimaryReads::Excluded) => return None,
            (_, true, PrimaryReads::Fallback) => 1,
            (Offer::Good, ..) => 0,
            (Offer::LastResort, ..) => 2,
        };
        // One that is near and has no room is no better than one that is far.
        let away = self.zone.is_some() && (self.zone != reader.zone || reader.is_full);
        Some(tier * 2 + u8::from(away))
    }
}

/// Whether the host is known to have what was written. On a lower timeline the same place in the log means something
/// else; on a higher one it has all of the lower that was not lost with the failover itself.
fn has(state: &HostState, need: Need) -> bool {
    let timeline = state
        .timeline
        .is_some_and(|timeline| timeline >= need.timeline);
    let primary = state.standing == Some(Standing::Primary);
    timeline && (primary || state.lsn.is_some_and(|lsn| lsn >= need.lsn))
}

type Numbered<'r, 'a> = (usize, &'r Reader<'a>);

fn nth<'r, 'a: 'r>(
    mut equals: impl Iterator<Item = Numbered<'r, 'a>>,
    draw: u64,
    count: usize,
) -> Option<usize> {
    let nth = draw.checked_rem(count as u64)?;
    equals.nth(usize::try_from(nth).ok()?).map(|(at, _)| at)
}

fn by_weight<'r, 'a: 'r>(
    equals: impl Iterator<Item = Numbered<'r, 'a>> + Clone,
    draw: u64,
) -> Option<usize> {
    let weight = |reader: &Reader<'_>| u64::from(reader.weight);
    let total = equals.clone().map(|(_, reader)| weight(reader)).sum();
    let mut left = draw.checked_rem(total)?;
    for (at, reader) in equals {
        match left.checked_sub(weight(reader)) {
            Some(rest) => left = rest,
            None => return Some(at),
        }
    }
    None
}

/// Draws two different ones, and takes the second if it is better.
fn better_of_two<'r, 'a: 'r, I: Iterator<Item = Numbered<'r, 'a>>>(
    equals: impl Fn() -> I,
    draw: u64,
    better: impl Fn(&Reader<'a>, &Reader<'a>) -> bool,
) -> Option<usize> {
    let count = equals().count() as u64;
    let first = (draw & 0xffff_ffff).checked_rem(count)?;
    let pick = |nth: u64| equals().nth(usize::try_from(nth).ok()?);
    let (one, reader) = pick(first)?;
    let Some(step) = (draw >> 32).checked_rem(count - 1) else {
        return Some(one);
    };
    let (two, other) = pick((first + 1 + step) % count)?;
    Some(if better(reader, other) { two } else { one })
}

#[cfg(test)]
mod tests;
