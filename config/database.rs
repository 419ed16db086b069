use std::collections::BTreeMap;

use crate::binding::ChannelBinding;
use crate::draft::{Value, dotted};
use crate::fault::Problem;
use crate::files;
use crate::host::Host;
use crate::host_settings::HostSettings;
use crate::instances::InstancePattern;
use crate::limits::LimitOverrides;
use crate::patroni::{Patroni, PatroniTls, Scheme, check_sources};
use crate::pool::PoolOverrides;
use crate::reader::Reader;
use crate::reads::ReadOverrides;
use crate::row::{Effect, Row};
use crate::secret::Secret;
use crate::section::Section;
use crate::setting::Setting;
use crate::timeouts::TimeoutOverrides;
use crate::tls::{ServerTls, TlsMode};

/// The name of the database, or the user, that stands for all that are not named.
pub const WILDCARD: &str = "*";

/// A database that clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The name clients ask for, or [`WILDCARD`].
    pub name: String,
    /// The servers, at least one unless Patroni knows them. Of several, the one that may be written
    /// to is found out.
    pub hosts: Vec<Host>,
    /// Where Patroni tells of the servers; it then says which there are, in place of `hosts`.
    pub patroni: Vec<Patroni>,
    /// TLS towards those of them that are asked by https.
    pub patroni_tls: PatroniTls,
    /// How the address of an instance of Aurora's is made of its name, where that is not seen from `hosts`.
    pub aurora: Option<InstancePattern>,
    /// What is said of single hosts, by their addresses.
    pub host_settings: Vec<HostSettings>,
    /// The name on the servers; `None` is the name the client asked for.
    pub dbname: Option<String>,
    /// The user on the servers, whoever the client is; `None` is the client's.
    pub user: Option<String>,
    /// The password of that user; never present without it.
    pub password: Option<Secret>,
    /// TLS towards the servers.
    pub tls: ServerTls,
    /// Settings of its pools.
    pub pool: PoolOverrides,
    /// Its timeouts.
    pub timeouts: TimeoutOverrides,
    /// Which of its servers are read from.
    pub reads: ReadOverrides,
    /// Its limits.
    pub limits: LimitOverrides,
    /// The `auth_query` for this database, instead of the general one.
    pub auth_query: Option<String>,
    /// Whether logins to the servers are bound to the TLS channel.
    pub channel_binding: ChannelBinding,
    /// Parameters set at the start of each of its server connections, by name.
    pub parameters: BTreeMap<String, String>,
}

impl Database {
    /// Tells whether this stands for all databases that are not named.
    pub fn is_wildcard(&self) -> bool {
        self.name == WILDCARD
    }

    /// Tells whether its servers are plainly Aurora's: an endpoint or a pattern says so.
    pub fn is_aurora(&self) -> bool {
        let mut hosts = self.hosts.iter();
        self.aurora.is_some() || hosts.any(Host::is_aurora_endpoint)
    }

    /// Gives the name on the servers, when a client asks for `asked`.
    pub fn dbname<'a>(&'a self, asked: &'a str) -> &'a str {
        self.dbname.as_deref().unwrap_or(asked)
    }
}

impl Database {
    /// Reads a database of a name.
    pub(crate) fn read(name: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let hosts: Option<Vec<Host>> = match reader.has("patroni") {
            true => Some(reader.optional("hosts").unwrap_or_default()),
            false => reader.required("hosts"),
        };
        let patroni: Vec<Patroni> = reader.optional("patroni").unwrap_or_default();
        let aurora: Option<InstancePattern> = reader.optional("aurora");
        let host_settings: Vec<HostSettings> = reader.optional("host_settings").unwrap_or_default();
        let dbname = reader.optional("dbname");
        let user: Option<String> = reader.optional("user");
        let password = files::secret("password", "password_file", reader);
        let auth_query: Option<String> = reader.optional("auth_query");
        let binding: Option<ChannelBinding> = reader.optional("channel_binding");
        let tls = reader.section("tls");
        let patroni_tls = reader.section("patroni_tls");
        let pool = reader.section("pool");
        let timeouts = reader.section("timeouts");
        let reads = reader.section("reads");
        let limits = reader.section("limits");
        let parameters = parameters(reader);
        check_hosts(hosts.as_deref(), patroni.is_empty(), reader);
        check_sources(&patroni, reader);
        for (at, one) in host_settings.iter().enumerate() {
            if host_settings[..at]
                .iter()
                .any(|other| other.host == one.host)
            {
                let problem = Problem::Repeated(one.host.to_string());
                reader.fault("host_settings", problem, "");
            }
        }
        if aurora.is_some() && !patroni.is_empty() {
            let allowed = "one of `aurora` and `patroni`";
            reader.contradiction("aurora", "Patroni tells which hosts there are", allowed);
        }
        if auth_query
            .as_ref()
            .is_some_and(|query| !query.contains("$1"))
        {
            let allowed = "a query with `$1`";
            reader.contradiction("auth_query", "it does not ask for the user", allowed);
        }
        if password.is_some() && user.is_none() {
            let allowed = "with `user` only; clients' own passwords stand under [users]";
            reader.contradiction("password", "nobody is named whose it is", allowed);
        }
        let has_cert = tls
            .as_ref()
            .is_some_and(|tls: &ServerTls| tls.cert.is_some());
        let said = reader.has("password") || reader.has("password_file");
        if user.is_some() && !said && !has_cert {
            let allowed = "with `password`, `password_file`, or `tls.cert`";
            reader.contradiction("user", "no password is known for it", allowed);
        }
        let binding = binding.unwrap_or_default();
        let may_be_plain = tls
            .as_ref()
            .is_some_and(|tls: &ServerTls| tls.mode < TlsMode::Prefer);
        if binding == ChannelBinding::Require && may_be_plain {
            let allowed = "with `tls.mode` from prefer on";
            reader.contradiction("channel_binding", "there is no TLS to bind to", allowed);
        }
        Some(Self {
            name: name.to_owned(),
            hosts: hosts?,
            patroni,
            patroni_tls: patroni_tls?,
            aurora,
            host_settings,
            dbname,
            user,
            password,
            tls: tls?,
            pool: pool?,
            timeouts: timeouts?,
            reads: reads?,
            limits: limits?,
            auth_query,
            channel_binding: binding,
            parameters: parameters?,
        })
    }

    /// Gives what is set, to be shown and compared.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let path = dotted("databases", &self.name);
        let at = |key: &str| format!("{path}.{key}");
        let plain = |key: &str, value: String| Row::plain(at(key), value, Effect::NextConnection);
        let mut rows = vec![plain("hosts", self.hosts.show())];
        if !self.patroni.is_empty() {
            rows.push(plain("patroni", self.patroni.show()));
        }
        if self.patroni.iter().any(|it| it.scheme == Scheme::Https) {
            rows.extend(self.patroni_tls.rows(&at("patroni_tls")));
        }
        let aurora = self.aurora.as_ref();
        rows.extend(aurora.map(|it| Row::plain(at("aurora"), it.show(), Effect::Now)));
        if !self.host_settings.is_empty() {
            let value = self.host_settings.show();
            rows.push(Row::plain(at("host_settings"), value, Effect::Now));
        }
        rows.extend(self.dbname.clone().map(|it| plain("dbname", it)));
        rows.extend(self.user.clone().map(|it| plain("user", it)));
        rows.extend(
            self.password
                .as_ref()
                .map(|it| Row::secret(at("password"), it, Effect::NextConnection)),
        );
        rows.extend(self.auth_query.clone().map(|it| plain("auth_query", it)));
        rows.push(plain("channel_binding", self.channel_binding.show()));
        rows.extend(self.tls.rows(&at("tls")));
        rows.extend(self.pool.rows(&at("pool")));
        rows.extend(self.timeouts.rows(&at("timeouts")));
        rows.extend(self.reads.rows(&at("reads")));
        rows.extend(self.limits.rows(&at("limits")));
        let parameters = at("parameters");
        rows.extend(self.parameters.iter().map(|(name, value)| {
            Row::plain(
                dotted(&parameters, name),
                value.clone(),
                Effect::NextConnection,
            )
        }));
        rows
    }
}

fn check_hosts(hosts: Option<&[Host]>, alone: bool, reader: &mut Reader<'_>) {
    let Some(hosts) = hosts else { return };
    if hosts.is_empty() && alone {
        reader.contradiction("hosts", "there is no host", "at least one host");
    }
    for (at, host) in hosts.iter().enumerate() {
        if hosts[..at].contains(host) {
            reader.fault("hosts", Problem::Repeated(host.to_string()), "");
        }
    }
}

/// Reads the parameters, whose names are Postgres' and so not known here.
fn parameters(reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    let Some(node) = reader.free("parameters") else {
        return Some(BTreeMap::new());
    };
    let path = reader.path("parameters");
    let Value::Table(table) = &node.value else {
        let problem = Problem::Value(node.written());
        reader.fault("parameters", problem, "a table of texts");
        return None;
    };
    let mut parameters = BTreeMap::new();
    for (name, node) in table {
        let path = dotted(&path, name);
        let findings = reader.findings();
        // These are pgherd's to say, by other settings.
        if matches!(
            name.as_str(),
            "user" | "database" | "replication" | "options"
        ) {
            let problem = Problem::Unknown { near: None };
            findings.fault(
                &node.origin,
                path,
                problem,
                "parameters of a Postgres session",
            );
            continue;
        }
        let written = match &node.value {
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(value) => Some(if *value { "on" } else { "off" }.to_owned()),
            Value::Text(text) if !text.contains('\0') => Some(text.clone()),
            _ => None,
        };
        match written {
            Some(value) => {
                parameters.insert(name.clone(), value);
            }
            None => findings.fault(
                &node.origin,
                path,
                Problem::Value(node.written()),
                "a text, a number, true, false",
            ),
        }
    }
    Some(parameters)
}
