//! Servers that say of themselves what Aurora's instances say. It is an imitation: a primary and its standby of the sandbox,
//! with functions of Aurora's names that tell what a table has, and without those that Aurora refuses. What real instances
//! do was not tried.

use std::time::Duration;

use pgherd_sandbox::Server;
use pgherd_tests::{Client, connect, until};

use super::failover::fleet::Fleet;
use super::names::Places;

/// The functions, which a standby has too. An instance is known by the port of its server; its own row has no time of an
/// update, and its place is that of its log. What Aurora refuses is refused to everybody but a superuser.
const IMITATION: &str = "
    create schema imitation;
    create table imitation.instances (port text, id text, session text);
    create function pg_catalog.aurora_version() returns text language sql
        as $$ select '15.4.0' $$;
    create function pg_catalog.aurora_db_instance_identifier() returns text language sql stable
        as $$ select id from imitation.instances where port = current_setting('port') $$;
    create function pg_catalog.aurora_replica_status(
        out server_id text, out session_id text, out durable_lsn bigint,
        out replica_lag_in_msec double precision, out last_update_timestamp timestamptz)
        returns setof record language sql security definer volatile as $$
            select id, session, case when port <> current_setting('port') then 1
                when pg_is_in_recovery() then pg_last_wal_replay_lsn() - '0/0'::pg_lsn
                else pg_current_wal_flush_lsn() - '0/0'::pg_lsn end::bigint,
                12.5, case when port <> current_setting('port') then clock_timestamp() end
            from imitation.instances $$;
    revoke execute on function pg_walfile_name(pg_lsn), pg_last_wal_receive_lsn(),
        pg_current_wal_insert_lsn(), pg_control_system() from public;
    alter role app nosuperuser;
    grant usage on schema imitation to app;
    grant select on imitation.instances to app;
    grant all on acked to app";

/// Two instances, of which the primary's is the writer, by these names.
async fn instances(names: [&str; 2]) -> Fleet {
    let fleet = Fleet::new().await;
    let all = format!(
        "{IMITATION}; insert into imitation.instances values \
         ('{}', '{}', 'MASTER_SESSION_ID'), ('{}', '{}', '5c0f7e1a')",
        fleet.primary.port(),
        names[0],
        fleet.replica.port(),
        names[1]
    );
    fleet.primary.sql(&all).await.unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet
}

/// The replica is promoted, and says so.
async fn promote(replica: &Server) {
    replica.promote().await.unwrap();
    let tell = format!(
        "update imitation.instances set session = case when port = '{}' then 'MASTER_SESSION_ID' else 'a' end",
        replica.port()
    );
    replica.sql(&tell).await.unwrap();
}

async fn insert(client: &Client, value: u32) {
    let text = format!("insert into acked values ({value})");
    client.batch_execute(&text).await.unwrap();
}

async fn acked(server: &Server) -> String {
    let text = "select string_agg(x::text, ' ' order by x) from acked";
    server.sql(text).await.unwrap()
}

const READS: &str = "[reads]\nfrom = \"replicas\"\n";

#[tokio::test]
async fn an_instance_leads_to_all_others_and_their_failover_is_a_pause() {
    let mut fleet = instances(["2", "3"]).await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let port = places.port;
    let proxy = pgherd_tests::Proxy::start(&pgherd_tests::Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.2:{port}\"]\n\
         aurora = \"127.0.0.?:{port}\"\n\
         host_settings = [{{ host = \"127.0.0.3:{port}\", zone = \"b\" }}]\n{READS}"
    )))
    .await;
    let client = fleet.client(&proxy).await;
    insert(&client, 1).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let names = format!("127.0.0.3:{port} 3 b");
    until("the other instance is found", async || {
        let hosts = console
            .rows("show hosts", ["host", "instance", "zone"])
            .await;
        hosts.iter().any(|host| host.join(" ") == names)
    })
    .await;
    let reader = fleet.replica.port().to_string();
    until("reads go to the reader", async || {
        client.one("select inet_server_port()").await == reader
    })
    .await;
    // What it has written itself is there for it at once, wherever it reads.
    for value in 2..20 {
        insert(&client, value).await;
        let highest = client.one("select max(x) from acked").await;
        assert_eq!(highest, value.to_string());
    }
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    // Between them stands one more, so what is sent at once may be sent to nobody, and is unknown then.
    until("the writer is missed", async || {
        let writers = console.rows("show hosts", ["writer"]).await;
        writers.iter().all(|[writes]| writes == "no")
    })
    .await;
    let asked = tokio::spawn(async move {
        insert(&client, 50).await;
        client
    });
    promote(&fleet.replica).await;
    let client = tokio::time::timeout(Duration::from_secs(10), asked).await;
    let client = client.expect("it goes on").unwrap();
    insert(&client, 51).await;
    assert!(acked(&fleet.replica).await.ends_with("19 50 51"));
    let epochs = console.rows("show epochs", ["epoch", "writer"]).await;
    let last = epochs.last().unwrap().join(" ");
    assert_eq!(
        last,
        format!("1.1 127.0.0.3:{port}"),
        "no timeline has risen"
    );
}

#[tokio::test]
async fn the_last_to_become_writable_is_the_writer_however_sure_the_other_is() {
    let fleet = instances(["shop-1", "shop-2"]).await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, READS).await;
    let client = fleet.client(&proxy).await;
    insert(&client, 1).await;
    // It was seen to be a reader after the other was seen to be the writer.
    let port = "select inet_server_port()";
    until("the reader has it", async || {
        client.one(port).await == ports[1].to_string()
    })
    .await;
    // The former one goes on saying that it is the writer.
    promote(&fleet.replica).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("writes go to the new one", async || {
        fleet.host(&console, ports[1]).await.get("writer") == Some("yes")
    })
    .await;
    insert(&client, 2).await;
    assert_eq!(acked(&fleet.replica).await, "1 2");
    assert_eq!(acked(&fleet.primary).await, "1");
    let former = fleet.host(&console, ports[0]).await;
    assert_eq!(
        (former.get("health"), former.get("instance")),
        (Some("fenced"), Some("shop-1"))
    );
    assert_eq!(client.one(port).await, ports[1].to_string());
}

#[tokio::test]
async fn instances_that_do_not_know_each_other_are_no_cluster() {
    let fleet = instances(["shop-1", "shop-2"]).await;
    let stranger = Fleet::new().await;
    let told = format!(
        "{IMITATION}; insert into imitation.instances values ('{}', 'other-1', 'MASTER_SESSION_ID')",
        stranger.primary.port()
    );
    stranger.primary.sql(&told).await.unwrap();
    let ports = [fleet.primary.port(), stranger.primary.port()];
    let more = format!("[timeouts]\nhold = \"1s\"\n{READS}");
    let proxy = fleet.proxy(&ports, &more).await;
    let client = fleet.client(&proxy).await;
    insert(&client, 1).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("the stranger is refused", async || {
        fleet.host(&console, ports[1]).await.get("health") == Some("fenced")
    })
    .await;
    insert(&client, 2).await;
    assert_eq!(acked(&fleet.primary).await, "1 2");
    assert_eq!(acked(&stranger.primary).await, "");
}
