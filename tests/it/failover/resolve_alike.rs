//! With commit resolution, clients see what they see of Postgres itself.

use pgherd_tests::{Config, Database, Message, Proxy, Raw};

const TABLES: &str = "create table goods (a int, b text, unique (a) deferrable initially deferred); \
     create function talk() returns trigger language plpgsql as \
     $$ begin raise notice 'row %', new.a; return new; end $$; \
     create trigger talks before insert on goods for each row execute function talk(); \
     create view seen as select a from goods; \
     create rule nowhere as on insert to seen do instead nothing";

/// What a conversation is: each is sent as a whole, and answered by so many ReadyForQuery.
fn conversations() -> Vec<(Vec<u8>, usize)> {
    let query = |text: &str| (Raw::query(text), 1);
    let extended = |texts: &[&str]| {
        let mut all = Vec::new();
        for text in texts {
            all.extend(Raw::parse("", text));
            all.extend(Raw::bind("", "", &[]));
            all.extend(Raw::describe('P', ""));
            all.extend(Raw::execute("", 0));
        }
        all.extend(Raw::sync());
        (all, 1)
    };
    let both =
        |one: (Vec<u8>, usize), two: (Vec<u8>, usize)| ([one.0, two.0].concat(), one.1 + two.1);
    let mut all = vec![
        query("insert into goods values (1, 'x')"),
        query("insert into goods values (2, 'x') returning *;"),
        query("with n as (insert into goods values (3, 'y') returning a) select a, 'text' from n"),
        query("update goods set b = 'z' where a > 1"),
        query("delete from goods where false returning a"),
        query("insert into seen values (1)"),
        query("select setval('pg_catalog.pg_class'::regclass, 1)"),
        // It fails at its commit, at once, and before it begins.
        query("insert into goods values (1, 'twice')"),
        query("insert into goods values ('no number')"),
        query("insert into nowhere values (1)"),
        query("inser into goods values (1)"),
        query("insert into goods values ($1)"),
        query("insert into goods values (4, $$a$$)"),
        query("insert into goods values (5, e'\\u00e4'); insert into goods values (5)"),
        query("insert into goods values (6); select 1"),
        query("begin; insert into goods values (7); commit"),
        query("begin; insert into goods values (7); commit"),
        query("begin; inser into goods values (40); commit"),
        both(
            query("begin; inser into goods values (41); commit"),
            query("begin; insert into goods values (42); commit"),
        ),
        query("commit"),
        query("begin; insert into goods values (8); insert into nowhere values (1); commit"),
        query("rollback"),
        query("begin; select 1; insert into goods values (9) returning a; end;"),
        query("begin; insert into goods values (10)"),
        query("insert into goods values (11) returning b"),
        query("savepoint s"),
        query("insert into nowhere values (1)"),
        query("rollback to s"),
        query("insert into goods values (12)"),
        query("commit"),
        query("begin isolation level serializable"),
        query("insert into goods values (1)"),
        query("commit"),
        query("begin read only"),
        query("insert into goods values (1)"),
        query("commit"),
        query("begin"),
        query("insert into goods values (13)"),
        query("commit and chain"),
        query("insert into goods values (14)"),
        query("rollback"),
        query("begin"),
        query("declare c cursor for select a from goods order by a"),
        query("insert into goods values (15)"),
        query("fetch 2 c"),
        query("commit"),
        query("commit"),
        query("create table more (x int)"),
        query("vacuum goods"),
        query("do $$ begin insert into goods values (16); commit; end $$"),
        query("create index concurrently on goods (b)"),
        query(""),
        extended(&["insert into goods values (17) returning a"]),
        extended(&[
            "insert into goods values (18)",
            "select 1",
            "update goods set b = 'q' where a = 18",
        ]),
        extended(&[
            "insert into goods values (19)",
            "insert into nowhere values (1)",
            "select 1",
        ]),
        extended(&["insert into goods values (18)"]),
        extended(&["begin", "insert into goods values (20)", "commit"]),
        extended(&["begin", "insert into goods values (20)", "commit"]),
        extended(&["begin", "insert into goods values (21)"]),
        extended(&["insert into goods values (22)"]),
        extended(&["commit"]),
        extended(&["begin", "insert into nowhere values (1)", "commit"]),
        extended(&["vacuum goods"]),
        extended(&[
            "insert into goods values (23)",
            "commit",
            "insert into goods values (24)",
        ]),
        query("select array_agg(a order by a) from goods"),
    ];
    all.push(both(
        extended(&["select 1"]),
        extended(&["insert into goods values (25)"]),
    ));
    all.push(both(
        extended(&["insert into goods values (26)"]),
        extended(&["insert into goods values (26)"]),
    ));
    all.push(both(
        query("insert into goods values (27)"),
        query("insert into goods values (28)"),
    ));
    all.push(both(
        query("begin"),
        both(query("insert into goods values (29)"), query("commit")),
    ));
    all.push(both(
        query("begin bogus"),
        both(query("insert into goods values (30)"), query("commit")),
    ));
    all.push(both(
        extended(&["begin"]),
        both(
            extended(&["insert into goods values (31)"]),
            extended(&["commit"]),
        ),
    ));
    all.push(query("begin"));
    all.push(query("insert into goods values (50)"));
    all.push(both(
        query("select 1"),
        both(query("insert into goods values (51)"), query("commit")),
    ));
    all.push(query(
        "begin; set local app.a = '1'; insert into goods values (52)",
    ));
    all.push(query(
        "savepoint s; insert into goods values (53); release s",
    ));
    all.push(both(extended(&["select 1"]), extended(&["commit"])));
    all.push(extended(&[
        "insert into goods select 54 where set_config('app.a', '2', true) = '2'",
    ]));
    all.push(query("begin"));
    all.push(query("insert into goods values (55)"));
    all.push(query("rollback and chain"));
    all.push(query("insert into goods values (56)"));
    all.push(both(
        query("rollback"),
        both(
            query("begin"),
            both(query("insert into goods values (57)"), query("commit")),
        ),
    ));
    all.push(both(query("begin"), query("select 2")));
    all.push(both(
        query("rollback"),
        query("insert into goods values (58)"),
    ));
    all.push(both(query("begin"), query("select 3")));
    all.push(extended(&["rollback", "insert into goods values (59)"]));
    all.push(query("begin; select 4"));
    all.push(query("rollback; insert into goods values (60)"));
    all.push(query("select array_agg(a order by a) from goods"));
    all
}

/// The numbers of the tables that columns come from are each database's own.
fn forget_tables(message: &mut Message) {
    const REST: usize = 18;
    let mut at = 2;
    while message.tag == 'T' && at < message.body.len() {
        at += message.body[at..]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap()
            + 1;
        message.body[at..at + 4].fill(0);
        at += REST;
    }
}

async fn hear(client: &mut Raw, (bytes, replies): (Vec<u8>, usize)) -> Vec<Message> {
    client.send(&bytes).await;
    let mut heard = Vec::new();
    for _ in 0..replies {
        heard.extend(client.ready().await);
    }
    heard.retain(|message| message.tag != 'S');
    heard.iter_mut().for_each(forget_tables);
    heard
}

#[tokio::test]
async fn postgres_and_pgherd_answer_alike() {
    let (ours, theirs) = (Database::new().await, Database::new().await);
    for database in [&ours, &theirs] {
        database.sql(TABLES).await;
    }
    let more = "[pool]\nsize = 1\n[failover]\ncommit_resolution = \"on\"\n";
    let proxy = Proxy::start(&Config::before(&ours, more)).await;
    let mut through = Raw::login(proxy.port(), "app", &ours.name, &[]).await;
    let mut directly = Raw::login(theirs.port, "app", &theirs.name, &[]).await;
    // The catalogue is looked at behind the first transaction.
    through.one("select 1").await;
    through.one("select 1").await;
    for conversation in conversations() {
        let text = String::from_utf8_lossy(&conversation.0).into_owned();
        let expected = hear(&mut directly, conversation.clone()).await;
        let heard = hear(&mut through, conversation).await;
        assert_eq!(heard, expected, "{text}");
    }
    let log = ours
        .sql("select count(*) from pg_prepared_statements")
        .await;
    assert_eq!(log, "0");
}
