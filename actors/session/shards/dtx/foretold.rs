//! What a server would say of a statement before it ran. Of one that is not run as it is written, but in several steps,
//! the client hears that first: of types, of rights, and what its parameters are.

use pgherd_session::Flow;
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame;

use super::{Dtx, Fault};
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::request::{Bound, mentions, put, too_long};
use crate::session::shards::start::{Through, describe};

/// What stands before a statement that is not to be run.
const EXPLAIN: &str = "EXPLAIN ";

impl Dtx {
    /// Has a shard look at a statement of the client's, in which the time may be a parameter: its number, and its value.
    /// What is bound has the types of that then, and the time.
    pub(super) async fn foretell(
        &mut self,
        relay: &mut Relay,
        (shard, whole, now): (u16, &str, Option<(u32, Vec<u8>)>),
        bound: &mut Bound,
        deadlines: &Deadlines,
    ) -> Result<(), Fault> {
        let now = now.as_ref();
        let now = now.map(|(number, time)| (*number, time.as_slice()));
        let mut legs = self.pick(&[shard]);
        let end = match legs.first_mut() {
            Some(leg) => foretold(relay, leg, whole, bound, now, deadlines).await,
            None => return Err(self.lost("it is gone")),
        };
        let end = end.err().unwrap_or(End::Answered);
        self.ended(relay, legs, end).await
    }
}

async fn foretold(
    relay: &mut Relay,
    home: &mut Leg,
    whole: &str,
    bound: &mut Bound,
    now: Option<(u32, &[u8])>,
    deadlines: &Deadlines,
) -> Result<(), End> {
    home.lease.touched = true;
    if !bound.is_typed() {
        let types = bound.types.clone();
        describe(relay, home, whole.as_bytes(), &types, deadlines).await?;
        if let Some(described) = &home.parameters {
            bound.typed(&described[frame::HEADER_LEN..]);
        }
    }
    // Where the time was put in for a default, the client's own text has it not.
    let (said, unsaid) = match now {
        Some((number, _)) if !mentions(whole.as_bytes(), number as usize) => (None, now),
        now => (now, None),
    };
    let take = |bound: &mut Bound, now: Option<(u32, &[u8])>| match now {
        Some((number, time)) => bound
            .at(number, time)
            .map_err(|report| End::Stopped(Box::new(report))),
        None => Ok(()),
    };
    take(bound, said)?;
    let text = format!("{EXPLAIN}{whole}");
    let built = put(home, text.as_bytes(), bound, &[], true);
    built.map_err(|error| End::Stopped(too_long(error)))?;
    home.begin();
    let legs = std::slice::from_mut(home);
    let end = gather(relay, legs, &mut Through, deadlines).await;
    // What it remarks on, it does again.
    home.lease.flow.hand_over(&mut Flow::default());
    match end {
        End::Answered => take(bound, unsaid),
        End::Failed(message) => Err(End::Failed(of_the_text(&message, said.is_none()))),
        end => Err(end),
    }
}

/// What was said of the text with EXPLAIN before it, as it is said of the text. Places are left out if that is not the
/// client's.
fn of_the_text(message: &[u8], is_own: bool) -> Box<[u8]> {
    let mut report = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
    report.others.retain_mut(|(field, text)| {
        if *field != Field::Position {
            return true;
        }
        let place = text.parse::<usize>().ok();
        let place = place.and_then(|place| place.checked_sub(EXPLAIN.len()));
        *text = place.unwrap_or_default().to_string();
        is_own && place.is_some()
    });
    let mut said = bytes::BytesMut::new();
    report.encode_error(&mut said);
    said[..].into()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::error::{ErrorReport, Field};
    use pgherd_wire::{frame, sqlstate};

    use super::of_the_text;

    #[test]
    fn places_are_those_of_the_clients_text() {
        let mut report = ErrorReport::error(sqlstate::SYNTAX_ERROR, "x");
        report.others.push((Field::Position, "15".into()));
        let mut said = BytesMut::new();
        report.encode_error(&mut said);
        for (is_own, place) in [(true, Some("7")), (false, None)] {
            let told = of_the_text(&said, is_own);
            let told = ErrorReport::parse(&told[frame::HEADER_LEN..]);
            assert_eq!(told.other(Field::Position), place);
        }
    }
}
