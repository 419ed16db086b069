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

/// The parameters and the columns as a leg has described them.
fn shape_of(home: &Leg) -> Shape {
    let body = |message: &[u8]| {
        message
            .get(frame::HEADER_LEN..)
            .unwrap_or_default()
            .to_vec()
    };
    let parameters = home.parameters.as_deref().map(body).unwrap_or_default();
    let columns = home.columns.as_deref().map(body);
    shape::of(&parameters, columns.as_deref())
}

/// Takes note of what the client is told of a statement.
pub(super) fn learn(relay: &mut Relay, name: &[u8], home: &Leg) {
    let known = relay.statements.as_deref();
    let id = known.and_then(|known| Some(known.get(name)?.statement.id));
    if let (Some(id), Some(statements)) = (id, relay.statements.as_deref_mut()) {
        statements.described(name, id, shape_of(home));
    }
}

/// Looks whether a statement is still what its client was told that it is. As long as the schemas are the same,
/// it is.
pub(in crate::session::shards) async fn check(
    relay: &mut Relay,
    legs: &mut [Leg],
    statement: &[u8],
    request: &Request,
    deadlines: &Deadlines,
) -> Result<(), End> {
    let known = relay.statements.as_deref();
    let held = known.and_then(|known| known.get(statement));
    let Some((told, id)) = held.and_then(|held| Some((held.shape?, held.statement.id))) else {
        return Ok(());
    };
    let schemas = request.schemas;
    let spread = relay.spread.as_deref();
    if spread.is_some_and(|spread| spread.checked.get(&id) == Some(&schemas)) {
        return Ok(());
    }
    let types = request.types().to_vec();
    let mut same = false;
    // Types that users have made have the numbers of the shard that it was told by, which may be any.
    for leg in legs.iter_mut() {
        describe(relay, leg, &request.original, &types, deadlines).await?;
        same = shape_of(leg).fits(told);
        if same {
            break;
        }
    }
    if !same {
        return Err(refused(statements::reshaped()));
    }
    if let Some(spread) = relay.spread.as_deref_mut() {
        if spread.checked.len() >= CHECKED_MAX {
            spread.checked.clear();
        }
        spread.checked.insert(id, schemas);
    }
    Ok(())
}
