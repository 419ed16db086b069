//! Tests of what is understood, and of who may say it.

use pgherd_config::Role;

use super::{Command, read};
use crate::console::parameter;
use crate::console::select::Select;
use crate::console::show::Show;
use crate::console::verb::{Scope, Verb};
use crate::drain::Ending;

fn one(text: &str) -> Command {
    let mut commands = read(text).expect("whole");
    assert_eq!(commands.len(), 1, "{text}");
    commands
        .remove(0)
        .unwrap_or_else(|report| panic!("{text}: {report}"))
}

fn refused(text: &str) -> String {
    let report = match read(text) {
        Err(report) => report,
        Ok(commands) => commands
            .into_iter()
            .find_map(Result::err)
            .expect("an error"),
    };
    report.code.as_str().to_owned()
}

fn db(name: &str) -> Scope {
    Scope::Database(name.to_owned())
}

#[test]
fn every_table_is_found_by_its_name() {
    for name in Show::names() {
        let show = Show::named(name).expect("a table");
        for text in [
            format!("SHOW {name}"),
            format!("show\t{};", name.to_ascii_lowercase()),
        ] {
            assert_eq!(one(&text), Command::Show(show));
        }
    }
    assert_eq!(one("select pools"), Command::Show(Show::Pools));
    assert_eq!(one("SHOW STATS TOTALS"), Command::Show(Show::StatsTotals));
}

/// Nobody asks for a database by the name of the section of all that have none.
#[test]
fn the_wildcard_is_no_database() {
    for verb in [
        "PAUSE",
        "RESUME",
        "RECONNECT",
        "WAIT_CLOSE",
        "KILL",
        "DISABLE",
        "ENABLE",
    ] {
        assert_eq!(refused(&format!("{verb} *")), "3D000", "{verb}");
        assert_eq!(refused(&format!("{verb} \"*\"")), "3D000", "{verb}");
    }
}

#[test]
fn a_check_has_a_database_and_a_time() {
    let check = |database: Option<&str>, seconds| Command::Check {
        database: database.map(str::to_owned),
        timeout: std::time::Duration::from_secs(seconds),
    };
    for (text, wanted) in [
        ("CHECK SHARDING", check(None, 600)),
        ("check sharding shop;", check(Some("shop"), 600)),
        (
            "CHECK SHARDING \"My Db\" TIMEOUT 7",
            check(Some("My Db"), 7),
        ),
        ("CHECK SHARDING TIMEOUT 60", check(None, 60)),
        ("CHECK SHARDING \"timeout\"", check(Some("timeout"), 600)),
    ] {
        assert_eq!(one(text), wanted, "{text}");
    }
    for text in [
        "CHECK",
        "CHECK SHARDS",
        "CHECK SHARDING a b",
        "CHECK SHARDING a TIMEOUT",
        "CHECK SHARDING a TIMEOUT 0",
        "CHECK SHARDING a TIMEOUT soon",
        "CHECK SHARDING a b TIMEOUT 5",
        "CHECK SHARDING ''",
    ] {
        assert_eq!(refused(text), "42601", "{text}");
    }
}

#[test]
fn every_verb_is_understood() {
    let verbs = [
        ("PAUSE", Verb::Pause(Scope::All)),
        ("pause my-db;", Verb::Pause(db("my-db"))),
        ("PAUSE \"My Db\"", Verb::Pause(db("My Db"))),
        ("RESUME", Verb::Resume(Scope::All)),
        ("Resume Db", Verb::Resume(db("Db"))),
        ("RECONNECT", Verb::Reconnect(Scope::All)),
        ("WAIT_CLOSE db", Verb::WaitClose(db("db"))),
        ("KILL db", Verb::Kill(db("db"))),
        ("KILL_CLIENT 7", Verb::KillClient(7)),
        ("KILL_CLIENT c7", Verb::KillClient(7)),
        ("DISABLE db", Verb::Disable("db".to_owned())),
        ("ENABLE db", Verb::Enable("db".to_owned())),
        (
            "ADOPT db",
            Verb::Adopt {
                database: "db".to_owned(),
                host: None,
            },
        ),
        (
            "adopt \"My Db\" 10.0.0.1:5432",
            Verb::Adopt {
                database: "My Db".to_owned(),
                host: Some("10.0.0.1:5432".to_owned()),
            },
        ),
        (
            "ADOPT db '/run/.s.PGSQL.5432';",
            Verb::Adopt {
                database: "db".to_owned(),
                host: Some("/run/.s.PGSQL.5432".to_owned()),
            },
        ),
        (
            "SWITCHOVER db",
            Verb::Switchover {
                database: "db".to_owned(),
                grace: None,
            },
        ),
        (
            "switchover \"My Db\" grace 7",
            Verb::Switchover {
                database: "My Db".to_owned(),
                grace: Some(std::time::Duration::from_secs(7)),
            },
        ),
        ("SUSPEND", Verb::Suspend),
        ("RELOAD", Verb::Reload),
        ("SHUTDOWN", Verb::Shutdown(Ending::AtOnce)),
        (
            "SHUTDOWN WAIT_FOR_SERVERS",
            Verb::Shutdown(Ending::Gracefully),
        ),
        (
            "shutdown wait_for_clients",
            Verb::Shutdown(Ending::WhenClientsLeft),
        ),
        (
            "SET default_pool_size = 5",
            Verb::Set("default_pool_size".to_owned()),
        ),
    ];
    for (text, verb) in verbs {
        assert_eq!(one(text), Command::Verb(verb), "{text}");
    }
}

#[test]
fn what_drivers_say_by_habit() {
    for text in ["", ";", " ; ; ", "-- ping"] {
        assert_eq!(one(text), Command::Empty, "{text:?}");
    }
    let habits = [
        ("SET extra_float_digits = 3", "SET"),
        ("SET SESSION application_name TO 'x'", "SET"),
        ("SET client_encoding='UTF8'", "SET"),
        ("BEGIN", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("RESET ALL", "RESET"),
        ("UNLISTEN *", "UNLISTEN"),
    ];
    for (text, tag) in habits {
        assert_eq!(one(text), Command::Habit(tag), "{text}");
    }
    assert_eq!(one("SELECT 1"), Command::Select(Select::Int(1)));
    assert_eq!(one("select version()"), Command::Select(Select::Version));
    let zone = parameter::find(&["timezone"]).expect("known");
    assert_eq!(one("SHOW TimeZone"), Command::Parameter(zone));
    assert!(matches!(
        one("SHOW TRANSACTION ISOLATION LEVEL"),
        Command::Parameter(_)
    ));
}

#[test]
fn statements_before_a_wrong_one_stand() {
    let commands = read("SHOW POOLS; DROP TABLE a; SHOW LISTS").expect("whole");
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[0], Ok(Command::Show(Show::Pools)));
    assert!(commands[1].is_err());
}

#[test]
fn what_is_not_understood_says_what_would_be() {
    let wrong = [
        "DROP TABLE a",
        "SHOW",
        "SHOW nothing",
        "SHOW POOLS now",
        "\"show\" pools",
        "PAUSE a b",
        "PAUSE =",
        "PAUSE ''",
        "KILL_CLIENT",
        "KILL_CLIENT x",
        "KILL_CLIENT 99999999999",
        "DISABLE",
        "RELOAD now",
        "SHUTDOWN soon",
        "SET x",
        "PAUSE 'a",
        "%",
    ];
    for text in wrong {
        assert_eq!(refused(text), "42601", "{text}");
    }
    assert_eq!(refused("SELECT * FROM t"), "0A000");
    assert_eq!(refused("SHOW FDS"), "0A000");
    let report = read("nonsense")
        .expect("whole")
        .remove(0)
        .expect_err("unknown");
    let hint = report.hint.expect("a hint");
    for part in ["POOLS", "STATS_TOTALS", "PAUSE [db]", "WAIT_FOR_SERVERS"] {
        assert!(hint.contains(part), "{part} is missing in {hint}");
    }
}

#[test]
fn a_reader_may_only_read() {
    let verbs = [
        "PAUSE",
        "RESUME",
        "RECONNECT",
        "WAIT_CLOSE",
        "KILL",
        "KILL_CLIENT 1",
        "DISABLE a",
        "ENABLE a",
        "SUSPEND",
        "RELOAD",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SET a = b",
    ];
    for text in verbs {
        assert_eq!(one(text).needs(), Role::Admin, "{text}");
    }
    for name in Show::names() {
        assert_eq!(one(&format!("SHOW {name}")).needs(), Role::Reader, "{name}");
    }
    for text in [
        "",
        "SELECT 1",
        "SET application_name = 'a'",
        "SHOW client_encoding",
        "BEGIN",
    ] {
        assert_eq!(one(text).needs(), Role::Reader, "{text}");
    }
}
