//! What belongs to a session, in each mode of pooling: its client finds it again, and another client
//! of the same server connections never does.

use std::time::Duration;

use pgherd_tests::{Client, Database, Proxy, Raw, connect};

/// A feature: statements by which a session gets something, a question about it with the answer that
/// its own client gets, what another client must hear instead, and what ends it.
struct Feature {
    begin: &'static [&'static str],
    ask: &'static str,
    own: &'static str,
    other: &'static str,
    end: &'static str,
}

const TEMPORARY_TABLE: Feature = Feature {
    begin: &[
        "create temp table mine (n int)",
        "insert into mine values (7)",
    ],
    ask: "select n from mine",
    own: "7",
    other: "42P01",
    end: "drop table mine",
};
const ADVISORY_LOCK: Feature = Feature {
    begin: &["select pg_advisory_lock(4711)"],
    ask: "select pg_try_advisory_lock(4711) and pg_advisory_unlock(4711)",
    own: "t",
    other: "f",
    end: "select pg_advisory_unlock_all()",
};
const HELD_CURSOR: Feature = Feature {
    begin: &["declare held scroll cursor with hold for select generate_series(1, 5)"],
    ask: "fetch absolute 3 from held",
    own: "3",
    other: "34000",
    end: "close held",
};
const STATEMENT_OF_SQL: Feature = Feature {
    begin: &["prepare mine (int) as select $1 + 1"],
    ask: "execute mine (4)",
    own: "5",
    other: "26000",
    end: "deallocate mine",
};
const SETTING: Feature = Feature {
    begin: &["set work_mem = '12345kB'"],
    ask: "show work_mem",
    own: "12345kB",
    other: "4MB",
    end: "reset work_mem",
};
const SETTING_BY_FUNCTION: Feature = Feature {
    begin: &["select set_config('lock_timeout', '1234', false)"],
    ask: "show lock_timeout",
    own: "1234ms",
    other: "0",
    end: "select set_config('lock_timeout', '0', false)",
};
const ROLE: Feature = Feature {
    begin: &["set role other"],
    ask: "select current_user",
    own: "other",
    other: "app",
    end: "reset role",
};

/// Asks a question and gives the only answer, or the SQLSTATE.
async fn answer(client: &Client, question: &str) -> String {
    match client.column(question).await {
        Ok(rows) => rows.join(","),
        Err(error) => error
            .code()
            .map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

/// Plays a feature by one client, with another client between all steps.
async fn play(feature: &Feature, mine: &Client, other: &Client) {
    for step in feature.begin {
        mine.batch_execute(step).await.unwrap();
        other.one("select 1").await;
    }
    for _ in 0..3 {
        let (own, heard) = (
            answer(mine, feature.ask).await,
            answer(other, feature.ask).await,
        );
        assert_eq!(
            (&*own, &*heard),
            (feature.own, feature.other),
            "{}",
            feature.ask
        );
    }
    mine.batch_execute(feature.end).await.unwrap();
    other.one("select 1").await;
    assert_eq!(mine.one("select 'in step'").await, "in step");
}

/// Plays a feature on the server itself, which shows that the expectation is right, and in each mode.
async fn in_each_mode(feature: &Feature) {
    let database = Database::new().await;
    let (mine, other) = (
        connect(&database.url("app")).await,
        connect(&database.url("app")).await,
    );
    play(feature, &mine, &other).await;
    for mode in ["transaction", "session", "statement"] {
        let database = Database::new().await;
        // The last questions take locks, and so keep servers.
        let more = format!("[pool]\nsize = 4\nmode = \"{mode}\"");
        let proxy = Proxy::before(&database, &more).await;
        let mine = proxy.client("app", &database).await;
        let other = proxy.client("app", &database).await;
        play(feature, &mine, &other).await;
        drop(mine);
        // Whoever comes next finds nothing of it, wherever it is.
        let (next, after) = (
            proxy.client("app", &database).await,
            proxy.client("app", &database).await,
        );
        if mode != "session" {
            assert_eq!(answer(&next, feature.ask).await, feature.fresh(), "{mode}");
            assert_eq!(answer(&after, feature.ask).await, feature.fresh(), "{mode}");
        }
    }
}

impl Feature {
    /// What a client hears where nobody has it.
    fn fresh(&self) -> &str {
        if self.other == "f" { "t" } else { self.other }
    }
}

#[tokio::test]
async fn a_temporary_table_in_each_mode() {
    in_each_mode(&TEMPORARY_TABLE).await;
}

#[tokio::test]
async fn an_advisory_lock_in_each_mode() {
    in_each_mode(&ADVISORY_LOCK).await;
}

#[tokio::test]
async fn a_held_cursor_in_each_mode() {
    in_each_mode(&HELD_CURSOR).await;
}

#[tokio::test]
async fn a_statement_of_sql_in_each_mode() {
    in_each_mode(&STATEMENT_OF_SQL).await;
}

#[tokio::test]
async fn a_setting_in_each_mode() {
    in_each_mode(&SETTING).await;
    in_each_mode(&SETTING_BY_FUNCTION).await;
}

#[tokio::test]
async fn a_role_in_each_mode() {
    in_each_mode(&ROLE).await;
}

#[tokio::test]
async fn prepared_statements_copy_and_errors_in_each_mode() {
    for mode in ["transaction", "session", "statement"] {
        let database = Database::new().await;
        let more = format!("[pool]\nsize = 2\nmode = \"{mode}\"");
        let proxy = Proxy::before(&database, &more).await;
        let mine = proxy.client("app", &database).await;
        let other = proxy.client("app", &database).await;
        let (ask, same) = (
            mine.prepare("select $1::int + 1").await.unwrap(),
            other.prepare("select $1::int + 2").await.unwrap(),
        );
        for turn in 0..5 {
            let row = mine.query_one(&ask, &[&turn]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), turn + 1, "{mode}");
            let row = other.query_one(&same, &[&turn]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), turn + 2, "{mode}");
            assert_eq!(answer(&mine, "select 1/0").await, "22012", "{mode}");
        }
        mine.batch_execute("create table c (n int)").await.unwrap();
        let out = mine.copy_out("copy c to stdout").await.unwrap();
        drop(out);
        assert_eq!(answer(&mine, "select 1; select 2").await, "1,2", "{mode}");
    }
}

#[tokio::test]
async fn a_parameter_of_its_own_outweighs_the_options_of_a_start_up_packet() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    for port in [database.port, proxy.port()] {
        for swapped in [false, true] {
            let mut more = vec![
                ("options", "-c DateStyle=German -c work_mem=5MB"),
                ("DateStyle", "SQL, DMY"),
            ];
            if swapped {
                more.reverse();
            }
            let mut raw = pgherd_tests::Raw::login(port, "app", &database.name, &more).await;
            assert_eq!(raw.one("show datestyle").await, "SQL, DMY");
            assert_eq!(raw.one("show work_mem").await, "5MB");
        }
    }
}

/// The server of a client in session mode that has sent these requests and left, and that of the next client.
async fn servers_around(requests: &[Vec<u8>]) -> [String; 2] {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1\nmode = \"session\"").await;
    let pid = "select pg_backend_pid()";
    let mut first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mine = first.one(pid).await;
    for request in requests {
        let told = first.ask(request).await;
        assert!(told.ends_with("ZI") && !told.contains('E'), "{told}");
    }
    first.send(&Raw::framed(b'X', b"")).await;
    drop(first);
    let mut next = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    [mine, next.one(pid).await]
}

#[tokio::test]
async fn what_no_discard_all_takes_back_meets_nobody_however_it_was_sent() {
    let ways = |text: &str| {
        let unnamed = [Raw::parse("", text), Raw::bind("", "", &[])];
        let named = [Raw::parse("s", text), Raw::bind("", "s", &[])];
        let end = [Raw::execute("", 0), Raw::sync()].concat();
        [
            vec![[unnamed.concat(), end.clone()].concat()],
            vec![[named.concat(), end].concat()],
            vec![
                Raw::query(&format!("prepare p as {text}")),
                Raw::query("execute p"),
            ],
            vec![Raw::query(text)],
        ]
    };
    for requests in ways("select setseed(0.5)") {
        let [mine, next] = servers_around(&requests).await;
        assert_ne!(mine, next, "{requests:?}");
    }
    for requests in ways("select 1") {
        let [mine, next] = servers_around(&requests).await;
        assert_eq!(mine, next, "{requests:?}");
    }
}

/// Whether an answer of so many rows is all on its way, with nobody who reads it, and how many messages come of it then.
async fn unread(proxy: &Proxy, database: &Database, rows: usize) -> (bool, usize) {
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let pid = raw.one("select pg_backend_pid()").await;
    let text = format!("select repeat('x', 1000) from generate_series(1, {rows})");
    raw.send(&Raw::query(&text)).await;
    let ended = format!(
        "select count(*) from pg_stat_activity where pid = {pid} and state = 'idle' and query like '%repeat%'"
    );
    let mut is_sent = false;
    for _ in 0..20 {
        is_sent |= database.sql(&ended).await == "1";
        if !is_sent {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let read = async {
        let mut count = 0;
        while raw.message().await.tag != 'Z' {
            count += 1;
        }
        count
    };
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    (
        is_sent,
        read.expect("the rest comes without being asked for"),
    )
}

#[tokio::test]
async fn who_reads_late_and_keeps_a_server_gets_the_end_of_its_answer() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nmode = \"session\"").await;
    // As many as have room on their way: of one more, or some, the end is kept here.
    let (mut fits, mut most) = (100_usize, 30_000);
    while most - fits > 4 {
        let rows = fits.midpoint(most);
        let (is_sent, read) = unread(&proxy, &database, rows).await;
        assert_eq!(read, rows + 2, "of {rows}");
        match is_sent {
            true => fits = rows,
            false => most = rows,
        }
    }
}
