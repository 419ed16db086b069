use crate::error::Error;
use crate::server::Server;
use crate::tool;

/// Makes and fills pgbench's tables in a database: 100,000 accounts for each unit of scale.
///
/// # Errors
/// As [`Server::sql`].
pub async fn pgbench_init(server: &Server, database: &str, scale: u32) -> Result<(), Error> {
    let mut pgbench = server.client("pgbench")?;
    pgbench
        .args(["--initialize", "--quiet", "--scale"])
        .arg(scale.to_string())
        .arg(database);
    tool::run(pgbench).await.map(drop)
}
