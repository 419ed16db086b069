//! Placeholder of the lead so that the crate compiles; to be overwritten by the console's author.
use std::sync::Arc;
use ractor::{Actor, ActorProcessingErr, ActorRef};
/// Placeholder.
#[derive(Debug)]
pub struct Http;
/// Placeholder.
#[derive(Debug, Clone)]
pub struct HttpArguments {
    /// The socket.
    pub socket: Arc<std::net::TcpListener>,
    /// The facts.
    pub facts: Arc<crate::facts::Facts>,
}
impl Actor for Http {
    type Msg = ();
    type State = HttpArguments;
    type Arguments = HttpArguments;
    async fn pre_start(&self, _: ActorRef<()>, a: HttpArguments) -> Result<HttpArguments, ActorProcessingErr> {
        Ok(a)
    }
}
