//! Answers what the tree looks like. The supervisors below are asked by a task, all at once, so nobody waits for one
//! that does not answer but the one who asked.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorCell, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;

use super::SupervisorMessage;
use super::child::{Child, Condition};
use super::state::{Phase, State};
use crate::dynamic::DynamicMessage;
use crate::tree::{NodeKind, NodeState, TreeNode};

/// What the nodes below have to answer if the caller set no time.
const ANSWER: Duration = Duration::from_secs(1);

pub(super) fn answer(state: &State, reply: RpcReplyPort<TreeNode>) {
    let mut root = TreeNode {
        name: state.name.clone(),
        kind: NodeKind::Supervisor,
        state: match state.phase {
            Phase::Keeping => NodeState::Running,
            Phase::Clearing(_) => NodeState::Stopping,
            Phase::Isolated(_) => NodeState::Isolated,
        },
        since: state.since,
        restarts: 0,
        last_failure: state.last_failure.clone(),
        population: None,
        children: state.children.iter().map(node).collect(),
    };
    let parents: Vec<_> = state
        .children
        .iter()
        .enumerate()
        .filter_map(parent)
        .collect();
    let time = reply.get_timeout().map_or(ANSWER, |time| time / 4 * 3);
    tokio::spawn(async move {
        let mut answers = JoinSet::new();
        for (index, kind, cell) in parents {
            answers.spawn(async move { (index, ask(kind, cell, time).await) });
        }
        while let Some(Ok((index, below))) = answers.join_next().await {
            adopt(&mut root.children[index], below);
        }
        // A caller that has gone does not mind.
        let _ = reply.send(root);
    });
}

fn node(child: &Child) -> TreeNode {
    TreeNode {
        name: child.spec.id.clone(),
        kind: child.kind,
        state: child.node_state(),
        since: child.since,
        restarts: child.starts.saturating_sub(1),
        last_failure: child.last_failure.clone(),
        population: None,
        children: Vec::new(),
    }
}

/// A running child that has children of its own.
fn parent((index, child): (usize, &Child)) -> Option<(usize, NodeKind, ActorCell)> {
    match (&child.condition, child.kind) {
        (Condition::Running(_), NodeKind::Worker) => None,
        (Condition::Running(cell), kind) => Some((index, kind, cell.clone())),
        _ => None,
    }
}

async fn ask(kind: NodeKind, cell: ActorCell, time: Duration) -> Option<TreeNode> {
    let answer = match kind {
        NodeKind::Dynamic => ActorRef::<DynamicMessage>::from(cell)
            .call(DynamicMessage::Tree, Some(time))
            .await
            .ok(),
        NodeKind::Supervisor | NodeKind::Worker => {
            let actor = ActorRef::<SupervisorMessage>::from(cell);
            actor.call(SupervisorMessage::Tree, Some(time)).await.ok()
        }
    };
    match answer {
        Some(CallResult::Success(node)) => Some(node),
        _ => None,
    }
}

/// The supervisor above knows of restarts and reasons, the node itself knows what is below it.
fn adopt(node: &mut TreeNode, below: Option<TreeNode>) {
    let Some(below) = below else {
        node.state = NodeState::Silent;
        return;
    };
    if below.state != NodeState::Running {
        node.state = below.state;
        node.since = below.since;
    }
    node.last_failure = below.last_failure.or_else(|| node.last_failure.take());
    node.population = below.population;
    node.children = below.children;
}
