mod table;

use proptest::prelude::*;

use super::{Action, CopyEffect, Effects, Pin, PinSet, TransactionEffect, effects};
use crate::lexer::{Encoding, LexOptions};

fn of(text: &str) -> Effects<'_> {
    effects(text.as_bytes(), LexOptions::default())
}

/// Writes what a text does as words, in one order: those that are nothing are left out.
fn told(effects: &Effects<'_>) -> String {
    let mut words = vec![effects.statements.to_string()];
    if effects.transaction != TransactionEffect::None {
        words.push(format!("{:?}", effects.transaction));
    }
    words.extend(effects.pins.iter().map(|pin| format!("+{}", pin.name())));
    if effects.unpins == PinSet::DISCARD_ALL {
        words.push("-all".into());
    } else {
        words.extend(effects.unpins.iter().map(|pin| format!("-{}", pin.name())));
    }
    if effects.copy != CopyEffect::None {
        words.push(format!("Copy{:?}", effects.copy));
    }
    if effects.executes {
        words.push("executes".into());
    }
    words.join(" ")
}

#[test]
fn each_statement_does_what_the_table_says() {
    let mut wrong = Vec::new();
    for (text, expected) in table::TABLE {
        let got = told(&of(text));
        if got != *expected {
            wrong.push(format!("{text:?}\n  expected {expected}\n  got      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table::TABLE.len() >= 150, "{}", table::TABLE.len());
}

#[test]
fn the_parameter_of_a_single_set_is_named() {
    for (text, name, action, reported) in [
        ("SET DateStyle = 'ISO'", "DateStyle", Action::Set, true),
        (
            "set session work_mem to '1MB'",
            "work_mem",
            Action::Set,
            false,
        ),
        ("set local a.b = 1;", "a.b", Action::SetLocal, false),
        ("set local.x = 1", "local.x", Action::Set, false),
        ("set session.x to 1", "session.x", Action::Set, false),
        (
            "set transaction.x to 1",
            "transaction.x",
            Action::Set,
            false,
        ),
        ("set \"TimeZone\" to 'UTC'", "TimeZone", Action::Set, true),
        ("set time zone 'UTC'", "TimeZone", Action::Set, true),
        (
            "set local time zone 'UTC'",
            "TimeZone",
            Action::SetLocal,
            true,
        ),
        ("set names 'UTF8'", "client_encoding", Action::Set, true),
        ("set schema 'a'", "search_path", Action::Set, true),
        ("set role joe", "role", Action::Set, false),
        (
            "set session authorization joe",
            "session_authorization",
            Action::Set,
            true,
        ),
        (
            "set session session authorization joe",
            "session_authorization",
            Action::Set,
            true,
        ),
        ("set xml option document", "xmloption", Action::Set, false),
        ("reset timezone", "timezone", Action::Reset, true),
        (
            "reset session authorization",
            "session_authorization",
            Action::Reset,
            true,
        ),
        ("show search_path", "search_path", Action::Show, true),
        ("show time zone", "TimeZone", Action::Show, true),
        (
            "show transaction isolation level",
            "transaction_isolation",
            Action::Show,
            false,
        ),
    ] {
        let set = of(text).sets.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(set.name, name.as_bytes(), "{text}");
        assert_eq!((set.action, set.reported), (action, reported), "{text}");
    }
    for text in [
        "set a = 1; set b = 2",
        "reset all",
        "show all",
        "select 1",
        "set transaction read only",
    ] {
        assert_eq!(of(text).sets, None, "{text}");
    }
}

#[test]
fn a_backslash_is_an_escape_only_when_the_session_says_so() {
    let text = br"select '\'; set x = '1'; --'";
    let off = LexOptions {
        standard_conforming_strings: false,
        ..LexOptions::default()
    };
    assert!(effects(text, LexOptions::default()).pins.contains(Pin::Set));
    assert_eq!(told(&effects(text, off)), "1");
    assert_eq!(
        told(&effects(br"select '\'; set x=1 --'; select 2", off)),
        "2"
    );
}

#[test]
fn an_encoding_with_ascii_in_its_characters_is_not_read() {
    let options = LexOptions {
        encoding: Encoding::AsciiTrailing,
        ..LexOptions::default()
    };
    assert_eq!(told(&effects(b"select 'a'", options)), "1");
    // In SJIS the second byte of this character is a backslash.
    assert!(
        effects(b"select '\x83\x5c'", options)
            .pins
            .contains(Pin::Unknown)
    );
}

#[test]
fn nested_calls_take_no_quadratic_time() {
    let text = format!("select {}", "set_config(a,".repeat(100_000));
    assert!(of(&text).pins.contains(Pin::SetConfig));
    let text = format!("select {}", "set_config('a','b',true),".repeat(100_000));
    assert!(of(&text).pins.is_empty());
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(
            table::TABLE
                .iter()
                .map(|(text, _)| *text)
                .collect::<Vec<_>>()
        )
        .prop_map(str::to_owned),
        "[ ;()'\"$a-zE/*\\\\-]{0,12}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300), conforming: bool) {
        let options = LexOptions { standard_conforming_strings: conforming, ..LexOptions::default() };
        let _ = effects(&bytes, options);
    }

    #[test]
    fn mutated_statements_end(parts in prop::collection::vec(piece(), 0..5)) {
        let _ = of(&parts.concat());
    }

    /// Reasons to pin are never lost by other statements around. (What is left open in one would be shut in another.)
    #[test]
    fn pins_of_the_parts_are_pins_of_the_whole(
        parts in prop::collection::vec(prop::sample::select(table::TABLE.to_vec()), 1..4)
    ) {
        prop_assume!(!parts.iter().any(|(_, told)| told.contains("CopyUnknown") && told.starts_with("1")));
        let whole = parts.iter().map(|(text, _)| format!("{text}\n;")).collect::<String>();
        let whole = of(&whole).pins;
        for (text, _) in parts {
            prop_assert!(of(text).pins.without(whole).is_empty() || whole.contains(Pin::Unknown), "{}", text);
        }
    }

    /// Where PostgreSQL parses a text, it has as many statements, and a SET among them pins.
    #[test]
    fn postgres_counts_the_same(parts in prop::collection::vec(piece(), 0..4)) {
        let text = parts.join(" ");
        let got = of(&text);
        if let Ok(kinds) = crate::parse::statement_kinds(text.as_bytes()) {
            if !got.pins.contains(Pin::Unknown) {
                prop_assert_eq!(got.statements as usize, kinds.len(), "{}", text);
            }
            let begins = kinds.iter().any(|kind| kind == "ListenStmt");
            prop_assert!(!begins || got.pins.contains(Pin::Listen) || got.pins.contains(Pin::Unknown));
        }
    }
}

/// Pieces of texts that the quick answer must either leave alone or tell as the full reading does.
fn plain_piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "select",
        "SELECT ",
        "insert into t",
        "update t set a = 1",
        "delete from t",
        "into",
        " INTO temp x ",
        "i",
        "in",
        "temp",
        "pg_temp",
        "pg_temp_3.x",
        "\"pg_temp\"",
        "\"users\"",
        "\"user_id\"",
        "'",
        "''",
        "'a_b'",
        "\"",
        "\\",
        "E'\\''",
        "U&\"\\0041\"",
        "--",
        "-",
        "/*",
        "*/",
        "/",
        "$1",
        "$a$",
        "$",
        ";",
        "; ",
        " ",
        "\n",
        "(",
        ")",
        "f(",
        "lock",
        "set_config",
        "pg_advisory_lock",
        "commit",
        "begin",
        "union all",
        ",",
        ".",
        "=",
        "::text",
        "1e5",
        "a.b",
        "\u{e9}",
    ]);
    prop_oneof![5 => fixed.prop_map(str::to_owned), 1 => "[ -~]{0,3}"]
}

proptest! {
    #[test]
    fn the_quick_answer_is_that_of_the_full_reading(
        first in prop::sample::select(vec!["select", "SELECT ", "insert ", "update\n", "delete "]),
        pieces in prop::collection::vec(plain_piece(), 0..10),
        spaced in any::<bool>(),
    ) {
        let text = format!("{first}{}{}", " ", pieces.join(if spaced { " " } else { "" }));
        let options = LexOptions::default();
        if super::plain::is_plain(text.as_bytes(), options) {
            let full = super::scan::Scan::new(text.as_bytes(), options).run();
            // An unclosed string would have been seen; a name that nobody can call is not one of a function.
            let named = text.contains("set_config") || text.contains("pg_advisory_lock");
            prop_assert_eq!(full.statements, 1, "{}", text);
            prop_assert!(named || full == Effects { statements: 1, ..Effects::default() }, "{} {:?}", text, full);
            prop_assert_eq!(full.transaction, TransactionEffect::None);
        }
    }
}

#[test]
fn the_usual_statements_get_the_quick_answer() {
    for text in [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        "UPDATE pgbench_tellers SET tbalance = tbalance + -7 WHERE tid = 1;",
        "SELECT \"users\".\"user_id\" FROM \"users\" WHERE \"users\".\"name\" = $1 LIMIT 1",
        "select 'it''s' as word",
    ] {
        assert!(
            super::plain::is_plain(text.as_bytes(), LexOptions::default()),
            "{text}"
        );
    }
}
