//! How tests reach every actor of a tree: to kill it, or to have it panic.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorCell, ActorRef, Message};

use crate::supervisor::SupervisorMessage;
use crate::{BoxFuture, DynamicMessage, TaskedMessage};

/// How long a supervisor may take to name its children.
const ANSWER: Duration = Duration::from_secs(5);

/// An actor of a tree.
#[derive(Debug, Clone)]
pub struct Living {
    /// The names from the root down, with slashes between them. Children whose parents know them by no name are
    /// called `*`.
    pub path: String,
    /// The actor.
    pub cell: ActorCell,
}

/// All actors that live at or below this one, parents before their children. A supervisor that dies meanwhile, or has
/// no time, is listed without children.
pub fn living(path: String, cell: ActorCell) -> BoxFuture<Vec<Living>> {
    Box::pin(async move {
        let mut found = vec![Living {
            path: path.clone(),
            cell: cell.clone(),
        }];
        for (name, child) in children(&cell).await {
            found.extend(living(format!("{path}/{name}"), child).await);
        }
        found
    })
}

async fn children(cell: &ActorCell) -> Vec<(String, ActorCell)> {
    if cell.is_message_type_of::<SupervisorMessage>() != Some(true) {
        let nameless = cell.get_children().into_iter();
        return nameless.map(|child| ("*".to_owned(), child)).collect();
    }
    let actor = ActorRef::<SupervisorMessage>::from(cell.clone());
    match actor.call(SupervisorMessage::Children, Some(ANSWER)).await {
        Ok(CallResult::Success(children)) => children,
        _ => Vec::new(),
    }
}

/// Has an actor of this crate panic in the handler of a message. False if it is another's or gone.
#[must_use]
pub fn crash(cell: &ActorCell) -> bool {
    order(cell, SupervisorMessage::Crash)
        || order(cell, DynamicMessage::Crash)
        || order(cell, TaskedMessage::Crash)
}

/// Has an actor of this crate stand still: the task that it owns, or the handler of its messages. False if it is another's
/// or gone.
#[must_use]
pub fn stick(cell: &ActorCell) -> bool {
    order(cell, SupervisorMessage::Stick)
        || order(cell, DynamicMessage::Stick)
        || order(cell, TaskedMessage::Stick)
}

/// Sends a message to an actor, if it is of those that hear such messages. False if not, or if it is gone.
#[must_use]
pub fn order<M: Message>(cell: &ActorCell, message: M) -> bool {
    cell.is_message_type_of::<M>() == Some(true) && cell.send_message(message).is_ok()
}
