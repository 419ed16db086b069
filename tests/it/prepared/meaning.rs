//! What one client does to the settings by which texts are read is nothing to those who share its statements.
//!
//! All share one server connection. Beside each of them there is one of Postgres itself, and both are told the same.

use pgherd_tests::{Database, Message, Proxy, Raw};

use super::{INSERT, ON_SERVER, SELECT, TENANTS, prepare, run};

/// A database behind pgherd, and another one of the same kind without.
struct House {
    through: Database,
    beside: Database,
    proxy: Proxy,
}

impl House {
    async fn new(setup: &str, more: &str) -> Self {
        let (through, beside) = (Database::new().await, Database::new().await);
        let proxy = Proxy::before(&through, &format!("[pool]\nsize = 1\n{more}")).await;
        let house = Self {
            through,
            beside,
            proxy,
        };
        house.sql(setup).await;
        house
    }

    /// As somebody else.
    async fn sql(&self, text: &str) {
        if !text.is_empty() {
            self.through.sql(text).await;
            self.beside.sql(text).await;
        }
    }

    async fn client(&self) -> Twins {
        let (through, beside) = (&self.through.name, &self.beside);
        Twins {
            through: Raw::login(self.proxy.port(), "app", through, &[]).await,
            beside: Raw::login(beside.port, "app", &beside.name, &[]).await,
        }
    }

    async fn clients<const N: usize>(&self) -> [Twins; N] {
        let mut clients = Vec::new();
        for _ in 0..N {
            clients.push(self.client().await);
        }
        clients.try_into().ok().unwrap()
    }

    /// Has the server forget each statement for the next, if it may have but one.
    async fn evict(&self) {
        let mut other = Raw::login(self.proxy.port(), "app", &self.through.name, &[]).await;
        assert_eq!(other.ask(&prepare("x", "select 1")).await, "1 ZI");
    }
}

/// A client, and one of Postgres.
struct Twins {
    through: Raw,
    beside: Raw,
}

impl Twins {
    /// Both send this, are answered alike, and by so many ReadyForQuery.
    async fn ask_for(&mut self, bytes: &[u8], replies: usize) -> String {
        let mut told = [Vec::new(), Vec::new()];
        for (client, told) in [&mut self.through, &mut self.beside]
            .into_iter()
            .zip(&mut told)
        {
            client.send(bytes).await;
            for _ in 0..replies {
                told.extend(client.ready().await.iter().map(said));
            }
        }
        let [through, beside] = told.map(|told| told.join(" "));
        assert_eq!(through, beside, "{}", String::from_utf8_lossy(bytes));
        through
    }

    async fn ask(&mut self, bytes: &[u8]) -> String {
        self.ask_for(bytes, 1).await
    }

    async fn query(&mut self, text: &str) -> String {
        self.ask(&Raw::query(text)).await
    }

    /// Both send this, and hear that a statement is done.
    async fn flush(&mut self, messages: &[u8]) {
        for client in [&mut self.through, &mut self.beside] {
            client.send(&[messages, &Raw::flush()[..]].concat()).await;
            while client.message().await.tag != 'C' {}
        }
    }
}

/// What of a message a client may act on.
fn said(message: &Message) -> String {
    match message.tag {
        'D' => message.columns().join(","),
        'E' => format!("E{}", message.field('C').unwrap_or_default()),
        'Z' => format!("Z{}", char::from(message.body[0])),
        tag => tag.to_string(),
    }
}

/// The messages of an unnamed statement.
fn unnamed(text: &str) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ]
    .concat()
}

const BY_STYLE: &str = "select '01/02/2024'::date::text from t";
const TABLE: &str = "create table t (a int); insert into t values (1); grant all on t to public";

#[tokio::test]
async fn what_is_read_anew_for_one_is_not_for_the_next() {
    for by_sql in [false, true] {
        let house = House::new(TABLE, "").await;
        let [mut one, mut other] = house.clients().await;
        for client in [&mut one, &mut other] {
            client.query("set datestyle = 'ISO, DMY'").await;
            client.ask(&prepare("s", BY_STYLE)).await;
        }
        one.query("set datestyle = 'ISO, MDY'").await;
        house.sql("analyze t").await;
        let used = match by_sql {
            true => one.query("execute s").await,
            false => one.ask(&run("s", &[])).await,
        };
        assert!(used.contains("2024-01-02"), "{used}");
        assert!(other.ask(&run("s", &[])).await.contains("2024-02-01"));
    }
}

#[tokio::test]
async fn what_is_read_anew_under_a_local_zone_is_not_for_the_next() {
    let setup = "create table t (at timestamptz); insert into t values ('2023-12-31 18:00Z'); grant all on t to public";
    let text = "select count(*) from t where at >= '2024-01-01 00:00'";
    let house = House::new(setup, "").await;
    let [mut one, mut other] = house.clients().await;
    for client in [&mut one, &mut other] {
        client.query("set timezone = 'UTC'").await;
        client.ask(&prepare("s", text)).await;
        assert_eq!(client.ask(&run("s", &[])).await, "2 0 C ZI");
    }
    house.sql("analyze t").await;
    one.query("begin; set local timezone = 'Asia/Tokyo'").await;
    assert_eq!(one.ask(&run("s", &[])).await, "2 1 C ZT");
    one.query("commit").await;
    assert_eq!(other.ask(&run("s", &[])).await, "2 0 C ZI");
}

#[tokio::test]
async fn what_is_read_under_a_local_setting_is_another_statement() {
    let house = House::new("", "").await;
    let [mut one, mut other] = house.clients().await;
    for (setting, text, expected) in [
        ("array_nulls = off", "select '{NULL}'::text[]", "{NULL}"),
        (
            "transform_null_equals = on",
            "select (x = null) is null from (values (1)) v (x)",
            "t",
        ),
        (
            "datestyle = 'ISO, DMY'",
            "select '01/02/2024'::date::text",
            "2024-01-02",
        ),
        (
            "search_path = 'pg_catalog'; set local array_nulls = off",
            "select '{NULL}'::text[], 2",
            "{NULL},2",
        ),
    ] {
        other.ask(&prepare(text, text)).await;
        one.query(&format!("begin; set local {setting}")).await;
        one.ask(&prepare(text, text)).await;
        one.ask(&run(text, &[])).await;
        one.query("commit").await;
        let answer = other.ask(&run(text, &[])).await;
        assert_eq!(answer, format!("2 {expected} C ZI"), "{setting}");
        // It is still what it was to the one who has prepared it so.
        one.ask(&run(text, &[])).await;
        other.ask(&run(text, &[])).await;
    }
}

#[tokio::test]
async fn what_is_set_and_not_reported_yet_counts() {
    let house = House::new(TABLE, "").await;
    let [mut one, mut other] = house.clients().await;
    other.ask(&prepare("s", BY_STYLE)).await;
    one.flush(&unnamed("set datestyle = 'ISO, DMY'")).await;
    one.ask(&prepare("s", BY_STYLE)).await;
    assert!(other.ask(&run("s", &[])).await.contains("2024-01-02"));
    assert!(one.ask(&run("s", &[])).await.contains("2024-02-01"));
}

#[tokio::test]
async fn what_is_set_in_the_same_write_is_how_a_text_is_read() {
    let house = House::new(TABLE, "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    let sets = unnamed("set datestyle = 'ISO, DMY'");
    one.ask(&[sets, prepare("s", BY_STYLE)].concat()).await;
    house.evict().await;
    one.query("set datestyle = 'ISO, MDY'").await;
    assert!(one.ask(&run("s", &[])).await.contains("2024-02-01"));
    // Or in the same text.
    one.query("set datestyle = 'ISO, DMY'; prepare v as select '01/02/2024'::date::text")
        .await;
    one.query("set datestyle = 'ISO, MDY'").await;
    house.evict().await;
    assert!(one.query("execute v").await.contains("2024-02-01"));
    // Where that fails, what comes behind a Sync is read all the same.
    let fails = unnamed("set datestyle = 'nothing'");
    let sets = unnamed("set datestyle = 'ISO, DMY'");
    let parts = [sets, fails, Raw::sync(), prepare("u", BY_STYLE)];
    one.ask_for(&parts.concat(), 2).await;
    house.evict().await;
    assert!(one.ask(&run("u", &[])).await.contains("2024-01-02"));
}

#[tokio::test]
async fn a_local_setting_stays_where_something_is_prepared_under_another() {
    let house = House::new("", "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    one.query("set bytea_output = escape").await;
    one.ask(&prepare("s", r"select '\x41'::bytea")).await;
    one.query("set bytea_output = hex").await;
    house.evict().await;
    one.query("begin; set local bytea_output = escape").await;
    assert_eq!(one.ask(&run("s", &[])).await, "2 A C ZT");
    assert!(one.query("show bytea_output").await.contains("escape"));
    one.query("commit").await;
    assert!(one.query("show bytea_output").await.contains("hex"));
}

#[tokio::test]
async fn a_zone_that_is_set_in_the_same_write_stays_too() {
    let house = House::new("", "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    one.query("set timezone = 'UTC'").await;
    let text = "select '2024-01-01 00:00'::timestamptz::text";
    one.ask(&prepare("s", text)).await;
    one.query("set timezone = 'Europe/Paris'").await;
    house.evict().await;
    let pipeline = [
        unnamed("begin"),
        unnamed("set local timezone = 'Asia/Tokyo'"),
        Raw::bind("", "s", &[]),
        Raw::execute("", 0),
        unnamed("show timezone"),
        unnamed("commit"),
        Raw::sync(),
    ];
    let answer = one.ask(&pipeline.concat()).await;
    assert!(answer.contains("2024-01-01 09:00:00+09"), "{answer}");
    assert!(answer.contains("Asia/Tokyo"), "{answer}");
    assert!(one.query("show timezone").await.contains("Europe/Paris"));
}

#[tokio::test]
async fn what_was_not_set_is_the_usual_again() {
    let house = House::new("", "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    let text = "select '01/02/2024'::date - '2024-01-01'::date";
    one.ask(&prepare("s", text)).await;
    house.evict().await;
    one.query("set datestyle = 'SQL, DMY'").await;
    assert_eq!(one.ask(&run("s", &[])).await, "2 1 C ZI");
    assert!(one.query("show datestyle").await.contains("SQL, DMY"));
}

#[tokio::test]
async fn a_path_that_a_function_sets_counts() {
    let enter = "create function enter(path text) returns text language plpgsql as \
                 $$ begin return set_config('search_path', path, true); end $$";
    let house = House::new(&format!("{TENANTS}; {enter}"), "").await;
    let [mut one, mut two] = house.clients().await;
    for again in [false, true] {
        for (client, path, mood) in [(&mut one, "one", "good"), (&mut two, "two", "bad")] {
            client.query("begin").await;
            client.query(&format!("select enter('{path}')")).await;
            if !again {
                client.ask(&prepare("i", INSERT)).await;
                client.ask(&prepare("s", SELECT)).await;
            }
            assert_eq!(client.ask(&run("i", &[mood])).await, "2 C ZT", "{path}");
            assert_eq!(client.ask(&run("s", &[])).await, format!("2 {mood} C ZT"));
            client.query("commit").await;
        }
    }
}

/// Somebody has prepared something under this path, and others, meanwhile, what has the same text.
struct Tenant {
    house: House,
    tenant: Twins,
    other: Twins,
}

impl Tenant {
    async fn of(path: &str) -> Self {
        let setup = format!("{TENANTS}; create table t (m text); grant all on t to public");
        let house = House::new(&setup, "").await;
        let [mut tenant, mut other] = house.clients().await;
        tenant.query(&format!("set search_path = {path}")).await;
        tenant.ask(&prepare("i", INSERT)).await;
        // So that it is known what functions there are.
        other.query("select 1").await;
        Self {
            house,
            tenant,
            other,
        }
    }

    async fn finds_its_own(mut self, mood: &str) {
        self.tenant.query("begin").await;
        self.tenant.query("select 1").await;
        assert_eq!(self.tenant.ask(&run("i", &[mood])).await, "2 C ZT");
        self.tenant.query("commit").await;
        drop(self.house);
    }
}

#[tokio::test]
async fn a_local_path_that_is_reset_is_over() {
    let mut tenant = Tenant::of("one").await;
    tenant
        .other
        .query("begin; set local search_path = one; reset all")
        .await;
    tenant.other.ask(&prepare("i", INSERT)).await;
    tenant.other.query("commit").await;
    tenant.finds_its_own("good").await;
}

#[tokio::test]
async fn a_local_path_is_over_while_a_pipeline_goes_on() {
    let mut tenant = Tenant::of("one").await;
    let first = [
        unnamed("select set_config('search_path', 'one', true)"),
        Raw::sync(),
        unnamed("select pg_sleep(0.3)"),
        Raw::sync(),
    ];
    tenant.other.ask(&first.concat()).await;
    tenant.other.ask_for(&prepare("i", INSERT), 2).await;
    tenant.finds_its_own("good").await;
}

#[tokio::test]
async fn digits_are_part_of_how_a_text_is_planned() {
    let text = "select (0.1::float8 + 0.2::float8)::text";
    let house = House::new("", "").await;
    let [mut one, mut other] = house.clients().await;
    one.query("set extra_float_digits = 0").await;
    for client in [&mut one, &mut other] {
        client.ask(&prepare("s", text)).await;
    }
    for _ in 0..2 {
        assert_eq!(one.ask(&run("s", &[])).await, "2 0.3 C ZI");
        let other = other.ask(&run("s", &[])).await;
        assert_eq!(other, "2 0.30000000000000004 C ZI");
    }
}

const ORDERS: &str =
    "create table orders (id int); insert into orders values (1); grant all on orders to public";
const BY_ID: &str = "select * from orders where id = $1";

#[tokio::test]
async fn what_is_only_there_for_a_transaction_gives_others_no_types() {
    for (there, end) in [
        (
            "create temp table orders (id text) on commit drop",
            "commit",
        ),
        ("alter table orders alter id type text", "rollback"),
    ] {
        let house = House::new(ORDERS, "").await;
        let [mut one, mut other] = house.clients().await;
        other.ask(&prepare("s", BY_ID)).await;
        one.query("begin").await;
        one.query(there).await;
        one.ask(&prepare("s", BY_ID)).await;
        one.query(end).await;
        assert_eq!(other.ask(&run("s", &["1"])).await, "2 1 C ZI", "{there}");
    }
}

#[tokio::test]
async fn who_has_had_a_temporary_table_leaves_nothing_of_it() {
    let house = House::new(ORDERS, "").await;
    let [mut one, mut other] = house.clients().await;
    other.ask(&prepare("s", BY_ID)).await;
    one.query("create temp table orders (id text)").await;
    one.query("insert into orders values ('a')").await;
    one.ask(&prepare("s", BY_ID)).await;
    for _ in 0..2 {
        assert_eq!(one.ask(&run("s", &["a"])).await, "2 a C ZI");
    }
    one.query("drop table orders").await;
    assert_eq!(other.ask(&run("s", &["1"])).await, "2 1 C ZI");
}

#[tokio::test]
async fn who_one_is_says_what_names_mean() {
    let house = House::new("", "").await;
    let roles = ["a", "b"].map(|role| format!("{}_{role}", house.through.name));
    for (role, kind) in roles.iter().zip(["int", "text"]) {
        house.through.sql(&format!("create role {role}")).await;
        house
            .sql(&format!(
                "create schema {role} authorization {role}; set role {role}; \
                 create table {role}.t (x {kind}); insert into {role}.t values ('1')"
            ))
            .await;
    }
    let [mut one, mut other] = house.clients().await;
    for (client, role) in [(&mut one, &roles[0]), (&mut other, &roles[1])] {
        client.query(&format!("set role {role}")).await;
        client.ask(&prepare("s", "select x from t")).await;
    }
    one.query("begin").await;
    one.query("select 1").await;
    assert_eq!(one.ask(&run("s", &[])).await, "2 1 C ZT");
    one.query("commit").await;
}

#[tokio::test]
async fn the_unnamed_statement_means_what_it_meant() {
    let house = House::new(TABLE, "").await;
    let mut one = house.client().await;
    one.ask(&prepare("d", "set datestyle = 'ISO, DMY'")).await;
    one.ask(&prepare("", BY_STYLE)).await;
    one.ask(&run("d", &[])).await;
    assert!(one.ask(&run("", &[])).await.contains("2024-01-02"));
    assert!(one.query("show datestyle").await.contains("ISO, DMY"));
    // Prepared anew, it is what it would be now.
    one.ask(&prepare("", BY_STYLE)).await;
    assert!(one.ask(&run("", &[])).await.contains("2024-02-01"));
}

#[tokio::test]
async fn where_nothing_differs_nothing_is_prepared_anew() {
    let house = House::new(&format!("{TABLE}; {ON_SERVER}"), "").await;
    let [mut one, mut other] = house.clients().await;
    for client in [&mut one, &mut other] {
        client.query("set application_name = 'mine'").await;
        client.ask(&prepare("s", BY_STYLE)).await;
    }
    other
        .through
        .ask(&Raw::query("set application_name = 'its'"))
        .await;
    let name = "select name from on_server where statement like '%01/02%'";
    let before = one.through.one(name).await;
    for begin in [
        "begin",
        "begin; set local search_path = public, pg_catalog",
        "begin; set local statement_timeout = 0; savepoint a",
    ] {
        for client in [&mut one.through, &mut other.through] {
            client.ask(&Raw::query(begin)).await;
            client.ask(&Raw::query("select 1 from t")).await;
            assert_eq!(client.ask(&run("s", &[])).await, "2 D C ZT");
            client.ask(&Raw::query("commit")).await;
        }
        assert_eq!(one.through.one(name).await, before, "{begin}");
    }
}

#[tokio::test]
async fn what_was_described_is_put_there_once_where_it_is_read_as_it_was() {
    let house = House::new("", "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    one.query("set datestyle = 'ISO, DMY'").await;
    let text = "select '01/02/2024'::date::text, $1::int";
    let described = [Raw::parse("s", text), Raw::describe('S', "s"), Raw::sync()];
    one.ask(&described.concat()).await;
    one.query("set datestyle = 'ISO, MDY'").await;
    house.evict().await;
    // Its columns are looked at before it is used, by a Flush.
    assert_eq!(one.ask(&run("s", &["7"])).await, "2 2024-02-01,7 C ZI");
    house.evict().await;
    let fails = [run("s", &["x"]), run("s", &["7"])].concat();
    let told = one.ask_for(&fails, 2).await;
    assert_eq!(told, "E22P02 ZI 2 2024-02-01,7 C ZI");
}

/// A statement whose Parse takes a server some time.
fn long(name: &str) -> Vec<u8> {
    let joined: Vec<String> = (0..300).map(|number| format!("t t{number}")).collect();
    let text = format!("select $1::int from {} where false", joined.join(", "));
    [
        Raw::parse(name, &text),
        Raw::describe('S', name),
        Raw::sync(),
    ]
    .concat()
}

#[tokio::test]
async fn what_is_looked_at_behind_a_request_that_fails_is_put_there_once() {
    let house = House::new(TABLE, "max_prepared_statements = 2").await;
    let mut one = house.client().await;
    let fails = [
        Raw::parse("f", "select 1/$1::int"),
        Raw::describe('S', "f"),
        Raw::sync(),
    ];
    one.ask(&fails.concat()).await;
    one.ask(&long("l")).await;
    house.evict().await;
    house.sql(ON_SERVER).await;
    let both = [run("f", &["0"]), run("l", &["7"])].concat();
    assert_eq!(one.ask_for(&both, 2).await, "E22012 ZI 2 C ZI");
    // How often it was put there, the names tell, which are given in turn.
    let named = "select max(substr(name, 8)::int) from on_server";
    let before: u32 = one.through.one(named).await.parse().unwrap();
    assert!(before < 10, "{before}");
}

/// Whether arrays have NULLs is a matter of a setting.
const ITEMS: &str = "select '{1,NULL}'::text[] = array['1', null]::text[]";

#[tokio::test]
async fn what_is_read_anew_for_lost_plans_is_read_as_it_was() {
    let setup = "create function pf(a int) returns text language plpgsql as $$ begin return a::text; end $$";
    let house = House::new(setup, "").await;
    let [mut one, mut other] = house.clients().await;
    for client in [&mut one, &mut other] {
        // The catalogue is looked at behind the first.
        client.query("select 1").await;
        client.query("select 1").await;
    }
    other.query("set timezone = 'Asia/Tokyo'").await;
    let nulls = "select (a = null) from (values (null::int)) v(a)";
    for (name, text, set) in [
        ("n", nulls, "set local transform_null_equals = on"),
        ("i", ITEMS, "set local array_nulls = off"),
        (
            "d",
            "select '01/02/2024'::date::text",
            "set local datestyle = 'ISO, DMY'",
        ),
    ] {
        one.ask(&prepare(name, text)).await;
        one.ask(&run(name, &[])).await;
        // Before it calls a function, plans are discarded that others may have made.
        other.query("select pf(1)").await;
        one.query("begin").await;
        one.query(set).await;
        one.ask(&run(name, &[])).await;
        one.query("commit").await;
        other.query("select pf(1)").await;
        let block = [
            unnamed("begin"),
            unnamed(set),
            Raw::bind("", name, &[]),
            Raw::execute("", 0),
            unnamed("commit"),
            Raw::sync(),
        ];
        one.ask(&block.concat()).await;
    }
}

#[tokio::test]
async fn what_is_read_anew_is_not_read_by_what_code_has_set() {
    let setup = "create function pf(a int) returns text language plpgsql as $$ begin return a::text; end $$; \
        create function ff() returns text language plpgsql as \
        $$ begin perform set_config('array_nulls', 'off', true); return 'x'; end $$";
    let house = House::new(setup, "").await;
    let [mut one, mut other] = house.clients().await;
    for client in [&mut one, &mut other] {
        // The catalogue is looked at behind the first.
        client.query("select 1").await;
        client.query("select 1").await;
    }
    other.query("set timezone = 'Asia/Tokyo'").await;
    one.ask(&prepare("i", ITEMS)).await;
    one.query(&format!("prepare e as {ITEMS}")).await;
    for by_sql in [false, true] {
        let used = match by_sql {
            true => Raw::query("execute e"),
            false => run("i", &[]),
        };
        one.ask(&used).await;
        other.query("select pf(1)").await;
        one.query("begin").await;
        one.query("select ff()").await;
        assert!(one.ask(&used).await.contains(" t C "), "{by_sql}");
        one.query("commit").await;
    }
}

#[tokio::test]
async fn what_code_has_set_is_not_what_a_text_is_read_by_that_was_read_before() {
    let setup = "create function ff() returns text language plpgsql as \
        $$ begin perform set_config('array_nulls', 'off', true); return 'x'; end $$";
    let house = House::new(setup, "max_prepared_statements = 1").await;
    let mut one = house.client().await;
    let described = [Raw::parse("i", ITEMS), Raw::describe('S', "i"), Raw::sync()];
    one.ask(&described.concat()).await;
    house.evict().await;
    one.query("begin").await;
    one.query("select ff()").await;
    assert_eq!(one.ask(&run("i", &[])).await, "2 t C ZT");
    one.query("commit").await;
    house.evict().await;
    one.query("do $$ begin perform set_config('array_nulls', 'off', false); end $$")
        .await;
    let pipeline = [unnamed("set work_mem = '5MB'"), run("i", &[])].concat();
    assert_eq!(one.ask(&pipeline).await, "1 2 C 2 t C ZI");
}

#[tokio::test]
async fn the_unnamed_statement_is_not_read_by_what_a_failed_text_has_set() {
    let house = House::new("", "").await;
    let mut one = house.client().await;
    let fails = Raw::query("set array_nulls = off; select 1/0");
    let sent = [fails, unnamed(ITEMS), Raw::sync()].concat();
    one.ask_for(&sent, 2).await;
    assert_eq!(one.ask(&run("", &[])).await, "2 t C ZI");
}
