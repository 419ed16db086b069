use super::{Channel, ParseError, SetValue, channel, set_statement, statement_kinds};

#[test]
fn kinds_are_node_names() {
    let kinds = statement_kinds(b"select 1; set a = 1; begin; create table t (a int)").unwrap();
    let expected = [
        "SelectStmt",
        "VariableSetStmt",
        "TransactionStmt",
        "CreateStmt",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(statement_kinds(b" ; -- x"), Ok(vec![]));
}

#[test]
fn set_is_taken_apart() {
    for (text, name, value, local) in [
        (
            "set search_path to a, \"B\", 'c d'",
            "search_path",
            &["a", "B", "c d"][..],
            false,
        ),
        ("SET LOCAL work_mem = '4MB'", "work_mem", &["4MB"], true),
        ("set session Geqo = on", "geqo", &["on"], false),
        ("set my.x = -1.5", "my.x", &["-1.5"], false),
        ("set time zone 'UTC'", "timezone", &["UTC"], false),
        ("set names 'LATIN1'", "client_encoding", &["LATIN1"], false),
        ("set role joe", "role", &["joe"], false),
    ] {
        let set = set_statement(text.as_bytes()).unwrap();
        assert_eq!((set.name.as_str(), set.local), (name, local), "{text}");
        let expected = value.iter().map(ToString::to_string).collect();
        assert_eq!(set.value, SetValue::Values(expected), "{text}");
    }
    let value = |text: &str| set_statement(text.as_bytes()).map(|set| set.value);
    assert_eq!(value("reset a"), Ok(SetValue::Default));
    assert_eq!(value("set a to default"), Ok(SetValue::Default));
    assert_eq!(value("reset all"), Ok(SetValue::ResetAll));
    assert_eq!(value("set transaction read only"), Ok(SetValue::Multiple));
    assert_eq!(
        value("set time zone interval '-08:00' hour to minute"),
        Ok(SetValue::Interval("-08:00".into()))
    );
    assert_eq!(value("select 1"), Err(ParseError::NotSet));
    assert_eq!(value("set a = 1; set b = 1"), Err(ParseError::NotSet));
    assert!(matches!(value("set a ="), Err(ParseError::Refused(_))));
    assert_eq!(set_statement(b"set a = '\xff'"), Err(ParseError::Encoding));
    assert_eq!(set_statement(b"set a\0"), Err(ParseError::Encoding));
}

#[test]
fn depth_bombs_are_refused_on_a_small_stack() {
    let bombs = [
        format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("select {}1", "1+".repeat(100_000)),
        format!("select {}1", "- ".repeat(100_000)),
        format!("select {}1", "not ".repeat(100_000)),
        format!("select {}1", "case when ".repeat(50_000)),
        format!("select {}{}", "array[".repeat(50_000), "]".repeat(50_000)),
        format!("{} select 1 {}", "(".repeat(4_000), ")".repeat(4_000)),
        format!("select {}1{}", "f(".repeat(3_000), ")".repeat(3_000)),
        format!("select {}1{}", "(select ".repeat(1_500), ")".repeat(1_500)),
        format!("select 1 {}", "union select 1 ".repeat(20_000)),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let run = move || bombs.map(|bomb| statement_kinds(bomb.as_bytes()).is_ok());
    let accepted = thread.spawn(run).unwrap().join().unwrap();
    assert!(!accepted[0] && !accepted[1], "{accepted:?}");
}

#[test]
fn channels_are_named_as_the_server_folds_them() {
    let listen = |name: &str| Some(Channel::Listen(name.to_owned()));
    let unlisten = |name: &str| Some(Channel::Unlisten(name.to_owned()));
    let (fits, long) = ("x".repeat(62), "x".repeat(63));
    for (text, expected) in [
        ("listen a", listen("a")),
        (" LISTEN Foo ; -- x", listen("foo")),
        ("listen \"Foo \"\"é\"", listen("Foo \"é")),
        ("listen Ä", listen("Ä")),
        ("unlisten a", unlisten("a")),
        ("unlisten *", Some(Channel::UnlistenAll)),
        (&*format!("listen {fits}"), listen(&fits)),
        (&*format!("listen {long}"), None),
        ("listen select", None),
        ("listen a b", None),
        ("listen *", None),
        ("listen \"\"", None),
        ("listen a; listen b", None),
        ("notify a", None),
    ] {
        assert_eq!(channel(text.as_bytes()), expected, "{text}");
    }
}
