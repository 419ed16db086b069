//! A session of a fake Postgres: as much of the protocol as the proxy and the clients of a simulation speak.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use pgherd_net::Stream;
use pgherd_wire::backend::{self, Column, TransactionStatus};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::startup::{self, Opening};
use pgherd_wire::{frame, frontend, sqlstate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::servers::{Condition, Row, Servers};
use crate::checks::Check;

/// The system identifier of the cluster.
const SYSTEM: &str = "7106835957012965359";

/// What is inserted into the ledger, as clients write it.
pub(super) const INSERT: &str = "INSERT INTO ledger VALUES (";
/// What asks whether something is in the ledger.
pub(super) const COUNT: &str = "SELECT count(*) FROM ledger WHERE id = ";
/// The same with a parameter.
pub(super) const INSERT_PREPARED: &str = "INSERT INTO ledger VALUES ($1)";

struct Session<'a> {
    stream: Stream,
    input: BytesMut,
    out: BytesMut,
    host: usize,
    servers: &'a Servers,
    status: TransactionStatus,
    /// What the block, or the pipeline up to its Sync, has inserted.
    pending: Vec<Row>,
    statements: BTreeMap<Vec<u8>, String>,
    /// The text that was bound, with its parameter.
    bound: Option<String>,
    /// The client was told that it is a standby.
    told: bool,
    /// What comes before the next Sync is passed over.
    skips: bool,
    /// Rows are described before they come.
    describes: bool,
}

/// Serves one client until either side ends it.
pub(super) async fn serve(stream: Stream, host: usize, servers: &Servers) -> Option<()> {
    let mut session = Session {
        stream,
        input: BytesMut::new(),
        out: BytesMut::new(),
        host,
        servers,
        status: TransactionStatus::Idle,
        pending: Vec::new(),
        statements: BTreeMap::new(),
        bound: None,
        told: false,
        skips: false,
        describes: false,
    };
    session.greet().await?;
    loop {
        let (tag, body) = session.message().await?;
        servers.running(host).await;
        session.obey(tag, &body).await?;
        servers.running(host).await;
        session.send().await?;
    }
}

impl Session<'_> {
    async fn read(&mut self) -> Option<()> {
        (self.stream.read_buf(&mut self.input).await.ok()? > 0).then_some(())
    }

    async fn send(&mut self) -> Option<()> {
        let out = self.out.split();
        self.stream.write_all(&out).await.ok()
    }

    async fn message(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(header) = frame::header(&self.input).ok()?
                && self.input.len() >= header.total()
            {
                let mut message = self.input.split_to(header.total()).freeze();
                return Some((header.tag, message.split_off(frame::HEADER_LEN)));
            }
            self.read().await?;
        }
    }

    async fn greet(&mut self) -> Option<()> {
        loop {
            let opening = loop {
                if let Some((opening, used)) = startup::opening(&self.input).ok()? {
                    drop(self.input.split_to(used));
                    break opening;
                }
                self.read().await?;
            };
            self.servers.running(self.host).await;
            match opening {
                Opening::Startup(_) => break,
                Opening::SslRequest => {
                    self.out.extend_from_slice(b"N");
                    self.send().await?;
                }
                Opening::Cancel(_) | Opening::GssEncRequest => return None,
            }
        }
        if self.servers.condition(self.host) == Condition::Starting {
            let code = sqlstate::CANNOT_CONNECT_NOW;
            ErrorReport::fatal(code, "the database system is starting up")
                .encode_error(&mut self.out);
            self.send().await?;
            return None;
        }
        self.told = !self.servers.role(self.host).primary;
        backend::authentication_ok(&mut self.out);
        for (name, value) in [
            ("client_encoding", "UTF8"),
            ("server_version", "15.0"),
            ("standard_conforming_strings", "on"),
            ("default_transaction_read_only", "off"),
            ("in_hot_standby", if self.told { "on" } else { "off" }),
        ] {
            backend::parameter_status(&mut self.out, name.as_bytes(), value.as_bytes()).ok()?;
        }
        let secret = self.servers.net().draw(1 << 32).to_be_bytes();
        let key = CancelKey::new(1 + self.host as i32, &secret[4..]).ok()?;
        backend::backend_key_data(&mut self.out, &key);
        backend::ready_for_query(&mut self.out, TransactionStatus::Idle);
        self.send().await
    }

    async fn obey(&mut self, tag: u8, body: &[u8]) -> Option<()> {
        if self.skips && !matches!(tag, b'S' | b'X') {
            return Some(());
        }
        match tag {
            b'Q' => {
                let text = text(frontend::Query::parse(body).ok()?.text);
                self.describes = true;
                self.simple(&text).await?;
                self.describes = false;
                self.ready();
            }
            b'P' => {
                let parse = frontend::Parse::parse(body).ok()?;
                let query = text(parse.query);
                self.statements.insert(parse.name.to_vec(), query);
                self.out.extend_from_slice(&backend::PARSE_COMPLETE);
            }
            b'B' => {
                let bind = frontend::Bind::parse(body).ok()?;
                let parameter = bind.parameters().next().flatten().map(text);
                let Some(query) = self.statements.get(bind.statement) else {
                    self.refuse(sqlstate::INVALID_SQL_STATEMENT_NAME, "no such statement");
                    self.skips = true;
                    return Some(());
                };
                let value = parameter.unwrap_or_default();
                self.bound = Some(query.replace("$1", &value));
                self.out.extend_from_slice(&backend::BIND_COMPLETE);
            }
            b'D' => self.out.extend_from_slice(&backend::NO_DATA),
            b'E' => {
                let query = self.bound.clone().unwrap_or_default();
                self.skips = self.execute(&query).await?.is_err();
            }
            b'C' => self.out.extend_from_slice(&backend::CLOSE_COMPLETE),
            b'S' => {
                // Only here does it commit what is in no block: its CommandComplete was sent before.
                if self.status == TransactionStatus::Idle && !self.skips {
                    self.commit().await?;
                }
                if self.status == TransactionStatus::Idle {
                    self.pending.clear();
                }
                self.skips = false;
                self.ready();
            }
            b'X' => return None,
            _ => {}
        }
        Some(())
    }

    /// A Query commits before it says that it is complete.
    async fn simple(&mut self, query: &str) -> Option<()> {
        let before = self.out.len();
        if self.execute(query).await?.is_ok() && self.status == TransactionStatus::Idle {
            let said = self.out.split_off(before);
            self.commit().await?;
            self.out.extend_from_slice(&said);
        }
        if self.status == TransactionStatus::Idle {
            self.pending.clear();
        }
        Some(())
    }

    async fn commit(&mut self) -> Option<()> {
        let rows = std::mem::take(&mut self.pending);
        if !rows.is_empty() {
            self.servers.commit(self.host, &rows).await;
        }
        Some(())
    }

    fn ready(&mut self) {
        let standby = !self.servers.role(self.host).primary;
        if standby != self.told {
            self.told = standby;
            let value: &[u8] = if standby { b"on" } else { b"off" };
            let _ = backend::parameter_status(&mut self.out, b"in_hot_standby", value);
        }
        backend::ready_for_query(&mut self.out, self.status);
    }

    fn refuse(&mut self, code: sqlstate::SqlState, why: &str) {
        ErrorReport::error(code, why).encode_error(&mut self.out);
        if self.status == TransactionStatus::InTransaction {
            self.status = TransactionStatus::Failed;
        }
        self.pending.clear();
    }

    /// Runs a statement; the outer answer is whether the session lives, the inner whether it did well.
    async fn execute(&mut self, query: &str) -> Option<Result<(), ()>> {
        let query = query.trim().trim_end_matches(';');
        let role = self.servers.role(self.host);
        let failed = self.status == TransactionStatus::Failed;
        if failed && !matches!(query, "COMMIT" | "ROLLBACK") {
            let why = "current transaction is aborted";
            ErrorReport::error(sqlstate::IN_FAILED_SQL_TRANSACTION, why)
                .encode_error(&mut self.out);
            return Some(Err(()));
        }
        if query.is_empty() {
            backend::empty_query(&mut self.out);
        } else if query.starts_with("BEGIN") {
            self.status = TransactionStatus::InTransaction;
            self.complete("BEGIN");
        } else if query == "COMMIT" || query == "ROLLBACK" {
            self.status = TransactionStatus::Idle;
            if failed || query == "ROLLBACK" {
                self.pending.clear();
            } else {
                self.commit().await?;
            }
            self.complete(if failed { "ROLLBACK" } else { query });
        } else if let Some(rest) = query.strip_prefix(INSERT) {
            if !role.primary {
                let why = "cannot execute INSERT in a read-only transaction";
                self.refuse(sqlstate::READ_ONLY_SQL_TRANSACTION, why);
                return Some(Err(()));
            }
            if self.servers.is_left(self.host) {
                let host = self.host;
                let what = format!("host {host} was replaced, and is asked {query:?}");
                self.servers.accuse(Check::OldPrimary, what);
            }
            match rest.trim_end_matches(')').parse() {
                Ok(row) => self.pending.push(row),
                Err(_) => self
                    .servers
                    .accuse(Check::Identity, format!("a server was asked {query:?}")),
            }
            self.complete("INSERT 0 1");
        } else if let Some(row) = query.strip_prefix(COUNT) {
            let row = row.parse().unwrap_or(-1);
            let count = self.servers.entered(self.host, row).to_string();
            self.row(&[Some(&count)])?;
        } else if query.contains("aurora_replica_status") {
            self.row(&[Some("f")])?;
        } else if query.contains("pg_control_system") {
            self.look()?;
        } else if let Some(word) = query.strip_prefix("SELECT '") {
            self.row(&[Some(word.trim_end_matches('\''))])?;
        } else {
            self.complete("SET");
        }
        Some(Ok(()))
    }

    fn complete(&mut self, tag: &str) {
        let _ = backend::command_complete(&mut self.out, tag.as_bytes());
    }

    fn row(&mut self, values: &[Option<&str>]) -> Option<()> {
        let values: Vec<Option<&[u8]>> = values.iter().map(|it| it.map(str::as_bytes)).collect();
        if self.describes {
            let columns: Vec<_> = values.iter().map(|_| Column::text("value")).collect();
            backend::row_description(&mut self.out, &columns).ok()?;
        }
        backend::data_row(&mut self.out, &values).ok()?;
        self.complete("SELECT 1");
        Some(())
    }

    /// What a monitor asks.
    fn look(&mut self) -> Option<()> {
        let role = self.servers.role(self.host);
        let lsn = format!("0/{:X}", 0x100_0000 + role.lsn * 64);
        let timeline = match role.primary {
            true => format!("{:08X}", role.timeline),
            false => role.timeline.to_string(),
        };
        let standby = Some("0").filter(|_| !role.primary);
        let recovers = if role.primary { "f" } else { "t" };
        let received = standby.map(|_| lsn.clone());
        self.row(&[
            Some(recovers),
            Some(SYSTEM),
            Some(&timeline),
            Some(&lsn),
            received.as_deref(),
            standby,
            Some("f"),
        ])
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
