use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::{Surroundings, Url, UrlFault};
use crate::{ChannelBinding, Roots, TlsMode};

fn with(text: &str, variables: &[(&str, &str)], pgpass: &str) -> Result<Url, UrlFault> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: BTreeMap<String, String> = variables.iter().map(own).collect();
    Url::parse(
        text,
        &Surroundings {
            variables: &variables,
            pgpass,
            root_cert: None,
        },
    )
}

fn url(text: &str) -> Url {
    with(text, &[], "").unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn hosts(url: &Url) -> Vec<String> {
    url.hosts.iter().map(ToString::to_string).collect()
}

#[test]
fn reads_urls() {
    let all = url(
        "postgresql://u%3A:p%2F:@a:1,[::1]:2,%2Fvar%2Frun/d%20b?sslmode=verify-full\
                   &sslrootcert=/ca&application_name=x+y&connect_timeout=7",
    );
    assert_eq!(hosts(&all), ["a:1", "[::1]:2", "/var/run:5432"]);
    assert_eq!(all.user.as_deref(), Some("u:"));
    assert_eq!(all.password.as_ref().unwrap().expose(), "p/:");
    assert_eq!(all.dbname.as_deref(), Some("d b"));
    assert_eq!(all.tls_mode, Some(TlsMode::VerifyFull));
    assert_eq!(all.ca, Some(Roots::File(PathBuf::from("/ca"))));
    assert_eq!(all.parameters["application_name"], "x+y");
    assert_eq!(all.connect_timeout, Some(Some(Duration::from_secs(7))));
    assert_eq!(hosts(&url("postgres://")), ["localhost:5432"]);
    assert_eq!(hosts(&url("postgres://:7/d")), ["localhost:7"]);
    assert_eq!(hosts(&url("postgres:///d?host=/tmp&port=9")), ["/tmp:9"]);
    assert_eq!(url("postgres://u@h").dbname.as_deref(), Some("u"));
    assert_eq!(
        url("postgres://u:p@ss@h/d").password.unwrap().expose(),
        "p@ss"
    );
    assert_eq!(
        url("postgres://h/d?ssl=true").tls_mode,
        Some(TlsMode::Require)
    );
    assert_eq!(
        url("postgres://h/d?connect_timeout=0").connect_timeout,
        Some(None)
    );
}

#[test]
fn reads_pairs() {
    let all = url(r"host=a,b port = 5 user='it\'s' password='' dbname=x\ y sslmode=disable");
    assert_eq!(hosts(&all), ["a:5", "b:5"]);
    assert_eq!(all.user.as_deref(), Some("it's"));
    assert_eq!(all.password, None);
    assert_eq!(all.dbname.as_deref(), Some("x y"));
    assert_eq!(url("host=h user='://'").user.as_deref(), Some("://"));
    let one = url("host=db.example hostaddr=10.0.0.1 sslmode=require");
    assert_eq!(hosts(&one), ["10.0.0.1:5432"]);
    assert_eq!(one.server_name.as_deref(), Some("db.example"));
}

#[test]
fn reads_options() {
    let all = url(r"host=a options='-c work_mem=1MB --search-path=a\\ b -cx.y=z'");
    let all: Vec<(&str, &str)> = all
        .parameters
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        all,
        [("search_path", "a b"), ("work_mem", "1MB"), ("x.y", "z")]
    );
}

#[test]
fn asks_the_surroundings_last() {
    let variables = [
        ("PGHOST", "v"),
        ("PGPORT", "1"),
        ("PGUSER", "w"),
        ("PGSSLMODE", "require"),
    ];
    let filled = with("postgres://", &variables, "v:1:*:w:pw").unwrap();
    assert_eq!(hosts(&filled), ["v:1"]);
    assert_eq!(filled.tls_mode, Some(TlsMode::Require));
    assert_eq!(filled.password.unwrap().expose(), "pw");
    let own = with("postgres://me:mine@h:2/d?sslmode=prefer", &variables, "").unwrap();
    assert_eq!(hosts(&own), ["h:2"]);
    assert_eq!(own.user.as_deref(), Some("me"));
    assert_eq!(own.tls_mode, Some(TlsMode::Prefer));
    let own = with("postgres://h/d", &[("PGHOSTADDR", "10.9.9.9")], "").unwrap();
    assert_eq!(hosts(&own), ["h:5432"]);
}

#[test]
fn finds_passwords() {
    let file = "# h:*:*:*:no\nh:1:d:u:other\n*:5432:d:u\\:x:c\nh:5432:*:u:a\\:b:c\n\
                localhost:*:*:*:sock\n";
    let of = |text: &str| {
        with(text, &[], file)
            .unwrap()
            .password
            .map(|it| it.expose().to_owned())
    };
    assert_eq!(of("postgres://u@h/d").as_deref(), Some("a:b:c"));
    assert_eq!(of("postgres://u%3Ax@h/d").as_deref(), Some("c"));
    assert_eq!(of("postgres://v@h/d"), None);
    assert_eq!(of("postgres://v@%2Ftmp/d").as_deref(), Some("sock"));
}

#[test]
fn refuses_what_it_does_not_know() {
    for (text, message) in [
        (
            "mysql://h/d?a=b",
            "neither a postgres:// URL nor keyword=value pairs",
        ),
        (
            "mysql://h/d",
            "neither a postgres:// URL nor keyword=value pairs",
        ),
        (
            "just words",
            "neither a postgres:// URL nor keyword=value pairs",
        ),
        (
            "postgres://h/%zz",
            "the database has a `%` escape that is none",
        ),
        (
            "postgres://u:%ff@h/d",
            "the password has a `%` escape that is none",
        ),
        (
            "postgres://h:99999/d",
            "host \"h\", or its port, cannot be understood; in a password, `/` is written %2F",
        ),
        ("postgres://h/d?sslmod=x", "no such parameter: \"sslmod\""),
        ("postgres://h/d?x", "a name=value pair is not whole"),
        ("host=a,b,c port=1,2", "there are 2 ports for 3 hosts"),
        (
            "host=a user='open",
            "a name=value pair is not whole, after `user`",
        ),
        (
            "host=a port=0",
            "host \"a\", or its port, cannot be understood; in a password, `/` is written %2F",
        ),
        (
            "host=a options=-d5",
            "`options` has \"-d5\", which is not `-c name=value`",
        ),
        (
            "host=a gssencmode=require",
            "\"require\" is not a value for `gssencmode`, but disable is",
        ),
        (
            "host=a sslmode=yes",
            "\"yes\" is not a value for `sslmode`, but disable, allow, prefer, require, \
             verify-ca, verify-full is",
        ),
    ] {
        let fault = with(text, &[], "").expect_err(text);
        assert_eq!(fault.to_string(), message, "{text}");
    }
}

#[test]
fn tells_what_has_no_effect() {
    let found = url("postgres://h/d?keepalives=1&channel_binding=require&gssencmode=prefer");
    assert_eq!(found.ignored, ["keepalives"]);
    assert_eq!(found.channel_binding, Some(ChannelBinding::Require));
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_forms_carry_any_text(user in "[^\0]{1,9}", word in "[^\0]{1,9}", db in "[^\0]{1,9}") {
        let written = [
            format!("postgres://{}:{}@h/{}", encode(&user), encode(&word), encode(&db)),
            format!("host=h user={} password={} dbname={}", quote(&user), quote(&word), quote(&db)),
        ];
        for text in written {
            let url = url(&text);
            prop_assert_eq!(url.user.as_deref(), Some(&*user));
            prop_assert_eq!(url.password.as_ref().map(|it| it.expose()), Some(&*word));
            prop_assert_eq!(url.dbname.as_deref(), Some(&*db));
        }
    }

    #[test]
    fn nothing_panics(text in "(postgres://)?[ -~é\0]{0,40}", file in "[ -~\n]{0,40}") {
        let _ = with(&text, &[], &file);
    }
}
