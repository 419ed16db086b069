//! Who listens to what: the account of one database's notifications, without any input or output.
//!
//! A LISTEN or UNLISTEN is sent to the client's own server as a notification of ours, its *mark*, in
//! the client's own transaction. So the server decides whether it takes effect (a rollback, also to a
//! savepoint, takes the mark with it), and the mark's place in the stream of notifications says from
//! when on: transactions that notify commit one after another, and their notifications are queued in
//! that order, each transaction's together (`async.c`: PreCommit_Notify).

#[cfg(test)]
mod tests;

use pgherd_planted::{self as planted, Bug};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The name of a channel, in the server's encoding.
pub type Channel = Arc<[u8]>;

/// A listening session's number, which its client was told at login as its process id.
pub type Listener = i32;

/// So many channels are named to the server in one query at most.
const BATCH_MAX: usize = 500;

/// What a LISTEN or an UNLISTEN changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `LISTEN`.
    Listen(Channel),
    /// `UNLISTEN` of one channel.
    Unlisten(Channel),
    /// `UNLISTEN *`.
    UnlistenAll,
}

/// A notification as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// The channel.
    pub channel: Channel,
    /// The payload.
    pub payload: Box<[u8]>,
}

impl Note {
    /// What it weighs in a queue, in bytes.
    pub fn weight(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

/// Where the words for one listener go.
pub trait Hear {
    /// A notification from a client or a process of this number; false if there is no room for it.
    fn hear(&self, note: &Arc<Note>, from: i32) -> bool;
    /// Whether there is room for so many notifications of so many bytes in all.
    fn has_room(&self, count: usize, bytes: usize) -> bool;
    /// Notifications may have been lost.
    fn missed(&self);
    /// What was heard of these channels and not told yet is to be forgotten; `None` is all.
    fn forget(&self, channel: Option<&Channel>);
    /// Something that the listener waits for may have happened.
    fn wake(&self);
}

/// A change that has been announced: what names it, and what must be answered before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The payload of its mark.
    pub token: u64,
    /// The question to the server that must be answered.
    pub ticket: u64,
}

/// One question for the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Channels to LISTEN to.
    pub listen: Vec<Channel>,
    /// Channels to UNLISTEN.
    pub unlisten: Vec<Channel>,
}

/// A client listens to as many channels as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client listens to {0} channels already")]
pub struct TooMany(pub usize);

/// What became of the changes of a transaction that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// So many have taken effect.
    pub seen: usize,
    /// The stream of notifications was interrupted meanwhile.
    pub interrupted: bool,
}

#[derive(Debug)]
struct Entry<E> {
    ear: E,
    active: HashSet<Channel>,
    pending: Vec<u64>,
    /// Marks seen since its last transaction.
    seen: usize,
    /// The stream broke off while it listened.
    missed: bool,
    /// The stream broke off while a change of its was under way.
    interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnServer {
    Absent,
    Asked,
    Present,
}

#[derive(Debug)]
struct Interest {
    active: HashSet<Listener>,
    pending: usize,
    server: OnServer,
}

impl Interest {
    fn is_wanted(&self) -> bool {
        self.pending > 0 || !self.active.is_empty()
    }
}

#[derive(Debug)]
struct Mark {
    listener: Listener,
    change: Change,
}

#[derive(Debug)]
struct Run {
    process: i32,
    notes: Vec<Arc<Note>>,
    bytes: usize,
}

#[derive(Debug)]
struct Flight {
    listen: Vec<Channel>,
    covers: u64,
}

/// Where the connection to the server stands.
#[derive(Debug)]
enum Link {
    Down,
    Up {
        flight: Option<Flight>,
        /// Not all that was listened to before is listened to again.
        restoring: bool,
    },
}

/// The account.
#[derive(Debug)]
pub struct Table<E> {
    listeners: HashMap<Listener, Entry<E>>,
    channels: HashMap<Channel, Interest>,
    marks: HashMap<u64, Mark>,
    /// Which listener has which process of the server, and surely nobody else's notifications are
    /// under way from there.
    holders: HashMap<i32, Listener>,
    /// Notifications by a process whose holder has changes under way, kept for the holder until it is
    /// known which of them belong to the transaction that makes the changes.
    run: Option<Run>,
    /// Listeners that had no room for a notification.
    full: Vec<Listener>,
    link: Link,
    dirty: Vec<Channel>,
    waiting: HashSet<Listener>,
    asked: u64,
    answered: u64,
    delivered: u64,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self {
            listeners: HashMap::new(),
            channels: HashMap::new(),
            marks: HashMap::new(),
            holders: HashMap::new(),
            run: None,
            full: Vec::new(),
            link: Link::Down,
            dirty: Vec::new(),
            waiting: HashSet::new(),
            asked: 0,
            answered: 0,
            delivered: 0,
        }
    }
}

impl<E: Hear> Table<E> {
    /// A session comes to listen.
    pub fn join(&mut self, listener: Listener, ear: E) {
        let entry = Entry {
            ear,
            active: HashSet::new(),
            pending: Vec::new(),
            seen: 0,
            missed: false,
            interrupted: false,
        };
        self.listeners.insert(listener, entry);
    }

    /// A session leaves, and everything of it is forgotten.
    pub fn leave(&mut self, listener: Listener) -> Option<E> {
        self.drop_marks(listener);
        self.drop_channels(listener);
        self.waiting.remove(&listener);
        self.holders.retain(|_, holder| *holder != listener);
        let ear = self.listeners.remove(&listener)?.ear;
        // There is nothing any more that it could wait for.
        ear.wake();
        Some(ear)
    }

    /// Whether a session is among those that listen.
    pub fn is_among(&self, listener: Listener) -> bool {
        self.listeners.contains_key(&listener)
    }

    /// How many sessions there are.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// All of them.
    pub fn ears(&self) -> impl Iterator<Item = &E> {
        self.listeners.values().map(|entry| &entry.ear)
    }

    /// How many channels are listened to by anybody.
    pub fn channels(&self) -> usize {
        let wanted = self.channels.values();
        wanted.filter(|interest| interest.is_wanted()).count()
    }

    /// How many notifications were given to listeners since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether a session listens to anything or is about to.
    pub fn is_listening(&self, listener: Listener) -> bool {
        self.listeners
            .get(&listener)
            .is_some_and(|entry| !entry.active.is_empty() || !entry.pending.is_empty())
    }

    /// Announces a change of a session under an unused token. Its mark may be sent once
    /// [`Self::is_ready`] says so.
    ///
    /// # Errors
    /// The session listens to `max` channels already, or changes so many in one transaction.
    pub fn ask(
        &mut self,
        listener: Listener,
        token: u64,
        change: Change,
        max: usize,
    ) -> Result<Asked, TooMany> {
        let Some(entry) = self.listeners.get_mut(&listener) else {
            return Err(TooMany(0));
        };
        if entry.pending.len() >= max {
            return Err(TooMany(max));
        }
        if let Change::Listen(channel) = &change {
            let more = !entry.active.contains(channel);
            if more && entry.active.len() + entry.pending.len() >= max {
                return Err(TooMany(max));
            }
            let interest = interest(&mut self.channels, channel);
            interest.pending += 1;
            let up = matches!(self.link, Link::Up { .. });
            if up && interest.server == OnServer::Absent {
                self.dirty.push(Arc::clone(channel));
            }
        }
        entry.pending.push(token);
        self.marks.insert(token, Mark { listener, change });
        let ticket = self.fence(listener);
        Ok(Asked { token, ticket })
    }

    /// Whether the mark of a change may be sent: from here on no notification that the change is about
    /// can be missed, and all that were committed before it was announced have come.
    pub fn is_ready(&self, asked: Asked) -> bool {
        let present = match self.marks.get(&asked.token).map(|mark| &mark.change) {
            Some(Change::Listen(channel)) => self
                .channels
                .get(channel)
                .is_some_and(|interest| interest.server == OnServer::Present),
            _ => true,
        };
        present && self.answered >= asked.ticket && matches!(self.link, Link::Up { .. })
    }

    /// A change whose mark was not sent is off.
    pub fn take_back(&mut self, asked: Asked) {
        if let Some(mark) = self.remove_mark(asked.token)
            && let Some(entry) = self.listeners.get_mut(&mark.listener)
        {
            entry.pending.retain(|token| *token != asked.token);
        }
    }

    /// Asks for a sign that everything has come that was committed up to now.
    pub fn fence(&mut self, listener: Listener) -> u64 {
        self.asked += 1;
        self.waiting.insert(listener);
        self.asked
    }

    /// Whether the sign has come for a session; without a connection nothing is waited for, nor by one that has left,
    /// which nobody would wake.
    pub fn is_fenced(&self, listener: Listener, ticket: u64) -> bool {
        self.answered >= ticket || matches!(self.link, Link::Down) || !self.is_among(listener)
    }

    /// From here on what a process of the server notifies is this session's.
    pub fn hold(&mut self, listener: Listener, process: i32) {
        self.holders.insert(process, listener);
    }

    /// Whether it is so.
    pub fn holds(&self, listener: Listener, process: i32) -> bool {
        self.holders.get(&process) == Some(&listener)
    }

    /// It is so no longer. What was kept of it for the session is told as it stands.
    pub fn release(&mut self, listener: Listener, process: i32) {
        if !self.holds(listener, process) {
            return;
        }
        if self.run.as_ref().is_some_and(|run| run.process == process) {
            self.flush();
        }
        self.holders.remove(&process);
    }

    /// A transaction of the session has ended, and all that it notified has come: marks that have not
    /// were rolled back.
    pub fn settle(&mut self, listener: Listener) -> Settled {
        // What another notified may still be followed by a mark of its transaction.
        let own = |run: &Run| self.holders.get(&run.process) == Some(&listener);
        if self.run.as_ref().is_some_and(own) {
            self.flush();
        }
        self.drop_marks(listener);
        match self.listeners.get_mut(&listener) {
            Some(entry) => Settled {
                seen: std::mem::take(&mut entry.seen),
                interrupted: std::mem::take(&mut entry.interrupted),
            },
            None => Settled {
                seen: 0,
                interrupted: true,
            },
        }
    }

    /// The session listens to nothing any more, as after DISCARD ALL.
    pub fn unlisten_all(&mut self, listener: Listener) {
        self.drop_channels(listener);
        if let Some(entry) = self.listeners.get(&listener) {
            entry.ear.forget(None);
        }
    }

    /// A notification has come.
    pub fn notify(&mut self, process: i32, note: &Arc<Note>) {
        self.end_run_of_others(process);
        let from = self.shown(process);
        let changing = self.changing(process);
        if planted::is(Bug::WrongListener) {
            for entry in self.listeners.values() {
                entry.ear.hear(note, from);
            }
            return;
        }
        let Some(interest) = self.channels.get(&note.channel) else {
            return;
        };
        for listener in &interest.active {
            if changing == Some(*listener) {
                continue;
            }
            if let Some(entry) = self.listeners.get(listener) {
                self.delivered += 1;
                if !entry.ear.hear(note, from) {
                    self.full.push(*listener);
                }
            }
        }
        if let Some(holder) = changing
            && (interest.pending > 0 || interest.active.contains(&holder))
        {
            self.keep(process, holder, note);
        }
    }

    /// The sessions that had no room for a notification; they must leave.
    pub fn take_full(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.full)
    }

    /// The holder of a process, if it changes what it listens to in its present transaction.
    fn changing(&self, process: i32) -> Option<Listener> {
        let holder = *self.holders.get(&process)?;
        let entry = self.listeners.get(&holder)?;
        (!entry.pending.is_empty() || entry.seen > 0).then_some(holder)
    }

    fn keep(&mut self, process: i32, holder: Listener, note: &Arc<Note>) {
        let run = self.run.get_or_insert_with(|| Run {
            process,
            notes: Vec::new(),
            bytes: 0,
        });
        run.bytes += note.weight();
        let room = self.listeners.get(&holder);
        if room.is_some_and(|entry| entry.ear.has_room(run.notes.len() + 1, run.bytes)) {
            run.notes.push(Arc::clone(note));
        } else {
            self.full.push(holder);
        }
    }

    fn end_run_of_others(&mut self, process: i32) {
        if self.run.as_ref().is_some_and(|run| run.process != process) {
            self.flush();
        }
    }

    /// A mark has come: its change has been committed.
    pub fn mark(&mut self, process: i32, token: u64) {
        self.end_run_of_others(process);
        // Nobody but the session's own server can have sent it.
        let holder = self.holders.get(&process).copied();
        let known = self.marks.get(&token).map(|mark| mark.listener);
        if known.is_none() || holder != known {
            return;
        }
        // First the listener, so that the channel is wanted all the time.
        if let (Some(listener), Some(Change::Listen(channel))) =
            (known, self.marks.get(&token).map(|mark| &mark.change))
        {
            let interest = interest(&mut self.channels, channel);
            interest.active.insert(listener);
        }
        let Some(Mark { listener, change }) = self.remove_mark(token) else {
            return;
        };
        let Some(entry) = self.listeners.get_mut(&listener) else {
            return;
        };
        entry.pending.retain(|pending| *pending != token);
        entry.seen += 1;
        match change {
            Change::Listen(channel) => {
                entry.active.insert(channel);
            }
            Change::Unlisten(channel) => {
                entry.ear.forget(Some(&channel));
                if entry.active.remove(&channel) {
                    self.lose_interest(listener, &channel);
                }
            }
            Change::UnlistenAll => self.unlisten_all(listener),
        }
    }

    /// What a client is told about where a notification comes from: its own number for its own and
    /// another client's for that one's, where it is certain; else a number that no client has.
    pub fn shown(&self, process: i32) -> i32 {
        match self.holders.get(&process) {
            Some(holder) => *holder,
            None => foreign(process),
        }
    }

    /// The next question for the server, if there is anything to ask and nothing is being asked.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let Link::Up { flight: None, .. } = &self.link else {
            return None;
        };
        let mut batch = Batch::default();
        while batch.listen.len() + batch.unlisten.len() < BATCH_MAX
            && let Some(channel) = self.dirty.pop()
        {
            let Some(interest) = self.channels.get_mut(&channel) else {
                continue;
            };
            match (interest.is_wanted(), interest.server) {
                (true, OnServer::Absent) => {
                    interest.server = OnServer::Asked;
                    batch.listen.push(channel);
                }
                (false, OnServer::Absent) => drop(self.channels.remove(&channel)),
                (false, OnServer::Present) => {
                    self.channels.remove(&channel);
                    batch.unlisten.push(channel);
                }
                (true, OnServer::Present) | (_, OnServer::Asked) => {}
            }
        }
        if batch == Batch::default() && self.answered == self.asked && !self.is_restoring() {
            return None;
        }
        if let Link::Up { flight, .. } = &mut self.link {
            *flight = Some(Flight {
                listen: batch.listen.clone(),
                covers: self.asked,
            });
        }
        Some(batch)
    }

    /// The server has answered the last question.
    pub fn answered(&mut self) {
        let Link::Up { flight, .. } = &mut self.link else {
            return;
        };
        let Some(flight) = flight.take() else {
            return;
        };
        for channel in &flight.listen {
            if let Some(interest) = self.channels.get_mut(channel) {
                interest.server = OnServer::Present;
            }
        }
        self.answered = flight.covers;
        self.flush();
        if self.dirty.is_empty() && self.is_restoring() {
            self.restored();
        }
        self.wake_waiting();
    }

    /// A connection is there.
    pub fn link_up(&mut self) {
        self.dirty = self.channels.keys().cloned().collect();
        self.link = Link::Up {
            flight: None,
            restoring: true,
        };
    }

    /// The connection is gone: what is notified meanwhile is lost.
    pub fn link_lost(&mut self) {
        if matches!(self.link, Link::Down) {
            return;
        }
        self.flush();
        self.link = Link::Down;
        self.holders.clear();
        self.dirty.clear();
        self.answered = self.asked;
        self.channels.retain(|_, interest| {
            interest.server = OnServer::Absent;
            interest.is_wanted()
        });
        for entry in self.listeners.values_mut() {
            entry.missed |= !entry.active.is_empty();
            entry.interrupted |= !entry.pending.is_empty();
        }
        self.wake_waiting();
    }

    /// Whether there is a connection, and it listens to all that is wanted.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. }) && !self.is_restoring()
    }

    /// The names of what a session listens to.
    pub fn of(&self, listener: Listener) -> Vec<Channel> {
        let entry = self.listeners.get(&listener);
        entry.map_or_else(Vec::new, |entry| entry.active.iter().cloned().collect())
    }

    fn is_restoring(&self) -> bool {
        matches!(
            self.link,
            Link::Up {
                restoring: true,
                ..
            }
        )
    }

    fn restored(&mut self) {
        if let Link::Up { restoring, .. } = &mut self.link {
            *restoring = false;
        }
        for entry in self.listeners.values_mut() {
            if std::mem::take(&mut entry.missed) {
                entry.ear.missed();
            }
        }
    }

    fn wake_waiting(&mut self) {
        for listener in self.waiting.drain() {
            if let Some(entry) = self.listeners.get(&listener) {
                entry.ear.wake();
            }
        }
    }

    /// How many questions there were.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Wakes everybody who waits for the server.
    pub fn wake_all(&mut self) {
        self.wake_waiting();
    }

    /// Somebody waits still, though it was woken.
    pub fn wait_on(&mut self, listener: Listener) {
        self.waiting.insert(listener);
    }

    /// Gives the holder what was kept for it, as far as it listens there now that its changes are made.
    fn flush(&mut self) {
        let Some(run) = self.run.take() else {
            return;
        };
        let Some(listener) = self.holders.get(&run.process).copied() else {
            return;
        };
        let Some(entry) = self.listeners.get(&listener) else {
            return;
        };
        let heard = run.notes.iter();
        for note in heard.filter(|note| entry.active.contains(&note.channel)) {
            self.delivered += 1;
            if !entry.ear.hear(note, listener) {
                self.full.push(listener);
                return;
            }
        }
    }

    fn remove_mark(&mut self, token: u64) -> Option<Mark> {
        let mark = self.marks.remove(&token)?;
        if let Change::Listen(channel) = &mark.change {
            if let Some(interest) = self.channels.get_mut(channel) {
                interest.pending = interest.pending.saturating_sub(1);
            }
            self.look_at(channel);
        }
        Some(mark)
    }

    /// Has the server told of a channel if it must be; forgets one that nobody needs to know of.
    fn look_at(&mut self, channel: &Channel) {
        let Some(interest) = self.channels.get(channel) else {
            return;
        };
        if interest.is_wanted() {
            return;
        }
        if interest.server == OnServer::Absent {
            self.channels.remove(channel);
        } else {
            self.dirty.push(Arc::clone(channel));
        }
    }

    fn drop_marks(&mut self, listener: Listener) {
        let Some(entry) = self.listeners.get_mut(&listener) else {
            return;
        };
        for token in std::mem::take(&mut entry.pending) {
            self.remove_mark(token);
        }
    }

    fn drop_channels(&mut self, listener: Listener) {
        let Some(entry) = self.listeners.get_mut(&listener) else {
            return;
        };
        for channel in std::mem::take(&mut entry.active) {
            self.lose_interest(listener, &channel);
        }
    }

    fn lose_interest(&mut self, listener: Listener, channel: &Channel) {
        if let Some(interest) = self.channels.get_mut(channel) {
            interest.active.remove(&listener);
        }
        self.look_at(channel);
    }
}

/// The number of a process that is no client's: clients have lower ones.
pub fn foreign(process: i32) -> i32 {
    const CLIENTS_END: i32 = crate::control::NUMBER_MAX + 1;
    process & (CLIENTS_END - 1) | CLIENTS_END
}

fn interest<'a>(
    channels: &'a mut HashMap<Channel, Interest>,
    channel: &Channel,
) -> &'a mut Interest {
    channels
        .entry(Arc::clone(channel))
        .or_insert_with(|| Interest {
            active: HashSet::new(),
            pending: 0,
            server: OnServer::Absent,
        })
}
