use crate::binaries::Binaries;
use crate::error::Error;
use crate::server::{Builder, Server, Stop};

#[cfg(test)]
mod tests;

/// What a primary waits for at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// One of its replicas, whichever is first, has it: what was acknowledged outlives the primary.
    Synchronous,
    /// Nobody: what was acknowledged last may be lost with the primary.
    Asynchronous,
}

/// How a server came to follow the new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// What it had written for itself was undone by `pg_rewind`.
    Rewound,
    /// It was copied anew.
    Copied,
}

/// What a node is by the will of who runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Primary,
    Replica,
    /// It was the primary, and whatever it does now, nobody should listen to it.
    Former,
}

/// A primary and streaming replicas, and what a failover manager does with them.
///
/// Each node keeps its port whatever becomes of it. Data are not forced to the disk (`fsync` is
/// off): what is killed here are processes, and what they have written the kernel keeps.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    server: Server,
    standing: Standing,
}

impl Cluster {
    /// Starts so many nodes, of which the first is the primary, and waits until all replicas stream.
    /// Without a replica a synchronous primary would wait for ever, so there is at least one.
    ///
    /// # Errors
    /// As [`crate::Builder::start`].
    pub async fn start(
        binaries: &Binaries,
        nodes: usize,
        replication: Replication,
    ) -> Result<Self, Error> {
        Self::start_as(Server::builder(binaries), nodes, replication).await
    }

    /// As [`Self::start`], with a primary as it is described.
    ///
    /// # Errors
    /// As there.
    pub async fn start_as(
        primary: Builder,
        nodes: usize,
        replication: Replication,
    ) -> Result<Self, Error> {
        let standbys = match replication {
            Replication::Synchronous => "ANY 1 (*)",
            Replication::Asynchronous => "",
        };
        let primary = primary
            .settings(&[
                ("synchronous_standby_names", standbys),
                // Without these two pg_rewind refuses.
                ("wal_log_hints", "on"),
                ("full_page_writes", "on"),
                // All of pg_wal is copied by pg_rewind, what is kept for reuse as well.
                ("wal_keep_size", "64MB"),
                ("max_wal_size", "96MB"),
                ("min_wal_size", "32MB"),
                // A replica whose primary is not there yet tries again soon.
                ("wal_retrieve_retry_interval", "50ms"),
            ])
            .start()
            .await?;
        let mut replicas = Vec::new();
        for _ in 1..nodes.max(2) {
            let replica = primary.replica().await?;
            replica.streaming().await?;
            replicas.push(replica);
        }
        let mut all = vec![Node {
            server: primary,
            standing: Standing::Primary,
        }];
        all.extend(replicas.into_iter().map(|server| Node {
            server,
            standing: Standing::Replica,
        }));
        Ok(Self { nodes: all })
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The ports of all nodes on 127.0.0.1.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.server.port()).collect()
    }

    /// The number of the primary.
    pub fn primary(&self) -> usize {
        self.nodes
            .iter()
            .position(|node| node.standing == Standing::Primary)
            .unwrap_or_default()
    }

    /// A node's server.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&self, number: usize) -> &Server {
        &self.nodes[number].server
    }

    /// Kills all processes of a node (SIGKILL).
    ///
    /// # Panics
    /// As [`Self::node`].
    pub fn kill9(&mut self, number: usize) {
        self.nodes[number].server.kill9();
    }

    /// Shuts a node down in good order: it rolls back what is under way, and its replicas get all
    /// that it has written.
    ///
    /// # Errors
    /// As [`Server::stop`].
    ///
    /// # Panics
    /// As [`Self::node`].
    pub async fn stop(&mut self, number: usize) -> Result<(), Error> {
        self.nodes[number].server.stop(Stop::Fast).await
    }

    /// Takes all replicas off the primary, so that it can acknowledge nothing more in synchronous
    /// replication, even if it only sleeps; chooses the replica that has most; and has the others
    /// follow that one. It is not promoted yet. The primary, dead or alive, is a former one from now
    /// on.
    ///
    /// # Errors
    /// As [`Server::sql`]; [`Error::Down`] if there is no replica.
    pub async fn elect(&mut self) -> Result<usize, Error> {
        let mut best = None;
        for (number, node) in self.nodes.iter().enumerate() {
            if node.standing == Standing::Replica {
                best = best.max(Some((node.server.detach().await?, number)));
            }
        }
        let (_, heir) = best.ok_or(Error::Down("a replica"))?;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            match node.standing {
                Standing::Primary => node.standing = Standing::Former,
                Standing::Replica if number == heir => node.standing = Standing::Primary,
                Standing::Replica | Standing::Former => {}
            }
        }
        // One that follows before the promotion is there for the first commit behind it.
        for node in &self.nodes {
            if node.standing == Standing::Replica {
                node.server.follow(&self.nodes[heir].server).await?;
            }
        }
        Ok(heir)
    }

    /// Cuts all replicas off from the primary, which goes on without them, until one is elected: an
    /// asynchronous primary's commits from now on are lost with it.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn sever(&self) -> Result<(), Error> {
        for node in &self.nodes {
            if node.standing == Standing::Replica {
                node.server.detach().await?;
            }
        }
        Ok(())
    }

    /// Promotes the one that was elected, and waits until it takes writes.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn promote(&self) -> Result<(), Error> {
        self.nodes[self.primary()].server.promote().await
    }

    /// Starts the primary again behind its end, on the timeline it had.
    ///
    /// # Errors
    /// As [`Server::restart`].
    pub async fn start_again(&mut self) -> Result<(), Error> {
        let primary = self.primary();
        self.nodes[primary].server.restart().await
    }

    /// Fills the disk of a node, and has it write until it gives up; see [`Server::choke`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`Self::node`].
    pub async fn choke(&mut self, number: usize) -> Result<(), Error> {
        self.nodes[number].server.choke().await
    }

    /// Starts a former primary on its old timeline, unless it runs, where it takes writes and waits
    /// for nobody.
    ///
    /// # Errors
    /// As [`Server::restart`] and [`Server::sql`].
    ///
    /// # Panics
    /// As [`Self::node`].
    pub async fn revive(&mut self, number: usize) -> Result<(), Error> {
        let server = &mut self.nodes[number].server;
        if server.pid().is_none() {
            server.restart().await?;
        }
        let alone = "alter system set synchronous_standby_names = ''; select from pg_reload_conf()";
        server.sql(alone).await.map(drop)
    }

    /// Makes a replica of a former primary, whatever it did meanwhile, and waits until it streams.
    ///
    /// # Errors
    /// As [`crate::Builder::start`].
    ///
    /// # Panics
    /// If there is no such node, or it is the primary.
    pub async fn rejoin(&mut self, number: usize) -> Result<Rejoined, Error> {
        let primary = self.primary();
        let pair = self.nodes.get_disjoint_mut([number, primary]);
        let [node, primary] = pair.expect("the number is that of another node");
        let how = match node.server.rewind(&primary.server).await {
            Ok(()) => Rejoined::Rewound,
            Err(Error::Tool { .. } | Error::Died { .. }) => {
                node.server.replace(&primary.server).await?;
                Rejoined::Copied
            }
            Err(error) => return Err(error),
        };
        // What a revived primary was told must not hold when it is one again.
        let again = "alter system reset synchronous_standby_names; select from pg_reload_conf()";
        node.server.sql(again).await?;
        node.server.streaming().await?;
        node.standing = Standing::Replica;
        Ok(how)
    }
}
