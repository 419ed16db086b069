use std::sync::Arc;
use std::time::Duration;

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::door::Door;
use pgherd_chaos::history::History;
use pgherd_chaos::rig::{PATIENCE, Rig, code};
use pgherd_chaos::workloads::acked::Acked;
use pgherd_chaos::workloads::life::Life;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;

const POOL: &str = "[pool]\nsize = 4\n[timeouts]\ncheckout = \"30s\"";

/// The server is killed and started again: who was idle notices nothing, who ran something is told
/// whether it may have taken effect, and every session goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_only_what_was_under_way() {
    let mut rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let (idle, busy) = (rig.guest().await, rig.guest().await);
    let running = tokio::spawn(async move {
        let outcome = busy
            .client
            .batch_execute("insert into herd select 1 from pg_sleep(60)")
            .await;
        (busy, outcome)
    });
    active(&rig, 1).await;
    rig.server.kill9();
    let (busy, outcome) = timeout(PATIENCE, running).await.unwrap().unwrap();
    // An autocommitted write whose answer is missing.
    assert_eq!(
        code(&outcome.unwrap_err()),
        &SqlState::TRANSACTION_RESOLUTION_UNKNOWN
    );
    // Nobody is refused while the server is away; who asks, waits.
    let waiting = tokio::spawn(async move {
        let outcome = idle.client.query_one("select 42", &[]).await;
        (idle, outcome)
    });
    let late = rig.try_guest().await.unwrap();
    rig.server.restart().await.unwrap();
    let (idle, outcome) = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(outcome.unwrap().get::<_, i32>(0), 42);
    for guest in [&idle, &busy, &late] {
        guest.client.batch_execute("select 1").await.unwrap();
    }
    drop((idle, busy, late));
    rig.settle().await;
}

/// In a transaction the loss is told as one that has undone it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_told_that_its_server_is_lost() {
    let mut rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let guest = rig.guest().await;
    guest
        .client
        .batch_execute("begin; insert into herd values (1)")
        .await
        .unwrap();
    let running = tokio::spawn(async move {
        let outcome = guest.client.batch_execute("select pg_sleep(60)").await;
        (guest, outcome)
    });
    active(&rig, 1).await;
    rig.server.kill9();
    let (guest, outcome) = timeout(PATIENCE, running).await.unwrap().unwrap();
    let error = outcome.unwrap_err();
    assert!(LOST.contains(code(&error)), "{error:?}");
    assert_ne!(
        code(&error),
        &SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        "nothing was committed"
    );
    rig.server.restart().await.unwrap();
    // The client is in a failed block until it ends that, as after any error in a block.
    let error = guest
        .client
        .query_one("select count(*) from herd", &[])
        .await
        .unwrap_err();
    assert_eq!(code(&error), &SqlState::IN_FAILED_SQL_TRANSACTION);
    guest.client.batch_execute("rollback").await.unwrap();
    let rows = guest
        .client
        .query_one("select count(*) from herd", &[])
        .await
        .unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
    drop(guest);
    rig.settle().await;
}

/// A client that was idle in its transaction hears of the loss at its COMMIT, which must not look
/// like a success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_the_loss_fails() {
    let mut rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let guest = rig.guest().await;
    let begin = "begin; insert into herd values (1)";
    guest.client.batch_execute(begin).await.unwrap();
    rig.server.kill9();
    rig.server.restart().await.unwrap();
    let error = guest.client.batch_execute("commit").await.unwrap_err();
    assert_eq!(code(&error), &SqlState::T_R_SERIALIZATION_FAILURE);
    guest.client.batch_execute("rollback").await.unwrap();
    let ask = "select count(*) from herd";
    let rows = guest.client.query_one(ask, &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
    drop(guest);
    rig.settle().await;
}

/// A COMMIT that was sent behind something else is in doubt all the same when its answer is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_a_pipeline_is_told_as_unknown() {
    let mut rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let slow = "create function slow() returns trigger language plpgsql \
                as $$ begin perform pg_sleep(60); return new; end $$; \
                create constraint trigger slow after insert on herd \
                deferrable initially deferred for each row execute function slow()";
    rig.server.sql(slow).await.unwrap();
    let guest = rig.guest().await;
    guest
        .client
        .batch_execute("begin; insert into herd values (1)")
        .await
        .unwrap();
    let running = tokio::spawn(async move {
        let (before, commit) = tokio::join!(
            guest.client.simple_query("select 1"),
            guest.client.batch_execute("commit"),
        );
        (before, commit)
    });
    active(&rig, 1).await;
    rig.server.kill9();
    let (before, commit) = timeout(PATIENCE, running).await.unwrap().unwrap();
    before.unwrap();
    assert_eq!(
        code(&commit.unwrap_err()),
        &SqlState::TRANSACTION_RESOLUTION_UNKNOWN
    );
}

/// Postgres ends all connections when one backend dies by a signal; the pool heals without help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_takes_no_session_with_it() {
    let rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let mut guests = Vec::new();
    for _ in 0..8 {
        guests.push(rig.guest().await);
    }
    let running: Vec<_> = guests
        .into_iter()
        .map(|guest| {
            tokio::spawn(async move {
                let outcome = guest.client.batch_execute("select pg_sleep(2)").await;
                (guest, outcome)
            })
        })
        .collect();
    active(&rig, 4).await;
    let victim = rig.server.backend_pids().await.unwrap()[0];
    rig.server.kill_backend(victim);
    let mut lost = 0;
    for running in running {
        let (guest, outcome) = timeout(PATIENCE, running).await.unwrap().unwrap();
        if let Err(error) = outcome {
            lost += 1;
            assert!(LOST.contains(code(&error)), "{error:?}");
        }
        guest.client.batch_execute("select 1").await.unwrap();
    }
    // Postgres ends all backends a moment behind the first, and lets new ones in until then: some of
    // those in the queue may have got one that was ended with the others.
    assert!(
        (4..8).contains(&lost),
        "{lost}: those on a server lost it, those in the queue waited"
    );
    rig.settle().await;
}

/// A backend that an administrator ends costs one client its statement, and nobody else anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_backend_costs_one_statement() {
    let rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let (one, two) = (rig.guest().await, rig.guest().await);
    let running = tokio::spawn(async move {
        let outcome = one
            .client
            .batch_execute("select 'victim', pg_sleep(60)")
            .await;
        (one, outcome)
    });
    active(&rig, 1).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where query like 'select ''victim''%'";
    assert_eq!(rig.server.sql(end).await.unwrap(), "t");
    let (one, outcome) = timeout(PATIENCE, running).await.unwrap().unwrap();
    let error = outcome.unwrap_err();
    assert!(LOST.contains(code(&error)), "{error:?}");
    for guest in [&one, &two] {
        guest.client.batch_execute("select 1").await.unwrap();
    }
    drop((one, two));
    rig.settle().await;
}

/// Whatever was acknowledged is there, once; whatever failed for certain is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_or_doubled() {
    let mut rig = Rig::start(crate::EXECUTABLE, POOL).await;
    let life = Arc::new(Life::new(Duration::ZERO, History::none()));
    let door = Door::pgherd(rig.proxy.port());
    let acked = Acked::start(&life, &door, "herd", "acked", 16);
    for _ in 0..3 {
        sleep(Duration::from_millis(1500)).await;
        rig.server.kill9();
        sleep(Duration::from_millis(300)).await;
        rig.server.restart().await.unwrap();
    }
    sleep(Duration::from_millis(1500)).await;
    life.end();
    let ledger = acked.finish().await;
    let rows = rig.server.sql("select id from herd").await.unwrap();
    let there: Vec<i64> = rows.lines().map(|row| row.parse().unwrap()).collect();
    println!("{} written, {ledger:?}", there.len());
    assert_eq!(ledger.faults(&there), Vec::<Wrong>::new());
    assert!(
        ledger.acknowledged() > 200 && ledger.failed() > 0,
        "too little happened: {ledger:?}"
    );
    rig.settle().await;
}

/// What a session may be told when its server is gone.
const LOST: [SqlState; 6] = [
    SqlState::CONNECTION_FAILURE,
    SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
];

/// Waits until so many clients' statements sleep on the server.
async fn active(rig: &Rig, count: usize) {
    let ask = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    let deadline = Instant::now() + PATIENCE;
    while rig.server.sql(ask).await.expect("the server answers") != count.to_string() {
        assert!(Instant::now() < deadline, "the statements do not run");
    }
}
