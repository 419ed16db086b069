//! As whom a monitor looks at a host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_config::{Config, Database, Host, WILDCARD};

use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::session::prove::Proof;
use crate::upstream::{Secret, Upstream};

/// No more than so many are thought of.
const CANDIDATES: usize = 16;
/// For how long nobody tries again whom the host has refused, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// And no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Of those who have a pool, and of those who are configured and have none, so many at most come before strangers.
const OTHERS: usize = CANDIDATES / 2;

/// Who has been let in by a host, and who was refused. A refused login is not repeated in haste: a host
/// may lock whom it refuses too often.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// The user that was let in last.
    usual: Option<String>,
    refused: HashMap<String, Refused>,
    /// Who was let in and got no answer, and until when others are asked rather.
    unheard: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Refused {
    secret: Secret,
    pause: Duration,
    until: Instant,
}

impl Attempts {
    /// Who of these users should try now, by its place; `None` if nobody should.
    pub(crate) fn choose<'a>(
        &self,
        candidates: impl Iterator<Item = (&'a str, &'a Secret)>,
        now: Instant,
    ) -> Option<usize> {
        let may = |user: &str, secret: &Secret| {
            let refused = self.refused.get(user);
            refused.is_none_or(|it| it.until <= now || it.secret != *secret)
        };
        let (mut first, mut last) = (None, None);
        for (at, (user, secret)) in candidates.enumerate() {
            if !may(user, secret) {
                continue;
            }
            if self.is_unheard(user, now) {
                last = last.or(Some(at));
                continue;
            }
            if self.usual.as_deref() == Some(user) {
                return Some(at);
            }
            first = first.or(Some(at));
        }
        first.or(last)
    }

    /// The host has let a user in.
    pub(crate) fn succeeded(&mut self, user: &str) {
        self.refused.remove(user);
        self.unheard.remove(user);
        self.usual = Some(user.to_owned());
    }

    /// The host has let a user in, and did not answer what it asked. What is set for a user says nothing of the host, so that
    /// others are asked rather; where there are none, this one goes on.
    pub(crate) fn unheard(&mut self, user: &str, now: Instant) {
        if self.unheard.len() >= 4 * CANDIDATES {
            self.unheard.clear();
        }
        self.unheard.insert(user.to_owned(), now + PAUSE_MAX);
    }

    /// Whether others are asked rather than this user.
    pub(crate) fn is_unheard(&self, user: &str, now: Instant) -> bool {
        self.unheard.get(user).is_some_and(|until| *until > now)
    }

    /// The host has refused a user.
    pub(crate) fn refused(&mut self, user: &str, secret: &Secret, now: Instant) {
        let before = self.refused.get(user).map(|before| before.pause);
        let pause = before.map_or(PAUSE, |pause| (pause * 2).min(PAUSE_MAX));
        let refused = Refused {
            secret: secret.clone(),
            pause,
            until: now + pause,
        };
        // Users that are gone leave no more than this behind.
        if self.refused.len() >= 4 * CANDIDATES {
            self.refused.clear();
        }
        self.refused.insert(user.to_owned(), refused);
    }
}

/// Those who may log in at a host, the likeliest first. Where nobody is configured it is whoever has a
/// pool, so there may be none yet.
pub(crate) fn candidates(cluster: &Cluster, host: &Host, facts: &Facts) -> Vec<Arc<Upstream>> {
    let config = facts.config.load_full();
    let Some(database) = config.databases.get(&cluster.name) else {
        return Vec::new();
    };
    let asked = if database.is_wildcard() {
        "postgres"
    } else {
        &database.name
    };
    let known = |user: &String| (PoolKey::new(asked, user.clone()), Secret::None);
    let named = config.failover.user.iter().chain(&database.user).map(known);
    let routes = facts.routes.load();
    let pools = routes.iter().filter(|(_, pool)| {
        // Its user has been let in before.
        pool.cluster.load().name == cluster.name && pool.welcome.load().is_some()
    });
    let pooled = pools.map(|(key, pool)| (key.clone(), pool.upstream.load().learned()));
    // What the configuration knows nothing of comes behind: anybody may have a pool, and have set for itself what bars it
    // from asking.
    let (own, strangers): (Vec<_>, Vec<_>) =
        pooled.partition(|(key, _)| is_configured(&config, &key.user));
    let pooled = own.into_iter().take(OTHERS);
    let others = others(&config).map(known).take(OTHERS);
    // A pool that has not been let in yet comes last: the first of all may be waiting for this.
    let waiting = routes.iter().filter(|(_, pool)| {
        pool.cluster.load().name == cluster.name && pool.welcome.load().is_none()
    });
    let waiting = waiting.map(|(key, pool)| (key.clone(), pool.upstream.load().learned()));
    let mut found: Vec<Arc<Upstream>> = Vec::new();
    let known = named.chain(pooled).chain(others);
    for (key, secret) in known.chain(strangers).chain(waiting) {
        let Some(upstream) = upstream(&config, database, &key, secret, host, facts) else {
            continue;
        };
        if found.iter().all(|known| known.user != upstream.user) {
            found.push(Arc::new(upstream));
        }
        if found.len() == CANDIDATES {
            break;
        }
    }
    found
}

/// Users of the configuration who have a password.
fn others(config: &Config) -> impl Iterator<Item = &String> {
    let names = config.users.keys();
    names.filter(|name| is_configured(config, name))
}

/// Whether the configuration has a password of this very user.
fn is_configured(config: &Config, user: &str) -> bool {
    let known = config.users.get(user).filter(|_| user != WILDCARD);
    known.is_some_and(|known| known.server_secret().is_some())
}

/// For how long where a connection may take any time.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is set for a monitor, which outweighs what is set for its user (`ALTER ROLE … SET`): nothing may change what it
/// reads, or keep it from being answered. Serializable transactions are refused on standbys.
const PARAMETERS: [(&str, &str); 7] = [
    ("search_path", ""),
    ("application_name", "pgherd monitor"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
];

/// As a monitor connects: for as long as anybody may.
fn upstream(
    config: &Config,
    database: &Database,
    key: &PoolKey,
    secret: Secret,
    host: &Host,
    facts: &Facts,
) -> Option<Upstream> {
    let settings = config.effective_pool(database, config.user(&key.user).as_deref());
    let proof = Proof { secret };
    let usual = facts
        .memory
        .upstream(config, database, &settings, key, &proof, host)
        .ok()?;
    if matches!(usual.secret, Secret::Refused) {
        return None;
    }
    let patience = usual.patience.unwrap_or(PATIENCE);
    let parameters = PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Upstream {
        parameters: parameters.into(),
        patience: Some(patience.max(config.failover.probe_timeout)),
        ..(*usual).clone()
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Attempts;
    use crate::upstream::Secret;

    #[test]
    fn whom_a_host_refuses_is_not_tried_again_in_haste() {
        let now = Instant::now();
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        let (old, new) = (Secret::password("old"), Secret::password("new"));
        let mut attempts = Attempts::default();
        let choose = |attempts: &Attempts, users: &[&'static str], secret, at| {
            attempts.choose(users.iter().map(|user| (*user, secret)), at)
        };
        assert_eq!(choose(&attempts, &["a", "b"], &old, now), Some(0));
        attempts.refused("a", &old, now);
        assert_eq!(choose(&attempts, &["a", "b"], &old, now), Some(1));
        attempts.refused("b", &old, now);
        assert_eq!(choose(&attempts, &["a", "b"], &old, now), None);
        assert_eq!(
            choose(&attempts, &["a"], &new, now),
            Some(0),
            "it was changed"
        );
        attempts.refused("a", &old, later(1));
        assert_eq!(
            choose(&attempts, &["a"], &old, later(2)),
            None,
            "it doubles"
        );
        assert_eq!(choose(&attempts, &["a"], &old, later(3)), Some(0));
        attempts.succeeded("b");
        assert_eq!(choose(&attempts, &["a", "b"], &old, later(9)), Some(1));
    }

    #[test]
    fn who_is_let_in_and_not_answered_comes_last() {
        let now = Instant::now();
        let secret = Secret::password("any");
        let mut attempts = Attempts::default();
        let choose = |attempts: &Attempts, users: &[&'static str]| {
            attempts.choose(users.iter().map(|user| (*user, &secret)), now)
        };
        attempts.succeeded("a");
        attempts.unheard("a", now);
        assert_eq!(choose(&attempts, &["a", "b"]), Some(1));
        assert_eq!(choose(&attempts, &["a"]), Some(0), "there is nobody else");
        attempts.unheard("b", now);
        assert_eq!(choose(&attempts, &["b", "a"]), Some(0));
        attempts.succeeded("a");
        assert_eq!(choose(&attempts, &["b", "a"]), Some(1));
        assert!(attempts.is_unheard("b", now) && !attempts.is_unheard("a", now));
    }
}
