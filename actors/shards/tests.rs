use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pgherd_config::{Config, LoadInput, Sharded, Sharding};
use pgherd_net::ClientTls;
use pgherd_planner::placement::Placement;
use pgherd_pool::PoolCore;
use pgherd_supervise::Slot;

use super::lookups::Lookups;
use super::plans::{Plans, Readings};
use super::{AGE_MAX, Group, Known, OLD};
use crate::clock;
use crate::drain::Curtain;
use crate::facts::Facts;
use crate::pool::{Pool, PoolKey, limits};
use crate::router;
use crate::session::prove::Proof;
use crate::upstream::Secret;

/// How long somebody waits for a server.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A database of one shard, which does not answer any more, of which something has been known for so long.
fn group(age: Duration) -> Arc<Group> {
    let mut input = LoadInput::default();
    input.overrides.urls = vec!["postgres://u:p@127.0.0.1:1/shop".to_owned()];
    let config = Arc::new(Config::load(&input).expect("a configuration").config);
    let tls = Arc::new(ClientTls::disabled());
    let facts = Facts::new(Arc::clone(&config), tls, [0; 32], Curtain::default());
    let section = config.database("shop").expect("configured");
    let proof = Proof {
        secret: Secret::None,
    };
    let key = PoolKey::new("shop", "u");
    let upstream = router::upstream(&facts, &config, &section, &key, &proof);
    let mut settings = config.effective_pool(&section, None);
    settings.timeouts.checkout = Some(PATIENCE);
    settings.timeouts.hold = Some(PATIENCE);
    let settings = Arc::new(settings);
    let core = PoolCore::new(limits(&settings), Vec::new(), || {});
    let cluster = facts.topology.of(&section.name).expect("a cluster");
    let upstream = upstream.expect("an upstream");
    let pool = Pool::new(key, upstream, settings, core, Slot::new(), cluster);
    let pools: Box<[Arc<Pool>]> = [Arc::new(pool)].into();
    let known = Arc::new(Known::of_nothing(&pools));
    Arc::new(Group {
        config: Arc::new(Sharded {
            name: "all".to_owned(),
            shards: vec!["shop".to_owned()],
            sharding: Sharding::default(),
        }),
        pools,
        transactions: Arc::clone(&facts.transactions),
        counts: Arc::default(),
        placement: Arc::new(Placement::new(1)),
        lookups: Lookups::new(Vec::new()),
        known: ArcSwapOption::new(Some(known)),
        plans: Plans::default(),
        readings: Readings::default(),
        asking: tokio::sync::Mutex::new(()),
        deadlocks: tokio::sync::Mutex::new(()),
        failed: Mutex::new(None),
        due: AtomicU64::new(0),
        read: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        born: clock::now().checked_sub(age).expect("a moment"),
        retired: AtomicBool::new(false),
        listeners: Mutex::default(),
    })
}

#[tokio::test]
async fn what_is_old_will_do_where_the_shards_are_slow() {
    let group = group(OLD + Duration::from_secs(1));
    let began = clock::now();
    assert!(group.known().await.is_ok());
    let first = clock::since(began);
    assert!(first >= Duration::from_secs(1), "{first:?}");
    // The next one does not wait for what is known to be slow.
    let began = clock::now();
    assert!(group.known().await.is_ok());
    let second = clock::since(began);
    assert!(second < Duration::from_secs(1), "{second:?}");
}

#[tokio::test]
async fn what_is_too_old_is_waited_for_as_a_server_is() {
    let group = group(AGE_MAX + Duration::from_secs(1));
    assert!(!group.is_usable());
    let began = clock::now();
    assert!(group.known().await.is_err());
    let waited = clock::since(began);
    assert!(waited >= PATIENCE, "{waited:?}");
}

/// Anybody may say that a schema has changed.
#[tokio::test]
async fn what_others_say_hastens_a_look_and_no_more() {
    let group = group(Duration::ZERO);
    group.put_off(OLD);
    let before = group.settled_at(clock::now());
    assert!(before.is_some());
    group.pools[0].upstream.load().hidden.0.has_heard();
    assert_eq!(group.settled_at(clock::now()), None, "it is looked first");
    assert_eq!(group.settled(), before);
    let began = clock::now();
    assert!(group.known().await.is_ok());
    let waited = clock::since(began);
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(group.settled(), before);
}
