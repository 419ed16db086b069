//! What RESET goes back to: what the client began with.

use pgherd_tests::{Raw, connect};

use super::{before, unnamed};

const STARTUP: [(&str, &str); 4] = [
    ("application_name", "mine"),
    ("TimeZone", "Asia/Tokyo"),
    ("work_mem", "5MB"),
    ("search_path", "a, b"),
];

#[tokio::test]
async fn a_reset_goes_back_to_the_start_up_value() {
    let (database, proxy) = before(1).await;
    let mut first = Raw::login(proxy.port(), "app", &database.name, &STARTUP).await;
    let mut second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for (name, other, mine) in [
        ("application_name", "other", "mine"),
        ("timezone", "'Europe/Paris'", "Asia/Tokyo"),
        ("work_mem", "'6MB'", "5MB"),
        ("search_path", "c", "a, b"),
    ] {
        let show = format!("show {name}");
        for reset in [
            format!("reset {name}"),
            format!("set {name} to default"),
            format!("select set_config('{name}', null, false)"),
            format!("reset {name} -- really"),
            "reset all".to_owned(),
            "discard all".to_owned(),
        ] {
            let rows = if reset.starts_with("select") {
                "D C ZI"
            } else {
                "C ZI"
            };
            for extended in [false, true] {
                first
                    .ask(&Raw::query(&format!("set {name} = {other}")))
                    .await;
                assert_ne!(first.one(&show).await, mine, "{reset}");
                if extended {
                    let asked = [unnamed(&reset, &[]), Raw::sync()].concat();
                    assert_eq!(first.ask(&asked).await, format!("1 2 {rows}"), "{reset}");
                } else {
                    let described = if rows.len() > 4 { "T " } else { "" };
                    let expected = format!("{described}{rows}");
                    assert_eq!(first.ask(&Raw::query(&reset)).await, expected, "{reset}");
                }
                assert_eq!(first.one(&show).await, mine, "{reset}");
                assert_ne!(second.one(&show).await, mine, "{reset}");
                assert_eq!(first.one(&show).await, mine, "{reset}");
            }
        }
    }
}

#[tokio::test]
async fn the_next_statement_of_a_message_sees_it_too() {
    let (database, proxy) = before(1).await;
    let mut first = Raw::login(proxy.port(), "app", &database.name, &STARTUP).await;
    first
        .ask(&Raw::query(
            "set work_mem = '7MB'; set application_name = 'x'",
        ))
        .await;
    first
        .send(&Raw::query(
            "show work_mem; reset work_mem; show work_mem; reset all; show application_name",
        ))
        .await;
    let messages = first.ready().await;
    let rows: Vec<String> = messages
        .iter()
        .filter(|m| m.tag == 'D')
        .map(|m| m.columns().remove(0))
        .collect();
    assert_eq!(rows, ["7MB", "5MB", "mine"]);
    let completed = messages.iter().filter(|message| message.tag == 'C').count();
    assert_eq!(completed, 5);
    assert_eq!(first.parameters["application_name"], "mine");
    // In one pipeline, and in a block that is rolled back.
    first
        .ask(&Raw::query(
            "begin; set work_mem = '7MB'; savepoint s; set work_mem = '8MB'",
        ))
        .await;
    let pipeline = [
        unnamed("reset work_mem", &[]),
        unnamed("show work_mem", &[]),
        Raw::sync(),
    ]
    .concat();
    first.send(&pipeline).await;
    let messages = first.ready().await;
    let shown = messages.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(shown.columns(), ["5MB"]);
    first.ask(&Raw::query("rollback to s")).await;
    assert_eq!(first.one("show work_mem").await, "7MB");
    first.ask(&Raw::query("rollback")).await;
    assert_eq!(first.one("show work_mem").await, "5MB");
    // Twice in one block.
    first.ask(&Raw::query("begin")).await;
    for _ in 0..2 {
        let reset = [unnamed("reset all", &[]), Raw::sync()].concat();
        assert_eq!(first.ask(&reset).await, "1 2 C ZT");
    }
    first.ask(&Raw::query("commit")).await;
    // For the transaction only.
    first.ask(&Raw::query("set work_mem = '9MB'")).await;
    first
        .ask(&Raw::query("begin; set local work_mem to default"))
        .await;
    assert_eq!(first.one("show work_mem").await, "5MB");
    first.ask(&Raw::query("commit")).await;
    assert_eq!(first.one("show work_mem").await, "9MB");
}

#[tokio::test]
async fn the_client_is_told_as_postgres_tells_it() {
    let (database, proxy) = before(1).await;
    let url = proxy.url("app", &database.name);
    let client = connect(&format!("{url}?application_name=mine")).await;
    client
        .batch_execute("set application_name = 'other'")
        .await
        .unwrap();
    client
        .batch_execute("reset application_name")
        .await
        .unwrap();
    assert_eq!(client.one("show application_name").await, "mine");
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &STARTUP).await;
    raw.send(&Raw::query("reset all")).await;
    let told = raw.ready().await;
    assert!(told.iter().all(|message| message.tag != 'S'), "{told:?}");
}

#[tokio::test]
async fn each_reset_goes_back_for_as_long_as_it_says() {
    let (database, proxy) = before(1).await;
    let startup = [("work_mem", "1MB"), ("statement_timeout", "50s")];
    let mut first = Raw::login(proxy.port(), "app", &database.name, &startup).await;
    let mut second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let reset =
        "select set_config('work_mem', null, false), set_config('statement_timeout', null, true)";
    for extended in [false, true] {
        first.ask(&Raw::query("set work_mem = '6MB'")).await;
        let asked = match extended {
            false => Raw::query(reset),
            true => [unnamed(reset, &[]), Raw::sync()].concat(),
        };
        first.ask(&asked).await;
        assert_eq!(first.one("show work_mem").await, "1MB");
        assert_eq!(first.one("show statement_timeout").await, "50s");
        assert_eq!(second.one("show work_mem").await, "4MB");
        assert_eq!(second.one("show statement_timeout").await, "0");
    }
}
