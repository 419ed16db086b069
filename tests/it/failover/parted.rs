//! Connections that are lost without a word, logins while nobody knows yet that the primary is, and what pgherd needs of its
//! own machine meanwhile.

use std::time::Duration;

use pgherd_sandbox::{Account, Binaries, Home, Server};
use pgherd_tests::{Config, Proxy, Raw, connect, try_connect, until};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::fleet::Fleet;

/// A road to a server that can be closed: nothing passes then, and nobody is told. What was under way is forgotten over
/// there by the time it opens, which shows only to who says something.
struct Road {
    port: u16,
    open: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Road {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, is_open) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                links.spawn(pass(client, server, is_open.clone()));
            }
        });
        Self {
            port,
            open,
            _task: task,
        }
    }
}

async fn pass(mut client: TcpStream, server: u16, mut is_open: watch::Receiver<bool>) {
    let opens =
        async |is_open: &mut watch::Receiver<bool>| is_open.wait_for(|it| *it).await.is_ok();
    if !opens(&mut is_open).await {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = is_open.wait_for(|it| !*it) => drop(server),
    }
    if opens(&mut is_open).await {
        // What is not read makes a reset of the end.
        let _ = client.readable().await;
    }
}

const QUICK: &str = "[failover]\nprobe = \"100ms\"\nevidence = \"1s\"";

#[tokio::test]
async fn who_has_waited_meets_no_connection_that_was_lost_without_a_word() {
    const CLIENTS: usize = 4;
    let fleet = Fleet::new().await;
    let road = Road::to(fleet.primary.port()).await;
    let ports = [road.port, fleet.replica.port()];
    let more = format!("[pool]\nsize = {CLIENTS}\n{QUICK}");
    let proxy = fleet.proxy(&ports, &more).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
        // Each has a server to itself, which all lie idle behind that.
        assert_eq!(
            client.ask(&Raw::query("begin; select 1")).await,
            "C T D C ZT"
        );
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    }
    road.open.send_replace(false);
    proxy.logged("there is no primary", 1).await;
    for client in &mut clients {
        client
            .send(&Raw::query("insert into acked values (1)"))
            .await;
    }
    road.open.send_replace(true);
    for client in &mut clients {
        assert_eq!(client.ask(&[]).await, "C ZI");
    }
    let count = "select count(*) from acked";
    assert_eq!(fleet.primary.sql(count).await.unwrap(), CLIENTS.to_string());
}

/// A primary whose users prove themselves, and its replica.
async fn proving() -> Fleet {
    let rules = [
        "host replication all 127.0.0.1/32 trust",
        "host all mary 127.0.0.1/32 scram-sha-256",
        "host all all 127.0.0.1/32 trust",
        "local all all trust",
        "local replication all trust",
    ];
    let binaries = Binaries::find().expect("Postgres is needed");
    let primary = Server::builder(&binaries).auth(&rules).tls(true);
    let primary = primary.start().await.unwrap();
    primary
        .sql("create role app login superuser; create role mary login password 'mary'; create table acked (x int)")
        .await
        .unwrap();
    let replica = primary.replica().await.unwrap();
    replica.caught_up(&primary).await.unwrap();
    Fleet { primary, replica }
}

/// A login that begins while the primary is frozen, and nobody has noticed; then the replica is promoted.
async fn comes_in_meanwhile(fleet: &Fleet, proxy: &Proxy, url: String) {
    // So there are connections that lie idle.
    drop(try_connect(&proxy.url("mary", "postgres")).await.unwrap());
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.freeze();
    let login = tokio::spawn(async move { try_connect(&url).await });
    fleet.replica.promote().await.unwrap();
    let client = timeout(Duration::from_secs(20), login).await;
    let client = client.unwrap().unwrap().unwrap();
    assert_eq!(client.one("select session_user").await, "mary");
    fleet.primary.thaw();
}

fn config(fleet: &Fleet, auth: &str) -> Config {
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n{auth}\n[databases.postgres]\n\
         hosts = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n{QUICK}\nuser = \"app\"\n"
    ))
}

#[tokio::test]
async fn a_login_whose_lookup_meets_a_frozen_primary_waits_for_the_next() {
    let fleet = proving().await;
    let auth = "[auth]\nquery = \"select usename, passwd from pg_shadow where usename = $1\"\n\
                query_user = \"app\"\n[users.app]\npassword = \"app\"";
    let proxy = Proxy::start(&config(&fleet, auth)).await;
    let url = proxy.url("mary", "postgres");
    comes_in_meanwhile(&fleet, &proxy, url).await;
}

#[tokio::test]
async fn a_password_whose_server_is_frozen_is_proved_by_the_next_primary() {
    let fleet = proving().await;
    let auth = "[auth]\nmethod = \"passthrough\"\n[users.app]\npassword = \"app\"";
    let proxy = Proxy::start(&config(&fleet, auth)).await;
    let url = proxy.url("mary", "postgres");
    comes_in_meanwhile(&fleet, &proxy, url).await;
}

#[tokio::test]
async fn a_login_with_values_that_nobody_has_tried_waits_for_the_next_primary() {
    let fleet = proving().await;
    let auth = "[auth]\nmethod = \"trust\"\n[users.app]\npassword = \"app\"\n[users.mary]\npassword = \"mary\"";
    let proxy = Proxy::start(&config(&fleet, auth)).await;
    let url = proxy.url("mary", "postgres");
    let url = format!("{url}?options=-c%20TimeZone%3DAsia/Tokyo");
    comes_in_meanwhile(&fleet, &proxy, url).await;
}

#[tokio::test]
async fn who_calls_a_statement_off_while_its_server_is_looked_at_does_not_run_it_later() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet
        .proxy(&ports, "[timeouts]\nserver_check = \"1ms\"")
        .await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    // The catalogue is looked at behind the first.
    client.one("select 1").await;
    client.one("select 1").await;
    fleet.primary.freeze();
    // Only what was idle for the time that is set is looked at.
    sleep(Duration::from_millis(5)).await;
    client
        .send(&Raw::query("insert into acked values (1)"))
        .await;
    // Nothing shows when it is looked at: each of these that comes too early calls off nothing.
    let (port, key) = (proxy.port(), client.key.clone());
    let calls = tokio::spawn(async move {
        // It is looked at for five seconds.
        for _ in 0..20 {
            Raw::cancel(port, &key).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    let told = client.ready().await;
    let codes: Vec<_> = told
        .iter()
        .filter_map(|message| message.field('C'))
        .collect();
    assert_eq!(codes, ["57014"]);
    calls.await.unwrap();
    fleet.primary.thaw();
    until("writes go on", async || {
        client
            .ask(&Raw::query("insert into acked values (2)"))
            .await
            == "C ZI"
    })
    .await;
    assert_eq!(
        client
            .one("select string_agg(x::text, '') from acked")
            .await,
        "2"
    );
}

#[tokio::test]
async fn files_of_tls_that_are_not_usable_for_a_moment_keep_nobody_from_the_next_primary() {
    let mut fleet = proving().await;
    let authority = fleet.primary.certificate().unwrap().ca.clone();
    let authority = std::fs::read_to_string(authority).unwrap();
    let home = Home::new(Account::Own).unwrap();
    let ca = home.join("ca.crt");
    std::fs::write(&ca, &authority).unwrap();
    let auth = "[auth]\nmethod = \"trust\"\n[users.app]\npassword = \"app\"";
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n{auth}\n[databases.postgres]\n\
         hosts = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n\
         tls = {{ mode = \"verify-ca\", ca = {ca:?} }}\n"
    )))
    .await;
    let client = connect(&proxy.url("app", "postgres")).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
    fleet.primary.kill9();
    fleet.replica.promote().await.unwrap();
    client
        .batch_execute("insert into acked values (2)")
        .await
        .unwrap();
    proxy
        .logged("are not usable: what they were holds on", 1)
        .await;
}
