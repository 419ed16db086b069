//! A herald that ends leaves those who listen deaf for a moment, which they are told, and nobody else
//! notices.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::house::{self, House};
use crate::load::Load;
use crate::{ALONE, Blow, PATIENCE};

/// The path of the herald in the tree.
const HERALD: &str = "root/cluster postgres/pools/herald postgres/postgres";

/// A client that listens to `news`.
pub(crate) struct Listener {
    client: Client,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
}

impl Listener {
    pub(crate) async fn enter(house: &House) -> Self {
        let (client, mut connection) = house.client("postgres").connect(NoTls).await.unwrap();
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let polled = std::future::poll_fn(|cx| connection.poll_message(cx)).await;
                match polled {
                    Some(Ok(message)) => drop(sender.send(message)),
                    Some(Err(_)) | None => return,
                }
            }
        });
        client.batch_execute("listen news").await.unwrap();
        Self { client, messages }
    }

    /// The next that it is told: a notice's SQLSTATE or a notification's payload.
    async fn told(&mut self) -> String {
        let message = timeout(PATIENCE, self.messages.recv()).await;
        match message.expect("a word in time").expect("it is connected") {
            AsyncMessage::Notice(notice) => notice.code().code().to_owned(),
            AsyncMessage::Notification(heard) => heard.payload().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_herald_is_replaced_and_told_of() {
    replaced(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_herald_is_replaced_and_told_of() {
    replaced(Blow::Panic).await;
}

async fn replaced(blow: Blow) {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
    let load = Load::start(&house, 2).await;
    let mut listener = Listener::enter(&house).await;
    for round in ["one", "two"] {
        house.strike_and_await_restart(HERALD, blow).await;
        assert_eq!(listener.told().await, "01000");
        server
            .sql(&format!("notify news, '{round}'"))
            .await
            .unwrap();
        assert_eq!(listener.told().await, round);
        let own = format!("notify news, 'own {round}'");
        listener.client.batch_execute(&own).await.unwrap();
        assert_eq!(listener.told().await, format!("own {round}"));
        load.progress().await;
    }
    // What follows a restart of all that is above it is the same.
    house
        .strike_and_await_restart("root/cluster postgres/pools", blow)
        .await;
    assert_eq!(listener.told().await, "01000");
    server.sql("notify news, 'three'").await.unwrap();
    assert_eq!(listener.told().await, "three");
    load.stop().await;
    house.end().await;
}
