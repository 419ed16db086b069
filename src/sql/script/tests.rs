use proptest::prelude::*;

use crate::lexer::LexOptions;

use super::closed_block;
use super::{Change, Reading, Span, Step, Value, script};
use crate::parse::{SetValue, set_statement};

/// What a text does, in few words.
fn told(text: &str) -> String {
    match script(text.as_bytes(), LexOptions::default()) {
        Reading::Nothing => "-".to_owned(),
        Reading::Unclear => "?".to_owned(),
        Reading::Script(parts) => {
            let steps: Vec<String> = parts.iter().map(|part| step(&part.step)).collect();
            steps.join("; ")
        }
    }
}

fn step(step: &Step) -> String {
    match step {
        Step::Other => "-".to_owned(),
        Step::ResetAll => "reset all".to_owned(),
        Step::Savepoint(name) => format!("savepoint {name}"),
        Step::Release(name) => format!("release {name}"),
        Step::RollbackTo(name) => format!("rollback to {name}"),
        Step::Change(changes) => changes.iter().map(change).collect::<Vec<_>>().join(", "),
    }
}

fn change(change: &Change) -> String {
    let value = match &change.value {
        Value::Text(text) => format!("={text}"),
        Value::Default => " default".to_owned(),
        Value::Parameter(number) => format!("=${number}"),
        Value::Untold => " ~".to_owned(),
        Value::Unknown => " ?".to_owned(),
    };
    let span = match change.span {
        Span::Local => "local ".to_owned(),
        Span::Session => String::new(),
        Span::Parameter(number) => format!("local if ${number} "),
    };
    let named = change.named_by.map(|number| format!("${number}"));
    format!("{span}{}{}{value}", named.unwrap_or_default(), change.name)
}

#[test]
fn what_a_set_does_is_told_as_set_config_takes_it() {
    for (text, expected) in [
        ("set work_mem = '3MB'", "work_mem=3MB"),
        ("SET SESSION Work_Mem TO 2048;", "work_mem=2048"),
        ("set x=-1", "x=-1"),
        ("set x to - 1.5", "x=-1.5"),
        ("set x = + 7", "x=7"),
        ("set x = 007", "?"),
        ("set x = 1e3", "?"),
        ("set x = 0x10", "?"),
        ("set enable_seqscan = OFF", "enable_seqscan=off"),
        ("set x = True", "x=true"),
        ("set x = 'it''s'", "x=it's"),
        ("set x = 'a' 'b'", "?"),
        ("set x = 'a'\n'b'", "?"),
        ("set x = 'a\\b'", "?"),
        ("set x = e'a'", "?"),
        ("set x = '\u{e9}'", "?"),
        ("set x = $$a$$", "?"),
        ("set x to default", "x default"),
        ("set x from current", "?"),
        ("set x = default, a", "x=default, a"),
        ("set datestyle = SQL, 'DMY'", "datestyle=sql, DMY"),
        (
            "set search_path = a, \"B c\", public, 'x, y', \"select\", values_2",
            "search_path=a, \"B c\", public, \"x, y\", \"select\", values_2",
        ),
        ("set search_path = ''", "search_path=\"\""),
        ("set search_path = \"json\"", "?"),
        ("set search_path = \"$user\"", "search_path=\"$user\""),
        ("set search_path = \"a\"\"b\"", "search_path=\"a\"\"b\""),
        ("set schema 'B'", "search_path=\"B\""),
        ("set app.user = 'alice'", "app.user=alice"),
        ("set app . user = alice", "app.user=alice"),
        ("set \"app\".\"User\" = 'alice'", "?"),
        ("set local work_mem = 1", "local work_mem=1"),
        ("set local.x = 1", "local.x=1"),
        ("set session.x = 1", "session.x=1"),
        ("set sort_mem = 1", "work_mem=1"),
        ("set seed = 0.5", "?"),
        ("set temp_buffers = 100", "?"),
        ("set time zone 'UTC'", "timezone=UTC"),
        ("set time zone local", "timezone default"),
        ("set time zone interval '1' hour", "?"),
        ("set names 'UTF8'", "client_encoding=UTF8"),
        ("set xml option document", "xmloption=document"),
        ("set role joe", "role=joe"),
        ("set role \"Joe\"", "role=Joe"),
        ("set role none", "role=none"),
        ("set role to joe", "role=joe"),
        ("set local role joe", "local role=joe"),
        ("set session role joe", "role=joe"),
        ("reset role", "role default"),
        ("set session authorization joe", "session_authorization=joe"),
        (
            "set session session authorization 'joe'",
            "session_authorization=joe",
        ),
        (
            "set session authorization default",
            "session_authorization default",
        ),
        (
            "reset session authorization",
            "session_authorization default",
        ),
        ("reset time zone", "timezone default"),
        ("reset work_mem", "work_mem default"),
        ("reset all", "reset all"),
        ("reset transaction isolation level", "-"),
        ("set transaction_isolation = 'serializable'", "-"),
        ("set transaction isolation level serializable", "-"),
        (
            "set session characteristics as transaction isolation level repeatable read, read only not deferrable",
            "default_transaction_isolation=repeatable read, default_transaction_read_only=on, \
             default_transaction_deferrable=off",
        ),
        ("show work_mem", "-"),
        ("select 1", "-"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn calls_of_set_config_are_told_where_they_are_alone() {
    for (text, expected) in [
        ("select set_config('A', 'b', false)", "a=b"),
        (
            "SELECT pg_catalog.set_config('a', NULL, 'f') as x, set_config('app.b', $2, true) y",
            "a default, local app.b=$1",
        ),
        ("select set_config('a', 'b', false) from t", "?"),
        ("select set_config('a', 'b', false) limit 0", "?"),
        ("select set_config('a', 'b', false) where false", "?"),
        ("select set_config('a', 'b' || 'c', false)", "?"),
        ("select set_config('a', 'b', $1)", "local if $0 a=b"),
        ("select set_config($1, 'b', false)", "$0=b"),
        (
            "select set_config($1::text, $2::text, $3::bool), set_config('x'::text, 'y', 't'::boolean)",
            "local if $2 $0=$1, local x=y",
        ),
        ("select set_config('a'::varchar, 'b', false)", "?"),
        ("select set_config('a', 'b'::text || 'c', false)", "?"),
        ("select set_config('a', 'b'::text)", "?"),
        (
            "select set_config('app.a', 'b' || current_user, true), set_config('app.b', e'\\n', true)",
            "local app.a ~, local app.b ~",
        ),
        (
            "select set_config('app.a', '{\"\u{e9}\": \"\\n\"}', true), set_config($1, $2, true)",
            "local app.a ~, local $0=$1",
        ),
        // A parameter has one type wherever it stands.
        (
            "select set_config('app.a', $1::\"char\" || '', true), set_config('statement_timeout', $1, false)",
            "?",
        ),
        (
            "select set_config('app.a', $1 || 'x', true), set_config('app.b', $2::varchar, true)",
            "local app.a ?, local app.b ?",
        ),
        (
            "select set_config('app.a', $1::varchar, true), set_config('app.b', $1, false)",
            "local app.a=$0, app.b=$0",
        ),
        ("select set_config('app.\u{e9}', 'b', true)", "local  ?"),
        ("select set_config('app.a', '\u{e9}', false)", "?"),
        ("select set_config('app.a', '\u{e9}', $1)", "?"),
        (
            "select set_config('app.a', array['b'], true)",
            "local app.a ?",
        ),
        ("select set_config('seed', '0.5', true)", "local  ?"),
        (
            "select set_config(e'app.a', 'b', true), set_config($$app.b$$, 'c', false), \
             set_config($x$app.c$x$::text, 'd', true)",
            "local app.a=b, app.b=c, local app.c=d",
        ),
        (
            "select set_config('app.a'::text, x, true), set_config(e'app.b'::pg_catalog.varchar, x, true), \
             set_config($$app.c$$::character varying, x, true) from t",
            "local app.a ?, local app.b ?, local app.c ?",
        ),
        (
            "select set_config('app.a' || x, x, true), set_config('app.a'::varchar(3), x, true), \
             set_config('app.a'::text || x, x, true), set_config(x::text, x, true) from t",
            "local  ?, local  ?, local  ?, local  ?",
        ),
        (
            "select set_config('app.a', 'b', true) where false",
            "local app.a ?",
        ),
        ("select set_config('App.a', 'b', false)", "?"),
        ("update t set a = set_config('a', 'b', false)", "?"),
        (
            "select set_config('app.a', x, true), set_config($1, $2, true) from t",
            "local app.a ?, local  ?",
        ),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn savepoints_have_names() {
    for (text, expected) in [
        ("savepoint A", "savepoint a"),
        ("savepoint \"A b\"", "savepoint A b"),
        ("release a", "release a"),
        ("release savepoint savepoint", "release savepoint"),
        ("release savepoint", "release savepoint"),
        ("rollback work to savepoint a", "rollback to a"),
        ("rollback to a", "rollback to a"),
        ("rollback transaction to \"a\"", "rollback to a"),
        ("rollback", "-"),
        ("savepoint U&\"a\"", "?"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn each_statement_has_its_part_and_its_end() {
    assert_eq!(
        told("begin; savepoint s; set x = 1;; rollback to s; select ';'; commit"),
        "-; savepoint s; x=1; rollback to s; -; -"
    );
    assert_eq!(told("begin; insert into t values (1); commit"), "-");
    assert_eq!(
        told("set x = 1; do $$ begin set local y = 1; end $$"),
        "?",
        "a block may do more than its text shows"
    );
    let Reading::Script(parts) = script(b"reset a -- one\n ; reset b", LexOptions::default())
    else {
        panic!("not told");
    };
    let ends: Vec<usize> = parts.iter().map(|part| part.end).collect();
    assert_eq!(ends, [7, 25]);
    assert_eq!(
        told("begin; insert into t values ('\u{e9}\\'); savepoint s"),
        "-; -; savepoint s"
    );
    assert_eq!(told("set local a = '\u{e9}'"), "local  ?");
    let many = "savepoint a;".repeat(100);
    assert_eq!(told(&many), "?");
    assert_eq!(told(&"select 1;".repeat(100)), "-");
}

proptest! {
    /// Whatever is told of a single SET is what PostgreSQL's own grammar reads.
    #[test]
    fn the_grammar_agrees(
        name in "(work_mem|search_path|app\\.[a-z_]{1,6}|\"x y\"|datestyle|[A-Za-z]{1,5})",
        sign in "( to |=| = )",
        values in proptest::collection::vec(
            "([a-z]{1,4}|\"[a-zA-Z\" ]{1,4}\"|'[a-z'\" ,]{0,5}'|-?[0-9]{1,4}(\\.[0-9]{0,2})?|on|true|default)", 1..3),
        local in any::<bool>(),
    ) {
        let local = if local { "local " } else { "" };
        let text = format!("set {local}{name}{sign}{}", values.join(", "));
        let Reading::Script(parts) = script(text.as_bytes(), LexOptions::default()) else { return Ok(()); };
        let [part] = parts.as_slice() else { return Ok(()); };
        let Step::Change(changes) = &part.step else { return Ok(()); };
        let Ok(known) = set_statement(text.as_bytes()) else { return Ok(()); };
        prop_assert_eq!(changes.len(), 1);
        let change = &changes[0];
        if matches!(change.value, Value::Untold | Value::Unknown) {
            return Ok(());
        }
        prop_assert_eq!(&*change.name, known.name.to_ascii_lowercase());
        prop_assert_eq!(change.span == Span::Local, known.local);
        match (&change.value, &known.value) {
            (Value::Default, SetValue::Default) => {}
            (Value::Text(told), SetValue::Values(values)) if &*change.name != "search_path" => {
                prop_assert_eq!(&**told, values.join(", "));
            }
            (Value::Text(told), SetValue::Values(values)) => {
                prop_assert_eq!(told.split(", ").count() >= values.len(), true);
            }
            (told, known) => prop_assert!(false, "{told:?} for {known:?} of {text}"),
        }
    }

    #[test]
    fn nothing_in_a_text_is_a_danger(text in "(set|reset|savepoint|select set_config\\()?[ -~\\n]{0,60}") {
        let _ = script(text.as_bytes(), LexOptions::default());
    }
}

#[test]
fn a_block_that_is_one_text_is_told_by_its_ends() {
    let at = |text: &str| closed_block(text.as_bytes(), LexOptions::default());
    assert_eq!(at("begin; insert into t values (1); commit"), Some(33));
    assert_eq!(
        at("START TRANSACTION READ ONLY;select ';commit;';END ;"),
        Some(46)
    );
    assert_eq!(at("begin; commit"), Some(7));
    for text in [
        "",
        "begin",
        "commit",
        "insert into t values (1); commit",
        "begin; insert into t values (1)",
        "begin; savepoint s; commit",
        "begin; commit; begin; commit",
        "begin; select 1; commit and chain",
        "begin; select 1; commit; select 2",
        "begin; select 1; prepare transaction 'x'",
        "begin; copy t from stdin; commit",
        "begin; select 'x",
    ] {
        assert_eq!(at(text), None, "{text}");
    }
}
