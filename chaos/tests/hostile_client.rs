//! What clients that break the protocol may not do.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::{Duration, Instant};

use pgherd_chaos::hostile::attack::{Attack, Opening};
use pgherd_chaos::hostile::{Answer, Client, End, Proxy, Server};

mod flood;
mod length;
mod login;
mod mutated;
mod order;
mod postgres;
mod tls;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_pgherd");
const ALICE: &str = "alice's secret";

/// How soon a violation must be answered: at once, not by the login timeout.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A proxy before a healthy server; it knows the user `alice` and the database `shop`.
struct House {
    proxy: Proxy,
    server: Server,
}

impl House {
    /// With the default settings, and a login timeout that no client here should need.
    async fn build() -> Self {
        Self::with("[timeouts]\nlogin = \"15s\"\n", Vec::new()).await
    }

    async fn with(settings: &str, attacks: Vec<Attack>) -> Self {
        let server = Server::start(Opening::Trust, attacks).await.unwrap();
        let settings = format!(
            "{settings}\n[users.alice]\npassword = \"{ALICE}\"\n\
             [databases.shop]\nhosts = [\"{}\"]\ntls = {{ mode = \"disable\" }}\n",
            server.address()
        );
        let proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
        Self { proxy, server }
    }

    async fn connect(&self) -> Client {
        let mut client = Client::connect(self.proxy.address()).await.unwrap();
        client.set_patience(AT_ONCE);
        client
    }

    async fn login(&self) -> Client {
        let login = Client::login(self.proxy.address(), "alice", ALICE, "shop").await;
        let mut client = login.unwrap_or_else(|answer| panic!("alice is not let in: {answer:?}"));
        client.set_patience(AT_ONCE);
        client
    }

    /// What every test ends with: the process is well, and a good client is served.
    async fn stands(&mut self) {
        assert_eq!(self.proxy.fault(), None);
        assert_served(&mut self.login().await).await;
        assert_eq!(self.proxy.fault(), None);
    }
}

async fn assert_served(client: &mut Client) {
    let answer = client.query("select 'served'").await;
    assert_eq!(answer.value().as_deref(), Some("served"), "{answer:?}");
}

/// Refused with a code, and closed.
fn is_refused(answer: &Answer, code: &str) -> bool {
    answer.end == End::Closed && answer.code().as_deref() == Some(code)
}

/// Waits until something holds.
async fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}
