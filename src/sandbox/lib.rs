//! Throw-away Postgres servers for the demo, the tests and the benchmark.
//!
//! ```no_run
//! # async fn example() -> Result<(), pgherd_sandbox::Error> {
//! use pgherd_sandbox::{Binaries, Server};
//!
//! let binaries = Binaries::find()?;
//! let primary = Server::builder(&binaries).start().await?;
//! let replica = primary.replica().await?;
//! primary.sql("create table herd (name text)").await?;
//! replica.caught_up(&primary).await?;
//! println!("{}", primary.url("postgres", "postgres"));
//! # Ok(())
//! # }
//! ```
//!
//! Everything a value here started, and everything it wrote, is gone when the value is: `Drop`
//! kills by recorded process id and removes the directory. A guardian process does the same if
//! this process dies without running `Drop`.

mod account;
mod binaries;
mod certificate;
mod cluster;
mod daemon;
mod demo;
mod error;
mod home;
mod pgbench;
mod pgbouncer;
mod port;
mod process;
mod server;
mod shop;
mod template;
pub mod tool;

pub use account::Account;
pub use binaries::{Binaries, Missing};
pub use certificate::Certificate;
pub use cluster::{Cluster, Rejoined, Replication};
pub use daemon::Daemon;
pub use demo::{Demo, things_to_try};
pub use error::Error;
pub use home::Home;
pub use pgbench::pgbench_init;
pub use pgbouncer::{Options, Pgbouncer, Version};
pub use port::free_port;
pub use server::{Builder, Server, Stop};
pub use shop::Shop;
