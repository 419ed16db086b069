//! Counts what lies in mailboxes, for tests that hold the budget of messages. It counts for the whole process.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write as _};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// How often each message was heard, by the names of the actor and of the message.
pub type Census = BTreeMap<String, u64>;

static HEARD: Mutex<Census> = Mutex::new(BTreeMap::new());

/// What the actors of this process have heard so far: messages, and the ends and beginnings of their children. A
/// message counts when its actor begins to handle it.
pub fn heard() -> Census {
    HEARD.lock().clone()
}

fn count<A>(what: &str) {
    let name = format!("{} {what}", short(type_name::<A>()));
    *HEARD.lock().entry(name).or_default() += 1;
}

/// The name of a type without the paths in it.
fn short(name: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut short = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        short.push_str(path.rsplit("::").next().unwrap_or(path));
        let gap = after.find(is_part).unwrap_or(after.len());
        short.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    short
}

/// Takes the first word of what is written, and refuses the rest, so that no message is written out whole.
#[derive(Default)]
struct FirstWord(String);

impl FirstWord {
    fn of(what: &dyn Debug) -> String {
        let mut word = Self::default();
        // It ends with an error, unless what is written is but a word.
        let _ = write!(word, "{what:?}");
        word.0
    }
}

impl fmt::Write for FirstWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(|c: char| !c.is_alphanumeric());
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        match end {
            Some(_) => Err(fmt::Error),
            None => Ok(()),
        }
    }
}

/// An actor as it is, but counted.
pub(crate) struct Counted<A>(pub(crate) A);

impl<A: Actor> Actor for Counted<A>
where
    A::Msg: Debug,
{
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        self.0.pre_start(myself, arguments).await
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.0.post_start(myself, state).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.0.post_stop(myself, state).await
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        count::<A>(&FirstWord::of(&message));
        self.0.handle(myself, message, state).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let what = match &event {
            SupervisionEvent::ActorStarted(_) => "child started",
            _ => "child ended",
        };
        count::<A>(what);
        self.0.handle_supervisor_evt(myself, event, state).await
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstWord, heard, short};
    use crate::probe::{Journal, Order, Probe};
    use crate::{SupervisorSpec, run_root};

    #[test]
    fn names_are_short() {
        assert_eq!(short("Pool"), "Pool");
        assert_eq!(short("a::b::Tasked<c::d::Session>"), "Tasked<Session>");
        assert_eq!(short("a::B<c::D, e::F<g::H>>"), "B<D, F<H>>");
        assert_eq!(FirstWord::of(&Some("secret")), "Some");
    }

    #[tokio::test]
    async fn each_message_counts() {
        let journal = Journal::default();
        let probe = Probe::new("counted", &journal);
        let _root = run_root(SupervisorSpec::new("root").child(probe.spec()))
            .await
            .unwrap();
        let count = || heard().get("Probe Note").copied().unwrap_or_default();
        let before = count();
        for _ in 0..5 {
            probe.order(Order::Note("heard"));
        }
        journal.until("counted heard", 5).await;
        // Other tests of this process may add to it.
        assert!(count() >= before + 5);
    }
}
