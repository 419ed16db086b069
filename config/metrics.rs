use std::net::SocketAddr;

section! {
    /// The HTTP endpoint for metrics and health.
    pub struct Metrics {
        /// The address; `None` serves nothing.
        [Restart] listen: Option<SocketAddr>,
        /// The path of the Prometheus page.
        [Restart] path: String,
    }
}
