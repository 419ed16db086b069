//! What tells HAProxy whether a node leads, as Patroni would.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::haproxy::leads;

/// How long a node may take to say whether it leads; HAProxy waits as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers 200 for a node that takes writes, and 503 for one that does not, or is silent.
#[derive(Debug)]
pub(super) struct Health {
    port: u16,
    serving: JoinHandle<()>,
}

impl Health {
    /// Begins to answer for the node at this port.
    ///
    /// # Errors
    /// As the system says.
    pub(super) async fn start(node: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let serving = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((asker, _)) = listener.accept().await {
                all.spawn(answer(asker, node));
                while all.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, serving })
    }

    /// Where it answers, on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut asker: TcpStream, node: u16) {
    let mut request = [0; 1024];
    // One that asks nothing needs no answer.
    if !matches!(asker.read(&mut request).await, Ok(1..)) {
        return;
    }
    let leads = timeout(PATIENCE, leads(node)).await.ok().flatten();
    let status = match leads {
        Some(true) => "200 OK",
        Some(false) | None => "503 Service Unavailable",
    };
    let text = format!("HTTP/1.0 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = asker.write_all(text.as_bytes()).await;
}
