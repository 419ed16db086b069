//! What each server answers for itself: views of Postgres that tell of the server, and the values of sequences, of which
//! the log carries later ones than were given out. A replica's answer to it never becomes the primary's.

use std::collections::HashSet;

/// How the names of views and functions begin behind `pg_` that tell of what is done on a server: a list, and a part of a
/// regular expression.
pub const OF_SERVER: &str = "stat_|statio_|locks|lock_status|prepared_xact|replication_|get_replication_|sequences|\
sequence_last_value|shmem_|get_shmem_|backend_memory_contexts|get_backend_memory_contexts|buffercache|aios|get_aios|cursor|\
postmaster_start_time|conf_load_time";

/// The same of those that tell how a server is set up, which most often is the same on all.
pub const OF_SETUP: &str = "settings|show_all_|file_settings|hba_file_rules|ident_file_mappings|config|available_extension";

/// The columns of a sequence.
const OF_SEQUENCE: [&[u8]; 3] = [LAST_VALUE, b"log_cnt", b"is_called"];

/// This is a window function, too.
const LAST_VALUE: &[u8] = b"last_value";

/// So many names are kept.
pub const NAMES_MAX: usize = 4000;

/// No name of Postgres is longer; of a longer word the rest counts for nothing.
const NAME_MAX: usize = 63;

/// What a text may ask for. Each outweighs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    /// What all servers have in common.
    Nothing,
    /// How the server is set up.
    Setup,
    /// What only the primary knows.
    State,
}

/// The users' views over what each server answers for itself, and all sequences.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Of each name its longest word, in lower case.
    words: HashSet<Box<[u8]>>,
    /// There are names without such a word, which stand in quotes or are not in ASCII.
    wordless: bool,
    /// There are more than are kept.
    countless: bool,
}

impl Own {
    /// Takes note of a view or a sequence.
    pub fn add(&mut self, name: &[u8]) {
        let longest = words(name).max_by_key(|(word, _)| word.len());
        match longest {
            _ if self.words.len() >= NAMES_MAX => self.countless = true,
            Some((word, _)) => drop(self.words.insert(word.to_ascii_lowercase().into())),
            None => self.wordless = true,
        }
    }

    /// What a text may ask for: a word for it stands anywhere, as a name or not.
    pub fn asked(&self, text: &[u8]) -> Asks {
        let is_odd = |byte: &u8| *byte == b'"' || !byte.is_ascii();
        if self.countless || self.wordless && text.iter().any(is_odd) {
            return Asks::State;
        }
        let asked = words(text).map(|(word, behind)| self.by_word(word, behind));
        asked.max().unwrap_or(Asks::Nothing)
    }

    fn by_word(&self, word: &[u8], behind: &[u8]) -> Asks {
        let mut lower = [0; NAME_MAX];
        let length = word.len().min(NAME_MAX);
        let lower = &mut lower[..length];
        lower.copy_from_slice(&word[..length]);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        let is_function = lower == LAST_VALUE && behind.trim_ascii_start().starts_with(b"(");
        if OF_SEQUENCE.contains(&lower) && !is_function || self.words.contains(lower) {
            return Asks::State;
        }
        match lower.strip_prefix(b"pg_") {
            Some(rest) if begins_as(rest, OF_SERVER) => Asks::State,
            Some(rest) if begins_as(rest, OF_SETUP) => Asks::Setup,
            _ => Asks::Nothing,
        }
    }
}

/// Whether a name begins as one of a list.
fn begins_as(name: &[u8], list: &str) -> bool {
    let mut list = list.split('|');
    list.any(|begins| name.starts_with(begins.as_bytes()))
}

/// The words of a text, each with what stands behind it.
fn words(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, here) = rest.split_at(rest.iter().position(is_part)?);
        let end = here.iter().position(|byte| !is_part(byte));
        let (word, behind) = here.split_at(end.unwrap_or(here.len()));
        rest = behind;
        Some((word, behind))
    })
}

#[cfg(test)]
mod tests {
    use super::{Asks, NAMES_MAX, Own};

    fn own(names: &[&str]) -> Own {
        let mut own = Own::default();
        names.iter().for_each(|name| own.add(name.as_bytes()));
        own
    }

    #[test]
    fn what_tells_of_a_server_or_a_sequence_is_known_by_its_words() {
        let own = own(&["Blockers", "order_id_seq", "who is here"]);
        for text in [
            "select gid from pg_prepared_xacts where database = current_database()",
            "select 1 from pg_catalog.PG_LOCKS",
            "select 1 from \"pg_stat_activity\"",
            "select pg_stat_get_numscans(1)",
            "select last_value from s",
            "select s.is_called, 1 from s",
            "table ORDER_id_seq",
            "select * from blockers b",
            "select * from public.\"who is here\"",
        ] {
            assert_eq!(own.asked(text.as_bytes()), Asks::State, "{text}");
        }
        let settings = b"select setting from pg_settings";
        assert_eq!(own.asked(settings), Asks::Setup);
        for text in [
            "select 1",
            "select last_value (a) over (order by b) from t",
            "select most_common_vals from pg_stats",
            "select * from pg_class, pg_sequence, pg_statistic",
            "select * from order_id_sequence",
            "select 'gr\u{fc}n' as \"who\"",
        ] {
            assert_eq!(own.asked(text.as_bytes()), Asks::Nothing, "{text}");
        }
    }

    #[test]
    fn in_doubt_anything_may_be_asked_for() {
        let wordless = own(&["\u{447}\u{438}\u{441}\u{43b}\u{430}"]);
        let named = "select * from \u{447}";
        assert_eq!(wordless.asked(named.as_bytes()), Asks::State);
        assert_eq!(wordless.asked(b"select \"a\""), Asks::State);
        assert_eq!(wordless.asked(b"select a"), Asks::Nothing);
        let mut many = Own::default();
        (0..NAMES_MAX).for_each(|number| many.add(format!("s{number}").as_bytes()));
        assert_eq!(many.asked(b"select 1"), Asks::Nothing);
        many.add(b"one_more");
        assert_eq!(many.asked(b"select 1"), Asks::State);
    }

    #[test]
    fn a_name_is_cut_where_postgres_cuts_it() {
        let (name, longer) = ("a".repeat(63), "a".repeat(80));
        let asked = own(&[&name]).asked(longer.as_bytes());
        assert_eq!(asked, Asks::State);
    }
}
