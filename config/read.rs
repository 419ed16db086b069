use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::Method;
use crate::config::Config;
use crate::database::{Database, WILDCARD};
use crate::draft::{Node, Table, Value, dotted};
use crate::failover::CommitResolution;
use crate::fault::{Findings, Origin, Problem};
use crate::hba::Kind;
use crate::pool::PoolMode;
use crate::reader::Reader;
use crate::row::Row;
use crate::section::Section;
use crate::sharding::Sharded;
use crate::tls::TlsMode;
use crate::user::User;

/// What stands under `[databases.NAME]`.
enum Entry {
    /// A database on servers of its own.
    Plain(Box<Database>),
    /// One that is made of others.
    Sharded(Box<Sharded>),
}

impl Entry {
    fn read(name: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.has("shards") {
            true => Sharded::read(name, reader).map(|it| Self::Sharded(Box::new(it))),
            false => Database::read(name, reader).map(|it| Self::Plain(Box::new(it))),
        }
    }
}

impl Config {
    /// Makes a configuration of a draft; `None` if a section cannot be had for its faults.
    pub(crate) fn read(draft: &Table, findings: &mut Findings) -> Option<Self> {
        let mut reader = Reader::new(draft, findings);
        let listen = reader.section("listen");
        let admin = reader.section("admin");
        let tls = reader.section("tls");
        let auth = reader.section("auth");
        let pool = reader.section("pool");
        let timeouts = reader.section("timeouts");
        let limits = reader.section("limits");
        let failover = reader.section("failover");
        let reads = reader.section("reads");
        let notifications = reader.section("notifications");
        let workers = reader.section("workers");
        let log = reader.section("log");
        let metrics = reader.section("metrics");
        let drain = reader.section("drain");
        let databases = reader.each("databases", Entry::read);
        let users = reader.each("users", User::read);
        reader.finish();
        let (mut plain, mut sharded) = (BTreeMap::new(), BTreeMap::new());
        for entry in databases {
            match entry {
                Entry::Plain(it) => drop(plain.insert(it.name.clone(), Arc::from(it))),
                Entry::Sharded(it) => drop(sharded.insert(it.name.clone(), Arc::from(it))),
            }
        }
        let config = Self {
            listen: listen?,
            admin: admin?,
            tls: tls?,
            auth: auth?,
            pool: pool?,
            timeouts: timeouts?,
            limits: limits?,
            failover: failover?,
            reads: reads?,
            notifications: notifications?,
            workers: workers?,
            log: log?,
            metrics: metrics?,
            drain: drain?,
            databases: plain,
            sharded,
            users: users
                .into_iter()
                .map(|it| (it.name.clone(), Arc::new(it)))
                .collect(),
        };
        config.check(draft, findings);
        Some(config)
    }

    /// Gives the settings of all sections, without databases and users.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = self.listen.rows("listen");
        rows.extend(self.admin.rows("admin"));
        rows.extend(self.tls.rows("tls"));
        rows.extend(self.auth.rows("auth"));
        rows.extend(self.pool.rows("pool"));
        rows.extend(self.timeouts.rows("timeouts"));
        rows.extend(self.limits.rows("limits"));
        rows.extend(self.failover.rows("failover"));
        rows.extend(self.reads.rows("reads"));
        rows.extend(self.notifications.rows("notifications"));
        rows.extend(self.workers.rows("workers"));
        rows.extend(self.log.rows("log"));
        rows.extend(self.metrics.rows("metrics"));
        rows.extend(self.drain.rows("drain"));
        rows
    }

    /// Finds contradictions between sections.
    fn check(&self, draft: &Table, findings: &mut Findings) {
        self.check_auth(draft, findings);
        self.check_pools(draft, findings);
        self.check_resolution(draft, findings);
        for sharded in self.sharded.values() {
            self.check_shards(sharded, draft, findings);
        }
        for name in self.databases.keys().filter(|name| self.is_console(name)) {
            let origin = origin(draft, &["databases", name]);
            findings.warn(&origin, dotted("databases", name), "the console hides it");
        }
        let at = origin(draft, &["metrics", "listen"]);
        if let Some(address) = self.metrics.listen.filter(|address| address.port() != 0)
            && self.listen.addresses.contains(&address)
        {
            let problem = Problem::Contradiction(format!("clients are accepted on {address}"));
            findings.fault(&at, "metrics.listen", problem, "an address of its own");
        }
    }

    /// Finds shards that are no databases, or share their servers in a way in which nothing is shared.
    fn check_shards(&self, sharded: &Sharded, draft: &Table, findings: &mut Findings) {
        let name = sharded.name.as_str();
        let path = dotted("databases", name);
        let at = |key: &[&str]| origin(draft, &[&["databases", name], key].concat());
        let mut fault = |key: &[&str], problem: String, allowed: &str| {
            let problem = Problem::Contradiction(problem);
            let path = format!("{path}.{}", key.join("."));
            findings.fault(&at(key), path, problem, allowed);
        };
        if name == WILDCARD {
            let allowed = "a name of its own";
            fault(&["shards"], "\"*\" cannot be sharded".to_owned(), allowed);
        }
        for shard in &sharded.shards {
            let database = self.databases.get(shard).filter(|it| !it.is_wildcard());
            let Some(database) = database else {
                let problem = format!("{shard:?} is no database with servers of its own");
                let allowed = self.databases.keys().filter(|it| *it != WILDCARD);
                let allowed = allowed.map(String::as_str).collect::<Vec<_>>().join(", ");
                fault(&["shards"], problem, &allowed);
                continue;
            };
            if database.pool.mode.unwrap_or(self.pool.mode) != PoolMode::Transaction {
                let problem = format!("the pools of {shard:?} are not of transaction mode");
                fault(
                    &["shards"],
                    problem,
                    "databases with `pool.mode` transaction",
                );
            }
        }
        let it = &sharded.sharding;
        for shard in it.schemas.iter().map(|place| &place.shard) {
            if sharded.shard(shard).is_none() {
                let problem = format!("{shard:?} is not among the shards");
                let key = ["sharding", "schemas"];
                fault(&key, problem, &sharded.shards.join(", "));
            }
        }
    }

    /// Finds databases whose servers cannot tell what became of a commit.
    fn check_resolution(&self, draft: &Table, findings: &mut Findings) {
        if self.failover.commit_resolution == CommitResolution::Off {
            return;
        }
        for database in self.databases.values().filter(|it| it.is_aurora()) {
            let at = origin(draft, &["failover", "commit_resolution"]);
            let problem = format!(
                "the servers of {:?} are Aurora's, which cannot tell what became of a commit",
                database.name
            );
            let problem = Problem::Contradiction(problem);
            findings.fault(&at, "failover.commit_resolution", problem, "off");
        }
    }

    fn check_auth(&self, draft: &Table, findings: &mut Findings) {
        let auth = &self.auth;
        if let Some(name) = &auth.query_user {
            let known = self.users.get(name);
            let at = origin(draft, &["auth", "query_user"]);
            if known.and_then(|user| user.server_secret()).is_none() {
                let problem = format!("no password is known for {name:?}");
                let problem = Problem::Contradiction(problem);
                let allowed = "a user of [users] with a plain password";
                findings.fault(&at, "auth.query_user", problem, allowed);
            }
        }
        if let Some(name) = &self.failover.user
            && !self.users.contains_key(name)
        {
            let at = origin(draft, &["failover", "user"]);
            let problem = Problem::Contradiction(format!("{name:?} is not among the users"));
            findings.fault(&at, "failover.user", problem, "a user of [users]");
        }
        for database in self
            .databases
            .values()
            .filter(|database| database.auth_query.is_some())
        {
            if auth.query_user.is_none() {
                let at = origin(draft, &["databases", &database.name, "auth_query"]);
                let path = dotted(&dotted("databases", &database.name), "auth_query");
                let problem = Problem::Contradiction("nobody is named to run it".to_owned());
                findings.fault(&at, path, problem, "with `auth.query_user` only");
            }
        }
        if auth.method == Method::Cert
            && auth.rules().is_empty()
            && self.tls.mode < TlsMode::VerifyCa
        {
            let problem = "clients are not asked for certificates".to_owned();
            let at = origin(draft, &["auth", "method"]);
            let allowed = "with `tls.mode` verify-ca or verify-full";
            findings.fault(&at, "auth.method", Problem::Contradiction(problem), allowed);
        }
        self.check_rules(findings);
        let asks_secret = auth.asks_secret();
        let has_query = auth.query.is_some()
            || self
                .databases
                .values()
                .any(|database| database.auth_query.is_some());
        let has_secret = self.users.values().any(|user| user.password.is_some());
        if asks_secret && !has_query && !has_secret && !self.databases.is_empty() {
            findings.warn(
                &Origin::Nowhere,
                "users",
                "nobody has a password, so nobody can log in",
            );
        }
    }

    /// Finds rules that need more TLS than there is.
    fn check_rules(&self, findings: &mut Findings) {
        for rule in self.auth.rules() {
            if rule.options.client_cert.is_some() && self.tls.ca.is_none() {
                let problem = "clients are not asked for certificates".to_owned();
                let problem = Problem::Contradiction(problem);
                findings.fault(&rule.origin, "", problem, "with `tls.ca`");
            } else if rule.kind == Kind::HostSsl && self.tls.mode == TlsMode::Disable {
                let what = "the rule never fits, as `tls.mode` is disable";
                findings.warn(&rule.origin, "", what);
            }
        }
    }

    /// Finds minimums that no pool can have, where one of the two comes from the general part.
    fn check_pools(&self, draft: &Table, findings: &mut Findings) {
        let databases = self
            .databases
            .values()
            .map(|it| ("databases", &it.name, &it.pool));
        let users = self.users.values().map(|it| ("users", &it.name, &it.pool));
        for (kind, name, pool) in databases.chain(users) {
            let min = pool.min.unwrap_or(self.pool.min);
            let size = pool.size.unwrap_or(self.pool.size);
            let half = pool.min.is_some() != pool.size.is_some();
            if half && min > size.get() {
                let key = if pool.min.is_some() { "min" } else { "size" };
                let at = origin(draft, &[kind, name, "pool", key]);
                let path = format!("{}.pool.{key}", dotted(kind, name));
                let problem = format!("the minimum is {min}, and the size {size}");
                findings.fault(&at, path, Problem::Contradiction(problem), "min up to size");
            }
        }
        if self.databases.contains_key(WILDCARD) && self.pool.min > 0 {
            let at = origin(draft, &["pool", "min"]);
            findings.warn(
                &at,
                "pool.min",
                "it is kept for each database anyone ever asks for",
            );
        }
    }
}

/// Gives where a path was written, or else the nearest thing around it.
fn origin(draft: &Table, path: &[&str]) -> Origin {
    let mut found = Origin::Nowhere;
    let mut table = Some(draft);
    for key in path {
        let Some(node) = table.and_then(|table| table.get(*key)) else {
            break;
        };
        found = node.origin.clone();
        table = match node {
            Node {
                value: Value::Table(inner),
                ..
            } => Some(inner),
            _ => None,
        };
    }
    found
}
