//! Rules of who may log in from where and by what, compared with those of a real Postgres.

use std::fs;
use std::process::Command;

use pgherd_sandbox::{Account, Binaries, Home, Server};
use pgherd_tests::{Authority, Config, Database, Greeting, Proxy, Raw, encrypt, run, until};
use rustix::process::Signal;

/// Rules that both sides understand. Everybody's password is its name.
const RULES: &[&str] = &[
    "hostssl   all       onlytls      127.0.0.1/32              scram-sha-256",
    "hostnossl all       onlyplain    127.0.0.1  255.255.255.255 password",
    "host      \"shop\"  barred       127.0.0.0/8               reject",
    "host      all       barred,\"wide open\" samehost           trust",
    "host      sameuser  same         0.0.0.0/0                 md5 # as of old",
    "host      all       elsewhere    10.0.0.0/8                trust",
    "host      shop, \\\n  same @users  samenet                   scram-sha-256",
    "host      replication all        127.0.0.1/32              reject",
    "host      all       v6           ::/0                      trust",
];

const USERS: [&str; 10] = [
    "onlytls",
    "onlyplain",
    "barred",
    "wide open",
    "same",
    "elsewhere",
    "listed",
    "listed too",
    "v6",
    "nobody",
];

async fn house() -> Server {
    let builder = Server::builder(&Binaries::find().unwrap()).tls(true);
    let mut server = builder.start().await.unwrap();
    // The file that a rule names must stand beside the rules before they are read.
    fs::write(server.data_dir().join("users"), USER_LIST).unwrap();
    let rules = format!("local all postgres trust\n{}\n", RULES.join("\n"));
    fs::write(server.data_dir().join("pg_hba.conf"), rules).unwrap();
    server.restart().await.unwrap();
    for user in USERS.iter().filter(|user| **user != "nobody") {
        server.create_user(user, user).await.unwrap();
    }
    server
        .sql("create database shop; create database same;")
        .await
        .unwrap();
    server
}

const USER_LIST: &str = "listed,\n\"listed too\" # and so on\n";

/// What becomes of a login by libpq: `in`, or the server's words.
async fn outcome(server: &Server, port: u16, user: &str, database: &str, tls: bool) -> String {
    let mode = if tls { "require" } else { "disable" };
    let mut psql = server.client("psql").unwrap();
    let to = format!(
        "host=127.0.0.1 port={port} user='{user}' password='{user}' dbname={database} sslmode={mode}"
    );
    psql.args(["-XAtq", "-d", &to, "-c", "select 1"]);
    let output = run(psql, "").await;
    match output.err.split_once("FATAL:  ") {
        Some((_, words)) => words.trim().to_owned(),
        None => {
            assert_eq!(output.success(), "1");
            "in".to_owned()
        }
    }
}

#[tokio::test]
async fn rules_decide_as_those_of_postgres() {
    let server = house().await;
    let home = Home::new(Account::Own).unwrap();
    let rules = home.join("pg_hba.conf");
    fs::write(&rules, RULES.join("\n")).unwrap();
    fs::write(home.join("users"), USER_LIST).unwrap();
    let certificate = server.certificate().unwrap();
    let users: String = USERS
        .iter()
        .filter(|user| **user != "nobody")
        .map(|user| format!("[users.\"{user}\"]\npassword = \"{user}\"\n"))
        .collect();
    // What stands behind is another server's affair: whoever gets in, gets in there.
    let behind = Database::new().await;
    let databases: String = ["shop", "same"]
        .iter()
        .map(|name| {
            let (port, dbname) = (behind.port, &behind.name);
            format!(
                "[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\ndbname = \"{dbname}\"\n\
                 user = \"app\"\npassword = \"app\"\n"
            )
        })
        .collect();
    let proxy = Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nhba_file = {rules:?}\n\
         [tls]\nmode = \"prefer\"\ncert = {:?}\nkey = {:?}\n{users}{databases}",
        certificate.cert, certificate.key,
    )))
    .await;
    let mut let_in = 0;
    for user in USERS {
        for database in ["shop", "same"] {
            for tls in [false, true] {
                let expected = outcome(&server, server.port(), user, database, tls).await;
                let found = outcome(&server, proxy.port(), user, database, tls).await;
                assert_eq!(found, expected, "{user}@{database}, TLS {tls}");
                let_in += usize::from(found == "in");
            }
        }
    }
    // Both could be wrong alike: so many of the forty fit a rule that lets them in.
    assert_eq!(let_in, 2 + 2 + 2 + 4 + 2 + 4 + 4);
}

/// The start of a configuration with rules in a file, whose users are the test server's.
fn by_file(rules: &std::path::Path, database: &Database, more: &str) -> Config {
    let (name, port) = (&database.name, database.port);
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nunix_dir = \"{{dir}}\"\nunix_port = {{port}}\n\
         [auth]\nhba_file = {rules:?}\n{more}\n[users.app]\npassword = \"app\"\n\
         [users.other]\npassword = \"other\"\n[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ))
}

#[tokio::test]
async fn changed_rules_hold_after_a_reload_and_broken_ones_never() {
    let database = Database::new().await;
    let home = Home::new(Account::Own).unwrap();
    let rules = home.join("pg_hba.conf");
    fs::write(&rules, "host all app all trust\n").unwrap();
    let proxy = Proxy::start(&by_file(&rules, &database, "")).await;
    let code = async |user: &str| {
        let raw = Raw::open(proxy.port()).await;
        let entered = raw.enter(user, &database.name, &[]).await;
        entered.err().map(|refused| refused.field('C').unwrap())
    };
    let refused = || Some("28000".to_owned());
    assert_eq!((code("app").await, code("other").await), (None, refused()));
    let mut inside = proxy.client("app", &database).await;
    fs::write(
        &rules,
        "host all app all reject\nhost all other all trust\n",
    )
    .unwrap();
    proxy.signal(Signal::HUP);
    until("the other rules hold", async || {
        code("other").await.is_none()
    })
    .await;
    assert_eq!(code("app").await, refused());
    // Who is in stays.
    assert_eq!(inside.one("select 1").await, "1");
    fs::write(&rules, "host all all all trust\nhost all all all ldap\n").unwrap();
    proxy.signal(Signal::HUP);
    proxy.logged("the configuration stays as it was", 1).await;
    proxy.logged("pg_hba.conf:2: ", 1).await;
    assert_eq!((code("app").await, code("other").await), (refused(), None));
    inside.simple_query("select 1").await.unwrap();
    drop(inside.message());
}

#[tokio::test]
async fn replication_has_rules_of_its_own() {
    let database = Database::new().await;
    let home = Home::new(Account::Own).unwrap();
    let rules = home.join("pg_hba.conf");
    fs::write(
        &rules,
        "host all all all trust\nhost replication other all reject\n",
    )
    .unwrap();
    let proxy = Proxy::start(&by_file(&rules, &database, "")).await;
    for (user, words) in [
        (
            "app",
            "no pg_hba.conf entry for replication connection from",
        ),
        ("other", "pg_hba.conf rejects replication connection for"),
    ] {
        let raw = Raw::open(proxy.port()).await;
        let more = [("replication", "true")];
        let refused = raw.enter(user, &database.name, &more).await.unwrap_err();
        assert_eq!(refused.field('C').as_deref(), Some("28000"));
        let text = format!("{words} host \"127.0.0.1\", user \"{user}\", no encryption");
        assert_eq!(refused.field('M'), Some(text));
    }
    // Of one database, it comes under that database's rules.
    let raw = Raw::open(proxy.port()).await;
    let more = [("replication", "database")];
    assert!(raw.enter("app", &database.name, &more).await.is_ok());
}

#[tokio::test]
async fn names_of_the_system_and_in_certificates_are_mapped() {
    let database = Database::new().await;
    let (name, port) = (&database.name, database.port);
    let home = Home::new(Account::Own).unwrap();
    let mut id = Command::new("id");
    id.arg("-un");
    let me = run(id, "").await.success().to_owned();
    let maps = home.join("pg_ident.conf");
    let text =
        format!("people {me} app\nservices \"/^svc-(.*)$\" \\1\nsubjects /^CN=whole, other\n");
    fs::write(&maps, text.replace("whole,", "whole")).unwrap();
    let authority = Authority::new();
    let tls = authority.section("prefer");
    let rule = |kind: &str, users: &str, method: &str| {
        format!("[[auth.rules]]\ntype = \"{kind}\"\nusers = [\"{users}\"]\nmethod = {method}\n")
    };
    let rules = [
        rule("local", "all", "\"peer\"\nmap = \"people\""),
        rule("hostssl", "app", "\"cert\"\nmap = \"services\""),
        rule(
            "hostssl",
            "other",
            "\"cert\"\nclientname = \"DN\"\nmap = \"subjects\"",
        ),
        rule(
            "hostssl",
            "postgres",
            "\"trust\"\nclientcert = \"verify-ca\"",
        ),
        rule(
            "hostssl",
            "plain",
            "\"trust\"\nclientcert = \"verify-full\"",
        ),
        rule("host", "md5", "\"trust\""),
    ];
    let proxy = Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nunix_dir = \"{{dir}}\"\nunix_port = {{port}}\n\
         [auth]\nident_file = {maps:?}\n{}{tls}[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n\
         user = \"app\"\npassword = \"app\"\n",
        rules.concat(),
    )))
    .await;
    let entered = async |raw: Raw, user: &str| raw.enter(user, name, &[]).await.is_ok();
    let socket = proxy.path(&format!(".s.PGSQL.{}", proxy.port()));
    assert!(entered(Raw::unix(&socket).await, "app").await);
    assert!(
        !entered(Raw::unix(&socket).await, &me).await,
        "only as mapped"
    );
    for (shown, user, right) in [
        (Some("svc-app"), "app", true),
        (Some("app"), "app", false),
        (Some("svc-other"), "app", false),
        (None, "app", false),
        (Some("whole"), "other", true),
        (Some("part"), "other", false),
        (Some("whoever"), "postgres", true),
        (None, "postgres", false),
        (Some("plain"), "plain", true),
        (Some("whoever"), "plain", false),
        // Nobody is asked for a certificate whose rule does not.
        (None, "md5", true),
    ] {
        let own = shown.map(|shown| authority.issue(shown));
        let raw = encrypt(proxy.port(), &authority, Greeting::Request, own.as_ref());
        let raw = raw.await.unwrap();
        assert_eq!(entered(raw, user).await, right, "{shown:?} as {user}");
    }
    let plain = Raw::open(proxy.port()).await;
    assert!(!entered(plain, "app").await, "cert is for TLS");
}
