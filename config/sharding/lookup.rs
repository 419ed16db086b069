//! Keys whose shards a query gives.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::keys::{ShardMethod, among};
use crate::fault::Problem;
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::setting::Setting;

/// How many keys may be looked up if it is not said.
const MAX_ROWS: usize = 100_000;
/// How long that may take if it is not said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is said of the query that gives the shards of keys.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyLookup {
    /// The query. Its first column is a key, its second the section or the number of its shard.
    pub query: Option<String>,
    /// The section of the shard that is asked; the first shard if it is not said.
    pub on: Option<String>,
    /// See [`Self::max_rows`].
    pub max_rows: Option<NonZeroUsize>,
    /// See [`Self::timeout`].
    pub timeout: Option<Duration>,
}

impl KeyLookup {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            query: reader.optional("lookup"),
            on: reader.optional("lookup_on"),
            max_rows: reader.optional("lookup_max_rows"),
            timeout: reader.optional("lookup_timeout"),
        }
    }

    /// How many keys the query may give.
    pub fn max_rows(&self) -> usize {
        self.max_rows.map_or(MAX_ROWS, NonZeroUsize::get)
    }

    /// How long it may take, once there is a connection for it.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// Itself, and what it does not say as another has it.
    pub(super) fn or(self, otherwise: &Self) -> Self {
        Self {
            query: self.query.or_else(|| otherwise.query.clone()),
            on: self.on.or_else(|| otherwise.on.clone()),
            max_rows: self.max_rows.or(otherwise.max_rows),
            timeout: self.timeout.or(otherwise.timeout),
        }
    }

    pub(super) fn check(
        &self,
        method: ShardMethod,
        shards: Option<&[String]>,
        reader: &mut Reader<'_>,
    ) {
        if method != ShardMethod::Lookup {
            let said = [
                ("lookup", self.query.is_some()),
                ("lookup_on", self.on.is_some()),
                ("lookup_max_rows", self.max_rows.is_some()),
                ("lookup_timeout", self.timeout.is_some()),
            ];
            for (key, _) in said.into_iter().filter(|(_, said)| *said) {
                let allowed = "with `method` lookup only";
                reader.contradiction(key, "nothing is looked up", allowed);
            }
            return;
        }
        if self.query.is_none() && !reader.has("lookup") {
            let allowed =
                "a query of two columns, such as \"SELECT tenant, shard FROM public.tenants\"";
            reader.fault("lookup", Problem::Missing, allowed);
        }
        if let Some(on) = &self.on {
            among("lookup_on", on, shards, reader);
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            reader.contradiction("lookup_timeout", "there is no time", "at least 1ms");
        }
    }

    /// Gives what is set under a path, to be shown and compared.
    pub(super) fn rows(&self, path: &str) -> Vec<Row> {
        let plain = |key: &str, value: String| {
            Row::plain(format!("{path}.{key}"), value, Effect::NextConnection)
        };
        let rows = [
            self.query.as_ref().map(|it| plain("lookup", it.show())),
            self.on.as_ref().map(|it| plain("lookup_on", it.show())),
            self.max_rows.map(|it| plain("lookup_max_rows", it.show())),
            self.timeout.map(|it| plain("lookup_timeout", it.show())),
        ];
        rows.into_iter().flatten().collect()
    }
}
