//! Two hundred clients on four servers, and each hears only what it asked for.

use std::env;
use std::time::Duration;

use pgherd_chaos::proxy::Proxy;
use pgherd_chaos::workloads::canary::{Canary, TABLE};
use pgherd_sandbox::{Binaries, Server};

/// How long the clients ask, in seconds; unless this variable says otherwise, 20.
const SECONDS: &str = "PGHERD_CHAOS_SECONDS";
/// Repeats a run, as far as chance decides; its number is printed.
const SEED: &str = "PGHERD_CHAOS_SEED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_the_wrong_client() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(TABLE).await.unwrap();
    let proxy = Proxy::start(
        crate::EXECUTABLE,
        &format!(
            "[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 4\n\
         [timeouts]\ncheckout_notice = 0\n\
         [workers]\ncount = 2\n\
         [log]\nlevel = \"warn\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n\
         [users.postgres]\n",
            server.port(),
        ),
    );
    let seconds = env::var(SECONDS).map_or(20, |text| text.parse().unwrap());
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    let canary = Canary {
        clients: 200,
        time: Duration::from_secs(seconds),
        seed,
    };
    let identity = canary.run(&proxy.client("postgres", "", "postgres")).await;
    let (right, cancelled) = (identity.right(), identity.cancelled());
    println!("{right} right answers, {cancelled} cancelled by their own clients");
    assert_eq!(identity.faults(), Vec::<String>::new(), "{SEED}={seed}");
    assert!(
        right > 1000 && cancelled > 10,
        "too little happened: {right}, {cancelled}"
    );
    // What the clients left behind is in order.
    let busy = "select count(*) from pg_stat_activity \
                where backend_type = 'client backend' and pid <> pg_backend_pid() \
                and state <> 'idle'";
    assert_eq!(server.sql(busy).await.unwrap(), "0");
}

/// What Postgres itself does must be right, or the canary asks for more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_itself_passes() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(TABLE).await.unwrap();
    let canary = Canary {
        clients: 24,
        time: Duration::from_secs(3),
        seed: rand::random(),
    };
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres")
        .dbname("postgres");
    let identity = canary.run(&config).await;
    assert_eq!(identity.faults(), Vec::<String>::new());
    assert!(identity.right() > 100, "too little happened");
}
