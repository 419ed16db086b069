//! What an operator may say: typed configuration.
//!
//! `default.toml` is the manual: every setting, its default, and why. [`Config::load`] lays an
//! operator's file, the environment and the command line over it, and gives either a complete
//! [`Config`] or all faults at once.

#[macro_use]
mod section;

mod admin;
mod auth;
mod binding;
mod config;
mod database;
mod diff;
mod draft;
mod drain;
mod effective;
mod failover;
mod fault;
mod files;
mod hba;
mod host;
mod host_settings;
mod include;
mod instances;
mod limits;
mod listen;
mod load;
mod log;
mod metrics;
mod mode;
mod near;
mod notifications;
mod patroni;
mod pool;
mod read;
mod reader;
mod reads;
mod row;
mod secret;
mod setting;
mod sharding;
mod show;
mod sketch;
mod time;
mod timeouts;
mod tls;
mod url;
mod user;
mod variables;
mod workers;

#[cfg(test)]
mod tests;

pub use admin::{Admin, Role};
pub use auth::{Auth, Decision, Method};
pub use binding::ChannelBinding;
pub use config::Config;
pub use database::{Database, WILDCARD};
pub use diff::Change;
pub use drain::Drain;
pub use effective::PoolSettings;
pub use failover::{CommitResolution, Failover, UserTimeout};
pub use fault::{Fault, Faults, Origin, Problem};
pub use hba::{
    Addresses, ClientCert, ClientName, DatabaseName, HbaFile, IdentFile, Kind, Maps, Network,
    Options, Pattern, Rule, UserName, Visitor, Way,
};
pub use host::{Address, Host};
pub use host_settings::HostSettings;
pub use instances::InstancePattern;
pub use limits::{LimitOverrides, Limits, Share};
pub use listen::Listen;
pub use load::{LoadInput, Loaded, Overrides};
pub use log::{Log, LogFormat};
pub use metrics::Metrics;
pub use mode::FileMode;
pub use notifications::Notifications;
pub use patroni::{Patroni, PatroniTls, Scheme};
pub use pool::{FunctionCheck, Order, PoolDefaults, PoolMode, PoolOverrides, SettingsApart};
pub use reads::{ReadFrom, ReadOverrides, ReadStrategy, Reads};
pub use row::Effect;
pub use secret::{Password, Secret};
pub use sharding::{
    BucketPlace, KeyLookup, KeyMethod, KeyPlace, SchemaPlace, ShardGroup, ShardMethod,
    ShardSequences, Sharded, ShardedColumn, ShardedTable, Sharding, UnlistedTables,
};
pub use show::Line;
pub use timeouts::{TimeoutOverrides, Timeouts};
pub use tls::{ClientTls, Negotiation, Roots, ServerTls, TlsMode, TlsVersion};
pub use url::{Surroundings, Url, UrlFault};
pub use user::User;
pub use workers::{WorkerCount, Workers};
