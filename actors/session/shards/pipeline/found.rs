//! Which messages are a pipeline over several shards.

use pgherd_config::PoolMode;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::frame;
use pgherd_wire::frontend::{Bind, Parse, tag};

use super::{Pipeline, known};
use crate::session::relay::Relay;
use crate::session::shards::is_whole;
use crate::session::shards::plan::{routed, tail_of, wants_keys};
use crate::session::turn::Turn;
use crate::shards::Known;

/// Looks whether the messages in front, up to a Sync or Flush, are such a pipeline.
pub(in crate::session::shards) fn find(relay: &Relay, known: &Known) -> Option<Pipeline> {
    let mut parsed: Vec<(&[u8], &[u8])> = Vec::new();
    let mut shards: Vec<u16> = Vec::new();
    let mut homes: Vec<u16> = Vec::new();
    let mut rest = relay.up.unjudged();
    while let Ok(Some(header)) = frame::header(rest) {
        let (message, behind) = rest.split_at_checked(header.total())?;
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        match header.tag {
            tag::PARSE => {
                let parse = Parse::parse(body).ok()?;
                parsed.push((parse.name, &body[parse.name.len() + 1..]));
            }
            tag::BIND => {
                let bind = Bind::parse(body).ok()?;
                let of_name = |(name, _): &&(&[u8], &[u8])| *name == bind.statement;
                let here = parsed.iter().rev().find(of_name).map(|(_, tail)| *tail);
                let tail = here.or_else(|| tail_of(relay, bind.statement))?;
                let request = routed(relay, known, tail, &bind).ok()??;
                homes.extend(request.home());
                shards.extend(request.shards);
            }
            tag::SYNC | tag::FLUSH => break,
            tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {}
            _ => return None,
        }
    }
    shards.sort_unstable();
    shards.dedup();
    (!shards.is_empty()).then(|| Pipeline {
        shards,
        homes,
        schemas: known.number(),
    })
}

/// What is to be done with a Bind that comes while the session is on a server.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) enum Bound {
    /// It is looked at as any other.
    Here,
    /// It reads several shards, and all that the server has for the client is what was prepared: it can be left.
    Elsewhere,
    /// The same, but what is behind it must be here first.
    Later,
}

/// Whether the Bind in front, whose body this is, begins a pipeline over several shards.
pub(in crate::session) fn begins(turn: &Turn<'_>, body: &[u8]) -> Bound {
    let (relay, exchange) = (&*turn.relay, &turn.server.exchange);
    let in_block = relay.opened.is_some() || exchange.status() != TransactionStatus::Idle;
    let has_run = turn.queries > 0 || exchange.executes() || relay.block.is_some();
    let is_bound = relay.mode == PoolMode::Session || !relay.pins.is_empty();
    if in_block || has_run || is_bound {
        return Bound::Here;
    }
    let Ok(known) = known(relay) else {
        return Bound::Here;
    };
    let Ok(bind) = Bind::parse(body) else {
        return Bound::Here;
    };
    let Some(tail) = tail_of(relay, bind.statement) else {
        return Bound::Here;
    };
    if wants_keys(relay, &known, tail, &bind) {
        return match is_whole(relay) {
            true => Bound::Elsewhere,
            false => Bound::Later,
        };
    }
    match routed(relay, &known, tail, &bind) {
        Ok(Some(_)) if !is_whole(relay) => Bound::Later,
        Ok(Some(_)) if find(relay, &known).is_some() => Bound::Elsewhere,
        _ => Bound::Here,
    }
}
