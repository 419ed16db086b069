//! What a text takes to run on a server: which statements, under which names.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use pgherd_session::{Edits, Held, Placed, Reach, ServerName, Source, Statement};
use pgherd_sql::{Deed, Mention, Mentions, Pin, PinSet};
use pgherd_wire::error::ErrorReport;

use crate::judgement::{self, Judgement};
use crate::session::behind;
use crate::session::by_sql::names::{Change, settle};
use crate::session::by_sql::{Rewritten, crowded};
use crate::session::meaning::{self, Unlike};
use crate::session::reasons;
use crate::session::replies;
use crate::session::statements::{note_use, place, put, remark, stand_in, too_many, touch};
use crate::session::turn::Turn;

/// A name that no server has.
const NOTHING: &str = "pgherd_nothing";

/// What is to be done for a text, and where names of ours go into it.
#[derive(Default)]
pub(super) struct Plan {
    places: Vec<Place>,
    /// Statements that must be there when it runs.
    pub(super) uses: Vec<Arc<Statement<Judgement>>>,
    changes: Vec<Planned>,
    /// What the names mean by now that have come or gone in it.
    meant: HashMap<Box<[u8]>, Option<Arc<Statement<Judgement>>>>,
    /// The statements that it prepares or uses.
    ids: HashSet<u64>,
    /// How many statements it prepares, and their bytes.
    made: (usize, usize),
    /// How many names of ours that stand for no statement go into it.
    stand_ins: usize,
    /// A name comes that is left to the server.
    pub(super) left: bool,
    /// There are several statements.
    many: bool,
}

/// A name in a text.
struct Place {
    at: Range<usize>,
    name: Box<[u8]>,
    /// Postgres would remark that the client's name is too long.
    cut: bool,
    to: To,
}

/// What a name in a text becomes.
enum To {
    /// The server's for this statement.
    Statement(Arc<Statement<Judgement>>),
    /// One of ours that stands for no statement.
    StandIn(usize),
    /// One that no server has.
    Nothing,
}

enum Planned {
    Prepare(Box<[u8]>, Arc<Statement<Judgement>>),
    Deallocate(Box<[u8]>),
}

impl Plan {
    pub(super) fn new(
        turn: &Turn<'_>,
        text: &[u8],
        named: &Mentions<'_>,
    ) -> Result<Self, Box<ErrorReport>> {
        let mut plan = Self {
            many: named.statements > 1,
            ..Self::default()
        };
        let most = turn.server.about.upstream.statements.max(1);
        let most_of_one = turn.relay.pool.settings().limits.max_prepared_statements;
        for mention in &named.found {
            let Some(name) = mention.name.as_deref() else {
                continue;
            };
            if plan.ids.len() > most || plan.stand_ins > most_of_one.get() {
                return Err(Box::new(crowded()));
            }
            let known = plan.find(turn, name);
            match (mention.deed, known) {
                (Deed::Execute | Deed::Within, Some(known)) => plan.uses(mention, known),
                // The server is sure to know the name, and says so behind all other faults.
                (Deed::Prepare { .. }, Some(_)) => plan.stands_in(mention),
                (Deed::Prepare { query }, None) => {
                    plan.prepares(turn, (text, query), mention, named)?;
                }
                (Deed::Deallocate, Some(_)) => {
                    // Others may be using the statement itself.
                    plan.stands_in(mention);
                    plan.meant.insert(name.into(), None);
                    plan.changes.push(Planned::Deallocate(name.into()));
                }
                // The server may well have it, but as another client's.
                (_, None) if ServerName::is_reserved(name) => plan.put(mention, To::Nothing),
                (_, None) => {}
            }
        }
        Ok(plan)
    }

    /// What the client means by a name at this point of the text.
    fn find(&self, turn: &Turn<'_>, name: &[u8]) -> Option<Arc<Statement<Judgement>>> {
        if let Some(meant) = self.meant.get(name) {
            return meant.clone();
        }
        let client = turn.relay.statements.as_deref()?;
        Some(Arc::clone(&client.get(name)?.statement))
    }

    fn uses(&mut self, mention: &Mention<'_>, known: Arc<Statement<Judgement>>) {
        let to = To::Statement(Arc::clone(&known));
        self.put(mention, to);
        if self.ids.insert(known.id) {
            self.uses.push(known);
        }
    }

    fn stands_in(&mut self, mention: &Mention<'_>) {
        self.put(mention, To::StandIn(self.stand_ins));
        self.stand_ins += 1;
    }

    fn put(&mut self, mention: &Mention<'_>, to: To) {
        self.places.push(Place {
            at: mention.at.clone(),
            name: mention.name.as_deref().unwrap_or_default().into(),
            cut: mention.cut,
            to,
        });
    }

    fn prepares(
        &mut self,
        turn: &Turn<'_>,
        (text, query): (&[u8], usize),
        mention: &Mention<'_>,
        named: &Mentions<'_>,
    ) -> Result<(), Box<ErrorReport>> {
        let Some(name) = mention.name.as_deref() else {
            return Ok(());
        };
        let sql = text.get(query..mention.end).unwrap_or_default();
        let how = turn.relay.lexing;
        if query == 0 || !judgement::is_analysed(sql, how) {
            // The server refuses it.
            return Ok(());
        }
        if turn.relay.pins.contains(Pin::Prepare) {
            // The server has names that are not known here.
            self.left = true;
            return Ok(());
        }
        // Postgres shows the whole text that it was given.
        let (start, end) = match self.many {
            true => (mention.start, mention.end),
            false => (0, text.len()),
        };
        let whole = text.get(start..end).unwrap_or_default();
        let settings = turn.relay.parameters.reading();
        let bytes = name.len() + whole.len() + settings.len();
        if let Some(report) = too_many(turn, self.made, bytes) {
            return Err(Box::new(report));
        }
        self.made = (self.made.0 + 1, self.made.1 + bytes);
        let tail = [whole, &[0; 3]].concat();
        let source = Source::Prepare {
            name: (mention.at.start - start, mention.at.end - start),
            query: query - start,
        };
        let registry = &turn.relay.pool.registry;
        let judge = || turn.relay.judge(sql);
        let own = |reach| {
            let before = text.get(..start).unwrap_or_default();
            let parameters = meaning::as_read_behind(turn, before);
            registry.own(&parameters, source, &tail, reach, judge())
        };
        // An error that names it must not name another of the client's.
        let is_named = |statement: &Statement<Judgement>| {
            let client = turn.relay.statements.as_deref();
            client.is_some_and(|client| client.name_of(statement.id).is_some())
        };
        let statement = match judgement::reach(sql, how) {
            Reach::Shared if named.statements == 1 => {
                let here = meaning::here(turn);
                let shared = here.map(|here| registry.intern(&here, source, &tail, judge));
                match shared.filter(|shared| !is_named(shared)) {
                    Some(shared) => shared,
                    None => own(Reach::Own),
                }
            }
            Reach::Shared | Reach::Own => own(Reach::Own),
            Reach::Bound => own(Reach::Bound),
        };
        let to = To::Statement(Arc::clone(&statement));
        self.put(mention, to);
        self.ids.insert(statement.id);
        self.meant.insert(name.into(), Some(Arc::clone(&statement)));
        self.changes.push(Planned::Prepare(name.into(), statement));
        Ok(())
    }

    /// Whether the text is to run as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether something that the text runs asks which statements there are.
    pub(super) fn inspects(&self) -> bool {
        self.uses.iter().any(|used| used.judgement.inspects)
    }

    /// Whether messages of ours must go before the text.
    pub(super) fn asks(&self, turn: &mut Turn<'_>) -> bool {
        !self.changes.is_empty() || self.stand_ins > 0 || self.lacks(turn)
    }

    /// What tells whether a statement that the server reads anew would be read otherwise. Behind others of its text it is
    /// not put there for what nobody has told of: should it fail, it must fail behind them.
    fn unlike(&self) -> Unlike {
        match self.many {
            true => meaning::unlike,
            false => meaning::perhaps_unlike,
        }
    }

    /// Whether one of them is to be read, which is refused in a failed block.
    pub(super) fn lacks(&self, turn: &mut Turn<'_>) -> bool {
        let mut uses = self.uses.iter();
        self.places.iter().any(|place| place.cut)
            || uses.any(|used| touch(turn, used, self.unlike()).is_none())
    }

    /// Whether one of the statements that it prepares cannot be read again.
    pub(super) fn binds(&self) -> bool {
        let bound = |change: &Planned| matches!(change, Planned::Prepare(_, made) if made.reach == Reach::Bound);
        self.changes.iter().any(bound)
    }

    /// Takes note of the names that come and go in a text that runs as the client wrote it, on a server that has
    /// the client's own names for this moment.
    pub(super) fn note_bare(&self, turn: &mut Turn<'_>) {
        settle(turn);
        for change in &self.changes {
            let change = match change {
                Planned::Prepare(name, statement) => {
                    turn.names.rubbish.push(name.clone());
                    prepared(turn, name, statement, None)
                }
                Planned::Deallocate(name) => Change::Deallocate { name: name.clone() },
            };
            turn.names.changes.push_back(change);
        }
    }

    /// Has the server remark on names that will not be in the text any more. Of a text that was prepared by the
    /// protocol it has done so.
    pub(super) fn have_remarked(&self, turn: &mut Turn<'_>, text: &[u8]) {
        for place in self.places.iter().filter(|place| place.cut) {
            remark(turn, text.get(place.at.clone()).unwrap_or_default());
        }
    }

    /// Sees to it that the server has what the text needs, and gives the text. `None` if the server
    /// may not hold so many statements at once. `sets` is whether a statement of it may do something to settings.
    pub(super) fn carry_out(
        &self,
        turn: &mut Turn<'_>,
        text: &[u8],
        sets: bool,
    ) -> Option<Rewritten> {
        for used in &self.uses {
            let placed = match touch(turn, used, self.unlike()) {
                Some(placed) => {
                    note_use(turn, used, placed);
                    placed
                }
                None => {
                    turn.relay.pool.stats.server_parse_again();
                    put(turn, used, None)
                }
            };
            if sets && self.many && used.reach == Reach::Shared {
                // It may be bound behind that.
                turn.server.statements.lend(placed);
            }
        }
        if !self.changes.is_empty() || self.stand_ins > 0 || self.many {
            settle(turn);
        }
        for change in &self.changes {
            let change = match change {
                Planned::Prepare(name, statement) => self::begin(turn, name, statement),
                Planned::Deallocate(name) => Change::Deallocate { name: name.clone() },
            };
            turn.names.changes.push_back(change);
        }
        for number in 0..self.stand_ins {
            let name = stand_in_name(number);
            stand_in(turn, name.as_bytes());
            turn.names.rubbish.push(name.into_bytes().into());
        }
        let rewritten = self.rewrite(turn, text);
        if rewritten.is_none() {
            settle(turn);
        }
        rewritten
    }

    /// Takes note of what runs by its name: behind the text's own part in how it is read, in which that has no say.
    pub(super) fn note_uses(&self, turn: &mut Turn<'_>) {
        for used in &self.uses {
            let how = turn.relay.lexing;
            behind::sent_by_name(turn.server, &used.judgement, used.query(), how);
        }
    }

    fn rewrite(&self, turn: &mut Turn<'_>, text: &[u8]) -> Option<Rewritten> {
        let mut out = Vec::with_capacity(text.len() + 16 * self.places.len());
        let mut edits = Edits::of(text);
        let mut copied = 0;
        for place in &self.places {
            let (ours, is_statement) = match &place.to {
                To::StandIn(number) => (stand_in_name(*number), false),
                To::Nothing => (NOTHING.to_owned(), false),
                To::Statement(statement) => {
                    let placed = turn.server.statements.touch(statement.id)?;
                    let ours = placed.name.text();
                    (String::from_utf8_lossy(ours.as_bytes()).into_owned(), true)
                }
            };
            let between = text.get(copied..place.at.start)?;
            edits.push(place.at.clone(), ours.len() + 2);
            copied = place.at.end;
            out.extend_from_slice(between);
            // With quotes it stands for itself beside anything.
            out.push(b'"');
            out.extend_from_slice(ours.as_bytes());
            out.push(b'"');
            if self.many || !is_statement {
                let own = || place.name.clone();
                turn.names.shown.entry(ours).or_insert_with(own);
            }
        }
        out.extend_from_slice(text.get(copied..)?);
        let edits = edits.into_vec();
        Some(Rewritten { text: out, edits })
    }
}

/// Has a place made for a statement that the text prepares.
fn begin(turn: &mut Turn<'_>, name: &[u8], statement: &Arc<Statement<Judgement>>) -> Change {
    if statement.reach == Reach::Bound {
        replies::doubt(turn);
        reasons::bind(turn, PinSet::of(&[Pin::Moment]));
    }
    let placed = place(turn, statement);
    prepared(turn, name, statement, Some(placed))
}

fn prepared(
    turn: &Turn<'_>,
    name: &[u8],
    statement: &Arc<Statement<Judgement>>,
    placed: Option<Placed>,
) -> Change {
    turn.relay.pool.stats.client_parse();
    turn.relay.pool.stats.server_parse();
    Change::Prepare {
        name: name.into(),
        held: Held {
            statement: Arc::clone(statement),
            shape: None,
        },
        placed,
    }
}

fn stand_in_name(number: usize) -> String {
    format!("pgherd_stand_in_{number}")
}
