//! Clients that come by way of a proxy which says from where, by the PROXY protocol.

use pgherd_tests::{
    Authority, Config, Database, Greeting, Proxy, Raw, connect, encrypt_over, until,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// The address from which headers are expected; everybody else comes from 127.0.0.1.
const PROXY: &str = "127.0.0.2";

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

async fn before(database: &Database, more: &str) -> Proxy {
    let (name, port) = (&database.name, database.port);
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nproxies = [\"{PROXY}/32\", \"::5\"]\n\
         [[auth.rules]]\ntype = \"host\"\naddress = \"10.9.0.0/16\"\nmethod = \"trust\"\n\
         [[auth.rules]]\ntype = \"host\"\naddress = \"127.0.0.0/8\"\nmethod = \"trust\"\n\
         [[auth.rules]]\ntype = \"host\"\naddress = \"fd00::/8\"\nmethod = \"trust\"\n\
         [log]\nstats_every = 0\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    );
    Proxy::start(&Config::text(text)).await
}

/// Connects as the proxy does, and says this.
async fn by_proxy(port: u16, says: &[&[u8]]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{PROXY}:0").parse().unwrap()).unwrap();
    let target = format!("127.0.0.1:{port}").parse().unwrap();
    let mut stream = socket.connect(target).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in says {
        stream.write_all(part).await.unwrap();
    }
    stream
}

fn version2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn tcp4(source: [u8; 4], port: u16, more: &[u8]) -> Vec<u8> {
    let ports = [port.to_be_bytes(), 5432_u16.to_be_bytes()].concat();
    version2(
        0x21,
        0x11,
        &[&source, &[10, 0, 0, 1], &ports[..], more].concat(),
    )
}

#[tokio::test]
async fn a_proxy_says_from_where_a_client_comes() {
    let database = Database::new().await;
    let proxy = before(&database, "").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let v6 = [&[0xfd; 16][..], &[0; 16], &[0, 7, 0, 8]].concat();
    let line = b"PROXY TCP4 10.9.1.2 10.0.0.1 4711 5432\r\n";
    for (header, address, port) in [
        (line.to_vec(), "10.9.1.2", "4711"),
        (tcp4([10, 9, 3, 4], 99, b""), "10.9.3.4", "99"),
        (tcp4([10, 9, 3, 4], 98, &[4, 0, 2, 1, 2]), "10.9.3.4", "98"),
        (
            version2(0x21, 0x21, &v6),
            "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
            "7",
        ),
        // These are of the proxy itself.
        (version2(0x20, 0x00, b""), PROXY, ""),
        (b"PROXY UNKNOWN\r\n".to_vec(), PROXY, ""),
    ] {
        // In one write, and byte by byte.
        let (front, back) = header.split_at(header.len() / 2);
        for says in [
            vec![&header[..]],
            vec![front, back],
            header.chunks(1).collect(),
        ] {
            let stream = by_proxy(proxy.port(), &says).await;
            let entered = Raw::over(stream).enter("app", &database.name, &[]).await;
            let mut client = entered.unwrap();
            assert_eq!(client.one("select 1").await, "1");
            let columns = ["database", "addr", "port"];
            let seen = console.rows("show clients", columns).await;
            let is_it = |[of, addr, from]: &[String; 3]| {
                *of == database.name && addr == address && (port.is_empty() || from == port)
            };
            assert!(seen.iter().any(is_it), "{address} {port} {seen:?}");
            client.send(&Raw::framed(b'X', b"")).await;
            assert!(client.end().await.is_empty());
        }
    }
    let who = format!("user=\"app\" database=\"{}\"", database.name);
    // Rules go by that address, too.
    let stream = by_proxy(proxy.port(), &[&tcp4([10, 8, 1, 2], 1, b"")]).await;
    let refused = Raw::over(stream).enter("app", &database.name, &[]).await;
    let message = refused.unwrap_err();
    assert_eq!(message.field('C').as_deref(), Some("28000"));
    assert!(message.field('M').unwrap().contains("host \"10.8.1.2\""));
    // And the log names it, of who came in and of who did not.
    proxy.logged(&format!("peer=10.9.1.2:4711 {who}"), 3).await;
    proxy.logged(&format!("peer=10.8.1.2:1 {who}"), 1).await;
}

#[tokio::test]
async fn tls_stands_behind_the_header() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = before(&database, &authority.section("require")).await;
    for greeting in [Greeting::Request, Greeting::Direct(&["postgresql"])] {
        for header in [tcp4([10, 9, 3, 4], 99, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
            let stream = by_proxy(proxy.port(), &[&header]).await;
            let encrypted = encrypt_over(stream, &authority, greeting, None).await;
            let entered = encrypted.unwrap().enter("app", &database.name, &[]).await;
            assert_eq!(entered.unwrap().one("select 1").await, "1", "{greeting:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_header_ends_its_connection_alone() {
    let database = Database::new().await;
    let proxy = before(&database, "[timeouts]\nlogin = \"1s\"").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let mut told = [0, 0, 0];
    for (says, kind) in [
        (&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], 0),
        (b"PROXY TCP4 nowhere 10.0.0.1 1 2\r\n", 1),
        (&version2(0x21, 0x12, &[0; 12]), 1),
        (&[&b"PROXY UNKNOWN "[..], &[b' '; 100]].concat(), 2),
        (&version2(0x21, 0x11, &[0; 5000])[..16], 2),
    ] {
        let stream = by_proxy(proxy.port(), &[says]).await;
        assert!(Raw::over(stream).end().await.is_empty());
        told[kind] += 1;
        let texts = [
            "there is no PROXY header (listen.proxies has 127.0.0.2)",
            "the PROXY header is malformed (listen.proxies has 127.0.0.2)",
            "the PROXY header is too long (listen.proxies has 127.0.0.2)",
        ];
        proxy.logged(texts[kind], told[kind]).await;
    }
    // One that goes on for too long.
    let stream = by_proxy(proxy.port(), &[b"PROXY TCP4 10.9"]).await;
    assert!(Raw::over(stream).end().await.is_empty());
    proxy.logged("it took too long (timeouts.login)", 1).await;
    // One from whom none is expected.
    let mut other = Raw::open(proxy.port()).await;
    other.send(&tcp4([10, 9, 3, 4], 99, b"")).await;
    other.end().await;
    until("only the console is left", async || {
        console.rows("show clients", ["addr"]).await == [["127.0.0.1"]]
    })
    .await;
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
}
