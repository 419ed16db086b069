use std::net::SocketAddr;

use crate::fault::Problem;
use crate::reader::Reader;
use crate::section::Check;

section! {
    /// The HTTP endpoint for metrics and health.
    pub struct Metrics {
        /// The address; `None` serves nothing.
        [Restart] listen: Option<SocketAddr>,
        /// The path of the Prometheus page.
        [Restart] path: String,
    }
}

impl Check for Metrics {
    fn check(&self, reader: &mut Reader<'_>) {
        let taken = ["/healthz", "/readyz", "/"];
        if !self.path.starts_with('/') || taken.contains(&self.path.as_str()) {
            let problem = Problem::Value(format!("{:?}", self.path));
            reader.fault(
                "path",
                problem,
                "a path such as \"/metrics\", not that of health",
            );
        }
    }
}
