//! Hosts that Patroni tells of, by a stand-in that answers as its REST interface does.

use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_tests::{Config, Proxy, connect, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::failover::fleet::Fleet;

/// The port, role and timeline of a member.
type Member = (u16, &'static str, u32);

/// Answers each request with what `GET /cluster` gives at the moment.
struct Stand {
    port: u16,
    members: Arc<Mutex<Vec<Member>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stand {
    async fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let members: Arc<Mutex<Vec<Member>>> = Arc::default();
        let told = Arc::clone(&members);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                assert!(request[..read].starts_with(b"GET /cluster "));
                let members: Vec<String> = told
                    .lock()
                    .iter()
                    .map(|(port, role, timeline)| {
                        format!(
                            "{{\"name\": \"n{port}\", \"role\": \"{role}\", \"state\": \"running\", \
                             \"host\": \"127.0.0.1\", \"port\": {port}, \"timeline\": {timeline}, \
                             \"api_url\": \"http://127.0.0.1:8008/patroni\", \"lag\": 0}}"
                        )
                    })
                    .collect();
                let body = format!("{{\"members\": [{}]}}", members.join(", "));
                let answer = format!(
                    "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n\
                     Content-Type: application/json\r\n\r\n{body}"
                );
                // Whoever does not wait for the answer needs none.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            port,
            members,
            task,
        }
    }

    fn tell(&self, members: &[Member]) {
        *self.members.lock() = members.to_vec();
    }
}

#[tokio::test]
async fn the_hosts_that_patroni_tells_of_are_followed() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let stand = Stand::new().await;
    stand.tell(&[(primary, "leader", 1), (replica, "replica", 1)]);
    // The first of the two is not there: another one is asked.
    let proxy = Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [auth]\nmethod = \"trust\"\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
         [databases.postgres]\n\
         patroni = [\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"]\n",
        stand.port
    )))
    .await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("both hosts are known", async || {
        console.column("show hosts").await.unwrap().len() == 2
    })
    .await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    fleet.replica.promote().await.unwrap();
    stand.tell(&[(replica, "leader", 2)]);
    client
        .batch_execute("insert into acked values (2)")
        .await
        .unwrap();
    until("the old primary is forgotten", async || {
        console.column("show hosts").await.unwrap() == [format!("127.0.0.1:{replica}")]
    })
    .await;
    // A new member appears, and is looked at.
    let another = fleet.replica.replica().await.unwrap();
    stand.tell(&[(another.port(), "replica", 2), (replica, "leader", 2)]);
    until("the new replica was seen", async || {
        let hosts = console.column("show hosts").await.unwrap();
        hosts.contains(&format!("127.0.0.1:{}", another.port()))
            && fleet.host(&console, another.port()).await.get("role") == Some("replica")
    })
    .await;
    // A Patroni that is gone takes nobody's hosts away.
    drop(stand);
    client
        .batch_execute("insert into acked values (3)")
        .await
        .unwrap();
    assert_eq!(
        fleet
            .replica
            .sql("select count(*) from acked")
            .await
            .unwrap(),
        "3"
    );
}
