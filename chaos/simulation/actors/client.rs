//! Clients of the proxy, each of which remembers what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use pgherd_net::Stream;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::startup::{self, Version};
use pgherd_wire::{frame, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::backend::{COUNT, INSERT, INSERT_PREPARED};
use super::net::{Net, Node};
use crate::checks::{Check, Wrong};

/// Longer than everything that the proxy may have a client wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client was told of a row that it wanted in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is there.
    Done,
    /// It is not.
    Undone,
    /// Nobody knows.
    Unknown,
}

/// What all clients were told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: Mutex<BTreeMap<i64, Told>>,
    wrong: Mutex<Vec<Wrong>>,
    errors: Mutex<BTreeMap<String, u64>>,
    next: AtomicI64,
    /// Clients are to come to an end.
    over: AtomicBool,
}

impl Ledger {
    pub(super) fn rows(&self) -> BTreeMap<i64, Told> {
        self.rows.lock().clone()
    }

    /// What clients have met that they must never meet.
    pub(super) fn wrong(&self) -> Vec<Wrong> {
        self.wrong.lock().clone()
    }

    /// How often which error was told.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Has clients end what they do, and do nothing more.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Rows that are known to be there.
    pub(super) fn done(&self) -> usize {
        self.rows
            .lock()
            .values()
            .filter(|told| **told == Told::Done)
            .count()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn accuse(&self, check: Check, what: String) {
        self.wrong.lock().push(check.caught(what));
    }

    fn row(&self) -> i64 {
        1 + self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Inserts, each by itself, in the simple protocol.
    Alone,
    /// The same in the extended protocol.
    Prepared,
    /// Inserts in blocks of two, statement by statement.
    Block,
    /// Asks who it is.
    Asker,
    /// Does nothing for long, and then asks.
    Idler,
}

impl Way {
    pub(super) const ALL: [Self; 5] = [
        Self::Alone,
        Self::Prepared,
        Self::Block,
        Self::Asker,
        Self::Idler,
    ];
}

/// How a request has ended.
struct Answer {
    rows: Vec<Bytes>,
    error: Option<ErrorReport>,
    status: u8,
}

/// The proxy has hung up.
struct Gone;

pub(super) struct Client {
    pub(super) number: usize,
    pub(super) way: Way,
    pub(super) net: Net,
    pub(super) ledger: Arc<Ledger>,
    stream: Stream,
    input: BytesMut,
    asked: u64,
}

impl Client {
    /// Comes, asks until it is told to end, and leaves. Who is cut off in the middle of a message comes again: what
    /// was passed on of it cannot be taken back, and nothing else can be said then.
    pub(super) async fn live(number: usize, net: Net, ledger: Arc<Ledger>) {
        let way = Way::ALL[number % Way::ALL.len()];
        net.pause(0..300).await;
        loop {
            let Ok(stream) = net.connect(Node::Client(number), Node::Proxy).await else {
                return ledger.accuse(Check::Errors, format!("client {number} was not let in"));
            };
            let mut client = Self {
                number,
                way,
                net: net.clone(),
                ledger: Arc::clone(&ledger),
                stream,
                input: BytesMut::new(),
                asked: 0,
            };
            let lived = match client.log_in().await {
                Ok(()) => client.work().await,
                Err(Gone) => Err(Gone),
            };
            match lived {
                Ok(()) => return,
                Err(Gone) if !client.input.is_empty() => {
                    net.note(format_args!(
                        "client {number} was cut off in the middle of a message"
                    ));
                }
                Err(Gone) => {
                    return ledger.accuse(
                        Check::Idle,
                        format!("client {number} ({way:?}) was cut off"),
                    );
                }
            }
        }
    }

    async fn work(&mut self) -> Result<(), Gone> {
        while !self.ledger.is_over() {
            match self.way {
                Way::Alone => self.insert(false).await?,
                Way::Prepared => self.insert(true).await?,
                Way::Block => self.block().await?,
                Way::Asker => {
                    self.ask().await?;
                    self.net.pause(5..250).await;
                }
                Way::Idler => {
                    self.net.pause(2000..9000).await;
                    self.ask().await?;
                }
            }
        }
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        let _ = self.stream.write_all(&out).await;
        Ok(())
    }

    async fn log_in(&mut self) -> Result<(), Gone> {
        let mut out = BytesMut::new();
        let parameters = [("user", "app"), ("database", "shop")];
        startup::startup(&mut out, Version::V3_0, &parameters).map_err(|_| Gone)?;
        let answer = self.request(&out).await?;
        match answer.error {
            None => Ok(()),
            Some(report) => {
                let (number, code) = (self.number, report.code);
                let what = format!("client {number} was refused: {code} {}", report.message);
                self.ledger.accuse(Check::Errors, what);
                Err(Gone)
            }
        }
    }

    fn tell(&self, row: i64, told: Told) {
        let number = self.number;
        self.net
            .note(format_args!("client {number} knows row {row} {told:?}"));
        self.ledger.rows.lock().insert(row, told);
    }

    /// Sends, and reads up to the next ReadyForQuery.
    async fn request(&mut self, out: &[u8]) -> Result<Answer, Gone> {
        self.asked += 1;
        let number = self.number;
        match timeout(PATIENCE, self.exchange(out)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.ledger
                    .accuse(Check::Stuck, format!("client {number} was never answered"));
                Err(Gone)
            }
        }
    }

    async fn exchange(&mut self, out: &[u8]) -> Result<Answer, Gone> {
        self.stream.write_all(out).await.map_err(|_| Gone)?;
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'D' => rows.push(body),
                b'E' => error = Some(ErrorReport::parse(&body)),
                b'Z' => {
                    if let Some(report) = &error {
                        let key = format!("{:?} {}", self.way, report.code);
                        *self.ledger.errors.lock().entry(key).or_default() += 1;
                    }
                    let status = body.first().copied().unwrap_or_default();
                    return Ok(Answer {
                        rows,
                        error,
                        status,
                    });
                }
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, Bytes), Gone> {
        loop {
            if let Some(header) = frame::header(&self.input).map_err(|_| Gone)?
                && self.input.len() >= header.total()
            {
                let mut message = self.input.split_to(header.total()).freeze();
                return Ok((header.tag, message.split_off(frame::HEADER_LEN)));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Gone),
            }
        }
    }

    async fn query(&mut self, text: &str) -> Result<Answer, Gone> {
        let mut out = BytesMut::new();
        frontend::query(&mut out, text.as_bytes()).map_err(|_| Gone)?;
        self.request(&out).await
    }

    /// A query, by Parse, Bind, Execute and Sync.
    async fn prepared(&mut self, text: &str, parameters: &[Option<&[u8]>]) -> Result<Answer, Gone> {
        let mut out = BytesMut::new();
        frontend::parse(&mut out, b"", text.as_bytes(), &[]).map_err(|_| Gone)?;
        frontend::bind(&mut out, b"", b"", &[], parameters, &[]).map_err(|_| Gone)?;
        frontend::execute(&mut out, b"", 0).map_err(|_| Gone)?;
        frontend::sync(&mut out);
        self.request(&out).await
    }

    /// An error that says what has happened is one of these; all others are the proxy's to keep away.
    fn expect(&self, what: &str, report: &ErrorReport, allowed: &[&str]) {
        let code = report.code.to_string();
        if !allowed.contains(&code.as_str()) {
            let (number, message) = (self.number, &report.message);
            let what = format!("client {number} was told {code} of {what}: {message}");
            self.ledger.accuse(Check::Errors, what);
        }
    }

    async fn insert(&mut self, prepared: bool) -> Result<(), Gone> {
        let row = self.ledger.row();
        self.tell(row, Told::Unknown);
        let answer = if prepared {
            let text = row.to_string();
            self.prepared(INSERT_PREPARED, &[Some(text.as_bytes())])
                .await?
        } else {
            self.query(&format!("{INSERT}{row})")).await?
        };
        match &answer.error {
            None => {
                self.tell(row, Told::Done);
                self.seen(row).await?;
            }
            Some(report) => {
                self.expect("an insert", report, &["08007"]);
                if report.code.to_string() != "08007" {
                    self.tell(row, Told::Undone);
                }
            }
        }
        self.net.pause(5..250).await;
        Ok(())
    }

    /// What was written is read, now and then.
    async fn seen(&mut self, row: i64) -> Result<(), Gone> {
        if self.net.draw(4) > 0 {
            return Ok(());
        }
        let answer = self.query(&format!("{COUNT}{row}")).await?;
        let count = answer.rows.first().and_then(|body| body.get(6..));
        match &answer.error {
            Some(report) => self.expect("a count", report, &["08006", "08007"]),
            None if count == Some(b"1") => {}
            None => {
                let what = format!("row {row} was acknowledged, and is there {count:?} times");
                let check = match count {
                    Some(b"0") => Check::Lost,
                    _ => Check::Doubled,
                };
                self.ledger.accuse(check, what);
            }
        }
        Ok(())
    }

    async fn block(&mut self) -> Result<(), Gone> {
        let rows = [self.ledger.row(), self.ledger.row()];
        let texts = rows.map(|row| format!("{INSERT}{row})"));
        let mut told = Told::Undone;
        for text in ["BEGIN", &texts[0], &texts[1]] {
            let answer = self.query(text).await?;
            if let Some(report) = &answer.error {
                // Nothing of it was done before its first statement.
                let allowed: &[&str] = if text == "BEGIN" { &[] } else { &["40001"] };
                self.expect(text, report, allowed);
                if answer.status != b'I' {
                    self.query("ROLLBACK").await?;
                }
                rows.iter().for_each(|row| self.tell(*row, told));
                return Ok(());
            }
            self.net.pause(0..40).await;
        }
        rows.iter().for_each(|row| self.tell(*row, Told::Unknown));
        let answer = self.query("COMMIT").await?;
        match &answer.error {
            None => told = Told::Done,
            Some(report) => {
                self.expect("COMMIT", report, &["08007", "40001"]);
                if report.code.to_string() == "08007" {
                    told = Told::Unknown;
                }
            }
        }
        rows.iter().for_each(|row| self.tell(*row, told));
        if answer.status != b'I' {
            self.query("ROLLBACK").await?;
        }
        self.net.pause(5..250).await;
        Ok(())
    }

    /// Asks for a word that nobody else asks for.
    async fn ask(&mut self) -> Result<(), Gone> {
        let word = format!("client {} asks {}", self.number, self.asked);
        let text = format!("SELECT '{word}'");
        let answer = match self.asked % 2 {
            0 => self.query(&text).await?,
            _ => self.prepared(&text, &[]).await?,
        };
        if let Some(report) = &answer.error {
            self.expect("a question", report, &["08006", "08007"]);
            return Ok(());
        }
        let said: Vec<_> = answer
            .rows
            .iter()
            .filter_map(|body| body.get(6..))
            .collect();
        if said != [word.as_bytes()] {
            let said: Vec<_> = said.iter().map(|it| String::from_utf8_lossy(it)).collect();
            self.ledger
                .accuse(Check::Identity, format!("{word:?} was answered {said:?}"));
        }
        Ok(())
    }
}
