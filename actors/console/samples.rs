//! Made-up figures for tests.

use std::time::Duration;

use pgherd_config::PoolMode;
use pgherd_pool::{Limits, LostCounts, Order, Snapshot};
use pgherd_supervise::{NodeKind, NodeState, TreeNode};

use crate::console::figures::Figures;
use crate::herald::audience::Census;
use crate::outcomes::Outcomes;
use crate::pins::PinTotals;
use crate::pool::{PoolKey, Totals};
use crate::retries::Retries;
use crate::unserved::{RefusalCounts, Refusals, Unserved};

/// A busy pool.
pub(crate) fn figures(database: &str, user: &str) -> Figures {
    let limits = Limits {
        size: 20,
        min: 1,
        reserve: 2,
        reserve_after: Duration::from_secs(3),
        max_waiters: 500,
        max_opening: 8,
        order: Order::Lifo,
    };
    Figures {
        key: PoolKey::new(database, user),
        servers: Snapshot {
            limits,
            idle: 3,
            leased: 4,
            opening: 1,
            waiting: 5,
            oldest_wait: Some(Duration::from_micros(2_000_007)),
            epoch: 0,
            held: None,
            paused: false,
            closed: false,
            lost: LostCounts::default(),
            opened: 9,
            leases: 100,
            waits: 6,
            wait_time: Duration::ZERO,
        },
        cancelled: 1,
        retries: Retries::default().counts(),
        refusals: refusals(),
        outcomes: Outcomes::default().counts(),
        hindrances: vec![("max_connections".into(), 3)],
        totals: totals(),
        recent: totals(),
        clients: 12,
        hidden: pgherd_sql::Runs::Unknown,
        audience: Census::default(),
        mode: PoolMode::Transaction,
    }
}

fn totals() -> Totals {
    Totals {
        server_assignment_count: 100,
        xact_count: 50,
        query_count: 200,
        bytes_received: 1000,
        bytes_sent: 2000,
        xact_time: Duration::from_millis(500),
        query_time: Duration::from_millis(400),
        wait_time: Duration::from_micros(70),
        client_parse_count: 7,
        server_parse_count: 3,
        server_parse_again_count: 2,
        eviction_count: 1,
        bind_count: 11,
        client_login_count: 2,
        pinned_count: 1,
        check_count: 1,
        survey_count: 1,
        pins: PinTotals::default(),
    }
}

fn refusals() -> RefusalCounts {
    let refusals = Refusals::default();
    refusals.count(Unserved::QueueFull);
    refusals.counts()
}

/// A running node of a tree.
pub(crate) fn node(name: &str, restarts: u64, children: Vec<TreeNode>) -> TreeNode {
    TreeNode {
        name: name.to_owned(),
        kind: if children.is_empty() {
            NodeKind::Worker
        } else {
            NodeKind::Supervisor
        },
        state: NodeState::Running,
        since: tokio::time::Instant::now(),
        restarts,
        last_failure: None,
        population: None,
        children,
    }
}
