//! The harness of the integration tests: the real executable before real Postgres servers.
//!
//! ```no_run
//! # async fn example() {
//! use pgherd_tests::{Database, Proxy};
//!
//! let database = Database::new().await;
//! let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
//! let client = proxy.client("app", &database).await;
//! client.simple_query("select 1").await.unwrap();
//! # }
//! ```
//!
//! Whatever goes wrong in it is a failed test, so it panics instead of giving errors.

mod client;
mod database;
mod papers;
mod proxy;
mod raw;
mod script;
mod tls;
mod tool;
mod wait;

pub use client::{Client, connect, try_connect};
pub use database::{Database, server};
pub use papers::{Authority, Paper};
pub use proxy::{Config, Proxy, executable};
pub use raw::{Message, Raw};
pub use script::{Script, Statement, brief};
pub use tls::{Acceptor, Greeting, encrypt, encrypt_over};
pub use tool::{Output, run};
pub use wait::{PATIENCE, until};
