//! The names behind which nothing touches the state of a session.

/// One name a line, in the order of their bytes: the functions of `pg_catalog` in PostgreSQL 14 to 18
/// (`pg_proc.dat`) but for those that change the session, read what a text says at run time, or cannot
/// be called, and the keywords that may stand before a parenthesis. Behind the volatile ones stands a `!`.
const LIST: &str = include_str!("harmless.txt");

const COUNT: usize = count(LIST.as_bytes());

/// Where each name begins, and at last the end.
const STARTS: [u16; COUNT + 1] = starts(LIST.as_bytes());

const fn count(list: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < list.len() {
        count += (list[at] == b'\n') as usize;
        at += 1;
    }
    count
}

const fn starts(list: &[u8]) -> [u16; COUNT + 1] {
    assert!(list.len() < u16::MAX as usize, "offsets are 16 bits");
    let mut table = [0; COUNT + 1];
    let (mut at, mut row) = (0, 0);
    while at < list.len() {
        if list[at] == b'\n' {
            row += 1;
            table[row] = at as u16 + 1;
        }
        at += 1;
    }
    table
}

/// No name of Postgres is longer.
const NAME_MAX: usize = 63;

/// What is known of a function that touches no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harmless {
    /// It changes nothing at all, however often it is called.
    Steady,
    /// One of the functions of this name is marked as volatile: it may have effects elsewhere.
    Volatile,
}

/// Whether this is the name of a function of Postgres that touches no session, or a keyword. It must be in
/// lower case, unless it is `bare`: without quotes, in which case nothing is told by case.
pub fn is_harmless(name: &[u8], bare: bool) -> bool {
    harmless(name, bare).is_some()
}

/// As [`is_harmless`], with what is known of it.
pub(super) fn harmless(name: &[u8], bare: bool) -> Option<Harmless> {
    let mut lower = [0; NAME_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    if bare {
        lower.make_ascii_lowercase();
    }
    let (mut low, mut high) = (0, COUNT);
    while low < high {
        let middle = (low + high) / 2;
        let end = usize::from(STARTS[middle + 1]) - 1;
        let line = &LIST.as_bytes()[usize::from(STARTS[middle])..end];
        let (here, known) = match line {
            [here @ .., b'!'] => (here, Harmless::Volatile),
            here => (here, Harmless::Steady),
        };
        match here.cmp(&*lower) {
            std::cmp::Ordering::Equal => return Some(known),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Harmless, LIST, harmless, is_harmless};

    #[test]
    fn the_list_is_in_order() {
        let names: Vec<&str> = LIST
            .lines()
            .map(|line| line.trim_end_matches('!'))
            .collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(names.len() > 1500);
        assert!(names.iter().all(|name| is_harmless(name.as_bytes(), true)));
    }

    #[test]
    fn what_touches_the_session_is_not_in_it() {
        for name in [
            "set_config",
            "setseed",
            "nextval",
            "setval",
            "lastval",
            "currval",
            "query_to_xml",
            "dblink",
            "pg_backup_start",
            "pg_replication_origin_session_setup",
            "sneaky",
            "",
        ] {
            assert!(!is_harmless(name.as_bytes(), true), "{name}");
        }
        assert!(is_harmless(b"COUNT", true));
        assert!(!is_harmless(b"COUNT", false));
        assert!(!is_harmless(&[b'a'; 200], true));
    }

    #[test]
    fn what_has_effects_elsewhere_is_marked() {
        for name in [
            "pg_notify",
            "pg_sleep",
            "lo_create",
            "pg_logical_emit_message",
            "uuidv7",
        ] {
            let known = harmless(name.as_bytes(), true);
            assert_eq!(known, Some(Harmless::Volatile), "{name}");
        }
        for name in ["count", "now", "lower", "values", "in"] {
            let known = harmless(name.as_bytes(), true);
            assert_eq!(known, Some(Harmless::Steady), "{name}");
        }
    }
}
