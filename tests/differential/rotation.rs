//! Sees to it that a script finds another server at each new transaction.
//!
//! The pool has two connections, and one of two noisy clients always holds one of them in a
//! transaction. Before the script goes on, the other one takes the connection that the script has
//! just left, and then the first lets go: so the script can only get that one. While the script is
//! bound to a server, nobody holds the other.

use std::time::Duration;

use pgherd_tests::Raw;
use tokio::time::{Instant, timeout};

use crate::noise::Noisy;

/// How long a noisy client may wait for a server.
const PATIENCE: Duration = Duration::from_secs(25);

/// The noisy clients who hold, and what the console tells.
#[derive(Debug)]
pub(crate) struct Rotation {
    console: Raw,
    holders: [Noisy; 2],
    holding: Option<usize>,
    /// The process of the server that the script is or was bound to.
    bound: Option<String>,
    moves: usize,
}

impl Rotation {
    pub(crate) async fn new(port: u16, database: &str, seed: u64) -> Self {
        Self {
            console: Raw::login(port, "app", "pgherd", &[]).await,
            holders: [
                Noisy::new(port, database, 1, seed).await,
                Noisy::new(port, database, 2, seed).await,
            ],
            holding: None,
            bound: None,
            moves: 0,
        }
    }

    /// How often the script was moved.
    pub(crate) fn moves(&self) -> usize {
        self.moves
    }

    /// Moves the client, which is between transactions, to the other server, unless it is bound. False if it is not
    /// connected any more.
    pub(crate) async fn turn(&mut self, client: u32) -> bool {
        match self.place(client).await {
            Place::Bound(process) => {
                self.bound = Some(process);
                if let Some(holding) = self.holding.take() {
                    self.holders[holding].release().await;
                }
                return true;
            }
            Place::Gone => return false,
            Place::Free => {}
        }
        let next = match self.holding {
            Some(holding) => {
                let other = 1 - holding;
                timeout(PATIENCE, self.holders[other].act_or_vanish())
                    .await
                    .expect("noise has a server");
                self.hold(other).await;
                self.holders[holding].release().await;
                other
            }
            None => {
                let process = self.hold(0).await;
                if self.bound.as_ref() == Some(&process) {
                    0
                } else {
                    self.hold(1).await;
                    self.holders[0].release().await;
                    1
                }
            }
        };
        self.holding = Some(next);
        self.bound = None;
        self.moves += 1;
        true
    }

    async fn hold(&mut self, number: usize) -> String {
        let held = timeout(PATIENCE, self.holders[number].hold()).await;
        held.expect("one of two servers is free")
    }

    /// Where an idle client is, as the console tells it.
    async fn place(&mut self, client: u32) -> Place {
        let name = format!("c{client}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Its last answer has come, so this is a matter of an instant.
            assert!(Instant::now() < deadline, "the client is never idle");
            let clients = table(&mut self.console, "show clients").await;
            let Some(client) = clients.into_iter().find(|row| row[PTR] == name) else {
                return Place::Gone;
            };
            if client[STATE] != "idle" {
                continue;
            }
            let mut servers = table(&mut self.console, "show servers").await.into_iter();
            if client[LINK].is_empty() {
                // One that is looked at before somebody else gets it may turn out to be kept.
                let mut mine = servers.filter(|row| row[DATABASE] == client[DATABASE]);
                if mine.any(|row| {
                    row[STATE] == "active" && (row[LINK].is_empty() || row[LINK] == name)
                }) {
                    continue;
                }
                return Place::Free;
            }
            let server = servers.find(|row| row[PTR] == client[LINK]);
            return server.map_or(Place::Free, |mut row| Place::Bound(row.swap_remove(PID)));
        }
    }
}

/// Where a client is between its transactions.
#[derive(Debug)]
enum Place {
    Free,
    /// It is bound to the server of this process.
    Bound(String),
    /// It is not connected any more.
    Gone,
}

// Columns of SHOW CLIENTS and SHOW SERVERS.
const DATABASE: usize = 2;
const STATE: usize = 4;
const PTR: usize = 14;
const LINK: usize = 15;
const PID: usize = 16;

async fn table(console: &mut Raw, ask: &str) -> Vec<Vec<String>> {
    console.send(&Raw::query(ask)).await;
    let said = console.ready().await;
    let rows = said.iter().filter(|message| message.tag == 'D');
    rows.map(pgherd_tests::Message::columns).collect()
}

/// All that the console tells of clients, servers and pools, for whom something has gone wrong.
pub(crate) async fn all(port: u16) -> String {
    let mut console = Raw::login(port, "app", "pgherd", &[]).await;
    let mut told = String::new();
    for ask in ["show clients", "show servers", "show pools"] {
        for row in table(&mut console, ask).await {
            told += &row.join("|");
            told.push('\n');
        }
    }
    told
}
