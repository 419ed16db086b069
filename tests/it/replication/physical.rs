//! Backups, standbys and receivers of WAL.

use pgherd_sandbox::{Account, Home, free_port};
use pgherd_tests::{Config, Proxy, run, until};
use rustix::process::Signal;

use super::rig::{
    Restored, Running, config_at, database, program, senders, server, stop, wait_for_senders,
};

#[tokio::test]
async fn a_standby_is_made_and_streams_and_outlives_the_proxy() {
    let server = server().await;
    let database = database(server).await;
    let name = &database.name;
    let count = "select count(*) from goods";
    server
        .sql_in(
            name,
            "create table goods as select generate_series(1, 1000) as a",
        )
        .await
        .unwrap();
    let port = free_port();
    let proxy = Proxy::start(&config_at(&database, port)).await;
    let mut backup = program(server, "pg_basebackup", port, "standby_of_a_test");
    backup.args(["-X", "stream", "--checkpoint=fast", "--no-sync"]);
    backup.arg("--write-recovery-conf");
    let mut standby = Restored::from_backup(backup, server).await;
    assert_eq!(standby.sql(name, count).await, "1000");
    wait_for_senders(server, "standby_of_a_test", 1).await;
    server
        .sql_in(name, "insert into goods select generate_series(1, 50000)")
        .await
        .unwrap();
    until("the standby has the rows", async || {
        standby.sql(name, count).await == "51000"
    })
    .await;
    stop(proxy).await;
    let told = "replication terminated by primary server";
    until("the standby has noticed", async || {
        standby.log().contains(told)
    })
    .await;
    server
        .sql_in(name, "insert into goods values (0)")
        .await
        .unwrap();
    let _proxy = Proxy::start(&config_at(&database, port)).await;
    until("the standby has caught up", async || {
        standby.sql(name, count).await == "51001"
    })
    .await;
    standby.kill();
    wait_for_senders(server, "standby_of_a_test", 0).await;
}

#[tokio::test]
async fn a_backup_with_its_wal_is_a_server() {
    let server = server().await;
    let database = database(server).await;
    let name = &database.name;
    server
        .sql_in(
            name,
            "create table goods as select generate_series(1, 1000) as a",
        )
        .await
        .unwrap();
    let proxy = Proxy::before(&database, "").await;
    let mut backup = program(server, "pg_basebackup", proxy.port(), "backup_of_a_test");
    backup.args(["-X", "stream", "--checkpoint=fast", "--no-sync"]);
    let restored = Restored::from_backup(backup, server).await;
    let sql = "insert into goods values (0); select count(*) from goods";
    assert_eq!(restored.sql(name, sql).await, "1001");
    assert_eq!(senders(server, "backup_of_a_test").await, 0);
}

#[tokio::test]
async fn wal_is_received_with_a_slot_and_confirmed_at_once() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let home = Home::new(Account::choose()).unwrap();
    let receiver = |more: &[&str]| {
        let mut receiver = program(server, "pg_receivewal", proxy.port(), "wal_of_a_test");
        receiver.args(["--slot", "wal_of_a_test"]).args(more);
        receiver
    };
    run(receiver(&["--create-slot"]), "").await.success();
    let mut synchronous = receiver(&["--synchronous", "--no-loop", "--directory"]);
    synchronous.arg(home.path());
    let running = Running::start(synchronous);
    wait_for_senders(server, "wal_of_a_test", 1).await;
    let commit = "create table goods (a int); insert into goods values (1); \
                  select pg_current_wal_lsn()";
    let lsn = server.sql_in(&database.name, commit).await.unwrap();
    let flushed = format!(
        "select flush_lsn >= '{lsn}' from pg_stat_replication \
         where application_name = 'wal_of_a_test'"
    );
    until("it is confirmed", async || {
        server.sql(&flushed).await.unwrap() == "t"
    })
    .await;
    let kept = format!(
        "select restart_lsn >= '{lsn}' from pg_replication_slots where slot_name = 'wal_of_a_test'"
    );
    assert_eq!(server.sql(&kept).await.unwrap(), "t");
    running.signal(Signal::INT);
    let (code, errors) = running.end().await;
    assert_eq!(code, 0, "{errors}");
    wait_for_senders(server, "wal_of_a_test", 0).await;
    let files = std::fs::read_dir(home.path()).unwrap().count();
    assert!(files > 0, "nothing was received");
    run(receiver(&["--drop-slot"]), "").await.success();
}

#[tokio::test]
async fn a_password_that_only_the_server_knows_is_passed_through() {
    let server = server().await;
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"passthrough\"\n\
         [databases.\"*\"]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    );
    let proxy = Proxy::start(&Config::text(text)).await;
    for (password, code) in [("scram", 0), ("wrong", 2)] {
        let mut psql = program(server, "psql", proxy.port(), "");
        let target = "user=scram dbname=replication replication=true";
        psql.env("PGPASSWORD", password);
        psql.args(["-X", "-c", "IDENTIFY_SYSTEM", target]);
        let output = run(psql, "").await;
        assert_eq!(output.code, code, "{output:?}");
    }
}

#[tokio::test]
async fn where_there_are_several_servers_one_must_be_named() {
    let server = server().await;
    let database = database(server).await;
    let name = &database.name;
    let elsewhere = "[databases.elsewhere]\nhosts = [\"127.0.0.1:1\"]\n";
    let proxy = Proxy::before(&database, elsewhere).await;
    let identify = |proxy: &Proxy, database: &str| {
        let mut psql = program(server, "psql", proxy.port(), "");
        let target = format!("dbname={database} replication=true");
        psql.args(["-X", "-A", "-t", "-c", "IDENTIFY_SYSTEM", &target]);
        run(psql, "")
    };
    let refused = identify(&proxy, "replication").await;
    assert_eq!(refused.code, 2);
    let hint = "For standbys, which cannot, add [databases.replication]";
    assert!(refused.err.contains(hint), "{}", refused.err);
    let system = server
        .sql("select system_identifier from pg_control_system()")
        .await
        .unwrap();
    let named = identify(&proxy, name).await;
    assert!(named.success().starts_with(&system), "{named:?}");
    let port = server.port();
    let own = format!("{elsewhere}[databases.replication]\nhosts = [\"127.0.0.1:{port}\"]\n");
    let proxy = Proxy::before(&database, &own).await;
    let led = identify(&proxy, "replication").await;
    assert!(led.success().starts_with(&system), "{led:?}");
}
