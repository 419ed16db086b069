mod table;

use proptest::prelude::*;

use super::{
    Action, Alters, CopyEffect, Effects, Pin, PinSet, Runs, SequenceEffect, TransactionEffect,
    effects, effects_knowing,
};
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
    if effects.inspects {
        words.push("inspects".into());
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
        if let Some(quick) = super::plain::plain(text.as_bytes(), options) {
            let full = super::scan::Scan::new(text.as_bytes(), options, None).run();
            // An unclosed string would have been seen; a name that nobody can call is not one of a function.
            let named = text.contains("set_config") || text.contains("pg_advisory_lock");
            prop_assert_eq!(full.statements, 1, "{}", text);
            prop_assert!(named || full == quick, "{} {:?}", text, full);
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
            super::plain::plain(text.as_bytes(), LexOptions::default()).is_some(),
            "{text}"
        );
    }
}

#[test]
fn code_that_may_run_is_told_by_the_text() {
    use Runs::{Nothing, Reads, Unknown, Writes};
    for (text, runs) in [
        ("select 1", Reads),
        ("select now(), count(*) from t where a in (1, 2)", Reads),
        ("SELECT COUNT(*) FROM t JOIN u USING (a)", Reads),
        ("select pg_catalog.now()", Reads),
        ("select public.now()", Unknown),
        ("select \"pg_catalog\".now()", Reads),
        ("select a.pg_catalog.now()", Unknown),
        ("select f()", Unknown),
        ("select \"f\"(1)", Unknown),
        ("select \"NOW\"()", Unknown),
        ("select U&\"f\"(1)", Unknown),
        ("select f /* x */ ()", Unknown),
        ("select distinct on (a) f(a) from t", Unknown),
        ("select 'f()'", Reads),
        ("select * from generate_series(1, 2) as g(i)", Reads),
        ("select * from (values (1)) v(a)", Reads),
        (
            "select * from unnest('{1}'::int[]) with ordinality u(a, b)",
            Reads,
        ),
        (
            "select a::numeric(10, 2), cast(a as varchar(10)) from t",
            Reads,
        ),
        ("select a[1:f(2)] from t", Unknown),
        ("select x(a) from t", Unknown),
        ("insert into t (a, b) values (1, 2)", Writes),
        (
            "insert into s.t (a) select max(a) from t on conflict (a) do update set a = 1",
            Writes,
        ),
        ("insert into t values (f(1))", Unknown),
        ("insert into t values (1)", Writes),
        (
            "update t set (a, b) = (1, 2) where c = coalesce(d, 0)",
            Writes,
        ),
        ("with x (a) as (select 1) select * from x", Reads),
        (
            "with x as (delete from t returning *) select * from x",
            Writes,
        ),
        ("(select 1) union (select 2)", Reads),
        ("explain analyze insert into t values (1)", Writes),
        ("select 1 into x", Unknown),
        ("copy (select f(1)) to stdout", Unknown),
        ("copy t (a) from stdin", Writes),
        ("begin", Nothing),
        ("commit", Nothing),
        ("set a = 1", Nothing),
        ("", Nothing),
        ("call p()", Unknown),
        ("do 'begin end'", Unknown),
        ("create table t (a int)", Unknown),
        ("execute p", Unknown),
        ("prepare p as select 1", Unknown),
        ("begin; select 1; commit", Reads),
        ("select 'a", Unknown),
    ] {
        assert_eq!(of(text).runs, runs, "{text}");
    }
}

#[test]
fn what_may_run_twice_is_told_by_the_text() {
    for text in [
        "select 1",
        "SELECT * FROM t WHERE a = $1 ;",
        "select count(*), max(lower(a)) from t where b in (1, 2) for update",
        "(select now())",
        "with a as (select 1) select * from a",
        "values (1)",
        "table t",
        "explain analyze select 1",
    ] {
        assert!(of(text).steady, "{text}");
    }
    for text in [
        "",
        "select 1; select 2",
        "select pg_notify('a', 'b')",
        "select pg_sleep(1)",
        "select pg_catalog.lo_create(1)",
        "select nextval('s')",
        "select mine()",
        "select set_config('a', 'b', true)",
        "select pg_advisory_lock(1)",
        "select * into u from t",
        "with a as (delete from t returning *) select * from a",
        "explain analyze insert into t values (1)",
        "insert into t values (1)",
        "copy t to stdout",
        "notify a",
        "set x = 1",
        "show x",
        "commit",
        "execute p",
        "declare c cursor with hold for select 1",
        "do $$ begin end $$",
    ] {
        assert!(!of(text).steady, "{text}");
    }
}

#[test]
fn what_has_written_nothing_is_told_by_the_text() {
    for text in [
        "select 1",
        "with a as (select 1) select * from a",
        "copy t to stdout",
        "COPY s.t (a, b) TO STDOUT WITH (FORMAT csv, HEADER)",
        "copy t to stdout (format csv, force_quote (a, b))",
        "copy (select a, lower(b) from t where a in (1, 2)) to stdout;",
        "copy (with a as (select 1) select * from a) to stdin",
        "copy copy (a) to stdout",
        "fetch 5 from c",
        "move all in c",
        "show x",
    ] {
        assert!(of(text).only_reads, "{text}");
    }
    for text in [
        "copy t from stdin",
        "copy t from stdin where mine(a)",
        "copy t to '/tmp/t'",
        "copy t to program 'cat'",
        "copy (select mine(a) from t) to stdout",
        "copy (select copy(a) from t) to stdout",
        "copy (select 1, copy(a) from t) to stdout",
        "copy (select nextval('s')) to stdout",
        "copy (select pg_notify('a', 'b')) to stdout",
        "copy (select lo_create(0)) to stdout",
        "copy (select set_config('a', 'b', true)) to stdout",
        "copy (insert into t values (1) returning a) to stdout",
        "copy (update t set a = 1 returning a) to stdout",
        "copy (delete from t returning a) to stdout",
        "copy (with x as (insert into t values (1) returning a) select * from x) to stdout",
        "copy t to stdout; insert into t values (1)",
        "copy (select copy(1)) to stdout; show x",
        "insert into t values (1); show x",
        "notify a",
        "set x = 1",
        "lock t",
        "checkpoint",
        "discard all",
        "commit",
        "execute p",
        "",
    ] {
        assert!(!of(text).only_reads, "{text}");
    }
}

#[test]
fn what_else_is_known_is_asked_for() {
    let options = LexOptions::default();
    let known = |name: &[u8]| name.eq_ignore_ascii_case(b"pure");
    let runs = |text: &'static str| effects_knowing(text.as_bytes(), options, &known).runs;
    assert_eq!(runs("select Pure(1), s.pure(2), \"pure\"(3)"), Runs::Reads);
    assert_eq!(runs("select pure(1), f(2)"), Runs::Unknown);
    assert_eq!(runs("select \"Pure\"(1)"), Runs::Unknown);
}

#[test]
fn settings_that_are_told_run_nothing_unseen() {
    for text in [
        "select set_config('app.a', '1', true)",
        "SELECT pg_catalog.set_config('role', $1, true) AS a, set_config($2, $3::text, $4) b;",
        "begin; select set_config('app.a', '1', 'f'); select 1; commit",
        "select set_config('app.a', 'a' || '\u{e9}\\', true)",
    ] {
        assert_eq!(of(text).runs, Runs::Reads, "{text}");
    }
    for text in [
        "select set_config('app.a', f(), true)",
        "select set_config('app.a', '1', true), f()",
        "select set_config('app.a', '1', true) from t",
        "select set_config('app.a', '1', true) where false",
        "select my.set_config('app.a', '1', true)",
        "select set_config('App.a', '1', true)",
        "select set_config('app.' || 'a', '1', true)",
        "select set_config('app.\u{e9}', '1', true)",
        "select set_config('app.a', '\u{e9}', $1)",
        "select set_config('app.a', (select 1)::text, true)",
        "select set_config('app.a', '1', true); select f()",
        "values (set_config('app.a', '1', true))",
        "select set_config('app.a', '1')",
    ] {
        assert_eq!(of(text).runs, Runs::Unknown, "{text}");
    }
    let many = "set_config('app.a', '1', true), ".repeat(100);
    let many = format!("select {many} set_config('app.a', '1', true)");
    assert_eq!(
        effects(many.as_bytes(), LexOptions::default()).runs,
        Runs::Unknown
    );
}

#[test]
fn sequences_and_definitions_are_told_by_the_text() {
    for (text, sequence) in [
        ("select nextval('s')", SequenceEffect::Uses),
        ("select pg_catalog.setval('s', 1)", SequenceEffect::Uses),
        ("select my.nextval('s')", SequenceEffect::None),
        ("insert into t default values", SequenceEffect::Uses),
        ("insert into t (a) values (1)", SequenceEffect::Uses),
        (
            "with x as (insert into t values (1)) select 1",
            SequenceEffect::Uses,
        ),
        ("select lastval()", SequenceEffect::Asks),
        ("select CURRVAL ('s')", SequenceEffect::Asks),
        ("select currval('s') + nextval('s')", SequenceEffect::Both),
        ("update t set a = 1", SequenceEffect::None),
        ("select nextval from t", SequenceEffect::None),
    ] {
        assert_eq!(of(text).sequence, sequence, "{text}");
    }
    for (text, alters) in [
        (
            "create trigger x after insert on t execute function f()",
            true,
        ),
        ("alter table t add a int default f()", true),
        ("drop view v", true),
        ("create temp table t (a int)", false),
        ("select 1", false),
        ("insert into t values (1)", false),
    ] {
        assert_eq!(of(text).alters, alters, "{text}");
    }
    for (text, temporary) in [
        ("create temp table t (a int)", true),
        (
            "create temporary table t (a int) on commit drop; select 1",
            true,
        ),
        ("select 1 as a into temp t", true),
        ("create table t (a int)", false),
        ("insert into temp values (1)", false),
    ] {
        assert_eq!(of(text).temporary, temporary, "{text}");
    }
}

#[test]
fn the_words_of_a_block_may_be_cut_by_the_parts_of_its_literal() {
    for (text, unknown) in [
        ("do 'begin perform set''_''config(1); end'", false),
        ("do 'begin s'\n'et x = 1; end'", true),
        ("do e'begin s'\n'et x = 1; end'", true),
        ("do $$ begin x := 'a' || 'b'; end $$", false),
    ] {
        let pins = effects(text.as_bytes(), LexOptions::default()).pins;
        assert_eq!(pins.contains(Pin::Unknown), unknown, "{text}");
    }
}

#[test]
fn what_may_alter_unseen_is_told_by_the_text() {
    for (text, how) in [
        ("select f()", Alters::No),
        ("select 1; insert into t values (f(1)); commit", Alters::No),
        ("rollback prepared 'x'", Alters::No),
        ("prepare x as select 1", Alters::No),
        ("truncate t", Alters::No),
        (
            "do $$ begin insert into t (a) values (upper('x')); end $$",
            Alters::No,
        ),
        (
            "do $$ begin create temp table t (a int); end $$",
            Alters::No,
        ),
        (
            "do $$ begin if (a > 1) then raise notice 'create'; end if; end $$ language plpgsql",
            Alters::No,
        ),
        ("select \"F\"(1)", Alters::Unnamed),
        ("commit prepared 'x'", Alters::Prepared),
        ("select 1; COMMIT PREPARED 'x'", Alters::Prepared),
        ("call p(1)", Alters::Called),
        ("call \"P\"(1)", Alters::Code),
        (
            "do $$ begin create view v as select 1; end $$",
            Alters::Code,
        ),
        ("do 'begin perform f(); end'", Alters::Code),
        ("do $$ begin execute x; end $$", Alters::Code),
        (
            "do language plpgsql $$ begin call p(); end $$",
            Alters::Code,
        ),
        ("do $$ spi() $$ language plperl", Alters::Code),
        (
            "do 'begin cre'\n'ate view v as select 1; end'",
            Alters::Code,
        ),
        (
            "do e'begin cre\\x61te view v as select 1; end'",
            Alters::Code,
        ),
        ("grant select on t to u", Alters::Code),
        ("refresh materialized view v", Alters::Code),
    ] {
        assert_eq!(of(text).may_alter, how, "{text}");
    }
    assert!(of("prepare transaction 'x'").prepares);
    assert!(of("begin; create view v as select 1; prepare transaction 'x'").prepares);
    assert!(!of("prepare transaction as select 1").prepares);
    for text in ["discard all", "select 1; DISCARD sequences"] {
        assert!(of(text).forgets, "{text}");
    }
    assert!(!of("discard plans").forgets);
}

#[test]
fn what_may_be_over_is_told_by_the_text() {
    for (text, pins) in [
        ("select 1", &[][..]),
        ("drop table t", &[Pin::TempTable]),
        ("DISCARD temp", &[Pin::TempTable]),
        ("select 1; close c", &[Pin::HoldCursor]),
        ("close all", &[Pin::HoldCursor]),
        ("select pg_advisory_unlock(1)", &[Pin::AdvisoryLock]),
        (
            "select pg_catalog.PG_advisory_unlock_shared(1, 2)",
            &[Pin::AdvisoryLock],
        ),
        ("select pg_try_advisory_lock(1)", &[Pin::AdvisoryLock]),
        ("select pg_advisory_lock(1)", &[]),
        ("create table t (a int)", &[]),
        ("commit", &[]),
    ] {
        assert_eq!(of(text).frees, PinSet::of(pins), "{text}");
    }
}

#[test]
fn where_a_text_commits_is_told_by_its_statements() {
    for (text, behind) in [
        ("select 1", None),
        ("begin; select 1; rollback", None),
        ("commit", Some(0)),
        ("; end and chain", Some(0)),
        ("begin; select 1;; commit; select 2; begin; commit", Some(2)),
        ("begin; prepare transaction 'x'", Some(1)),
        ("commit prepared 'x'", None),
        ("begin; commit; select 'open", None),
    ] {
        assert_eq!(of(text).commits_behind, behind, "{text}");
    }
    for (text, procedural) in [
        ("do $$ begin commit; end $$", true),
        ("select 1; call p()", true),
        ("select call, do from t", false),
        ("select 'open", true),
    ] {
        assert_eq!(of(text).procedural, procedural, "{text}");
    }
}
