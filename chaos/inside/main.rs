//! Chaos within: a proxy in this process, whose actors are made to panic while clients work.

use std::sync::Arc;
use std::time::Duration;

use pgherd_actors::config::ConfigMessage;
use pgherd_actors::facts::Facts;
use pgherd_actors::pool::{Pool, PoolKey, PoolMessage};
use pgherd_actors::router::RouterMessage;
use pgherd_actors::{Curtain, Ending, Outcome, Proxy};
use pgherd_chaos::rig::configuration;
use pgherd_chaos::workloads::canary::{Canary, TABLE};
use pgherd_config::{Config, LoadInput, Overrides};
use pgherd_sandbox::{Binaries, Server};
use pgherd_supervise::{SupervisorMessage, TreeNode};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

/// How long anything may take that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pools, the router and the configuration crash while two dozen clients work: nobody notices, the
/// tree shows the restarts, and what was started anew does its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashed_actors_cost_no_client_anything() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(TABLE).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pgherd.toml");
    let more = "[pool]\nsize = 4\n[timeouts]\ncheckout_notice = 0\n[users.other]\npassword = \"x\"";
    server.create_user("other", "x").await.unwrap();
    std::fs::write(&file, configuration(server.port(), more)).unwrap();
    let listen = Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        ..Overrides::default()
    };
    let input = LoadInput {
        file: Some(file),
        overrides: listen,
        ..LoadInput::default()
    };
    let loaded = Config::load(&input).unwrap();
    let curtain = Curtain::default();
    let proxy = Proxy::bind(loaded.config, input, curtain.clone()).unwrap();
    let (facts, address) = (Arc::clone(proxy.facts()), proxy.addresses()[0]);
    let running = tokio::spawn(proxy.run());
    let mut client = tokio_postgres::Config::new();
    client
        .host("127.0.0.1")
        .port(address.port())
        .user("postgres")
        .dbname("postgres");

    let seed = rand::random();
    println!("seed {seed}");
    let canary = Canary {
        clients: 24,
        time: Duration::from_secs(6),
        seed,
    };
    let load = tokio::spawn(async move { canary.run(&client).await });
    let pool = pool(&facts).await;
    // The root bears three restarts a minute.
    for _ in 0..2 {
        sleep(Duration::from_millis(700)).await;
        assert!(pool.manager.cast(PoolMessage::Crash));
        assert!(facts.router.cast(RouterMessage::Crash));
    }
    sleep(Duration::from_millis(700)).await;
    assert!(facts.configuration.cast(ConfigMessage::Crash));
    let identity = load.await.unwrap();
    assert_eq!(identity.faults(), Vec::<String>::new(), "seed {seed}");
    assert!(
        identity.right() > 500,
        "too little happened: {}",
        identity.right()
    );

    for (name, count) in [("pool postgres/postgres", 2), ("router", 2), ("config", 1)] {
        assert_eq!(restarts(&facts, name).await, count, "{name}");
    }
    everything_works(&server, &facts, address.port()).await;
    curtain.ask(Ending::AtOnce);
    let outcome = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Ended);
}

/// The restarted pool opens connections, the restarted router makes pools, the restarted
/// configuration reloads.
async fn everything_works(server: &Server, facts: &Arc<Facts>, port: u16) {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where backend_type = 'client backend' and pid <> pg_backend_pid()";
    server.sql(end).await.expect("the server answers");
    let deadline = Instant::now() + PATIENCE;
    while !server
        .backend_pids()
        .await
        .expect("the server answers")
        .is_empty()
    {
        assert!(Instant::now() < deadline, "the connections stay");
    }
    for user in ["postgres", "other"] {
        let url = format!("postgres://{user}@127.0.0.1:{port}/postgres");
        let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(&url, NoTls))
            .await
            .expect("in time")
            .expect("let in");
        tokio::spawn(connection);
        let row = timeout(PATIENCE, client.query_one("select 42", &[]))
            .await
            .expect("in time");
        assert_eq!(row.expect("served").get::<_, i32>(0), 42);
    }
    let reload = facts
        .configuration
        .call(ConfigMessage::Reload, PATIENCE)
        .await;
    assert!(reload.is_ok_and(|changes| changes.is_ok_and(|changes| changes.is_empty())));
}

/// The pool that the clients use, once there is one.
async fn pool(facts: &Facts) -> Arc<Pool> {
    let key = PoolKey {
        database: "postgres".to_owned(),
        user: "postgres".to_owned(),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(pool) = facts.routes.load().get(&key) {
            return Arc::clone(pool);
        }
        assert!(Instant::now() < deadline, "nobody has asked for the pool");
        sleep(Duration::from_millis(10)).await;
    }
}

/// How often the supervisor of an actor has started it again.
async fn restarts(facts: &Facts, name: &str) -> u64 {
    let tree = facts
        .root
        .call(SupervisorMessage::Tree, PATIENCE)
        .await
        .expect("the tree");
    find(&tree, name)
        .unwrap_or_else(|| panic!("no {name} in {tree:?}"))
        .restarts
}

fn find<'a>(node: &'a TreeNode, name: &str) -> Option<&'a TreeNode> {
    if node.name == name {
        return Some(node);
    }
    node.children.iter().find_map(|child| find(child, name))
}
