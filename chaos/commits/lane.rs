//! Two proxies before three shards, and one case after the other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pgherd_sandbox::Server;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep};
use tokio_postgres::SimpleQueryMessage;

use super::case::{Case, Fault, Flow, Message, When};
use super::report::Report;
use super::seen::{Lost, Seen};
use super::stage::{Place, WHOLE};
use super::tap::{FIRST, Rule, Tap, Trap, Whose};
use super::transfer::{BALANCE, BOOK, Transfer};
use crate::checks::whole::whole;
use crate::checks::{Check, Wrong};
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::proxy::Proxy;
use crate::workloads::life::Life;
use crate::workloads::transfers::Transfers;

/// How long anything may take that is to happen by itself. Those who do not know whether a transaction is over wait for
/// eight seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a case is tried whose message does not come. It shows nothing then, good or bad.
const TRIES: usize = 3;

/// How long a proxy is frozen at most, while there is something that the other one may end.
const FROZEN: Duration = Duration::from_secs(14);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// The actors that bring commits to their end.
const COORDINATORS: &str = "root/transactions/coordinators/*";

/// The actor that ends what others have left.
const RECOVERY: &str = "root/transactions/recovery";

/// How many parts of transactions are prepared on a shard.
const PREPARED: &str = "select count(*) from pg_prepared_xacts where database = current_database()";

/// Makes rows old that say yes, so that they are cleared away as soon as nobody needs them.
const AGE: &str =
    "update pgherd.decisions set decided = decided - interval '2 hours' where committed";

/// Whose servers these are.
enum Servers {
    /// Nobody else's: they may be killed.
    Own(Vec<Server>),
    /// Of several lanes.
    Shared(#[expect(dead_code, reason = "they end with the last who has them")] Arc<[Server]>),
    /// They are not known yet.
    Unknown,
}

/// What happens is the same in all of them.
pub(super) struct Lane {
    pub(super) name: String,
    // Proxies end first, servers last.
    proxies: Vec<Proxy>,
    /// Which proxies are dead.
    dead: [bool; 2],
    /// What each proxy comes to each shard through.
    taps: Vec<Vec<Tap>>,
    doors: [Door; 2],
    /// The client of the case that was the last, if it is of use still.
    caller: Option<Caller>,
    /// The number of the next transfer.
    next: i64,
    places: Vec<Place>,
    others: Transfers,
    life: Arc<Life>,
    servers: Servers,
}

/// A client that waits for the answer to its `COMMIT`.
type Waiting = JoinHandle<(Caller, Result<(), Failure>)>;

impl Lane {
    pub(super) fn new(
        name: &str,
        proxies: Vec<Proxy>,
        taps: Vec<Vec<Tap>>,
        places: Vec<Place>,
        life: &Arc<Life>,
    ) -> Self {
        let doors = [0, 1].map(|at: usize| Door::pgherd(proxies[at].port()).to(WHOLE));
        Self {
            name: name.to_owned(),
            others: Transfers::start(life, &doors, 1, &BOOK.others, 1),
            proxies,
            dead: [false; 2],
            taps,
            doors,
            caller: None,
            next: FIRST,
            places,
            life: Arc::clone(life),
            servers: Servers::Unknown,
        }
    }

    /// The same with servers of its own.
    pub(super) fn with(self, servers: Vec<Server>) -> Self {
        let servers = Servers::Own(servers);
        Self { servers, ..self }
    }

    /// The same with servers that others use, too.
    pub(super) fn beside(self, servers: Arc<[Server]>) -> Self {
        let servers = Servers::Shared(servers);
        Self { servers, ..self }
    }

    pub(super) fn has_own_servers(&self) -> bool {
        matches!(self.servers, Servers::Own(_))
    }

    /// One case, tried again if it did not come to pass.
    pub(super) async fn run(&mut self, case: &Case) -> Seen {
        for _ in 1..TRIES {
            let seen = self.try_to_run(case).await;
            if seen.came_to_pass() {
                return seen;
            }
        }
        self.try_to_run(case).await
    }

    async fn try_to_run(&mut self, case: &Case) -> Seen {
        let mut seen = Seen::default();
        match self.begin(case.flow).await {
            Ok((caller, transfer)) => self.cut_off(case, caller, &transfer, &mut seen).await,
            Err(wrong) => seen.faults.push(wrong),
        }
        let name = &self.name;
        self.life
            .history
            .note(name, format_args!("{case}: {seen:?}"));
        seen
    }

    /// A client whose transaction lacks no more than its `COMMIT`.
    async fn begin(&mut self, flow: Flow) -> Result<(Caller, Transfer), Wrong> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.next += 1;
            let transfer = Transfer::new(flow, self.next);
            match self.try_to_begin(&transfer).await {
                Ok(caller) => return Ok((caller, transfer)),
                Err(failure) if Instant::now() > deadline => {
                    let what = format!("no client comes to its COMMIT: {}", failure.code());
                    return Err(Check::Stuck.caught(what));
                }
                Err(_) => sleep(TICK).await,
            }
        }
    }

    async fn try_to_begin(&mut self, transfer: &Transfer) -> Result<Caller, Failure> {
        let caller = match self.caller.take().filter(Caller::is_usable) {
            Some(caller) => caller,
            None => self.doors[0].open(&self.name).await?,
        };
        for step in &transfer.steps {
            caller.ask(caller.client.batch_execute(step)).await?;
        }
        Ok(caller)
    }

    async fn cut_off(&mut self, case: &Case, caller: Caller, transfer: &Transfer, seen: &mut Seen) {
        let first = match case.flow.first() {
            Some((message, when, _)) => self.arm(0, message, when, transfer.id),
            None => self.arm(0, case.message, case.when, transfer.id),
        };
        let waiting: Waiting = tokio::spawn(async move {
            let told = caller.ask(caller.client.batch_execute("commit")).await;
            (caller, told)
        });
        let trap = match self.lose(case, transfer.id, first, seen).await {
            Ok(trap) => Some(trap),
            Err(wrong) => {
                seen.faults.push(wrong);
                None
            }
        };
        for tap in self.taps.iter().flatten() {
            tap.disarm();
        }
        self.heal(case, trap, seen).await;
        let (caller, told) = waiting.await.expect("a client does not break down");
        if let Err(wrong) = self.settle(PATIENCE).await {
            seen.faults.push(wrong);
        }
        let judged = self.judge(case, transfer, &told, seen).await;
        let read = self.read(case, caller, transfer, seen).await;
        seen.faults
            .extend([judged, read].into_iter().filter_map(Result::err));
    }

    /// Which proxy sends the message of a case.
    fn sender(case: &Case) -> usize {
        usize::from(case.flow.is_recovered())
    }

    fn arm(&self, proxy: usize, message: Message, when: When, id: i64) -> Trap {
        let rule = Rule {
            pattern: message.pattern(),
            when,
            whose: match message.is_of_client() {
                true => Whose::Transfer(id),
                false => Whose::Nobody,
            },
        };
        self.taps[proxy][message.shard()].arm(rule)
    }

    /// Loses what the case says where it says it; gives what holds the connection there.
    async fn lose(
        &mut self,
        case: &Case,
        id: i64,
        first: Trap,
        seen: &mut Seen,
    ) -> Result<Trap, Wrong> {
        let sender = Self::sender(case);
        let trap = match case.flow.first() {
            None => first,
            Some((message, _, fault)) => {
                reached(&first, message).await?;
                // The next message may come at once.
                let trap = self.arm(sender, case.message, case.when, id);
                self.strike(fault, 0, message, &first, seen).await?;
                if case.flow == Flow::Clear {
                    self.places[0].numbers(AGE).await?;
                }
                trap
            }
        };
        reached(&trap, case.message).await?;
        seen.prepared = self.prepared().await?;
        self.strike(case.fault, sender, case.message, &trap, seen)
            .await?;
        Ok(trap)
    }

    async fn strike(
        &mut self,
        fault: Fault,
        proxy: usize,
        message: Message,
        trap: &Trap,
        seen: &mut Seen,
    ) -> Result<(), Wrong> {
        let shard = message.shard();
        match fault {
            Fault::Cut => {
                trap.cut();
                seen.lost.push(Lost::Connection);
            }
            Fault::Coordinator => {
                self.crash(proxy, COORDINATORS).await?;
                seen.lost.push(Lost::Coordinator);
            }
            Fault::Recovery => {
                self.crash(proxy, RECOVERY).await?;
                seen.lost.push(Lost::Recovery);
            }
            Fault::Proxy => self.kill(proxy, seen),
            Fault::Proxies => {
                self.kill(0, seen);
                self.kill(1, seen);
            }
            Fault::Freeze => {
                self.proxies[proxy].freeze();
                seen.lost.push(Lost::Time);
            }
            Fault::Server => self.kill_servers(|at| at == shard, seen),
            Fault::Others => {
                self.kill_servers(|at| at != shard, seen);
                trap.pass();
            }
            Fault::Both => {
                self.kill(proxy, seen);
                self.kill_servers(|at| at == shard, seen);
            }
        }
        if fault != Fault::Freeze && !trap.over(PATIENCE).await {
            let what = format!("{message} goes on as if there had been no {fault}");
            return Err(Check::Work.caught(what));
        }
        Ok(())
    }

    /// Has actors of a proxy panic.
    async fn crash(&self, proxy: usize, path: &str) -> Result<(), Wrong> {
        let proxy = &self.proxies[proxy];
        proxy.order_crash(path);
        let deadline = Instant::now() + PATIENCE;
        while !proxy.has_obeyed() {
            if Instant::now() > deadline {
                proxy.withdraw();
                let what = format!("no {path} panics; was pgherd built with pgherd-chaos?");
                return Err(Check::Work.caught(what));
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    fn kill(&mut self, proxy: usize, seen: &mut Seen) {
        block_in_place(|| self.proxies[proxy].kill9());
        self.dead[proxy] = true;
        seen.lost.push(Lost::Proxy);
    }

    fn start_again(&mut self, proxy: usize) {
        if std::mem::take(&mut self.dead[proxy]) {
            let log = block_in_place(|| self.proxies[proxy].start_again(None));
            self.keep(proxy, log);
        }
    }

    /// Keeps what a proxy has logged.
    fn keep(&self, proxy: usize, log: Vec<String>) {
        let name = format!("{}.{proxy}", self.name);
        for line in log {
            self.life.history.note(&name, line);
        }
    }

    fn kill_servers(&mut self, chosen: impl Fn(usize) -> bool, seen: &mut Seen) {
        let Servers::Own(servers) = &mut self.servers else {
            seen.faults
                .push(Check::Work.caught("these servers are not to be killed"));
            return;
        };
        let servers = servers.iter_mut().enumerate();
        for (_, server) in servers.filter(|(at, _)| chosen(*at)) {
            block_in_place(|| server.kill9());
            seen.lost.push(Lost::Server);
        }
    }

    async fn start_servers(&mut self) -> Result<(), Wrong> {
        let Servers::Own(servers) = &mut self.servers else {
            return Ok(());
        };
        let dead = servers.iter_mut().filter(|server| server.pid().is_none());
        let started = join_all(dead.map(Server::restart)).await;
        let failed = started.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| {
            Err(Check::Work.caught(format!("a server does not start: {error}")))
        })
    }

    /// Starts what is dead, in an order in which it is seen who ends what was left; and waits until that is done.
    async fn heal(&mut self, case: &Case, trap: Option<Trap>, seen: &mut Seen) {
        if let Err(wrong) = self.start_servers().await {
            seen.faults.push(wrong);
        }
        match case.fault {
            Fault::Proxies => {
                self.start_again(0);
                self.start_again(1);
            }
            Fault::Freeze if case.flow.is_recovered() => self.start_again(0),
            _ if self.dead == [true; 2] => self.start_again(0),
            _ => {}
        }
        let began = Instant::now();
        let patience = match case.fault {
            // A decision that is stored and not committed is waited for first.
            Fault::Freeze => FROZEN,
            _ => PATIENCE,
        };
        match self.settle(patience).await {
            Err(wrong) if case.fault != Fault::Freeze => seen.faults.push(wrong),
            _ => {}
        }
        seen.settled = began.elapsed();
        if case.fault == Fault::Freeze {
            self.proxies[Self::sender(case)].thaw();
            if let Some(trap) = trap {
                trap.pass();
                // Otherwise it would be cut.
                trap.over(PATIENCE).await;
            }
        }
        self.start_again(0);
        self.start_again(1);
    }

    /// Waits until nothing is prepared.
    async fn settle(&mut self, patience: Duration) -> Result<(), Wrong> {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.prepared().await?;
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("{left} parts are prepared still");
                return Err(Check::Whole.caught(what));
            }
            sleep(TICK).await;
        }
    }

    async fn prepared(&mut self) -> Result<i64, Wrong> {
        self.sum(PREPARED).await
    }

    /// The sum of the numbers that a question gives on all shards.
    async fn sum(&mut self, text: &str) -> Result<i64, Wrong> {
        let mut sum = 0;
        for place in &mut self.places {
            sum += place.numbers(text).await?.iter().sum::<i64>();
        }
        Ok(sum)
    }

    /// Compares what the client was told with what is there.
    async fn judge(
        &mut self,
        case: &Case,
        transfer: &Transfer,
        told: &Result<(), Failure>,
        seen: &mut Seen,
    ) -> Result<(), Wrong> {
        let fate = self.doors[0].fate(told, Stage::Commit);
        let word = told.as_ref().map_or_else(Failure::code, |()| "committed");
        seen.told = word.to_owned();
        let rows = format!("select count(*) from moves where id = {}", transfer.id);
        let rows = self.sum(&rows).await?;
        seen.committed = rows > 0;
        let sides = transfer.sides;
        if rows != 0 && rows != sides {
            let what = format!("{rows} of {sides} rows are there");
            seen.faults.push(Check::Whole.caught(what));
        }
        let struck = seen.faults.iter().all(|wrong| wrong.check != Check::Work);
        let mut caught = |check: Check, what: &str| {
            let what =
                format!("{what}; the client was told {word}, {rows} of {sides} rows are there");
            seen.faults.push(check.caught(what));
        };
        match (fate, rows > 0) {
            (Fate::Acknowledged, false) => caught(Check::Lost, "it is lost"),
            (Fate::Failed, true) => caught(Check::Undead, "it had failed"),
            (Fate::Unknown, _) if !case.loses_client() => {
                caught(Check::Unresolved, "its outcome can be known");
            }
            _ => {}
        }
        // Where it was not struck, nothing is expected of it.
        let expected = case.expected().filter(|_| struck);
        if expected.is_some_and(|expected| expected != (rows > 0)) {
            caught(Check::Rows, "the decider has said otherwise");
        }
        let may_be = match told {
            Ok(()) => true,
            Err(Failure::Said(code)) => match code.code() {
                "40001" | "08007" => true,
                "23503" => case.flow == Flow::Abort,
                _ => false,
            },
            Err(Failure::Cut) => case.loses_client(),
            Err(Failure::Hung | Failure::Left) => false,
        };
        if !may_be {
            caught(Check::Errors, "this is not to be told");
        }
        let uneven = self.sum(&uneven()).await?;
        if uneven != 0 {
            let what = format!("{uneven} accounts do not have what was moved to them");
            seen.faults.push(Check::Balance.caught(what));
        }
        Ok(())
    }

    /// Both proxies go on, and show what is there; so does the session, if its proxy was not killed.
    async fn read(
        &mut self,
        case: &Case,
        caller: Caller,
        transfer: &Transfer,
        seen: &mut Seen,
    ) -> Result<(), Wrong> {
        if caller.is_usable() {
            self.caller = Some(caller);
        } else if !case.loses_client() {
            seen.faults
                .push(Check::GoesOn.caught("the session is over"));
        }
        let text = format!("select count(*) from moves where id = {}", transfer.id);
        let expected = if seen.committed { transfer.sides } else { 0 };
        let mut other = None;
        for proxy in [0, 1] {
            let mut present = match proxy {
                0 => self.caller.take(),
                _ => other.take(),
            };
            let deadline = Instant::now() + PATIENCE;
            let count = loop {
                match ask(&self.doors[proxy], &mut present, &text).await {
                    Ok(count) => break count,
                    Err(failure) if Instant::now() > deadline => {
                        let what = format!("proxy {proxy} does not answer: {}", failure.code());
                        return Err(Check::Stuck.caught(what));
                    }
                    Err(_) => sleep(TICK).await,
                }
            };
            if count != Some(expected) {
                let what = format!("proxy {proxy} shows {count:?} rows of {expected}");
                seen.faults.push(Check::Answer.caught(what));
            }
            if proxy == 0 {
                self.caller = present;
            }
        }
        Ok(())
    }

    /// What the others were told is compared with what is there, once their life has ended.
    pub(super) async fn finish(mut self, report: &mut Report) {
        let ledger = std::mem::replace(&mut self.others, Transfers::none())
            .finish()
            .await;
        if let Err(wrong) = self.settle(PATIENCE).await {
            report.faults.push(wrong);
        }
        let mut sides = Vec::new();
        let mut money = 0;
        for place in &mut self.places {
            let moved = format!("select id from moves where id < {FIRST}");
            match place.numbers(&moved).await {
                Ok(numbers) => sides.extend(numbers),
                Err(wrong) => report.faults.push(wrong),
            }
            match place.numbers("select sum(balance) from accounts").await {
                Ok(numbers) => money += numbers.iter().sum::<i64>(),
                Err(wrong) => report.faults.push(wrong),
            }
        }
        let (there, half) = whole(&sides);
        report.faults.extend(half);
        report.others(&self.name, &ledger.balance(&there));
        let accounts = (0..self.places.len()).map(|shard| BOOK.accounts(shard).count());
        let expected = BALANCE * accounts.sum::<usize>() as i64;
        if money != expected {
            let what = format!(
                "{}: there are {money} where there were {expected}",
                self.name
            );
            report.faults.push(Check::Balance.caught(what));
        }
        for (at, proxy) in self.proxies.iter().enumerate() {
            self.keep(at, proxy.log());
        }
    }
}

async fn reached(trap: &Trap, message: Message) -> Result<(), Wrong> {
    match trap.hit(PATIENCE).await {
        true => Ok(()),
        false => Err(Check::Work.caught(format!("{message} never came"))),
    }
}

/// Counts the accounts that do not have what was moved to them.
fn uneven() -> String {
    format!(
        "select count(*) from accounts where balance <> {BALANCE} \
         + (select coalesce(sum(amount), 0) from moves where account = accounts.id)"
    )
}

/// The number that a question gives, asked by the client that is there, or by a new one.
async fn ask(
    door: &Door,
    present: &mut Option<Caller>,
    text: &str,
) -> Result<Option<i64>, Failure> {
    let caller = match present.take().filter(Caller::is_usable) {
        Some(caller) => caller,
        None => door.open("reader").await?,
    };
    let caller = present.insert(caller);
    let answer = caller.ask(caller.client.simple_query(text)).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}
