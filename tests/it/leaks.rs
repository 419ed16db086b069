//! What is said in one pipeline, in an order that nobody thinks of first, meets no other client.

use pgherd_tests::{Database, Proxy, Raw, connect};

/// A statement by the extended protocol, without a Sync.
fn run(text: &str) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ]
    .concat()
}

/// A Parse with the type of its only parameter.
fn parse_typed(text: &str, oid: u32) -> Vec<u8> {
    let mut body = [b"\0", text.as_bytes(), b"\0\0\x01"].concat();
    body.extend_from_slice(&oid.to_be_bytes());
    Raw::framed(b'P', &body)
}

/// A pool of one server and two clients: the first says things, the second asks.
struct House {
    database: Database,
    proxy: Proxy,
    first: Raw,
    second: Raw,
}

impl House {
    async fn new(setup: &str) -> Self {
        let database = Database::new().await;
        database.sql(setup).await;
        let text = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"";
        let proxy = Proxy::before(&database, text).await;
        let first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        Self {
            database,
            proxy,
            first,
            second,
        }
    }

    /// The first says this, which is answered by so many ReadyForQuery.
    async fn says(&mut self, bytes: &[u8], answers: usize) {
        self.first.send(bytes).await;
        for _ in 0..answers {
            self.first.ready().await;
        }
    }

    /// The second finds nothing of it: the server is kept from it, or is as it was.
    async fn finds(&mut self, question: &str, clean: &str, what: &str) {
        self.second.send(&Raw::query(question)).await;
        let answer = self.second.ready().await;
        let error = answer.iter().find(|message| message.tag == 'E');
        if let Some(error) = error {
            assert_eq!(error.field('C').as_deref(), Some("57014"), "{what}");
            return;
        }
        let row = answer.iter().find(|message| message.tag == 'D').unwrap();
        assert_eq!(row.columns(), [clean], "{what}");
    }
}

#[tokio::test]
async fn what_is_set_behind_a_discard_stays_its_clients() {
    let discard = || run("discard all");
    for (bytes, answers) in [
        (
            [discard(), run("set role pg_monitor"), Raw::sync()].concat(),
            1,
        ),
        (
            [discard(), Raw::query("set role pg_monitor"), Raw::sync()].concat(),
            2,
        ),
        (
            [
                Raw::parse("d", "discard all"),
                Raw::bind("", "d", &[]),
                Raw::execute("", 0),
                run("set role pg_monitor"),
                Raw::sync(),
            ]
            .concat(),
            1,
        ),
        (
            [discard(), run("set role pg_monitor"), Raw::sync()].concat(),
            1,
        ),
    ] {
        let mut house = House::new("").await;
        house.says(&bytes, answers).await;
        let what = String::from_utf8_lossy(&bytes).into_owned();
        house.finds("select current_user", "app", &what).await;
    }
    // It keeps what it has set.
    let mut house = House::new("").await;
    let pipeline = [discard(), run("set role pg_monitor"), Raw::sync()].concat();
    assert_eq!(house.first.ask(&pipeline).await, "1 2 C 1 2 C ZI");
    assert_eq!(house.first.one("select current_user").await, "pg_monitor");
    assert_eq!(house.second.one("select current_user").await, "app");
    assert_eq!(house.first.one("select current_user").await, "pg_monitor");
}

#[tokio::test]
async fn what_is_prepared_behind_a_deallocate_is_known() {
    let mut house = House::new("").await;
    for gone in ["deallocate all", "discard all"] {
        let made = [
            Raw::parse("a", "select 5"),
            Raw::bind("", "a", &[]),
            Raw::execute("", 0),
        ];
        let pipeline = [run(gone), made.concat(), Raw::sync()].concat();
        assert_eq!(
            house.first.ask(&pipeline).await,
            "1 2 C 1 2 D C ZI",
            "{gone}"
        );
        let again = [Raw::bind("", "a", &[]), Raw::execute("", 0), Raw::sync()].concat();
        assert_eq!(house.first.ask(&again).await, "2 D C ZI", "{gone}");
    }
}

#[tokio::test]
async fn a_text_is_read_as_what_was_sent_before_it_has_it() {
    let tricks: [(Vec<u8>, usize); 3] = [
        (
            [
                Raw::query("set standard_conforming_strings = on"),
                Raw::query(r"select '\'; create temp table leaked (); --'"),
            ]
            .concat(),
            2,
        ),
        (
            [
                run("set standard_conforming_strings = on"),
                run(r"select '\', set_config('work_mem', '11MB', false) --'"),
                Raw::sync(),
            ]
            .concat(),
            1,
        ),
        (
            [
                Raw::query("begin; set local standard_conforming_strings = on"),
                Raw::query("rollback"),
                Raw::query(r"select '\', set_config('work_mem', '11MB', false), '"),
            ]
            .concat(),
            3,
        ),
    ];
    for (at, (bytes, answers)) in tricks.into_iter().enumerate() {
        let mut house = House::new("").await;
        house
            .first
            .ask(&Raw::query("set standard_conforming_strings = off"))
            .await;
        house.says(&bytes, answers).await;
        let what = format!("trick {at}");
        house
            .finds(
                "select coalesce(to_regclass('leaked')::text, '')",
                "",
                &what,
            )
            .await;
        house.finds("show work_mem", "4MB", &what).await;
    }
    let mut house = House::new("").await;
    let mut text = b"Q\0\0\0\0select E'\x95\\'; create temp table leaked (); --'\0".to_vec();
    let length = u32::try_from(text.len() - 1).unwrap();
    text[1..5].copy_from_slice(&length.to_be_bytes());
    house
        .says(
            &[Raw::query("set client_encoding = 'SJIS'"), text].concat(),
            2,
        )
        .await;
    house
        .finds(
            "select coalesce(to_regclass('leaked')::text, '')",
            "",
            "SJIS",
        )
        .await;
}

#[tokio::test]
async fn what_a_value_of_a_domain_runs_is_its_clients() {
    let setup = "create function evil(text) returns boolean language plpgsql as \
         $$ begin perform set_config('work_mem', '11MB', false); return true; end $$; \
         create domain evil_text as text check (evil(value))";
    let mut house = House::new(setup).await;
    let oid = house
        .database
        .sql("select 'evil_text'::regtype::oid")
        .await
        .parse()
        .unwrap();
    for text in ["show work_mem", "", "commit"] {
        let pipeline = [
            parse_typed(text, oid),
            Raw::bind("", "", &["x"]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        house.says(&pipeline.concat(), 1).await;
        house.finds("show work_mem", "4MB", text).await;
        house.first.ask(&Raw::query("discard all")).await;
    }
}

#[tokio::test]
async fn what_an_event_trigger_leaves_is_its_callers() {
    let mut house = House::new(
        "create table t (); \
         create function woken() returns event_trigger language plpgsql as \
         $$ begin perform set_config('work_mem', '11MB', false); end $$; \
         create event trigger w on ddl_command_end when tag in ('COMMENT') execute function woken()",
    )
    .await;
    house.database.sql("alter table t owner to app").await;
    house
        .says(&Raw::query("comment on table t is 'x'"), 1)
        .await;
    house.finds("show work_mem", "4MB", "comment").await;
    house.first.ask(&Raw::query("discard all")).await;
}

#[tokio::test]
async fn nothing_behind_an_error_in_a_pipeline_runs() {
    let mut house = House::new("create table t (a int)").await;
    house.database.sql("grant all on t to app").await;
    let named = [Raw::parse("s", "select 1"), Raw::sync()].concat();
    assert_eq!(house.first.ask(&named).await, "1 ZI");
    let pipeline = [
        run("deallocate s"),
        run("select 1 / 0"),
        Raw::query("select 1"),
        run("insert into t values (42)"),
        Raw::sync(),
    ];
    assert_eq!(
        house.first.ask(&pipeline.concat()).await,
        "1 2 C 1 E22012 ZI"
    );
    assert_eq!(house.database.sql("select count(*) from t").await, "0");
    assert_eq!(house.first.one("select 1").await, "1");
}

#[tokio::test]
async fn who_listens_and_pipelines_is_answered() {
    let house = House::new("").await;
    let first = || Raw::query("select 1");
    for (pipeline, answers) in [
        (
            [first(), run("prepare zz as select 1"), Raw::sync()].concat(),
            2,
        ),
        (
            [
                run("select 1"),
                Raw::sync(),
                run("prepare zz as select 1"),
                Raw::sync(),
            ]
            .concat(),
            2,
        ),
        ([first(), run("deallocate s1"), Raw::sync()].concat(), 2),
        (
            [
                first(),
                run("select count(*) from pg_prepared_statements"),
                Raw::sync(),
            ]
            .concat(),
            2,
        ),
        (
            [
                run("select 1"),
                Raw::query("deallocate all"),
                Raw::query("select 2"),
                Raw::sync(),
            ]
            .concat(),
            3,
        ),
    ] {
        let name = &*house.database.name;
        let mut client = Raw::login(house.proxy.port(), "app", name, &[]).await;
        assert_eq!(client.ask(&Raw::query("listen ch")).await, "C ZI");
        client.send(&pipeline).await;
        for _ in 0..answers {
            client.ready().await;
        }
        let other = connect(&house.proxy.url("app", name)).await;
        other.batch_execute("notify ch, 'x'").await.unwrap();
        assert_eq!(client.message().await.tag, 'A');
    }
}
