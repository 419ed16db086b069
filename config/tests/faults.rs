use proptest::prelude::*;

use super::{PEM, Place};
use crate::TlsMode;

#[test]
fn are_all_told_at_once() {
    let place = Place::with(
        r#"
include = ["more.toml"]
colour = "blue"

[listen]
addresses = ["127.0.0.1:6432", "nowhere", "127.0.0.1:99999"]

[pool]
siz = 5
size = 0
min = -1
mode = "fast"

[timeouts]
query = "2m"
transaction = "1m"
login = true

[tls]
mode = "verify-full"
cert = "none.crt"

[databases.shop]
hosts = []
password = "hunter2"
pool = { min = 30, size = 3 }
tls = { mode = "verify-ca" }

[users.alice]
password_file = "none.secret"
console = "root"
"#,
    );
    place.write(
        "more.toml",
        "[databases.other]\nhost = [\"a\"]\n[log]\nlevel = \"loud\"\n",
    );
    let allowed_address = "\"127.0.0.1:6432\", \"[::1]:6432\", \"localhost:6432\", \
                           \"*:6432\" for all of IPv4, \"[::]:6432\" for all";
    let sections = "listen, admin, tls, auth, pool, timeouts, limits, failover, reads, notifications, workers, log, metrics, drain, \
                    databases, users";
    let time = "seconds, or a text such as \"500ms\", \"30s\", \"5m\", \"1h\", \"1d\"";
    let database = "hosts, patroni, aurora, host_settings, dbname, user, password, password_file, auth_query, \
                    channel_binding, tls, patroni_tls, pool, timeouts, reads, limits, parameters";
    let expected = format!(
        r#"more.toml:1: databases.other.hosts: is missing (allowed: a list of "host", "host:5432", "[::1]:5432", "/directory:5432")
more.toml:2: databases.other.host: no such setting, perhaps `hosts` (allowed: {database})
more.toml:4: log.level: "loud" is not allowed (allowed: off, error, warn, info, debug, trace; target=level)
pgherd.toml:3: colour: no such setting (allowed: {sections})
pgherd.toml:6: listen.addresses: "nowhere" is not allowed (allowed: {allowed_address})
pgherd.toml:6: listen.addresses: "127.0.0.1:99999" is not allowed (allowed: {allowed_address})
pgherd.toml:9: pool.siz: no such setting, perhaps `size` (allowed: mode, size, min, reserve, reserve_after, max_waiters, order, reset_query, function_check, max_prepared_statements, max_prepared_bytes, defer_begin, custom_settings_apart)
pgherd.toml:10: pool.size: 0 is not allowed (allowed: a number from 1)
pgherd.toml:11: pool.min: -1 is not allowed (allowed: a number from 0)
pgherd.toml:12: pool.mode: "fast" is not allowed (allowed: transaction, session, statement)
pgherd.toml:17: timeouts.login: true is not allowed (allowed: {time}; 0 for none)
pgherd.toml:20: tls.mode: verify-full needs to know whom to believe (allowed: up to require, or with `ca`)
pgherd.toml:21: tls.cert: it has no key (allowed: with `key` only)
pgherd.toml:21: tls.cert: none.crt: no such file or directory (allowed: a PEM file that can be read)
pgherd.toml:24: databases.shop.hosts: there is no host (allowed: at least one host)
pgherd.toml:25: databases.shop.password: nobody is named whose it is (allowed: with `user` only; clients' own passwords stand under [users])
pgherd.toml:26: databases.shop.pool.min: 30 is more than the size, 3 (allowed: 0 to `size`)
pgherd.toml:27: databases.shop.tls.mode: verify-ca needs to know whom to believe (allowed: with `ca`, "system" or a file; or up to require)
pgherd.toml:30: users.alice.password_file: none.secret: no such file or directory (allowed: a file that can be read)
pgherd.toml:31: users.alice.console: "root" is not allowed (allowed: none, reader, admin)"#
    );
    assert_eq!(place.faults(), expected);
}

/// Loads a text after a sound database and user, and gives the faults.
fn faults(text: &str) -> String {
    let sound = "[databases.shop]\nhosts = [\"a\"]\n[users.app]\npassword = \"p\"\n";
    let place = Place::with(&format!("{sound}{text}"));
    place.write("cert.pem", PEM);
    place.write("empty", "\n");
    place.faults()
}

#[test]
fn are_found_one_by_one() {
    for (text, part) in [
        (
            "[timeouts]\nquery = \"2m\"\ntransaction = 60",
            "query: 2m is longer than `transaction`, 1m",
        ),
        (
            "[timeouts]\nserver_lifetime = 60",
            "jitter: 5m is longer than `server_lifetime`, 1m",
        ),
        (
            "[auth]\nquery = \"SELECT $1\"",
            "auth.query: nobody is named",
        ),
        (
            "[auth]\nquery = \"SELECT 1\"\nquery_user = \"app\"",
            "does not ask for the user",
        ),
        (
            "[auth]\nquery_user = \"bob\"",
            "query_user: no password is known for \"bob\"",
        ),
        (
            "[auth]\nmethod = \"cert\"",
            "clients are not asked for certificates",
        ),
        (
            "[auth]\nmethod = \"peer\"",
            "a TCP connection has no peer user",
        ),
        (
            "[auth]\nscram_iterations = 1",
            "scram_iterations: 1 is not allowed",
        ),
        (
            "[failover]\nuser_timeout = \"20ms\"",
            "user_timeout: 20ms is less than a lost packet takes",
        ),
        (
            "[databases.aws]\nhosts = [\"s.cluster-ro-c1.eu-west-1.rds.amazonaws.com\"]\n\
             [failover]\ncommit_resolution = \"on\"",
            "the servers of \"aws\" are Aurora's, which cannot tell",
        ),
        (
            "[databases.aws]\nhosts = [\"a\"]\naurora = \"?.c1.example\"\n\
             [failover]\ncommit_resolution = \"on\"",
            "the servers of \"aws\" are Aurora's, which cannot tell",
        ),
        (
            "[databases.aws]\nhosts = [\"a\"]\naurora = \"c1.example\"",
            "aurora: \"c1.example\" is not allowed (allowed: an address with `?`",
        ),
        (
            "[databases.aws]\npatroni = [\"http://a\"]\naurora = \"?.c1.example\"",
            "aurora: Patroni tells which hosts there are",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\npatroni = [\"ftp://a\"]",
            "patroni: \"ftp://a\" is not allowed (allowed: \"http://host\", \"http://host:8008\", \"https://host:8008\")",
        ),
        (
            "[databases.b]\npatroni = [\"https://a\"]\npatroni_tls = { cert = \"cert.pem\" }",
            "databases.b.patroni_tls.cert: it has no key",
        ),
        (
            "[databases.b]\npatroni = [\"https://a\"]\npatroni_tls = { key = \"cert.pem\" }",
            "databases.b.patroni_tls.key: it has no certificate",
        ),
        (
            "[databases.b]\npatroni = [\"https://a\"]\npatroni_tls = { ca = \"none.crt\" }",
            "databases.b.patroni_tls.ca: none.crt: no such file or directory",
        ),
        (
            "[databases.b]\npatroni = [\"https://a\"]\n\
             patroni_tls = { cert = \"cert.pem\", key = \"empty\" }",
            "databases.b.patroni_tls.key: empty: there is no PEM block in it",
        ),
        (
            "[databases.b]\npatroni = [\"https://a\"]\npatroni_tls = { mode = \"verify-ca\" }",
            "databases.b.patroni_tls.mode: no such setting (allowed: ca, cert, key)",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\npatroni_tls = { ca = \"system\" }",
            "databases.b.patroni_tls: no Patroni is asked (allowed: with `patroni` only)",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nhost_settings = [{ host = \"a\", weight = 1001 }]",
            "host_settings.weight: 1001 is not allowed (allowed: a number from 0 to 1000)",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nhost_settings = [{ host = \"a\" }, { host = \"a:5432\" }]",
            "a:5432 is there twice",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nhost_settings = [{ host = \"a\", weigth = 1 }]",
            "weigth: no such setting, perhaps `weight`",
        ),
        ("[listen]\naddresses = []", "nobody could connect"),
        (
            "[listen]\naddresses = [\"[::1]:1\", \"[::1]:1\"]",
            "[::1]:1 is there twice",
        ),
        (
            "[listen]\nproxies = [\"10.0.0.0/33\"]",
            "proxies: \"10.0.0.0/33\" is not allowed",
        ),
        (
            "[listen]\nproxies = [\"lb.internal\"]",
            "proxies: \"lb.internal\" is not allowed",
        ),
        ("[listen]\nunix_dir = \"none\"", "no such directory"),
        (
            "[listen]\nunix_mode = \"1777\"",
            "unix_mode: \"1777\" is not allowed",
        ),
        (
            "[listen]\nunix_mode = \"999\"",
            "unix_mode: \"999\" is not allowed",
        ),
        ("[tls]\nmode = \"require\"", "require needs a certificate"),
        (
            "[tls]\ncert = \"empty\"\nkey = \"cert.pem\"",
            "there is no PEM block in it",
        ),
        (
            "[limits]\nmax_clients = 99999999999999",
            "99999999999999 is not allowed",
        ),
        (
            "[metrics]\nlisten = \"127.0.0.1:6432\"",
            "clients are accepted on 127.0.0.1:6432",
        ),
        (
            "[metrics]\npath = \"/healthz\"",
            "metrics.path: \"/healthz\" is not allowed",
        ),
        (
            "[drain]\ndelay = \"soon\"",
            "drain.delay: \"soon\" is not allowed",
        ),
        ("[pool]\nmin = 21", "21 is more than the size, 20"),
        (
            "[pool]\ncustom_settings_apart = \"yes\"",
            "custom_settings_apart: \"yes\" is not allowed (allowed: true, false, if_asked)",
        ),
        (
            "[pool]\ncustom_settings_apart = \"true\"",
            "custom_settings_apart: \"true\" is not allowed",
        ),
        (
            "[users.b]\npool = { min = 21 }",
            "users.b.pool.min: the minimum is 21, and the size 20",
        ),
        (
            "[users.b]\npassword_file = \"empty\"",
            "there is no secret in it",
        ),
        (
            "[users.b]\npassword = \"SCRAM-SHA-256$x\"",
            "begins like a verifier and is none",
        ),
        (
            "[users.b]\npassword = 5",
            "users.b.password: what is given is not allowed",
        ),
        (
            "[users.\"*\"]\nconsole = \"admin\"",
            "everyone could command",
        ),
        (
            "[users]\nb = 1",
            "users.b: 1 is not allowed (allowed: a table)",
        ),
        (
            "[databases.b]\nhosts = [\"a\", \"a:5432\"]",
            "a:5432 is there twice",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nuser = \"u\"",
            "no password is known for it",
        ),
        (
            "[auth]\nquery_user = \"app\"\n[databases.b]\nhosts = [\"a\"]\nauth_query = \"SELECT 1\"",
            "auth_query: it does not ask for the user",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nauth_query = \"$1\"",
            "nobody is named to run it",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nparameters = { user = \"x\" }",
            "parameters.user",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\ntls = { ca = \"system\", mode = \"require\" }",
            "too weak",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\ntls = { negotiation = \"direct\" }",
            "databases.b.tls.negotiation: direct TLS leaves no way to plain text, which prefer may take",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\ntls = { negotiation = \"yes\" }",
            "negotiation: \"yes\" is not allowed (allowed: postgres, direct)",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\ntls = { min_version = \"1.1\" }",
            "min_version: \"1.1\" is not allowed (allowed: 1.2, 1.3)",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nchannel_binding = \"require\"\ntls = { mode = \"allow\" }",
            "databases.b.channel_binding: there is no TLS to bind to",
        ),
        (
            "[databases.b]\nhosts = [\"a\"]\nchannel_binding = \"yes\"",
            "\"yes\" is not allowed (allowed: disable, prefer, require)",
        ),
        (
            "[databases.\"a.b\"]\nhosts = [\"/a b\"]",
            "databases.\"a.b\".hosts: \"/a b\"",
        ),
        (
            "[admin]\nadmins = [\"a\"]\nreaders = [\"a\"]",
            "\"a\" is an admin too",
        ),
        ("[workers]\ncount = 0", "\"auto\", or a number"),
        ("[pool]\nsize = 1.5", "size: 1.5 is not allowed"),
        (
            "pool = 5",
            "users.app.pool: 5 is not allowed (allowed: a table)",
        ),
    ] {
        let found = faults(text);
        assert!(found.contains(part), "{text}\ngave {found}");
        assert_eq!(found.lines().count(), 1, "{text}\ngave {found}");
    }
}

#[test]
fn of_syntax_have_lines() {
    let found = Place::with("[pool]\nsize = 1\nsize = 2\n").faults();
    assert_eq!(found, "pgherd.toml:3: duplicate key");
    let found = Place::with("[pool]\nsize = \n[log\n").faults();
    assert!(found.starts_with("pgherd.toml:2: "), "{found}");
    assert!(found.lines().count() >= 2, "{found}");
}

#[test]
fn of_files_are_told() {
    let place = Place::with("include = [\"tenants/*.toml\", \"none.toml\"]\n[pool]\nsize = 5\n");
    place.write(
        "tenants/a.toml",
        "[databases.shop]\nhosts = [\"a\"]\n[pool]\nsize = 6\n",
    );
    place.write("tenants/b.toml", "[databases.shop]\nuser = \"b\"\n");
    assert_eq!(
        place.faults(),
        "pgherd.toml:1: none.toml: no such file or directory (allowed: a TOML file that can be read)\n\
         tenants/a.toml:4: pool.size: is already set at pgherd.toml:3\n\
         tenants/b.toml:1: databases.shop: is already set at tenants/a.toml:1"
    );
    let mut place = Place::bare();
    place.input.file = Some(place.path("none.toml"));
    assert!(
        place
            .faults()
            .starts_with("--config: none.toml: no such file")
    );
}

#[test]
fn never_show_secrets() {
    let place = Place::with("[databases.a]\nhosts = [\"x y\"]\npassword = \"hunter2\"\n")
        .env("PGHERD_USERS__A__PASSWORD", "SCRAM-SHA-256$hunter2")
        .url("postgres://u:hunter2@h:bad/d")
        .url("postgres://u:hunter2/@h/d")
        .url("host=h password=a hunter2");
    let found = place.faults();
    assert!(
        found.contains("users.a.password") && found.contains("host \"h\""),
        "{found}"
    );
    assert!(!found.contains("hunter2"), "{found}");
}

#[test]
fn are_not_what_is_merely_odd() {
    let place = Place::with(
        "[databases.pgherd]\nhosts = [\"a\"]\n[users.a]\nserver_user = \"b\"\n[auth]\nunix_method = \"trust\"\n",
    );
    assert_eq!(
        place.warnings(),
        [
            "pgherd.toml:1: databases.pgherd: the console hides it",
            "pgherd.toml:4: users.a.server_user: no password is known for it, so the servers must trust it",
            "configuration: users: nobody has a password, so nobody can log in",
        ]
    );
}

/// Whoever names an authority believes to be protected by it.
#[test]
fn are_not_what_protects_nothing_but_that_is_told() {
    let text = |sources: &str| {
        format!("[databases.d]\npatroni = [{sources}]\n[databases.d.patroni_tls]\nca = \"ca\"\n")
    };
    let warned = |sources: &str| {
        let place = Place::with(&text(sources));
        place.write("ca", PEM);
        let mut warnings = place.warnings();
        warnings.retain(|it| it.contains("patroni_tls"));
        warnings
    };
    assert_eq!(
        warned("\"http://a\", \"http://b\""),
        [
            "pgherd.toml:3: databases.d.patroni_tls: it protects nothing, as no source in `patroni` is https"
        ]
    );
    assert_eq!(warned("\"http://a\", \"https://b\""), [""; 0]);
}

#[test]
fn do_not_follow_from_a_broken_file() {
    let place = Place::with("include = [\"users.toml\"]\n[auth]\nquery_user = \"app\"\n");
    place.write("users.toml", "[users.app\npassword = \"p\"\n");
    let found = place.faults();
    assert!(
        found.lines().all(|line| line.starts_with("users.toml:")),
        "{found}"
    );
}

#[test]
fn of_a_long_socket_path_are_told() {
    let dir = "d".repeat(120);
    let place = Place::with(&format!(
        "[listen]\nunix_dir = \"{dir}\"\n[databases.d]\nhosts = [\"a\"]\n"
    ));
    std::fs::create_dir(place.path(&dir)).unwrap();
    assert!(place.faults().contains("longer than 92 bytes"));
}

#[test]
fn tls_is_never_weaker_than_it_seems() {
    let text = |mode: &str| {
        format!("[databases.d]\nhosts = [\"a\"]\ntls = {{ mode = \"{mode}\", ca = \"ca\" }}\n")
    };
    let place = Place::with(&text("require"));
    place.write("ca", PEM);
    assert_eq!(
        place.config().database("d").unwrap().tls.mode,
        TlsMode::VerifyCa
    );
    let place = Place::with(&text("prefer"));
    place.write("ca", PEM);
    assert!(
        place
            .warnings()
            .iter()
            .any(|it| it.contains("`ca` protects nothing"))
    );
}

/// Texts that are nearly configurations.
fn nearly() -> impl Strategy<Value = String> {
    let key =
        "(listen|pool|size|databases|users|a|hosts|tls|mode|timeouts|query|include|parameters)";
    let value = "([0-9]{1,20}|-1|1e9|true|\"[a-z0-9:/*\\[\\]%,@.]{0,8}\"|\\[\"a\", 1\\]|\\{a = 1\\}|1979-05-27)";
    let line = format!("(\\[{key}(\\.{key}){{0,3}}\\]|{key}(\\.{key})? = {value}|[ -~]{{0,9}})");
    let line = proptest::string::string_regex(&line).expect("a regular expression");
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_are_panics(text in nearly(), name in "PGHERD_[A-Z_]{0,20}", value in "[ -~]{0,9}") {
        let place = Place::with(&text).env(&name, &value);
        if let Err(faults) = place.load() {
            prop_assert!(faults.iter().count() > 0 && !faults.to_string().is_empty());
        }
    }
}
