//! A COMMIT whose answer is lost with the way to the old primary, which lives on.

use pgherd_sandbox::Server;
use pgherd_tests::{Proxy, Raw, until};

use super::fleet::Fleet;
use super::resolve::{ON, cut, wait_for_standbys};
use crate::retries::node::Node;

/// What has become of the commit that has reached the old primary, when the new one is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The new one has it.
    Replicated,
    /// Only the old one has it.
    Behind,
    /// The old one waits for a standby, for ever.
    Waiting,
}

/// A proxy with a way of its own to the old primary, and a client in a transaction.
struct Side {
    old: Node,
    _proxy: Proxy,
    client: Raw,
}

impl Side {
    async fn new(fleet: &Fleet, value: i32) -> Self {
        let old = Node::new(fleet.primary.port()).await;
        let ports = [old.port(), fleet.replica.port()];
        let proxy = fleet.proxy(&ports, ON).await;
        let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
        let insert = format!("insert into acked values ({value})");
        for text in ["select 1", "begin", &insert] {
            client.ask(&Raw::query(text)).await;
        }
        Self {
            old,
            _proxy: proxy,
            client,
        }
    }

    /// Sends a COMMIT, with which the old primary is not to be reached any more.
    async fn commit(&mut self, passes: bool) {
        self.old.fail_for_good(cut("commit", passes));
        self.client.send(&Raw::query("commit")).await;
        until("the commit has come", async || self.old.left() == 0).await;
    }

    /// What it is told of that, and whether the session goes on.
    async fn told(&mut self) -> String {
        let told = self.client.ask(&[]).await;
        assert_eq!(self.client.one("select 7").await, "7");
        told
    }
}

async fn count(server: &Server, value: i32) -> String {
    let text = format!("select count(*) from acked where x = {value}");
    server.sql(&text).await.unwrap()
}

async fn part_from(fate: Fate) {
    let fleet = Fleet::new().await;
    let mut sides = [Side::new(&fleet, 1).await, Side::new(&fleet, 2).await];
    if fate != Fate::Replicated {
        fleet.replica.detach().await.unwrap();
    }
    if fate == Fate::Waiting {
        wait_for_standbys(&fleet.primary).await;
    }
    // The first has reached the old primary, the second has not.
    sides[0].commit(true).await;
    sides[1].commit(false).await;
    let there = match fate {
        Fate::Waiting => "0",
        Fate::Replicated | Fate::Behind => "1",
    };
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("the old primary has the commit", async || {
        let waiting = fleet.primary.sql(waits).await.unwrap();
        let waits = fate == Fate::Waiting;
        count(&fleet.primary, 1).await == there && (waiting == "1") == waits
    })
    .await;
    if fate == Fate::Replicated {
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
        fleet.replica.detach().await.unwrap();
    }
    fleet.replica.promote().await.unwrap();
    // Both go on, with the same numbers for different transactions.
    let alone = "alter system set synchronous_standby_names = ''; select pg_reload_conf()";
    fleet.primary.sql(alone).await.unwrap();
    for server in [&fleet.primary, &fleet.replica] {
        for value in 10..20 {
            let insert = format!("insert into acked values ({value})");
            server.sql(&insert).await.unwrap();
        }
    }
    let expected = match fate {
        Fate::Replicated => ["C ZI", "E40001 ZI"],
        Fate::Behind | Fate::Waiting => ["E40001 ZI"; 2],
    };
    for (side, expected) in sides.iter_mut().zip(expected) {
        assert_eq!(side.told().await, expected, "{fate:?}");
    }
    let kept = if fate == Fate::Replicated { "1" } else { "0" };
    assert_eq!(count(&fleet.replica, 1).await, kept, "{fate:?}");
    assert_eq!(count(&fleet.replica, 2).await, "0", "{fate:?}");
    // The old one is to be reached again, and has committed what it waited with; nobody believes it.
    until("the old primary has it", async || {
        count(&fleet.primary, 1).await == "1"
    })
    .await;
    for side in &mut sides {
        side.old.lead_to(fleet.primary.port()).await;
        let insert = Raw::query("insert into acked values (3)");
        assert_eq!(side.client.ask(&insert).await, "C ZI", "{fate:?}");
    }
    assert_eq!(count(&fleet.replica, 3).await, "2", "{fate:?}");
    assert_eq!(count(&fleet.primary, 3).await, "0", "{fate:?}");
}

#[tokio::test]
async fn a_commit_that_was_replicated_is_a_success_although_the_old_primary_lives() {
    part_from(Fate::Replicated).await;
}

#[tokio::test]
async fn a_commit_that_only_a_living_old_primary_has_is_lost() {
    part_from(Fate::Behind).await;
}

#[tokio::test]
async fn a_commit_that_a_living_old_primary_waits_with_is_lost() {
    part_from(Fate::Waiting).await;
}
