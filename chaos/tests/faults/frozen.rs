use std::time::Duration;

use pgherd_chaos::rig::{Guest, PATIENCE, Rig, code};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;

/// A server that stands still: who waits in the queue is answered in time, who is on a server gets
/// the answer once it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_holds_nobody_longer_than_the_checkout_timeout() {
    let more = "[pool]\nsize = 2\n[timeouts]\ncheckout = \"1s\"\ncheckout_notice = 0";
    let rig = Rig::start(crate::EXECUTABLE, more).await;
    let mut guests = Vec::new();
    for _ in 0..6 {
        guests.push(rig.guest().await);
    }
    // Both server connections are open before the server freezes.
    let (one, two) = (&guests[0].client, &guests[1].client);
    let (first, second) = tokio::join!(
        one.batch_execute("select pg_sleep(0.2)"),
        two.batch_execute("select pg_sleep(0.2)"),
    );
    first.and(second).unwrap();
    rig.server.freeze();
    let began = Instant::now();
    let asking: Vec<_> = guests
        .into_iter()
        .map(|guest| {
            tokio::spawn(async move {
                let outcome = guest.client.query_one("select 42", &[]).await;
                (guest, outcome, began.elapsed())
            })
        })
        .collect();
    // Even now a client may log in.
    let late = timeout(PATIENCE, rig.try_guest()).await.unwrap().unwrap();
    sleep(Duration::from_secs(3)).await;
    rig.server.thaw();
    let (mut served, mut refused) = (0, 0);
    for asking in asking {
        let (guest, outcome, after) = timeout(PATIENCE, asking).await.unwrap().unwrap();
        match outcome {
            Ok(row) => {
                served += 1;
                assert_eq!(row.get::<_, i32>(0), 42);
                assert!(after > Duration::from_secs(3), "{after:?}");
            }
            Err(error) => {
                refused += 1;
                assert_eq!(code(&error), &SqlState::QUERY_CANCELED, "{error:?}");
                assert!(error.to_string().contains("db error"), "{error:?}");
                let limit = Duration::from_millis(900)..Duration::from_millis(2900);
                assert!(limit.contains(&after), "{after:?}");
            }
        }
        guest.client.batch_execute("select 1").await.unwrap();
    }
    assert_eq!((served, refused), (2, 4));
    late.client.batch_execute("select 1").await.unwrap();
    drop(late);
    rig.settle().await;
}

/// One backend that stands still costs its client a statement and its block, and nobody else anything: the others are
/// served meanwhile, and another connection takes its place before it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_backend_costs_one_client_its_block() {
    let more = "[pool]\nsize = 3\n\
                [timeouts]\nquery = \"2s\"\ncancel = \"1s\"\ncheckout = \"10s\"\ncheckout_notice = 0";
    let rig = Rig::start(crate::EXECUTABLE, more).await;
    let (victim, others) = (rig.guest().await, [rig.guest().await, rig.guest().await]);
    let frozen = backend_of_a_block(&victim).await;
    rig.server.freeze_backend(frozen);
    let stuck = tokio::spawn(async move {
        let began = Instant::now();
        let outcome = victim.client.query_one("select 42", &[]).await;
        (victim, outcome, began.elapsed())
    });
    let mut served = 0;
    while !stuck.is_finished() {
        for other in &others {
            other.client.batch_execute("select 1").await.unwrap();
            served += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(served > 20, "{served}");
    let (victim, outcome, after) = timeout(PATIENCE, stuck).await.unwrap().unwrap();
    let error = outcome.unwrap_err();
    assert_eq!(code(&error), &SqlState::QUERY_CANCELED, "{error:?}");
    assert!(after >= Duration::from_secs(2), "{after:?}");
    // The cancel has arrived, and has not helped.
    assert!(after < Duration::from_secs(10), "{after:?}");
    victim.client.batch_execute("rollback").await.unwrap();

    // The pool has as many connections as before, without that one.
    let mut backends = Vec::new();
    for guest in others.iter().chain([&victim]) {
        backends.push(backend_of_a_block(guest).await);
    }
    assert!(!backends.contains(&frozen), "{frozen} among {backends:?}");
    for guest in others.iter().chain([&victim]) {
        guest.client.batch_execute("rollback").await.unwrap();
    }
    rig.server.thaw_backend(frozen);
    drop((victim, others));
    rig.settle().await;
}

/// Begins a block, and tells the process of the server that it runs on.
async fn backend_of_a_block(guest: &Guest) -> u32 {
    let begin = "begin read write";
    guest.client.batch_execute(begin).await.unwrap();
    let row = guest.client.query_one("select pg_backend_pid()", &[]).await;
    u32::try_from(row.unwrap().get::<_, i32>(0)).unwrap()
}
