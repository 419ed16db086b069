//! What is known of the hosts, without any host.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_cluster::patroni::{PatroniCluster, Switchover};
use pgherd_cluster::{Fault, HostName, Look, Lsn, ServerId, Stage, Standing, Storage};
use pgherd_config::{Config, LoadInput, Patroni, Scheme};
use pgherd_supervise::Slot;

use super::{Cluster, Topology};

fn config(url: &str) -> Config {
    let mut input = LoadInput::default();
    input.overrides.urls = vec![url.to_owned()];
    Config::load(&input).expect("a configuration").config
}

/// The cluster of a database that is configured by this URL.
fn cluster(url: &str) -> Arc<Cluster> {
    let topology = Topology::default();
    configured(&topology, url)
}

/// The same behind a reload.
fn configured(topology: &Topology, url: &str) -> Arc<Cluster> {
    topology.reconfigure(&config(url), &Slot::default());
    topology.of("shop").expect("it is configured")
}

fn look(standing: Standing, timeline: u32) -> Look {
    Look {
        system: 7,
        timeline,
        standing,
        storage: Storage::Own,
        lsn: Lsn::new(1),
        lsn_age: Duration::ZERO,
        received: None,
        replay_age: None,
        read_only: false,
        latency: Duration::ZERO,
        server: None,
    }
}

fn at(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn name(last: u8) -> HostName {
    HostName::from(format!("10.0.0.{last}:5432"))
}

fn lead(cluster: &Cluster) -> (Option<String>, u64) {
    let lead = cluster.lead();
    (lead.host.map(|host| host.to_string()), lead.epoch)
}

const NAMED: &str = "postgres://u:p@db.internal/shop";

#[tokio::test]
async fn a_single_name_is_led_by_the_evidence_once_there_is_any() {
    let (cluster, now) = (cluster(NAMED), Instant::now());
    assert!(cluster.is_watched() && !cluster.is_led());
    assert_eq!(lead(&cluster).0.as_deref(), Some("db.internal:5432"));
    cluster.answered("db.internal", &[at(1)], now);
    assert_eq!(lead(&cluster), (Some("10.0.0.1:5432".to_owned()), 0));
    let host = cluster.lead().host.expect("there is one");
    assert_eq!(host.name.as_deref(), Some("db.internal"));
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    assert!(cluster.is_led());
    let (_, first) = lead(&cluster);
    // The name leads to another server with the same timeline, as behind a volume that was moved there.
    cluster.answered("db.internal", &[at(2)], now);
    assert_eq!(lead(&cluster), (Some("10.0.0.1:5432".to_owned()), first));
    let other = Look {
        server: Some(ServerId {
            started: 2,
            port: None,
        }),
        ..look(Standing::Primary, 1)
    };
    cluster.saw(&name(2), Ok(other), now, now);
    let (host, second) = lead(&cluster);
    assert_eq!(host.as_deref(), Some("10.0.0.2:5432"));
    assert!(second > first);
    assert_eq!(cluster.members().names().collect::<Vec<_>>(), [&name(2)]);
}

#[tokio::test]
async fn a_name_that_leads_to_another_cluster_is_not_followed() {
    let (cluster, now) = (cluster(NAMED), Instant::now());
    cluster.answered("db.internal", &[at(1)], now);
    cluster.saw(&name(1), Ok(look(Standing::Primary, 3)), now, now);
    cluster.answered("db.internal", &[at(2)], now);
    let foreign = Look {
        system: 8,
        ..look(Standing::Primary, 9)
    };
    cluster.saw(&name(2), Ok(foreign), now, now);
    assert_eq!(lead(&cluster).0.as_deref(), Some("10.0.0.1:5432"));
    // Nor one of a lower timeline, when the old one is no host any more.
    let later = now + pgherd_cluster::names::LINGER;
    cluster.answered("db.internal", &[at(2)], later);
    assert_eq!(lead(&cluster).0, None);
    cluster.saw(&name(2), Ok(look(Standing::Primary, 2)), later, later);
    assert_eq!(lead(&cluster).0, None);
    assert!(cluster.has_left());
}

#[tokio::test]
async fn several_addresses_of_a_single_name_are_all_asked_first() {
    let (cluster, now) = (cluster(NAMED), Instant::now());
    cluster.answered("db.internal", &[at(1), at(2)], now);
    assert_eq!(lead(&cluster).0, None);
    cluster.saw(&name(1), Ok(look(Standing::Replica, 1)), now, now);
    assert_eq!(lead(&cluster).0, None);
    // There is no primary: then it is a name of replicas.
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    assert_eq!(lead(&cluster), (Some("10.0.0.1:5432".to_owned()), 0));
    cluster.saw(&name(2), Ok(look(Standing::Primary, 1)), now, now);
    assert_eq!(lead(&cluster).0.as_deref(), Some("10.0.0.2:5432"));
}

#[tokio::test]
async fn a_name_that_is_unknown_is_a_host_all_the_same() {
    let cluster = cluster("postgres://u:p@one.internal,10.0.0.2/shop");
    let now = Instant::now();
    assert_eq!(cluster.members().names().count(), 0);
    cluster.answered("one.internal", &[], now);
    let members = cluster.members();
    let names: Vec<String> = members.names().map(ToString::to_string).collect();
    assert_eq!(names, ["one.internal:5432", "10.0.0.2:5432"]);
    cluster.introduced().await;
}

/// What Patroni says of two hosts.
fn told(leader: u8) -> PatroniCluster {
    tagged(leader, None)
}

/// The same, where one of them is not to be read from.
fn tagged(leader: u8, spared: Option<u8>) -> PatroniCluster {
    let member = |last: u8| {
        let role = if last == leader { "leader" } else { "replica" };
        let spared = spared == Some(last);
        format!(
            "{{\"name\": \"n{last}\", \"role\": \"{role}\", \"host\": \"10.0.0.{last}\", \
             \"port\": 5432, \"timeline\": 1, \"tags\": {{\"noloadbalance\": {spared}}}}}"
        )
    };
    let body = format!("{{\"members\": [{}, {}]}}", member(1), member(2));
    PatroniCluster::parse(body.as_bytes()).expect("an answer")
}

#[tokio::test]
async fn a_leader_that_patroni_names_and_that_is_not_written_to_rouses_all_monitors() {
    let cluster = cluster("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let now = Instant::now();
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    cluster.heard(told(1), now);
    let roused = |leader| {
        let mut doubted = std::pin::pin!(cluster.doubted());
        doubted.as_mut().enable();
        cluster.heard(told(leader), now);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        doubted.poll(&mut cx).is_ready()
    };
    assert!(!roused(1));
    assert!(roused(2));
    let later = now + Duration::from_millis(50);
    assert_eq!(cluster.pace(&name(1), later), Duration::ZERO);
    assert!(!roused(1));
    cluster.saw(&name(1), Err(Fault::TimedOut), later, later);
    assert!(cluster.is_suspicious(later));
}

#[tokio::test]
async fn while_the_primary_takes_its_time_the_others_are_looked_at_soon() {
    let cluster = cluster("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let now = Instant::now();
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    let usual = cluster.pace(&name(2), now);
    cluster.hesitates(&name(2), now);
    assert_eq!(cluster.pace(&name(2), now), usual);
    let later = now + Duration::from_millis(1);
    cluster.hesitates(&name(1), later);
    assert!(cluster.pace(&name(2), later) < usual / 2);
    // Nothing was decided by that, and it is over with the next answer.
    assert_eq!(lead(&cluster).0.as_deref(), Some("10.0.0.1:5432"));
    let answered = later + Duration::from_millis(1);
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), answered, answered);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), answered, answered);
    assert_eq!(cluster.pace(&name(2), answered), usual);
}

/// The answer that was waited for was asked for before the host was seen to hesitate.
#[tokio::test]
async fn an_answer_ends_the_doubt_that_was_raised_while_it_was_waited_for() {
    let cluster = cluster("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let asked = Instant::now();
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), asked, asked);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), asked, asked);
    cluster.hesitates(&name(1), asked + Duration::from_millis(50));
    let answered = asked + Duration::from_millis(60);
    assert!(cluster.is_suspicious(answered));
    let far = Look {
        latency: Duration::from_millis(60),
        ..look(Standing::Primary, 1)
    };
    cluster.saw(&name(1), Ok(far.clone()), asked, answered);
    assert!(!cluster.is_suspicious(answered));
    assert_eq!(
        cluster.latency(&name(1)),
        Some(far.latency),
        "next time it is waited for as long"
    );
    // What a session has run into is not explained by it.
    cluster.suspect("10.0.0.1:5432", asked + Duration::from_millis(50));
    cluster.saw(&name(1), Ok(far), asked, answered);
    assert!(cluster.is_suspicious(answered));
}

#[tokio::test]
async fn a_reload_that_adds_a_name_leaves_the_others_alone() {
    let (topology, now) = (Topology::default(), Instant::now());
    let cluster = configured(&topology, "postgres://u:p@10.0.0.1,10.0.0.2/shop");
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    let before = lead(&cluster);
    assert_eq!(before.0.as_deref(), Some("10.0.0.1:5432"));
    configured(
        &topology,
        "postgres://u:p@10.0.0.1,10.0.0.2,db3.internal/shop",
    );
    assert_eq!(lead(&cluster), before);
    assert!(!cluster.has_left());
    assert_eq!(cluster.members().count(), 2);
    cluster.answered("db3.internal", &[at(3)], now);
    assert_eq!(lead(&cluster), before);
    let members = cluster.members();
    let names: Vec<_> = members.names().collect();
    assert_eq!(names, [&name(1), &name(2), &name(3)]);
}

#[tokio::test]
async fn hosts_stay_until_patroni_has_told_which_there_are() {
    let (topology, now) = (Topology::default(), Instant::now());
    let cluster = configured(&topology, "postgres://u:p@10.0.0.1,10.0.0.2/shop");
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    let before = lead(&cluster);
    let mut asks = config("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let shop = asks.databases.get_mut("shop").expect("it is configured");
    let shop = Arc::make_mut(shop);
    shop.hosts.clear();
    shop.patroni = vec![Patroni {
        scheme: Scheme::Http,
        host: "10.0.0.1".to_owned(),
        port: 8008,
    }];
    topology.reconfigure(&asks, &Slot::default());
    assert_eq!(lead(&cluster), before);
    cluster.heard(told(1), now);
    assert_eq!(lead(&cluster), before);
    assert_eq!(cluster.members().count(), 2);
}

#[tokio::test]
async fn who_is_tagged_not_to_be_read_from_has_no_weight_while_it_is() {
    let (topology, now) = (Topology::default(), Instant::now());
    let plain = config("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let mut asks = plain.clone();
    let shop = asks.databases.get_mut("shop").expect("it is configured");
    Arc::make_mut(shop).patroni = vec![Patroni {
        scheme: Scheme::Http,
        host: "10.0.0.1".to_owned(),
        port: 8008,
    }];
    topology.reconfigure(&asks, &Slot::default());
    let cluster = topology.of("shop").expect("it is configured");
    let weights = || {
        let traits = cluster.traits();
        [1, 2].map(|last| traits.of(&name(last)).weight)
    };
    cluster.heard(tagged(1, Some(2)), now);
    assert_eq!(weights(), [1, 0]);
    // Each answer says it anew, of the same members too.
    cluster.heard(tagged(1, None), now);
    assert_eq!(weights(), [1, 1]);
    cluster.heard(tagged(1, Some(2)), now);
    assert_eq!(weights(), [1, 0]);
    // Whom nobody asks any more says nothing any more.
    topology.reconfigure(&plain, &Slot::default());
    assert_eq!(weights(), [1, 1]);
    cluster.heard(tagged(1, Some(2)), now);
    assert_eq!(weights(), [1, 1]);
}

/// An answer of Patroni's that lists these hosts as replicas, and nobody as the leader.
fn leaderless(hosts: &[u8]) -> PatroniCluster {
    let members: Vec<_> = hosts
        .iter()
        .map(|last| {
            format!(
                "{{\"name\": \"n{last}\", \"role\": \"replica\", \"host\": \"10.0.0.{last}\", \"port\": 5432}}"
            )
        })
        .collect();
    let body = format!("{{\"members\": [{}], \"pause\": true}}", members.join(", "));
    PatroniCluster::parse(body.as_bytes()).expect("an answer")
}

/// Its Patroni is stopped in maintenance, and its server goes on.
#[tokio::test]
async fn a_primary_of_which_patroni_says_nothing_stays_until_another_one_leads() {
    let (topology, now) = (Topology::default(), Instant::now());
    let mut asks = config("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    let shop = asks.databases.get_mut("shop").expect("it is configured");
    Arc::make_mut(shop).patroni = vec![Patroni {
        scheme: Scheme::Http,
        host: "10.0.0.2".to_owned(),
        port: 8008,
    }];
    topology.reconfigure(&asks, &Slot::default());
    let cluster = topology.of("shop").expect("it is configured");
    cluster.heard(told(1), now);
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    let before = lead(&cluster);
    assert_eq!(before.0.as_deref(), Some("10.0.0.1:5432"));
    cluster.heard(leaderless(&[2]), now);
    assert_eq!(lead(&cluster), before);
    assert!(!cluster.has_left());
    assert_eq!(cluster.members().count(), 2);
    // Somebody else leads, and the old one is in no list.
    let body = r#"{"members": [{"name": "n2", "role": "leader", "host": "10.0.0.2", "port": 5432, "timeline": 2}]}"#;
    cluster.heard(PatroniCluster::parse(body.as_bytes()).unwrap(), now);
    assert!(cluster.has_left());
    assert_eq!(cluster.members().count(), 1);
}

#[tokio::test]
async fn a_switchover_that_one_answer_lacks_is_awaited_again() {
    let topology = Topology::default();
    let mut planned = config("postgres://u:p@10.0.0.1,10.0.0.2/shop");
    // More than a century, so that a moment can be written that is always ahead.
    planned.failover.grace = Some(Duration::from_secs(u64::from(u32::MAX)));
    topology.reconfigure(&planned, &Slot::default());
    let cluster = topology.of("shop").expect("it is configured");
    let now = Instant::now();
    cluster.saw(&name(1), Ok(look(Standing::Primary, 1)), now, now);
    cluster.saw(&name(2), Ok(look(Standing::Replica, 1)), now, now);
    let soon = Switchover {
        at: "2100-01-01T00:00:00Z".to_owned(),
        to: None,
    };
    cluster.schedule(Some(&soon), now);
    assert_eq!(cluster.stage(), Stage::Grace);
    cluster.schedule(None, now);
    assert_eq!(cluster.stage(), Stage::Over);
    cluster.schedule(Some(&soon), now);
    assert_eq!(cluster.stage(), Stage::Grace);
    // What an operator has called off stays so.
    assert!(cluster.call_off());
    cluster.schedule(Some(&soon), now);
    assert_eq!(cluster.stage(), Stage::Over);
}
