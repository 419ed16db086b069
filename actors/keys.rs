//! Each setting of the configuration, shown to do what it says: a whole proxy in this process, a
//! server that behaves as a test wants, and clients.

mod client;
mod fake;
mod house;
mod limits;
mod logins;
mod logs;
mod pools;
mod reloads;
mod timeouts;
mod upstreams;

use std::time::Duration;

use client::Client;
use fake::{Fake, Manners};
use house::House;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database that anybody may use.
const SHOP: &str = "[auth]\nmethod = \"trust\"\n[databases.shop]\nhosts = [\"{host}\"]\n";
