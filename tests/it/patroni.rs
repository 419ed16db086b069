//! Hosts that Patroni tells of, by a stand-in that answers as its REST interface does.

mod https;

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_tests::{Acceptor, Client, Config, Database, Proxy, connect, until};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::failover::fleet::Fleet;

/// The port, role and timeline of a member.
type Member = (u16, &'static str, u32);

/// Answers each request with what `GET /cluster` gives at the moment.
struct Stand {
    port: u16,
    says: Arc<Says>,
    /// How many requests there were.
    asked: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

/// What it says, and how.
struct Says {
    speech: Mutex<Speech>,
    members: Mutex<Vec<Member>>,
    /// The moment of a switchover that is scheduled.
    scheduled: Mutex<Option<String>>,
    /// The port of the member that is tagged not to be read from.
    spared: Mutex<Option<u16>>,
    counter: watch::Sender<u64>,
}

/// How it speaks.
#[derive(Clone)]
enum Speech {
    /// Plain HTTP.
    Http,
    /// HTTP under TLS.
    Https(Acceptor),
    /// The same without a farewell.
    Abrupt(Acceptor),
    /// These bytes in place of an answer, under TLS and without a farewell.
    Babble(Acceptor, &'static [u8]),
    /// These bytes behind the handshake, but in plain text.
    Bared(Acceptor, &'static [u8]),
    /// These bytes in place of a handshake.
    Noise(&'static [u8]),
    /// Nothing.
    Mute,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Says {
    /// What `GET /cluster` gives.
    fn answer(&self) -> String {
        let spared = *self.spared.lock();
        let members: Vec<String> = self
            .members
            .lock()
            .iter()
            .map(|(port, role, timeline)| {
                let tagged = spared == Some(*port);
                format!(
                    "{{\"name\": \"n{port}\", \"role\": \"{role}\", \"state\": \"running\", \
                     \"host\": \"127.0.0.1\", \"port\": {port}, \"timeline\": {timeline}, \
                     \"api_url\": \"http://127.0.0.1:8008/patroni\", \"lag\": 0, \
                     \"tags\": {{\"noloadbalance\": {tagged}}}}}"
                )
            })
            .collect();
        let scheduled = self
            .scheduled
            .lock()
            .as_ref()
            .map_or_else(String::new, |at| {
                format!(", \"scheduled_switchover\": {{\"at\": \"{at}\", \"from\": \"n\"}}")
            });
        let body = format!("{{\"members\": [{}]{scheduled}}}", members.join(", "));
        format!(
            "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n\
             Content-Type: application/json\r\n\r\n{body}"
        )
    }

    /// Meets one client; `mute` keeps connections open on which no more is to be said.
    async fn meet(&self, mut stream: TcpStream, mute: &mut Vec<TcpStream>) -> io::Result<()> {
        let speech = self.speech.lock().clone();
        match speech {
            Speech::Http => self.tell(&mut stream).await?,
            Speech::Https(tls) => {
                let mut stream = tls.accept(stream).await?;
                self.tell(&mut stream).await?;
                stream.shutdown().await?;
            }
            Speech::Abrupt(tls) => self.tell(&mut tls.accept(stream).await?).await?,
            Speech::Babble(tls, bytes) => {
                let mut stream = tls.accept(stream).await?;
                stream.read_u8().await?;
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Speech::Bared(tls, bytes) => {
                let (mut stream, _) = tls.accept(stream).await?.into_inner();
                stream.write_all(bytes).await?;
                mute.push(stream);
            }
            Speech::Noise(bytes) => {
                stream.read_u8().await?;
                stream.write_all(bytes).await?;
                mute.push(stream);
            }
            Speech::Mute => mute.push(stream),
        }
        Ok(())
    }

    async fn tell(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await?;
        assert!(request[..read].starts_with(b"GET /cluster "));
        self.counter.send_modify(|count| *count += 1);
        stream.write_all(self.answer().as_bytes()).await?;
        stream.flush().await
    }
}

impl Stand {
    async fn new() -> Self {
        Self::speaking(Speech::Http).await
    }

    async fn speaking(speech: Speech) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (counter, asked) = watch::channel(0);
        let says = Arc::new(Says {
            speech: Mutex::new(speech),
            members: Mutex::default(),
            scheduled: Mutex::default(),
            spared: Mutex::default(),
            counter,
        });
        let told = Arc::clone(&says);
        let task = tokio::spawn(async move {
            let mut mute = Vec::new();
            while let Ok((stream, _)) = socket.accept().await {
                // Whoever does not wait for the answer, or does not like the handshake, needs none.
                let _ = told.meet(stream, &mut mute).await;
            }
        });
        Self {
            port,
            says,
            asked,
            task,
        }
    }

    /// A proxy that is told of this one after one that is not there, so that another one is asked.
    async fn proxy(&self, more: &str) -> Proxy {
        Proxy::start(&Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [auth]\nmethod = \"trust\"\n\
             [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
             [databases.postgres]\n\
             patroni = [\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"]\n{more}\n",
            self.port
        )))
        .await
    }

    /// A client that comes in before these members are told of, and must wait for that.
    async fn early(&self, url: String, members: &[Member]) -> Client {
        let mut early = tokio::spawn(async move { connect(&url).await });
        let mut asked = self.asked.clone();
        let now = *asked.borrow();
        tokio::select! {
            _ = &mut early => panic!("it was let in, and nobody knows where to"),
            answered = asked.wait_for(|count| *count > now + 3) => drop(answered.unwrap()),
        }
        self.tell(members);
        early.await.unwrap()
    }

    fn tell(&self, members: &[Member]) {
        *self.says.members.lock() = members.to_vec();
    }
}

#[tokio::test]
async fn the_hosts_that_patroni_tells_of_are_followed() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let stand = Stand::new().await;
    stand.tell(&[(primary, "leader", 1), (replica, "replica", 1)]);
    let proxy = stand.proxy("").await;
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

/// Whoever was just started knows of no host until it has heard of some.
#[tokio::test]
async fn clients_wait_until_patroni_has_told_of_hosts() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let stand = Stand::new().await;
    let proxy = stand.proxy("").await;
    let members = [(primary, "leader", 1), (replica, "replica", 1)];
    let client = stand.early(proxy.url("app", "postgres"), &members).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
}

/// A proxy whose clients' passwords are for the server to prove.
fn passing_through(stand: &Stand, database: &str, more: &str) -> Config {
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"passthrough\"\n\
         [databases.{database}]\npatroni = [\"http://127.0.0.1:{}\"]\n{more}\n",
        stand.port
    ))
}

#[tokio::test]
async fn a_password_waits_for_a_server_that_can_prove_it() {
    let database = Database::new().await;
    let stand = Stand::new().await;
    let proxy = Proxy::start(&passing_through(&stand, &database.name, "")).await;
    let url = proxy.url("scram", &database.name);
    let client = stand.early(url, &[(database.port, "leader", 1)]).await;
    assert_eq!(client.one("select session_user").await, "scram");
}

#[tokio::test]
async fn who_has_waited_too_long_for_hosts_is_told() {
    let stand = Stand::new().await;
    let briefly = "[timeouts]\nhold = \"500ms\"";
    let trusting = stand.proxy(briefly).await;
    let proving = Proxy::start(&passing_through(&stand, "postgres", briefly)).await;
    for proxy in [trusting, proving] {
        let refused = tokio_postgres::connect(&proxy.url("app", "postgres"), NoTls).await;
        let error = refused.err().expect("there is nobody to serve it");
        assert_eq!(error.code(), Some(&SqlState::CANNOT_CONNECT_NOW), "{error}");
    }
}

/// So many seconds from now, as Patroni writes a moment.
async fn moment(fleet: &Fleet, seconds: u32) -> Option<String> {
    let sql = format!(
        "select to_char(clock_timestamp() at time zone 'utc' + interval '{seconds} s', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"
    );
    Some(fleet.primary.sql(&sql).await.unwrap())
}

#[tokio::test]
async fn new_work_waits_for_a_switchover_that_patroni_has_scheduled() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let stand = Stand::new().await;
    stand.tell(&[(primary, "leader", 1), (replica, "replica", 1)]);
    let proxy = stand.proxy("[failover]\ngrace = \"30s\"").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let (busy, client) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    busy.batch_execute("begin; insert into acked values (1)")
        .await
        .unwrap();
    *stand.says.scheduled.lock() = moment(&fleet, 20).await;
    let awaited = async || {
        let reasons = console.simple_query("show epochs").await.unwrap();
        let last = reasons.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get("reason").unwrap_or("").to_owned()),
            _ => None,
        });
        last.unwrap().contains("about to switch over")
    };
    until("the switchover is awaited", awaited).await;
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (3)")
            .await
            .unwrap();
        client
    });
    // What is under way may end.
    busy.batch_execute("insert into acked values (2); commit")
        .await
        .unwrap();
    assert!(!waiting.is_finished());
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.replica.promote().await.unwrap();
    *stand.says.scheduled.lock() = None;
    stand.tell(&[(primary, "replica", 1), (replica, "leader", 2)]);
    let client = waiting.await.unwrap();
    let rows = async |server: &pgherd_sandbox::Server| {
        let sql = "select string_agg(x::text, ' ' order by x) from acked";
        server.sql(sql).await.unwrap()
    };
    assert_eq!(rows(&fleet.primary).await, "1 2");
    assert_eq!(rows(&fleet.replica).await, "1 2 3");
    // One that is called off holds nobody any longer.
    *stand.says.scheduled.lock() = moment(&fleet, 20).await;
    until("the next switchover is awaited", awaited).await;
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (4)")
            .await
            .unwrap();
    });
    *stand.says.scheduled.lock() = None;
    waiting.await.unwrap();
    assert_eq!(rows(&fleet.replica).await, "1 2 3 4");
}

/// It may be behind by an hour, and on purpose.
#[tokio::test]
async fn a_member_that_is_tagged_so_is_not_read_from() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let stand = Stand::new().await;
    stand.tell(&[(primary, "leader", 1), (replica, "replica", 1)]);
    *stand.says.spared.lock() = Some(replica);
    let proxy = stand.proxy("[reads]\nfrom = \"replicas\"").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let client = fleet.client(&proxy).await;
    let reads_on = async || client.one("select inet_server_port()").await;
    let reads = async || {
        let row = fleet.host(&console, replica).await;
        row.get("reads").unwrap_or("").to_owned()
    };
    until("the replica was seen", async || {
        console.column("show hosts").await.unwrap().len() == 2
            && reads().await == "no: noloadbalance"
    })
    .await;
    *stand.says.spared.lock() = None;
    until("the replica is read from", async || {
        reads_on().await == replica.to_string()
    })
    .await;
    *stand.says.spared.lock() = Some(replica);
    until("the replica is spared again", async || {
        reads().await == "no: noloadbalance"
    })
    .await;
    for _ in 0..20 {
        assert_eq!(reads_on().await, primary.to_string());
    }
}
