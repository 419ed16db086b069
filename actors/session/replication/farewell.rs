//! The last words to a client.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_session::Flow;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::{ErrorReport, Severity};
use pgherd_wire::{backend, frame, frontend};
use tokio::io::AsyncWriteExt as _;

/// How long a client may take for what waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited after that for the client to hang up.
const LINGER: Duration = Duration::from_millis(500);

/// Sends what waits and closes the connection. The client's own words are read to the end or for a
/// moment: with some of them unread the system would reset the connection, and what was just sent
/// would be lost. A client that is gone, or takes nothing, needs no farewell.
pub(super) async fn say(mut client: Stream, mut waiting: impl Buf) {
    let sent = async {
        poll_fn(|cx| poll_write_from(&mut client, cx, &mut waiting)).await?;
        client.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, sent).await {
        let _ = tokio::time::timeout(LINGER, ignore(&mut client)).await;
    }
}

/// Ends a stream behind what waits in `down`, and the connection. `up` is where the client's words
/// stand; `None` if it has ended its half already.
pub(super) async fn end_stream(
    mut client: Stream,
    mut down: Flow,
    up: Option<Flow>,
    report: &ErrorReport,
) {
    let mut notice = report.clone();
    notice.severity = Severity::Warning;
    notice.encode_notice(down.made());
    backend::copy_done(down.made());
    let answered = async {
        poll_fn(|cx| poll_write_from(&mut client, cx, &mut down)).await?;
        match up {
            Some(up) => read_to_copy_done(&mut client, up).await,
            None => Ok(()),
        }
    };
    // Without the client's consent the answer is not owed to it.
    let mut end = BytesMut::new();
    if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, answered).await {
        let built = backend::command_complete(&mut end, b"COPY 0");
        debug_assert!(built.is_ok(), "the tag is short");
        backend::ready_for_query(&mut end, TransactionStatus::Idle);
    }
    say(client, end).await;
}

/// Reads until the client has ended its half of the stream.
async fn read_to_copy_done(client: &mut Stream, mut up: Flow) -> io::Result<()> {
    // What was sent on already was sent to a server that is gone.
    up.discard();
    loop {
        while up.resume() {
            let Some(header) = frame::header(up.unjudged()).map_err(io::Error::other)? else {
                break;
            };
            match header.tag {
                frontend::tag::COPY_DONE => return Ok(()),
                frontend::tag::TERMINATE => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
            up.hide(header.total());
        }
        if poll_fn(|cx| poll_read_into(client, cx, &mut up.buffer, 4096)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads to the end of the client's words.
async fn ignore(client: &mut Stream) {
    let mut ignored = BytesMut::new();
    loop {
        ignored.clear();
        match poll_fn(|cx| poll_read_into(client, cx, &mut ignored, 4096)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
