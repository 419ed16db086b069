use std::time::Duration;

use pgherd_chaos::rig::{PATIENCE, Rig, code};
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
