//! Counts the rows of a shard that do not belong there.

use std::collections::BTreeMap;

use pgherd_config::Sharded;
use pgherd_planner::catalog::{Name, Relation};
use pgherd_planner::placement::{
    Distribution, KeyError, KeyType, KeyValue, Placement, Shard, Sharding,
};

use super::link::{Link, Trouble};
use super::{Look, named, not_there, quoted};

/// So many keys are brought here at once.
const BATCH: usize = 2000;
/// A key that is shown has no more characters.
const SHOWN: usize = 60;

/// What there is on one shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) rows: u64,
    /// The sum of their hashes, where it was asked for.
    pub(super) sum: String,
    /// Rows of other shards, by their numbers.
    pub(super) elsewhere: BTreeMap<u16, u64>,
    /// Rows whose keys no shard has.
    pub(super) nowhere: u64,
    /// Rows whose keys are NULL.
    pub(super) null: u64,
    /// The key of the first of these.
    pub(super) first: Option<String>,
}

impl Counted {
    pub(super) fn misplaced(&self) -> u64 {
        self.elsewhere.values().sum::<u64>() + self.nowhere + self.null
    }
}

/// Counts a table's rows on the shard that is asked.
pub(super) async fn count(
    look: &mut Look,
    sharded: &Sharded,
    placement: &Placement,
    name: &Name,
    distribution: &Distribution,
) -> Result<Counted, Trouble> {
    let here = sharded.shard(&look.link.shard);
    let here = here.map(Shard).ok_or_else(not_there)?;
    let relation = look.relation(name).ok_or_else(not_there)?;
    match distribution {
        Distribution::Sharded(sharding) => {
            let placed = Placed {
                kinds: kinds(relation, sharding)?,
                here,
                placement,
                sharding,
            };
            look.link.each(&Question::Keys(name, placed)).await
        }
        Distribution::OneShard(at) => {
            let mut counted = look.link.each(&Question::Rows(name)).await?;
            if *at != here && counted.rows > 0 {
                counted.elsewhere.insert(at.0, counted.rows);
            }
            Ok(counted)
        }
        Distribution::Replicated => look.link.each(&Question::Digest(name)).await,
    }
}

/// The types of a key's columns.
fn kinds(relation: &Relation, sharding: &Sharding) -> Result<Vec<KeyType>, Trouble> {
    let kind = |name: &String| {
        let at = relation.column(name);
        let at = at.ok_or_else(|| Trouble::Failed(format!("it has no column {name}")))?;
        let kind = KeyType::of(relation.columns[at].kind.oid);
        kind.ok_or_else(|| Trouble::Failed(format!("the type of its key {name} is none")))
    };
    sharding.columns.iter().map(kind).collect()
}

/// What a shard is asked of a table.
pub(super) enum Question<'a> {
    /// Where its rows belong.
    Keys(&'a Name, Placed<'a>),
    /// How many there are.
    Rows(&'a Name),
    /// That, and the sum of their hashes.
    Digest(&'a Name),
}

impl Question<'_> {
    pub(super) async fn ask(&self, link: &mut Link) -> Result<Counted, Trouble> {
        // A sum of hashes is the same in any order; two rows that are equal do not undo each other in it.
        const SUM: &str = "pg_catalog.sum(pg_catalog.hashtextextended((t.*)::pg_catalog.text, 0)::pg_catalog.numeric)";
        match self {
            Self::Keys(name, placed) => placed.count(link, name).await,
            Self::Rows(name) => rows(link, name, "NULL").await,
            Self::Digest(name) => rows(link, name, SUM).await,
        }
    }
}

async fn rows(link: &mut Link, name: &Name, sum: &str) -> Result<Counted, Trouble> {
    let sql = format!(
        "SELECT pg_catalog.count(*), {sum} FROM {} AS t",
        named(name)
    );
    let answer = link.run(&sql, 1).await?;
    let text = |at: usize| {
        let value = answer.rows.first()?.get(at)?.as_deref().unwrap_or_default();
        std::str::from_utf8(value).ok()
    };
    let found = text(0).and_then(|count| count.parse().ok()).zip(text(1));
    let failed = || Trouble::Failed("its rows are not counted".to_owned());
    let (rows, sum) = found.ok_or_else(failed)?;
    Ok(Counted {
        rows,
        sum: sum.to_owned(),
        ..Counted::default()
    })
}

/// A spread table on one shard.
pub(super) struct Placed<'a> {
    kinds: Vec<KeyType>,
    here: Shard,
    placement: &'a Placement,
    sharding: &'a Sharding,
}

type Row = Vec<Option<Vec<u8>>>;

impl Placed<'_> {
    /// Fetches all keys, in the binary form, which is read without knowing settings, and as texts to be shown.
    async fn count(&self, link: &mut Link, name: &Name) -> Result<Counted, Trouble> {
        let columns = self.sharding.columns.iter().map(|name| quoted(name));
        let columns: Vec<String> = columns.collect();
        let shown = columns
            .iter()
            .map(|column| format!("pg_catalog.left({column}::pg_catalog.text, {SHOWN})"));
        let shown: Vec<String> = shown.collect();
        let fetch = format!("FETCH {BATCH} FROM pgherd_check");
        let mut sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
             DECLARE pgherd_check BINARY NO SCROLL CURSOR FOR SELECT {}, {} FROM {}; {fetch}",
            columns.join(", "),
            shown.join(", "),
            named(name)
        );
        let mut counted = Counted::default();
        loop {
            let rows = link.run(&sql, BATCH).await?.rows;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                self.row(row, &mut counted)
                    .map_err(|error| Trouble::Failed(format!("a key {error}")))?;
            }
            sql.clone_from(&fetch);
        }
        link.run("COMMIT", 0).await?;
        Ok(counted)
    }

    fn row(&self, row: &Row, counted: &mut Counted) -> Result<(), KeyError> {
        counted.rows += 1;
        let key = row.iter().zip(&self.kinds);
        let key = key.map(|(value, kind)| {
            let value = value.as_deref();
            value
                .map(|value| KeyValue::from_binary(*kind, value))
                .transpose()
        });
        let key: Option<Vec<KeyValue>> = key.collect::<Result<_, _>>()?;
        match key.map(|key| self.placement.shard(self.sharding.group, &key)) {
            Some(Ok(shard)) if shard == self.here => return Ok(()),
            Some(Ok(shard)) => *counted.elsewhere.entry(shard.0).or_default() += 1,
            Some(Err(_)) => counted.nowhere += 1,
            None => counted.null += 1,
        }
        counted.first.get_or_insert_with(|| {
            let shown = row.iter().skip(self.kinds.len()).map(|text| match text {
                Some(text) => String::from_utf8_lossy(text).into_owned(),
                None => "NULL".to_owned(),
            });
            let columns = self.sharding.columns.iter().zip(shown);
            let columns = columns.map(|(column, value)| format!("{column} = {value}"));
            columns.collect::<Vec<_>>().join(", ")
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pgherd_planner::placement::{KeyType, KeyValue, Method, Placement, Range, Shard, Sharding};

    use super::{Counted, Placed};

    #[test]
    fn rows_are_placed_by_what_places_statements() {
        let mut placement = Placement::new(2);
        let range = |from: i64, to: i64, shard| Range {
            from: Some(KeyValue::Int(from)),
            to: Some(KeyValue::Int(to)),
            shard: Shard(shard),
        };
        let method = Method::Range(vec![range(0, 10, 0), range(10, 20, 1)]);
        let group = placement.group(method).expect("a group");
        let sharding = Sharding {
            columns: vec!["id".to_owned()],
            group,
        };
        let placed = Placed {
            kinds: vec![KeyType::Int4],
            here: Shard(0),
            placement: &placement,
            sharding: &sharding,
        };
        let mut counted = Counted::default();
        for key in [Some(3), Some(12), Some(13), Some(40), None] {
            let key: Option<i32> = key;
            let row = vec![
                key.map(|key| key.to_be_bytes().to_vec()),
                key.map(|key| key.to_string().into_bytes()),
            ];
            placed.row(&row, &mut counted).expect("a key");
        }
        let expected = Counted {
            rows: 5,
            sum: String::new(),
            elsewhere: [(1, 2)].into(),
            nowhere: 1,
            null: 1,
            first: Some("id = 12".to_owned()),
        };
        assert_eq!(counted, expected);
        assert_eq!(counted.misplaced(), 4);
        let short = vec![Some(vec![0]), None];
        assert!(placed.row(&short, &mut counted).is_err());
    }
}
