use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Error};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::fault::{Fault, Heir};
use super::needs::Venv;
use super::network::Network;
use super::place;
use super::stage::Middle;
use super::watch::Watch;
use super::{Plan, Way};
use crate::checks::Check;
use crate::checks::errors::Resolution;
use crate::crowd::{self, COMPARED, Crowd, INSERTERS, Witness as _, calm};
use crate::door::Door;
use crate::report::{Pause, Report, Title};
use crate::schedule::in_turn;
use crate::workloads::life::Life;

/// How long it may take until another primary is there: the lease, and some time for the election.
const ELECTION: Duration = Duration::from_secs(90);

/// How long writes may take to go on behind that before the run is given up.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long it may take until a fault is felt.
const FELT: Duration = Duration::from_secs(1);

/// Runs a plan to its end, within networks that were entered.
///
/// # Errors
/// If the nodes, or what stands before them, do not do as they are told. What clients saw is no
/// error, but in the report. The logs of the nodes are kept in both cases.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan, network: &Network, venv: &Venv) -> Result<Report, Error> {
    let binaries = Binaries::find()?;
    let mut cluster = Cluster::start(network, &binaries, venv.patroni(), plan.replication).await?;
    let done = break_it(plan, &binaries, &mut cluster).await;
    if done
        .as_ref()
        .map_or(true, |report| !report.faults.is_empty())
    {
        for (name, log) in cluster.logs() {
            // Without the log there is still what it is wanted for.
            let _ = fs::copy(log, plan.history.with_extension(format!("{name}.log")));
        }
    }
    done
}

async fn break_it(
    plan: &Plan,
    binaries: &Binaries,
    cluster: &mut Cluster,
) -> Result<Report, Error> {
    cluster.sql(&crowd::tables()).await?;
    let leader = cluster.settle().await?;
    let (primary, whereabouts) = watch::channel(place::address(leader));
    let middle = Middle::start(plan, binaries).await?;
    let door = middle.door();
    let life = crowd::life(&plan.history)?;
    let crowd = Crowd::start(&life, &door, &Door::direct(whereabouts), plan.seed).await;
    let mut report = Report::new(Title {
        way: match plan.way {
            Way::Pgherd(_) => "pgherd",
            Way::Control => "PgBouncer and HAProxy",
        },
        replication: plan.replication,
        seed: plan.seed,
    });
    let watch = Watch::start();
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for fault in in_turn(&plan.faults, plan.rounds, &mut rng) {
        let old = cluster.settle().await?;
        calm(&mut rng).await;
        eprintln!(
            "{:5.0} s {fault} of n{}",
            began.elapsed().as_secs_f64(),
            old + 1
        );
        let turn = Turn {
            plan,
            fault,
            old,
            crowd: &crowd,
            life: &life,
            watch: &watch,
            primary: &primary,
        };
        let goes_on = match fault.heir() {
            Heir::Another => turn.fail_over(cluster, &mut rng, &mut report).await?,
            Heir::Same => turn.wall_off(cluster, &mut rng, &mut report).await?,
            Heir::Any => turn.depose(cluster, &mut rng, &mut report).await?,
        };
        if !goes_on {
            break;
        }
    }
    // Who could not go on may find the cluster again, so that all can be counted.
    cluster.settle().await?;
    calm(&mut rng).await;
    life.end();
    report.took = began.elapsed();
    report.operations = life.operations();
    crowd.finish(cluster, &door, &mut report).await?;
    let right = matches!(plan.way, Way::Pgherd(_)).then_some(match plan.resolve {
        true => Resolution::On,
        false => Resolution::Off,
    });
    report.told(&life.errors, right, &[]);
    if right.is_some() {
        report.paced(plan.pace);
    }
    report.faults.extend(middle.left().await);
    report.close(&life.history, || middle.log())?;
    Ok(report)
}

/// One fault.
struct Turn<'a> {
    plan: &'a Plan,
    fault: Fault,
    old: usize,
    crowd: &'a Crowd,
    life: &'a Life,
    watch: &'a Watch,
    /// Told to those who go directly.
    primary: &'a watch::Sender<SocketAddr>,
}

impl Turn<'_> {
    /// Breaks the primary, and waits for another and for all clients to write there; false if they
    /// do not.
    async fn fail_over(
        &self,
        cluster: &mut Cluster,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<bool, Error> {
        let began = Instant::now();
        self.note(format_args!("{} of n{}", self.fault, self.old + 1));
        let another = async {
            let (new, writable) = self.watch.another(self.old, ELECTION).await?;
            // Patroni may still be about to answer, and nobody has to wait for that.
            self.primary.send_replace(place::address(new));
            Ok((new, writable))
        };
        let inflicted = inflict(self.fault, self.old, cluster, self.plan);
        let ((), (new, writable)) = tokio::try_join!(inflicted, another)?;
        self.note(format_args!("n{} takes writes", new + 1));
        report.losing(began, writable);
        let Some((through, directly)) = self.resumed(writable, report).await else {
            return Ok(false);
        };
        let pause = Pause {
            promotion: Some(writable - began),
            through: through - writable,
            directly: directly - writable,
        };
        report.resumed(&self.fault, pause);
        self.note("clients write again");
        if self.fault.leaves_stale() {
            self.tempt(cluster, rng, report).await?;
        }
        self.mend(cluster).await?;
        self.everybody(writable, report).await
    }

    /// Cuts off clients from the primary for a while, which goes on; false if they do not write
    /// behind that.
    async fn wall_off(
        &self,
        cluster: &mut Cluster,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<bool, Error> {
        self.note(format_args!("{} of n{}", self.fault, self.old + 1));
        inflict(self.fault, self.old, cluster, self.plan).await?;
        let felt = Instant::now() + FELT;
        sleep(Duration::from_millis(rng.random_range(4_000..12_000))).await;
        let leader = cluster.leader().await;
        self.mend(cluster).await?;
        let healed = Instant::now();
        if leader != Some(self.old) {
            return Err(Error::Tool {
                tool: "the fault".to_owned(),
                message: "the primary does not lead any more, and only clients were cut off"
                    .to_owned(),
            });
        }
        let Some((through, directly)) = self.resumed(felt, report).await else {
            return Ok(false);
        };
        if through.min(directly) < healed {
            let what = "somebody has written to a primary that could not be reached";
            report.faults.push(Check::Work.caught(what));
        }
        let pause = Pause {
            promotion: None,
            through: through.saturating_duration_since(healed),
            directly: directly.saturating_duration_since(healed),
        };
        report.resumed(&self.fault, pause);
        self.note("clients write again");
        self.everybody(healed, report).await
    }

    /// Waits until the primary has given up, lets nobody lead for a while, and waits for whoever leads
    /// behind that, and for all clients to write there; false if they do not.
    async fn depose(
        &self,
        cluster: &mut Cluster,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<bool, Error> {
        let began = Instant::now();
        self.note(format_args!("{} of n{}", self.fault, self.old + 1));
        inflict(self.fault, self.old, cluster, self.plan).await?;
        self.watch.nobody(ELECTION).await?;
        self.note("nobody takes writes");
        sleep(Duration::from_millis(rng.random_range(500..2_500))).await;
        self.mend(cluster).await?;
        let (new, writable) = self.watch.anybody(ELECTION).await?;
        self.primary.send_replace(place::address(new));
        self.note(format_args!("n{} takes writes", new + 1));
        report.losing(began, writable);
        let Some((through, directly)) = self.resumed(writable, report).await else {
            return Ok(false);
        };
        let pause = Pause {
            promotion: Some(writable - began),
            through: through - writable,
            directly: directly - writable,
        };
        report.resumed(&self.fault, pause);
        self.note("clients write again");
        self.everybody(writable, report).await
    }

    /// Waits for the first write since a moment through what is tested, and for the first one that
    /// was made directly.
    async fn resumed(&self, moment: Instant, report: &mut Report) -> Option<(Instant, Instant)> {
        let firsts = async {
            tokio::join!(
                self.crowd.through.acknowledged().first(moment),
                self.crowd.compared.acknowledged().first(moment),
            )
        };
        let firsts = timeout(PATIENCE, firsts).await.ok();
        if firsts.is_none() {
            let what = format!("after {} nobody could write for {PATIENCE:?}", self.fault);
            report.faults.push(Check::Stuck.caught(what));
        }
        firsts
    }

    /// Waits for each client's first write since a moment; false if one cannot.
    async fn everybody(&self, moment: Instant, report: &mut Report) -> Result<bool, Error> {
        let all = async {
            tokio::join!(
                self.crowd
                    .through
                    .acknowledged()
                    .everybody(moment, INSERTERS),
                self.crowd
                    .compared
                    .acknowledged()
                    .everybody(moment, COMPARED),
            )
        };
        let Ok((all, directly)) = timeout(PATIENCE, all).await else {
            let what = format!("after {} some could not write for {PATIENCE:?}", self.fault);
            report.faults.push(Check::Stuck.caught(what));
            return Ok(false);
        };
        for each in all {
            report.each(each - moment);
        }
        for each in directly {
            report.each_directly(each - moment);
        }
        Ok(true)
    }

    /// Lets the old primary take writes for a while, and looks whether it was given any.
    async fn tempt(
        &self,
        cluster: &mut Cluster,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<(), Error> {
        let fence = self.crowd.through.next();
        let node = cluster.node_mut(self.old);
        match self.fault {
            Fault::Stale => node.revive().await?,
            _ => node.wait_for_nobody().await?,
        }
        self.note("the old one takes writes");
        sleep(Duration::from_millis(rng.random_range(1_000..3_000))).await;
        let text = format!("select id from herd where id >= {fence} order by id");
        let rows = cluster.node(self.old).sql(&text).await?;
        let rows: Vec<String> = rows.lines().map(str::to_owned).collect();
        report.stale(&self.fault, &rows);
        Ok(())
    }

    /// Undoes the fault; Patroni does the rest.
    async fn mend(&self, cluster: &mut Cluster) -> Result<(), Error> {
        if self.fault == Fault::Etcd {
            cluster.restore_store().await?;
        }
        let node = cluster.node_mut(self.old);
        match self.fault {
            Fault::Switchover | Fault::Postgres | Fault::Etcd => {}
            Fault::Patroni => {
                node.wait_again().await?;
                node.start()?;
            }
            Fault::PatroniFreeze => {
                node.wait_again().await?;
                node.thaw();
            }
            Fault::Node => node.start()?,
            Fault::Freeze => node.thaw(),
            Fault::Partition
            | Fault::PartitionIn
            | Fault::PartitionOut
            | Fault::ProxyOnly
            | Fault::DcsOnly
            | Fault::Split => node.heal().await?,
            Fault::Stale => {
                node.kill9().await?;
                node.heal().await?;
                node.start()?;
            }
        }
        self.note("the fault is mended");
        Ok(())
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.life.history.note("patroni", what);
    }
}

/// Breaks the primary, and takes the lease from it where nobody wants to wait.
async fn inflict(
    fault: Fault,
    old: usize,
    cluster: &mut Cluster,
    plan: &Plan,
) -> Result<(), Error> {
    match fault {
        Fault::Switchover => return cluster.switch_over(old).await,
        Fault::Postgres => cluster.node(old).kill_postmaster()?,
        Fault::Patroni => cluster.node_mut(old).kill_patroni(),
        Fault::PatroniFreeze => cluster.node(old).freeze_patroni()?,
        Fault::Etcd => cluster.lose_store(),
        Fault::Node | Fault::Stale => cluster.node_mut(old).kill9().await?,
        Fault::Freeze => cluster.node(old).freeze(),
        Fault::Partition
        | Fault::PartitionIn
        | Fault::PartitionOut
        | Fault::ProxyOnly
        | Fault::DcsOnly
        | Fault::Split => {}
    }
    if let Some(cut) = fault.cut() {
        cluster.node(old).cut(cut).await?;
    }
    if fault.ends_lease(plan.patient) {
        cluster.end_lease().await?;
    }
    Ok(())
}
