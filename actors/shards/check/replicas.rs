//! Compares what is to be the same on every shard.

use futures_util::future::join_all;
use pgherd_planner::catalog::Name;

use super::keys::{Counted, Question};
use super::link::Trouble;
use super::{Finding, Look, State, not_there};

/// For how long those are waited for who write to such tables.
const PATIENCE: &str = "5s";

type Digest = Result<Counted, Trouble>;

/// Compares a table on all shards. Where it differs, it may be that it was being written to, so that it is looked at once more
/// while nobody writes who passes through a proxy.
pub(super) async fn compare(looks: &mut [Look], name: &Name) -> Vec<Finding> {
    let first = digests(looks, name, false).await;
    if are_same(&first) {
        return told(looks, &first, None);
    }
    let held = match hold(looks).await {
        Ok(()) => digests(looks, name, true).await,
        Err(trouble) => {
            release(looks).await;
            let why = format!("it differed while it may have been written to: {trouble}");
            return told(looks, &first, Some(&why));
        }
    };
    release(looks).await;
    told(looks, &held, None)
}

fn are_same(digests: &[Digest]) -> bool {
    let mut known = digests.iter().flatten();
    let first = known.next();
    known.all(|digest| Some(digest) == first)
}

/// A finding for each shard. `why` is why it is not certain where they differ.
fn told(looks: &[Look], digests: &[Digest], why: Option<&str>) -> Vec<Finding> {
    let known = looks.iter().zip(digests);
    let first = known
        .clone()
        .find_map(|(look, digest)| digest.as_ref().ok().map(|digest| (look, digest)));
    let each = known.map(|(look, digest)| {
        let finding = match (digest, first) {
            (Ok(digest), Some((_, first))) if digest == first => Finding::new(State::Ok, None),
            (Ok(_), Some((other, _))) => match why {
                Some(why) => Finding::new(State::Unchecked, why.to_owned()),
                None => {
                    let what = format!("its rows are not those of {}", other.link.shard);
                    Finding::new(State::Differs, what)
                }
            },
            (Err(trouble), _) => Finding::new(State::Unchecked, trouble.to_string()),
            (Ok(_), None) => Finding::new(State::Ok, None),
        };
        Finding {
            rows: digest.as_ref().ok().map(|digest| digest.rows),
            ..finding.on(&look.link.shard)
        }
    });
    each.collect()
}

/// What all shards say of a table's rows; `held` in the transactions that are open.
async fn digests(looks: &mut [Look], name: &Name, held: bool) -> Vec<Digest> {
    join_all(looks.iter_mut().map(|look| digest(look, name, held))).await
}

async fn digest(look: &mut Look, name: &Name, held: bool) -> Digest {
    look.relation(name).ok_or_else(not_there)?;
    let question = Question::Digest(name);
    match held {
        true => question.ask(&mut look.link).await,
        false => look.link.each(&question).await,
    }
}

/// Holds up whoever would write to replicated tables: the first shard first, as all do.
async fn hold(looks: &mut [Look]) -> Result<(), Trouble> {
    for look in looks {
        look.link.ready().await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL lock_timeout = '{PATIENCE}'; \
             SELECT pg_catalog.pg_advisory_xact_lock_shared({})",
            crate::transactions::REPLICATED
        );
        look.link.run(&begin, 1).await?;
    }
    Ok(())
}

async fn release(looks: &mut [Look]) {
    for look in looks {
        // Where it fails, the connection is of no use any more, and its lock is gone with it.
        let _ = look.link.run("ROLLBACK", 0).await;
    }
}
