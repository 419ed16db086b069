//! Clients that leave while their settings are under way.

use pgherd_tests::{Raw, until};

use super::before;

#[tokio::test]
async fn what_was_under_way_meets_nobody_else() {
    let (database, proxy) = before(1).await;
    let mut other = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for (say, bye) in [
        ("set work_mem = '7MB'", true),
        ("set work_mem = '7MB'", false),
        ("begin; set work_mem = '7MB'", false),
        ("set work_mem = '7MB'; select pg_sleep(0.1)", true),
        ("select set_config('work_mem', '7MB', false)", false),
    ] {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let mut sent = Raw::query(say);
        if bye {
            sent.extend(Raw::framed(b'X', b""));
        }
        client.send(&sent).await;
        drop(client);
        assert_eq!(other.one("show work_mem").await, "4MB", "{say}");
    }
    // Those of a block are taken back with it, and those of before stay on the server's account.
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.ask(&Raw::query("set work_mem = '5MB'")).await;
    client.ask(&Raw::query("begin; set work_mem = '6MB'")).await;
    drop(client);
    assert_eq!(other.one("show work_mem").await, "4MB");
    until("one server is left", async || {
        database.backends("app").await == 1
    })
    .await;
}
