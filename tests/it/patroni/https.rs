//! Patroni's REST interface under TLS, and whoever takes its place.

use std::fs;
use std::path::Path;
use std::process::Command;

use pgherd_sandbox::free_port;
use pgherd_tests::{
    Acceptor, Authority, Config, Database, Output, Paper, Proxy, connect, executable, run, until,
};
use rustix::process::Signal;

use super::{Speech, Stand};

impl Stand {
    fn source(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}", self.port)
    }

    fn speak(&self, speech: Speech) {
        *self.says.speech.lock() = speech;
    }

    /// Waits until somebody has understood it, and asks once more.
    async fn is_asked_again(&self) {
        let before = *self.asked.borrow();
        until("it is asked", async || *self.asked.borrow() > before).await;
    }
}

/// HTTP under TLS with this certificate.
fn under(own: &Paper) -> Speech {
    Speech::Https(Acceptor::new(own, None))
}

/// A proxy before a database whose hosts are told at these sources, with this TLS towards them.
fn told_at(database: &Database, sources: &[String], tls: &str) -> Config {
    let name = &database.name;
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [failover]\nprobe_timeout = \"2s\"\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
         [databases.{name}]\npatroni = {sources:?}\npatroni_tls = {{ {tls} }}\n"
    ))
}

fn believing(ca: &Path) -> String {
    format!("ca = {ca:?}")
}

async fn check(proxy: &Proxy) -> Output {
    let mut command = Command::new(executable());
    let file = proxy.path("pgherd.toml");
    command.args(["check", "--connect", "--config"]).arg(file);
    run(command, "").await
}

/// Waits until the log has why a source does not tell.
async fn complained(proxy: &Proxy, source: &str, why: &str) {
    let source = format!("source={source} ");
    let parts = ["patroni does not tell", &source, why];
    until(&format!("of {source}is logged: {why}"), async || {
        let log = proxy.log();
        log.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    })
    .await;
}

#[tokio::test]
async fn members_are_told_by_https() {
    let (database, authority) = (Database::new().await, Authority::new());
    let acceptor = Acceptor::new(&authority.issue("patroni"), None);
    let stand = Stand::speaking(Speech::Https(acceptor.clone())).await;
    stand.tell(&[(database.port, "leader", 1)]);
    let tls = believing(&authority.file());
    for host in ["localhost", "127.0.0.1"] {
        let source = stand.source("https", host);
        let proxy = Proxy::start(&told_at(&database, std::slice::from_ref(&source), &tls)).await;
        let client = proxy.client("app", &database).await;
        assert_eq!(client.one("select 1").await, "1");
        let checked = check(&proxy).await;
        let port = database.port;
        let told = format!("{source} tells of 1 members, 127.0.0.1:{port} leads");
        assert!(checked.success().contains(&told), "{checked:?}");
        let tried = format!("127.0.0.1:{port} takes user \"app\"");
        assert!(checked.out.contains(&tried), "{checked:?}");
    }
    // Not everybody says farewell.
    stand.speak(Speech::Abrupt(acceptor));
    let sources = [stand.source("https", "localhost")];
    let proxy = Proxy::start(&told_at(&database, &sources, &tls)).await;
    proxy.client("app", &database).await;
}

#[tokio::test]
async fn who_does_not_prove_to_be_patroni_is_not_heard() {
    let (database, authority) = (Database::new().await, Authority::new());
    let papers = [
        Authority::named("a stranger").issue("patroni"),
        authority.issue_for(&["db9.test", "127.0.0.9"]),
        authority.issue_expired("patroni"),
    ];
    let mut liars = Vec::new();
    for paper in &papers {
        let liar = Stand::speaking(under(paper)).await;
        liar.tell(&[(free_port(), "leader", 9)]);
        liars.push(liar);
    }
    let honest = Stand::new().await;
    honest.tell(&[(database.port, "leader", 1)]);
    let mut sources: Vec<String> = liars
        .iter()
        .map(|liar| liar.source("https", "127.0.0.1"))
        .collect();
    sources.push(honest.source("http", "127.0.0.1"));
    let tls = believing(&authority.file());
    let proxy = Proxy::start(&told_at(&database, &sources, &tls)).await;
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
    let whys = ["UnknownIssuer", "not valid for name", "expired"];
    for (source, why) in sources.iter().zip(whys) {
        complained(&proxy, source, why).await;
    }
    let checked = check(&proxy).await;
    assert_eq!(checked.code, 69, "{checked:?}");
    assert!(checked.out.contains("takes user \"app\""), "{checked:?}");
    for (source, why) in sources.iter().zip(whys) {
        let mut lines = checked.err.lines();
        let told = lines.any(|line| line.contains(source) && line.contains(why));
        assert!(told, "{checked:?}");
    }
    // None of them has seen as much as a request.
    assert!(liars.iter().all(|liar| *liar.asked.borrow() == 0));
    let console = connect(&proxy.url("app", "pgherd")).await;
    let hosts = console.column("show hosts").await.unwrap();
    assert_eq!(hosts, [format!("127.0.0.1:{}", database.port)]);
}

#[tokio::test]
async fn a_patroni_that_demands_a_certificate_is_shown_one() {
    let (database, authority) = (Database::new().await, Authority::new());
    let acceptor = Acceptor::new(&authority.issue("patroni"), Some(&authority));
    let stand = Stand::speaking(Speech::Https(acceptor)).await;
    stand.tell(&[(database.port, "leader", 1)]);
    let sources = [stand.source("https", "localhost")];
    let ca = believing(&authority.file());
    let proxy = Proxy::start(&told_at(&database, &sources, &ca)).await;
    complained(&proxy, &sources[0], "CertificateRequired").await;
    assert_eq!(*stand.asked.borrow(), 0);
    let with = |paper: &Paper| {
        let (cert, key) = authority.write("pgherd", paper);
        told_at(
            &database,
            &sources,
            &format!("{ca}, cert = {cert:?}, key = {key:?}"),
        )
    };
    let strange = Authority::named("a stranger").issue("pgherd");
    proxy.rewrite(&with(&strange));
    proxy.signal(Signal::HUP);
    complained(&proxy, &sources[0], "UnknownCA").await;
    assert_eq!(*stand.asked.borrow(), 0);
    proxy.rewrite(&with(&authority.issue("pgherd")));
    proxy.signal(Signal::HUP);
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn a_hangup_reads_the_certificates_for_patroni_anew() {
    let (database, old, new) = (
        Database::new().await,
        Authority::new(),
        Authority::named("the next authority"),
    );
    let [before, behind] = [&old, &new].map(|authority| under(&authority.issue("patroni")));
    let stand = Stand::speaking(before.clone()).await;
    stand.tell(&[(database.port, "leader", 1)]);
    let sources = [stand.source("https", "localhost")];
    let ca = old.file();
    let proxy = Proxy::start(&told_at(&database, &sources, &believing(&ca))).await;
    let client = proxy.client("app", &database).await;
    stand.speak(behind.clone());
    complained(&proxy, &sources[0], "UnknownIssuer").await;
    // A file that cannot be used changes nothing.
    let nonsense = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    fs::write(&ca, nonsense).unwrap();
    proxy.signal(Signal::HUP);
    proxy.logged("the configuration stays as it was", 1).await;
    let setting = format!("databases.{}.patroni_tls.ca: ", database.name);
    assert!(proxy.log().contains(&setting), "{}", proxy.log());
    stand.speak(before);
    stand.is_asked_again().await;
    // The same name, and another authority in it.
    fs::write(&ca, &new.certificate).unwrap();
    proxy.signal(Signal::HUP);
    proxy.logged("configuration reloaded", 1).await;
    stand.speak(behind);
    stand.is_asked_again().await;
    // Nothing of that was of interest to who was connected.
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn noise_in_the_place_of_tls_or_an_answer_harms_nothing() {
    let (database, authority) = (Database::new().await, Authority::new());
    let acceptor = Acceptor::new(&authority.issue("patroni"), None);
    let refusal = b"HTTP/1.0 400 Bad Request\r\n\r\n";
    let noises = [
        (Speech::Noise(refusal), "does not speak TLS"),
        // An alert in the place of a hello.
        (
            Speech::Noise(b"\x15\x03\x03\0\x02\x02\x28"),
            "HandshakeFailure",
        ),
        // A record that is longer than any may be.
        (Speech::Noise(b"\x16\x03\x03\xff\xff"), "does not speak TLS"),
        (Speech::Mute, "no connection in time"),
        (Speech::Bared(acceptor.clone(), refusal), "corrupt message"),
        (Speech::Babble(acceptor.clone(), refusal), "400 Bad Request"),
        (
            Speech::Babble(acceptor.clone(), b"\xff\0noise\r\n\r\n"),
            "invalid HTTP",
        ),
        (
            Speech::Babble(acceptor.clone(), b"HTTP/1.0 200 OK\r\n\r\n{\"members\": ["),
            "cannot be understood",
        ),
    ];
    let (mut stands, mut sources) = (Vec::new(), Vec::new());
    for (speech, _) in &noises {
        let stand = Stand::speaking(speech.clone()).await;
        sources.push(stand.source("https", "localhost"));
        stands.push(stand);
    }
    let honest = Stand::speaking(Speech::Https(acceptor)).await;
    honest.tell(&[(database.port, "leader", 1)]);
    sources.push(honest.source("https", "localhost"));
    let tls = believing(&authority.file());
    let proxy = Proxy::start(&told_at(&database, &sources, &tls)).await;
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
    for (source, (_, why)) in sources.iter().zip(&noises) {
        complained(&proxy, source, why).await;
    }
}
