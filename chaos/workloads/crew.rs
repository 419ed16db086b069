//! Clients of one kind, and what they saw together.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::checks::identity::Identity;

/// Clients that go on until their life ends.
#[derive(Debug)]
pub struct Crew {
    clients: Vec<JoinHandle<()>>,
    identity: Arc<Identity>,
}

impl Crew {
    /// Starts so many, each by its number; all enter what they see in the same place.
    pub(crate) fn start<F>(clients: usize, live: impl Fn(usize, Arc<Identity>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let identity = Arc::new(Identity::default());
        let clients = (0..clients)
            .map(|number| tokio::spawn(live(number, Arc::clone(&identity))))
            .collect();
        Self { clients, identity }
    }

    /// Gives what the clients saw, once their life has ended.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn finish(self) -> Arc<Identity> {
        for client in self.clients {
            client.await.expect("a client does not break down");
        }
        self.identity
    }
}
