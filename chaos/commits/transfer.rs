//! What a case is about: money that moves over all shards.

use std::sync::LazyLock;

use pgherd_planner::placement::{KeyValue, Method, Placement, Shard};

use super::case::Flow;

/// How many shards there are.
pub(super) const SHARDS: usize = 3;

/// What is on each account at first.
pub(super) const BALANCE: i64 = 1000;

/// The tables of each shard. Whether an account exists is looked at only at the end of a transaction.
pub(super) const TABLES: &str =
    "create table accounts (id bigint primary key, balance bigint not null);
    create table moves (account bigint not null references accounts deferrable initially deferred,
        id bigint not null, amount bigint not null);";

/// How many accounts on each shard are for those who move money beside the cases.
const OTHERS: usize = 6;

/// Which accounts there are.
pub(super) struct Book {
    /// Those of the others, by shard.
    pub(super) others: Vec<Vec<i64>>,
    /// One of each shard, for the case.
    pub(super) own: [i64; SHARDS],
    /// One that belongs on the last shard, and is not there.
    pub(super) missing: i64,
}

/// The accounts.
pub(super) static BOOK: LazyLock<Book> = LazyLock::new(|| {
    let mut placement = Placement::new(SHARDS as u16);
    let group = placement.group(Method::hash(SHARDS as u16));
    let group = group.expect("a hash spreads over all shards");
    let of = |shard: u16| {
        let placement = &placement;
        (1_i64..)
            .filter(move |key| placement.shard(group, &[KeyValue::Int(*key)]) == Ok(Shard(shard)))
    };
    let number = |shard: u16, at: usize| of(shard).nth(at).expect("there is always one more");
    Book {
        others: (0..SHARDS as u16)
            .map(|shard| of(shard).take(OTHERS).collect())
            .collect(),
        own: [0, 1, 2].map(|shard| number(shard, OTHERS)),
        missing: number(2, OTHERS + 1),
    }
});

impl Book {
    /// Those that exist on a shard.
    pub(super) fn accounts(&self, shard: usize) -> impl Iterator<Item = i64> + '_ {
        let others = self.others[shard].iter().copied();
        others.chain([self.own[shard]])
    }
}

/// A transaction up to its `COMMIT`.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) id: i64,
    /// How many rows of it there are if it is committed.
    pub(super) sides: i64,
    pub(super) steps: Vec<String>,
}

impl Transfer {
    pub(super) fn new(flow: Flow, id: i64) -> Self {
        let [one, two, three] = BOOK.own;
        let sides = match flow {
            Flow::Reader => vec![(one, -1), (two, 1)],
            Flow::Abort => vec![(one, -2), (two, 1), (BOOK.missing, 1)],
            _ => vec![(one, -2), (two, 1), (three, 1)],
        };
        let mut steps = vec!["begin".to_owned()];
        for (account, change) in &sides {
            steps.push(format!(
                "update accounts set balance = balance + {change} where id = {account}"
            ));
            steps.push(format!(
                "insert into moves values ({account}, {id}, {change})"
            ));
        }
        if flow == Flow::Reader {
            // Beside what marks its connection.
            steps.push(format!(
                "select balance, {id} from accounts where id = {three}"
            ));
        }
        Self {
            id,
            sides: sides.len() as i64,
            steps,
        }
    }
}
