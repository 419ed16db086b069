use std::time::Duration;

/// The units a duration is written in, with their milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A hundred years: longer waits are slips of the finger, and would overflow clocks.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Takes a number of seconds, as PgBouncer's settings have it.
pub(crate) fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds)).filter(|time| *time <= LONGEST)
}

/// Understands `500ms`, `30s`, `5m`, `1h`, `1d`, or bare seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let unit = if unit.is_empty() {
        "s"
    } else {
        unit.trim_start()
    };
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let time = Duration::from_millis(number.checked_mul(*millis)?);
    Some(time).filter(|time| *time <= LONGEST)
}

/// Writes a duration in the largest unit that leaves nothing over.
pub(crate) fn show(time: Duration) -> String {
    let total = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, millis)| total.is_multiple_of(*millis))
        .map(|(unit, millis)| format!("{}{unit}", total / millis))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{parse, show};
    use std::time::Duration;

    #[test]
    fn reads_units() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("5 m"), Some(Duration::from_secs(300)));
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        for wrong in [
            "",
            "s",
            "-1s",
            "1w",
            "1.5s",
            "99999999999999999999s",
            "4000000d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0", "1ms", "1500ms", "90s", "5m", "1h", "2d"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
    }
}
