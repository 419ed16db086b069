//! Settings that no server reports, over connections that others use meanwhile.

use pgherd_tests::Raw;

use super::{before, pair, steps, unnamed};

#[tokio::test]
async fn what_is_set_follows_its_client() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    for (set, show, mine) in [
        ("set work_mem = '7MB'", "show work_mem", "7MB"),
        ("set work_mem to 3072", "show work_mem", "3MB"),
        ("set enable_seqscan = off", "show enable_seqscan", "off"),
        (
            "set random_page_cost = 1.25",
            "show random_page_cost",
            "1.25",
        ),
        (
            "set vacuum_cost_delay = 1.5",
            "show vacuum_cost_delay",
            "1500us",
        ),
        (
            "set search_path = a, \"B c\", 'x, y', public",
            "show search_path",
            "a, \"B c\", \"x, y\", public",
        ),
        ("set schema 'Own'", "show search_path", "\"Own\""),
        (
            "set session characteristics as transaction isolation level serializable",
            "show transaction_isolation",
            "serializable",
        ),
        (
            "set session characteristics as transaction deferrable",
            "show transaction_deferrable",
            "on",
        ),
        ("set xml option document", "show xmloption", "document"),
        (
            "select set_config('lock_timeout', '5s', false)",
            "show lock_timeout",
            "5s",
        ),
        (
            "select pg_catalog.set_config('lock_timeout', null, false), set_config('geqo', 'off', false) as x",
            "show geqo",
            "off",
        ),
        (
            "set application_name = 'me'; set work_mem = '8MB'; select 1",
            "show work_mem",
            "8MB",
        ),
        (
            "set lock_timeout = '3s'; show lock_timeout",
            "show lock_timeout",
            "3s",
        ),
        (
            "set app.owner = 'it''s me'",
            "select current_setting('app.owner', true)",
            "it's me",
        ),
    ] {
        let usual = second.one(show).await;
        steps(&first, &[set]).await;
        for _ in 0..2 {
            assert_eq!(first.one(show).await, mine, "{set}");
            if !set.contains("app.owner") {
                assert_eq!(second.one(show).await, usual, "{set}");
            }
        }
    }
    steps(&first, &["reset search_path", "set work_mem to default"]).await;
    assert_eq!(second.one("show search_path").await, "\"$user\", public");
    assert_eq!(first.one("show search_path").await, "\"$user\", public");
    assert_eq!(first.one("show work_mem").await, "4MB");
    assert_eq!(first.one("show geqo").await, "off");
    steps(&first, &["reset all"]).await;
    assert_eq!(first.one("show geqo").await, "on");
    assert_eq!(first.one("show lock_timeout").await, "0");
    let pinned = "select 1";
    assert_eq!(second.one(pinned).await, "1");
}

#[tokio::test]
async fn a_transaction_takes_back_what_it_set() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    let show = "show work_mem";
    for (block, after) in [
        (&["begin", "set work_mem = '5MB'", "rollback"][..], "4MB"),
        (&["begin", "set work_mem = '5MB'", "commit"], "5MB"),
        (
            &[
                "begin",
                "set work_mem = '6MB'",
                "set local work_mem = '7MB'",
                "commit",
            ],
            "6MB",
        ),
        (&["begin", "set local work_mem = '7MB'", "commit"], "6MB"),
        (
            &[
                "begin",
                "savepoint a",
                "set work_mem = '7MB'",
                "rollback to a",
                "commit",
            ],
            "6MB",
        ),
        (
            &[
                "begin",
                "savepoint a",
                "set work_mem = '7MB'",
                "release a",
                "commit",
            ],
            "7MB",
        ),
        (
            &[
                "begin",
                "savepoint A",
                "set work_mem = '8MB'",
                "savepoint \"B\"",
                "reset work_mem",
                "rollback to savepoint \"B\"",
                "release a",
                "commit",
            ],
            "8MB",
        ),
        (
            &[
                "begin",
                "set work_mem = '9MB'",
                "rollback and chain",
                "set geqo = off",
                "commit",
            ],
            "8MB",
        ),
        (
            &[
                "begin",
                "set work_mem = '9MB'",
                "commit and chain",
                "set work_mem = '10MB'",
                "rollback",
            ],
            "9MB",
        ),
        (
            &[
                "begin; set work_mem = '10MB'; savepoint s; set work_mem = '11MB'; rollback to s; commit",
            ],
            "10MB",
        ),
        (
            &["begin; set work_mem = '12MB'; rollback; set geqo = on"],
            "10MB",
        ),
        (&["set work_mem = '13MB'; rollback"], "10MB"),
        (
            &["set work_mem = '13MB'; commit; set work_mem = '14MB'; rollback"],
            "13MB",
        ),
        (&["set work_mem = '14MB'; begin", "rollback"], "13MB"),
        (
            &[
                "begin",
                "set work_mem = '15MB'",
                "select set_config('work_mem', '16MB', true)",
                "commit",
            ],
            "15MB",
        ),
        (&["set local work_mem = '16MB'"], "15MB"),
        (&["begin", "reset all", "rollback"], "15MB"),
        (&["begin", "discard plans", "reset all", "commit"], "4MB"),
    ] {
        steps(&first, block).await;
        assert_eq!(second.one(show).await, "4MB", "{block:?}");
        assert_eq!(first.one(show).await, after, "{block:?}");
    }
}

#[tokio::test]
async fn a_failure_takes_back_what_was_set_before_it() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    let show = "show work_mem";
    steps(&first, &["set work_mem = '5MB'"]).await;
    first.refused("set work_mem = '6MB'; select 1 / 0").await;
    assert_eq!(second.one(show).await, "4MB");
    assert_eq!(first.one(show).await, "5MB");
    first
        .refused("set work_mem = '6MB'; commit; set work_mem = '7MB'; select 1 / 0")
        .await;
    assert_eq!(second.one(show).await, "4MB");
    assert_eq!(first.one(show).await, "6MB");
    steps(
        &first,
        &[
            "begin",
            "set work_mem = '8MB'",
            "savepoint s",
            "set work_mem = '9MB'",
        ],
    )
    .await;
    first.refused("select 1 / 0").await;
    steps(&first, &["rollback to s", "commit"]).await;
    assert_eq!(second.one(show).await, "4MB");
    assert_eq!(first.one(show).await, "8MB");
    steps(&first, &["begin", "set work_mem = '9MB'"]).await;
    first.refused("select 1 / 0").await;
    steps(&first, &["commit"]).await;
    assert_eq!(second.one(show).await, "4MB");
    assert_eq!(first.one(show).await, "8MB");
    // What was reported for the transaction only is not what it goes back to.
    steps(
        &first,
        &[
            "begin",
            "set local application_name = 'x'",
            "set work_mem = '9MB'",
        ],
    )
    .await;
    first.refused("select 1 / 0").await;
    steps(&first, &["rollback"]).await;
    assert_eq!(second.one(show).await, "4MB");
    assert_eq!(first.one("show application_name").await, "");
    assert_eq!(first.one(show).await, "8MB");
    let deferred = "create temp table d (a int unique deferrable initially deferred)";
    steps(
        &first,
        &[
            "begin",
            deferred,
            "set work_mem = '10MB'",
            "insert into d values (1), (1)",
        ],
    )
    .await;
    first.refused("commit").await;
    assert_eq!(first.one(show).await, "8MB");
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    steps(&first, &["set work_mem = '5MB'"]).await;
    for (wrong, code) in [
        ("set work_mem = 'lots'", "22023"),
        ("set work_mem = 1", "22023"),
        ("set no_such = 1", "42704"),
        ("set role nobody_of_this_name", "22023"),
        ("select set_config('work_mem', 'lots', false)", "22023"),
        ("set search_path = ;", "42601"),
    ] {
        assert_eq!(first.refused(wrong).await.0, code, "{wrong}");
        assert_eq!(second.one("show work_mem").await, "4MB");
        assert_eq!(first.one("show work_mem").await, "5MB");
        assert_eq!(first.one("select current_user").await, "app");
    }
}

#[tokio::test]
async fn the_extended_protocol_is_followed_too() {
    let (database, proxy) = before(1).await;
    let login = async || Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let (mut first, mut second) = (login().await, login().await);
    let run = |parts: &[Vec<u8>]| [parts.concat(), Raw::sync()].concat();
    // Prepared at one time, executed later and again.
    let prepare = run(&[
        Raw::parse("s", "set work_mem = '5MB'"),
        Raw::parse("r", "reset work_mem"),
    ]);
    assert_eq!(first.ask(&prepare).await, "1 1 ZI");
    assert_eq!(first.one("show work_mem").await, "4MB");
    let execute = |name: &str| run(&[Raw::bind("", name, &[]), Raw::execute("", 0)]);
    for _ in 0..2 {
        assert_eq!(first.ask(&execute("s")).await, "2 C ZI");
        assert_eq!(second.one("show work_mem").await, "4MB");
        assert_eq!(first.one("show work_mem").await, "5MB");
        assert_eq!(first.ask(&execute("r")).await, "2 C ZI");
        assert_eq!(second.one("show work_mem").await, "4MB");
        assert_eq!(first.one("show work_mem").await, "4MB");
    }
    // Bound values.
    let config = "select set_config('app.tenant', $1, false), set_config('work_mem', $2, false)";
    let asked = first
        .ask(&run(&[unnamed(config, &["it's \\ 7", "6MB"])]))
        .await;
    assert_eq!(asked, "1 2 D C ZI");
    assert_eq!(second.one("show work_mem").await, "4MB");
    assert_eq!(first.one("show work_mem").await, "6MB");
    assert_eq!(first.one("show app.tenant").await, "it's \\ 7");
    // An error takes the whole of a pipeline back, a block of its own included.
    let pipeline = run(&[
        unnamed("set work_mem = '7MB'", &[]),
        unnamed("select 1 / 0", &[]),
    ]);
    assert_eq!(first.ask(&pipeline).await, "1 2 C 1 E22012 ZI");
    assert_eq!(first.one("show work_mem").await, "6MB");
    first.ask(&Raw::query("discard all")).await;
    let pipeline = run(&[
        unnamed("begin", &[]),
        unnamed("set work_mem = '8MB'", &[]),
        unnamed("savepoint s", &[]),
        unnamed("set work_mem = '9MB'", &[]),
        unnamed("rollback to s", &[]),
        unnamed("commit", &[]),
    ]);
    assert_eq!(
        first.ask(&pipeline).await,
        "1 2 C 1 2 C 1 2 C 1 2 C 1 2 C 1 2 C ZI"
    );
    assert_eq!(second.one("show work_mem").await, "4MB");
    assert_eq!(first.one("show work_mem").await, "8MB");
    // A portal that is executed in two goes does what it does only once.
    let halves = run(&[
        Raw::parse("", "select set_config('work_mem', '10MB', false)"),
        Raw::bind("p", "", &[]),
        Raw::execute("p", 1),
        unnamed("set work_mem = '11MB'", &[]),
        Raw::execute("p", 0),
    ]);
    assert_eq!(first.ask(&halves).await, "1 2 D s 1 2 C C ZI");
    assert_eq!(second.one("show work_mem").await, "4MB");
    assert_eq!(first.one("show work_mem").await, "11MB");
}

/// The messages of a portal with this name that sets something once it is executed.
fn portal(name: &str, size: &str) -> Vec<u8> {
    let text = format!("select set_config('work_mem', '{size}', false)");
    [Raw::parse("", &text), Raw::bind(name, "", &[]), Raw::sync()].concat()
}

#[tokio::test]
async fn what_is_fetched_from_a_portal_by_sql_keeps_its_server() {
    let (database, proxy) = before(2).await;
    database
        .sql(
            "create function take(c refcursor) returns void language plpgsql as $$ \
             begin move all in c; end $$",
        )
        .await;
    let login = async || Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut second = login().await;
    // The catalogue is known from here on, so that nobody looks behind a transaction.
    for _ in 0..2 {
        second.one("select 1").await;
    }
    for fetch in ["fetch all from p", "MOVE all in p", "select take('p')"] {
        let mut first = login().await;
        assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(first.ask(&portal("p", "1MB")).await, "1 2 ZT", "{fetch}");
        let answer = first.ask(&Raw::query(fetch)).await;
        assert!(answer.ends_with("C ZT"), "{fetch}: {answer}");
        assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
        for _ in 0..3 {
            assert_eq!(second.one("show work_mem").await, "4MB", "{fetch}");
            assert_eq!(first.one("show work_mem").await, "1MB", "{fetch}");
        }
        first.ask(&Raw::query("discard all")).await;
    }
}

#[tokio::test]
async fn a_portal_does_what_was_bound_to_it_while_it_lives() {
    let (database, proxy) = before(2).await;
    let login = async || Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let execute = [Raw::execute("p", 0), Raw::sync()].concat();
    for is_run_before in [false, true] {
        let (mut first, mut second) = (login().await, login().await);
        // The catalogue is known from here on, so that nobody looks behind a transaction.
        for _ in 0..2 {
            second.one("select 1").await;
        }
        assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(first.ask(&portal("p", "1MB")).await, "1 2 ZT");
        if is_run_before {
            assert_eq!(first.ask(&execute).await, "D C ZT");
        }
        assert_eq!(first.ask(&Raw::query("savepoint s")).await, "C ZT");
        assert_eq!(first.ask(&portal("p", "2MB")).await, "1 E42P03 ZE");
        assert_eq!(first.ask(&Raw::query("rollback to s")).await, "C ZT");
        let answer = first.ask(&execute).await;
        assert!(answer.ends_with("C ZT"), "{answer}");
        assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
        for _ in 0..3 {
            assert_eq!(second.one("show work_mem").await, "4MB");
            assert_eq!(first.one("show work_mem").await, "1MB");
        }
        first.ask(&Raw::query("discard all")).await;
    }
}

#[tokio::test]
async fn what_cannot_be_followed_keeps_its_server() {
    let (database, proxy) = before(2).await;
    let [first, second] = pair(&database, &proxy).await;
    let pid = "select pg_backend_pid()";
    for set in [
        "set work_mem = e'7\\115B'",
        "do $$ begin set work_mem = '7MB'; end $$",
        "select set_config('work_mem', '7' || 'MB', false)",
        "set app.name = 'caf\u{e9}'; set work_mem = '7MB'",
    ] {
        steps(&first, &[set]).await;
        let own = first.one(pid).await;
        for _ in 0..3 {
            assert_eq!(first.one("show work_mem").await, "7MB", "{set}");
            assert_ne!(second.one(pid).await, own, "{set}");
        }
        steps(&first, &["discard all"]).await;
        assert_eq!(first.one("show work_mem").await, "4MB", "{set}");
    }
}

#[tokio::test]
async fn a_client_of_too_many_settings_keeps_its_server() {
    let (database, proxy) = before(2).await;
    let [first, second] = pair(&database, &proxy).await;
    for number in 0..128 {
        let set = format!("set many.x{number} = '{number}'");
        steps(&first, &[&set]).await;
    }
    let pid = "select pg_backend_pid()";
    steps(&first, &["set one.more = 'x'"]).await;
    let own = first.one(pid).await;
    for _ in 0..3 {
        assert_ne!(second.one(pid).await, own);
        assert_eq!(first.one("show many.x127").await, "127");
        assert_eq!(first.one("show one.more").await, "x");
    }
}

#[tokio::test]
async fn how_texts_are_read_may_be_set_by_a_name_that_is_bound() {
    let (database, proxy) = before(2).await;
    let login = async || Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let (mut first, mut second) = (login().await, login().await);
    // The catalogue is known from here on, and tells that no code runs unseen.
    for _ in 0..2 {
        assert_eq!(first.one("select 1").await, "1");
    }
    let set = [
        unnamed(
            "select set_config($1, $2, false)",
            &["standard_conforming_strings", "off"],
        ),
        Raw::sync(),
        Raw::query("select '\\' -- ', set_config('work_mem', '77MB', false)\n"),
    ];
    assert_eq!(first.ask(&set.concat()).await, "1 2 D C ZI");
    first.ready().await;
    for _ in 0..3 {
        assert_eq!(second.one("show work_mem").await, "4MB");
        assert_eq!(first.one("show work_mem").await, "77MB");
    }
}
