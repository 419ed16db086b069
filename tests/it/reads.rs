//! Reads that are spread over replicas, and what they may see.

use std::time::Duration;

use pgherd_tests::{Client, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;

use super::failover::fleet::Fleet;

mod choice;

const WHERE: &str = "select inet_server_port()";

async fn reads_on(client: &Client, port: u16) -> bool {
    client.one(WHERE).await == port.to_string()
}

/// Waits until what only reads goes to the replica: its database has to be looked at first.
async fn settled(client: &Client, fleet: &Fleet) {
    until("reads go to the replica", async || {
        reads_on(client, fleet.replica.port()).await
    })
    .await;
}

#[tokio::test]
async fn what_only_reads_goes_to_a_replica_and_nothing_else_does() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"replicas\"")
        .await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    let port = |port: u16| port.to_string();
    client.batch_execute("begin").await.unwrap();
    assert_eq!(client.one(WHERE).await, port(primary));
    client.batch_execute("commit").await.unwrap();
    // The block wrote nothing, but whether it did is not looked into.
    settled(&client, &fleet).await;
    client.batch_execute("begin read only").await.unwrap();
    assert_eq!(client.one(WHERE).await, port(replica));
    assert_eq!(client.one("select pg_is_in_recovery()").await, "t");
    client.batch_execute("commit").await.unwrap();
    fleet
        .primary
        .sql("insert into acked values (0)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    for text in [
        "select inet_server_port() from acked for update",
        "with x as (insert into acked values (1) returning x) select inet_server_port() from x",
        "select inet_server_port(), nextval('counter')",
        "select inet_server_port(), pg_advisory_xact_lock(1)",
        "select inet_server_port(), random()",
    ] {
        // What was written before must not be the reason.
        settled(&client, &fleet).await;
        assert_eq!(client.one(text).await, port(primary), "{text}");
    }
}

/// Of a prepared transaction a standby shows nothing, and of a sequence a value that the primary has not reached; its
/// statistics are its own.
#[tokio::test]
async fn what_each_server_answers_for_itself_is_asked_of_the_primary() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let views = "create view blockers as select pid from pg_locks; create view mine as select 1 from blockers; \
        create view reached as select last_value as v from counter; \
        create view calls as select pg_stat_get_backend_pid(1) as p";
    fleet.primary.sql(views).await.unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"replicas\"")
        .await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    for name in [
        "pg_locks",
        "pg_catalog.pg_stat_activity",
        "pg_settings",
        "blockers",
        "mine",
        "calls",
        "reached",
        "counter",
    ] {
        let text = format!("select inet_server_port() from {name} limit 1");
        assert_eq!(client.one(&text).await, primary.to_string(), "{name}");
    }
    assert!(
        reads_on(&client, replica).await,
        "they have written nothing"
    );
    for text in [
        "select nextval('counter')",
        "begin; insert into acked values (5); prepare transaction 'kept'",
    ] {
        fleet.primary.sql(text).await.unwrap();
    }
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    let ahead = fleet.replica.sql("select last_value from counter").await;
    assert_ne!(ahead.unwrap(), "1", "the log has more");
    for text in [
        "select last_value from counter",
        "table counter",
        "select v from reached",
    ] {
        assert_eq!(client.one(text).await, "1", "{text}");
    }
    let prepared = "select gid from pg_prepared_xacts where database = current_database()";
    assert_eq!(client.one(prepared).await, "kept");
    fleet.primary.sql("rollback prepared 'kept'").await.unwrap();
    // A window function of that name is none of it.
    let window = "select last_value(inet_server_port()) over ()";
    assert_eq!(client.one(window).await, replica.to_string());
}

#[tokio::test]
async fn a_block_that_is_read_from_a_replica_is_not_told_what_is_only_so_there() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"replicas\"")
        .await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    let locks = "select inet_server_port() from pg_locks limit 1";
    for (role, first, port) in [
        ("auto", locks, primary),
        ("auto", WHERE, replica),
        ("replica", locks, replica),
        ("auto", WHERE, replica),
    ] {
        let wish = format!("set pgherd.role = '{role}'");
        client.batch_execute(&wish).await.unwrap();
        settled(&client, &fleet).await;
        client.batch_execute("begin read only").await.unwrap();
        assert_eq!(client.one(first).await, port.to_string(), "{role}");
        client.batch_execute("commit").await.unwrap();
    }
    settled(&client, &fleet).await;
    for question in ["select last_value from counter", locks] {
        client.batch_execute("begin read only").await.unwrap();
        assert_eq!(client.one(WHERE).await, replica.to_string());
        let settings = "select setting from pg_settings where name = 'block_size'";
        assert_eq!(client.one(settings).await, "8192");
        assert_eq!(client.refused(question).await.0, "0A000");
        client.batch_execute("rollback").await.unwrap();
    }
}

/// A primary does it within READ ONLY, too.
#[tokio::test]
async fn what_only_a_standby_refuses_goes_to_the_primary() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"replicas\"")
        .await;
    let client = fleet.client(&proxy).await;
    for first in [
        "lock table acked in share mode",
        "select pg_notify('told', 'x')",
    ] {
        settled(&client, &fleet).await;
        client.batch_execute("begin read only").await.unwrap();
        client.batch_execute(first).await.unwrap();
        assert_eq!(client.one(WHERE).await, primary.to_string(), "{first}");
        client.batch_execute("commit").await.unwrap();
    }
    settled(&client, &fleet).await;
    client.batch_execute("begin read only").await.unwrap();
    let (code, message) = client.refused("insert into acked values (1)").await;
    assert_eq!(code, "25006", "{message}");
    client.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn names_in_sql_are_looked_up_on_the_primary_or_within_a_block() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"replicas\"")
        .await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    let prepare = format!("prepare place as {WHERE}");
    client.batch_execute(&prepare).await.unwrap();
    settled(&client, &fleet).await;
    for _ in 0..3 {
        assert_eq!(client.one("execute place").await, primary.to_string());
    }
    let lock = "prepare lock as select pg_advisory_lock(1)";
    client.batch_execute(lock).await.unwrap();
    settled(&client, &fleet).await;
    let own = "select count(*) || ' ' || inet_server_port() from pg_prepared_statements";
    assert_eq!(client.one(own).await, format!("2 {primary}"));
    // Whether that wrote anything is not looked into.
    settled(&client, &fleet).await;
    client.batch_execute("begin read only").await.unwrap();
    assert_eq!(client.one("execute place").await, replica.to_string());
    client
        .batch_execute("prepare here as select 'here'")
        .await
        .unwrap();
    assert_eq!(client.one(WHERE).await, replica.to_string());
    // It would lock nobody out.
    let (code, _) = client.refused("execute lock").await;
    assert_eq!(code, "0A000");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(client.one("execute here").await, "here");
    assert_eq!(client.one("execute place").await, primary.to_string());
    client.batch_execute("deallocate place").await.unwrap();
    assert_eq!(client.refused("execute place").await.0, "26000");
    settled(&client, &fleet).await;
}

#[tokio::test]
async fn a_client_may_wish_where_it_reads() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"asked\"")
        .await;
    let client = fleet.client(&proxy).await;
    let wish = "set pgherd.role = 'replica'";
    client.batch_execute(wish).await.unwrap();
    settled(&client, &fleet).await;
    for text in [
        "select inet_server_port(), random()",
        "/* pgherd.role = replica */ select inet_server_port()",
    ] {
        assert_eq!(client.one(text).await, replica.to_string(), "{text}");
    }
    let there = format!("/* pgherd.role = primary */ {WHERE}");
    assert_eq!(client.one(&there).await, primary.to_string());
    client.batch_execute("begin").await.unwrap();
    assert_eq!(client.one(WHERE).await, replica.to_string());
    let (code, _) = client.refused("insert into acked values (7)").await;
    assert_eq!(code, "25006", "it stands behind something");
    client.batch_execute("rollback").await.unwrap();
    // What turns out to be a write is one.
    client
        .batch_execute("insert into acked values (7)")
        .await
        .unwrap();
    assert_eq!(
        fleet
            .primary
            .sql("select count(*) from acked where x = 7")
            .await
            .unwrap(),
        "1"
    );
    client
        .batch_execute("set pgherd.role = 'auto'")
        .await
        .unwrap();
    assert_eq!(client.one(WHERE).await, primary.to_string());
    // A wish that nobody knows is one for what is always right.
    client
        .batch_execute("set pgherd.role = 'any'")
        .await
        .unwrap();
    assert_eq!(client.one(WHERE).await, primary.to_string());
    let url = proxy.url("app", "postgres");
    let other = connect(&format!("{url}?options=-c%20pgherd.role%3Dreplica")).await;
    settled(&other, &fleet).await;
}

#[tokio::test]
async fn a_session_reads_its_own_writes() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[reads]\nfrom = \"replicas\"").await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    // The replica gets nothing any more, and nobody tells.
    fleet
        .replica
        .sql("select pg_wal_replay_pause()")
        .await
        .unwrap();
    for count in 1..=20 {
        client
            .batch_execute("insert into acked values (1)")
            .await
            .unwrap();
        assert_eq!(
            client.one("select count(*) from acked").await,
            count.to_string()
        );
    }
    // Another session, which has written nothing, is shown what there is.
    let other = fleet.client(&proxy).await;
    settled(&other, &fleet).await;
    assert_eq!(other.one("select count(*) from acked").await, "0");
    fleet
        .replica
        .sql("select pg_wal_replay_resume()")
        .await
        .unwrap();
    settled(&client, &fleet).await;
    assert_eq!(client.one("select count(*) from acked").await, "20");
}

#[tokio::test]
async fn reads_go_on_without_a_primary_and_without_a_replica() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[reads]\nfrom = \"replicas\"").await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    fleet.primary.kill9();
    let port = fleet.replica.port();
    let bound = [
        Raw::parse("", WHERE),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ]
    .concat();
    let once = [bound.clone(), Raw::sync()].concat();
    let (at_once, in_turn) = (
        [bound, once.clone()].concat(),
        [once.clone(), once.clone()].concat(),
    );
    let mut raw = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    for _ in 0..20 {
        assert!(reads_on(&client, port).await);
        assert_eq!(raw.one(WHERE).await, port.to_string());
        assert_eq!(raw.ask(&once).await, "1 2 D C ZI");
        assert_eq!(raw.ask(&at_once).await, "1 2 D C 1 2 D C ZI");
        assert_eq!(raw.ask(&in_turn).await, "1 2 D C ZI");
        assert_eq!(raw.ask(&[]).await, "1 2 D C ZI");
    }
    fleet.primary.restart().await.unwrap();
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.kill9();
    assert_eq!(client.one("select count(*) from acked").await, "1");
    assert!(reads_on(&client, fleet.primary.port()).await);
    fleet.replica.restart().await.unwrap();
    settled(&client, &fleet).await;
}

/// With a value that was never tried, too, which a replica refuses as the primary would.
#[tokio::test]
async fn who_logs_in_without_a_primary_reads() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let more = "[reads]\nfrom = \"replicas\"\n[timeouts]\nhold = \"20s\"";
    let proxy = fleet.proxy(&ports, more).await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    fleet.primary.kill9();
    let port = fleet.replica.port().to_string();
    let enter = async |value| {
        let raw = Raw::open(proxy.port()).await;
        raw.enter("app", "postgres", &[("work_mem", value)]).await
    };
    let mut raw = enter("5MB").await.unwrap();
    assert_eq!(raw.one(WHERE).await, port);
    assert_eq!(raw.one("select current_setting('work_mem')").await, "5MB");
    // The primary that it waits for when it writes is none that is in recovery.
    assert_eq!(raw.parameters["in_hot_standby"], "off");
    let refused = enter("5 elephants").await.unwrap_err();
    assert_eq!(refused.field('C').as_deref(), Some("22023"));
}

/// Not only who asks from then on.
#[tokio::test]
async fn who_waits_for_a_primary_reads_from_a_replica_that_is_back() {
    let mut fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let more = "[reads]\nfrom = \"replicas\"\n[timeouts]\nhold = \"20s\"";
    let proxy = fleet.proxy(&ports, more).await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    fleet.primary.kill9();
    fleet.replica.kill9();
    let reads = tokio::spawn(async move { client.one(WHERE).await });
    until("it waits", async || {
        let rows = console.simple_query("show pools").await.unwrap();
        rows.iter().any(|row| match row {
            SimpleQueryMessage::Row(row) => row.get("cl_waiting") == Some("1"),
            _ => false,
        })
    })
    .await;
    fleet.replica.restart().await.unwrap();
    assert_eq!(reads.await.unwrap(), fleet.replica.port().to_string());
}

#[tokio::test]
async fn a_frozen_replica_costs_nobody_an_error() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[reads]\nfrom = \"replicas\"").await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    fleet.replica.freeze();
    let read = tokio::time::timeout(Duration::from_secs(5), client.one(WHERE)).await;
    assert_eq!(read.unwrap(), fleet.primary.port().to_string());
    fleet.replica.thaw();
    settled(&client, &fleet).await;
}

/// What a standby has begun writes nothing, so nothing is unknown of it.
#[tokio::test]
async fn the_commit_of_a_block_on_a_lost_replica_is_no_doubtful_one() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[reads]\nfrom = \"replicas\"").await;
    let client = fleet.client(&proxy).await;
    settled(&client, &fleet).await;
    client.batch_execute("begin read only").await.unwrap();
    assert!(reads_on(&client, fleet.replica.port()).await);
    fleet.replica.freeze();
    let lost = client.batch_execute("commit").await.unwrap_err();
    assert_eq!(lost.code().map(|code| code.code()), Some("40001"), "{lost}");
    assert!(reads_on(&client, fleet.primary.port()).await);
    fleet.replica.thaw();
}

#[tokio::test]
async fn the_console_shows_the_pools_for_reading() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet
        .proxy(&[primary, replica], "[reads]\nfrom = \"any\"")
        .await;
    let client = fleet.client(&proxy).await;
    let (mut there, mut here) = (false, false);
    until("both are read from", async || {
        there |= reads_on(&client, replica).await;
        here |= reads_on(&client, primary).await;
        there && here
    })
    .await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let row = fleet.host(&console, replica).await;
    assert_eq!(
        (row.get("reads"), row.get("pools")),
        (Some("yes"), Some("1"))
    );
    console.batch_execute("pause postgres").await.unwrap();
    console.batch_execute("resume postgres").await.unwrap();
    assert!(!client.one(WHERE).await.is_empty());
}

/// The ports on which so many reads have run.
async fn spread(client: &Client, reads: usize) -> Vec<u16> {
    let mut ports = Vec::with_capacity(reads);
    for _ in 0..reads {
        ports.push(client.one(WHERE).await.parse().unwrap());
    }
    ports
}

#[tokio::test]
async fn hosts_of_the_own_zone_are_read_from_while_they_can() {
    let fleet = Fleet::new().await;
    let mut near = fleet.primary.replica().await.unwrap();
    near.caught_up(&fleet.primary).await.unwrap();
    let far = fleet.replica.port();
    let ports = [fleet.primary.port(), far, near.port()];
    let more = format!(
        "host_settings = [{{ host = \"127.0.0.1:{far}\", zone = \"b\" }}, \
         {{ host = \"127.0.0.1:{}\", zone = \"a\" }}]\n\
         [pool]\nsize = 1\n\
         [reads]\nfrom = \"replicas\"\nzone = \"a\"",
        near.port()
    );
    let proxy = fleet.proxy(&ports, &more).await;
    let client = fleet.client(&proxy).await;
    until("reads go to the own zone", async || {
        reads_on(&client, near.port()).await
    })
    .await;
    assert_eq!(spread(&client, 40).await, [near.port(); 40]);
    // Somebody has its only connection.
    let other = fleet.client(&proxy).await;
    other.batch_execute("begin read only").await.unwrap();
    assert_eq!(other.one(WHERE).await, near.port().to_string());
    assert_eq!(spread(&client, 20).await, [far; 20]);
    other.batch_execute("commit").await.unwrap();
    // A connection goes back behind the answer.
    until("the own zone is read from again", async || {
        reads_on(&client, near.port()).await
    })
    .await;
    assert_eq!(spread(&client, 20).await, [near.port(); 20]);
    near.kill9();
    until("reads go elsewhere", async || reads_on(&client, far).await).await;
    assert_eq!(spread(&client, 20).await, [far; 20]);
    near.restart().await.unwrap();
    until("reads come back", async || {
        reads_on(&client, near.port()).await
    })
    .await;
}

#[tokio::test]
async fn hosts_are_read_from_by_their_weights() {
    let fleet = Fleet::new().await;
    let light = fleet.primary.replica().await.unwrap();
    light.caught_up(&fleet.primary).await.unwrap();
    let heavy = fleet.replica.port();
    let ports = [fleet.primary.port(), heavy, light.port()];
    let weights = |heavy_weight: u32, light_weight: u32| {
        format!(
            "host_settings = [{{ host = \"127.0.0.1:{heavy}\", weight = {heavy_weight} }}, \
             {{ host = \"127.0.0.1:{}\", weight = {light_weight} }}]\n\
             [reads]\nfrom = \"replicas\"\nstrategy = \"weighted\"",
            light.port()
        )
    };
    let proxy = fleet.proxy(&ports, &weights(9, 1)).await;
    let client = fleet.client(&proxy).await;
    let (mut on_heavy, mut on_light) = (false, false);
    until("both are read from", async || {
        on_heavy |= reads_on(&client, heavy).await;
        on_light |= reads_on(&client, light.port()).await;
        on_heavy && on_light
    })
    .await;
    let reads = spread(&client, 400).await;
    let few = reads.iter().filter(|port| **port == light.port()).count();
    // Forty are expected; this many off has a chance of less than one in a million.
    assert!((8..=80).contains(&few), "{few} of 400");
    let console = connect(&proxy.url("app", "pgherd")).await;
    assert_eq!(fleet.host(&console, heavy).await.get("weight"), Some("9"));
    proxy.rewrite(&fleet.config(&ports, &weights(0, 1)));
    console.batch_execute("reload").await.unwrap();
    assert_eq!(spread(&client, 60).await, [light.port(); 60]);
}
