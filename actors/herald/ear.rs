//! What a listening session has heard and not told its client yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::BytesMut;
use parking_lot::Mutex;
use pgherd_wire::backend;
use pgherd_wire::error::{ErrorReport, Severity};
use pgherd_wire::sqlstate;

use crate::control::{Control, Order};
use crate::herald::audience::Circle;
use crate::herald::table::{Channel, Hear, Note};

/// How much may wait for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Notifications.
    pub count: usize,
    /// Their channels' names and payloads, in bytes.
    pub bytes: usize,
}

/// The queue of one session, and how the session is woken.
#[derive(Debug)]
pub struct Ear {
    control: Arc<Control>,
    circle: Arc<Circle>,
    room: Room,
    heard: Mutex<Heard>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Heard {
    words: VecDeque<Word>,
    bytes: usize,
}

#[derive(Debug)]
enum Word {
    Note { note: Arc<Note>, from: i32 },
    Missed,
}

/// A client whose parameters do not let it read a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a notification cannot be converted to the client's encoding")]
pub struct Unreadable;

impl Ear {
    /// An empty queue for the session of `control`, in a pool of these.
    pub fn new(control: Arc<Control>, circle: Arc<Circle>, room: Room) -> Self {
        Self {
            control,
            circle,
            room,
            heard: Mutex::default(),
            waker: AtomicWaker::new(),
        }
    }

    /// The session.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Those of its pool.
    pub fn circle(&self) -> &Arc<Circle> {
        &self.circle
    }

    /// Has the task of the context woken by the next event.
    pub fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Ready when there is something to tell the client.
    pub fn poll_heard(&self, cx: &Context<'_>) -> Poll<()> {
        self.register(cx);
        if self.heard.lock().words.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Writes everything that was heard as messages for the client. One that does not have the
    /// server's encoding (`alike`) can be told what is ASCII.
    ///
    /// # Errors
    /// Something else is to be told to such a client; what comes before it is written.
    pub fn tell(&self, out: &mut BytesMut, alike: bool) -> Result<(), Unreadable> {
        let heard = std::mem::take(&mut *self.heard.lock());
        for word in heard.words {
            match word {
                Word::Note { note, from } => {
                    let ascii = note.channel.is_ascii() && note.payload.is_ascii();
                    if !alike && !ascii {
                        return Err(Unreadable);
                    }
                    // It came in one message, and so fits into one.
                    let _ = backend::notification(out, from, &note.channel, &note.payload);
                }
                Word::Missed => missed().encode_notice(out),
            }
        }
        Ok(())
    }
}

impl Hear for Arc<Ear> {
    fn hear(&self, note: &Arc<Note>, from: i32) -> bool {
        let mut heard = self.heard.lock();
        let bytes = heard.bytes + note.weight();
        if heard.words.len() >= self.room.count || bytes > self.room.bytes {
            return false;
        }
        heard.bytes = bytes;
        heard.words.push_back(Word::Note {
            note: Arc::clone(note),
            from,
        });
        drop(heard);
        self.circle.delivered();
        self.waker.wake();
        true
    }

    fn has_room(&self, count: usize, bytes: usize) -> bool {
        let heard = self.heard.lock();
        heard.words.len() + count <= self.room.count && heard.bytes + bytes <= self.room.bytes
    }

    fn missed(&self) {
        let mut heard = self.heard.lock();
        if !matches!(heard.words.back(), Some(Word::Missed)) {
            heard.words.push_back(Word::Missed);
        }
        drop(heard);
        self.waker.wake();
    }

    fn forget(&self, channel: Option<&Channel>) {
        let mut heard = self.heard.lock();
        let Heard { words, bytes } = &mut *heard;
        words.retain(|word| match word {
            Word::Note { note, .. } if channel.is_none_or(|own| *own == note.channel) => {
                *bytes -= note.weight();
                false
            }
            _ => true,
        });
    }

    fn wake(&self) {
        self.waker.wake();
    }
}

impl Ear {
    /// Sends the session away that had no room for a notification: it would miss it.
    pub fn overflow(&self) {
        *self.heard.lock() = Heard::default();
        let limit = format!(
            "{} notifications or {} bytes of them were waiting, as many as may.",
            self.room.count, self.room.bytes
        );
        let report = ErrorReport::fatal(
            sqlstate::CONFIGURATION_LIMIT_EXCEEDED,
            "terminating connection because the client is too slow to take its notifications",
        )
        .detail(limit)
        .hint("The limits are max_waiting and max_waiting_bytes.");
        self.control.order(Order::Terminate, report);
    }
}

/// What a client is told after its server's notifications could not be heard for a while.
fn missed() -> ErrorReport {
    ErrorReport::new(
        Severity::Notice,
        sqlstate::WARNING,
        "notifications may have been lost",
    )
    .detail("The server connection that listens for this session was lost, and is there again.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;

    use super::{Ear, Room, Unreadable};
    use crate::control::Control;
    use crate::herald::table::{Hear as _, Note};

    fn ear(room: Room) -> Arc<Ear> {
        let control = Control::new(1, pgherd_net::Killer::default());
        Arc::new(Ear::new(Arc::new(control), Arc::default(), room))
    }

    fn note(channel: &str, payload: &str) -> Arc<Note> {
        Arc::new(Note {
            channel: channel.as_bytes().into(),
            payload: payload.as_bytes().into(),
        })
    }

    #[test]
    fn both_bounds_hold_and_what_is_forgotten_makes_room() {
        let ear = ear(Room { count: 2, bytes: 8 });
        assert!(ear.hear(&note("a", "12"), 1));
        assert!(!ear.hear(&note("b", "12345678"), 1), "too many bytes");
        assert!(ear.hear(&note("b", "12"), 1));
        assert!(!ear.hear(&note("b", ""), 1), "too many");
        ear.forget(Some(&b"a"[..].into()));
        assert!(ear.hear(&note("b", "1234"), 1));
        assert!(!ear.has_room(1, 0));
        ear.forget(None);
        assert!(ear.has_room(2, 8) && !ear.has_room(2, 9) && !ear.has_room(3, 0));
    }

    #[test]
    fn only_ascii_is_told_across_encodings() {
        let ear = ear(Room {
            count: 9,
            bytes: 99,
        });
        for (payload, alike, told) in [
            ("é", true, Ok(())),
            ("e", false, Ok(())),
            ("é", false, Err(Unreadable)),
        ] {
            assert!(ear.hear(&note("a", payload), 1));
            assert_eq!(ear.tell(&mut BytesMut::new(), alike), told, "{payload}");
        }
    }
}
