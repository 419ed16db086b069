use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take before a test gives it up. The machine may be slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is yes, for what cannot be awaited: the state of another
/// process.
///
/// # Panics
/// If it is not so after [`PATIENCE`]; `what` is what was hoped for.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
