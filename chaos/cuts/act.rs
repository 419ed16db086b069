//! One case: a conversation that is cut, and what is to be seen afterwards.

use super::case::{Case, Direction, Side, Way};
use super::flow::{Flow, Kind, Round, Script};
use super::judge::{self, Presence};
use super::relay::{Cut, Passed, Relay, Target};
use super::stage::{Lane, PROVEN, TRUSTED};
use super::talk::{self, Ending, Reply, Talk};
use crate::checks::{Check, Wrong};
use crate::hostile::{Message, packet};

/// What a conversation came to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The rounds that were begun, each in a word.
    pub(super) outcomes: Vec<String>,
    /// What was heard in them.
    pub(super) replies: Vec<Reply>,
    /// What passed the relay of the side that is cut.
    pub(super) passed: Vec<Passed>,
    /// It was cut.
    pub(super) struck: bool,
    /// What is not as it must be.
    pub(super) faults: Vec<Wrong>,
}

/// A conversation that is to be led.
pub(super) struct Act<'a> {
    pub(super) lane: &'a Lane,
    pub(super) flow: &'a Flow,
    /// What makes all of it this conversation's own.
    pub(super) id: String,
    pub(super) side: Side,
    /// How it is cut, if it is.
    pub(super) case: Option<Case>,
}

impl Act<'_> {
    /// Leads it through pgherd, and looks at everything then.
    pub(super) async fn run(&self, direct: &[Vec<Message>]) -> Seen {
        let script = (self.flow.script)(&self.id);
        let mut seen = Seen::default();
        self.lane.behind.hang_up(true);
        self.lane.before.hang_up(true);
        let talk = match self.open(&script).await {
            Ok(talk) => talk,
            Err(fault) => {
                let what = format!("before the cut: {fault}");
                seen.faults.push(Check::NextClient.caught(what));
                return seen;
            }
        };
        let talk = self.lead(talk, &script, &mut seen).await;
        seen.struck = *self.relay().struck().borrow();
        if let Err(fault) = self.clear(talk).await {
            seen.faults.push(Check::Leak.caught(fault));
        }
        self.judge(&script, direct, &mut seen);
        if let Err(fault) = self.account(&script, &seen).await {
            seen.faults.push(Check::Rows.caught(fault));
        }
        if let Err(fault) = self.next().await {
            let what = format!("the next client: {fault}");
            seen.faults.push(Check::NextClient.caught(what));
        }
        seen
    }

    fn logs_in(&self) -> bool {
        self.flow.name == "login"
    }

    /// That of the side that is cut.
    fn relay(&self) -> &Relay {
        match self.side {
            Side::Client => &self.lane.before,
            Side::Server => &self.lane.behind,
        }
    }

    fn user(&self) -> &'static str {
        if self.logs_in() { PROVEN } else { TRUSTED }
    }

    /// Arms the relay of the side that is cut.
    fn arm(&self) {
        let cut = self.case.map(|case| Cut {
            direction: case.direction,
            at: case.at,
            way: case.way,
        });
        let target = match self.side {
            Side::Client => self.flow.client,
            Side::Server => self.flow.server,
        };
        self.relay().watch(target, cut);
    }

    /// Tells when the client's own connection falls silent, if that is what happens.
    fn silence(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        let own = self.side == Side::Client && self.flow.client != Target::Cancel;
        let silent = self.case.is_some_and(|case| case.way == Way::Silence);
        (own && silent).then(|| self.lane.before.struck())
    }

    /// Comes up to the point from which on messages are counted: a client that logs in has not begun then.
    async fn open(&self, script: &Script) -> Result<Option<Talk>, String> {
        if self.logs_in() {
            self.arm();
            return Ok(None);
        }
        let mut talk = self.enter().await?;
        fine(&talk.ask(packet::query("select 0")).await)?;
        for before in &script.before {
            fine(&talk.ask(before.clone()).await)?;
            self.lane.behind.hang_up(true);
            // Another server connection is there before anything is counted.
            let mut other = self.enter().await?;
            fine(&other.ask(packet::query("select 0")).await)?;
        }
        self.lane.quiet().await?;
        self.arm();
        if let Some(silence) = self.silence() {
            talk.falls_silent(silence);
        }
        Ok(Some(talk))
    }

    async fn enter(&self) -> Result<Talk, String> {
        let address = self.lane.before.address();
        let entered = talk::login(address, self.user(), &self.lane.database, None).await;
        let entered = entered.map_err(|error| error.to_string())?;
        entered.map_err(|reply| format!("{:?}", reply.messages))
    }

    /// Leads the conversation to its end, or to its first failure and through what a client does then.
    async fn lead(&self, talk: Option<Talk>, script: &Script, seen: &mut Seen) -> Option<Talk> {
        let mut talk = match talk {
            Some(talk) => talk,
            None => {
                let address = self.lane.before.address();
                let (user, database) = (self.user(), &self.lane.database);
                match talk::login(address, user, database, self.silence()).await {
                    Ok(Ok(talk)) => talk,
                    Ok(Err(reply)) => {
                        seen.outcomes
                            .push(judge::outcome(&script.rounds[0], &reply));
                        seen.replies.push(reply);
                        return None;
                    }
                    Err(error) => {
                        seen.faults.push(Check::Answer.caught(error.to_string()));
                        return None;
                    }
                }
            }
        };
        let mut failed = false;
        for round in &script.rounds {
            let reply = talk.perform(round).await;
            let outcome = judge::outcome(round, &reply);
            failed = !judge::is_ok(&outcome);
            seen.outcomes.push(outcome);
            seen.replies.push(reply);
            if failed {
                break;
            }
        }
        let last = seen
            .replies
            .last()
            .map(|reply| (reply.ending, reply.status()));
        // Where the conversation ends, there is no more to be cut.
        seen.passed = self.relay().passed();
        let alive = matches!(last, Some((Ending::Met | Ending::Over, Some(_)))) || !failed;
        if self.side == Side::Server && alive {
            let round = seen.outcomes.len().checked_sub(1);
            let kind = round
                .and_then(|last| script.rounds.get(last))
                .map(|round| round.kind);
            let status = last.and_then(|(_, status)| status);
            if let Err(fault) = self.go_on(&mut talk, failed, kind, status).await {
                let what = format!("the session does not go on: {fault}");
                seen.faults.push(Check::GoesOn.caught(what));
            }
        }
        Some(talk)
    }

    /// A session that was told of a loss is there all the same.
    async fn go_on(
        &self,
        talk: &mut Talk,
        failed: bool,
        kind: Option<Kind>,
        status: Option<u8>,
    ) -> Result<(), String> {
        let way = self.case.map(|case| case.way);
        talk.cancelled().await;
        if failed {
            let block = matches!(kind, Some(Kind::Begin | Kind::Inside));
            let wanted = if block { b'E' } else { b'I' };
            // What reached the server garbled is no COMMIT and no BEGIN.
            if status != Some(wanted) && way != Some(Way::Garbage) {
                let status = status.map(char::from);
                return Err(format!("{kind:?} failed, and its status is {status:?}"));
            }
            if status != Some(b'I') {
                let reply = talk.ask(packet::query("rollback")).await;
                fine(&reply)?;
                if reply.status() != Some(b'I') {
                    return Err(format!("ROLLBACK was answered {:?}", reply.messages));
                }
            }
        }
        let silent = way == Some(Way::Silence) && (!failed || kind == Some(Kind::Cancelled));
        // So may it be with garbage that comes behind the last answer.
        let garbled = way == Some(Way::Garbage) && !failed;
        // A server that was to be looked at for what a function has left is one that the session needs.
        let looked_at = kind == Some(Kind::Unclear) && !failed;
        if kind == Some(Kind::Bound) || silent || garbled || looked_at {
            // Its server may be the one that has fallen silent behind its last answer.
            return Ok(());
        }
        let own = format!("session {}", self.id);
        let reply = talk.ask(packet::query(&format!("select '{own}'"))).await;
        fine(&reply)?;
        match reply.messages.iter().find(|message| message.tag == b'D') {
            Some(row) if row.body.ends_with(own.as_bytes()) => Ok(()),
            other => Err(format!("it was answered {other:?}")),
        }
    }

    /// Waits until nothing of the conversation is under way any more.
    async fn clear(&self, talk: Option<Talk>) -> Result<(), String> {
        // Who is silent is still there, and must be seen to hold nothing.
        let stays = self.case.is_some_and(|case| case.way == Way::Silence);
        let kept = talk.filter(|_| stays);
        self.lane.quiet().await?;
        drop(kept);
        self.relay().unwatch();
        self.lane.before.hang_up(false);
        let processes = self.lane.behind.hang_up(false);
        self.lane.gone(&processes).await?;
        self.lane.empty().await
    }

    /// Compares what was heard with what may be, and with what Postgres itself says.
    fn judge(&self, script: &Script, direct: &[Vec<Message>], seen: &mut Seen) {
        for (number, (round, reply)) in script.rounds.iter().zip(&seen.replies).enumerate() {
            let outcome = &seen.outcomes[number];
            let allowed = match &self.case {
                Some(case) => judge::is_allowed(case, round.kind, outcome),
                None => judge::is_ok(outcome) || round.kind == Kind::Cancelled,
            };
            if !allowed {
                let heard = brief(&reply.messages);
                let kind = round.kind;
                let what = format!("round {number}, {kind:?}: {outcome}: {heard}");
                seen.faults.push(Check::Answer.caught(what));
            }
            let expected = direct.get(number);
            let garbled = self.case.is_some_and(|case| case.way == Way::Garbage);
            let Some(expected) = expected.filter(|_| judge::is_ok(outcome) && !garbled) else {
                continue;
            };
            let heard = self.plain(round, &reply.messages);
            let expected = self.plain(round, expected);
            if heard != expected {
                let (heard, expected) = (brief(&heard), brief(&expected));
                let what =
                    format!("round {number}: Postgres answers {expected}, and this was {heard}");
                seen.faults.push(Check::Answer.caught(what));
            }
        }
    }

    /// What was heard without what differs between two conversations that are alike.
    pub(super) fn plain(&self, round: &Round, messages: &[Message]) -> Vec<Message> {
        if matches!(round.kind, Kind::Cancelled | Kind::Notified) {
            return Vec::new();
        }
        let strict = self.case.is_none_or(|case| case.way.is_harmless());
        let kept = messages.iter().filter(|message| match message.tag {
            b'A' => self.flow.ordered,
            b'N' | b'S' => strict,
            _ => true,
        });
        kept.map(|message| Message {
            tag: message.tag,
            body: replaced(&message.body, self.id.as_bytes()),
        })
        .collect()
    }

    /// Compares what is there with what the client was told.
    async fn account(&self, script: &Script, seen: &Seen) -> Result<(), String> {
        for row in &script.rows {
            let presence = match row.commits {
                Some((round, ready)) => self.presence(script, seen, round, ready),
                None => Presence::Absent,
            };
            let count = self.lane.count(&self.id, row.part).await;
            if !presence.allows(count) {
                let part = row.part;
                return Err(format!(
                    "row {part} is there {count} times, and must be {presence:?}: the client heard {:?}",
                    seen.outcomes
                ));
            }
        }
        Ok(())
    }

    fn presence(&self, script: &Script, seen: &Seen, round: usize, ready: usize) -> Presence {
        let Some(reply) = seen.replies.get(round) else {
            return Presence::Absent;
        };
        let presence = judge::presence(&script.rounds[round], reply, ready);
        if self.side == Side::Server || presence == Presence::Once {
            return presence;
        }
        let up = |passed: &&Passed| passed.direction == Direction::Up;
        // Who is sent away for garbage is told nothing of what stands before it.
        let garbled = self.case.is_some_and(|case| case.way == Way::Garbage);
        // And the first of it may be the end of a message, as where only the row count of an Execute was to come.
        let passed = seen.passed.iter().filter(up).count() + usize::from(garbled);
        let complete = self.flow.client != Target::Live
            || passed >= judge::needed(&script.rounds[..=round], ready);
        match presence {
            Presence::Absent if garbled && complete => Presence::Either,
            Presence::Either if !complete => Presence::Absent,
            presence => presence,
        }
    }

    /// The next client finds a session as new, and nothing of the last one.
    async fn next(&self) -> Result<(), String> {
        let user = self.user();
        let entered = talk::login(self.lane.proxy, user, &self.lane.database, None).await;
        let entered = entered.map_err(|error| error.to_string())?;
        let mut talk =
            entered.map_err(|reply| format!("it was not let in: {}", brief(&reply.messages)))?;
        let asked = question(&self.id, self.flow.name.starts_with("cancel"));
        let reply = talk.ask(packet::query(&asked)).await;
        fine(&reply)?;
        let row = reply.messages.iter().find(|message| message.tag == b'D');
        let row = row.map(|row| values(&row.body)).unwrap_or_default();
        let own = format!("next {}", self.id);
        let expected = [&*own, "4MB", &self.lane.timezone, "t", "t", "0", ""];
        if row != expected || reply.status() != Some(b'I') {
            return Err(format!("it found {row:?}"));
        }
        Ok(())
    }
}

/// What a client asks that is to find a session as new; slowly, if somebody else's cancel might hit it.
pub(super) fn question(id: &str, slow: bool) -> String {
    format!(
        "select 'next {id}', current_setting('work_mem'), current_setting('timezone'), \
         now() = statement_timestamp(), pg_current_xact_id_if_assigned() is null, \
         (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
         pg_sleep({})",
        if slow { "0.1" } else { "0" }
    )
}

/// Leads a conversation with the server itself, uncut; gives what was heard in each round.
pub(super) async fn lead_directly(act: &Act<'_>) -> Result<Vec<Vec<Message>>, String> {
    let script = (act.flow.script)(&act.id);
    let entered = talk::login(act.lane.server, TRUSTED, "postgres", None).await;
    let entered = entered.map_err(|error| error.to_string())?;
    let mut talk = entered.map_err(|reply| brief(&reply.messages))?;
    for before in &script.before {
        fine(&talk.ask(before.clone()).await)?;
    }
    let mut heard = Vec::new();
    for round in &script.rounds {
        let reply = talk.perform(round).await;
        if reply.ending != Ending::Met {
            return Err(format!("Postgres itself: {}", brief(&reply.messages)));
        }
        heard.push(act.plain(round, &reply.messages));
    }
    Ok(heard)
}

/// An answer without an error, up to ReadyForQuery.
fn fine(reply: &Reply) -> Result<(), String> {
    match (reply.ending, reply.errors(&[]).is_empty()) {
        (Ending::Met, true) => Ok(()),
        (ending, _) => Err(format!("{ending:?}: {}", brief(&reply.messages))),
    }
}

/// The values of a DataRow.
fn values(body: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let [a, b, c, d, after @ ..] = rest {
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        let length = usize::try_from(length).unwrap_or(0).min(after.len());
        let (value, behind) = after.split_at(length);
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = behind;
    }
    values
}

/// The same bytes with something else in the place of what is looked for.
fn replaced(body: &[u8], id: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let mut at = 0;
    while at + id.len() <= body.len() {
        if body[at..].starts_with(id) {
            body[at..at + id.len()].fill(b'#');
            at += id.len();
        } else {
            at += 1;
        }
    }
    body
}

/// The tags and the SQLSTATEs.
fn brief(messages: &[Message]) -> String {
    let words = messages.iter().map(|message| match message.tag {
        b'E' | b'N' => {
            let text = [b'C', b'M', b'D'].map(|field| message.field(field).unwrap_or_default());
            format!("{}({})", char::from(message.tag), text.join("; "))
        }
        _ => {
            let shown = message.body.get(..60).unwrap_or(&message.body);
            format!("{}({})", char::from(message.tag), shown.escape_ascii())
        }
    });
    let words: Vec<String> = words.take(20).collect();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(" ")
    }
}
