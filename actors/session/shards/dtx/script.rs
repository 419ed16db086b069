//! Several statements in one simple query. They are one transaction, unless they say otherwise, and an error ends
//! the text.

use pgherd_planner::{Plan, Statement};
use pgherd_sql::{Statements, Step};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame;

use super::named::is_named;
use super::session::{Deed, begun_late, deed, other, uncommitted};
use super::statement::{Done, tell, unfit};
use super::{Dtx, Fault, Kind};
use crate::session::relay::Relay;
use crate::session::shards::hint;
use crate::session::shards::plan::{Told, read, unsupported, worded};

/// A text of more statements is refused.
const MOST: usize = 10_000;

/// So many are looked at before the other sessions of the worker have their turn.
const TURN: usize = 32;

/// The statements of a text, if there are several.
pub(in crate::session::shards) fn parts<'t>(
    relay: &Relay,
    text: &'t [u8],
) -> Option<Vec<&'t [u8]>> {
    if !text.contains(&b';') {
        return None;
    }
    let parts: Result<Vec<&[u8]>, _> = Statements::new(text, relay.lexing).take(MOST + 1).collect();
    let parts = parts.ok()?;
    (2..=MOST).contains(&parts.len()).then_some(parts)
}

impl Dtx {
    /// Runs the statements of a text.
    pub(super) async fn script(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), Fault> {
        // Postgres reads all of a text before it runs anything of it.
        if let Some(known) = self.group.last()
            && let Ok(Told::Planned(statement)) = read(relay, &known, text)
            && let Plan::Refused(refusal) = statement.plan()
            && refusal.code == "42601"
        {
            return Err(worded(refusal).into());
        }
        if hint::is_in(text, relay.lexing) {
            let text = "a hint in a text of several statements is not supported";
            return Err(unsupported(text)
                .hint("Send its statement by itself.")
                .into());
        }
        // So is what is refused, rather than found behind what has run already, and may be committed.
        if !self.failed {
            let (in_block, behind) = (self.kind == Kind::Block, !self.legs.is_empty());
            object(relay, parts, in_block, behind).await?;
        }
        if let Some(known) = self.group.last().filter(|_| !self.failed) {
            for (at, part) in parts.iter().enumerate() {
                take_turns(at).await;
                if is_named(part, relay.lexing) {
                    continue;
                }
                let told = read(relay, &known, part)?;
                let is_deed = deed(relay, part).is_some();
                if let Some(report) = unfit(relay, part, &told).filter(|_| !is_deed) {
                    return Err(report.into());
                }
                if let Told::Planned(statement) = told {
                    refused(&statement)?;
                }
            }
        }
        self.scripted = true;
        let outcome = self.each(relay, text, parts).await;
        self.scripted = false;
        outcome
    }

    async fn each(&mut self, relay: &mut Relay, text: &[u8], parts: &[&[u8]]) -> Result<(), Fault> {
        let mut left = parts.len();
        for part in parts {
            left -= 1;
            let done = match self.one(relay, part).await {
                Err(Fault::Said(message)) => {
                    let before = part.as_ptr() as usize - text.as_ptr() as usize;
                    return Err(Fault::Said(moved(&message, &text[..before])));
                }
                done => done?,
            };
            let ends = left == 0 && self.kind == Kind::Implicit && !self.legs.is_empty();
            if ends && !self.finish(relay, true).await? {
                return Err(uncommitted().into());
            }
            tell(relay, &done);
            if self.last_word.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Runs one of them, or the only one.
    pub(super) async fn one(&mut self, relay: &mut Relay, text: &[u8]) -> Result<Done, Fault> {
        match deed(relay, text) {
            Some(deed) => self.act(relay, text, deed).await,
            None => self.rows(relay, text, None, true).await,
        }
    }
}

/// Refuses a text one of whose statements cannot be run: it begins a block behind others that are none, or is of the
/// session and not supported here.
async fn object(
    relay: &Relay,
    parts: &[&[u8]],
    mut in_block: bool,
    mut behind: bool,
) -> Result<(), ErrorReport> {
    let mut reset = false;
    for (at, part) in parts.iter().enumerate() {
        take_turns(at).await;
        let deed = deed(relay, part);
        reset &= !matches!(deed, Some(Deed::Commit | Deed::Rollback));
        match deed {
            None if reset => {
                // It cannot be taken anew where that statement may have to go.
                let text =
                    "what comes behind RESET ALL in a text is not supported on a sharded database";
                return Err(unsupported(text).hint("Send it by itself."));
            }
            Some(Deed::Step(Step::ResetAll, _)) => (reset, behind) = (true, true),
            Some(Deed::Begin(_)) if behind && !in_block => return Err(begun_late()),
            Some(Deed::Begin(_)) => in_block = true,
            Some(Deed::Commit | Deed::Rollback) => (in_block, behind) = (false, false),
            Some(Deed::Other) => return Err(other()),
            _ => behind = true,
        }
    }
    Ok(())
}

/// Lets the other sessions have their turn before some of the statements of a text, by their numbers.
async fn take_turns(at: usize) {
    if at % TURN == TURN - 1 {
        tokio::task::yield_now().await;
    }
}

/// Says why a statement is refused whatever runs before it, if it is. A table that is not there may be made before.
fn refused(statement: &Statement) -> Result<(), Fault> {
    match statement.plan() {
        Plan::Refused(refusal) if matches!(refusal.code, "42601" | "0A000") => {
            Err(worded(refusal).into())
        }
        _ => Ok(()),
    }
}

/// An error whose place in a text is now one behind others.
pub(super) fn moved(message: &[u8], before: &[u8]) -> Box<[u8]> {
    let mut report = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
    let characters = std::str::from_utf8(before).map(|text| text.chars().count());
    for (field, value) in &mut report.others {
        if *field == Field::Position
            && let (Ok(at), Ok(more)) = (value.parse::<usize>(), &characters)
        {
            *value = (at + more).to_string();
        }
    }
    let mut said = bytes::BytesMut::new();
    report.encode_error(&mut said);
    said[..].into()
}
