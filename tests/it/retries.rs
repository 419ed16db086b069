//! Requests that their server did not serve are served after all, and no others.

mod by_sql;
pub(crate) mod node;

use pgherd_sandbox::{Binaries, Server, free_port};
use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};
use std::time::Duration;

use crate::failures::metrics;
use crate::prepared::{pair, prepare};
use node::{Fault, Node};

fn run(name: &str) -> Vec<u8> {
    [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()].concat()
}

/// As libpq runs a statement: it asks each time what comes.
fn run_described(name: &str) -> Vec<u8> {
    let messages = [
        Raw::bind("", name, &[]),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    messages.concat()
}

/// A FATAL error.
pub(crate) fn fatal(code: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mnot now\0\0");
    Raw::framed(b'E', fields.as_bytes())
}

/// A proxy that says what it does, before a node.
async fn before(node: &Node, database: &str, more: &str) -> Proxy {
    before_and_told(node, database, more).await.0
}

/// The same, and the port where its metrics are told.
pub(crate) async fn before_and_told(node: &Node, database: &str, more: &str) -> (Proxy, u16) {
    let (port, http) = (node.port(), free_port());
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [auth]\nmethod = \"trust\"\n[log]\nlevel = \"debug\"\nstats_every = 0\n\
         [metrics]\nlisten = \"127.0.0.1:{http}\"\n[users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
         [databases.{database}]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    );
    (Proxy::start(&Config::text(text)).await, http)
}

/// The sum of a counter.
async fn counted(http: u16, name: &str) -> u64 {
    let page = metrics(http).await;
    let lines = page.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

/// How often a request was sent again.
fn retries(proxy: &Proxy) -> usize {
    proxy.log().matches("a request is sent again").count()
}

/// A client of a proxy before a node before a database in which there is a table `goods`, once the
/// proxy knows the database's functions.
async fn shop(more: &str) -> (Database, Node, Proxy, Raw) {
    let (database, node, proxy, client, _) = shop_and_told(more).await;
    (database, node, proxy, client)
}

/// The same, and the port where the proxy's metrics are told.
async fn shop_and_told(more: &str) -> (Database, Node, Proxy, Raw, u16) {
    let database = Database::new().await;
    database.sql("create table goods (a text)").await;
    let node = Node::new(database.port).await;
    let (proxy, http) = before_and_told(&node, &database.name, more).await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    // The catalogue is looked at behind the first transaction, and before the next on this server.
    client.one("select 1").await;
    client.one("select 1").await;
    (database, node, proxy, client, http)
}

#[tokio::test]
async fn a_changed_table_is_not_noticed_by_who_was_never_told_of_it() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    let text = "select * from shape";
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&prepare("s", text)).await, "1 ZI");
        assert_eq!(client.ask(&run("s")).await, "2 D C ZI");
    }
    let columns = async |client: &mut Raw, bytes: &[u8]| {
        client.send(bytes).await;
        let messages = client.ready().await;
        let row = messages.iter().find(|message| message.tag == 'D');
        row.unwrap_or_else(|| panic!("{messages:?}"))
            .columns()
            .len()
    };
    for (at, client) in [&mut first, &mut second].into_iter().enumerate() {
        let alter = format!("alter table shape add more{at} int");
        database.sql(&alter).await;
        assert_eq!(columns(client, &run("s")).await, at + 2);
    }
    // The first statement of a block whose BEGIN is ours to send.
    database.sql("alter table shape add d int").await;
    assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZT");
    assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
    // Within a block it is Postgres' own error.
    database.sql("alter table shape add e int").await;
    assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(first.ask(&Raw::query("select 1")).await, "T D C ZT");
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZE");
    assert_eq!(first.ask(&Raw::query("rollback")).await, "C ZI");
    // What stands behind it is read after it, and not twice.
    database.sql("alter table shape add f int").await;
    let two = [run("s"), Raw::query("select 1")].concat();
    assert_eq!(second.ask(&two).await, "2 D C ZI");
    assert_eq!(second.ask(&[]).await, "T D C ZI");
    // A write behind it has happened, and must not happen again.
    database.sql("alter table shape add g int").await;
    let write = Raw::query("insert into shape values (2)");
    assert_eq!(second.ask(&[run("s"), write].concat()).await, "E0A000 ZI");
    assert_eq!(second.ask(&[]).await, "C ZI");
    assert_eq!(database.sql("select count(*) from shape").await, "2");
    // A batch that is not at its end yet.
    database
        .sql("alter table shape add h int; delete from shape where a = 2")
        .await;
    let begun = [Raw::bind("", "s", &[]), Raw::execute("", 0), Raw::flush()].concat();
    second.send(&begun).await;
    for tag in ['2', 'D', 'C'] {
        assert_eq!(second.message().await.tag, tag);
    }
    assert_eq!(second.ask(&Raw::sync()).await, "ZI");
}

/// What a bound session listens to is told to it also where an answer is not wanted any more.
#[tokio::test]
async fn a_notification_among_answers_that_are_not_wanted_is_told() {
    let (_database, node, _proxy, mut client) = shop("").await;
    client
        .ask(&Raw::query("create temp table mine (a int)"))
        .await;
    assert_eq!(client.ask(&prepare("s", "select 1")).await, "1 ZI");
    assert_eq!(client.ask(&run("s")).await, "2 D C ZI");
    let reshaped = "SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0";
    let notified = [&7_i32.to_be_bytes()[..], b"news\0now\0"].concat();
    node.fail(Fault {
        needle: "pgherd_",
        passes: false,
        says: [
            Raw::framed(b'E', reshaped.as_bytes()),
            Raw::framed(b'A', &notified),
        ]
        .concat(),
        times: 1,
    });
    client.send(&run("s")).await;
    let told = client.message().await;
    assert_eq!(told.tag, 'A', "{told:?}");
    assert!(told.body.ends_with(b"news\0now\0"));
    assert_eq!(client.message().await.field('C').as_deref(), Some("08006"));
    assert_eq!(node.left(), 0);
}

#[tokio::test]
async fn who_was_told_of_a_table_is_told_that_it_has_changed() {
    let (database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    let described = [
        Raw::parse("s", "select * from shape"),
        Raw::describe('S', "s"),
        Raw::sync(),
    ];
    assert_eq!(first.ask(&described.concat()).await, "1 t T ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
    database.sql("alter table shape add b int").await;
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    // Who asks in the same breath what comes gets what there is.
    assert_eq!(first.ask(&run_described("s")).await, "2 T D C ZI");
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    // But who goes by what it was told, a format for each column, would take one column for another.
    let by_column = b"\0s\0\0\0\0\0\0\x02\0\0\0\0";
    let by_column = [
        Raw::framed(b'B', by_column),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(first.ask(&by_column.concat()).await, "E0A000 ZI");
    let told = [Raw::describe('S', "s"), Raw::sync()].concat();
    assert_eq!(first.ask(&told).await, "t T ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
}

/// Some drivers ask a portal what it gives, and never again.
#[tokio::test]
async fn who_was_told_by_a_portal_is_told_that_its_table_has_changed() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    let text = "select * from shape";
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(first.ask(&run_described("s")).await, "2 T D C ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
    database.sql("alter table shape add b int").await;
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    assert_eq!(first.ask(&run_described("s")).await, "2 T D C ZI");
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    // Another client has the same text read anew, of which the first one is not told.
    assert_eq!(second.ask(&prepare("s", text)).await, "1 ZI");
    second.send(&Raw::bind("", "s", &[])).await;
    let rest = [Raw::describe('P', ""), Raw::execute("", 0), Raw::sync()];
    assert_eq!(second.ask(&rest.concat()).await, "2 T D C ZI");
    assert_eq!(second.ask(&run("s")).await, "2 D C ZI");
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    assert_eq!(second.ask(&run("s")).await, "2 D C ZI");
    // Who prepares it anew goes by that.
    let closed = [Raw::close('S', "s"), Raw::sync()].concat();
    assert_eq!(first.ask(&closed).await, "3 ZI");
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(first.ask(&run_described("s")).await, "2 T D C ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
}

#[tokio::test]
async fn statements_that_were_dropped_behind_our_back_are_prepared_anew() {
    let more = "[pool]\nsize = 1\nfunction_check = \"never\"";
    let (database, _proxy, mut first, mut second) = pair(more).await;
    let forget = "create table goods (a int); create function forget() returns void \
                  language plpgsql as $$begin execute 'deallocate all'; end$$";
    database.sql(forget).await;
    assert_eq!(first.ask(&prepare("one", "select 'one'")).await, "1 ZI");
    let insert = "insert into goods values (1)";
    assert_eq!(first.ask(&prepare("insert", insert)).await, "1 ZI");
    for _ in 0..2 {
        second.one("select forget()::text").await;
        let batch = [
            Raw::bind("", "one", &[]),
            Raw::execute("", 0),
            Raw::bind("", "insert", &[]),
            Raw::execute("", 0),
            Raw::parse("new", "select 'new'"),
            Raw::sync(),
            Raw::close('S', "new"),
            Raw::sync(),
        ];
        assert_eq!(first.ask(&batch.concat()).await, "2 D C 2 C 1 ZI");
        assert_eq!(first.ask(&[]).await, "3 ZI");
    }
    assert_eq!(database.sql("select count(*) from goods").await, "2");
    // In the middle of a block it is told.
    assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
    first.one("select forget()::text").await;
    assert_eq!(first.ask(&run("one")).await, "E26000 ZE");
    assert_eq!(first.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(first.ask(&run("one")).await, "2 D C ZI");
}

#[tokio::test]
async fn a_read_that_is_cut_off_is_read_again() {
    let (_database, node, proxy, mut client) = shop("[pool]\nsize = 2").await;
    let cut = |passes, says| Fault {
        needle: "needle",
        passes,
        says,
        times: 1,
    };
    let text = "select count(*), 'needle' from goods";
    let mut expected = 0;
    for (passes, says) in [
        (false, Vec::new()),
        (true, Vec::new()),
        (true, fatal("57P01")),
    ] {
        node.fail(cut(passes, says));
        assert_eq!(client.ask(&Raw::query(text)).await, "T D C ZI");
        expected += 1;
        assert_eq!((node.left(), retries(&proxy)), (0, expected));
    }
    // In the extended protocol, behind a BEGIN of ours, with a setting that goes with it.
    assert_eq!(
        client.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await,
        "C ZI"
    );
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    node.fail(cut(false, Vec::new()));
    let batch = [
        Raw::parse("s", "select current_setting('timezone'), 'needle'"),
        Raw::bind("", "s", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    client.send(&batch.concat()).await;
    let messages = client.ready().await;
    let tags: String = messages.iter().map(|message| message.tag).collect();
    assert_eq!(
        (&*tags, &messages.last().unwrap().body[..]),
        ("12DCZ", &b"T"[..])
    );
    assert_eq!(messages[2].columns()[0], "Asia/Tokyo");
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!((node.left(), retries(&proxy)), (0, expected + 1));
    assert_eq!(client.ask(&run("s")).await, "2 D C ZI");
    // Two that were sent at once.
    node.fail(cut(false, Vec::new()));
    let two = [Raw::query("select 1"), Raw::query(text)].concat();
    client.send(&two).await;
    let answers = [client.ready().await, client.ready().await];
    let codes = answers.map(|answer| answer.iter().find(|said| said.tag == 'E').cloned());
    assert!(codes[0].is_none(), "{codes:?}");
    // The first has been answered by then, or both are read again.
    let code = codes[1].as_ref().and_then(|error| error.field('C'));
    assert!(code.is_none_or(|code| code == "08006"), "{codes:?}");
}

#[tokio::test]
async fn a_read_that_ran_for_longer_than_servers_are_waited_for_is_read_again() {
    let more = "[pool]\nsize = 2\n[timeouts]\ncheckout = \"1s\"\nhold = \"1s\"";
    let (database, node, proxy, mut client) = shop(more).await;
    let blocker = connect(&database.url("app")).await;
    let lock = "begin; lock table goods";
    blocker.batch_execute(lock).await.unwrap();
    client.send(&Raw::query("select count(*) from goods")).await;
    let waits =
        "select count(*) > 0 from pg_locks where not granted and relation = 'goods'::regclass";
    until("it waits", async || database.sql(waits).await == "t").await;
    // It is the time that this is about.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    node.lead_to(database.port).await;
    until("it is read again", async || retries(&proxy) == 1).await;
    blocker.batch_execute("commit").await.unwrap();
    assert_eq!(client.ask(&[]).await, "T D C ZI");
}

#[tokio::test]
async fn one_read_brings_down_no_more_than_two_servers() {
    let (_database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    node.fail(Fault {
        needle: "needle",
        passes: true,
        says: Vec::new(),
        times: 9,
    });
    assert_eq!(
        client.ask(&Raw::query("select 'needle'")).await,
        "E08006 ZI"
    );
    assert_eq!((node.left(), retries(&proxy)), (7, 1));
    assert_eq!(client.ask(&Raw::query("select 1")).await, "T D C ZI");
}

#[tokio::test]
async fn what_may_have_done_something_is_never_run_twice() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let more = "create function note() returns text language sql as \
                $$insert into goods values ('noted') returning a$$; \
                create sequence s; create view numbered as select nextval('s')";
    database.sql(more).await;
    for (text, code) in [
        ("insert into goods values ('needle')", "08007"),
        ("select pg_notify('needle', ''), pg_sleep(0)", "08007"),
        ("select note(), 'needle'", "08007"),
        ("select 1; select 'needle'", "08007"),
        ("begin; insert into goods values ('needle')", "40001"),
        (
            "begin; insert into goods values ('needle'); commit",
            "08007",
        ),
    ] {
        for passes in [false, true] {
            node.fail(Fault {
                needle: "needle",
                passes,
                says: fatal("57P01"),
                times: 1,
            });
            client.send(&Raw::query(text)).await;
            let answer = client.ready().await;
            assert_eq!(answer[0].field('C').as_deref(), Some(code), "{text}");
            assert_eq!((node.left(), retries(&proxy)), (0, 0), "{text}");
            client.ask(&Raw::query("rollback")).await;
        }
    }
    let twice = "select count(*) from goods group by a having count(*) > 2";
    assert_eq!(database.sql(twice).await, "");
}

/// What has written nothing, whatever became of its answer, is not told to have an outcome.
#[tokio::test]
async fn what_only_reads_is_told_to_be_lost_and_no_more() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let more = "create function note() returns text language sql as \
                $$insert into goods values ('noted') returning a$$; create sequence s";
    database.sql(more).await;
    for (text, code) in [
        (
            "copy goods to stdout (delimiter ',', null 'needle')",
            "08006",
        ),
        ("copy (select a, 'needle' from goods) to stdout", "08006"),
        ("/* needle */ fetch 1 from nowhere", "08006"),
        ("/* needle */ show work_mem", "08006"),
        ("copy (select note(), 'needle') to stdout", "08007"),
        ("copy (select nextval('s'), 'needle') to stdout", "08007"),
        (
            "copy (insert into goods values ('needle') returning a) to stdout",
            "08007",
        ),
        ("/* needle */ notify goods", "08007"),
    ] {
        let extended = [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        for (way, bytes) in [
            ("simple", Raw::query(text)),
            ("extended", extended.concat()),
        ] {
            // In the extended protocol the text is parsed before anything of it could run.
            let needle = match way {
                "simple" => "needle",
                _ => "E\0\0\0\u{9}\0\0\0\0\0",
            };
            for passes in [false, true] {
                node.fail(Fault {
                    needle,
                    passes,
                    says: Vec::new(),
                    times: 1,
                });
                client.send(&bytes).await;
                let answer = client.ready().await;
                let told = answer
                    .iter()
                    .find_map(|message| message.field('C').filter(|_| message.tag == 'E'));
                assert_eq!(told.as_deref(), Some(code), "{text} {way} {passes}");
                assert_eq!((node.left(), retries(&proxy)), (0, 0), "{text} {way}");
                assert_eq!(client.one("select 1").await, "1", "{text} {way}");
            }
        }
    }
}

/// The end of a block is not answered yet, and what stands behind it may be done.
#[tokio::test]
async fn what_runs_behind_a_rollback_is_not_told_to_be_lost_with_its_block() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let insert = "insert into goods values ('needle')";
    let bound = |text: &str| {
        let (parse, bind) = (Raw::parse("", text), Raw::bind("", "", &[]));
        [parse, bind, Raw::execute("", 0)].concat()
    };
    for (bytes, replies) in [
        (Raw::query(&format!("rollback; {insert}")), 1),
        ([Raw::query("rollback"), Raw::query(insert)].concat(), 2),
        ([bound("rollback"), bound(insert), Raw::sync()].concat(), 1),
    ] {
        for text in ["begin", "insert into goods values ('x')"] {
            client.ask(&Raw::query(text)).await;
        }
        node.fail(Fault {
            needle: "needle",
            passes: true,
            says: Vec::new(),
            times: 1,
        });
        client.send(&bytes).await;
        let mut answer = Vec::new();
        for _ in 0..replies {
            answer.extend(client.ready().await);
        }
        let (end, before) = answer.split_last().unwrap();
        let code = before.last().and_then(|error| error.field('C'));
        assert_eq!(code.as_deref(), Some("08007"), "{answer:?}");
        assert_eq!(end.body, b"I");
        assert_eq!((node.left(), retries(&proxy)), (0, 0));
    }
    until("all is done", async || {
        let all = "select string_agg(a, ' ') from goods";
        !database.sql(all).await.is_empty()
    })
    .await;
    assert!(
        !database
            .sql("select string_agg(a, ' ') from goods")
            .await
            .contains('x')
    );
}

#[tokio::test]
async fn a_view_that_does_something_is_not_read_twice() {
    let (_database, node, proxy, mut client, http) = shop_and_told("[pool]\nsize = 1").await;
    let surveys = "pgherd_pool_function_surveys_total";
    let read = |what| {
        node.fail(Fault {
            needle: "needle",
            passes: true,
            says: Vec::new(),
            times: 1,
        });
        Raw::query(&format!("select *, 'needle' from {what}"))
    };
    assert_eq!(client.ask(&read("goods")).await, "T C ZI");
    assert_eq!(retries(&proxy), 1);
    // By a client of the pool, so that it is known at once that the catalogue has changed.
    client.ask(&Raw::query("create sequence s")).await;
    let before = counted(http, surveys).await;
    let view = "create view numbered as select nextval('s')";
    client.ask(&Raw::query(view)).await;
    assert_eq!(client.ask(&read("numbered")).await, "E08007 ZI");
    until("the catalogue is looked at", async || {
        client.one("select 1").await;
        counted(http, surveys).await > before
    })
    .await;
    client.one("select 1").await;
    assert_eq!(client.ask(&read("numbered")).await, "E08007 ZI");
    assert_eq!((node.left(), retries(&proxy)), (0, 1));
    let before = counted(http, surveys).await;
    client.ask(&Raw::query("drop view numbered")).await;
    until("the catalogue is looked at", async || {
        client.one("select 1").await;
        counted(http, surveys).await > before
    })
    .await;
    client.one("select 1").await;
    assert_eq!(client.ask(&read("goods")).await, "T C ZI");
    assert_eq!(counted(http, "pgherd_pool_retries_total").await, 2);
}

#[tokio::test]
async fn a_read_that_was_begun_to_be_answered_is_not_begun_again() {
    let (database, _node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let mut holder = Raw::login(database.port, "app", &database.name, &[]).await;
    assert_eq!(holder.ask(&Raw::query("begin; lock goods")).await, "C C ZT");
    let batch = [Raw::parse("", "select 1"), Raw::flush()];
    client.send(&batch.concat()).await;
    assert_eq!(client.message().await.tag, '1');
    let batch = [
        Raw::parse("", "select * from goods"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    client.send(&batch.concat()).await;
    let waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' \
                 and datname = current_database()";
    until("it waits", async || !database.sql(waits).await.is_empty()).await;
    let pid = database.sql(waits).await;
    database
        .sql(&format!("select pg_terminate_backend({pid})"))
        .await;
    assert_eq!(client.ask(&[]).await, "E08006 ZI");
    assert_eq!(retries(&proxy), 0);
}

#[tokio::test]
async fn who_is_turned_away_knocks_again() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 2").await;
    assert_eq!(
        client.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await,
        "C ZI"
    );
    let text = "insert into goods values ($1 || current_setting('timezone'))";
    assert_eq!(client.ask(&prepare("s", text)).await, "1 ZI");
    let bound = [
        Raw::bind("", "s", &["needle"]),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat();
    let simple = Raw::query("insert into goods values ('needle' || current_setting('timezone'))");
    let mut expected = 0;
    for code in ["57P03", "53300"] {
        for begun in [false, true] {
            for (message, answer) in [(&simple, "C"), (&bound, "2 C")] {
                let status = if begun { "ZT" } else { "ZI" };
                if begun {
                    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
                }
                node.fail(Fault {
                    needle: "needle",
                    passes: false,
                    says: fatal(code),
                    times: 3,
                });
                assert_eq!(client.ask(message).await, format!("{answer} {status}"));
                if begun {
                    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
                }
                expected += 1;
                assert_eq!((node.left(), retries(&proxy)), (0, expected * 3));
            }
        }
    }
    let count = "select count(*) from goods where a = 'needleAsia/Tokyo'";
    assert_eq!(database.sql(count).await, expected.to_string());
}

#[tokio::test]
async fn who_is_turned_away_for_too_long_is_told() {
    let more = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"500ms\"";
    let (_database, node, proxy, mut client, http) = shop_and_told(more).await;
    node.fail(Fault {
        needle: "needle",
        passes: false,
        says: fatal("57P03"),
        times: usize::MAX,
    });
    let answer = client
        .ask(&Raw::query("insert into goods values ('needle')"))
        .await;
    // The pauses double, so that one statement does not wear out a server that comes and goes.
    let tries = retries(&proxy);
    assert!((2..=6).contains(&tries), "{tries}");
    let counted = counted(http, "pgherd_pool_retries_total").await;
    assert_eq!(counted, tries as u64);
    // In the server's words, or while it waits for a server.
    assert!(["E57P03 ZI", "E57014 ZI"].contains(&&*answer), "{answer}");
    assert_eq!(client.ask(&Raw::query("select 1")).await, "T D C ZI");
}

/// What a client asks while its server has become a standby.
struct Waiting {
    client: Raw,
    what: &'static str,
    answers: &'static [&'static str],
}

/// A primary and its standby, and a proxy before a node that leads to the primary.
async fn cluster() -> (Server, Server, Node, Proxy) {
    let binaries = Binaries::find().unwrap();
    let primary = Server::builder(&binaries).start().await.unwrap();
    let app = "create role app login superuser; create table goods (a text)";
    primary.sql(app).await.unwrap();
    let standby = primary.replica().await.unwrap();
    standby.caught_up(&primary).await.unwrap();
    let node = Node::new(primary.port()).await;
    let (proxy, http) = before_and_told(&node, "postgres", "[pool]\nsize = 20").await;
    // Whether a read may be repeated hangs on the catalogue.
    let mut early = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    until("the catalogue is looked at", async || {
        early.ask(&Raw::query("select 1")).await;
        counted(http, "pgherd_pool_function_surveys_total").await > 0
    })
    .await;
    early.ask(&Raw::query("select 1")).await;
    (primary, standby, node, proxy)
}

#[tokio::test]
async fn writes_wait_for_the_promotion_of_a_standby() {
    let (_primary, standby, node, proxy) = cluster().await;
    let login = async || Raw::login(proxy.port(), "app", "postgres", &[]).await;
    let insert = |what: &str| Raw::query(&format!("insert into goods values ('{what}')"));

    let mut waiting = Vec::new();
    let mut wait = |client, what, answers| {
        waiting.push(Waiting {
            client,
            what,
            answers,
        });
    };
    let mut own_read_only = login().await;
    let mut prepared = login().await;
    prepared
        .ask(&prepare("s", "insert into goods values ($1)"))
        .await;
    let mut set = login().await;
    set.ask(&Raw::query(
        "set timezone = 'Asia/Tokyo'; set app.tenant = 'seven'",
    ))
    .await;
    let mut listening = login().await;
    assert_eq!(listening.ask(&Raw::query("listen news")).await, "C ZI");
    let mut begun = login().await;
    assert_eq!(begun.ask(&Raw::query("begin")).await, "C ZT");
    let mut open = login().await;
    open.ask(&Raw::query("begin")).await;
    open.ask(&insert("lost")).await;

    node.lead_to(standby.port()).await;
    assert_eq!(open.ask(&insert("lost")).await, "E40001 ZE");
    assert_eq!(own_read_only.ask(&Raw::query("select 1")).await, "T D C ZI");
    assert_eq!(
        own_read_only.ask(&Raw::query("begin read only")).await,
        "C ZT"
    );
    assert_eq!(own_read_only.ask(&insert("never")).await, "E25006 ZE");
    assert_eq!(own_read_only.ask(&Raw::query("rollback")).await, "C ZI");

    let mut simple = login().await;
    simple.send(&insert("simple")).await;
    wait(simple, "simple", &["C ZI"]);
    let mut extended = login().await;
    let batch = [
        Raw::parse("s", "insert into goods values ($1)"),
        Raw::bind("", "s", &["extended"]),
        Raw::execute("", 0),
        Raw::sync(),
        Raw::query("select 1"),
    ];
    extended.send(&batch.concat()).await;
    wait(extended, "extended", &["1 2 C ZI", "T D C ZI"]);
    let mut block = login().await;
    let mut batch = Vec::new();
    for text in ["begin", "insert into goods values ('block')", "commit"] {
        batch.extend(Raw::parse("", text));
        batch.extend(Raw::bind("", "", &[]));
        batch.extend(Raw::execute("", 0));
    }
    batch.extend(Raw::sync());
    block.send(&batch).await;
    wait(block, "block", &["1 2 C 1 2 C 1 2 C ZI"]);
    let bound = [
        Raw::bind("", "s", &["prepared"]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    prepared.send(&bound.concat()).await;
    wait(prepared, "prepared", &["2 C ZI"]);
    let text =
        "insert into goods values (current_setting('timezone') || current_setting('app.tenant'))";
    set.send(&Raw::query(text)).await;
    wait(set, "Asia/Tokyoseven", &["C ZI"]);
    begun.send(&insert("begun")).await;
    wait(begun, "begun", &["C ZT"]);
    let mut listener = login().await;
    listener.send(&Raw::query("listen late")).await;
    wait(listener, "", &["C ZI"]);
    let all = waiting.len();
    until("all have been refused", async || retries(&proxy) >= all * 3).await;
    assert_eq!(
        standby.sql("select count(*) from goods").await.unwrap(),
        "0"
    );
    standby.promote().await.unwrap();

    for Waiting {
        mut client,
        what,
        answers,
    } in waiting
    {
        for answer in answers {
            assert_eq!(client.ask(&[]).await, *answer, "{what}");
        }
        if what == "begun" {
            assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
        }
        if !what.is_empty() {
            let count = format!("select count(*) from goods where a = '{what}'");
            assert_eq!(standby.sql(&count).await.unwrap(), "1", "{what}");
        }
    }
    // Who listened before still does.
    assert_eq!(listening.ask(&Raw::query("listen more")).await, "C ZI");
}

#[tokio::test]
async fn definitions_and_copies_wait_for_the_promotion_too() {
    let (_primary, standby, node, proxy) = cluster().await;
    let login = async || Raw::login(proxy.port(), "app", "postgres", &[]).await;
    let mut defining = login().await;
    assert_eq!(defining.ask(&Raw::query("select 1")).await, "T D C ZI");
    node.lead_to(standby.port()).await;
    let text = "create table made (a int); insert into goods values ('made')";
    defining.send(&Raw::query(text)).await;
    let mut copying = login().await;
    copying.send(&Raw::query("copy goods from stdin")).await;
    until("both have been refused", async || retries(&proxy) >= 6).await;
    standby.promote().await.unwrap();
    assert_eq!(defining.ask(&[]).await, "C C ZI");
    assert_eq!(copying.message().await.tag, 'G');
    copying.send(&Raw::framed(b'd', b"copied\n")).await;
    assert_eq!(copying.ask(&Raw::framed(b'c', b"")).await, "C ZI");
    let count = "select string_agg(a, ' ' order by a) from goods";
    assert_eq!(standby.sql(count).await.unwrap(), "copied made");
}

#[tokio::test]
async fn a_standby_that_was_never_anything_else_refuses_writes_at_once() {
    let binaries = Binaries::find().unwrap();
    let primary = Server::builder(&binaries).start().await.unwrap();
    let app = "create role app login superuser; create table goods (a text)";
    primary.sql(app).await.unwrap();
    let standby = primary.replica().await.unwrap();
    standby.caught_up(&primary).await.unwrap();
    let node = Node::new(standby.port()).await;
    let proxy = before(&node, "postgres", "").await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    let insert = Raw::query("insert into goods values ('never')");
    assert_eq!(client.ask(&insert).await, "E25006 ZI");
    assert_eq!(retries(&proxy), 0);
}
