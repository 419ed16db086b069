//! What a function does to its session stays with the client that called it, and meets nobody else.

use std::time::Duration;

use pgherd_tests::{Client, Database, Message, Proxy, Raw, connect, until};
use tokio_postgres::types::Type;

/// A function for each kind of state, and how it shows: what to call, what to ask, what a session
/// without it says, and what its own says.
const LEAKS: &[(&str, &str, &str, &str)] = &[
    (
        "perform set_config('work_mem', '77MB', false);",
        "show work_mem",
        "4MB",
        "77MB",
    ),
    (
        "perform set_config('search_path', 'elsewhere', false);",
        "show search_path",
        "\"$user\", public",
        "elsewhere",
    ),
    (
        "perform set_config('app.tenant', 'seven', false);",
        "select coalesce(current_setting('app.tenant', true), '')",
        "",
        "seven",
    ),
    (
        "execute format('set session characteristics as transaction read only');",
        "show default_transaction_read_only",
        "off",
        "on",
    ),
    (
        "set role pg_monitor;",
        "select current_user",
        "app",
        "pg_monitor",
    ),
    (
        "execute 'set session authorization other';",
        "select session_user",
        "app",
        "other",
    ),
    (
        "execute 'create temp table leaked as select 1 as a';",
        "select coalesce(to_regclass('leaked')::text, '')",
        "",
        "leaked",
    ),
    (
        "execute 'create type pg_temp.mood as enum (''good'')';",
        "select count(*) from pg_type where typnamespace = pg_my_temp_schema() and typname = 'mood'",
        "0",
        "1",
    ),
    (
        "perform pg_advisory_lock(4711);",
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
        "0",
        "1",
    ),
    (
        "execute 'listen leaks';",
        "select count(*) from pg_listening_channels()",
        "0",
        "1",
    ),
    (
        "execute 'prepare leaked as select 1';",
        "select count(*) from pg_prepared_statements where from_sql",
        "0",
        "1",
    ),
];

/// How a client calls the function.
#[derive(Clone, Copy, Debug)]
enum Call {
    Simple,
    Extended,
    Block,
    Copy,
    Many,
    Procedure,
}

const CALLS: [Call; 6] = [
    Call::Simple,
    Call::Extended,
    Call::Block,
    Call::Copy,
    Call::Many,
    Call::Procedure,
];

async fn call(client: &Client, how: Call, name: &str) {
    let simple = |text: String| async move { client.batch_execute(&text).await };
    match how {
        Call::Simple => simple(format!("select {name}()")).await,
        Call::Extended => {
            let text = format!("select 1 from (select {name}()) as x");
            client.query(&text, &[]).await.map(drop)
        }
        Call::Block => simple(format!("begin; select {name}(); commit")).await,
        Call::Copy => {
            let text = format!("copy (select 1 from (select {name}()) as x) to stdout");
            let rows = client.copy_out(&text).await.unwrap();
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = futures_util::StreamExt::next(&mut rows).await {
                row.unwrap();
            }
            Ok(())
        }
        Call::Many => simple(format!("select 1; select {name}(); select 2")).await,
        Call::Procedure => simple(format!("call p_{name}()")).await,
    }
    .unwrap();
}

fn define(name: &str, body: &str) -> String {
    format!(
        "create function {name}() returns void language plpgsql as $f$ begin {body} end $f$; \
         create procedure p_{name}() language plpgsql as $f$ begin {body} end $f$;"
    )
}

#[tokio::test]
async fn what_a_function_leaves_is_its_callers_alone() {
    let database = Database::new().await;
    for (at, (body, ..)) in LEAKS.iter().enumerate() {
        database.sql(&define(&format!("leak{at}"), body)).await;
    }
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let other = proxy.client("app", &database).await;
    for (at, (body, question, without, with)) in LEAKS.iter().enumerate() {
        for how in CALLS {
            let client = proxy.client("app", &database).await;
            call(&client, how, &format!("leak{at}")).await;
            for _ in 0..2 {
                assert_eq!(other.one(question).await, *without, "{body} {how:?}");
                assert_eq!(client.one(question).await, *with, "{body} {how:?}");
            }
            client.batch_execute("discard all").await.unwrap();
            assert_eq!(client.one(question).await, *without, "{body} {how:?}");
            // Nothing binds it any more, and both fit on one server.
            let pid = "select pg_backend_pid()";
            other.batch_execute("begin; select 1").await.unwrap();
            let (mine, its) = (client.one(pid).await, other.one(pid).await);
            assert_ne!(mine, its);
            other.batch_execute("commit").await.unwrap();
        }
    }
    assert!(!proxy.log().contains("cannot be looked at"));
}

async fn pool_of_one(prepare: &str) -> (Database, Proxy, Client, Client) {
    let database = Database::new().await;
    database.sql(prepare).await;
    let proxy = Proxy::before(
        &database,
        "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"",
    )
    .await;
    let one = proxy.client("app", &database).await;
    let two = proxy.client("app", &database).await;
    (database, proxy, one, two)
}

/// Whether a client keeps the only server, so that another waits in vain.
async fn keeps(other: &Client) -> bool {
    match other.batch_execute("select 1").await {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.code().map(|code| code.code()), Some("57014"));
            true
        }
    }
}

/// A function that leaves a setting behind, and what makes it run without a call in any text.
const SNEAK: &str = "create function sneak() returns int language plpgsql as $$ \
    begin perform set_config('work_mem', '77MB', false); return 1; end $$;";

#[tokio::test]
async fn code_that_runs_unseen_is_found_in_the_catalogue() {
    for (prepare, quiet, loud) in [
        (
            "create table t (a int); create function trigger_fn() returns trigger language plpgsql \
             as $$ begin perform sneak(); return new; end $$; \
             create trigger x before insert on t for each row execute function trigger_fn()",
            "select count(*) from t",
            "insert into t values (1)",
        ),
        (
            "create table t (a int default sneak(), b int)",
            "select * from t",
            "insert into t (b) values (1)",
        ),
        (
            "create table t (a int); create rule r as on delete to t do also select sneak()",
            "update t set a = 1",
            "delete from t",
        ),
        (
            "create view v as select sneak() as a",
            "",
            "select * from v",
        ),
        (
            "create table t (a int); insert into t values (1); create function shown(t) returns int \
             language sql as 'select sneak()'",
            "",
            "select t.shown from t",
        ),
        (
            "create table t (a int); insert into t values (1); create function shown(anyelement) returns int \
             language sql as 'select sneak()'",
            "",
            "select t.shown from t",
        ),
        (
            "create table t (a int); insert into t values (1); create function shown(record) returns int \
             language plpgsql as 'begin return sneak(); end'",
            "",
            "select t.shown from t",
        ),
        (
            "create table t (a int); insert into t values (1); create function shown(t, int default 1) \
             returns int language sql as 'select sneak()'",
            "",
            "select t.shown from t",
        ),
        (
            "create table t (a int); insert into t values (1); create function shown(variadic t[]) \
             returns int language sql as 'select sneak()'",
            "",
            "select t.shown from t",
        ),
        (
            "create function adds(int, int) returns int language sql as 'select sneak()'; \
             create operator @+@ (leftarg = int, rightarg = int, function = adds)",
            "",
            "select 1 @+@ 2",
        ),
        (
            "create domain d as int check (sneak() > value - 10)",
            "",
            "select 1::d",
        ),
        (
            "create function public.upper(int) returns int language sql as 'select sneak()'",
            "",
            "select upper(1)",
        ),
        (
            "create function given(a text default set_config('work_mem', '77MB', false)) returns text \
             language sql as 'select $1'; create function gives() returns text language sql as 'select given()'",
            "select given('x')",
            "select gives()",
        ),
        (
            "create domain d as text default set_config('work_mem', '77MB', false); \
             create table t (a d, b int)",
            "select * from t",
            "insert into t (b) values (1)",
        ),
        (
            "create table t (a int); create function passes() returns trigger language plpgsql \
             as $$ begin return new; end $$; \
             create trigger x before insert on t for each row \
             when (set_config('work_mem', '77MB', false) = '77MB') execute function passes()",
            "select * from t",
            "insert into t values (1)",
        ),
        (
            "create table t (a int); insert into t values (1); create rule r as on delete to t \
             where set_config('work_mem', '77MB', false) = '77MB' do also select 1",
            "update t set a = 2",
            "delete from t",
        ),
        (
            "create view v as select set_config('work_mem', '77MB', false) as a",
            "",
            "select * from v",
        ),
    ] {
        let (_database, _proxy, one, two) = pool_of_one(&format!("{SNEAK} {prepare}")).await;
        one.batch_execute(quiet).await.unwrap();
        assert!(!keeps(&two).await, "{quiet}");
        one.batch_execute(loud).await.unwrap();
        assert!(keeps(&two).await, "{loud} {prepare}");
        assert_eq!(one.one("show work_mem").await, "77MB");
        one.batch_execute("discard all").await.unwrap();
        assert!(!keeps(&two).await, "{loud}");
        assert_eq!(two.one("show work_mem").await, "4MB");
    }
}

#[tokio::test]
async fn a_trigger_that_was_made_a_moment_ago_is_known() {
    let (_database, _proxy, one, two) = pool_of_one(SNEAK).await;
    one.batch_execute("create table t (a int)").await.unwrap();
    two.batch_execute("insert into t values (1)").await.unwrap();
    one.batch_execute(
        "create function trigger_fn() returns trigger language plpgsql \
         as $$ begin perform sneak(); return new; end $$; \
         create trigger x before insert on t for each row execute function trigger_fn()",
    )
    .await
    .unwrap();
    two.batch_execute("insert into t values (1)").await.unwrap();
    assert!(keeps(&one).await);
}

/// Has whoever writes to a table leave a setting behind.
const MAKE: &str = "create rule x as on insert to t do also select sneak()";

/// What may make it where no text says so.
fn makers() -> String {
    format!(
        "{SNEAK} create table t (a int); create function makes() returns void language plpgsql as $$ begin {MAKE}; end $$; \
         create function calls() returns void language sql as 'select makes()'; \
         create function runs(text) returns void language plpgsql as $$ begin execute $1; end $$; \
         create procedure p_runs(text) language plpgsql as $$ begin execute $1; commit; end $$; \
         create procedure \"Makes\"() language plpgsql as $$ begin {MAKE}; end $$;"
    )
}

#[tokio::test]
async fn what_was_made_where_no_text_says_so_is_known() {
    for make in [
        format!("do $$ begin {MAKE}; end $$"),
        "do 'begin perform makes(); end'".to_owned(),
        "select makes()".to_owned(),
        "begin; select calls(); commit".to_owned(),
        format!("select runs('{MAKE}')"),
        format!("call p_runs('{MAKE}')"),
        "call \"Makes\"()".to_owned(),
    ] {
        let (_database, _proxy, one, two) = pool_of_one(&makers()).await;
        two.batch_execute("insert into t values (1)").await.unwrap();
        assert!(!keeps(&one).await);
        one.batch_execute(&make).await.unwrap();
        two.batch_execute("insert into t values (1)").await.unwrap();
        assert!(keeps(&one).await, "{make}");
    }
}

#[tokio::test]
async fn what_comes_with_a_prepared_transaction_is_known() {
    let (database, _proxy, one, two) = pool_of_one(&makers()).await;
    let name = &database.name;
    two.batch_execute("insert into t values (1)").await.unwrap();
    one.batch_execute(&format!("begin; {MAKE}; prepare transaction '{name}'"))
        .await
        .unwrap();
    // By then the catalogue is asked again, and shows nothing yet.
    two.batch_execute("select 1").await.unwrap();
    assert!(!keeps(&one).await);
    one.batch_execute(&format!("commit prepared '{name}'"))
        .await
        .unwrap();
    two.batch_execute("insert into t values (1)").await.unwrap();
    assert!(keeps(&one).await);
}

#[tokio::test]
async fn what_a_function_may_have_made_is_looked_after_soon() {
    let (_database, proxy, one, two) = pool_of_one(&makers()).await;
    two.batch_execute("insert into t values (1)").await.unwrap();
    let (_, before) = checks(&proxy, &one).await;
    // Nobody sees what it runs.
    one.query("select runs($1)", &[&MAKE]).await.unwrap();
    let asked = until("the catalogue is asked", async || {
        checks(&proxy, &one).await.1 > before
    });
    // By itself it is after 30 s.
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
    asked.expect("it is asked soon");
    two.batch_execute("insert into t values (1)").await.unwrap();
    assert!(keeps(&one).await);
}

#[tokio::test]
async fn functions_that_change_nothing_cost_nothing() {
    let (_database, proxy, one, two) = pool_of_one(
        "create table t (a int, at timestamptz); \
         create function stamp() returns trigger language plpgsql \
         as $$ begin new.at := now(); return new; end $$; \
         create trigger x before insert on t for each row execute function stamp(); \
         create function twice(a int) returns int language sql as 'select a * 2'; \
         create view v as select twice(a) as a from t",
    )
    .await;
    one.batch_execute("select 1").await.unwrap();
    for client in [&one, &two] {
        for _ in 0..20 {
            client
                .batch_execute("insert into t values (1)")
                .await
                .unwrap();
            client.batch_execute("select * from v").await.unwrap();
            client
                .batch_execute("select twice(2), count(*) from t")
                .await
                .unwrap();
            client
                .query("select a from t where a = $1", &[&1])
                .await
                .unwrap();
            client
                .batch_execute("begin; update t set a = 1; commit")
                .await
                .unwrap();
        }
    }
    assert_eq!(checks(&proxy, &one).await, (0, 1));
    one.batch_execute("select unheard_of()").await.unwrap_err();
    assert_eq!(checks(&proxy, &one).await.0, 1);
}

/// How often the pool has looked at sessions, and at the catalogue.
async fn checks(proxy: &Proxy, client: &Client) -> (u64, u64) {
    // The look comes behind the answer: the next answer is behind the look.
    client.batch_execute("select 1").await.unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    let rows = console.simple_query("show pools").await.unwrap();
    for row in rows {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = row
            && row.get("database") != Some("pgherd")
        {
            let number = |name: &str| row.get(name).unwrap().parse().unwrap();
            return (number("function_checks"), number("function_surveys"));
        }
    }
    panic!("no pool is shown");
}

#[tokio::test]
async fn the_setting_says_when_to_look() {
    for (said, kept, looks) in [("never", false, false), ("always", true, true)] {
        let database = Database::new().await;
        database.sql(SNEAK).await;
        let more = format!(
            "[pool]\nsize = 1\nfunction_check = \"{said}\"\n[timeouts]\ncheckout = \"300ms\""
        );
        let proxy = Proxy::before(&database, &more).await;
        let one = proxy.client("app", &database).await;
        let two = proxy.client("app", &database).await;
        one.batch_execute("select 1").await.unwrap();
        assert_eq!(checks(&proxy, &two).await.0 > 0, looks, "{said}");
        one.batch_execute("select sneak()").await.unwrap();
        assert_eq!(keeps(&two).await, kept, "{said}");
    }
}

#[tokio::test]
async fn a_hostile_search_path_deceives_nobody() {
    let trap = "create schema trap; \
        create function trap.lies(text, text) returns bool language sql as 'select false'; \
        create operator trap.= (leftarg = text, rightarg = text, function = trap.lies); \
        create operator trap.<> (leftarg = text, rightarg = text, function = trap.lies); \
        create function trap.current_setting(text) returns text language sql as 'select $$none$$'; \
        create view trap.pg_settings as select 1 as name where false; \
        create function leak() returns void language plpgsql as $$ begin \
        perform set_config('search_path', 'trap, pg_catalog', false); set role pg_monitor; end $$";
    let (_database, _proxy, one, two) = pool_of_one(trap).await;
    one.batch_execute("select leak()").await.unwrap();
    assert!(keeps(&two).await);
    one.batch_execute("discard all").await.unwrap();
    assert_eq!(two.one("select current_user").await, "app");
}

#[tokio::test]
async fn a_set_config_of_the_users_own_is_looked_at_behind() {
    let (_database, _proxy, one, two) = pool_of_one(
        "create function public.set_config(varchar, varchar, bool) returns text language plpgsql \
         as $$ begin return pg_catalog.set_config('work_mem', '77MB', false); end $$",
    )
    .await;
    one.batch_execute("select 1").await.unwrap();
    let text = "select set_config($1, $2, true)";
    let types = [Type::VARCHAR, Type::VARCHAR];
    let statement = one.prepare_typed(text, &types).await.unwrap();
    one.query(&statement, &[&"app.x", &"1"]).await.unwrap();
    assert!(keeps(&two).await);
    assert_eq!(one.one("show work_mem").await, "77MB");
    one.batch_execute("discard all").await.unwrap();
    assert_eq!(two.one("show work_mem").await, "4MB");
}

#[tokio::test]
async fn a_session_that_cannot_be_looked_at_is_nobody_elses() {
    let slow = "create function slow() returns void language plpgsql as $$ begin \
                perform set_config('statement_timeout', '1', false); \
                perform set_config('default_transaction_isolation', 'nonsense', false); \
                exception when others then \
                perform set_config('statement_timeout', '1', false); end $$";
    let (_database, _proxy, one, two) = pool_of_one(slow).await;
    one.batch_execute("select slow()").await.unwrap();
    assert!(keeps(&two).await);
    drop(one);
    until("its server is another's", async || !keeps(&two).await).await;
    assert_eq!(two.one("show statement_timeout").await, "0");
}

/// Postgres shows what the function does once it has locked its table.
#[tokio::test]
async fn nobody_is_lost_with_a_look_at_what_somebody_has_locked() {
    let database = Database::new().await;
    database
        .sql(
            "create table t (a int); create function counted() returns bigint \
             begin atomic select count(*) from t; end",
        )
        .await;
    let more = "[pool]\nsize = 1\n[timeouts]\nconnect = \"4s\"";
    let proxy = Proxy::before(&database, more).await;
    let client = proxy.client("app", &database).await;
    let holder = connect(&database.url("app")).await;
    holder.batch_execute("begin; lock t").await.unwrap();
    let server = "select pg_backend_pid()";
    client.batch_execute("create table made ()").await.unwrap();
    let pid = client.one(server).await;
    assert_eq!(client.one("select count(*) from made").await, "0");
    assert_eq!(client.one(server).await, pid);
    assert!(
        proxy
            .log()
            .contains("functions of a database cannot be read")
    );
}

#[tokio::test]
async fn one_that_leaves_takes_it_along() {
    for goodbye in [true, false] {
        let (_database, _proxy, one, two) = pool_of_one(SNEAK).await;
        one.batch_execute("begin; select sneak()").await.unwrap();
        if goodbye {
            drop(one);
        } else {
            one.cut().await;
        }
        until("the server is free", async || !keeps(&two).await).await;
        assert_eq!(two.one("show work_mem").await, "4MB");
    }
}

#[tokio::test]
async fn shared_statements_that_a_function_closes_are_missed_by_nobody() {
    let (_database, _proxy, one, two) = pool_of_one(
        "create function forget() returns void language plpgsql as $$ begin \
         execute 'deallocate all'; end $$",
    )
    .await;
    let statement = two.prepare("select 41 + 1").await.unwrap();
    assert_eq!(
        two.query_one(&statement, &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        42
    );
    one.batch_execute("select forget()").await.unwrap();
    assert_eq!(
        two.query_one(&statement, &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        42
    );
    let again = one.prepare("select 41 + 1").await.unwrap();
    assert_eq!(
        one.query_one(&again, &[]).await.unwrap().get::<_, i32>(0),
        42
    );
}

#[tokio::test]
async fn the_next_request_waits_for_the_look_and_not_longer() {
    let (_database, _proxy, one, two) = pool_of_one(
        "create function harmless(a int) returns int language plpgsql as $$ begin \
         execute 'select 1'; return a; end $$",
    )
    .await;
    let calls = async |client: &Client| {
        for number in 0..50 {
            let row = client.query_one("select harmless($1)", &[&number]).await;
            assert_eq!(row.unwrap().get::<_, i32>(0), number);
        }
    };
    let both = async { tokio::join!(calls(&one), calls(&two)) };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
}

#[tokio::test]
async fn defaults_of_a_role_are_no_change() {
    let database = Database::new().await;
    let name = &database.name;
    database
        .sql(&format!(
            "create role {name}_owner; grant {name}_owner to other; \
             alter role other in database {name} set role = '{name}_owner'; \
             alter role other in database {name} set app.tenant = 'nine'; \
             alter role other in database {name} set work_mem = '5MB'; \
             grant create on schema public to other, {name}_owner; \
             create function touch() returns void language plpgsql as $$ begin \
             if random() > 2 then perform set_config('app.tenant', 'x', false); end if; end $$"
        ))
        .await;
    let proxy = Proxy::before(
        &database,
        "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"",
    )
    .await;
    let one = proxy.client("other", &database).await;
    let two = proxy.client("other", &database).await;
    one.batch_execute("select touch()").await.unwrap();
    assert!(!keeps(&two).await);
    assert_eq!(
        two.one("select current_user").await,
        format!("{name}_owner")
    );
    one.batch_execute("set application_name = 'x'; select touch()")
        .await
        .unwrap();
    assert_eq!(one.one("show app.tenant").await, "nine");
}

#[tokio::test]
async fn what_held_for_a_transaction_is_no_change() {
    let touch = "create function touch() returns void language plpgsql as $$ begin \
        if random() > 2 then perform set_config('work_mem', '8MB', false); end if; end $$";
    let (_database, _proxy, one, two) = pool_of_one(touch).await;
    for (begin, end) in [
        ("begin isolation level serializable read only", "commit"),
        (
            "begin; set transaction isolation level serializable, read only",
            "commit",
        ),
        (
            "begin isolation level serializable read only deferrable; set local work_mem = '9MB'; \
             set local search_path = nowhere, public; savepoint a",
            "rollback",
        ),
    ] {
        one.batch_execute(&format!("{begin}; select touch()"))
            .await
            .unwrap();
        one.batch_execute(end).await.unwrap();
        assert!(!keeps(&two).await, "{begin}");
        let failing = format!("{begin}; select touch(); select 1/0");
        one.batch_execute(&failing).await.unwrap_err();
        one.batch_execute("rollback").await.unwrap();
        assert!(!keeps(&two).await, "{begin}, which fails");
    }
}

#[tokio::test]
async fn a_function_cannot_put_another_text_under_the_name_of_a_shared_statement() {
    let database = Database::new().await;
    let kinds = [("parsed", "not from_sql", "1"), ("every", "true", "2")];
    for (name, which, _) in kinds {
        let swap = format!(
            "create function swap_{name}() returns bigint language plpgsql as $f$ \
             declare p text; n bigint := 0; begin \
             for p in select name from pg_prepared_statements \
             where name ~ '^pgherd_[0-9]+$' and ({which}) loop \
             execute 'deallocate ' || p; \
             execute 'prepare ' || p || ' as select ''stolen'''; n := n + 1; \
             end loop; return n; end $f$"
        );
        database.sql(&swap).await;
    }
    for (name, _, swapped) in kinds {
        let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
        let login = async || Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let (mut thief, mut owner) = (login().await, login().await);
        let parse = [Raw::parse("p", "select 'own'"), Raw::sync()].concat();
        assert_eq!(owner.ask(&parse).await, "1 ZI");
        let prepare = "prepare q as select 'own'";
        assert_eq!(owner.ask(&Raw::query(prepare)).await, "C ZI");
        assert_eq!(thief.one(&format!("select swap_{name}()")).await, swapped);
        let run = [Raw::bind("", "p", &[]), Raw::execute("", 0), Raw::sync()];
        owner.send(&run.concat()).await;
        let answer = owner.ready().await;
        let row = answer.iter().find(|message| message.tag == 'D');
        assert_eq!(
            row.map(Message::columns),
            Some(vec!["own".to_owned()]),
            "{name}"
        );
        assert_eq!(owner.one("execute q").await, "own", "{name}");
    }
}

/// It goes only with its connection.
#[tokio::test]
async fn a_slot_that_a_function_has_made_is_its_callers_behind_a_discard_too() {
    let (_database, _proxy, one, two) = pool_of_one(
        "create function slot() returns void language plpgsql as $$ begin \
         perform pg_create_physical_replication_slot('pgherd_behind', false, true); end $$",
    )
    .await;
    one.batch_execute("select slot()").await.unwrap();
    assert!(keeps(&two).await);
    one.batch_execute("discard all").await.unwrap();
    assert!(keeps(&two).await);
    let slots = "select count(*) from pg_replication_slots where active_pid = pg_backend_pid()";
    assert_eq!(one.one(slots).await, "1");
    one.cut().await;
    until("it is gone", async || !keeps(&two).await).await;
    assert_eq!(two.one(slots).await, "0");
}
