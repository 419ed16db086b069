//! One client.

use std::future::poll_fn;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Statement};

use crate::checks::identity::{Cancels, Identity};

/// A client that knows who it is.
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) cancels: Cancels,
    pub(super) prepared: Option<Statement>,
    /// A COPY is under way or has failed. If that was before it began, the driver sends a second
    /// Sync and takes the answer for that to what it asks next; so after a failure this connection
    /// cannot be used any more.
    pub(super) astray: bool,
    pub(super) turn: u64,
    notices: UnboundedReceiver<String>,
    connection: JoinHandle<()>,
}

impl Guest {
    /// Logs in under a name of its own, and goes on after `turn` tokens.
    pub(super) async fn arrive(
        number: usize,
        turn: u64,
        cancels: Cancels,
        proxy: &Config,
    ) -> Result<Self, Error> {
        let name = format!("who{number}");
        let mut config = proxy.clone();
        config.application_name(&name);
        let (client, mut connection) = config.connect(NoTls).await?;
        let (sender, notices) = unbounded_channel();
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message {
                    let _ = sender.send(notice.message().to_owned());
                }
            }
        });
        Ok(Self {
            name,
            client,
            cancels,
            prepared: None,
            astray: false,
            turn,
            notices,
            connection,
        })
    }

    /// A text that nobody else sends, and this client only once.
    pub(super) fn token(&mut self) -> String {
        self.turn += 1;
        format!("{}-{}", self.name, self.turn)
    }

    /// Checks the notices that have come, and gives them.
    pub(super) fn hear(&mut self, identity: &Identity) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(notice) = self.notices.try_recv() {
            identity.notice(&self.name, &notice);
            heard.push(notice);
        }
        heard
    }

    /// Asks for a cancel of whatever runs, again and again until the task is aborted. The last
    /// request may land when something else runs already.
    pub(super) fn cancel_every(&self, pause: Duration) -> JoinHandle<()> {
        let token = self.client.cancel_token();
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let _ = token.cancel_query(NoTls).await;
            }
        })
    }

    /// Drops the connection in the middle of something: while it waits for a server, or while it
    /// has one.
    pub(super) async fn vanish(&mut self, rng: &mut StdRng) {
        let token = self.token();
        let sql = match rng.random_range(0..5) {
            0 => format!("select pg_sleep(0.05), '{token}'"),
            1 => format!("select '{token}'; select '{token}' from pg_sleep(0.05)"),
            2 => format!("copy (select '{token}' from generate_series(1, 100000)) to stdout"),
            3 => "copy canary from stdin".to_owned(),
            _ => format!("select repeat('{token}', 10000) from generate_series(1, 100)"),
        };
        if rng.random() {
            let _ = self.client.batch_execute("begin").await;
        }
        let delay = Duration::from_micros(rng.random_range(0..20_000));
        tokio::select! {
            _ = self.client.simple_query(&sql) => {}
            () = sleep(delay) => {}
        }
        self.connection.abort();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
