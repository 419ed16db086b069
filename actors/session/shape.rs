//! What a server says of a statement that it describes, kept for telling whether another server, or
//! a later reading, gives the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgherd_session::Shape;
use pgherd_wire::backend::{RowDescription, tag};
use pgherd_wire::frame;

use crate::session::attempt;
use crate::session::turn::{Check, Turn};

/// Takes note of a part of a description, if it is that of a statement with a name.
pub(super) fn learn(turn: &mut Turn<'_>, message: u8, total: usize) {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let Some((described, hidden)) = server.exchange.describing() else {
        return learn_by_portal(turn, message, total);
    };
    let body = &server.flow.unjudged()[frame::HEADER_LEN..total];
    let mut hasher = DefaultHasher::new();
    if message == tag::PARAMETER_DESCRIPTION {
        body.hash(&mut hasher);
        turn.parameters_shape = hasher.finish();
        return;
    }
    let shape = Shape {
        parameters: Some(turn.parameters_shape),
        columns: columns((message == tag::ROW_DESCRIPTION).then_some(body)),
    };
    server.statements.described(described.placed, shape);
    if hidden {
        turn.check = Check::Done(described.placed);
        return;
    }
    let client = turn.relay.statements.as_deref();
    let held = client.and_then(|client| client.get(&described.name));
    // The client has not been told so before it is: until then it may be told something else.
    let retold = held.is_some_and(|held| held.shape.is_some_and(|told| !told.fits(shape)));
    if let Some(client) = turn.relay.statements.as_deref_mut() {
        client.described(&described.name, described.placed.id, shape);
    }
    if retold {
        attempt::end(turn);
    }
}

/// Takes note of what a portal gives, if its statement has a name: its client may ask no more, and go by that.
fn learn_by_portal(turn: &mut Turn<'_>, message: u8, total: usize) {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let Some(described) = server.exchange.describing_portal() else {
        return;
    };
    let body = &server.flow.unjudged()[frame::HEADER_LEN..total];
    let shape = Shape {
        parameters: None,
        columns: columns((message == tag::ROW_DESCRIPTION).then_some(body)),
    };
    server
        .statements
        .described_by_portal(described.placed, shape);
    if let Some(client) = turn.relay.statements.as_deref_mut() {
        client.described_by_portal(&described.name, described.placed.id, shape);
    }
}

/// The shape of a statement, by the bodies of what describes its parameters and its columns.
pub(super) fn of(parameters: &[u8], described: Option<&[u8]>) -> Shape {
    let mut hasher = DefaultHasher::new();
    parameters.hash(&mut hasher);
    Shape {
        parameters: Some(hasher.finish()),
        columns: columns(described),
    }
}

/// What Postgres compares of the columns of a plan before it uses it (`equalTupleDescs`), as far as
/// it is told: not which table they are of.
fn columns(described: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match described.map(|body| (body, RowDescription::parse(body))) {
        None => {}
        Some((_, Ok(row))) => {
            1.hash(&mut hasher);
            for column in row.columns() {
                (column.name, column.type_oid, column.size, column.modifier).hash(&mut hasher);
            }
        }
        // It equals nothing but itself.
        Some((body, Err(_))) => body.hash(&mut hasher),
    }
    hasher.finish()
}
