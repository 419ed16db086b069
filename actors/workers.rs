//! The threads that carry the traffic: one runtime each, so that a client and its server meet
//! without crossing threads. The control plane has a thread of its own.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    end: CancellationToken,
}

impl Workers {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// What the system says when it has no thread or no poll descriptor to give.
    pub fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let mut handles = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let end = end.clone();
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(end.cancelled()))?;
        }
        Ok(Self { handles, end })
    }

    /// None: what is to run on one runs in the runtime of the caller.
    #[cfg(feature = "chaos")]
    pub fn here() -> Self {
        Self {
            handles: vec![Handle::current()],
            end: CancellationToken::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// How many tasks live on them.
    #[cfg(feature = "chaos")]
    pub fn tasks(&self) -> usize {
        let tasks = |handle: &Handle| handle.metrics().num_alive_tasks();
        self.handles.iter().map(tasks).sum()
    }

    /// Runs a future on one of them.
    pub fn spawn<F>(&self, worker: usize, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.handles[worker].spawn(future);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
