//! What code that no text shows has done to a server's session, found out before anybody else has the
//! server.
//!
//! The client has its answer by then, and waits only if it asks for more meanwhile.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgherd_config::{FunctionCheck, PoolMode};
use pgherd_net::poll_write_from;
use pgherd_sql::{Alters, Defines, LexOptions, Pin, PinSet, Runs, named_settings};
use pgherd_wire::error::ErrorReport;

use crate::control::Standing;
use crate::hidden::{Alteration, Hidden, Ran, Sways};
use crate::judgement::Judgement;
use crate::pool::ServerLease;
use crate::server::ServerConn;
use crate::session::check::{self, Session};
use crate::session::relay::Relay;
use crate::session::setup::Listener;
use crate::session::{Bye, checkout, survey};

/// Pins that a look at the server may take away or leave.
const OWN: PinSet = PinSet::of(&[Pin::Function, Pin::Sequence]);

/// Pins that a look at the server shows to be over, or not.
const SHOWN: PinSet = PinSet::of(&[Pin::TempTable, Pin::HoldCursor, Pin::AdvisoryLock]);

/// Of what a look shows, what nothing but the end of the server's session ends.
const LASTING: PinSet = PinSet::of(&[Pin::Unknown]);

/// How long a look waits for a cancel request that is on its way to the server.
const CANCELS: Duration = Duration::from_secs(30);

/// A longer text is not read anew whenever it is bound.
pub(super) const BOUND_MAX: usize = 64 * 1024;

/// The functions of large objects, which libpq calls by their numbers (`pg_proc.dat`): they leave nothing
/// that outlives the transaction.
const LARGE_OBJECTS: [u32; 14] = [
    715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171,
];

/// Takes note of a text that is sent to a server: a text alone, or a Parse message behind the name.
pub(super) fn sent(server: &mut ServerConn, judgement: &Judgement, tail: &[u8], how: LexOptions) {
    server.temporary |= judgement.temporary;
    let ran = match judgement.runs {
        Runs::Unknown => hidden(server).reread(text(tail), how),
        runs => Ran {
            sways: hidden(server).sways(runs),
            ..Ran::only(runs)
        },
    };
    if judgement.runs > server.ran {
        let unseen = match ran.runs > server.ran {
            true => hidden(server).sets(ran.runs),
            false => Vec::new(),
        };
        server.doubt(ran.sets.into_iter().chain(unseen));
        server.ran = server.ran.max(ran.runs);
    }
    if hides(judgement) {
        doubt_named(server, text(tail), how);
    }
    server.sways = server.sways.max(ran.sways);
    server.misread |= ran.sways == Sways::Texts && hidden(server).is_surveyed();
    note_alteration(server, judgement, ran.defines);
}

/// Takes note of a text that changes what the database consists of, or may; `defines` is what the functions do of
/// that which it names.
fn note_alteration(server: &mut ServerConn, judgement: &Judgement, defines: Defines) {
    let hidden = &server.about.upstream.hidden.0;
    let is_said = judgement.alters
        || defines == Defines::Says
        || match judgement.may_alter {
            Alters::No | Alters::Unnamed => false,
            Alters::Prepared => hidden.has_prepared(),
            // It may commit before it ends, and so be noticed too late.
            Alters::Called => defines != Defines::Nothing,
            Alters::Code => true,
        };
    if is_said {
        let alters = server
            .alters
            .get_or_insert_with(|| Alteration::begin(hidden));
        alters.confirm();
    } else if server.alters.is_none()
        && (defines != Defines::Nothing
            || !matches!(judgement.may_alter, Alters::No | Alters::Called)
            || hidden.stirs(judgement.runs))
    {
        server.alters = Some(Alteration::perhaps(hidden));
    }
    if judgement.prepares && server.alters.is_some() {
        hidden.prepare();
    }
}

/// As [`sent`], of a text that is bound, which takes but a short message: a long one is not read each time, and does
/// all that it may.
pub(super) fn bound(server: &mut ServerConn, judgement: &Judgement, tail: &[u8], how: LexOptions) {
    if tail.len() <= BOUND_MAX {
        return sent(server, judgement, tail, how);
    }
    server.temporary |= judgement.temporary;
    server.sways = server.sways.max(match judgement.runs {
        Runs::Unknown => Sways::Texts,
        runs => hidden(server).sways(runs),
    });
    if judgement.runs > server.ran {
        let unseen = hidden(server).sets(judgement.runs);
        server.doubt(unseen);
        server.ran = judgement.runs;
        let unknown = judgement.runs == Runs::Unknown;
        let sways = hidden(server).sways(judgement.runs) == Sways::Texts;
        server.misread |= unknown || sways && hidden(server).is_surveyed();
    }
    if hides(judgement) {
        server.doubt_unnamed();
    }
    if judgement.alters && server.alters.is_none() {
        server.alters = Some(Alteration::begin(&server.about.upstream.hidden.0));
    }
}

/// As [`sent`], of a text that is run by its name, so that nothing of what it does to settings is followed.
pub(super) fn sent_by_name(
    server: &mut ServerConn,
    judgement: &Judgement,
    tail: &[u8],
    how: LexOptions,
) {
    sent(server, judgement, tail, how);
    if judgement.follows {
        server.misread = true;
        doubt_named(server, text(tail), how);
    }
}

/// Whether others may find what a text perhaps sets. Nobody gets the server of a client that is bound because its text
/// cannot be seen through, unless it turns out that nothing of that has run.
fn hides(judgement: &Judgement) -> bool {
    judgement.hides && !judgement.pins.contains(Pin::Unknown)
}

/// What a text names is perhaps set by it.
fn doubt_named(server: &mut ServerConn, text: &[u8], how: LexOptions) {
    match named_settings(text, how) {
        Some(names) => server.doubt(names),
        None => server.doubt_unnamed(),
    }
}

/// Whatever functions set, as far as is known, is believed to have been set where one may have run.
pub(super) fn suspects_all(server: &mut ServerConn) {
    let hidden = hidden(server);
    if server.ran < hidden.threshold() {
        return;
    }
    if let Some(found) = hidden.found() {
        server.doubt(found.settings.iter().cloned());
    }
}

/// Takes note of a function that is called by its number.
pub(super) fn called(server: &mut ServerConn, body: &[u8]) {
    let number = body
        .first_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes));
    if !number.is_some_and(|number| LARGE_OBJECTS.contains(&number)) {
        unseen(server);
    }
}

/// Takes note of something that is run whose text nobody has seen.
pub(super) fn unseen(server: &mut ServerConn) {
    server.ran = Runs::Unknown;
    server.sways = Sways::Texts;
    server.touched = true;
    server.misread = true;
    if server.alters.is_none() {
        server.alters = Some(Alteration::perhaps(&server.about.upstream.hidden.0));
    }
}

/// The text in the body of a Parse message behind the name.
fn text(tail: &[u8]) -> &[u8] {
    tail.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn hidden(server: &ServerConn) -> &Hidden {
    &server.about.upstream.hidden.0
}

/// Whether the server must be looked at before anybody else may have it, or a look may free its client of it.
pub(super) fn is_due(relay: &Relay, server: &ServerConn, how: FunctionCheck, now: Instant) -> bool {
    if relay.mode == PoolMode::Session {
        return false;
    }
    if !relay.pins.without(OWN).is_empty() {
        return may_be_free(relay, server);
    }
    match how {
        // Not for what functions do: it is the text that does not tell whether a setting was made.
        FunctionCheck::Never => !server.doubted.is_empty(),
        FunctionCheck::Auto => {
            // A replica may not know yet what its catalogue has been changed to.
            is_suspect(server, how) || (!relay.reading && hidden(server).is_due(now))
        }
        FunctionCheck::Always => is_suspect(server, how),
    }
}

/// Whether a look may show that something is over for which the session is bound, and nothing binds it of which none
/// tells.
fn may_be_free(relay: &Relay, server: &ServerConn) -> bool {
    let bound = relay.pins.without(OWN);
    if bound.both(server.frees).both(SHOWN).is_empty() || !bound.without(SHOWN).is_empty() {
        return false;
    }
    // Whatever is made where that comes first is temporary, and no text says so.
    let path = relay.parameters.get("search_path");
    !bound.contains(Pin::TempTable)
        || !path.is_some_and(|path| path.to_ascii_lowercase().contains("pg_temp"))
}

/// Whether there may be something of the client's that no text has shown.
pub(super) fn is_suspect(server: &ServerConn, how: FunctionCheck) -> bool {
    has_run_unseen(server, how) || !server.doubted.is_empty()
}

/// Whether code has run there that may have changed the session.
pub(super) fn has_run_unseen(server: &ServerConn, how: FunctionCheck) -> bool {
    match how {
        FunctionCheck::Never => false,
        FunctionCheck::Auto => server.ran >= hidden(server).threshold(),
        FunctionCheck::Always => server.ran >= Runs::Reads,
    }
}

impl Relay {
    /// Looks at a server whose transaction is over, and keeps it or gives it back.
    pub(super) async fn look_behind(
        &mut self,
        mut lease: ServerLease,
        how: FunctionCheck,
        now: Instant,
    ) -> Option<Bye> {
        self.answer_first(&mut lease).await;
        if !self.control.runs_nowhere() {
            // It would hit our own question; what it finds in its place is settled when the server goes back.
            let about = Arc::clone(&lease.about);
            let _ = tokio::time::timeout(CANCELS, about.cancels.settled()).await;
        }
        // Its client is answered and asks for nothing, so an order to go at once does not cut it off, but is heard here.
        self.control.stand(Standing::Idle);
        let control = Arc::clone(&self.control);
        let looking = self.look_at(&mut lease, how, now);
        let looked = match checkout::unless_ended(&control, looking).await {
            Ok(looked) => looked,
            Err(denied) => return self.denied(denied),
        };
        // Notifications that came meanwhile are not to wait for more of them.
        lease.flow.hand_over(&mut self.down);
        match looked {
            Ok(Session::Clean) => {
                self.are_left(PinSet::EMPTY);
                lease.ran = Runs::Nothing;
            }
            Ok(Session::Changed(left)) => {
                self.are_left(left);
                lease.ran = Runs::Nothing;
            }
            // What it is bound for is still there, as far as is known, and is looked for again.
            Ok(Session::Hidden) if !self.pins.without(OWN).is_empty() => {}
            // Nobody can tell when that will be over.
            Ok(Session::Hidden) => self.pins.insert(Pin::Unknown),
            // Dropped as it is, it is closed, and nothing of the client's was on it.
            Ok(Session::Altered) => {
                self.are_left(PinSet::EMPTY);
                if self.pins.without(OWN).is_empty() {
                    self.is_free();
                }
                return None;
            }
            // The server is gone, and of what this client has there nothing is known to matter.
            Err(_) if !self.leaves_something(&lease, how) => return None,
            Err(report) => {
                let mut last = report.into_fatal();
                let text = "The session may have been bound to that server, and its state is lost.";
                last.hint = Some(text.to_owned());
                return Some(Bye::Sent(Box::new(last)));
            }
        }
        // Whoever parts from it asks once more whether a cancel request is on its way there.
        self.control.runs_on(&lease.about);
        self.part(lease, now)
    }

    /// This is what there is in the session. What the client has not said itself, a function has done.
    fn are_left(&mut self, left: PinSet) {
        let said = self.pins.both(SHOWN);
        let lasts = left.both(LASTING);
        self.pins = self.pins.without(SHOWN.without(left)).union(lasts);
        match left.without(said).without(lasts).is_empty() {
            true => self.pins.remove(Pin::Function),
            false => self.pins.insert(Pin::Function),
        }
    }

    /// Where nobody has looked at what the server has perhaps had of the users' own settings, nobody else finds it.
    pub(super) fn keep_doubtful(&mut self, lease: &ServerLease) {
        let keeps = self.pool.pins(self.pins, self.mode);
        if lease.doubted.crowded || !keeps && !lease.doubted.is_empty() {
            self.pins.insert(Pin::Unknown);
        }
    }

    /// Gives the client what waits for it, as far as its socket takes it at once.
    pub(super) async fn answer_first(&mut self, lease: &mut ServerLease) {
        lease.flow.hand_over(&mut self.down);
        poll_fn(|cx| {
            let sent = poll_write_from(&mut self.client, cx, &mut self.down);
            // One that has broken shows when it is read from.
            self.held |= sent.is_pending();
            Poll::Ready(())
        })
        .await;
    }

    /// Whether something of the client's may be lost with a server that could not be looked at. Before the
    /// catalogue was asked for the first time, only what a text calls is a reason to believe so.
    fn leaves_something(&self, server: &ServerConn, how: FunctionCheck) -> bool {
        let threshold = match (how, hidden(server).found()) {
            (FunctionCheck::Auto, Some(_)) => hidden(server).threshold(),
            _ => Runs::Unknown,
        };
        server.ran >= threshold || !self.pins.is_empty()
    }

    pub(super) fn listener(&self) -> Listener {
        Listener {
            pool: Arc::clone(&self.pool),
            id: self.control.id,
        }
    }

    pub(super) async fn look_at(
        &mut self,
        lease: &mut ServerLease,
        how: FunctionCheck,
        now: Instant,
    ) -> Result<Session, ErrorReport> {
        let hidden = Arc::clone(&lease.about.upstream.hidden.0);
        let claim = match self.reading || how == FunctionCheck::Never {
            true => None,
            false => hidden.claim(now),
        };
        if let Some(claim) = claim {
            match survey::run(lease, self.listener()).await {
                Ok(Some(found)) => hidden.learn(&claim, found),
                Ok(None) => hidden.learn_nothing(&claim),
                Err(report) => return Err(report),
            }
            self.pool.stats.surveyed();
        }
        if !is_suspect(lease, how) && !may_be_free(self, lease) {
            return Ok(match self.pins.contains(Pin::Function) {
                true => Session::Changed(PinSet::of(&[Pin::Function])),
                false => Session::Clean,
            });
        }
        self.pool.stats.checked();
        let found = hidden.found();
        let pool = Arc::clone(&self.pool);
        let before = lease.certain();
        let session = check::run(&pool, lease, found.as_deref(), self.listener()).await?;
        if lease.applied.is_strange_to(&before) {
            // A function has had a setting that the session had never had.
            let mut all = (*self.parameters).clone();
            let met = lease.applied.strange_to(&before);
            met.for_each(|name| all.meet(name));
            let all = self.pool.shared.share(all);
            self.set_parameters(all);
        }
        let may_hide = has_run_unseen(lease, how) && found.is_none_or(|found| found.obscure);
        if session == Session::Clean && may_hide {
            return check::wash(lease).await;
        }
        Ok(session)
    }
}
