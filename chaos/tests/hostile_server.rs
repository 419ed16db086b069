//! What servers that break the protocol may not do.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::{Duration, Instant};

use pgherd_chaos::hostile::{Answer, Client, Proxy, Server};

mod answer;
mod opening;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_pgherd");

/// How much the proxy may grow while a peer floods it.
const GROWTH: usize = 48 << 20;

/// Databases by name, each on a hostile server of its own.
fn settings(servers: &[(String, &Server)], tls: &str) -> String {
    let mut settings = String::from(
        "[auth]\nmethod = \"trust\"\n[pool]\nsize = 8\n\
         [timeouts]\nconnect = \"2s\"\ncheckout = \"4s\"\ncheckout_notice = \"1s\"\nrollback = \"500ms\"\n\
         [users.alice]\npassword = \"secret\"\n",
    );
    for (name, server) in servers {
        settings += &format!(
            "[databases.\"{name}\"]\nhosts = [\"{}\"]\nuser = \"bob\"\npassword = \"secret\"\n\
             tls = {{ mode = \"{tls}\" }}\n",
            server.address()
        );
    }
    settings
}

async fn login(proxy: &Proxy, database: &str) -> Result<Client, Answer> {
    Client::login(proxy.address(), "alice", "secret", database).await
}

/// Asks for a word until a healthy server gives it back; for a pool that has to get well first.
async fn recovers(proxy: &Proxy, database: &str) -> Option<Answer> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = match login(proxy, database).await {
            Ok(mut client) => client.query("select 'well'").await,
            Err(answer) => answer,
        };
        if answer.value().as_deref() == Some("well") {
            return None;
        }
        if Instant::now() > deadline {
            return Some(answer);
        }
    }
}
