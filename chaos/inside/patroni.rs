//! A stand-in for Patroni, which answers each request as its REST interface answers `GET /cluster`.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The stand-in; dropped, it is gone.
pub(crate) struct Patroni {
    pub(crate) port: u16,
    members: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Drop for Patroni {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Patroni {
    /// One that knows of no member yet.
    pub(crate) async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let members: Arc<Mutex<String>> = Arc::default();
        let told = Arc::clone(&members);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let body = format!("{{\"members\": [{}]}}", told.lock());
                let answer = format!(
                    "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // Who was struck does not wait for it.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            port,
            members,
            task,
        }
    }

    /// Has it tell of these members from now on: their ports, roles and timelines.
    pub(crate) fn tell(&self, members: &[(u16, &str, u32)]) {
        let members: Vec<String> = members
            .iter()
            .map(|(port, role, timeline)| {
                format!(
                    "{{\"name\": \"n{port}\", \"role\": \"{role}\", \"state\": \"running\", \
                     \"host\": \"127.0.0.1\", \"port\": {port}, \"timeline\": {timeline}, \"lag\": 0}}"
                )
            })
            .collect();
        *self.members.lock() = members.join(", ");
    }
}
