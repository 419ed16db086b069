//! A whole proxy in this process.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use pgherd_config::{Config, LoadInput};
use pgherd_supervise::{SupervisorMessage, TreeNode};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Client, Fake, PATIENCE};
use crate::drain::{Curtain, Ending};
use crate::facts::Facts;
use crate::root::{Outcome, Proxy};

/// A proxy that runs until this is dropped.
pub(super) struct House {
    dir: TempDir,
    pub(super) facts: Arc<Facts>,
    pub(super) address: SocketAddr,
    pub(super) paths: Vec<PathBuf>,
    pub(super) curtain: Curtain,
    pub(super) run: JoinHandle<Outcome>,
}

impl House {
    /// Starts one before a server. In the text, `{host}` is the server and `{dir}` a directory.
    pub(super) async fn before(fake: &Fake, text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let input = LoadInput {
            file: Some(dir.path().join("pgherd.toml")),
            ..LoadInput::default()
        };
        write(&dir, fake, text);
        let config = Config::load(&input)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .config;
        let curtain = Curtain::default();
        let proxy = Proxy::bind(config, input, curtain.clone()).expect("bound");
        let (facts, paths) = (Arc::clone(proxy.facts()), proxy.paths());
        let address = proxy.addresses()[0];
        let run = tokio::spawn(proxy.run());
        let house = Self {
            dir,
            facts,
            address,
            paths,
            curtain,
            run,
        };
        house
            .wait_until("it is up", || house.facts.is_ready())
            .await;
        house
    }

    /// Changes the file and has it read.
    pub(super) async fn reload(&self, fake: &Fake, text: &str) {
        write(&self.dir, fake, text);
        crate::config::reload(&self.facts).await;
    }

    /// A client of the database `shop`.
    pub(super) async fn client(&self, user: &str) -> Client {
        let entered = Client::enter(self.address, user, "shop").await;
        entered.unwrap_or_else(|report| panic!("{}", report.message))
    }

    /// A path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The names of all actors.
    pub(super) async fn tree(&self) -> Vec<String> {
        let tree = self
            .facts
            .root
            .call(SupervisorMessage::Tree, PATIENCE)
            .await
            .expect("a tree");
        let mut names = Vec::new();
        collect(&tree, &mut names);
        names
    }

    /// Waits until something is so.
    pub(super) async fn wait_until(&self, what: &str, so: impl Fn() -> bool) {
        super::fake::wait_until(what, so).await;
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.curtain.ask(Ending::AtOnce);
        self.run.abort();
    }
}

fn collect(node: &TreeNode, names: &mut Vec<String>) {
    names.push(node.name.clone());
    node.children.iter().for_each(|child| collect(child, names));
}

fn write(dir: &TempDir, fake: &Fake, text: &str) {
    let path = dir.path().join("pgherd.toml");
    let text = text
        .replace("{host}", &fake.address.to_string())
        .replace("{dir}", &dir.path().display().to_string());
    let text = if text.contains("[listen]") {
        text
    } else {
        format!("[listen]\naddresses = [\"127.0.0.1:0\"]\n{text}")
    };
    std::fs::write(&path, format!("{text}\n[workers]\ncount = 1\n")).expect("written");
    let ours = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, ours).expect("changed");
}
