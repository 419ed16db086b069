use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_sandbox::{Error, Replication};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{sleep, timeout};

use super::Plan;
use super::fault::Fault;
use super::readers::{self, Readers};
use super::stage::{ACCOUNTS, BALANCE, SHARDS, Stage, account, accounts};
use crate::checks::errors::Errors;
use crate::checks::whole::whole;
use crate::checks::{Check, Wrong};
use crate::crowd::{self, DIRECT, calm};
use crate::door::Door;
use crate::failover;
use crate::proxy::WANTED;
use crate::report::{Pace, Pause, Report, Row, Title};
use crate::schedule::in_turn;
use crate::workloads::acked::Acked;
use crate::workloads::life::Life;
use crate::workloads::lists::numbers;
use crate::workloads::transfers::{self, Transfers};

/// How many clients move money through each proxy.
const TELLERS: usize = 5;

/// How many insert on each shard through each proxy, and how many directly.
const INSERTERS: usize = 2;

/// Those who insert on one shard, by its number.
const KINDS: [&str; 2] = ["shard 0", "shard 1"];

/// How long anything may take to go on before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// For how long coordinators panic, once one has.
const CRASHING: Duration = Duration::from_secs(1);

/// How often it is looked at whether one has.
const TICK: Duration = Duration::from_millis(50);

/// Which actors are coordinators.
const COORDINATORS: &str = "root/transactions/coordinators/*";

/// What clients may be told, beside what [`Errors`] allows: a proxy was killed under them, or they have waited too long for a
/// row that a lost transaction has locked.
const ALLOWED: [&str; 2] = ["cut", "40P01"];

/// Runs a plan to its end.
///
/// # Errors
/// If the servers do not do as they are told. What clients saw is no error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics unasked, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let stage = Stage::start(&plan.pgherd.to_string_lossy()).await?;
    let life = crowd::life(&plan.history)?;
    let crowd = Crowd::start(&life, &stage, plan.seed);
    let report = Report::new(Title {
        way: "two proxies before two shards",
        replication: Replication::Synchronous,
        seed: plan.seed,
    });
    let mut run = Run {
        stage,
        crowd,
        life,
        report,
        rng: StdRng::seed_from_u64(plan.seed),
        crashed: 0,
        killed: 0,
        prepared: 0,
    };
    run.served().await;
    let began = Instant::now();
    for fault in in_turn(&plan.faults, plan.rounds, &mut run.rng) {
        calm(&mut run.rng).await;
        run.note(format_args!("{fault}"));
        if !run.round(fault).await? {
            break;
        }
    }
    calm(&mut run.rng).await;
    run.life.end();
    run.report.took = began.elapsed();
    run.finish().await
}

/// Under which key those insert who come to a shard through a proxy, each of whom number for themselves.
fn key(shard: u16, proxy: usize) -> i64 {
    account(shard, proxy as i64)
}

/// Clients of all kinds.
struct Crowd {
    transfers: Transfers,
    readers: Readers,
    /// Those who insert on a shard, through either proxy.
    through: [[Acked; 2]; 2],
    /// Those who do so directly.
    compared: [Acked; 2],
}

impl Crowd {
    fn start(life: &Arc<Life>, stage: &Stage, seed: u64) -> Self {
        let doors = stage.doors();
        let through = [0, 1].map(|shard: u16| {
            [0, 1].map(|proxy: usize| {
                let insert = format!("insert into herd values ({}, ", key(shard, proxy));
                let kind = KINDS[usize::from(shard)];
                Acked::start_with(life, &doors[proxy], &insert, kind, INSERTERS)
            })
        });
        let compared = [0, 1].map(|shard| {
            let door: Door = stage.direct(shard);
            Acked::start(life, &door, "herd_direct", DIRECT, INSERTERS)
        });
        Self {
            transfers: Transfers::start(life, &doors, TELLERS, accounts(), seed),
            readers: Readers::start(life, &doors, seed.wrapping_add(100)),
            through,
            compared,
        }
    }
}

struct Run {
    stage: Stage,
    crowd: Crowd,
    life: Arc<Life>,
    report: Report,
    rng: StdRng,
    /// How many coordinators have panicked.
    crashed: usize,
    /// How many proxies were killed.
    killed: usize,
    /// How many parts were prepared when something had just been lost.
    prepared: i64,
}

impl Run {
    /// One fault, and what comes of it; false if clients did not go on.
    async fn round(&mut self, fault: Fault) -> Result<bool, Error> {
        let (shard, proxy) = (self.rng.random_range(0..2), self.rng.random_range(0..2));
        match fault {
            Fault::Primary(how) => self.fail_over(fault, how, shard, None).await,
            Fault::Both => {
                self.kill(proxy);
                self.fail_over(fault, failover::Fault::Kill, shard, Some(proxy))
                    .await
            }
            Fault::Proxy => {
                self.kill(proxy);
                self.prepared += self.stage.prepared().await?;
                self.stage.proxies[proxy].start_again(None);
                self.resumes(fault, proxy).await
            }
            Fault::Coordinators => {
                self.kill(proxy);
                self.stage.proxies[proxy].start_again(Some(COORDINATORS));
                self.crash(proxy).await;
                self.kill(proxy);
                self.prepared += self.stage.prepared().await?;
                self.stage.proxies[proxy].start_again(None);
                self.resumes(fault, proxy).await
            }
        }
    }

    /// Waits until coordinators of a proxy panic, and for a while more.
    async fn crash(&mut self, proxy: usize) {
        let proxy = &self.stage.proxies[proxy];
        let crashed = || {
            let log = proxy.log();
            log.iter().filter(|line| line.contains(WANTED)).count()
        };
        let deadline = Instant::now() + PATIENCE;
        while crashed() == 0 && Instant::now() < deadline {
            sleep(TICK).await;
        }
        sleep(CRASHING).await;
        let crashed = crashed();
        self.crashed += crashed;
        if crashed == 0 {
            let what = "no coordinator has panicked; was the executable built with pgherd-chaos?";
            self.report.faults.push(Check::Work.caught(what));
        }
    }

    fn kill(&mut self, proxy: usize) {
        self.stage.proxies[proxy].kill9();
        self.killed += 1;
        self.note(format_args!("proxy {proxy} is killed"));
    }

    /// Takes the primary of a shard away; a proxy that is dead is started again when there is another one.
    async fn fail_over(
        &mut self,
        fault: Fault,
        how: failover::Fault,
        shard: usize,
        dead: Option<usize>,
    ) -> Result<bool, Error> {
        let done = self.stage.fail_over(shard, how).await?;
        self.note(format_args!("another one is the primary of shard {shard}"));
        self.prepared += self.stage.prepared().await?;
        let moment = done.writable;
        let living = [0, 1].into_iter().filter(|proxy| Some(*proxy) != dead);
        let living: Vec<&Acked> = living
            .map(|proxy| &self.crowd.through[shard][proxy])
            .collect();
        let first = async {
            let mut latest = moment;
            for acked in living {
                latest = latest.max(acked.acknowledged().first(moment).await);
            }
            latest
        };
        let directly = self.crowd.compared[shard].acknowledged().first(moment);
        let both = async { tokio::join!(first, directly) };
        let Ok((first, directly)) = timeout(PATIENCE, both).await else {
            return Ok(self.stuck(&fault));
        };
        let pause = Pause {
            promotion: Some(done.took),
            through: first - moment,
            directly: directly - moment,
        };
        self.report.resumed(&fault, pause);
        if let Some(proxy) = dead {
            self.stage.proxies[proxy].start_again(None);
        }
        if how.leaves_stale() {
            let fences = [0, 1].map(|proxy| self.crowd.through[shard][proxy].next());
            self.stage.shards[shard].bring_back(how, done.old).await?;
            sleep(Duration::from_millis(self.rng.random_range(300..1000))).await;
            self.stale(&fault, shard, done.old, fences).await?;
        }
        self.stage.shards[shard].rejoin(done.old).await?;
        self.note(format_args!("the old one of shard {shard} follows"));
        Ok(self.everybody(&fault, moment).await)
    }

    /// Looks for what an old primary was given behind the first write to the new one.
    async fn stale(
        &mut self,
        fault: &Fault,
        shard: usize,
        old: usize,
        fences: [i64; 2],
    ) -> Result<(), Error> {
        let mut found = Vec::new();
        for (proxy, fence) in fences.into_iter().enumerate() {
            let key = key(shard as u16, proxy);
            let text = format!("select id from herd where account = {key} and id >= {fence}");
            let cluster = self.stage.shards[shard].cluster();
            let rows = cluster.node(old).sql_in(SHARDS[shard], &text).await?;
            found.extend(rows.lines().map(str::to_owned));
        }
        self.report.stale(fault, &found);
        Ok(())
    }

    /// Waits until clients of a proxy go on that was started again.
    async fn resumes(&mut self, fault: Fault, proxy: usize) -> Result<bool, Error> {
        let moment = Instant::now();
        let [one, two] = [0, 1].map(|shard| &self.crowd.through[shard][proxy]);
        let firsts = async {
            tokio::join!(
                one.acknowledged().first(moment),
                two.acknowledged().first(moment),
            )
        };
        let Ok((one, two)) = timeout(PATIENCE, firsts).await else {
            return Ok(self.stuck(&fault));
        };
        let pause = Pause {
            promotion: None,
            through: one.max(two) - moment,
            directly: Duration::ZERO,
        };
        self.report.resumed(&fault, pause);
        Ok(self.everybody(&fault, moment).await)
    }

    /// Waits until everybody who moves money from shard to shard has done so again.
    async fn everybody(&mut self, fault: &Fault, moment: Instant) -> bool {
        let acknowledged = self.crowd.transfers.acknowledged();
        let all = acknowledged.everybody(moment, 2 * TELLERS);
        let Ok(all) = timeout(PATIENCE, all).await else {
            return self.stuck(fault);
        };
        for time in all {
            self.report.each(time - moment);
        }
        self.note(format_args!("all clients go on"));
        true
    }

    /// Waits until everybody has been served once.
    async fn served(&mut self) {
        let moment = Instant::now();
        let everybody = self
            .crowd
            .transfers
            .acknowledged()
            .everybody(moment, 2 * TELLERS);
        if timeout(PATIENCE, everybody).await.is_err() {
            let what = format!("not everybody was served within {PATIENCE:?}");
            self.report.faults.push(Check::Stuck.caught(what));
        }
    }

    fn stuck(&mut self, fault: &Fault) -> bool {
        let what = format!("after {fault} some did not go on for {PATIENCE:?}");
        self.report.faults.push(Check::Stuck.caught(what));
        false
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.life.history.note("stage", what);
    }

    /// Compares what all were told with what is there.
    async fn finish(self) -> Result<Report, Error> {
        let Self {
            stage,
            crowd,
            life,
            mut report,
            crashed,
            killed,
            prepared,
            ..
        } = self;
        let moves = crowd.transfers.finish().await;
        let (right, wrong) = crowd.readers.finish().await;
        report.answers = right;
        report.faults.extend(wrong);
        let left = stage.settled().await?;
        if left > 0 {
            let what = format!("{left} parts are prepared still");
            report.faults.push(Check::Whole.caught(what));
        }
        report.operations = life.operations();
        report.remark = format!(
            ", {killed} proxies killed, {crashed} coordinators crashed, {prepared} parts prepared at such a moment"
        );
        for (shard, both) in crowd.through.into_iter().enumerate() {
            for (proxy, acked) in both.into_iter().enumerate() {
                let key = key(shard as u16, proxy);
                let text = format!("select id from herd where account = {key}");
                let account = acked.finish().await.balance(&stage.numbers(&text).await?);
                report.account(
                    Row {
                        name: KINDS[shard],
                        account,
                    },
                    |_| None,
                );
            }
        }
        for (shard, acked) in crowd.compared.into_iter().enumerate() {
            let there = numbers(&stage.ask(shard, "select id from herd_direct").await?);
            let account = acked.finish().await.balance(&there);
            report.account(
                Row {
                    name: DIRECT,
                    account,
                },
                |_| None,
            );
        }
        let (there, half) = whole(&stage.numbers("select id from moves").await?);
        report.faults.extend(half);
        report.account(
            Row {
                name: transfers::KIND,
                account: moves.balance(&there),
            },
            |_| None,
        );
        report.faults.extend(money(&stage).await?);
        report.told(&life.errors, None, &[]);
        report.faults.extend(forbidden(&life.errors));
        // What is promised of pauses is promised of one proxy; these are the later ones of two.
        report.paced(Pace::Loose);
        report.close(&life.history, || {
            stage
                .proxies
                .iter()
                .flat_map(crate::proxy::Proxy::log)
                .collect()
        })?;
        Ok(report)
    }
}

/// What is wrong with the money.
async fn money(stage: &Stage) -> Result<Vec<Wrong>, Error> {
    let mut wrong = Vec::new();
    let all: i64 = stage
        .numbers("select sum(balance) from accounts")
        .await?
        .iter()
        .sum();
    let expected = 2 * ACCOUNTS * BALANCE;
    if all != expected {
        wrong.push(Check::Balance.caught(format!("there are {all} where there were {expected}")));
    }
    let text = format!(
        "select count(*) from accounts where balance <> {BALANCE} \
         + (select coalesce(sum(amount), 0) from moves where account = accounts.id)"
    );
    let uneven: i64 = stage.numbers(&text).await?.iter().sum();
    if uneven != 0 {
        let what = format!("{uneven} accounts do not have what was moved to them");
        wrong.push(Check::Balance.caught(what));
    }
    Ok(wrong)
}

/// Errors that nobody may be told.
fn forbidden(errors: &Errors) -> Vec<Wrong> {
    let kinds = [KINDS[0], KINDS[1], transfers::KIND, readers::KIND];
    errors.forbidden_but(&kinds, &ALLOWED)
}
