//! What the client has bound within a transaction over several shards, and where it is open. A portal whose rows are given
//! some at a time is one of a shard's, which is closed there as soon as it is here.

use std::collections::BTreeMap;

use pgherd_session::{Owed, Undo};
use pgherd_wire::frontend::{self, Bind, Target};

use super::extended::{behind_names, no_portal};
use super::rows::Passed;
use super::session::failed;
use super::statement::{Done, Source, put_bound};
use super::{Dtx, Fault, violation};
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::word;

/// More portals are not kept, nor more cursors.
pub(super) const PORTALS_MAX: usize = 1024;

/// What the names begin with that portals have on shards.
const OURS: &str = "pgherd_";

/// A longer name of a portal is cut, in bytes (`NAMEDATALEN`).
const NAME_MAX: usize = 63;

/// The name of a portal as Postgres keeps it.
pub(super) fn kept(name: &[u8]) -> &[u8] {
    name.get(..NAME_MAX).unwrap_or(name)
}

/// Whether a portal on a shard that has this name is one that the client does not know by it.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(OURS.as_bytes())
}

/// What was bound.
#[derive(Debug)]
pub(super) struct Portal {
    /// The Parse behind its name.
    pub(super) tail: Box<[u8]>,
    /// The whole body of the Bind.
    pub(super) body: Box<[u8]>,
    /// Where it is open, once some of its rows were wanted.
    there: Option<There>,
    pub(super) ran: Ran,
}

/// Whether a portal has run to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    No,
    /// It has given its rows: run once more, it gives none, and completes with this.
    Read(Box<[u8]>),
    /// It cannot be run again.
    Yes,
}

impl Ran {
    /// How one of this text is behind what it has ended with. Postgres keeps what gives rows, and counts them anew.
    pub(super) fn of(relay: &Relay, text: &[u8], done: &Done) -> Self {
        let tag = match done {
            Done::Suspended => return Self::No,
            Done::Complete(tag) if word::gives_rows(text, relay.lexing) => tag,
            Done::Complete(_) | Done::Empty => return Self::Yes,
        };
        let first = word::word(text, relay.lexing).unwrap_or_default();
        let command = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
        match command {
            b"SELECT" | b"FETCH" | b"SHOW" | b"EXPLAIN" => Self::Read(uncounted(tag)),
            // Of a WITH it is not known whether its last part gives rows.
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE"
                if !first.eq_ignore_ascii_case(b"with") =>
            {
                Self::Read(uncounted(tag))
            }
            _ => Self::Yes,
        }
    }
}

/// A tag that counts nothing.
fn uncounted(tag: &[u8]) -> Box<[u8]> {
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit());
    match digits.count() {
        0 => tag.into(),
        count => [&tag[..tag.len() - count], b"0"].concat().into(),
    }
}

/// A portal of a shard's. It has a name of ours: the client's may be as long as names can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct There {
    shard: u16,
    number: u64,
}

impl There {
    fn name(self) -> String {
        format!("{OURS}{}", self.number)
    }
}

impl Portal {
    pub(super) fn new(tail: Box<[u8]>, body: &[u8]) -> Self {
        Self {
            tail,
            body: body.into(),
            there: None,
            ran: Ran::No,
        }
    }

    /// The shard where it is open, if it is.
    pub(super) fn shard(&self) -> Option<u16> {
        self.there.map(|there| there.shard)
    }

    /// Where it has given some of its rows, and may have more.
    pub(super) fn suspended(&self) -> Option<There> {
        self.there.filter(|_| self.ran == Ran::No)
    }
}

impl Dtx {
    /// Closes what the client has closed: a portal, or a cursor of SQL's, which is one.
    pub(super) async fn close(&mut self, relay: &mut Relay, name: &[u8]) -> Result<(), Fault> {
        if self.portals.contains_key(name) || name.is_empty() {
            return self.forget(relay, name).await;
        }
        if is_ours(name) {
            return Ok(());
        }
        let shard = self.holder(relay, name);
        self.close_there(relay, shard, &[name.to_vec()]).await?;
        self.cursors.remove(name);
        Ok(())
    }

    /// Forgets what was bound to a portal, if there is one, and has it closed where it is open.
    pub(super) async fn forget(&mut self, relay: &mut Relay, name: &[u8]) -> Result<(), Fault> {
        let portal = self.portals.remove(name);
        match portal.and_then(|portal| portal.there) {
            Some(there) => {
                let name = there.name().into_bytes();
                self.close_there(relay, there.shard, &[name]).await
            }
            None => Ok(()),
        }
    }

    /// Forgets what was bound to any portal.
    pub(super) async fn forget_all(&mut self, relay: &mut Relay) -> Result<(), Fault> {
        let mut open: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        for there in self.portals.drain().filter_map(|(_, it)| it.there) {
            open.entry(there.shard)
                .or_default()
                .push(there.name().into_bytes());
        }
        for (shard, names) in open {
            self.close_there(relay, shard, &names).await?;
        }
        Ok(())
    }

    /// Has a shard close portals, as far as it has them: so it does in a failed block, too.
    async fn close_there(
        &mut self,
        relay: &mut Relay,
        shard: u16,
        names: &[Vec<u8>],
    ) -> Result<(), Fault> {
        let mut legs = self.pick(&[shard]);
        let Some(leg) = legs.first_mut() else {
            return Ok(());
        };
        names.iter().for_each(|name| put_close(leg, name));
        frontend::sync(leg.out.made());
        leg.lease.exchange.sent(Owed::OurSync);
        leg.begin();
        let deadlines = Deadlines::new(relay, self.began);
        let (_, end) = leg.hear(relay, &[], &deadlines).await;
        self.ended(relay, legs, end).await
    }

    /// The names of the portals that are open on a shard.
    pub(super) fn open_on(&self, shard: u16) -> Vec<String> {
        let there = self.portals.values().filter_map(|portal| portal.there);
        there
            .filter(|there| there.shard == shard)
            .map(There::name)
            .collect()
    }

    /// Whether a portal has rows left on its server.
    pub(super) fn has_suspended(&self) -> bool {
        let mut portals = self.portals.values();
        portals.any(|portal| portal.suspended().is_some())
    }

    /// Gives some rows of a portal, which is open on its one shard from then on.
    pub(super) async fn some_rows(
        &mut self,
        relay: &mut Relay,
        name: &[u8],
        most: i32,
    ) -> Result<Done, Fault> {
        let Some(portal) = self.portals.get(name) else {
            return Err(no_portal(name).into());
        };
        if let Some(there) = portal.suspended() {
            return self.piece(relay, there, None, most).await;
        }
        let (tail, body) = (portal.tail.clone(), portal.body.clone());
        let Ok(bind) = Bind::parse(&body) else {
            return Err(Fault::Over(violation("invalid Bind message".to_owned())));
        };
        match self.source(relay, &tail, &bind).await? {
            Source::There(shard) => {
                let there = self.opens(name, shard);
                let bound = Some((&*tail, behind_names(&body, &bind)));
                self.piece(relay, there, bound, most).await
            }
            Source::Brought(gathered) => {
                let there = self.opens(name, gathered.home);
                let (tail, values) = gathered.form(b"");
                let bound = Some((&tail[..], &values[..]));
                let piece = self.piece(relay, there, bound, most).await;
                piece.map_err(|fault| gathered.reworded(fault))
            }
        }
    }

    /// Takes note that a portal is about to be open on a shard. No other there has ever had its name.
    fn opens(&mut self, name: &[u8], shard: u16) -> There {
        self.made += 1;
        let there = There {
            shard,
            number: self.made,
        };
        if let Some(portal) = self.portals.get_mut(name) {
            portal.there = Some(there);
        }
        there
    }

    /// Gives rows of a portal of a shard's, to which something is bound there first if it is not yet: so many of them, or
    /// all if that is nothing.
    pub(super) async fn piece(
        &mut self,
        relay: &mut Relay,
        there: There,
        bound: Option<(&[u8], &[u8])>,
        most: i32,
    ) -> Result<Done, Fault> {
        if self.failed {
            return Err(failed().into());
        }
        let mut legs = self.pick(&[there.shard]);
        for leg in &mut legs {
            put_bound(relay, leg, there.name().as_bytes(), bound, most);
            leg.acks = std::mem::take(&mut self.owes);
        }
        let mut sink = Passed::default();
        let deadlines = Deadlines::new(relay, self.began);
        let end = gather(relay, &mut legs, &mut sink, &deadlines).await;
        let done: Vec<_> = legs.iter_mut().map(|leg| leg.done.take()).collect();
        self.ended(relay, legs, end).await?;
        Ok(match done.into_iter().next().flatten() {
            Some(tag) => Done::Complete(tag),
            None => Done::Suspended,
        })
    }
}

/// Has a server close a portal, if it has it.
fn put_close(leg: &mut Leg, portal: &[u8]) {
    let built = frontend::close(leg.out.made(), Target::Portal, portal);
    debug_assert!(built.is_ok(), "it came in a message");
    leg.lease.exchange.sent(Owed::Close {
        hidden: true,
        undo: Undo::Nothing,
    });
}

#[cfg(test)]
mod tests {
    use super::uncounted;

    #[test]
    fn no_rows_are_counted_the_second_time() {
        for (tag, expected) in [
            ("SELECT 12", "SELECT 0"),
            ("INSERT 0 3", "INSERT 0 0"),
            ("SHOW", "SHOW"),
        ] {
            assert_eq!(*uncounted(tag.as_bytes()), *expected.as_bytes());
        }
    }
}
