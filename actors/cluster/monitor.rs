//! Looks at one host, again and again.
//!
//! Owns: a connection of its own, outside all pools and limits, and one more while a look is late: a host that answers more
//! slowly than it is looked at is slow, not gone. That it is late is told at once, and what it says is told when it comes.
//! Hears: that its task has ended. When to look is known by the [`Cluster`].
//! Tells: the cluster what it saw, by a call; no message.
//! If it dies: what was seen stays, and grows old; the next one connects anew.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_cluster::outcome::Server;
use pgherd_cluster::{Fault, HostName, Standing, Storage};
use pgherd_config::{CommitResolution, Host};
use pgherd_planted::{self as planted, Bug};
use pgherd_supervise::{End, Work};
use pgherd_wire::error::ErrorReport;

use crate::clock;
use crate::cluster::aurora::Sight;
use crate::cluster::login::Attempts;
use crate::cluster::{Cluster, aurora, login, look};
use crate::facts::Facts;
use crate::server::{Life, ServerAbout, ServerConn};
use crate::session::{resolve, setup};
use crate::upstream::{self, Upstream};

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Monitor;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct MonitorArguments {
    /// Where it tells what it saw.
    pub cluster: Arc<Cluster>,
    /// The host that it looks at.
    pub host: HostName,
    /// The facts, for logins and numbers.
    pub facts: Arc<Facts>,
}

impl Work for Monitor {
    type Arguments = MonitorArguments;

    async fn run(arguments: MonitorArguments) -> End {
        let mut watch = Watch {
            arguments,
            link: None,
            late: None,
            attempts: Attempts::default(),
            services: None,
        };
        loop {
            let begun = clock::now();
            match watch.look().await {
                Looked::Seen => watch.rest(begun).await,
                Looked::Unasked => wait(&watch.arguments).await,
                Looked::Dismissed => return End::Stop,
            }
        }
    }
}

struct Watch {
    arguments: MonitorArguments,
    link: Option<Link>,
    /// A look that has taken too long and goes on. One is enough: on its connection the next is asked.
    late: Option<Asking>,
    attempts: Attempts,
    /// What sessions had of the host when it was last waited for.
    services: Option<Services>,
}

/// A look under way.
type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What has come of it.
struct Answered {
    outcome: Result<Said, Fault>,
    /// When the host was asked, once it was there to be asked.
    asked: Instant,
    /// The connection, if it can be asked again.
    link: Option<Link>,
    /// Who has logged in for it, or tried to, and whether the host has refused that.
    login: Option<(Arc<Upstream>, Admission)>,
}

/// Whether a host lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Granted,
    Refused,
    /// It does, and does not answer what it is asked then, which may be this user's fault.
    Unheard,
    /// It did not come to that.
    Open,
}

/// Why a question has no answer.
struct Unanswered {
    fault: Fault,
    /// It is an error of who asks.
    is_of_user: bool,
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            is_of_user: false,
        }
    }
}

impl From<&ErrorReport> for Unanswered {
    fn from(report: &ErrorReport) -> Self {
        Self {
            fault: look::refused(report),
            is_of_user: look::is_of_user(report),
        }
    }
}

/// A connection, since when it is open, and what is to be asked over it.
struct Link {
    server: Box<ServerConn>,
    since: Instant,
    storage: Storage,
    /// It has led to a server in recovery.
    was_standby: bool,
}

/// What a host has said.
enum Said {
    /// A Postgres, over this connection.
    Own(Box<look::Told>, Arc<ServerAbout>),
    /// An instance of Aurora's.
    Instance(Sight),
}

/// A connection is made anew after so long: the name may lead elsewhere by then.
const LINK_MAX: Duration = Duration::from_secs(30);

/// What has come of a look.
enum Looked {
    /// The cluster was told of it.
    Seen,
    /// There is nobody as whom the host can be asked at the moment.
    Unasked,
    /// The host is none of the cluster's any more.
    Dismissed,
}

impl Watch {
    /// Looks once and tells.
    async fn look(&mut self) -> Looked {
        let cluster = Arc::clone(&self.arguments.cluster);
        let members = cluster.members();
        let host = members.get(&self.arguments.host);
        let Some(host) = host.filter(|_| cluster.is_watched()) else {
            return Looked::Dismissed;
        };
        let Some(mut asking) = self.ask_as_may_be(host) else {
            self.overhear();
            cluster.age(clock::now());
            return Looked::Unasked;
        };
        // What was seen of it may have grown too old while nobody looked.
        cluster.age(clock::now());
        let (slow, over) = {
            let failover = &self.arguments.facts.config.load().failover;
            let usual = cluster.latency(&self.arguments.host);
            let now = clock::now();
            let slow = patience(usual, failover.probe_suspect);
            (now + slow, now + failover.probe_timeout)
        };
        let mut until = slow.min(over);
        loop {
            let looked = poll_fn(|cx| match asking.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Either::Asked(answered)),
                Poll::Pending => self.poll_late(cx).map(Either::Late),
            });
            match tokio::time::timeout_at(until.into(), looked).await {
                Ok(Either::Asked(answered)) => match self.ask_as_another(host, &answered) {
                    Some(other) => asking = other,
                    None => {
                        self.take(answered);
                        break;
                    }
                },
                Ok(Either::Late(answered)) => {
                    // It has answered just now, so that this look need not.
                    if self.take_late(answered) {
                        break;
                    }
                }
                Err(_elapsed) if until < over => {
                    cluster.hesitates(&self.arguments.host, clock::now());
                    self.overhear();
                    until = over;
                }
                Err(_elapsed) if planted::is(Bug::TrustSilence) => break,
                Err(_elapsed) => {
                    self.late.get_or_insert(asking);
                    self.overhear();
                    let (fault, now) = (Fault::TimedOut, clock::now());
                    cluster.saw(&self.arguments.host, Err(fault), now, now);
                    break;
                }
            }
        }
        Looked::Seen
    }

    /// Tells if sessions were answered by a host that does not answer here: it has too much to do, or others want to
    /// log in at the same time, and is not silent.
    fn overhear(&mut self) {
        let (cluster, host) = (&self.arguments.cluster, &self.arguments.host);
        let services = Services::of(cluster, host, &self.arguments.facts);
        let before = self.services.take();
        if let Some(before) = before.filter(|before| services.show_answers_since(before)) {
            // There was an answer at some time since then.
            cluster.served(host, before.at, services.at);
        }
        self.services = Some(services);
    }

    /// Asks what the host says, over the connection that there is or a new one; `None` if there is nobody to
    /// ask it.
    fn ask_as_may_be(&mut self, host: &Host) -> Option<Asking> {
        let doubted = self.arguments.cluster.take_suspect(&self.arguments.host);
        self.link.take_if(|_| doubted);
        let facts = &self.arguments.facts;
        let (upstream, resolves) = (self.choose(host), self.resolves());
        let renews = |link: &Link| clock::since(link.since) >= LINK_MAX;
        if self.late.is_none() && self.link.as_ref().is_some_and(renews) {
            // The old one is asked until the new one answers, or cannot be had.
            let resolves = resolves.clone();
            self.late = upstream.clone().map(|upstream| -> Asking {
                Box::pin(converse(None, Some(upstream), facts.number(), resolves))
            });
        }
        match (self.link.take(), upstream) {
            (None, None) => None,
            (link, upstream) => {
                let number = facts.number();
                Some(Box::pin(converse(link, upstream, number, resolves)))
            }
        }
    }

    /// Asks as somebody else, if the host has let in who asked and not answered; `None` if there is nobody who would fare
    /// better.
    fn ask_as_another(&mut self, host: &Host, answered: &Answered) -> Option<Asking> {
        let Some((unheard, Admission::Unheard)) = &answered.login else {
            return None;
        };
        self.attempts.unheard(&unheard.user, clock::now());
        let other = self.choose(host)?;
        let may = !self.attempts.is_unheard(&other.user, clock::now());
        may.then(|| -> Asking {
            let (number, resolves) = (self.arguments.facts.number(), self.resolves());
            Box::pin(converse(None, Some(other), number, resolves))
        })
    }

    /// As whom to log in now, if somebody may.
    fn choose(&self, host: &Host) -> Option<Arc<Upstream>> {
        let (cluster, facts) = (&self.arguments.cluster, &self.arguments.facts);
        let mut candidates = login::candidates(cluster, host, facts);
        let known = candidates.iter().map(|it| (it.user.as_str(), &it.secret));
        let chosen = self.attempts.choose(known, clock::now())?;
        Some(candidates.swap_remove(chosen))
    }

    /// Who remembers histories: they are read for those who resolve commits by them.
    fn resolves(&self) -> Option<Arc<Cluster>> {
        let resolution = self
            .arguments
            .facts
            .config
            .load()
            .failover
            .commit_resolution;
        (resolution == CommitResolution::On).then(|| Arc::clone(&self.arguments.cluster))
    }

    /// Tells what has come of a look.
    fn take(&mut self, answered: Answered) {
        self.services = None;
        if answered.link.is_some() && answered.login.is_some() {
            // Whatever is late still is about the past.
            self.late = None;
        }
        self.keep(answered.link);
        let outcome = self.admit(answered.login, answered.outcome);
        self.tell(outcome, answered.asked);
    }

    /// Tells the cluster what a host that was asked then has said.
    fn tell(&self, said: Result<Said, Fault>, asked: Instant) {
        let (cluster, host) = (&self.arguments.cluster, &self.arguments.host);
        let now = clock::now();
        let outcome = said.map(|said| match said {
            Said::Own(told, about) => cluster.told_by(*told, &about.upstream),
            Said::Instance(sight) => cluster.testified(host, sight, now),
        });
        cluster.saw(host, outcome, asked, now);
    }

    /// Tells what has come of a look that was late. That it was, has been told; what it says counts if it is no older than
    /// evidence may be, which is answered.
    fn take_late(&mut self, answered: Answered) -> bool {
        let elsewhere = |fault: &Fault| !fault.is_sign_of_life();
        if answered.login.is_some() && answered.outcome.as_ref().is_err_and(elsewhere) {
            // Whether the host still is where the old connection leads shows on the next. Where a server turns us away, the
            // old one leads to a server that works, and nobody else may be let in for long.
            self.link = None;
        }
        self.keep(answered.link);
        let outcome = self.admit(answered.login, answered.outcome);
        let evidence = self.arguments.facts.config.load().failover.evidence;
        let counts = outcome.is_ok() && clock::since(answered.asked) < evidence;
        if counts {
            self.tell(outcome, answered.asked);
        }
        counts
    }

    /// Keeps a connection for the next look, unless there is a newer one.
    fn keep(&mut self, link: Option<Link>) {
        let Some(link) = link else {
            return;
        };
        let own = self.link.as_ref();
        if own.is_none_or(|own| own.since <= link.since) {
            self.link = Some(link);
        }
    }

    fn admit(
        &mut self,
        login: Option<(Arc<Upstream>, Admission)>,
        outcome: Result<Said, Fault>,
    ) -> Result<Said, Fault> {
        match login {
            Some((upstream, Admission::Granted)) => self.attempts.succeeded(&upstream.user),
            Some((upstream, Admission::Refused)) => {
                let now = clock::now();
                self.attempts.refused(&upstream.user, &upstream.secret, now);
            }
            Some((upstream, Admission::Unheard)) => {
                self.attempts.unheard(&upstream.user, clock::now());
            }
            Some((_, Admission::Open)) | None => {}
        }
        outcome
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        let Some(late) = &mut self.late else {
            return Poll::Pending;
        };
        let answered = late.as_mut().poll(cx);
        if answered.is_ready() {
            self.late = None;
        }
        answered
    }

    /// Waits until it is time for the next look, or the host hangs up.
    async fn rest(&mut self, begun: Instant) {
        let cluster = Arc::clone(&self.arguments.cluster);
        loop {
            let mut doubted = pin!(cluster.doubted());
            // Registered before the pace is read, so that no doubt in between is missed.
            doubted.as_mut().enable();
            let now = clock::now();
            let pace = cluster.pace(&self.arguments.host, now);
            let due = (now + pace).max(begun + PACE_MIN);
            let mut due = pin!(tokio::time::sleep_until(due.into()));
            let next = poll_fn(|cx| {
                if let Some(link) = &mut self.link
                    && link.server.stream.poll_readable(cx).is_ready()
                {
                    return Poll::Ready(Next::Look);
                }
                if due.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Look);
                }
                if let Poll::Ready(answered) = self.poll_late(cx) {
                    return Poll::Ready(Next::Late(Box::new(answered)));
                }
                doubted.as_mut().poll(cx).map(|()| Next::Rest)
            });
            match next.await {
                Next::Look => return,
                Next::Late(answered) => {
                    self.take_late(*answered);
                }
                Next::Rest => {}
            }
        }
    }
}

/// After how long without an answer a host takes its time: one that is far away always takes longer than one that is near.
fn patience(usual: Option<Duration>, suspect: Duration) -> Duration {
    usual.map_or(suspect, |usual| suspect.max(usual * 2))
}

/// What the connections of the pools that lead to a host have done by a time.
struct Services {
    at: Instant,
    all: HashMap<(u64, u64), Service>,
}

/// What one of them has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Service {
    /// How often it was lent to somebody.
    uses: u64,
    /// How often something was read from it, if it is only read from.
    heard: u32,
}

impl Services {
    fn of(cluster: &Arc<Cluster>, host: &HostName, facts: &Facts) -> Self {
        let at = clock::now();
        let mut all = HashMap::new();
        for pool in facts.routes.load().values() {
            let leads = match &pool.key.reader {
                Some(reader) => reader == host,
                None => *pool.upstream.load().name == *host.as_str(),
            };
            if leads && Arc::ptr_eq(&pool.cluster.load(), cluster) {
                pool.core.each(|seen| {
                    let service = Service {
                        uses: seen.meta.uses,
                        heard: seen.info.voice.count(),
                    };
                    all.insert((pool.number, seen.meta.id), service);
                });
            }
        }
        Self { at, all }
    }

    /// Whether something was read from one of the connections since then, or it was lent twice: behind the first time it
    /// has come back, which it does when the server has answered all that it was asked.
    fn show_answers_since(&self, before: &Self) -> bool {
        self.all.iter().any(|(connection, service)| {
            let known = before.all.get(connection);
            known
                .is_some_and(|known| service.heard != known.heard || service.uses >= known.uses + 2)
        })
    }
}

/// Waits until there may be somebody as whom to ask.
async fn wait(arguments: &MonitorArguments) {
    let probe = arguments.facts.config.load().failover.probe;
    let _ = tokio::time::timeout(probe, arguments.cluster.doubted()).await;
    // Who wakes all at each doubt must not make this one spin.
    tokio::time::sleep(PACE_MIN).await;
}

/// Which of two looks has come to its end.
enum Either {
    Asked(Answered),
    Late(Answered),
}

/// What ends a rest.
enum Next {
    Look,
    Late(Box<Answered>),
    /// The pace may have changed.
    Rest,
}

/// Asks over the connection that there is, and over a new one as this user where it is gone.
/// `resolves` is who remembers histories.
async fn converse(
    link: Option<Link>,
    upstream: Option<Arc<Upstream>>,
    number: u64,
    resolves: Option<Arc<Cluster>>,
) -> Answered {
    let resolves = resolves.as_deref();
    let asked = clock::now();
    let answered = |outcome, link| Answered {
        outcome,
        asked,
        link,
        login: None,
    };
    if let Some(mut link) = link {
        match ask(&mut link, resolves).await {
            Ok(said) => return answered(Ok(said), Some(link)),
            Err(Unanswered { fault, is_of_user }) => match fault {
                // It may have been restarted; whether it lives shows on a new connection.
                Fault::Lost | Fault::Stopping if upstream.is_some() => {}
                fault => {
                    let user = Arc::clone(&link.server.about.upstream);
                    return Answered {
                        login: is_of_user.then_some((user, Admission::Unheard)),
                        ..answered(Err(fault), None)
                    };
                }
            },
        }
    }
    let Some(upstream) = upstream else {
        return answered(Err(Fault::Lost), None);
    };
    let (life, _ended) = Life::new();
    let (mut server, _welcome) = match upstream::open(&upstream, number, life).await {
        Ok(opened) => opened,
        Err(error) => {
            let fault = look::unopened(&error);
            let admission = match fault {
                Fault::Refused => Admission::Refused,
                _ => Admission::Open,
            };
            return Answered {
                login: Some((upstream, admission)),
                ..answered(Err(fault), None)
            };
        }
    };
    let since = clock::now();
    let storage = timely(&mut server, async |server| {
        aurora::storage_and_last(server).await
    });
    let (outcome, link) = match storage.await {
        Ok(storage) => {
            let mut link = Link {
                server,
                since,
                storage,
                was_standby: false,
            };
            let outcome = ask(&mut link, resolves).await;
            let link = outcome.is_ok().then_some(link);
            (outcome, link)
        }
        Err(fault) => (Err(fault.into()), None),
    };
    let admission = match &outcome {
        // What is set for a user may also end its connection.
        Err(it) if it.is_of_user || it.fault == Fault::Lost => Admission::Unheard,
        Ok(_) | Err(_) => Admission::Granted,
    };
    Answered {
        outcome: outcome.map_err(|unanswered| unanswered.fault),
        asked: since,
        link,
        login: Some((upstream, admission)),
    }
}

/// No host is looked at more often than that.
const PACE_MIN: Duration = Duration::from_millis(10);

/// Asks over a connection that is open.
async fn ask(link: &mut Link, resolves: Option<&Cluster>) -> Result<Said, Unanswered> {
    let begun = clock::now();
    let Link {
        server,
        storage,
        was_standby,
        ..
    } = link;
    let answer = timely(server, async |link| match *storage {
        Storage::Own => setup::run(link, look::QUESTION).await,
        Storage::Shared => aurora::ask(link).await,
    });
    let answer = answer.await?;
    if let Some(error) = answer.error {
        return Err((&error).into());
    }
    let latency = clock::since(begun);
    match *storage {
        Storage::Own => {
            let row = answer.rows.first();
            let told = row.and_then(|row| look::read(row, latency));
            let mut told = told.ok_or_else(|| Fault::Broken("not what it was asked".into()))?;
            *was_standby |= told.look.standing == Standing::Replica;
            if let Some(primary) = &mut told.primary {
                primary.was_standby = *was_standby;
            }
            if let Some(cluster) = resolves {
                read_history(server, &told, cluster).await?;
            }
            Ok(Said::Own(Box::new(told), Arc::clone(&server.about)))
        }
        Storage::Shared => aurora::read(&answer.rows, latency)
            .map(Said::Instance)
            .map_err(|error| Fault::Broken(error.to_string().into()).into()),
    }
}

/// Has the cluster know the history of a primary, once, if the user may read it: those of the pools may not, perhaps. It is there
/// before anybody is told of a new primary.
async fn read_history(
    server: &mut ServerConn,
    told: &look::Told,
    cluster: &Cluster,
) -> Result<(), Fault> {
    let primary = told.primary.as_ref().filter(|_| told.reads_files);
    let lacks = |primary: &&Server| cluster.promotions.lock().lacks_history(primary);
    if let Some(primary) = primary.filter(lacks) {
        let timeline = primary.timeline;
        let history = timely(server, async |link| resolve::history(link, timeline).await).await?;
        cluster.promotions.lock().read(primary, history);
    }
    Ok(())
}

/// What a question over an open connection gives, or what it says of the host that it gives nothing.
async fn timely<T>(
    link: &mut ServerConn,
    question: impl AsyncFnOnce(&mut ServerConn) -> Result<T, ErrorReport>,
) -> Result<T, Fault> {
    let begun = clock::now();
    let patience = link.about.upstream.patience;
    match question(link).await {
        Ok(answer) => Ok(answer),
        Err(_) if patience.is_some_and(|patience| clock::since(begun) >= patience) => {
            Err(Fault::TimedOut)
        }
        Err(_) => Err(Fault::Lost),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Service, Services, patience};

    #[test]
    fn who_is_far_away_is_waited_for_longer() {
        let millis = Duration::from_millis;
        let suspect = millis(50);
        assert_eq!(patience(None, suspect), suspect);
        assert_eq!(patience(Some(millis(1)), suspect), suspect);
        assert_eq!(patience(Some(millis(60)), suspect), millis(120));
    }

    #[test]
    fn a_connection_that_was_lent_twice_or_read_from_has_answered_in_between() {
        let services = |all: &[(u64, u64, u32)]| Services {
            at: Instant::now(),
            all: all
                .iter()
                .map(|(id, uses, heard)| {
                    let (uses, heard) = (*uses, *heard);
                    ((7, *id), Service { uses, heard })
                })
                .collect(),
        };
        let before = services(&[(1, 4, 0), (2, 9, 3)]);
        for (after, expected) in [
            (services(&[(1, 4, 0), (2, 9, 3)]), false),
            // It lay idle, and may have been lent to one who waits for ever.
            (services(&[(1, 5, 0), (2, 10, 3)]), false),
            (services(&[(1, 5, 0), (2, 11, 3)]), true),
            (services(&[(1, 4, 0), (2, 9, 4)]), true),
            // Nothing is known of when it was opened and by whom it was answered.
            (services(&[(3, 2, 1)]), false),
        ] {
            assert_eq!(after.show_answers_since(&before), expected);
        }
    }
}
