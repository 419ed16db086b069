//! Functions keep the plans of what they run. Constants in them are those of who calls, whoever has called before on the
//! same server.

use pgherd_tests::{Client, Database, Proxy, Raw, until};

use super::{before, pair, steps};

/// The beginning of 2024, in Tokyo and at Greenwich.
const ZONES: [(&str, &str); 2] = [("Asia/Tokyo", "1704034800"), ("UTC", "1704067200")];

/// A function that tells when 2024 begins.
fn begin_of_year(name: &str) -> String {
    format!(
        "create function {name}() returns text language plpgsql as $$ begin \
         return extract(epoch from '2024-01-01 00:00'::timestamptz)::bigint::text; end $$;"
    )
}

/// Two clients at Greenwich that share one server connection, and as many of these functions.
async fn clients(count: usize, more: &str) -> (Database, Proxy, [Client; 2]) {
    let (database, proxy) = before(1).await;
    let mut functions = more.to_owned();
    for number in 0..count {
        functions.push_str(&begin_of_year(&format!("f{number}")));
    }
    database.sql(&functions).await;
    let clients = pair(&database, &proxy).await;
    for client in &clients {
        // The catalogue is known from here on.
        steps(client, &["set timezone = 'UTC'", "select 1"]).await;
    }
    (database, proxy, clients)
}

#[tokio::test]
async fn a_constant_in_a_function_is_read_as_its_caller_reads() {
    const TRIGGER: &str = "create table t (at timestamptz); \
        create function dated() returns trigger language plpgsql as $$ begin \
        new.at := '2024-01-01 00:00'::timestamptz; return new; end $$; \
        create trigger dated before insert on t for each row execute function dated();";
    let (_database, _proxy, clients) = clients(1, TRIGGER).await;
    for (client, (zone, _)) in clients.iter().zip(ZONES) {
        steps(client, &[&format!("set timezone = '{zone}'")]).await;
    }
    let insert = "insert into t default values returning extract(epoch from at)::bigint";
    for call in ["select f0()", insert, "select f0()"] {
        for (client, (zone, year)) in clients.iter().zip(ZONES) {
            assert_eq!(client.one(call).await, year, "{zone}: {call}");
        }
    }
}

#[tokio::test]
async fn what_was_set_for_a_while_is_in_no_plan_that_others_find() {
    const MORE: &str = "create function enter(zone text) returns void language plpgsql as $$ begin \
        perform set_config('timezone', zone, true); end $$; \
        create function within() returns text language plpgsql set timezone = 'Asia/Tokyo' as $$ begin \
        return f3(); end $$; \
        create function day() returns text language plpgsql as $$ begin \
        return to_char('01/02/2024'::date, 'MM'); end $$; \
        create function items() returns text language plpgsql as $$ begin \
        return array_to_string('{NULL}'::text[], ',', 'none'); end $$;";
    let (_database, _proxy, [first, second]) = clients(7, MORE).await;
    let year = ZONES[1].1;
    for (block, call, expected) in [
        (
            &[
                "begin",
                "set local timezone = 'Asia/Tokyo'",
                "select f0()",
                "commit",
            ][..],
            "select f0()",
            year,
        ),
        (
            &["begin; set local timezone = 'Asia/Tokyo'; select f1(); commit"],
            "select f1()",
            year,
        ),
        (
            &[
                "begin",
                "select enter('Asia/Tokyo')",
                "select f2()",
                "commit",
            ],
            "select f2()",
            year,
        ),
        (&["select within()"], "select f3()", year),
        (
            &[
                "begin",
                "set timezone = 'Asia/Tokyo'",
                "select f4()",
                "rollback",
            ],
            "select f4()",
            year,
        ),
        (
            &["set timezone = 'Asia/Tokyo'; select f5(); set timezone = 'UTC'"],
            "select f5()",
            year,
        ),
        (
            &["select set_config('timezone', 'Asia/Tokyo', true), f6()"],
            "select f6()",
            year,
        ),
        (
            &["begin; set local datestyle = 'ISO, DMY'; select day(); commit"],
            "select day()",
            "01",
        ),
        (
            &["begin; set local array_nulls = off; select items(); commit"],
            "select items()",
            "none",
        ),
    ] {
        steps(&first, block).await;
        assert_eq!(second.one(call).await, expected, "{block:?}");
    }
}

#[tokio::test]
async fn what_was_prepared_keeps_its_meaning_where_plans_are_discarded() {
    let (database, proxy, [_, other]) = clients(1, "").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let text = "select extract(epoch from '2024-01-01 00:00'::timestamptz)::bigint";
    let [(tokyo, expected), (greenwich, _)] = ZONES;
    client
        .ask(&Raw::query(&format!("set timezone = '{tokyo}'")))
        .await;
    let parse = [Raw::parse("s", text), Raw::sync()].concat();
    assert_eq!(client.ask(&parse).await, "1 ZI");
    let prepare = format!("prepare q as {text}");
    assert_eq!(client.ask(&Raw::query(&prepare)).await, "C ZI");
    client
        .ask(&Raw::query(&format!("set timezone = '{greenwich}'")))
        .await;
    let execute = [Raw::bind("", "s", &[]), Raw::execute("", 0), Raw::sync()].concat();
    for zone in [tokyo, greenwich, tokyo] {
        for _ in 0..2 {
            client.send(&execute).await;
            let answer = client.ready().await;
            let row = answer.iter().find(|message| message.tag == 'D');
            let row = row.unwrap_or_else(|| panic!("{answer:?}"));
            assert_eq!(row.columns(), [expected], "{zone}");
            assert_eq!(client.one("execute q").await, expected, "{zone}");
        }
        steps(
            &other,
            &[&format!("set timezone = '{zone}'"), "select f0()"],
        )
        .await;
    }
}

#[tokio::test]
async fn clients_that_read_alike_go_by_the_same_plans() {
    // The moment is that at which it was planned.
    const MOMENT: &str = "create function moment() returns text language plpgsql as $$ begin \
        return extract(epoch from 'now'::timestamptz)::text; end $$;";
    let (_database, _proxy, [first, second]) = clients(0, MOMENT).await;
    let moment = "select moment()";
    let planned = first.one(moment).await;
    for set in [
        "select 1",
        "set work_mem = '5MB'",
        "set application_name = 'it'",
        "begin; set local work_mem = '6MB'; select 1; commit",
    ] {
        steps(&second, &[set]).await;
        assert_eq!(second.one(moment).await, planned, "{set}");
        assert_eq!(first.one(moment).await, planned, "{set}");
    }
    steps(&second, &["set intervalstyle = 'iso_8601'"]).await;
    assert_ne!(second.one(moment).await, planned);
}

#[tokio::test]
async fn a_new_default_is_that_of_all_connections_soon() {
    let (database, proxy) = before(2).await;
    database
        .sql(&format!(
            "alter database \"{}\" set datestyle = 'SQL, MDY'",
            database.name
        ))
        .await;
    let login = async |style| {
        let more = [("datestyle", style)];
        let raw = Raw::login(proxy.port(), "app", &database.name, &more).await;
        raw.parameters["DateStyle"].clone()
    };
    assert_eq!(login("ISO").await, "ISO, MDY");
    let [first, second] = pair(&database, &proxy).await;
    let old = first.one("select pg_backend_pid()").await;
    database
        .sql(&format!(
            "alter database \"{}\" set datestyle = 'SQL, DMY'",
            database.name
        ))
        .await;
    steps(&first, &["begin", "select 1"]).await;
    assert_eq!(second.one("show datestyle").await, "SQL, DMY");
    // Who is in a transaction may end it.
    assert_eq!(first.one("show datestyle").await, "SQL, MDY");
    steps(&first, &["commit"]).await;
    let lives = format!("select count(*) from pg_stat_activity where pid = {old}");
    until("the old connection is closed", async || {
        database.sql(&lives).await.trim() == "0"
    })
    .await;
    for _ in 0..3 {
        steps(&first, &["begin", "select 1"]).await;
        for client in [&first, &second] {
            assert_eq!(client.one("show datestyle").await, "SQL, DMY");
        }
        steps(&first, &["commit"]).await;
    }
    assert_eq!(login("ISO").await, "ISO, DMY");
}
