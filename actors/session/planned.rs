//! What changes the meaning of constants in the texts of functions.
//!
//! A function in PL/pgSQL keeps its plans for as long as its session lasts, with constants as they were read under the
//! settings of whoever has called it first there (`'2024-01-01'::timestamptz` under his `TimeZone`). Before a client
//! with others of these settings gets a server, this discards its plans ([`ServerConn::would_misread`]).
//!
//! [`ServerConn::would_misread`]: crate::server::ServerConn::would_misread

/// Settings that change what constants mean, those of Postgres of which functions may be believed to set them.
pub(super) const PLANNED: [&str; 12] = [
    "array_nulls",
    "bytea_output",
    "datestyle",
    "default_text_search_config",
    "extra_float_digits",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "timezone",
    "transform_null_equals",
    "xmloption",
];

/// Whether a function may set one of these while others run, by its source, also by a text that it puts together. What
/// stands in a string or a remark counts as well.
pub(super) fn shifts(source: &[u8]) -> bool {
    let source = source.to_ascii_lowercase();
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let parts = source.split(|byte| !is_letter(byte));
    let mut words = parts.filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let is_set = match word {
            b"set" | b"reset" => {
                let mut behind = words.clone();
                let next = behind.find(|word| !matches!(*word, b"local" | b"session"));
                is_named(next, behind.next())
            }
            b"set_config" => is_named(words.clone().next(), None),
            _ => false,
        };
        if is_set {
            return true;
        }
    }
    is_computed(&source)
}

/// Whether the words behind a SET name one of these settings, or all.
fn is_named(next: Option<&[u8]>, behind: Option<&[u8]>) -> bool {
    match (next, behind) {
        (Some(b"time"), Some(b"zone")) | (Some(b"xml"), Some(b"option")) | (Some(b"all"), _) => {
            true
        }
        (Some(name), _) => PLANNED.iter().any(|known| known.as_bytes() == name),
        (None, _) => false,
    }
}

/// Whether a call of `set_config` has no constant for the name of what it sets, which may be any then.
fn is_computed(source: &[u8]) -> bool {
    const CALL: &[u8] = b"set_config";
    let calls = source.windows(CALL.len()).enumerate();
    let mut calls = calls.filter(|(_, word)| *word == CALL);
    calls.any(|(at, _)| {
        let behind = source.get(at + CALL.len()..).unwrap_or_default();
        match behind.trim_ascii_start() {
            [b'(', name @ ..] => !name.trim_ascii_start().starts_with(b"'"),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::shifts;

    #[test]
    fn what_changes_the_meaning_of_constants_is_told_by_the_source() {
        for (source, expected) in [
            ("begin set local timezone = 'UTC'; end", true),
            ("begin SET TIME ZONE 'UTC'; end", true),
            ("begin reset all; end", true),
            ("begin set local session xml option document; end", true),
            ("select set_config('DateStyle', $1, true)", true),
            ("execute 'set local datestyle = iso'", true),
            (
                "execute format('select set_config(''timezone'', %L, true)', z)",
                true,
            ),
            ("perform set_config(name, value, true)", true),
            ("perform pg_catalog.set_config ($1, 'x', true)", true),
            ("return new; end\n; set local timezone = 1", true),
            ("update t set at = now() at time zone 'utc'", false),
            ("update t set time = 1, zone = 2", false),
            ("perform set_config('app.x', 'timezone', true)", false),
            ("begin set local work_mem = '1MB'; end", false),
            ("select timezone('utc', now())", false),
            ("-- set_config", false),
            ("set", false),
            ("", false),
        ] {
            assert_eq!(shifts(source.as_bytes()), expected, "{source}");
        }
    }

    #[test]
    fn a_long_source_takes_no_long_time() {
        let source = "set local set_config(' ".repeat(5000) + &"local ".repeat(50_000);
        let began = std::time::Instant::now();
        assert!(!shifts(source.as_bytes()));
        assert!(began.elapsed().as_secs() < 5);
    }
}
