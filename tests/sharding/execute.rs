//! A small executor: does what a plan says, on the databases of a [`World`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use pgherd_planner::placement::{KeyType, KeyValue, Shards};
use pgherd_planner::{
    Deal, Merge, Moved, Param, Params, Piece, Pull, Refusal, Route, Slots, SortKey, Statement, plan,
};
use tokio_postgres::Client;

use crate::answer::{Answer, Row, ask};
use crate::line::{Value, with};
use crate::world::World;

/// What came of it, and by which kind of route.
pub(crate) enum Outcome {
    Refused(Refusal),
    Done(&'static str, Result<Answer, String>),
}

/// The short ways to a shard lead nowhere but where the long one does: that of a keyed statement, and that of a text
/// whose literals are parameters.
fn check_short_ways(world: &World, text: &str, statement: &Statement, params: &Params<'_>) {
    let long = match statement.route(params) {
        Ok(Route::One(shard)) => Some(shard),
        _ => None,
    };
    if let Some(shard) = statement.only(params) {
        assert!(statement.is_keyed(), "{text}");
        assert_eq!(long, Some(shard), "{text}");
    }
    let Some(slots) = Slots::of(text) else { return };
    let alike = plan(&slots.text, &world.names, &world.catalog, &world.placement);
    let params = Params {
        values: &slots.values,
        foreign_encoding: false,
    };
    if let Some(shard) = alike.only(&params) {
        assert_eq!(long, Some(shard), "{text}\n{}", slots.text);
    }
}

pub(crate) async fn run(world: &World, text: &str, values: &[Value]) -> Outcome {
    let statement = plan(text, &world.names, &world.catalog, &world.placement);
    let params: Vec<Param<'_>> = values
        .iter()
        .map(|value| Param {
            oid: value.oid,
            binary: false,
            value: value.text.as_deref().map(str::as_bytes),
        })
        .collect();
    let params = Params {
        values: &params,
        foreign_encoding: false,
    };
    check_short_ways(world, text, &statement, &params);
    let route = match statement.route(&params) {
        Ok(route) => route,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    let (text, values, route) = match route {
        Route::At {
            text,
            parameter,
            route,
        } => {
            let now = ask(&world.shards[0], "select now()").await.unwrap();
            assert_eq!(parameter as usize, values.len() + 1);
            let now = Value {
                oid: 1184,
                kind: "timestamptz",
                text: now.rows[0][0].clone(),
            };
            (text, [values, &[now]].concat(), *route)
        }
        route => (text, values.to_vec(), route),
    };
    let values = &values[..];
    let whole = with(text, values);
    let shard = |at: u16| &world.shards[usize::from(at)];
    let last = world.shards.len() - 1;
    match route {
        Route::Session => Outcome::Done("session", Err("session".into())),
        Route::Any => Outcome::Done("any", ask(&world.shards[last], &whole).await),
        Route::One(at) => Outcome::Done("one", ask(shard(at.0), &whole).await),
        Route::Concat { shards, .. } => {
            let clients = shards.iter().map(|at| shard(at.0));
            Outcome::Done("push", each(clients, &whole).await.map(concat))
        }
        Route::Merge {
            shards,
            merge,
            limit,
            offset,
        } => {
            let clients: Vec<&Client> = shards.iter().map(|at| shard(at.0)).collect();
            let cut = (limit, offset);
            Outcome::Done(
                "merge",
                merged(&world.shards[last], clients, merge, cut, values).await,
            )
        }
        Route::Pull { pulls, text } => {
            let done = pulled(world, pulls, &with(text, values), values).await;
            Outcome::Done("pull", done)
        }
        Route::All => {
            let answers = each(world.shards.iter(), &whole).await;
            Outcome::Done(
                "all",
                answers.map(|answers| answers.into_iter().next().unwrap()),
            )
        }
        Route::Pieces(pieces) => Outcome::Done("pieces", put(world, pieces, values).await),
        Route::Deal { source, deal } => Outcome::Done(
            "deal",
            dealt(world, &statement, *source, deal, values).await,
        ),
        Route::Move { from, to, moved } => {
            let (from, to) = (shard(from.0), shard(to.0));
            Outcome::Done("move", go(from, to, moved, values).await)
        }
        Route::At { .. } => unreachable!("one time is enough"),
        Route::CopyIn(_) => Outcome::Done("copy", Err("copy".into())),
    }
}

/// Puts each piece on its shard, and what they give in the order of the rows.
async fn put(world: &World, pieces: Vec<Piece>, values: &[Value]) -> Result<Answer, String> {
    let mut rows: Vec<(usize, Row)> = Vec::new();
    let mut answer: Option<Answer> = None;
    for piece in pieces {
        let own = piece
            .params
            .iter()
            .map(|number| values[*number as usize - 1].clone());
        let text = with(&piece.text, &own.collect::<Vec<_>>());
        let given = ask(&world.shards[usize::from(piece.shard.0)], &text).await?;
        rows.extend(piece.rows.iter().copied().zip(given.rows.clone()));
        answer = Some(match answer {
            None => given,
            Some(before) => before.and(given),
        });
    }
    rows.sort_by_key(|(at, _)| *at);
    let mut answer = answer.unwrap();
    answer.rows = rows.into_iter().map(|(_, row)| row).collect();
    Ok(answer)
}

/// Reads the rows of a query, and stores each on its shard.
async fn dealt(
    world: &World,
    statement: &Statement,
    source: Route<'_>,
    deal: &Deal,
    values: &[Value],
) -> Result<Answer, String> {
    let select = with(&deal.select, values);
    let home = &world.shards[world.shards.len() - 1];
    ask(home, &format!("explain {}", with(&deal.whole, values))).await?;
    let described = home.prepare(&select).await.unwrap();
    let kinds: Vec<u32> = described
        .columns()
        .iter()
        .map(|it| it.type_().oid())
        .collect();
    let read = match source {
        Route::Any => ask(home, &select).await?,
        Route::One(at) => ask(&world.shards[usize::from(at.0)], &select).await?,
        Route::Concat { shards, .. } => {
            let clients = shards.iter().map(|at| &world.shards[usize::from(at.0)]);
            each(clients, &select).await.map(concat)?
        }
        Route::Merge { shards, merge, .. } => {
            let clients: Vec<&Client> = shards
                .iter()
                .map(|at| &world.shards[usize::from(at.0)])
                .collect();
            merged(home, clients, merge, (None, 0), values).await?
        }
        Route::Pull { pulls, text } => pulled(world, pulls, &with(text, values), values).await?,
        other => panic!("{other:?}"),
    };
    let mut hands: BTreeMap<u16, (Vec<usize>, Vec<Row>)> = BTreeMap::new();
    for (place, row) in read.rows.into_iter().enumerate() {
        let key: Vec<Param<'_>> = deal
            .places
            .iter()
            .map(|at| Param {
                oid: kinds[*at],
                binary: false,
                value: row[*at].as_deref().map(str::as_bytes),
            })
            .collect();
        let key = Params {
            values: &key,
            foreign_encoding: false,
        };
        let shard = statement
            .shard_of(deal, &key)
            .map_err(|refusal| refusal.to_string())?;
        let hand = hands.entry(shard.0).or_default();
        hand.0.push(place);
        hand.1.push(row);
    }
    if hands.is_empty() {
        hands.entry(0).or_default();
    }
    let names: Vec<String> = (0..kinds.len()).map(|at| format!("w{at}")).collect();
    let create = format!(
        "create temp table pgherd_rows ({}) as {select} with no data;\n",
        names.join(", ")
    );
    let mut rows: Vec<(usize, Row)> = Vec::new();
    let mut answer: Option<Answer> = None;
    for (shard, (places, taken)) in hands {
        let shard = &world.shards[usize::from(shard)];
        ask(shard, &(create.clone() + &filled("pgherd_rows", &taken))).await?;
        if let Some(lock) = &deal.lock {
            ask(shard, lock).await?;
        }
        let given = ask(shard, &with(&deal.store, values)).await?;
        ask(shard, "drop table pgherd_rows").await?;
        rows.extend(places.into_iter().zip(given.rows.clone()));
        answer = Some(match answer {
            None => given,
            Some(before) => before.and(given),
        });
    }
    rows.sort_by_key(|(at, _)| *at);
    let mut answer = answer.unwrap();
    answer.rows = rows.into_iter().map(|(_, row)| row).collect();
    Ok(answer)
}

/// Takes rows from one shard and stores them on another.
async fn go(from: &Client, to: &Client, moved: &Moved, values: &[Value]) -> Result<Answer, String> {
    ask(from, &format!("explain {}", with(&moved.whole, values))).await?;
    let objection = ask(from, &moved.objection).await?;
    assert_eq!(objection.rows, [[None]], "{}", moved.objection);
    let taken = ask(from, &with(&moved.delete, values)).await?;
    let names: Vec<String> = (0..taken.columns.len())
        .map(|at| format!("w{at}"))
        .collect();
    let create = format!(
        "create temp table pgherd_rows ({}) as {} with no data;\n",
        names.join(", "),
        with(&moved.columns, values)
    );
    ask(to, &(create + &filled("pgherd_rows", &taken.rows))).await?;
    let stored = ask(to, &with(&moved.store, values)).await;
    if stored.is_ok() {
        ask(to, "drop table pgherd_rows").await?;
    }
    let stored = stored?;
    assert_eq!(stored.count, taken.count);
    Ok(stored)
}

async fn each<'c>(
    clients: impl IntoIterator<Item = &'c Client>,
    text: &str,
) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    for client in clients {
        answers.push(ask(client, text).await?);
    }
    Ok(answers)
}

fn concat(answers: Vec<Answer>) -> Answer {
    answers.into_iter().reduce(Answer::and).unwrap()
}

async fn merged(
    home: &Client,
    clients: Vec<&Client>,
    merge: &Merge,
    (limit, offset): (Option<u64>, u64),
    values: &[Value],
) -> Result<Answer, String> {
    let cut = |mut answer: Answer| {
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        answer.rows = answer
            .rows
            .into_iter()
            .skip(offset as usize)
            .take(limit)
            .collect();
        answer.count = answer.rows.len() as u64;
        answer
    };
    match merge {
        Merge::Limited { text, .. } => each(clients, &with(text, values))
            .await
            .map(concat)
            .map(cut),
        Merge::Sorted {
            text, keys, hidden, ..
        } => {
            let answers = each(clients, &with(text, values)).await?;
            let mut queues: Vec<_> = answers
                .iter()
                .map(|answer| answer.rows.iter().peekable())
                .collect();
            let mut rows: Vec<Row> = Vec::new();
            loop {
                let least = (0..queues.len())
                    .filter_map(|at| Some((at, (*queues[at].peek()?).clone())))
                    .min_by(|(_, one), (_, two)| order(keys, one, two));
                let Some((at, _)) = least else { break };
                rows.push(queues[at].next().unwrap().clone());
            }
            let mut answer = answers.into_iter().next().unwrap();
            let width = answer.columns.len() - hidden;
            answer.columns.truncate(width);
            rows.iter_mut().for_each(|row| row.truncate(width));
            answer.rows = rows;
            Ok(cut(answer))
        }
        Merge::Combined { partial, combine } => {
            let partial = with(partial, values);
            let create = format!("create temp table pgherd_partials as {partial} with no data");
            ask(home, &create).await?;
            let done = combined(home, clients, &partial, &with(combine, values)).await;
            ask(home, "drop table pgherd_partials").await?;
            done
        }
    }
}

/// Fills the carriers and answers, in one transaction, with which they are gone.
async fn pulled(
    world: &World,
    mut pulls: Vec<(Shards, &Pull)>,
    text: &str,
    values: &[Value],
) -> Result<Answer, String> {
    let home = &world.shards[world.shards.len() - 1];
    let mut batch = String::new();
    let mut filled: BTreeMap<&str, Option<Answer>> = BTreeMap::new();
    pulls.sort_by_key(|(_, pull)| !pull.filtered);
    for (shards, pull) in &pulls {
        let sent = narrowed(with(&pull.text, values), pull, &filled);
        let clients = shards.iter().map(|at| &world.shards[usize::from(at.0)]);
        let answers = each(clients, &sent).await?;
        let answer = answers.into_iter().reduce(Answer::and);
        let rows = answer.as_ref().map_or(&[][..], |answer| &answer.rows[..]);
        batch.push_str(&carrier(pull, &sent, rows));
        filled.insert(&pull.carrier, answer);
    }
    ask(home, &format!("{batch}{text}")).await
}

/// What is sent if only rows are wanted that count by what is there already.
fn narrowed(mut sent: String, pull: &Pull, filled: &BTreeMap<&str, Option<Answer>>) -> String {
    for key in &pull.keys {
        let Some(known) = filled.get(&*key.carrier) else {
            continue;
        };
        let mut found = BTreeSet::new();
        if let Some(answer) = known {
            let mut columns = answer.columns.iter();
            let at = columns.position(|name| *name == key.theirs).unwrap();
            found.extend(answer.rows.iter().filter_map(|row| row[at].as_deref()));
        }
        let found: Vec<&str> = found.into_iter().collect();
        sent = format!(
            "select * from ({sent}) as pgherd_rows where pgherd_rows.\"{}\" = any ('{{{}}}'::{}[])",
            key.column.replace('"', "\"\""),
            found.join(","),
            key.kind
        );
    }
    sent
}

/// Makes and fills a carrier.
fn carrier(pull: &Pull, text: &str, rows: &[Row]) -> String {
    let name = &pull.carrier;
    let mut batch = format!("create temp table {name} on commit drop as {text} with no data;\n");
    batch.push_str(&filled(name, rows));
    let quoted = |name: &String| format!("\"{name}\"");
    let primary: Vec<String> = pull.primary.iter().map(quoted).collect();
    if !primary.is_empty() {
        let key = format!(
            "alter table {name} add primary key ({});\n",
            primary.join(", ")
        );
        batch.push_str(&key);
    }
    for column in &pull.indexes {
        batch.push_str(&format!("create index on {name} ({});\n", quoted(column)));
    }
    batch
}

/// Rows as literals.
fn filled(table: &str, rows: &[Row]) -> String {
    let literal = |value: &Option<String>| match value {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => "NULL".into(),
    };
    let rows: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(literal).collect::<Vec<_>>().join(", "))
        .map(|row| format!("({row})"))
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("insert into {table} values {};\n", rows.join(", ")),
    }
}

async fn combined(
    home: &Client,
    clients: Vec<&Client>,
    partial: &str,
    combine: &str,
) -> Result<Answer, String> {
    let mut rows = Vec::new();
    for answer in each(clients, partial).await? {
        rows.extend(answer.rows);
    }
    let fill = filled("pgherd_partials", &rows);
    ask(home, &format!("{fill}{combine}")).await
}

fn order(keys: &[SortKey], one: &Row, two: &Row) -> Ordering {
    for key in keys {
        let (one, two) = (&one[key.column], &two[key.column]);
        let order = match (one, two) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) if key.nulls_first => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) if key.nulls_first => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(two)) => {
                let order = compare(key.oid, one, two);
                if key.descending {
                    order.reverse()
                } else {
                    order
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn compare(oid: u32, one: &str, two: &str) -> Ordering {
    match KeyType::of(oid) {
        Some(kind @ (KeyType::Int2 | KeyType::Int4 | KeyType::Int8 | KeyType::Numeric)) => {
            let value = |text: &str| KeyValue::from_text(kind, text.as_bytes()).unwrap();
            value(one).cmp(&value(two))
        }
        // Booleans, and moments with one zone and years of four digits.
        _ => one.cmp(two),
    }
}
