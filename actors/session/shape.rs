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
        return;
    };
    let body = &server.flow.unjudged()[frame::HEADER_LEN..total];
    let mut hasher = DefaultHasher::new();
    if message == tag::PARAMETER_DESCRIPTION {
        body.hash(&mut hasher);
        turn.parameters_shape = hasher.finish();
        return;
    }
    turn.parameters_shape.hash(&mut hasher);
    if message == tag::ROW_DESCRIPTION {
        columns(body, &mut hasher);
    }
    let shape = Shape(hasher.finish());
    server.statements.described(described.placed, shape);
    if hidden {
        turn.check = Check::Done(described.placed);
        return;
    }
    let client = turn.relay.statements.as_deref();
    let held = client.and_then(|client| client.get(&described.name));
    // The client has not been told so before it is: until then it may be told something else.
    let retold = held.is_some_and(|held| held.shape.is_some_and(|told| told != shape));
    if let Some(client) = turn.relay.statements.as_deref_mut() {
        client.described(&described.name, described.placed.id, shape);
    }
    if retold {
        attempt::end(turn);
    }
}

/// The shape of a statement, by the bodies of what describes its parameters and its columns.
pub(super) fn of(parameters: &[u8], described: Option<&[u8]>) -> Shape {
    let mut hasher = DefaultHasher::new();
    parameters.hash(&mut hasher);
    let parameters = hasher.finish();
    let mut hasher = DefaultHasher::new();
    parameters.hash(&mut hasher);
    if let Some(body) = described {
        columns(body, &mut hasher);
    }
    Shape(hasher.finish())
}

/// What Postgres compares of the columns of a plan before it uses it (`equalTupleDescs`), as far as
/// it is told: not which table they are of.
fn columns(body: &[u8], hasher: &mut DefaultHasher) {
    let Ok(row) = RowDescription::parse(body) else {
        // It equals nothing but itself.
        return body.hash(hasher);
    };
    1.hash(hasher);
    for column in row.columns() {
        (column.name, column.type_oid, column.size, column.modifier).hash(hasher);
    }
}
