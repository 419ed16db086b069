//! A primary goes, another comes: what clients see of it.

mod cut_off;
pub(super) mod fleet;
mod parted;
mod resolve;
mod resolve_alike;
mod slow;
mod stranger;

use std::time::{Duration, Instant};

use fleet::Fleet;
use pgherd_sandbox::{Stop, free_port};
use pgherd_tests::{Config, Proxy, Raw, connect, try_connect, until};
use tokio::task::JoinHandle;

use super::failures::metrics;

#[tokio::test]
async fn writes_go_to_the_primary_wherever_it_stands_in_the_list() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    for order in [[primary, replica], [replica, primary]] {
        let proxy = fleet.proxy(&order, "").await;
        let client = fleet.client(&proxy).await;
        assert_eq!(client.one("select pg_is_in_recovery()").await, "f");
        client
            .batch_execute("insert into acked values (1)")
            .await
            .unwrap();
    }
    assert_eq!(
        fleet
            .primary
            .sql("select count(*) from acked")
            .await
            .unwrap(),
        "2"
    );
}

#[tokio::test]
async fn a_killed_primary_is_a_pause_for_work_that_has_not_begun() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let idle = fleet.client(&proxy).await;
    let busy = fleet.client(&proxy).await;
    idle.batch_execute("set application_name = 'mine'")
        .await
        .unwrap();
    busy.batch_execute("begin; insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    // Asked while there is no primary at all.
    let asked = tokio::spawn(async move {
        idle.batch_execute("insert into acked values (2)")
            .await
            .unwrap();
        idle.one("show application_name").await
    });
    let (code, _) = busy.refused("insert into acked values (3)").await;
    assert_eq!(code, "40001");
    fleet.replica.promote().await.unwrap();
    let promoted = Instant::now();
    assert_eq!(asked.await.unwrap(), "mine");
    assert!(promoted.elapsed() < Duration::from_secs(5));
    // The session stays, once it has heard what became of its transaction.
    busy.batch_execute("rollback").await.unwrap();
    busy.batch_execute("insert into acked values (4)")
        .await
        .unwrap();
    let rows = fleet
        .replica
        .sql("select x from acked order by x")
        .await
        .unwrap();
    assert_eq!(rows, "2\n4");
}

#[tokio::test]
async fn a_login_and_a_block_that_has_not_begun_wait_too() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    client.batch_execute("begin").await.unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    let late = fleet.client(&proxy).await;
    let blocked = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
        client.batch_execute("commit").await.unwrap();
        late.batch_execute("insert into acked values (3)")
            .await
            .unwrap();
    });
    fleet.replica.promote().await.unwrap();
    blocked.await.unwrap();
    let rows = fleet
        .replica
        .sql("select x from acked order by x")
        .await
        .unwrap();
    assert_eq!(rows, "1\n2\n3");
}

/// A monitor may have nobody else to log in as at first.
#[tokio::test]
async fn what_a_user_has_set_for_itself_is_no_fault_of_a_host() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let hosts = ports.map(|port| format!("\"127.0.0.1:{port}\"")).join(", ");
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [databases.postgres]\nhosts = [{hosts}]\n[timeouts]\nhold = \"1s\"\n\
         [failover]\nprobe = \"200ms\"\nprobe_timeout = \"500ms\"\nevidence = \"1s\"\n"
    ));
    fleet
        .primary
        .sql("create role mallory login")
        .await
        .unwrap();
    for own in [
        "alter role mallory set statement_timeout = '1ms'",
        "alter role mallory set default_transaction_isolation = 'serializable'",
        // Whoever asks as this user now is let in, and gets no answer.
        "revoke execute on function pg_control_system() from public",
    ] {
        fleet.primary.sql(own).await.unwrap();
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
        let proxy = Proxy::start(&config).await;
        let url = |user: &str| format!("postgres://{user}@127.0.0.1:{}/postgres", proxy.port());
        // With such a timeout it may come in or not.
        let _mallory = try_connect(&url("mallory")).await;
        let client = connect(&url("app")).await;
        let begun = Instant::now();
        // For longer than anything that was seen is believed.
        while begun.elapsed() < Duration::from_millis(2500) {
            client
                .batch_execute("insert into acked values (1)")
                .await
                .unwrap_or_else(|error| panic!("{own}: {error}"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A client that asks something while there is no primary, and what it is told.
async fn asks(proxy: &Proxy, sent: &[Vec<u8>], told: &[&str]) -> JoinHandle<()> {
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    client.send(&sent.concat()).await;
    let told: Vec<String> = told.iter().map(|&told| told.to_owned()).collect();
    tokio::spawn(async move {
        for told in told {
            assert_eq!(client.ask(&[]).await, told);
        }
    })
}

#[tokio::test]
async fn work_that_has_not_begun_waits_in_whatever_protocol_it_comes() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    fleet
        .client(&proxy)
        .await
        .batch_execute("insert into acked values (0)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    proxy.logged("there is no primary", 1).await;
    let bound = |text: &str| {
        let (parse, bind) = (Raw::parse("", text), Raw::bind("", "", &[]));
        [parse, bind, Raw::execute("", 0)].concat()
    };
    let insert = |value: i32| format!("insert into acked values ({value})");
    let synced = |value: i32| [bound(&insert(value)), Raw::sync()].concat();
    let block = [bound("begin"), bound(&insert(5)), bound("commit")].concat();
    let waiting = [
        asks(&proxy, &[Raw::query(&insert(1))], &["C ZI"]).await,
        asks(&proxy, &[synced(2)], &["1 2 C ZI"]).await,
        // One behind the other, without waiting for an answer.
        asks(&proxy, &[synced(3), synced(4)], &["1 2 C ZI"; 2]).await,
        asks(&proxy, &[block, Raw::sync()], &["1 2 C 1 2 C 1 2 C ZI"]).await,
        asks(
            &proxy,
            &[
                Raw::query("begin"),
                Raw::query(&insert(6)),
                Raw::query("commit"),
            ],
            &["C ZT", "C ZT", "C ZI"],
        )
        .await,
        asks(
            &proxy,
            &[[bound(&insert(7)), bound(&insert(8)), Raw::sync()].concat()],
            &["1 2 C 1 2 C ZI"],
        )
        .await,
    ];
    fleet.replica.promote().await.unwrap();
    for told in waiting {
        told.await.unwrap();
    }
    let all = "select string_agg(x::text, '' order by x) from acked";
    assert_eq!(fleet.replica.sql(all).await.unwrap(), "012345678");
}

#[tokio::test]
async fn a_restarted_primary_stays_the_primary() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.replica.port(), fleet.primary.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.primary.stop(Stop::Fast).await.unwrap();
    let asked = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
    });
    fleet.primary.restart().await.unwrap();
    asked.await.unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    let roles = console.column("show hosts").await.unwrap();
    assert_eq!(roles.len(), 2);
    let rows = fleet
        .primary
        .sql("select count(*) from acked")
        .await
        .unwrap();
    assert_eq!(rows, "2");
}

#[tokio::test]
async fn without_a_primary_the_wait_ends_with_the_reason() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[timeouts]\nhold = \"1s\"").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.primary.kill9();
    let begun = Instant::now();
    let (code, message) = client.refused("insert into acked values (2)").await;
    assert_eq!(code, "57P03", "{message}");
    assert!(message.contains("no primary"), "{message}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    fleet.replica.promote().await.unwrap();
    until("writes go to the new primary", async || {
        client
            .batch_execute("insert into acked values (3)")
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_old_primary_that_comes_back_is_never_written_to() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    fleet.replica.promote().await.unwrap();
    client
        .batch_execute("insert into acked values (2)")
        .await
        .unwrap();
    // It is writable, and does not know that it has been replaced.
    fleet.primary.restart().await.unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    let old = fleet.primary.port();
    until("the old primary was looked at", async || {
        fleet.host(&console, old).await.get("role") == Some("primary")
    })
    .await;
    let row = fleet.host(&console, old).await;
    assert_eq!(row.get("writer"), Some("no"));
    assert_eq!(row.get("health"), Some("fenced"));
    for value in 3..10 {
        let insert = format!("insert into acked values ({value})");
        client.batch_execute(&insert).await.unwrap();
    }
    assert_eq!(
        fleet.primary.sql("select max(x) from acked").await.unwrap(),
        "1"
    );
    // Now the new one goes, and the old one is still not taken.
    fleet.replica.stop(Stop::Immediate).await.unwrap();
    let asked = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (10)")
            .await
            .unwrap();
    });
    until("there is no primary", async || {
        let rows = console.simple_query("show epochs").await.unwrap();
        let last = rows.iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get("writer").is_none()),
            _ => None,
        });
        last == Some(true)
    })
    .await;
    fleet.replica.restart().await.unwrap();
    asked.await.unwrap();
    assert_eq!(
        fleet.primary.sql("select max(x) from acked").await.unwrap(),
        "1"
    );
    assert_eq!(
        fleet.replica.sql("select max(x) from acked").await.unwrap(),
        "10"
    );
}

#[tokio::test]
async fn a_frozen_primary_that_was_replaced_holds_nobody() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let client = fleet.client(&proxy).await;
    let busy = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    busy.batch_execute("begin; insert into acked values (2)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.freeze();
    let stuck = tokio::spawn(async move {
        let lost = busy.refused("insert into acked values (3)").await.0;
        busy.batch_execute("rollback").await.unwrap();
        (lost, busy.one("select 1").await)
    });
    fleet.replica.promote().await.unwrap();
    // Until that is seen, what is sent goes to the frozen one, and nobody can know what becomes of it.
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("writes go to the new primary", async || {
        let row = fleet.host(&console, fleet.replica.port()).await;
        row.get("writer") == Some("yes")
    })
    .await;
    client
        .batch_execute("insert into acked values (4)")
        .await
        .unwrap();
    assert_eq!(stuck.await.unwrap(), ("40001".to_owned(), "1".to_owned()));
    fleet.primary.thaw();
    let rows = fleet
        .replica
        .sql("select x from acked order by x")
        .await
        .unwrap();
    assert_eq!(rows, "1\n4");
}

/// They know nothing of each other: what each of them sees leads to one verdict, in whatever order the hosts are listed.
#[tokio::test]
async fn two_proxies_reach_the_same_verdict() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxies = [
        fleet.proxy(&[primary, replica], "").await,
        fleet.proxy(&[replica, primary], "").await,
    ];
    let (mut clients, mut consoles) = (Vec::new(), Vec::new());
    for proxy in &proxies {
        let client = fleet.client(proxy).await;
        client
            .batch_execute("insert into acked values (1)")
            .await
            .unwrap();
        clients.push(client);
        consoles.push(connect(&proxy.url("app", "pgherd")).await);
    }
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    fleet.replica.promote().await.unwrap();
    for client in &clients {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
    }
    // It takes writes as well as ever, and neither proxy is drawn to it.
    fleet.primary.restart().await.unwrap();
    for proxy in &proxies {
        proxy.logged("an operator should look at this", 1).await;
    }
    for client in &clients {
        client
            .batch_execute("insert into acked values (3)")
            .await
            .unwrap();
    }
    let writer = format!("127.0.0.1:{replica}");
    for console in &consoles {
        let epochs = console.rows("show epochs", ["epoch", "writer"]).await;
        assert_eq!(epochs.last().unwrap(), &["2.0", &writer]);
    }
    let rows = fleet
        .replica
        .sql("select x from acked order by x")
        .await
        .unwrap();
    assert_eq!(rows, "1\n1\n2\n2\n3\n3");
}

/// A monitor logs in anew every half a minute. Who is not let in any more has a connection that was, and so has it.
#[tokio::test]
#[ignore = "long: it takes 45 s, for a monitor's connection has to grow old"]
async fn a_password_that_was_changed_on_the_server_is_no_silence_of_it() {
    let fleet = Fleet::new().await;
    fleet
        .primary
        .sql("create role clerk login password 'old'; grant all on acked to clerk")
        .await
        .unwrap();
    let hba = fleet.primary.sql("show hba_file").await.unwrap();
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all clerk all scram-sha-256\n{rules}")).unwrap();
    fleet.primary.sql("select pg_reload_conf()").await.unwrap();
    let [primary, replica] = [fleet.primary.port(), fleet.replica.port()];
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [auth]\nmethod = \"trust\"\n\
         [users.clerk]\npassword = \"old\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n"
    ));
    let proxy = Proxy::start(&config).await;
    let client = connect(&proxy.url("clerk", "postgres")).await;
    let insert = "insert into acked values (1)";
    client.batch_execute(insert).await.unwrap();
    fleet
        .primary
        .sql("alter role clerk password 'new'")
        .await
        .unwrap();
    let changed = Instant::now();
    while changed.elapsed() < Duration::from_secs(45) {
        client.batch_execute(insert).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The value of a metric of the cluster, or of its one pool.
async fn metric(port: u16, name: &str) -> Option<f64> {
    let page = metrics(port).await;
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn the_log_and_the_metrics_tell_how_a_failover_went() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let http = free_port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{http}\"");
    let proxy = fleet.proxy(&ports, &more).await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    let of_cluster = async |name: &str| metric(http, &format!("pgherd_cluster_{name}")).await;
    let epoch = of_cluster("epoch").await.unwrap();
    let (holds, waits) = (
        of_cluster("holds_total").await.unwrap(),
        of_cluster("hold_waits_total").await.unwrap(),
    );
    assert_eq!(of_cluster("failovers_total").await, Some(0.0));
    // What is logged up to here is how it began.
    let before = proxy.log().len();
    fleet.primary.kill9();
    let asked = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
        client
    });
    until("the client waits for a primary", async || {
        metric(http, "pgherd_pool_held").await == Some(1.0)
            && metric(http, "pgherd_pool_waiting").await == Some(1.0)
    })
    .await;
    fleet.replica.promote().await.unwrap();
    let client = asked.await.unwrap();
    until("the failover is counted", async || {
        of_cluster("holds_total").await == Some(holds + 1.0)
    })
    .await;
    assert_eq!(of_cluster("failovers_total").await, Some(1.0));
    assert_eq!(of_cluster("hold_waits_total").await, Some(waits + 1.0));
    assert!(of_cluster("hold_microseconds_total").await.unwrap() > 0.0);
    assert!(of_cluster("epoch").await.unwrap() > epoch);
    let story = [
        "a host is suspected",
        "a host is ill",
        "there is no primary",
        "a host has another part, or timeline",
        "writes go here",
        "work goes on",
    ];
    until("all is told in its turn", async || {
        let log = proxy.log();
        let told = |rest: &str, text: &str| Some(rest.split_once(text)?.1.to_owned());
        let rest = story
            .iter()
            .try_fold(log[before..].to_owned(), |rest, text| told(&rest, text));
        rest.is_some()
    })
    .await;
    // The old primary comes back, and an operator sees to it.
    fleet.primary.restart().await.unwrap();
    proxy.logged("an operator should look at this", 1).await;
    fleet.primary.kill9();
    proxy.logged("an alarm is over", 1).await;
    client
        .batch_execute("insert into acked values (3)")
        .await
        .unwrap();
}
