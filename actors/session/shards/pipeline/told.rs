//! What a client was told of a statement, by which alone it may decode rows.

use pgherd_session::Shape;
use pgherd_wire::frame;

use super::refused;
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, End};
use crate::session::shards::legs::Leg;
use crate::session::shards::request::Request;
use crate::session::shards::start::describe;
use crate::session::{shape, statements};

/// So many statements are known to be as their client was told; then all are looked at anew.
const CHECKED_MAX: usize = 1024;

/// A statement that its client has prepared by a name.
pub(in crate::session::shards) struct Prepared<'a> {
    pub(in crate::session::shards) name: &'a [u8],
    pub(in crate::session::shards) text: &'a [u8],
    /// The types that its parameters were given.
    pub(in crate::session::shards) types: &'a [u32],
    /// The number of the schemas by which it is run now.
    pub(in crate::session::shards) schemas: u64,
}

impl<'a> Prepared<'a> {
    /// One that is asked of several shards.
    pub(in crate::session::shards) fn of(name: &'a [u8], request: &'a Request) -> Self {
        Self {
            name,
            text: &request.original,
            types: request.types(),
            schemas: request.schemas,
        }
    }
}

/// The shape that is described by these messages, or by none where there are no parameters or columns.
fn shape_of(parameters: Option<&[u8]>, columns: Option<&[u8]>) -> Shape {
    let body = |message: &'_ [u8]| {
        message
            .get(frame::HEADER_LEN..)
            .unwrap_or_default()
            .to_vec()
    };
    let parameters = parameters.map(body).unwrap_or_default();
    let columns = columns.map(body);
    shape::of(&parameters, columns.as_deref())
}

/// Takes note of what the client is told of a statement, by the messages that it gets.
pub(in crate::session::shards) fn learn(
    relay: &mut Relay,
    name: &[u8],
    parameters: Option<&[u8]>,
    columns: Option<&[u8]>,
) {
    let known = relay.statements.as_deref();
    let id = known.and_then(|known| Some(known.get(name)?.statement.id));
    if let (Some(id), Some(statements)) = (id, relay.statements.as_deref_mut()) {
        statements.described(name, id, shape_of(parameters, columns));
    }
}

/// What the client was told of a statement, if that may not be so any more, and its number. As long as the schemas are
/// the same, it is.
fn doubtful(relay: &Relay, prepared: &Prepared<'_>) -> Option<(Shape, u64)> {
    let held = relay.statements.as_deref()?.get(prepared.name)?;
    let (told, id) = (held.shape?, held.statement.id);
    let checked = relay.spread.as_deref()?.checked.get(&id);
    (checked != Some(&prepared.schemas)).then_some((told, id))
}

/// Whether one of these describes a statement as its client was told that it is.
pub(in crate::session::shards) async fn is_as_told(
    relay: &mut Relay,
    legs: &mut [Leg],
    prepared: &Prepared<'_>,
    deadlines: &Deadlines,
) -> Result<bool, End> {
    let Some((told, id)) = doubtful(relay, prepared) else {
        return Ok(true);
    };
    // Types that users have made have the numbers of the shard that it was told by, which may be any.
    for leg in legs.iter_mut() {
        describe(relay, leg, prepared.text, prepared.types, deadlines).await?;
        if shape_of(leg.parameters.as_deref(), leg.columns.as_deref()) != told {
            continue;
        }
        if let Some(spread) = relay.spread.as_deref_mut() {
            if spread.checked.len() >= CHECKED_MAX {
                spread.checked.clear();
            }
            spread.checked.insert(id, prepared.schemas);
        }
        return Ok(true);
    }
    Ok(false)
}

/// Refuses a statement that is not any more what its client was told that it is.
pub(in crate::session::shards) async fn check(
    relay: &mut Relay,
    legs: &mut [Leg],
    prepared: &Prepared<'_>,
    deadlines: &Deadlines,
) -> Result<(), End> {
    match is_as_told(relay, legs, prepared, deadlines).await? {
        true => Ok(()),
        false => Err(refused(statements::reshaped())),
    }
}
