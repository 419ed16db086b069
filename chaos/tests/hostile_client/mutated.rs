//! Conversations that were good once, to Postgres itself and to the proxy before it.
//!
//! `PGHERD_MUTATED_COUNT` runs more of them, `PGHERD_MUTATED_SEED` others.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use pgherd_chaos::hostile::mutated::{self, Framing, MARK, Mutated};
use pgherd_chaos::hostile::{Client, End, Message};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::postgres::pair;

const SEED: u64 = 20_260_730;
const COUNT: u64 = 300;
/// So many at a time: each takes a backend of its own, twice.
const LANES: u64 = 4;
/// After so many a client that does nothing wrong is served.
const BETWEEN: u64 = 25;
/// Within this each connection must be answered or ended.
const BOUND: Duration = Duration::from_secs(5);
/// Who says nothing for so long waits for more of a message. Postgres, when in doubt, is thought to.
const QUIET: Duration = Duration::from_millis(200);

/// Nobody who may leave anything in the database: `create temp table` with a word less is for both to be refused.
const PARAMETERS: [(&str, &str); 2] = [("user", "bob"), ("database", "postgres")];

/// How a conversation went.
#[derive(Debug)]
struct Talk {
    messages: Vec<Message>,
    end: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It got to the mark.
    Served,
    /// The other side ended it.
    Closed,
    /// The other side waited for more, and ended it when it heard that nothing more would come.
    Waited,
    /// It did not even do that.
    Stuck,
}

impl Talk {
    /// Says everything, and listens as long as it is not `quiet`.
    async fn with(address: SocketAddr, bytes: &[u8], quiet: Duration) -> Self {
        let mut client = Client::connect(address).await.unwrap();
        let welcome = client.authenticate("", &PARAMETERS).await;
        assert!(matches!(welcome.end, End::Ready(_)), "{welcome:?}");
        // It may be ended before all is said.
        let _ = client.send(bytes).await;
        let mut talk = Self {
            messages: Vec::new(),
            end: Ending::Closed,
        };
        if let Some(end) = talk.listen(&mut client, quiet).await {
            talk.end = end;
            return talk;
        }
        client.finish().await;
        let end = talk.listen(&mut client, BOUND).await;
        talk.end = match end {
            Some(Ending::Closed) => Ending::Waited,
            Some(end) => end,
            None => Ending::Stuck,
        };
        talk
    }

    /// Listens until the end, or the mark; `None` if nothing comes for so long.
    async fn listen(&mut self, client: &mut Client, quiet: Duration) -> Option<Ending> {
        loop {
            match timeout(quiet, client.message()).await {
                Err(_) => return None,
                Ok(Err(_) | Ok(None)) => return Some(Ending::Closed),
                Ok(Ok(Some(message))) => self.messages.push(message),
            }
            if self.is_marked() {
                return Some(Ending::Served);
            }
        }
    }

    fn is_marked(&self) -> bool {
        let marks = |message: &Message| {
            let mut windows = message.body.windows(MARK.len());
            message.tag == b'D' && windows.any(|window| window == MARK.as_bytes())
        };
        let is_ready = self.messages.last().is_some_and(|last| last.tag == b'Z');
        is_ready && self.messages.iter().any(marks)
    }

    /// The answers in short: tags, SQLSTATEs, and how transactions stand.
    fn brief(&self) -> Vec<String> {
        let word = |message: &Message| match message.tag {
            b'N' | b'S' => None,
            b'E' => Some(format!("E{}", message.field(b'C').unwrap_or_default())),
            b'Z' => Some(format!("Z{}", message.body.escape_ascii())),
            tag => Some(char::from(tag).to_string()),
        };
        self.messages.iter().filter_map(word).collect()
    }

    /// The code of the error that has ended it, if one did.
    fn fatal(&self) -> Option<String> {
        let last = self.messages.iter().rev().find(|it| it.tag == b'E')?;
        let is_fatal = last.field(b'V').as_deref() == Some("FATAL");
        is_fatal.then(|| last.field(b'C').unwrap_or_default())
    }
}

/// Whether the answers may differ by design, where Postgres gives these.
fn may_differ(case: &Mutated, direct: &[String]) -> bool {
    let fails_by = |code: &str| direct.iter().any(|word| word == code);
    let begins = case.bytes.windows(6).any(|window| window == b"begin\0");
    // A BEGIN that was put off (`pool.defer_begin`) runs in the unnamed portal, which is there then for whoever has bound
    // none.
    fails_by("E34000") && begins
        // A text in another encoding fails before it is a query for Postgres, and leaves the unnamed statement alone; here
        // it has been one.
        || fails_by("E22021")
}

/// What the proxy made of a conversation, where that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// All is as with Postgres, to the mark.
    Same,
    /// The proxy has ended it where Postgres went on.
    Stricter,
    /// Both have ended it, or waited for more.
    Ended,
}

/// Whether the client is told that its server is lost, with what it was to do, or with its transaction.
fn tells_of_loss(words: &[String]) -> bool {
    let tells = |word: &String| ["E08006", "E08007", "E40001"].contains(&word.as_str());
    words.iter().any(tells)
}

fn judge(case: &Mutated, direct: &Talk, proxied: &Talk) -> Result<Verdict, &'static str> {
    let (one, other) = (direct.brief(), proxied.brief());
    let has_failed = one.iter().any(|word| word.starts_with('E'));
    match (direct.end, proxied.end) {
        (Ending::Stuck, _) => Err("Postgres does not end"),
        (_, Ending::Stuck) => Err("it neither answers nor ends"),
        (Ending::Served, Ending::Served) => match one == other || may_differ(case, &one) {
            true => Ok(Verdict::Same),
            false => Err("the answers differ"),
        },
        // Messages are read whole and strictly here: also what Postgres throws away unread, behind an error or in a COPY,
        // and also where it says so and goes on. Good ones never end anything.
        (Ending::Served, Ending::Closed) => {
            let is_told = proxied.fatal().is_none_or(|code| code == "08P01");
            let is_thrown_away = has_failed || one.iter().any(|word| word == "G");
            match is_told && is_thrown_away && !case.is_well_formed {
                true => Ok(Verdict::Stricter),
                false => Err("it is ended, and Postgres goes on"),
            }
        }
        (Ending::Served, Ending::Waited) => Err("it waits, and Postgres goes on"),
        (Ending::Closed, Ending::Closed) => {
            // The class is Postgres' own, but where the end of its connection has taken a transaction with it.
            let same = match (direct.fatal(), proxied.fatal()) {
                (Some(one), Some(other)) => one.get(..2) == other.get(..2) || other == "40001",
                _ => true,
            };
            match same {
                true => Ok(Verdict::Ended),
                false => Err("it ends for another reason"),
            }
        }
        // It was the server that ended it, and a client that kept nothing there is told so and may go on.
        (Ending::Closed, Ending::Waited | Ending::Served) if tells_of_loss(&other) => {
            Ok(Verdict::Ended)
        }
        // A type that is not one, or may not come here, is enough for Postgres; here the message is awaited.
        (Ending::Closed, Ending::Waited) => match mutated::framing(&case.bytes) {
            Framing::Unfinished => Ok(Verdict::Ended),
            Framing::Whole | Framing::Impossible => Err("it waits, and Postgres ends"),
        },
        (Ending::Closed | Ending::Waited, Ending::Served) => Err("it goes on, and Postgres ends"),
        (Ending::Waited, Ending::Closed | Ending::Waited) => Ok(Verdict::Ended),
    }
}

/// A part of the corpus: the verdicts, and what is wrong.
async fn run(
    numbers: Range<u64>,
    seed: u64,
    direct: SocketAddr,
    proxy: SocketAddr,
) -> (Vec<Verdict>, Vec<String>) {
    let (mut verdicts, mut faults) = (Vec::new(), Vec::new());
    for number in numbers {
        let case = mutated::case(seed, number);
        let one = Talk::with(direct, &case.bytes, QUIET).await;
        // Where Postgres waits for more, or may, so may the proxy; else it has something to say.
        let waits = one.end == Ending::Waited;
        let unfinished = mutated::framing(&case.bytes) == Framing::Unfinished;
        let quiet = match waits || one.end == Ending::Closed && unfinished {
            true => QUIET,
            false => BOUND,
        };
        let other = Talk::with(proxy, &case.bytes, quiet).await;
        match judge(&case, &one, &other) {
            Ok(verdict) => verdicts.push(verdict),
            Err(why) => faults.push(format!(
                "{number} of seed {seed}, {:?}: {why}\n  {}\n  {:?} {}\n  {:?} {}",
                case.what,
                case.bytes.escape_ascii(),
                one.end,
                one.brief().join(" "),
                other.end,
                other.brief().join(" "),
            )),
        }
    }
    (verdicts, faults)
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_changed_on_its_way_ends_as_with_postgres() {
    let seed = variable("PGHERD_MUTATED_SEED", SEED);
    let count = variable("PGHERD_MUTATED_COUNT", COUNT);
    let settings = "[auth]\nmethod = \"trust\"\n[users.alice]\n[users.bob]\n";
    let (server, direct, mut proxy) = pair(settings).await;
    server.sql("create role bob login").await.unwrap();
    let address = proxy.address();
    let mut bystander = Client::login(address, "alice", "", "postgres")
        .await
        .unwrap();
    let (mut verdicts, mut faults) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < count {
        let end = count.min(next + LANES * BETWEEN);
        let mut lanes = JoinSet::new();
        while next < end {
            let part = next..end.min(next + BETWEEN);
            next = part.end;
            lanes.spawn(run(part, seed, direct, address));
        }
        while let Some(lane) = lanes.join_next().await {
            let (right, wrong) = lane.unwrap();
            verdicts.extend(right);
            faults.extend(wrong);
        }
        let served = bystander.query("select 'served'").await;
        assert_eq!(served.value().as_deref(), Some("served"), "{served:?}");
        assert_eq!(proxy.fault(), None);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // A proxy that ends everything, or takes everything, would be found out.
    let of = |wanted| verdicts.iter().filter(|it| **it == wanted).count();
    let (same, stricter, ended) = (of(Verdict::Same), of(Verdict::Stricter), of(Verdict::Ended));
    let all = verdicts.len();
    assert!(
        same > all / 4 && ended > all / 10 && stricter < all / 3,
        "{same} the same, {stricter} ended by the proxy alone, {ended} by both"
    );
}
