//! A query of the operator's that gives the shards of keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_config::{KeyLookup, Sharded};
use pgherd_planner::placement::{KeyType, KeyValue, Mapping, Shard};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::pool::Pool;
use crate::router;
use crate::server::ServerConn;
use crate::session::setup::{self, Answer};

/// So many rows are fetched at once.
const BATCH: usize = 2000;

/// The keys that a lookup gives; `None` is a shard that there is not.
pub(super) type Given = BTreeMap<KeyValue, Option<Shard>>;

/// A query that gives the shards of keys.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    /// The group whose keys they are; empty for the one that has no name.
    group: String,
    said: KeyLookup,
    /// The sections of the shards, in their order.
    shards: Arc<[String]>,
    /// The shard that is asked.
    on: u16,
    mapping: Arc<Mapping>,
}

impl Lookup {
    /// The lookup of a group whose keys are of this type, of which nothing is known yet.
    pub(super) fn new(config: &Sharded, group: &str, said: &KeyLookup, kind: KeyType) -> Self {
        let on = said.on.as_deref().and_then(|on| config.shard(on));
        Self {
            group: group.to_owned(),
            said: said.clone(),
            shards: config.shards.clone().into(),
            on: on.unwrap_or_default(),
            mapping: Arc::new(Mapping::new(kind)),
        }
    }

    /// What is known of its keys.
    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Whether it is what is said of another group as well, whose keys are of this type.
    pub(super) fn is_for(&self, said: &KeyLookup, kind: KeyType) -> bool {
        self.said == *said && self.mapping.kind() == kind
    }

    /// The number of the shard that is asked.
    pub(super) fn at(&self) -> u16 {
        self.on
    }

    /// The section of the shard that is asked.
    pub(super) fn on(&self) -> &str {
        let section = self.shards.get(usize::from(self.on));
        section.map_or("", String::as_str)
    }

    /// Asks a server on which no transaction is open. Where it fails, one may be.
    ///
    /// # Errors
    /// If it is not answered, or by what are no keys and shards.
    pub(super) async fn ask(&self, server: &mut ServerConn) -> Result<Given, ErrorReport> {
        self.asked(server)
            .await
            .map_err(|report| self.unread(&report))
    }

    /// The same of a server of a pool.
    pub(super) async fn ask_one(&self, pool: &Arc<Pool>) -> Result<Given, ErrorReport> {
        let unread = |report: ErrorReport| self.unread(&report);
        let mut lease = router::lease(pool).await.map_err(unread)?;
        let asks = async {
            // Whoever had the server before may have left other settings.
            let set = setup::apply(pool, &mut lease, &Arc::default()).await;
            set.map_err(unread)?;
            self.ask(&mut lease).await
        };
        let given = tokio::time::timeout(self.said.timeout(), asks).await;
        let given = given.unwrap_or_else(|_| {
            let text = "it was not answered in time (lookup_timeout)";
            Err(unread(ErrorReport::error(
                sqlstate::CANNOT_CONNECT_NOW,
                text,
            )))
        })?;
        if lease.exchange.is_over() {
            lease.mark_clean();
        }
        Ok(given)
    }

    async fn asked(&self, server: &mut ServerConn) -> Result<Given, ErrorReport> {
        let mut given = Given::new();
        let mut count = 0;
        rows(server, &self.opening(), 0).await?;
        let fetch = format!("FETCH {BATCH} FROM pgherd_lookup");
        loop {
            let fetched = rows(server, &fetch, BATCH).await?;
            count += fetched.len();
            for row in &fetched {
                self.pair(row, &mut given)?;
            }
            // What is gone stays known, up to the next RELOAD.
            let held = count.max(self.mapping.count() / 2);
            if held > self.said.max_rows() {
                return Err(too_many(self.said.max_rows()));
            }
            if fetched.len() < BATCH {
                break;
            }
        }
        rows(server, "COMMIT", 0).await?;
        Ok(given)
    }

    /// What opens a cursor on all pairs, which are texts that hang on no setting. Whoever may see only some of them is told so.
    fn opening(&self) -> String {
        let time = self.said.timeout().as_millis().max(1);
        let most = self.said.max_rows().saturating_add(1);
        let query = self.said.query.as_deref().unwrap_or_default();
        let query = query.trim_end_matches(|last: char| last == ';' || last.is_whitespace());
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
             SET LOCAL statement_timeout = {time}; SET LOCAL lock_timeout = {time}; \
             SET LOCAL idle_in_transaction_session_timeout = {time}; SET LOCAL row_security = off; \
             SET LOCAL DateStyle = ISO; SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = hex; \
             SELECT pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'), true); \
             DECLARE pgherd_lookup NO SCROLL CURSOR FOR \
             SELECT k::pg_catalog.text, s::pg_catalog.text FROM (\n{query}\n) AS pgherd_lookup (k, s) LIMIT {most}"
        )
    }

    fn pair(&self, row: &Row, given: &mut Given) -> Result<(), ErrorReport> {
        let [Some(key), Some(shard)] = &row[..] else {
            return Err(wrong("a key or a shard is NULL"));
        };
        let (key_text, name) = (String::from_utf8_lossy(key), String::from_utf8_lossy(shard));
        let key = KeyValue::from_text(self.mapping.kind(), key);
        let key = key.map_err(|error| wrong(format!("{key_text:?} {error}")))?;
        let shard = self.shard(&name);
        match given.insert(key, shard) {
            Some(other) if other != shard => {
                Err(wrong(format!("{key_text:?} is on several shards")))
            }
            _ => Ok(()),
        }
    }

    /// A shard, by the name of its section or by its number.
    fn shard(&self, name: &str) -> Option<Shard> {
        let at = self.shards.iter().position(|section| section == name);
        let at = at.or_else(|| name.parse().ok())?;
        let at = Some(at).filter(|at| *at < self.shards.len())?;
        u16::try_from(at).ok().map(Shard)
    }

    fn unread(&self, report: &ErrorReport) -> ErrorReport {
        let text = match self.group.as_str() {
            "" => "the lookup of keys cannot be read".to_owned(),
            group => format!("the lookup of the keys of group \"{group}\" cannot be read"),
        };
        let why = match &report.detail {
            Some(detail) => format!("{}: {detail}", report.message),
            None => report.message.clone(),
        };
        ErrorReport::error(report.code, text).detail(why)
    }
}

type Row = Vec<Option<Vec<u8>>>;

async fn rows(server: &mut ServerConn, sql: &str, most: usize) -> Result<Vec<Row>, ErrorReport> {
    let answer = Answer::of_rows(most);
    let answer = setup::run_patiently_into(server, sql.as_bytes(), answer).await?;
    match answer.error {
        None => Ok(answer.rows),
        Some(error) => Err(error),
    }
}

/// What the query gives is not what it should.
fn wrong(why: impl Into<String>) -> ErrorReport {
    ErrorReport::error(sqlstate::CONFIG_FILE_ERROR, why)
}

fn too_many(most: usize) -> ErrorReport {
    let text = format!(
        "it gives more than {most} keys, or as many are gone since the last RELOAD (lookup_max_rows)"
    );
    ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text)
}

#[cfg(test)]
mod tests {
    use pgherd_config::{KeyLookup, Sharded, Sharding};
    use pgherd_planner::placement::{KeyType, KeyValue, Shard};

    use super::{Given, Lookup};

    fn lookup(query: &str) -> Lookup {
        let config = Sharded {
            name: "all".into(),
            shards: vec!["a".into(), "1b".into(), "2".into()],
            sharding: Sharding::default(),
        };
        let said = KeyLookup {
            query: Some(query.to_owned()),
            on: Some("1b".to_owned()),
            ..KeyLookup::default()
        };
        Lookup::new(&config, "g", &said, KeyType::Int8)
    }

    fn row(values: &[Option<&str>]) -> Vec<Option<Vec<u8>>> {
        let values = values.iter();
        values
            .map(|value| value.map(|text| text.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn pairs_are_keys_and_names_or_numbers_of_shards() {
        let lookup = lookup("");
        assert_eq!((lookup.on(), lookup.on), ("1b", 1));
        let mut given = Given::new();
        let pairs = [
            ("1", "a"),
            ("2", "1b"),
            ("3", "1"),
            ("4", "2"),
            ("5", "3"),
            ("6", "c"),
            ("1", "0"),
        ];
        for (key, shard) in pairs {
            let row = row(&[Some(key), Some(shard)]);
            lookup.pair(&row, &mut given).expect("a pair");
        }
        let found: Vec<_> = given.values().map(|shard| shard.map(|it| it.0)).collect();
        assert_eq!(found, [Some(0), Some(1), Some(1), Some(2), None, None]);
        assert_eq!(given[&KeyValue::Int(4)], Some(Shard(2)));
        for (values, why) in [
            (&[None, Some("a")][..], "NULL"),
            (&[Some("7"), None], "NULL"),
            (&[Some("seven"), Some("a")], "\"seven\""),
            (&[Some("1"), Some("1b")], "several shards"),
        ] {
            let told = lookup.pair(&row(values), &mut given).expect_err(why);
            assert!(told.message.contains(why), "{told}");
        }
    }

    #[test]
    fn a_query_may_end_as_it_likes() {
        for query in ["select 1, 2", "select 1, 2 ;\n;", "select 1, 2 -- all"] {
            let opening = lookup(query).opening();
            let (_, inner) = opening.split_once("FROM (\n").expect("a query");
            let (inner, rest) = inner.split_once("\n) AS").expect("its end");
            assert!(
                !inner.ends_with(';') && rest.ends_with("LIMIT 100001"),
                "{opening}"
            );
        }
    }
}
