//! Placeholder of the lead so that the crate compiles; to be overwritten by the console's author.
use std::sync::Arc;
/// Placeholder.
pub async fn serve(
    _stream: pgherd_net::Stream,
    _input: bytes::BytesMut,
    _role: pgherd_config::Role,
    _facts: Arc<crate::facts::Facts>,
    _control: Arc<crate::control::Control>,
) -> crate::session::Bye {
    crate::session::Bye::Left
}
