use std::net::IpAddr;

use super::{PEM, Place};
use crate::{Auth, ClientCert, Method, Network, Visitor, Way};

const SHOP: &str = "[databases.shop]\nhosts = [\"a\"]\n[users.app]\npassword = \"p\"\n";

/// A place whose rules are in a file of Postgres' form, with TLS and certificates of clients.
fn with_file(rules: &str) -> Place {
    let tls = "[tls]\nmode = \"prefer\"\ncert = \"a.pem\"\nkey = \"a.pem\"\nca = \"a.pem\"\n";
    let auth = "[auth]\nhba_file = \"pg_hba.conf\"\nident_file = \"pg_ident.conf\"\n";
    let place = Place::with(&format!("{auth}{tls}{SHOP}"));
    place.write("a.pem", PEM);
    place.write("pg_hba.conf", rules);
    place.write("pg_ident.conf", "staff root app\n");
    place
}

fn way(text: &str) -> Way {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    match text.split_once(' ') {
        Some(("tls", address)) => Way::Tls(ip(address)),
        Some(("tcp", address)) => Way::Plain(ip(address)),
        _ => Way::Unix,
    }
}

/// Gives the method by which a client is asked, or `none`.
fn decide(auth: &Auth, way_in: &str, database: &str, user: &str) -> String {
    let visitor = Visitor {
        database,
        user,
        way: way(way_in),
        is_physical: false,
    };
    let own = || {
        vec![Network {
            address: "192.168.1.5".parse().unwrap(),
            mask: "255.255.255.0".parse().unwrap(),
        }]
    };
    let decision = auth.decide(&visitor, &own);
    decision.map_or("none", |it| it.method.word()).to_owned()
}

#[test]
fn the_first_rule_that_fits_decides() {
    let place = with_file(
        "# TYPE DATABASE USER ADDRESS METHOD\n\
         local     all        postgres                trust\n\
         local     sameuser   all                     ident map=staff\n\
         \n\
         hostssl   shop,\"the shop\" app,/^svc_ 10.0.0.0/8 scram-sha-256\n\
         host      all        app       10.0.0.0/8      reject   # without TLS\n\
         hostnossl \"all\"    all       127.0.0.1  255.255.255.255 \\\n  md5\n\
         host      /^tenant_[0-9]+$ @users.txt samenet  password\n\
         hostssl   all        certified ::/0           cert map=staff\n\
         hostnogssenc other   all       samehost        passthrough\n\
         include more.conf\n",
    );
    place.write("users.txt", "alice # the first\n\n\"bob b\", @more.txt\n");
    place.write("more.txt", "carol\n");
    place.write(
        "more.conf",
        "include_if_exists none.conf\ninclude_dir dir\n",
    );
    place.write("dir/b.conf", "host late all all trust\n");
    place.write("dir/a.conf", "host late all all reject\n");
    place.write("dir/.c.conf", "nonsense\n");
    place.write("dir/c.txt", "nonsense\n");
    assert_eq!(place.warnings(), Vec::<String>::new());
    let auth = place.config().auth;
    for (way, database, user, method) in [
        ("unix", "shop", "postgres", "trust"),
        ("unix", "app", "app", "peer"),
        ("unix", "shop", "app", "none"),
        ("tls 10.1.1.1", "shop", "app", "scram-sha-256"),
        ("tls 10.1.1.1", "the shop", "svc_a", "scram-sha-256"),
        ("tls 10.1.1.1", "other", "svc_a", "none"),
        ("tcp 10.1.1.1", "shop", "app", "reject"),
        // An address of IPv4 in the clothes of IPv6, as a socket for both gives it.
        ("tcp ::ffff:10.1.1.1", "shop", "app", "reject"),
        ("tls 10.1.1.1", "other", "app", "reject"),
        ("tcp 127.0.0.1", "all", "app", "md5"),
        ("tcp 127.0.0.1", "shop", "app", "none"),
        ("tls 127.0.0.1", "all", "app", "none"),
        ("tcp 192.168.1.9", "tenant_7", "alice", "password"),
        ("tcp 192.168.1.9", "tenant_7", "bob b", "password"),
        ("tls 192.168.1.9", "tenant_7", "carol", "password"),
        ("tcp 192.168.1.9", "tenant_x", "carol", "none"),
        ("tcp 192.168.2.9", "tenant_7", "carol", "none"),
        ("tls ::5", "shop", "certified", "cert"),
        ("tcp ::5", "shop", "certified", "none"),
        ("tcp 192.168.1.5", "other", "dave", "passthrough"),
        ("tcp 192.168.1.6", "other", "dave", "none"),
        ("tcp 8.8.8.8", "late", "dave", "reject"),
    ] {
        assert_eq!(
            decide(&auth, way, database, user),
            method,
            "{way} {database} {user}"
        );
    }
}

#[test]
fn physical_replication_has_rules_of_its_own() {
    let place = with_file("host all all all md5\nhost replication rep all trust\n");
    let auth = place.config().auth;
    let ask = |user, is_physical| {
        let visitor = Visitor {
            database: "replication",
            user,
            way: way("tcp 1.1.1.1"),
            is_physical,
        };
        auth.decide(&visitor, &Vec::new).map(|it| it.method)
    };
    assert_eq!(ask("rep", true), Some(Method::Trust));
    assert_eq!(ask("other", true), None);
    // A database may have this name; the word does not mean it.
    assert_eq!(ask("rep", false), Some(Method::Md5));
}

#[test]
fn rules_are_written_as_lines_of_a_file() {
    let lines = "local all all peer map=staff\n\
                 hostssl shop,\"a b\",/^x$ app,\"all\",\"+x\" 10.0.0.0/8 scram-sha-256 clientcert=verify-ca\n\
                 hostssl \"/^(a,b)$\" app ::1/128 cert map=staff clientname=DN\n\
                 hostgssenc sameuser,replication,\"sameuser\" all 1.0.0.1 0.0.0.255 reject";
    let place = with_file(lines);
    let auth = place.config().auth;
    let written: Vec<String> = auth.rules().iter().map(ToString::to_string).collect();
    assert_eq!(written.join("\n"), lines);
    assert_eq!(
        place.warnings(),
        ["pg_hba.conf:4: the rule never fits, as GSS encryption is not spoken"]
    );
}

#[test]
fn tables_say_the_same_as_lines() {
    let place = Place::with(&format!(
        "{SHOP}[tls]\nmode = \"prefer\"\ncert = \"a.pem\"\nkey = \"a.pem\"\nca = \"a.pem\"\n\
         [[auth.rules]]\ntype = \"hostssl\"\ndatabases = [\"shop\", \"\\\"all\\\"\"]\n\
         users = [\"/^svc_\", \"@users.txt\"]\naddress = \"10.0.0.1 255.0.0.255\"\nmethod = \"password\"\n\
         clientcert = \"verify-full\"\nclientname = \"DN\"\n\
         [[auth.rules]]\ntype = \"host\"\nmethod = \"scram-sha-256\"\n\
         [[auth.rules]]\ntype = \"local\"\nusers = [\"a b\"]\nmethod = \"peer\"\n"
    ));
    place.write("a.pem", PEM);
    place.write("users.txt", "app\n");
    let config = place.config();
    let written: Vec<String> = config
        .auth
        .rules()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        written,
        [
            "hostssl shop,\"all\" /^svc_,app 10.0.0.1 255.0.0.255 password \
             clientcert=verify-full clientname=DN",
            "host all all all scram-sha-256",
            "local all \"a b\" peer",
        ]
    );
    let shown = config.show();
    let line = shown.iter().find(|line| line.key == "auth.rules").unwrap();
    assert_eq!(line.value, written.join(", "));
}

#[test]
fn without_rules_the_methods_decide() {
    let place = Place::with(&format!("[auth]\nunix_method = \"trust\"\n{SHOP}"));
    let auth = place.config().auth;
    assert_eq!(decide(&auth, "unix", "shop", "app"), "trust");
    assert_eq!(decide(&auth, "tls 1.1.1.1", "shop", "app"), "scram-sha-256");
    let place = Place::with(SHOP);
    let auth = place.config().auth;
    assert_eq!(decide(&auth, "unix", "shop", "app"), "scram-sha-256");
}

#[test]
fn all_that_is_wrong_in_a_file_is_told_at_once() {
    let place = with_file(
        "local all all trust\n\
         hosted all all all trust\n\
         host all\n\
         host all all\n\
         host all all 10.0.0.0/33 md5\n\
         host all all db.example.com md5\n\
         host all all 10.0.0.0 md5\n\
         host all all 10.0.0.0 ::1 md5\n\
         host samerole all all md5\n\
         host all +staff all md5\n\
         host all /( all md5\n\
         host all all all gss\n\
         host all all all ident\n\
         host all all all cert\n\
         host all all all peer\n\
         local all all cert\n\
         host all all all md5 map=staff\n\
         host all all all md5 clientcert=verify-ca\n\
         hostssl all all all cert clientcert=verify-ca\n\
         hostssl all all all md5 clientcert=no\n\
         hostssl all all all md5 clientname=DN\n\
         host all all all md5 map\n\
         host all all all,samenet md5\n\
         host \"all all all md5\n\
         host @none.txt all all md5\n\
         include pg_hba.conf\n\
         include none.conf\n\
         host all \\\n\\\nall all\n",
    );
    let kinds = "local, host, hostssl, hostnossl, hostgssenc, hostnogssenc";
    let methods = "trust, reject, password, md5, scram-sha-256, cert, peer, passthrough";
    let addresses = "all, samehost, samenet, 10.0.0.0/8, ::1/128, 10.0.0.0 255.0.0.0; names are \
                     not looked up";
    let options = "map for cert and peer; clientcert and clientname";
    let expected = format!(
        "pg_hba.conf:2: there is no connection type \"hosted\" (allowed: {kinds})
pg_hba.conf:3: the line ends before its users
pg_hba.conf:4: the line ends before its address
pg_hba.conf:5: \"10.0.0.0/33\" is not an address (allowed: {addresses})
pg_hba.conf:6: \"db.example.com\" is not an address (allowed: {addresses})
pg_hba.conf:7: \"md5\" is not a mask for 10.0.0.0
pg_hba.conf:8: \"::1\" is not a mask for 10.0.0.0
pg_hba.conf:9: \"samerole\" asks who is a member of what, which only the server knows (allowed: all, sameuser, replication, names, /expressions)
pg_hba.conf:10: \"+staff\" asks who is a member of it, which only the server knows (allowed: all, names, /expressions; in quotes + is part of a name)
pg_hba.conf:11: \"(\" is not understood as a regular expression: unclosed group
pg_hba.conf:12: \"gss\" is no method that is spoken here (allowed: {methods})
pg_hba.conf:13: \"ident\" is no method that is spoken here (allowed: {methods})
pg_hba.conf:14: cert does not go with host (allowed: with hostssl)
pg_hba.conf:15: peer does not go with host (allowed: peer for local)
pg_hba.conf:16: cert does not go with local (allowed: with hostssl)
pg_hba.conf:17: there is no option \"map\" for md5 (allowed: {options})
pg_hba.conf:18: a certificate is shown on connections of hostssl only (allowed: with hostssl)
pg_hba.conf:19: \"verify-ca\" is not allowed for clientcert with cert (allowed: verify-full)
pg_hba.conf:20: \"no\" is not allowed for clientcert (allowed: verify-ca, verify-full)
pg_hba.conf:21: there is no option \"clientname\" for md5 (allowed: {options})
pg_hba.conf:22: \"map\" is not of the form name=value
pg_hba.conf:23: there is more than one address
pg_hba.conf:24: a quote does not end
pg_hba.conf:25: none.txt: no such file or directory
pg_hba.conf:25: the list of databases is empty
pg_hba.conf:26: pg_hba.conf: it includes itself
pg_hba.conf:27: none.conf: no such file or directory
pg_hba.conf:28: the line ends before its method"
    );
    assert_eq!(place.faults(), expected);
}

#[test]
fn what_contradicts_rules_is_told() {
    let table = "[[auth.rules]]\ntype = \"host\"\nmethod = \"trust\"\n";
    for (text, rules, part) in [
        (
            format!("[auth]\nhba_file = \"hba\"\n{table}"),
            "local all all trust",
            "auth.hba_file: there are `rules`, too",
        ),
        (
            "[auth]\nhba_file = \"hba\"".to_owned(),
            "# nothing\n",
            "hba: there is no rule in it",
        ),
        (
            "[auth]\nhba_file = \"hba\"".to_owned(),
            "local all all peer map=m\n",
            "hba:1: there is no map \"m\"",
        ),
        (
            "[auth]\nhba_file = \"hba\"".to_owned(),
            "hostssl all all all cert\n",
            "hba:1: clients are not asked for certificates (allowed: with `tls.ca`)",
        ),
        (
            "[auth]\nident_file = \"hba\"".to_owned(),
            "m a\n",
            "hba:1: the line ends before its user",
        ),
        (
            "[auth]\nident_file = \"none\"".to_owned(),
            "",
            "none: no such file or directory",
        ),
        (
            "[[auth.rules]]\ntype = \"local\"\naddress = \"all\"\nmethod = \"trust\"".to_owned(),
            "",
            "auth.rules.address: a unix socket has no address",
        ),
        (
            "[[auth.rules]]\ntype = \"host\"\nusers = []\nmethod = \"trust\"".to_owned(),
            "",
            "auth.rules.users: the list of users is empty",
        ),
        (
            "[[auth.rules]]\ntype = \"host\"\nmethod = \"ldap\"".to_owned(),
            "",
            "auth.rules.method: \"ldap\" is not allowed",
        ),
        (
            "[[auth.rules]]\ntype = \"host\"\nmethod = \"trust\"\ndatabase = [\"a\"]".to_owned(),
            "",
            "auth.rules.database: no such setting, perhaps `databases`",
        ),
        (
            "[[auth.rules]]\nmethod = \"trust\"".to_owned(),
            "",
            "auth.rules.type: is missing",
        ),
        (
            "[auth]\nrules = [\"host all all all trust\"]".to_owned(),
            "",
            "is not allowed (allowed: tables [[auth.rules]])",
        ),
    ] {
        let place = Place::with(&format!("{SHOP}{text}\n"));
        place.write("hba", rules);
        let found = place.faults();
        assert!(found.contains(part), "{text}\ngave {found}");
        assert!(found.lines().count() <= 2, "{text}\ngave {found}");
    }
    let place = Place::with(&format!(
        "{SHOP}[auth]\nmethod = \"md5\"\n[[auth.rules]]\ntype = \"hostssl\"\nmethod = \"trust\"\n"
    ));
    assert_eq!(
        place.warnings(),
        [
            "pgherd.toml:6: auth.method: it is not used, as there are rules",
            "pgherd.toml:7: the rule never fits, as `tls.mode` is disable",
        ]
    );
}

#[test]
fn certificates_are_part_of_the_decision() {
    let place = with_file(
        "hostssl shop all all cert map=staff\nhostssl all all all md5 clientcert=verify-full\n",
    );
    let auth = place.config().auth;
    let ask = |database| {
        let visitor = Visitor {
            database,
            user: "app",
            way: way("tls 1.1.1.1"),
            is_physical: false,
        };
        auth.decide(&visitor, &Vec::new).unwrap()
    };
    assert_eq!(ask("shop").client_cert, Some(ClientCert::VerifyFull));
    assert_eq!(ask("shop").map, Some("staff"));
    assert_eq!(ask("x").client_cert, Some(ClientCert::VerifyFull));
    assert_eq!((ask("x").map, ask("x").method), (None, Method::Md5));
}

#[test]
fn a_proxy_may_be_written_as_a_network_that_ipv6_maps() {
    for (proxies, fits, other) in [
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::1"),
        ("::/0", "::1", "10.1.2.3"),
    ] {
        let place = Place::with(&format!("{SHOP}[listen]\nproxies = [\"{proxies}\"]"));
        let listen = place.load().unwrap().config.listen;
        assert!(listen.is_proxy(fits.parse().unwrap()), "{proxies} {fits}");
        assert!(
            !listen.is_proxy(other.parse().unwrap()),
            "{proxies} {other}"
        );
    }
}
