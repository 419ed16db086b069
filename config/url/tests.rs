use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::{Surroundings, Url, UrlFault};
use crate::{ChannelBinding, Negotiation, Roots, TlsMode, TlsVersion};

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
    // Also where nothing is to be done for it, and where a library speaks to itself.
    for (pair, told) in [
        ("keepalives_idle=30", true),
        ("keepalives_interval=5", true),
        ("keepalives_count=3", true),
        ("tcp_user_timeout=5000", true),
        ("target_session_attrs=standby", true),
        ("target_session_attrs=prefer-standby", true),
        ("target_session_attrs=read-write", false),
        ("target_session_attrs=any", false),
        ("load_balance_hosts=random", true),
        ("load_balance_hosts=disable", false),
        ("gssencmode=disable", false),
        ("sslnegotiation=postgres", false),
        ("sslcertmode=allow", false),
        ("sslsni=0", true),
        ("sslcompression=0", false),
        ("ssl_min_protocol_version=TLSv1.2", false),
        ("ssl_max_protocol_version=TLSv1.3", false),
        ("ssl_max_protocol_version=TLSv1.2", true),
        ("min_protocol_version=3.0", false),
        ("max_protocol_version=3.0", true),
        ("client_encoding=auto", true),
        ("replication=database", true),
        ("schema=public", false),
        ("pgbouncer=true", true),
        ("connection_limit=5", true),
        ("pool_timeout=10", true),
        ("statement_cache_size=0", true),
        ("sslaccept=accept_invalid_certs", true),
        ("prepareThreshold=0", true),
        ("pool_max_conns=4", true),
        ("prepared_statements=false", true),
    ] {
        let name = pair.split('=').next().unwrap();
        let found = url(&format!("postgres://h/d?{pair}"));
        let expected: &[&str] = if told { &[name] } else { &[] };
        assert_eq!(found.ignored, expected, "{pair}");
        assert!(
            found.parameters.is_empty(),
            "{pair}: {:?}",
            found.parameters
        );
    }
}

#[test]
fn refuses_what_would_pass_for_protection() {
    for (pairs, message) in [
        (
            "sslcrl=/crl",
            "`sslcrl` cannot be honoured: lists of revoked certificates are not read",
        ),
        ("sslcrldir=/d", "`sslcrldir` cannot be honoured"),
        (
            "require_auth=scram-sha-256",
            "`require_auth` cannot be honoured: a server is answered whatever",
        ),
        ("requirepeer=postgres", "`requirepeer` cannot be honoured"),
        (
            "sslcertmode=require",
            "`sslcertmode` cannot be honoured: a server that asks for no",
        ),
        (
            "sslcertmode=no",
            "\"no\" is not a value for `sslcertmode`, but disable, allow is",
        ),
        ("sslpassword=hunter2", "`sslpassword` cannot be honoured"),
        ("sslidentity=client.p12", "`sslidentity` cannot be honoured"),
        (
            "sslaccept=strict",
            "`sslaccept` cannot be honoured: write sslmode=verify-full",
        ),
        (
            "service=prod",
            "`service` cannot be honoured: files of services are not read",
        ),
        (
            "scram_client_key=hunter2",
            "`scram_client_key` cannot be honoured",
        ),
        (
            "oauth_client_secret=hunter2",
            "`oauth_client_secret` cannot be honoured",
        ),
        (
            "min_protocol_version=3.2",
            "`min_protocol_version` cannot be honoured",
        ),
        (
            "ssl_min_protocol_version=SSLv3",
            "is not a value for `ssl_min_protocol_version`",
        ),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "is not a value for `ssl_max_protocol_version`",
        ),
        (
            "sslnegotiation=tls",
            "\"tls\" is not a value for `sslnegotiation`, but postgres, direct is",
        ),
        (
            "sslnegotiation=direct",
            "`sslnegotiation` cannot be honoured: direct leaves no way",
        ),
        (
            "sslnegotiation=direct&sslmode=prefer",
            "so sslmode must be require, verify-ca or verify-full",
        ),
        ("keepalive=1", "no such parameter: \"keepalive\""),
    ] {
        let fault = with(&format!("postgres://h/d?{pairs}"), &[], "").expect_err(pairs);
        let told = fault.to_string();
        assert!(told.contains(message), "{pairs}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    // Variables of libpq's ask for it, too.
    for (variable, value) in [
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGSSLCRL", "/crl"),
        ("PGGSSENCMODE", "require"),
    ] {
        assert!(
            with("postgres://h/d", &[(variable, value)], "").is_err(),
            "{variable}"
        );
    }
}

#[test]
fn honours_how_tls_is_to_be() {
    for mode in [
        "sslmode=require",
        "sslmode=verify-full&sslrootcert=system",
        "sslrootcert=/ca",
    ] {
        let found = url(&format!("postgres://h/d?sslnegotiation=direct&{mode}"));
        assert_eq!(found.negotiation, Some(Negotiation::Direct), "{mode}");
    }
    let strong = [("PGSSLNEGOTIATION", "direct"), ("PGSSLMODE", "require")];
    let found = with("postgres://h/d", &strong, "").unwrap();
    assert_eq!(found.negotiation, Some(Negotiation::Direct));
    let found = url("postgres://h/d?ssl_min_protocol_version=TLSv1.3");
    assert_eq!(found.tls_min_version, Some(TlsVersion::V1_3));
    let pair = "sslcert=/c&sslkey=/k";
    assert!(url(&format!("postgres://h/d?{pair}")).cert.is_some());
    let hidden = url(&format!("postgres://h/d?{pair}&sslcertmode=disable"));
    assert_eq!((hidden.cert, hidden.key), (None, None));
}

#[test]
fn honours_settings_that_libraries_take() {
    for (pairs, name, value) in [
        ("schema=shop", "search_path", "\"shop\""),
        ("schema=sh%22op", "search_path", "\"sh\"\"op\""),
        ("currentSchema=a,b", "search_path", "a,b"),
        ("schema=a&search_path=b", "search_path", "b"),
        ("statement_timeout=5s", "statement_timeout", "5s"),
        ("TimeZone=UTC", "TimeZone", "UTC"),
        ("fallback_application_name=psql", "application_name", "psql"),
        (
            "fallback_application_name=psql&application_name=me",
            "application_name",
            "me",
        ),
    ] {
        let found = url(&format!("postgres://h/d?{pairs}"));
        assert_eq!(found.parameters.len(), 1, "{pairs}");
        assert_eq!(
            found.parameters.get(name).map(String::as_str),
            Some(value),
            "{pairs}"
        );
    }
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
