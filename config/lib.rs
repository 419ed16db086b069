//! What an operator may say: typed configuration.
//!
//! `default.toml` is the manual: every setting, its default, and why. [`Config::load`] lays an
//! operator's file, the environment and the command line over it, and gives either a complete
//! [`Config`] or all faults at once.

#[macro_use]
mod section;

mod admin;
mod auth;
mod config;
mod database;
mod effective;
mod host;
mod limits;
mod listen;
mod log;
mod metrics;
mod mode;
mod pool;
mod secret;
mod timeouts;
mod tls;
mod user;
mod workers;

pub use admin::{Admin, Role};
pub use auth::{Auth, Method};
pub use config::Config;
pub use database::{Database, WILDCARD};
pub use effective::PoolSettings;
pub use host::{Address, Host};
pub use limits::{LimitOverrides, Limits, Share};
pub use listen::Listen;
pub use log::{Log, LogFormat, LogSql};
pub use metrics::Metrics;
pub use mode::FileMode;
pub use pool::{IdleTransaction, Order, PoolDefaults, PoolMode, PoolOverrides};
pub use secret::{Password, Secret};
pub use timeouts::{TimeoutOverrides, Timeouts};
pub use tls::{ClientTls, Roots, ServerTls, TlsMode, TlsVersion};
pub use user::User;
pub use workers::{WorkerCount, Workers};
