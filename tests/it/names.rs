//! Hosts that are given by names, which lead elsewhere as time goes by. Each proxy has an `/etc/hosts` of
//! its own, in a namespace of its own; that takes root.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use pgherd_sandbox::{Account, Home};
use pgherd_tests::{Client, Config, Proxy, connect, until};

use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::SimpleQueryMessage;

use super::failover::fleet::Fleet;

const NAME: &str = "db.pgherd.test";

/// Addresses of this machine that lead to servers: all on the same port, as a name says nothing of ports.
pub(super) struct Places {
    pub(super) port: u16,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Places {
    /// 127.0.0.2 leads to the server on the first of these ports, 127.0.0.3 to that on the second, …
    pub(super) async fn new(servers: &[u16]) -> Self {
        let mut places = Self {
            port: 0,
            tasks: Vec::new(),
        };
        for (at, server) in servers.iter().copied().enumerate() {
            let address = format!("127.0.0.{}:{}", at + 2, places.port);
            let socket = TcpListener::bind(address).await.unwrap();
            places.port = socket.local_addr().unwrap().port();
            places.tasks.push(tokio::spawn(lead(socket, server)));
        }
        places
    }
}

async fn lead(socket: TcpListener, server: u16) {
    while let Ok((mut near, _)) = socket.accept().await {
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

/// The hosts file of a proxy.
struct Hosts {
    path: PathBuf,
    _home: Home,
}

impl Hosts {
    /// One by which the name leads to these addresses; `None`, with the reason printed, where no process
    /// can be given one. Where tests must be whole, it has to be.
    fn new(last: &[u8]) -> Option<Self> {
        let tried = Command::new("unshare").args(["-m", "true"]).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            let why = "no mount namespace can be made (unshare -m), which takes root";
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {why}");
            return None;
        }
        let home = Home::new(Account::Own).unwrap();
        let hosts = Self {
            path: home.join("hosts"),
            _home: home,
        };
        hosts.lead(last);
        Some(hosts)
    }

    /// Has the name lead there from now on. It is written in one go and in place, always of one length, so
    /// that it is never seen half done.
    fn lead(&self, last: &[u8]) {
        let mut text = "127.0.0.1 localhost\n".to_owned();
        for last in last {
            text += &format!("127.0.0.{last} {NAME}\n");
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .unwrap();
        file.write_all(format!("{text:#<200}\n").as_bytes())
            .unwrap();
    }

    async fn proxy(&self, port: u16, more: &str) -> Proxy {
        self.proxy_that_resolves("\"200ms\"", port, more).await
    }

    async fn proxy_that_resolves(&self, resolve: &str, port: u16, more: &str) -> Proxy {
        let config = Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [auth]\nmethod = \"trust\"\n\
             [failover]\nresolve = {resolve}\n\
             [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
             [databases.postgres]\nhosts = [\"{NAME}:{port}\"]\n{more}\n"
        ));
        Proxy::start_by(&config, |command| {
            let mut inside = Command::new("unshare");
            inside
                .args(["-m", "sh", "-c"])
                .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
                .arg(&self.path)
                .arg(command.get_program())
                .args(command.get_args())
                .env_clear();
            let variables = command.get_envs();
            inside.envs(variables.filter_map(|(name, value)| Some((name, value?))));
            std::os::unix::process::CommandExt::process_group(&mut inside, 0);
            *command = inside;
        })
        .await
    }
}

/// What SHOW HOSTS says: the last number of each address, and these columns.
async fn shown<const N: usize>(console: &Client, columns: [&str; N]) -> Vec<(u8, [String; N])> {
    let rows = console.simple_query("show hosts").await.unwrap();
    let rows = rows.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let host = row.get("host").unwrap();
        let (address, _) = host.split_once(':').unwrap();
        let last = address.rsplit('.').next().unwrap();
        let value = |column| row.get(column).unwrap_or("").to_owned();
        (last.parse().unwrap_or(0), columns.map(value))
    })
    .collect()
}

async fn writer(console: &Client) -> Option<u8> {
    let hosts = shown(console, ["writer", "role"]).await;
    let writes = |(last, said): &(u8, [String; 2])| (*said == ["yes", "primary"]).then_some(*last);
    hosts.iter().find_map(writes)
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_followed_and_the_old_server_left() {
    let Some(hosts) = Hosts::new(&[2]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let proxy = hosts.proxy(places.port, "").await;
    let client = fleet.client(&proxy).await;
    let busy = fleet.client(&proxy).await;
    client
        .batch_execute("set application_name = 'mine'; insert into acked values (1)")
        .await
        .unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("the host was looked at", async || {
        writer(&console).await == Some(2)
    })
    .await;
    busy.batch_execute("begin; insert into acked values (2)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    // The old primary lives on, and would take any write.
    fleet.replica.promote().await.unwrap();
    hosts.lead(&[3]);
    until("writes go elsewhere", async || {
        writer(&console).await == Some(3)
    })
    .await;
    for value in 3..8 {
        let insert = format!("insert into acked values ({value})");
        client.batch_execute(&insert).await.unwrap();
    }
    assert_eq!(client.one("show application_name").await, "mine");
    assert_eq!(
        busy.refused("insert into acked values (9)").await.0,
        "40001"
    );
    busy.batch_execute("rollback").await.unwrap();
    let rows = |server: &pgherd_sandbox::Server| {
        let sql = "select string_agg(x::text, ' ' order by x) from acked".to_owned();
        let server = server.url("postgres", "postgres");
        async move { connect(&server).await.one(&sql).await }
    };
    assert_eq!(rows(&fleet.primary).await, "1");
    assert_eq!(rows(&fleet.replica).await, "1 3 4 5 6 7");
    // And a name that goes back to what was replaced is not followed there.
    hosts.lead(&[2]);
    until("the old primary was looked at", async || {
        let hosts = shown(&console, ["health"]).await;
        hosts.contains(&(2, ["fenced".to_owned()]))
    })
    .await;
    client
        .batch_execute("insert into acked values (10)")
        .await
        .unwrap();
    assert_eq!(rows(&fleet.primary).await, "1");
}

#[tokio::test]
async fn a_name_that_leaves_a_frozen_server_takes_everybody_along() {
    let Some(hosts) = Hosts::new(&[2]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let proxy = hosts.proxy(places.port, "").await;
    let client = fleet.client(&proxy).await;
    let busy = fleet.client(&proxy).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    until("the host was looked at", async || {
        writer(&console).await == Some(2)
    })
    .await;
    busy.batch_execute("begin; insert into acked values (2)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.freeze();
    let stuck = tokio::spawn(async move {
        let lost = busy.refused("insert into acked values (3)").await.0;
        busy.batch_execute("rollback").await.unwrap();
        lost
    });
    until("it is known that nobody answers", async || {
        writer(&console).await.is_none()
    })
    .await;
    let asked = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (4)")
            .await
            .unwrap();
    });
    fleet.replica.promote().await.unwrap();
    hosts.lead(&[3]);
    asked.await.unwrap();
    assert_eq!(stuck.await.unwrap(), "40001");
    assert_eq!(writer(&console).await, Some(3));
    fleet.primary.thaw();
    let rows = fleet
        .replica
        .sql("select x from acked order by x")
        .await
        .unwrap();
    assert_eq!(rows, "1\n4");
}

#[tokio::test]
async fn each_address_of_a_name_is_a_host_and_one_server_at_two_is_one() {
    // 127.0.0.2 and 127.0.0.4 are the primary.
    let Some(hosts) = Hosts::new(&[4, 3, 2]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let places = Places::new(&[primary, replica, primary]).await;
    let proxy = hosts.proxy(places.port, "").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("all hosts were looked at", async || {
        let mut hosts = shown(&console, ["role", "health"]).await;
        hosts.sort();
        let well = |role: &str| [role.to_owned(), "well".to_owned()];
        hosts
            == [
                (2, well("primary")),
                (3, well("replica")),
                (4, well("primary")),
            ]
    })
    .await;
    assert!(matches!(writer(&console).await, Some(2 | 4)));
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.replica.promote().await.unwrap();
    until("writes go to the new primary", async || {
        writer(&console).await == Some(3)
    })
    .await;
    client
        .batch_execute("insert into acked values (2)")
        .await
        .unwrap();
    let rows = fleet.primary.sql("select count(*) from acked").await;
    assert_eq!(rows.unwrap(), "1");
}

/// Where names are not followed, a connection stays where its name has led once, and so do its cancels.
#[tokio::test]
async fn a_cancel_goes_where_its_connection_leads_whatever_the_name_does() {
    let Some(hosts) = Hosts::new(&[2]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let proxy = hosts.proxy_that_resolves("0", places.port, "").await;
    let client = fleet.client(&proxy).await;
    let cancel = client.cancel_token();
    let asked = tokio::spawn(async move { client.refused("select pg_sleep(60)").await.0 });
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    until("it sleeps", async || {
        fleet.primary.sql(sleeping).await.unwrap() == "1"
    })
    .await;
    hosts.lead(&[3]);
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    until("it is cancelled", async || asked.is_finished()).await;
    assert_eq!(asked.await.unwrap(), "57014");
}

/// What waits for a standby is asked of the server that would be cancelled.
#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_left_alone_whatever_the_name_does() {
    let Some(hosts) = Hosts::new(&[2]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let more = "[timeouts]\nquery = \"1s\"";
    let proxy = hosts.proxy_that_resolves("0", places.port, more).await;
    let client = fleet.client(&proxy).await;
    assert_eq!(client.one("select 1").await, "1");
    for sql in [
        "set synchronous_commit = local",
        "alter system set synchronous_standby_names = 'nobody'",
        "select pg_reload_conf()",
    ] {
        fleet.primary.sql(sql).await.unwrap();
    }
    until("it is so", async || {
        let names = fleet.primary.sql("show synchronous_standby_names").await;
        names.unwrap() == "nobody"
    })
    .await;
    let text = "begin; insert into acked values (1); commit";
    let asked = tokio::spawn(async move { client.batch_execute(text).await });
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("it waits", async || {
        fleet.primary.sql(waits).await.unwrap() == "1"
    })
    .await;
    hosts.lead(&[3]);
    // Its time is up more than once.
    fleet.primary.sql("select pg_sleep(4)").await.unwrap();
    assert_eq!(fleet.primary.sql(waits).await.unwrap(), "1");
    assert!(!asked.is_finished());
    asked.abort();
}

#[tokio::test]
async fn a_name_may_be_that_of_a_replica_alone() {
    let Some(hosts) = Hosts::new(&[3]) else {
        return;
    };
    let fleet = Fleet::new().await;
    let places = Places::new(&[fleet.primary.port(), fleet.replica.port()]).await;
    let proxy = hosts.proxy(places.port, "").await;
    let client = fleet.client(&proxy).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("the host was looked at", async || {
        shown(&console, ["role"]).await == [(3, ["replica".to_owned()])]
    })
    .await;
    assert_eq!(client.one("select pg_is_in_recovery()").await, "t");
    assert_eq!(
        client.refused("insert into acked values (1)").await.0,
        "25006"
    );
}

/// Nothing leads there. What was not looked up yet is no reason to leave the others.
#[tokio::test]
async fn a_reload_that_adds_a_host_by_its_name_cuts_nothing_off() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("begin; insert into acked values (1)")
        .await
        .unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    let mut hosts: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).into();
    hosts.push("db3.pgherd.invalid:5432".to_owned());
    proxy.rewrite(&fleet.config_of(&hosts, ""));
    console.batch_execute("reload").await.unwrap();
    until("the name was looked up", async || {
        console.column("show hosts").await.unwrap().len() == 3
    })
    .await;
    client
        .batch_execute("insert into acked values (2); commit")
        .await
        .unwrap();
    let rows = fleet.primary.sql("select count(*) from acked").await;
    assert_eq!(rows.unwrap(), "2");
}
