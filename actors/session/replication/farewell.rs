//! The last words to a client.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_wire::backend;
use pgherd_wire::error::{ErrorReport, Severity};
use tokio::io::AsyncWriteExt as _;

use crate::session::replication::phase::Leave;

/// How long a client may take for what waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited after that for the client to hang up.
const LINGER: Duration = Duration::from_millis(500);

/// Appends what ends the session with this report.
pub(super) fn words(out: &mut BytesMut, leave: Leave, report: &ErrorReport) {
    match leave {
        Leave::Fatal => report.encode_error(out),
        Leave::Stream => {
            let mut notice = report.clone();
            notice.severity = Severity::Warning;
            notice.encode_notice(out);
            let built = backend::command_complete(out, b"COPY 0");
            debug_assert!(built.is_ok(), "the tag is short");
        }
    }
}

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
