use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Error, Replication};
use tokio::time::sleep;

use super::etcd::Etcd;
use super::network::Network;
use super::node::Node;
use super::place::NODES;
use super::rest;
use crate::crowd::Witness;

/// How long the nodes may take until one leads and the others follow.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often that is looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long Patroni may take for an answer.
const SOON: Duration = Duration::from_secs(2);

/// Says of a primary how many replicas stream, and how many of them it waits for; and of each the timeline: one that has
/// gone further than its new primary streams, too, again and again for a moment, the end of the timeline before.
const FOLLOWERS: &str = "select pg_is_in_recovery(), \
     count(*) filter (where state = 'streaming' and application_name like 'n_'), \
     count(*) filter (where sync_state in ('sync', 'quorum')), \
     case when pg_is_in_recovery() then (select received_tli from pg_stat_wal_receiver) \
     else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end \
     from pg_stat_replication";

/// All nodes, and the store by which they agree.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    etcd: Etcd,
    replication: Replication,
}

impl Cluster {
    /// Starts everything and waits until it is settled.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Silent`].
    pub(super) async fn start(
        network: &Network,
        binaries: &Binaries,
        patroni: &Path,
        replication: Replication,
    ) -> Result<Self, Error> {
        let etcd = Etcd::start(network).await?;
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let mut node = Node::new(network, number, binaries, patroni, replication)?;
            node.start()?;
            nodes.push(node);
        }
        let cluster = Self {
            nodes,
            etcd,
            replication,
        };
        cluster.settle().await?;
        Ok(cluster)
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub(super) fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// The files of what all have logged, and a name for each.
    pub(super) fn logs(&self) -> Vec<(String, PathBuf)> {
        let nodes = self.nodes.iter().map(|node| (node.name(), node.log()));
        nodes
            .chain([("etcd".to_owned(), self.etcd.log())])
            .collect()
    }

    /// Waits until one node leads, all others follow it, and it waits for one of them where it must;
    /// gives its number.
    ///
    /// # Errors
    /// [`Error::Silent`] if that does not come to pass, with what the nodes say.
    pub(super) async fn settle(&self) -> Result<usize, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut said = Vec::new();
            for node in &self.nodes {
                said.push(match node.sql(FOLLOWERS).await {
                    Ok(row) => row,
                    Err(error) => error.to_string(),
                });
            }
            if let Some(leader) = settled(&said, self.replication)
                && self.agreed(leader).await
            {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    name: "the cluster",
                    after: PATIENCE,
                    log: said.join("\n"),
                });
            }
            sleep(TICK).await;
        }
    }

    /// Whether Patroni knows, too, that this node leads, and which one it waits for.
    async fn agreed(&self, leader: usize) -> bool {
        let address = self.nodes[leader].address();
        let leads = rest::ask(address, "GET", "/primary", "", SOON).await;
        let cluster = rest::ask(address, "GET", "/cluster", "", SOON).await;
        let named = self.replication == Replication::Asynchronous
            || cluster.is_ok_and(|(_, body)| body.contains("\"sync_standby\""));
        named && leads.is_ok_and(|(status, _)| status == 200)
    }

    /// The one node that leads by its own word; `None` if there are none or several.
    pub(super) async fn leader(&self) -> Option<usize> {
        let mut leaders = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let said = node.sql("select pg_is_in_recovery()").await;
            if said.ok().as_deref() == Some("f") {
                leaders.push(number);
            }
        }
        match leaders[..] {
            [leader] => Some(leader),
            _ => None,
        }
    }

    /// Asks Patroni for another primary, whichever it likes.
    ///
    /// # Errors
    /// [`Error::Tool`] with what it says if it will not.
    pub(super) async fn switch_over(&self, from: usize) -> Result<(), Error> {
        let node = &self.nodes[from];
        let body = format!("{{\"leader\": \"{}\"}}", node.name());
        let asked = rest::ask(node.address(), "POST", "/switchover", &body, PATIENCE).await;
        let message = match asked {
            Ok((200, _)) => return Ok(()),
            Ok((status, text)) => format!("{status} {text}"),
            Err(error) => error.to_string(),
        };
        Err(Error::Tool {
            tool: "a switchover".to_owned(),
            message,
        })
    }

    /// Takes away the store by which the nodes agree.
    pub(super) fn lose_store(&mut self) {
        self.etcd.kill9();
    }

    /// Gives it back, with all that it held.
    ///
    /// # Errors
    /// As [`Etcd::launch`].
    pub(super) async fn restore_store(&mut self) -> Result<(), Error> {
        self.etcd.launch().await
    }

    /// Takes the lease from whoever leads.
    ///
    /// # Errors
    /// As [`Etcd::end_lease`].
    pub(super) async fn end_lease(&self) -> Result<(), Error> {
        self.etcd.end_lease().await
    }
}

impl Witness for Cluster {
    async fn sql(&self, text: &str) -> Result<String, Error> {
        let leader = self.leader().await.ok_or(Error::Down("a primary"))?;
        self.nodes[leader].sql(text).await
    }
}

/// The node that leads all others, by the answers to [`FOLLOWERS`].
fn settled(said: &[String], replication: Replication) -> Option<usize> {
    let standing = |row: &String| {
        let mut cells = row.split('|');
        let follows = cells.next()? == "t";
        let streaming: usize = cells.next()?.parse().ok()?;
        let awaited: usize = cells.next()?.parse().ok()?;
        let timeline: u32 = cells.next()?.parse().ok()?;
        Some((follows, streaming, awaited, timeline))
    };
    let all: Vec<_> = said.iter().map(standing).collect::<Option<_>>()?;
    let mut leaders = all.iter().enumerate().filter(|(_, row)| !row.0);
    let (leader, (_, streaming, awaited, timeline)) = leaders.next()?;
    let alone = leaders.next().is_none() && all.iter().all(|row| row.3 == *timeline);
    let enough = replication == Replication::Asynchronous || *awaited > 0;
    (alone && enough && *streaming == said.len() - 1).then_some(leader)
}

#[cfg(test)]
mod tests {
    use pgherd_sandbox::Replication::{Asynchronous, Synchronous};

    use super::settled;

    #[test]
    fn one_leads_and_all_others_follow() {
        let said = |rows: [&str; 3]| rows.map(str::to_owned);
        let fine = said(["t|0|0|4", "f|2|1|4", "t|0|0|4"]);
        assert_eq!(settled(&fine, Synchronous), Some(1));
        let lonely = said(["t|0|0|4", "f|2|0|4", "t|0|0|4"]);
        assert_eq!(settled(&lonely, Synchronous), None);
        assert_eq!(settled(&lonely, Asynchronous), Some(1));
        for odd in [
            ["t|0|0|4", "f|1|1|4", "t|0|0|4"],
            ["f|0|0|4", "f|2|1|4", "t|0|0|4"],
            ["it is down", "f|2|1|4", "t|0|0|4"],
            ["t|0|0|4", "t|0|0|4", "t|0|0|4"],
            ["t|0|0|4", "f|2|1|4", "t|0|0|3"],
        ] {
            assert_eq!(settled(&said(odd), Synchronous), None, "{odd:?}");
        }
    }
}
