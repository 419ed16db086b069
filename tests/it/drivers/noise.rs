//! Other clients of the same pool, who change what a server connection remembers all the time.

use std::time::Duration;

use pgherd_tests::{Client, try_connect};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Between two turns, so that two servers are enough for them and for those who are tested.
const PAUSE: Duration = Duration::from_millis(15);

/// Clients that make noise until this is dropped.
#[derive(Debug)]
pub(crate) struct Noise {
    clients: JoinSet<()>,
}

impl Noise {
    /// Lets some clients begin.
    pub(crate) fn begin(url: &str) -> Self {
        let mut clients = JoinSet::new();
        for me in 0..2 {
            let url = url.to_owned();
            clients.spawn(async move { make(&url, me).await });
        }
        Self { clients }
    }

    /// Ends it.
    ///
    /// # Panics
    /// If one of the clients saw what was not its own.
    pub(crate) async fn end(mut self) {
        let ended = self.clients.try_join_next();
        self.clients.shutdown().await;
        if let Some(Err(error)) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn make(url: &str, me: u32) {
    loop {
        // One whose server was killed under it comes again, and one who finds no room does, too.
        if let Ok(client) = try_connect(url).await {
            while turn(&client, me).await.is_ok() {
                sleep(PAUSE).await;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Does what may leave something behind, and looks whether its own is still there.
async fn turn(client: &Client, me: u32) -> Result<(), tokio_postgres::Error> {
    let own = format!("Etc/GMT+{}", me + 3);
    let settings = [
        format!("set timezone = '{own}'"),
        format!("set application_name = 'noise {me}'"),
        "set datestyle = 'SQL, DMY'".to_owned(),
        "set standard_conforming_strings = off".to_owned(),
        "set intervalstyle = 'sql_standard'".to_owned(),
    ];
    for setting in &settings {
        client.batch_execute(setting).await?;
    }
    let said = client
        .query_one("select current_setting('timezone'), $1::int", &[&7])
        .await?;
    assert_eq!(said.get::<_, &str>(0), own, "the noise keeps its own zone");
    let block = "begin isolation level serializable read only; \
                 declare noisy cursor for select generate_series(1, 100); fetch 3 from noisy; \
                 set local statement_timeout = '9s'; set local extra_float_digits = -3; \
                 set local search_path = noise; savepoint a; select 1/0";
    // The error leaves the block failed, which the next one ends.
    if let Err(error) = client.batch_execute(block).await
        && error.code().is_none()
    {
        return Err(error);
    }
    client.batch_execute("rollback").await?;
    let zone = client.column("show timezone").await?;
    assert_eq!(zone, [own], "the noise keeps its own zone after a block");
    Ok(())
}
