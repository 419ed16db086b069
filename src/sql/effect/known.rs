//! The names behind which nothing touches the state of a session.

/// One name a line, in the order of their bytes: the functions of `pg_catalog` in PostgreSQL 14 to 18
/// (`pg_proc.dat`) but for those that change the session, read what a text says at run time, or cannot
/// be called, and the keywords that may stand before a parenthesis.
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

/// Whether this is the name of a function of Postgres that touches no session, or a keyword. It must be in
/// lower case, unless it is `bare`: without quotes, in which case nothing is told by case.
pub fn is_harmless(name: &[u8], bare: bool) -> bool {
    let mut lower = [0; NAME_MAX];
    let Some(lower) = lower.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    if bare {
        lower.make_ascii_lowercase();
    }
    let (mut low, mut high) = (0, COUNT);
    while low < high {
        let middle = (low + high) / 2;
        let end = usize::from(STARTS[middle + 1]) - 1;
        let here = &LIST.as_bytes()[usize::from(STARTS[middle])..end];
        match here.cmp(&*lower) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{LIST, is_harmless};

    #[test]
    fn the_list_is_in_order() {
        let names: Vec<&str> = LIST.lines().collect();
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
}
