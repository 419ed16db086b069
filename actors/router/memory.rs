//! What a router leaves to its successor: whom to ask to start actors, and what pools share of hosts.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use pgherd_config::{
    Address, ChannelBinding, Config, Database, Host, Negotiation, Patroni, PoolSettings, TlsMode,
};
use pgherd_net::{
    Identity, Network, Roots, ServerTls, ServerTlsOptions, SocketOptions, SslMode, Target,
    TlsVersion,
};
use pgherd_pool::Quota;
use pgherd_supervise::{Slot, SupervisorMessage};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::scram::client::Binding;
use pgherd_wire::sqlstate;

use crate::gate::Gate;
use crate::herald::audience::Audience;
use crate::pool::PoolKey;
use crate::session::prove::Proof;
use crate::upstream::{Depths, Door, Secret, ServerTlsPair, Source, TlsChoice, Upstream};

/// What a router leaves to its successor.
#[derive(Default)]
pub struct RouterMemory {
    /// The supervisors of pools, by the name of the database's section.
    pub clusters: parking_lot::Mutex<HashMap<String, Slot<SupervisorMessage>>>,
    /// The supervisors of monitors, by the same name.
    pub watches: parking_lot::Mutex<HashMap<String, Watch>>,
    /// Under which database's section each pool was made.
    pub(super) homes: parking_lot::Mutex<HashMap<PoolKey, String>>,
    shared: parking_lot::Mutex<Shared>,
    /// How far the configuration in force was taken over.
    followed: parking_lot::Mutex<Followed>,
    /// The sections of which pools could not follow, and are to try again in a moment.
    pub(super) behind: parking_lot::Mutex<BTreeSet<String>>,
    /// Over which all hosts are reached.
    network: Network,
}

/// The monitors of a cluster.
#[derive(Debug, Default)]
pub struct Watch {
    /// Their supervisor.
    pub supervisor: Slot<SupervisorMessage>,
    /// The children that it was to have last.
    pub(crate) children: parking_lot::Mutex<BTreeSet<String>>,
}

/// A router that has died of a configuration so often is not to die of it again: the root bears few restarts.
const TRIES_MAX: u32 = 2;

/// How far the router has followed the configurations that were put in force, each of which has a number.
#[derive(Debug, Default)]
struct Followed {
    wanted: u64,
    done: u64,
    /// How often it has begun with what is wanted.
    tries: u32,
}

/// What is known of so many databases is kept; of more, only what a pool still uses.
const HIDDEN_MAX: usize = 1024;

/// So many limits are kept; of more, only those that something counts towards.
const QUOTAS_MAX: usize = 1024;

#[derive(Default)]
struct Shared {
    /// Who listens in each database, as long as a pool leads there.
    audiences: HashMap<String, Weak<Audience>>,
    quotas: HashMap<QuotaKey, Arc<Quota>>,
    gates: HashMap<String, Arc<Gate>>,
    /// What is known of the code in each database: its servers all have the same.
    hidden: HashMap<Place, Depths>,
    /// The size of the gates, once it was set.
    logins: Option<usize>,
    /// By section, and the name that is asked for.
    tls: HashMap<(String, Option<String>), Known>,
}

/// A database of a section, by its name there. With other servers it is another one, and what was known is not so there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    section: String,
    hosts: Vec<Host>,
    patroni: Vec<Patroni>,
    database: String,
}

/// TLS made ready, and what it was made from.
struct Known {
    wanted: pgherd_config::ServerTls,
    changed: Vec<Option<SystemTime>>,
    tls: Arc<ServerTlsPair>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum QuotaKey {
    All,
    Database(String),
    User(String),
    Host(String),
}

impl RouterMemory {
    /// Nothing yet; hosts are reached over this network.
    pub fn over(network: Network) -> Self {
        Self {
            network,
            ..Self::default()
        }
    }

    /// A configuration was put in force which the router is to follow, whether the present one hears of it or not.
    pub(crate) fn renewed(&self) {
        let mut followed = self.followed.lock();
        followed.wanted += 1;
        followed.tries = 0;
    }

    /// The router begins to follow the configuration of this number.
    pub(super) fn begun(&self) -> u64 {
        let mut followed = self.followed.lock();
        followed.tries += 1;
        followed.wanted
    }

    /// It has done so.
    pub(super) fn followed(&self, number: u64) {
        let mut followed = self.followed.lock();
        followed.done = followed.done.max(number);
    }

    /// Whether it lags behind and is to try again.
    pub(super) fn lags(&self) -> bool {
        let followed = self.followed.lock();
        followed.done < followed.wanted && followed.tries < TRIES_MAX
    }

    /// Those who listen in a database.
    pub(super) fn audience(&self, database: &str) -> Arc<Audience> {
        let audiences = &mut self.shared.lock().audiences;
        if let Some(there) = audiences.get(database).and_then(Weak::upgrade) {
            return there;
        }
        audiences.retain(|_, gone| gone.strong_count() > 0);
        let new = Arc::default();
        audiences.insert(database.to_owned(), Arc::downgrade(&new));
        new
    }

    /// How many logins wait for a place at each host.
    pub(crate) fn waiting_logins(&self) -> Vec<(String, usize)> {
        let shared = self.shared.lock();
        let gates = shared.gates.iter();
        gates
            .map(|(host, gate)| (host.clone(), gate.waiting()))
            .collect()
    }

    /// Changes how many logins may be under way at each host.
    pub(super) fn knock(&self, logins: usize) {
        let mut shared = self.shared.lock();
        if shared.logins.replace(logins) != Some(logins) {
            shared.gates.values().for_each(|gate| gate.resize(logins));
        }
    }

    pub(crate) fn upstream(
        &self,
        config: &Config,
        database: &Database,
        settings: &PoolSettings,
        key: &PoolKey,
        proof: &Proof,
        host: &Host,
    ) -> Result<Arc<Upstream>, ErrorReport> {
        let target = target(&host.address);
        let name = target.to_string();
        let user = config.user(&key.user);
        let forced = user.as_deref().and_then(|user| user.server_user.clone());
        let as_user = database
            .user
            .clone()
            .or(forced)
            .unwrap_or_else(|| key.user.clone());
        let configured = match &database.user {
            Some(_) => database.password.as_ref(),
            None => user.as_deref().and_then(pgherd_config::User::server_secret),
        };
        let (secret, source) = match configured {
            Some(secret) => (Secret::password(secret.expose()), Source::Configured),
            None if as_user == key.user => (proof.secret.clone(), Source::Client),
            // Another user has nothing to do with the client, whose proof is for itself alone.
            None => (Secret::None, Source::Configured),
        };
        let mut shared = self.shared.lock();
        let logins = config.limits.max_host_logins.get();
        let gate = shared
            .gates
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Gate::new(logins)));
        let gate = Door(Arc::clone(gate));
        let dbname = database.dbname(&key.database).to_owned();
        let hidden = shared.hidden(database, &dbname);
        let tls = shared.tls(&database.name, &tls_towards(database, host))?;
        Ok(Arc::new(Upstream {
            name,
            target,
            socket: SocketOptions {
                network: self.network.clone(),
                ..crate::config::server_socket(config)
            },
            tls: TlsChoice(tls),
            gate,
            hidden,
            database: dbname,
            user: as_user,
            secret,
            source,
            binding: binding(database.channel_binding),
            parameters: database.parameters.clone(),
            replication: None,
            patience: settings.timeouts.connect,
            cancel_patience: settings.timeouts.cancel,
            statements: settings.pool.max_prepared_statements.get(),
            statement_bytes: settings.pool.max_prepared_bytes.get(),
        }))
    }

    pub(super) fn quotas(
        &self,
        config: &Config,
        settings: &PoolSettings,
        key: &PoolKey,
        host: &str,
    ) -> Vec<Arc<Quota>> {
        let limits = &config.limits;
        // The narrower stand before the wider: who is held back by one has nobody make room within the next.
        let wanted = [
            (
                QuotaKey::Database(key.database.clone()),
                "max_database_connections",
                settings.database.max_connections,
            ),
            (
                QuotaKey::User(key.user.clone()),
                "max_user_connections",
                settings.user.max_connections,
            ),
            (
                QuotaKey::Host(host.to_owned()),
                "max_host_connections",
                limits.max_host_connections,
            ),
            (QuotaKey::All, "max_connections", limits.max_connections),
        ];
        let mut shared = self.shared.lock();
        let is_new = |(key, ..): &(QuotaKey, _, _)| !shared.quotas.contains_key(key);
        if shared.quotas.len() >= QUOTAS_MAX && wanted.iter().any(is_new) {
            // Names of databases come from clients, where any is let in.
            shared
                .quotas
                .retain(|_, quota| Arc::strong_count(quota) > 1);
        }
        wanted
            .into_iter()
            .map(|(key, name, max)| {
                let max = max.map(std::num::NonZero::get);
                let quota = shared
                    .quotas
                    .entry(key)
                    .or_insert_with(|| Quota::new(name, max));
                if quota.pressure().max != max {
                    quota.resize(max);
                }
                Arc::clone(quota)
            })
            .collect()
    }
}

impl Shared {
    fn hidden(&mut self, section: &Database, database: &str) -> Depths {
        let key = Place {
            section: section.name.clone(),
            hosts: section.hosts.clone(),
            patroni: section.patroni.clone(),
            database: database.to_owned(),
        };
        // Names of databases come from clients, where any is let in.
        if self.hidden.len() >= HIDDEN_MAX && !self.hidden.contains_key(&key) {
            self.hidden
                .retain(|_, known| Arc::strong_count(&known.0) > 1);
        }
        self.hidden.entry(key).or_default().clone()
    }

    fn tls(
        &mut self,
        name: &str,
        wanted: &pgherd_config::ServerTls,
    ) -> Result<Arc<ServerTlsPair>, ErrorReport> {
        let changed = changed(wanted);
        let key = (name.to_owned(), wanted.server_name.clone());
        if let Some(known) = self.tls.get(&key)
            && known.wanted == *wanted
            && known.changed == changed
        {
            return Ok(Arc::clone(&known.tls));
        }
        let tls = match (server_tls(wanted), self.tls.get_mut(&key)) {
            (Ok(made), _) => Arc::new(made),
            // Files that are renewed are not whole for a moment, and nobody can connect without any.
            (Err(error), Some(known)) if known.wanted == *wanted => {
                tracing::error!(
                    database = name,
                    %error,
                    "the files of TLS towards the server were changed and are not usable: what they were holds on"
                );
                known.changed = changed;
                return Ok(Arc::clone(&known.tls));
            }
            (Err(error), _) => {
                let text = "TLS towards the server is not usable";
                let report = ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, text);
                return Err(report.detail(error.to_string()));
            }
        };
        let known = Known {
            wanted: wanted.clone(),
            changed,
            tls: Arc::clone(&tls),
        };
        self.tls.insert(key, known);
        Ok(tls)
    }
}

/// The TLS of a database towards one of its hosts: a certificate bears the name that led there.
fn tls_towards(database: &Database, host: &Host) -> pgherd_config::ServerTls {
    let mut tls = database.tls.clone();
    tls.server_name = tls.server_name.or_else(|| host.name.clone());
    tls
}

/// When the files that TLS is made from were last changed: certificates are renewed in place.
fn changed(wanted: &pgherd_config::ServerTls) -> Vec<Option<SystemTime>> {
    let ca = match &wanted.ca {
        Some(pgherd_config::Roots::File(path)) => Some(path.as_path()),
        Some(pgherd_config::Roots::System) => Some(Path::new(SYSTEM_ROOTS)),
        None => None,
    };
    [ca, wanted.cert.as_deref(), wanted.key.as_deref()]
        .into_iter()
        .map(|path| std::fs::metadata(path?).ok()?.modified().ok())
        .collect()
}

/// An address in the words of the crate that connects.
pub(crate) fn target(address: &Address) -> Target {
    match address {
        Address::Tcp { host, port } => Target::Tcp {
            host: host.clone(),
            port: *port,
        },
        Address::Unix { dir, port } => Target::Unix {
            path: dir.join(format!(".s.PGSQL.{port}")),
        },
    }
}

/// The authorities that a setting names.
///
/// # Errors
/// A file that cannot be read or used.
pub(crate) fn roots(wanted: &pgherd_config::Roots) -> Result<Roots, pgherd_net::TlsSetupError> {
    Roots::from_file(match wanted {
        pgherd_config::Roots::File(path) => path,
        pgherd_config::Roots::System => Path::new(SYSTEM_ROOTS),
    })
}

/// TLS towards a server, made ready.
///
/// # Errors
/// A certificate, key or authority that cannot be read or used.
pub fn server_tls(
    wanted: &pgherd_config::ServerTls,
) -> Result<ServerTlsPair, pgherd_net::TlsSetupError> {
    let roots = wanted.ca.as_ref().map(roots).transpose()?;
    let identity = match (&wanted.cert, &wanted.key) {
        (Some(cert), Some(key)) => Some(Identity::from_files(cert, key)?),
        _ => None,
    };
    let usual = ServerTlsOptions {
        mode: mode(wanted.mode),
        roots,
        identity,
        server_name: wanted.server_name.clone(),
        direct: wanted.negotiation == Negotiation::Direct,
        oldest: tls_version(wanted.min_version),
    };
    let strict = match usual.mode {
        SslMode::Allow | SslMode::Prefer => {
            let options = ServerTlsOptions {
                mode: SslMode::Require,
                ..usual.clone()
            };
            Some(ServerTls::new(options)?)
        }
        _ => None,
    };
    let plain = match usual.mode {
        SslMode::Prefer => Some(ServerTls::new(ServerTlsOptions {
            mode: SslMode::Disable,
            ..ServerTlsOptions::default()
        })?),
        _ => None,
    };
    Ok(ServerTlsPair {
        usual: ServerTls::new(usual)?,
        strict,
        plain,
    })
}

/// The word in the words of the crate that speaks SCRAM.
fn binding(word: ChannelBinding) -> Binding {
    match word {
        ChannelBinding::Disable => Binding::Disable,
        ChannelBinding::Prefer => Binding::Prefer,
        ChannelBinding::Require => Binding::Require,
    }
}

/// Where Debian and most others keep the authorities of the operating system.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The mode in the words of the crate that speaks TLS.
pub fn mode(mode: TlsMode) -> SslMode {
    match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Allow => SslMode::Allow,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require => SslMode::Require,
        TlsMode::VerifyCa => SslMode::VerifyCa,
        TlsMode::VerifyFull => SslMode::VerifyFull,
    }
}

/// The version in the words of the crate that speaks TLS.
pub(crate) fn tls_version(version: pgherd_config::TlsVersion) -> TlsVersion {
    match version {
        pgherd_config::TlsVersion::V1_2 => TlsVersion::V1_2,
        pgherd_config::TlsVersion::V1_3 => TlsVersion::V1_3,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgherd_config::{Config, LoadInput};

    use super::{Shared, tls_towards};

    #[test]
    fn other_servers_have_code_of_their_own() {
        let at = |host: &str| {
            let mut input = LoadInput::default();
            input.overrides.urls = vec![format!("postgres://u:p@{host}/shop")];
            let config = Config::load(&input).expect("a configuration").config;
            config.database("shop").expect("it is configured")
        };
        let mut shared = Shared::default();
        let known = shared.hidden(&at("one"), "shop").0;
        assert!(Arc::ptr_eq(&known, &shared.hidden(&at("one"), "shop").0));
        assert!(!Arc::ptr_eq(&known, &shared.hidden(&at("one"), "other").0));
        assert!(!Arc::ptr_eq(&known, &shared.hidden(&at("two"), "shop").0));
    }

    #[test]
    fn certificates_are_checked_against_the_name_that_led_to_a_host() {
        let of = |url: &str| {
            let mut input = LoadInput::default();
            input.overrides.urls = vec![url.to_owned()];
            let config = Config::load(&input).expect("a configuration").config;
            config.database("shop").expect("it is configured")
        };
        let database = of("postgres://u:p@db.internal/shop?sslmode=require");
        let host = database.hosts[0].found_at([10, 0, 0, 1].into());
        let name = tls_towards(&database, &host).server_name;
        assert_eq!(name.as_deref(), Some("db.internal"));
        assert_eq!(tls_towards(&database, &database.hosts[0]).server_name, None);
        let other = of("postgres://u:p@db.internal/shop?hostaddr=10.0.0.9");
        let name = tls_towards(&other, &host).server_name;
        assert_eq!(name, other.tls.server_name);
    }
}
