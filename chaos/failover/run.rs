use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Cluster, Error, Rejoined, Replication, Server};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::promoter::Promoter;
use super::stage::Middle;
use super::{Plan, Way};
use crate::checks::Check;
use crate::checks::errors::Resolution;
use crate::crowd::{self, COMPARED, COUNTERS, Crowd, INSERTERS, Witness, calm};
use crate::door::Door;
use crate::report::{Pause, Report, Title};
use crate::schedule::in_turn;
use crate::workloads::life::Life;

/// A primary and two replicas: after each failover one is left to acknowledge what is written.
const NODES: usize = 3;

/// How many bytes the disk of a node has where one is filled: much more than it needs before.
const DISK: u64 = 768 << 20;

/// What a server says to whoever needs more than a disk has.
const DISK_FULL: &str = "53100";

/// How far replicas are behind with what they show, if clients read there.
const BEHIND: &str = "30ms";

/// How long after all processes of a server were killed nobody believes that it is there.
const GONE: Duration = Duration::from_millis(100);

/// How long after the next server has taken writes first nobody is sent to the one before, which may not show that it is lost.
const SETTLED: Duration = Duration::from_secs(1);

/// How long writes may take to go on behind a new primary before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a plan to its end.
///
/// # Errors
/// If the servers, or what stands before them, do not do as they are told. What clients saw is no
/// error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let binaries = Binaries::find()?;
    let mut primary = Server::builder(&binaries);
    if plan.reads {
        // Else what was written is there before anybody can look for it.
        primary = primary.settings(&[("recovery_min_apply_delay", BEHIND)]);
    }
    let fills = plan.faults.iter().any(|fault| fault.fills());
    if fills {
        // Files of its log that it uses again would need no room, and it might not come to its end.
        primary = primary.disk(DISK).settings(&[("wal_recycle", "off")]);
    }
    let cluster = Cluster::start_as(primary, NODES, plan.replication).await?;
    let mut promoter = Promoter::new(cluster);
    promoter.sql(&crowd::tables()).await?;
    let middle = Middle::start(plan, promoter.cluster()).await?;
    let door = middle.door(&promoter.whereabouts());
    let life = crowd::life(&plan.history)?;
    let direct = Door::direct(promoter.whereabouts());
    let crowd = Crowd::start(&life, &door, &direct, plan.seed).await;
    let mut report = Report::new(Title {
        way: match plan.way {
            Way::Pgherd(_) => "pgherd",
            Way::Pgbouncer => "PgBouncer",
            Way::Haproxy => "PgBouncer and HAProxy",
            Way::Direct => "direct",
        },
        replication: plan.replication,
        seed: plan.seed,
    });
    let mut copied = 0;
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for fault in in_turn(&plan.faults, plan.failovers, &mut rng) {
        calm(&mut rng).await;
        life.history.note("promoter", format_args!("{fault}"));
        let turn = Turn {
            plan,
            fault,
            crowd: &crowd,
            life: &life,
            middle: &middle,
        };
        match turn.fail_over(&mut promoter, &mut rng, &mut report).await? {
            Sequel::Follows(Rejoined::Copied) => copied += 1,
            Sequel::Follows(Rejoined::Rewound) | Sequel::Leads => {}
            Sequel::Stuck => break,
        }
    }
    calm(&mut rng).await;
    life.end();
    report.took = began.elapsed();
    report.remark = format!(", {copied} former primaries copied anew, the others rewound");
    report.operations = life.operations();
    crowd.finish(&promoter, &door, &mut report).await?;
    if plan.reads {
        let by_replicas = report.elsewhere;
        report.remark += &format!(", {by_replicas} late looks at own writes answered elsewhere");
        // A failover between a write and its look leads elsewhere, too.
        if by_replicas <= COUNTERS * report.failovers() {
            let what = "hardly anybody has found its own writes on a replica".to_owned();
            report.faults.push(Check::Work.caught(what));
        }
    }
    let right = matches!(plan.way, Way::Pgherd(_)).then_some(match plan.resolve {
        true => Resolution::On,
        false => Resolution::Off,
    });
    let by_servers: &[&str] = if fills { &[DISK_FULL] } else { &[] };
    report.told(&life.errors, right, by_servers);
    if let Some(unsaid) = by_servers.iter().find(|code| !report.has_told(code)) {
        let what = format!("no client was told {unsaid}");
        report.faults.push(Check::Work.caught(what));
    }
    if right.is_some() {
        report.paced(plan.pace);
        report.faults.extend(life.unbegun.wrong(crowd::THROUGH));
    }
    report.faults.extend(middle.left().await);
    report.close(&life.history, || middle.log())?;
    Ok(report)
}

/// What became of the old primary.
enum Sequel {
    /// It follows the new one.
    Follows(Rejoined),
    /// It leads again, as nobody had taken its place.
    Leads,
    /// Clients did not go on.
    Stuck,
}

/// One failover.
struct Turn<'a> {
    plan: &'a Plan,
    fault: Fault,
    crowd: &'a Crowd,
    life: &'a Life,
    middle: &'a Middle,
}

impl Turn<'_> {
    /// Takes the primary away and gives another, or the same again, and says what became of the old
    /// one.
    async fn fail_over(
        &self,
        promoter: &mut Promoter,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<Sequel, Error> {
        let began = Instant::now();
        let returns = self.fault == Fault::Room;
        if self.plan.replication == Replication::Asynchronous && !returns {
            let behind = Duration::from_millis(rng.random_range(0..100));
            promoter.fall_behind(behind).await?;
        }
        self.life.unbegun.ends();
        let done = promoter.fail_over(self.fault, self.middle).await?;
        self.life.unbegun.begins(match self.fault {
            // The kernel has told everybody by then.
            Fault::Kill | Fault::Revive => done.gone + GONE,
            Fault::Stop | Fault::Freeze | Fault::Full | Fault::Room => done.writable + SETTLED,
        });
        self.note(match returns {
            true => "it takes writes again",
            false => "another one takes writes",
        });
        if !returns {
            report.losing(began, done.gone);
        }
        let (through, compared) = (&self.crowd.through, &self.crowd.compared);
        let firsts = async {
            tokio::join!(
                through.acknowledged().first(done.writable),
                compared.acknowledged().first(done.writable),
            )
        };
        let Ok((first, directly)) = timeout(PATIENCE, firsts).await else {
            let what = format!("after {} nobody could write for {PATIENCE:?}", self.fault);
            report.faults.push(Check::Stuck.caught(what));
            return Ok(Sequel::Stuck);
        };
        let pause = Pause {
            promotion: (!returns).then_some(done.took),
            through: first - done.writable,
            directly: directly - done.writable,
        };
        report.resumed(&self.fault, pause);
        self.note("clients write again");
        if self.fault.leaves_stale() {
            let fence = through.next();
            promoter.bring_back(self.fault, done.old).await?;
            self.note("the old one takes writes");
            sleep(Duration::from_millis(rng.random_range(300..1500))).await;
            let stale = promoter.stale(done.old, "herd", fence).await?;
            report.stale(&self.fault, &stale);
        }
        let sequel = if returns {
            Sequel::Leads
        } else {
            let how = promoter.rejoin(done.old).await?;
            self.note("the old one follows");
            Sequel::Follows(how)
        };
        let all = async {
            tokio::join!(
                through.acknowledged().everybody(done.writable, INSERTERS),
                compared.acknowledged().everybody(done.writable, COMPARED),
            )
        };
        let Ok((all, directly)) = timeout(PATIENCE, all).await else {
            let what = format!("after {} some could not write for {PATIENCE:?}", self.fault);
            report.faults.push(Check::Stuck.caught(what));
            return Ok(Sequel::Stuck);
        };
        for moment in all {
            report.each(moment - done.writable);
        }
        for moment in directly {
            report.each_directly(moment - done.writable);
        }
        Ok(sequel)
    }

    fn note(&self, what: &str) {
        self.life.history.note("promoter", what);
    }
}
