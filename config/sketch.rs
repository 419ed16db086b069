//! What connection strings add to a configuration.
//!
//! A string makes its database, with its user for clients and servers alike. If all strings name
//! one database, every other on those hosts can be reached too, by the wildcard. Strings with the
//! same database are hosts of it.

use crate::database::WILDCARD;
use crate::draft::{Node, Table, Value, dotted};
use crate::fault::{Findings, Origin, Problem};
use crate::setting::Setting;
use crate::url::{Surroundings, Url};

/// Lays connection strings over a draft.
pub(crate) fn lay(
    strings: &[(Origin, &str)],
    around: &Surroundings<'_>,
    draft: &mut Table,
    findings: &mut Findings,
) {
    let mut groups: Vec<(Origin, Url)> = Vec::new();
    for (origin, text) in strings {
        match Url::parse(text, around) {
            Ok(url) => {
                for name in &url.ignored {
                    findings.warn(origin, "", &format!("`{name}` has no effect here"));
                }
                group(origin, url, &mut groups, findings);
            }
            Err(fault) => findings.fault(origin, "", Problem::Url(fault), ""),
        }
    }
    let alone = groups.len() == 1;
    for (origin, url) in &groups {
        let named = url.dbname.as_deref().unwrap_or(WILDCARD);
        table_in(draft, "databases", origin).insert(named.to_owned(), database(origin, url));
        if alone && named != WILDCARD {
            let databases = table_in(draft, "databases", origin);
            databases.insert(WILDCARD.to_owned(), database(origin, url));
        }
        user(origin, url, draft, findings);
    }
    // Without a password nobody could be asked for one, so the servers are asked about theirs.
    if groups.iter().any(|(_, url)| url.password.is_none()) {
        let auth = table_in(draft, "auth", &Origin::Nowhere);
        if let Some(Node {
            origin: Origin::Default { .. },
            ..
        }) = auth.get("method")
        {
            let origin = groups[0].0.clone();
            auth.insert("method".to_owned(), Node::text_at(&origin, "passthrough"));
        }
    }
}

/// Joins a string to an earlier one of the same database.
fn group(origin: &Origin, url: Url, groups: &mut Vec<(Origin, Url)>, findings: &mut Findings) {
    let Some((first, known)) = groups
        .iter_mut()
        .find(|(_, known)| known.dbname == url.dbname)
    else {
        groups.push((origin.clone(), url));
        return;
    };
    let alike = Url {
        hosts: known.hosts.clone(),
        ignored: known.ignored.clone(),
        ..url.clone()
    };
    if alike != *known {
        let problem = format!("it differs from {first} in more than the host");
        let problem = Problem::Contradiction(problem);
        findings.fault(
            origin,
            "",
            problem,
            "one user, password and TLS for each database",
        );
    }
    for host in url.hosts {
        if known.hosts.contains(&host) {
            findings.fault(origin, "", Problem::Repeated(host.to_string()), "");
        } else {
            known.hosts.push(host);
        }
    }
}

fn database(origin: &Origin, url: &Url) -> Node {
    let node = |value: Value| Node {
        origin: origin.clone(),
        value,
    };
    let text = |text: &str| node(Value::Text(text.to_owned()));
    let mut table = Table::new();
    let hosts = url
        .hosts
        .iter()
        .map(|host| text(&host.to_string()))
        .collect();
    table.insert("hosts".to_owned(), node(Value::List(hosts)));
    if let (Some(user), Some(password)) = (&url.user, &url.password) {
        table.insert("user".to_owned(), text(user));
        table.insert("password".to_owned(), text(password.expose()));
    }
    let mut tls = Table::new();
    let mut set = |key: &str, value: Option<String>| {
        tls.extend(value.map(|value| (key.to_owned(), text(&value))));
    };
    set("mode", url.tls_mode.map(|mode| mode.show()));
    set("ca", url.ca.as_ref().map(Setting::show));
    set("cert", url.cert.as_ref().map(Setting::show));
    set("key", url.key.as_ref().map(Setting::show));
    set("server_name", url.server_name.clone());
    set("negotiation", url.negotiation.map(|it| it.show()));
    set("min_version", url.tls_min_version.map(|it| it.show()));
    table.insert("tls".to_owned(), node(Value::Table(tls)));
    if let Some(binding) = url.channel_binding {
        table.insert("channel_binding".to_owned(), text(binding.word()));
    }
    if let Some(connect) = &url.connect_timeout {
        let timeouts = Table::from([("connect".to_owned(), text(&connect.show()))]);
        table.insert("timeouts".to_owned(), node(Value::Table(timeouts)));
    }
    let parameters = url
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), text(value)));
    table.insert(
        "parameters".to_owned(),
        node(Value::Table(parameters.collect())),
    );
    node(Value::Table(table))
}

/// Lets clients in as the user of a string, with its password.
fn user(origin: &Origin, url: &Url, draft: &mut Table, findings: &mut Findings) {
    let (Some(name), Some(password)) = (&url.user, &url.password) else {
        return;
    };
    let users = table_in(draft, "users", origin);
    let user = table_in(users, name, origin);
    let given = Node::text_at(origin, password.expose());
    user.remove("password_file");
    user.entry("console".to_owned())
        .or_insert_with(|| Node::text_at(origin, "reader"));
    let before = user.insert("password".to_owned(), given);
    if let Some(Node {
        origin: first @ Origin::Argument(_),
        value: Value::Text(before),
    }) = before
        && before != password.expose()
    {
        let problem = format!("the password differs from that in {first}");
        let problem = Problem::Contradiction(problem);
        findings.fault(
            origin,
            dotted("users", name),
            problem,
            "one password for each user",
        );
    }
}

/// Gives an inner table, made if it is not there; what is no table makes room.
pub(crate) fn table_in<'a>(table: &'a mut Table, key: &str, origin: &Origin) -> &'a mut Table {
    let empty = || Node {
        origin: origin.clone(),
        value: Value::Table(Table::new()),
    };
    let node = table.entry(key.to_owned()).or_insert_with(empty);
    if !matches!(node.value, Value::Table(_)) {
        *node = empty();
    }
    match &mut node.value {
        Value::Table(inner) => inner,
        _ => unreachable!("it was made a table above"),
    }
}
