//! The command line, and what signals do.

use std::process::Command;
use std::time::{Duration, Instant};

use pgherd_sandbox::free_port;
use pgherd_tests::{
    Config, Database, Output, Proxy, Raw, connect, executable, run, try_connect, until,
};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::console::get;
use super::failover::fleet::Fleet;

/// Runs pgherd to its end in a clean environment.
async fn pgherd(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(executable());
    command
        .env_clear()
        .args(arguments)
        .envs(variables.iter().copied());
    run(command, "").await
}

#[tokio::test]
async fn a_url_is_enough() {
    let database = Database::new().await;
    let url = database.url("scram");
    let by_argument = Proxy::by_hand(|command, port| {
        command.args([&*url, "--port", &port.to_string()]);
    })
    .await;
    let by_variable = Proxy::by_hand(|command, port| {
        command
            .env("DATABASE_URL", &url)
            .args(["--listen", &format!("127.0.0.1:{port}")]);
    })
    .await;
    for proxy in [&by_argument, &by_variable] {
        let client = proxy.client("scram", &database).await;
        assert_eq!(client.one("select current_user").await, "scram");
        let wrong = format!(
            "postgres://scram:wrong@127.0.0.1:{}/{}",
            proxy.port(),
            database.name
        );
        assert_eq!(try_connect(&wrong).await.map(drop).unwrap_err().0, "28P01");
    }
}

#[tokio::test]
async fn variables_overrule_the_file() {
    let database = Database::new().await;
    let url = database.url("app");
    let proxy = Proxy::by_hand(|command, port| {
        command
            .args([&*url, "--port", &port.to_string()])
            .env("PGHERD_POOL__SIZE", "1");
    })
    .await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let pid = "select pg_backend_pid()";
    assert_eq!(first.one(pid).await, second.one(pid).await);
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let dir = tempfile();
    let file = dir.join("pgherd.toml");
    let text = "[pool]\nsise = 5\nmode = \"sometimes\"\n[timeouts]\nquery = \"soon\"\n\
                [databases.a]\nhosts = [\"127.0.0.1:1\"]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [&["--config", file][..], &["check", "--config", file]] {
        let output = pgherd(arguments, &[]).await;
        assert_eq!(output.code, 78, "{output:?}");
        for word in [
            "sise",
            "size",
            "sometimes",
            "transaction",
            "soon",
            "pgherd.toml:2",
            "pgherd.toml:5",
        ] {
            assert!(output.err.contains(word), "{word}: {}", output.err);
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// A directory of its own.
fn tempfile() -> std::path::PathBuf {
    let dir =
        std::env::temp_dir().join(format!("pgherd-it-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir(&dir).unwrap();
    dir
}

#[tokio::test]
async fn failures_have_their_exit_codes() {
    let none = pgherd(&[], &[]).await;
    assert_eq!(none.code, 78, "{none:?}");
    assert!(none.err.contains("DATABASE_URL"), "{}", none.err);
    let missing = pgherd(&["--config", "/nowhere/pgherd.toml"], &[]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let busy = pgherd(&["postgres://a:b@127.0.0.1:1/a", "--port", &port], &[]).await;
    assert_eq!(busy.code, 69, "{busy:?}");
    assert!(busy.err.contains(&port), "{}", busy.err);
    assert_eq!(pgherd(&["--nonsense"], &[]).await.code, 2);
}

#[tokio::test]
async fn check_tells_whether_the_servers_can_be_reached() {
    let database = Database::new().await;
    let right = database.url("scram");
    assert_eq!(pgherd(&["check", &right], &[]).await.code, 0);
    assert_eq!(pgherd(&["check", "--connect", &right], &[]).await.code, 0);
    let wrong = right.replace("scram:scram", "scram:wrong");
    assert_eq!(pgherd(&["check", &wrong], &[]).await.code, 0);
    let refused = pgherd(&["check", "--connect", &wrong], &[]).await;
    assert_eq!(refused.code, 69, "{refused:?}");
    let nobody = format!("postgres://a:b@127.0.0.1:{}/a", free_port());
    assert_eq!(pgherd(&["check", "--connect", &nobody], &[]).await.code, 69);
}

/// Who may not see what replicas receive hears late of their new timeline.
#[tokio::test]
async fn who_looks_and_may_not_see_all_is_told_what_helps() {
    const ADVICE: &str = "GRANT pg_monitor TO \"app\"";
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let allow = async |sql: &str| {
        fleet.primary.sql(sql).await.unwrap();
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
    };
    allow("alter role app nosuperuser").await;
    let proxy = fleet.proxy(&[primary, replica], "").await;
    proxy.logged("GRANT pg_monitor", 1).await;
    let file = proxy.path("pgherd.toml");
    let check = ["check", "--connect", "--config", file.to_str().unwrap()];
    let output = pgherd(&check, &[]).await;
    assert_eq!(output.code, 0, "{output:?}");
    for port in [primary, replica] {
        let warns = |line: &str| line.contains(&format!(":{port}")) && line.contains(ADVICE);
        assert!(output.err.lines().any(warns), "{}", output.err);
    }
    allow("grant pg_monitor to app").await;
    let output = pgherd(&check, &[]).await;
    assert_eq!(
        (output.code, output.err.contains("pg_monitor")),
        (0, false),
        "{output:?}"
    );
    // It was said once, however often it was looked.
    assert_eq!(proxy.log().matches("GRANT pg_monitor").count(), 1);
    // What one server alone receives is of no interest.
    let alone = format!("postgres://app:app@127.0.0.1:{primary}/postgres");
    allow("revoke pg_monitor from app").await;
    let output = pgherd(&["check", "--connect", &alone], &[]).await;
    assert_eq!(
        (output.code, output.err.contains("pg_monitor")),
        (0, false),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_hangup_puts_the_file_in_force_and_keeps_connections() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let holder = proxy.client("app", &database).await;
    let other = proxy.client("app", &database).await;
    holder.batch_execute("begin read write").await.unwrap();
    let pid = holder.one("select pg_backend_pid()").await;
    let waiting = tokio::spawn(async move {
        let pid = other.one("select pg_backend_pid()").await;
        (other, pid)
    });
    proxy.rewrite(&Config::before(&database, "[pool]\nsize = 2"));
    proxy.signal(Signal::HUP);
    let (other, second) = waiting.await.unwrap();
    assert_ne!(second, pid);
    proxy.rewrite(&Config::before(&database, "[pool]\nsize = \"many\""));
    proxy.signal(Signal::HUP);
    until("it is refused", async || {
        proxy.log().contains("the configuration stays as it was")
    })
    .await;
    assert_eq!(other.one("select 1").await, "1");
    assert_eq!(holder.one("select pg_backend_pid()").await, pid);
    holder.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn a_hangup_writes_each_change_to_the_log() {
    let database = Database::new().await;
    let text = |more: &str| Config::before(&database, more);
    let proxy = Proxy::start(&text(
        "[metrics]\npath = \"/old\"\n[users.guest]\npassword = \"hunter2\"",
    ))
    .await;
    proxy.rewrite(&text(
        "[metrics]\npath = \"/new\"\n[users.guest]\npassword = \"hunter3\"\n[pool]\nsize = 7",
    ));
    proxy.signal(Signal::HUP);
    let change = |setting: &str, old: &str, new: &str, holds: &str| {
        format!(
            "setting changed setting=\"{setting}\" old=\"{old}\" new=\"{new}\" holds=\"{holds}\""
        )
    };
    for line in [
        change("metrics.path", "/old", "/new", "at next start"),
        change("pool.size", "20", "7", "now"),
        change(
            "users.guest.password",
            "********",
            "********",
            "for new connections",
        ),
    ] {
        proxy.logged(&line, 1).await;
    }
    proxy.logged("configuration reloaded changes=3", 1).await;
    assert!(!proxy.log().contains("hunter"));
}

#[tokio::test]
async fn a_termination_lets_transactions_end() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "").await;
    let mut idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut busy = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(busy.ask(&Raw::query("begin read write")).await, "C ZT");
    proxy.signal(Signal::TERM);
    let farewell = idle.message().await;
    assert_eq!(farewell.field('C').as_deref(), Some("57P01"));
    assert!(!proxy.ended());
    assert_eq!(busy.one("select 1").await, "1");
    // Who comes now is told so, and who is there may cancel.
    let (code, _) = try_connect(&proxy.url("app", &database.name))
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(code, "57P03");
    busy.send(&Raw::query("select pg_sleep(3600)")).await;
    let sleeping = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and wait_event = 'PgSleep'",
        database.name
    );
    until("it sleeps", async || database.sql(&sleeping).await == "1").await;
    Raw::cancel(proxy.port(), &busy.key).await;
    assert_eq!(busy.ask(&[]).await, "T E57014 ZE");
    busy.send(&Raw::query("commit")).await;
    busy.ready().await;
    assert_eq!(busy.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(proxy.wait().await.code(), Some(0));
}

/// Who is told to go comes again at once, and health checks come all the time.
#[tokio::test]
async fn a_termination_waits_for_nobody_who_comes_behind_it() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "[timeouts]\nshutdown = \"20s\"").await;
    let mut idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let port = proxy.port();
    let comers = tokio::spawn(async move {
        loop {
            if let Ok(comer) = TcpStream::connect(("127.0.0.1", port)).await {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(200)).await;
                    drop(comer);
                });
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(idle.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(proxy.wait().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(6));
    comers.abort();
}

#[tokio::test]
async fn a_second_termination_is_at_once() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "").await;
    let mut busy = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(busy.ask(&Raw::query("begin read write")).await, "C ZT");
    proxy.signal(Signal::TERM);
    assert_eq!(idle.message().await.field('C').as_deref(), Some("57P01"));
    proxy.signal(Signal::TERM);
    assert_eq!(busy.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(proxy.wait().await.code(), Some(0));
    until("nothing is left", async || {
        database.backends("app").await == 0
    })
    .await;
}

/// Whoever leads clients here, such as Kubernetes, hears by `/readyz` that no more are wanted, and leads some here until then.
#[tokio::test]
async fn a_termination_is_announced_while_clients_are_served() {
    let database = Database::new().await;
    let http = free_port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{http}\"\n[drain]\ndelay = \"1h\"");
    let mut proxy = Proxy::before(&database, &more).await;
    let mut idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    until("it is ready", async || get(http, "/readyz").await.0 == 200).await;
    proxy.signal(Signal::TERM);
    until("it is not ready", async || {
        get(http, "/readyz").await.0 == 503
    })
    .await;
    assert_eq!(get(http, "/healthz").await.0, 200);
    assert_eq!(idle.one("select 1").await, "1");
    let mut comer = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(comer.ask(&Raw::query("begin read write")).await, "C ZT");
    // The second signal ends the delay, and no more than that.
    proxy.signal(Signal::INT);
    assert_eq!(idle.message().await.field('C').as_deref(), Some("57P01"));
    let late = try_connect(&proxy.url("app", &database.name)).await;
    assert_eq!(late.map(drop).unwrap_err().0, "57P03");
    assert_eq!(comer.one("select 1").await, "1");
    comer.send(&Raw::query("commit")).await;
    comer.ready().await;
    assert_eq!(comer.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(proxy.wait().await.code(), Some(0));
}

#[tokio::test]
async fn an_announced_termination_begins_by_itself() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "[drain]\ndelay = \"500ms\"").await;
    let mut idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(idle.message().await.field('C').as_deref(), Some("57P01"));
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(proxy.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_console_that_does_not_read_holds_no_termination_up() {
    let database = Database::new().await;
    // Longer than a test waits for an end.
    let mut proxy = Proxy::before(&database, "[timeouts]\nshutdown = \"5m\"").await;
    let mut deaf = Raw::login(proxy.port(), "app", "pgherd", &[]).await;
    // More than the sockets hold.
    let query = Raw::query(&"show config;".repeat(5000));
    deaf.send(&query).await;
    assert_eq!(deaf.message().await.tag, 'T');
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_grace_time_that_is_over_ends_transactions() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "[timeouts]\nshutdown = \"300ms\"").await;
    let mut busy = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(busy.ask(&Raw::query("begin read write")).await, "C ZT");
    proxy.signal(Signal::TERM);
    assert_eq!(busy.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(proxy.wait().await.code(), Some(0));
}

#[tokio::test]
async fn the_demo_answers_and_leaves_nothing_behind() {
    let mut demo = Proxy::by_hand(|command, port| {
        command.args(["demo", "--port", &port.to_string()]);
    })
    .await;
    let children = |pid: u32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let servers: Vec<String> = children(demo.pid())
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert!(servers.len() >= 2, "{servers:?}");
    let client = connect(&format!(
        "postgres://demo:demo@127.0.0.1:{}/demo",
        demo.port()
    ))
    .await;
    assert_eq!(client.one("select count(*) > 0 from animals").await, "t");
    let data: Vec<String> = servers
        .iter()
        .filter_map(|server| data_directory(server))
        .collect();
    assert_eq!(data.len(), 2, "{data:?}");
    // The primary is taken away, and whoever works goes on: here, and those who work for the demo. Twice, since
    // what became of a commit is harder to tell behind the second time.
    let before = client.one("select inet_server_port()").await;
    for round in 1..=2 {
        demo.signal(Signal::USR1);
        demo.logged("\nfailover: ", round).await;
        let log = demo.log();
        let told = log.lines().rfind(|line| line.starts_with("failover: "));
        let told = told.unwrap_or_default();
        assert!(told.contains(" s, 0 errors, "), "{told}");
        assert!(told.ends_with(" writes acknowledged, all there"), "{told}");
        client
            .batch_execute("update animals set name = 'Zora' where id = 1")
            .await
            .unwrap();
        let port = client.one("select inet_server_port()").await;
        assert_eq!(port == before, round == 2, "{port}");
        demo.logged("\nIt follows.", round).await;
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().await.code(), Some(0));
    for directory in data {
        assert!(!std::path::Path::new(&directory).exists(), "{directory}");
    }
    for server in servers {
        let left = std::path::Path::new("/proc").join(&server).exists();
        assert!(!left, "process {server} is left");
    }
}

/// What a server was told by `-D`.
fn data_directory(server: &str) -> Option<String> {
    let command = std::fs::read_to_string(format!("/proc/{server}/cmdline")).ok()?;
    let mut words = command.split('\0').skip_while(|word| *word != "-D");
    words.nth(1).map(str::to_owned)
}
