//! The one place where actors of a tree are born, so that tests can count what each of them hears.

use std::fmt::Debug;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};

#[cfg(feature = "chaos")]
use crate::census::Counted;

/// Spawns an unnamed actor linked to `supervisor`.
pub(crate) async fn below<A: Actor>(
    supervisor: ActorCell,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorRef<A::Msg>, SpawnErr>
where
    A::Msg: Debug,
{
    #[cfg(feature = "chaos")]
    let actor = Counted(actor);
    let (child, _) = Actor::spawn_linked(None, actor, arguments, supervisor).await?;
    Ok(child)
}

/// Spawns an unnamed actor that has no supervisor; the handle ends with it.
pub(crate) async fn alone<A: Actor>(
    actor: A,
    arguments: A::Arguments,
) -> Result<(ActorRef<A::Msg>, JoinHandle<()>), SpawnErr>
where
    A::Msg: Debug,
{
    #[cfg(feature = "chaos")]
    let actor = Counted(actor);
    Actor::spawn(None, actor, arguments).await
}
