//! How keys lead to shards: by buckets, by lists, by ranges or by a lookup.

use std::ops::RangeInclusive;

use super::lookup::KeyLookup;
use super::table;
use crate::draft::{Node, Table, Value, dotted};
use crate::fault::{Findings, Origin, Problem};
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::setting::Setting;

/// How a key leads to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShardMethod {
    /// By PostgreSQL's own hash for partitions.
    #[default]
    Hash,
    /// Each value by itself.
    List,
    /// By ranges of values.
    Range,
    /// Each value by itself, as a query gives it.
    Lookup,
}

words! { ShardMethod { Hash = "hash", List = "list", Range = "range", Lookup = "lookup", } }

/// The method of the tables of a group, with all that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyMethod {
    /// How a key leads to a shard.
    pub method: ShardMethod,
    /// How many buckets keys are hashed into; as many as there are shards if it is not said.
    pub buckets: Option<u16>,
    /// The buckets of each shard, all of them and each once; by their numbers modulo that of the shards if it is empty.
    pub bucket_map: Vec<BucketPlace>,
    /// The type of the values in `places`, and of those that are looked up.
    pub key_type: Option<String>,
    /// The values of each shard, by list or by range.
    pub places: Vec<KeyPlace>,
    /// What gives them.
    pub lookup: KeyLookup,
}

/// The buckets that are on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlace {
    /// The shard's section.
    pub shard: String,
    /// Their numbers, from 0.
    pub buckets: Vec<RangeInclusive<u16>>,
}

/// Values that are on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// Each of them; none for a range.
    pub values: Vec<String>,
    /// Where a range begins; `None` for no bound.
    pub from: Option<String>,
    /// Where it ends, which is not part of it; `None` for no bound.
    pub to: Option<String>,
    /// All values that stand nowhere else.
    pub others: bool,
    /// The shard's section.
    pub shard: String,
}

impl KeyMethod {
    /// Reads a method; what is not said of it is as another has it, if that is of the same kind.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        otherwise: &Self,
        shards: Option<&[String]>,
    ) -> Self {
        let method: Option<ShardMethod> = reader.optional("method");
        let buckets: Option<u16> = reader.optional("buckets");
        let map = Map::read(reader);
        let key_type: Option<String> = reader.optional("key_type");
        let places: Option<Vec<KeyPlace>> = reader.optional("places");
        let lookup = KeyLookup::read(reader);
        let nothing = Self::default();
        let otherwise = match method {
            Some(method) if method != otherwise.method => &nothing,
            _ => otherwise,
        };
        let method = method.unwrap_or(otherwise.method);
        let own_buckets = buckets.is_some();
        let buckets = buckets.or(otherwise.buckets);
        if let Some(map) = &map
            && method == ShardMethod::Hash
        {
            map.check(buckets, shards, reader);
        }
        for place in places.iter().flatten() {
            among("places", &place.shard, shards, reader);
        }
        let bucket_map = match (map, own_buckets) {
            (Some(map), _) => map.places(),
            // The other's map is one of the other's buckets.
            (None, true) => Vec::new(),
            (None, false) => otherwise.bucket_map.clone(),
        };
        let found = Self {
            method,
            buckets,
            bucket_map,
            key_type: key_type.or_else(|| otherwise.key_type.clone()),
            places: places.unwrap_or_else(|| otherwise.places.clone()),
            lookup: lookup.or(&otherwise.lookup),
        };
        found.check(reader);
        found.lookup.check(method, shards, reader);
        found
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.buckets == Some(0) {
            reader.contradiction("buckets", "there is no bucket", "a number from 1");
        }
        if self.method != ShardMethod::Hash {
            let allowed = "with `method` hash only";
            if self.buckets.is_some() {
                reader.contradiction("buckets", "nothing is hashed", allowed);
            }
            if !self.bucket_map.is_empty() {
                reader.contradiction("bucket_map", "nothing is hashed", allowed);
            }
        }
        match (self.method, self.places.is_empty()) {
            (ShardMethod::Hash, false) => {
                let allowed = "with `method` list or range only";
                reader.contradiction("places", "keys are hashed", allowed);
            }
            (ShardMethod::Lookup, false) => {
                let allowed = "with `method` list or range only";
                reader.contradiction("places", "keys are looked up", allowed);
            }
            (ShardMethod::List | ShardMethod::Range, true) => {
                let allowed = "a list of { values = [1, 2], shard = \"shop0\" } or { from = 0, to = 10, shard = \"shop0\" }";
                reader.fault("places", Problem::Missing, allowed);
            }
            _ => {}
        }
        let fits = |place: &KeyPlace| match self.method {
            ShardMethod::Hash | ShardMethod::Lookup => true,
            ShardMethod::List => place.values.is_empty() == place.others && !place.is_range(),
            ShardMethod::Range => place.values.is_empty() && !place.others,
        };
        if !self.places.iter().all(fits) {
            let allowed = "`values` or `others` by list, `from` and `to` by range";
            reader.contradiction("places", "a place is not of the method", allowed);
        }
    }

    /// Gives what is set under a path, to be shown and compared.
    pub(super) fn rows(&self, path: &str) -> Vec<Row> {
        let plain = |key: &str, value: String| {
            Row::plain(format!("{path}.{key}"), value, Effect::NextConnection)
        };
        let mut rows = vec![
            plain("method", self.method.show()),
            plain("places", self.places.show()),
        ];
        rows.extend(self.buckets.map(|it| plain("buckets", it.show())));
        if !self.bucket_map.is_empty() {
            let places = self.bucket_map.iter().map(BucketPlace::show);
            let places = places.collect::<Vec<_>>().join(", ");
            rows.push(plain("bucket_map", places));
        }
        rows.extend(self.key_type.clone().map(|it| plain("key_type", it)));
        rows.extend(self.lookup.rows(path));
        rows
    }
}

/// Tells of a shard that is named at a key and that there is not.
pub(super) fn among(key: &str, shard: &str, shards: Option<&[String]>, reader: &mut Reader<'_>) {
    let is_there = |shards: &[String]| shards.iter().any(|it| it == shard);
    if let Some(shards) = shards.filter(|shards| !is_there(shards)) {
        let problem = format!("{shard:?} is not among the shards");
        reader.contradiction(key, problem, &shards.join(", "));
    }
}

/// Which buckets are on which shard, as it is written.
struct Map {
    origin: Origin,
    path: String,
    /// Each with where it is written.
    places: Vec<(Origin, BucketPlace)>,
    /// Something of it could not be read, which has been told.
    is_faulty: bool,
}

impl Map {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const KEY: &str = "bucket_map";
        let node = reader.free(KEY)?;
        let Value::Table(table) = &node.value else {
            let allowed = "a table of shards, such as { shop0 = \"0-31\", shop1 = \"32-63\" }";
            reader.fault(KEY, Problem::Value(node.written()), allowed);
            return None;
        };
        let path = reader.path(KEY);
        let mut map = Self {
            origin: node.origin.clone(),
            path,
            places: Vec::with_capacity(table.len()),
            is_faulty: false,
        };
        map.shards(table, reader.findings());
        Some(map)
    }

    fn shards(&mut self, table: &Table, findings: &mut Findings) {
        for (shard, node) in table {
            match Buckets::read(node, &dotted(&self.path, shard), findings) {
                Some(Buckets(buckets)) => {
                    let shard = shard.clone();
                    let place = BucketPlace { shard, buckets };
                    self.places.push((node.origin.clone(), place));
                }
                None => self.is_faulty = true,
            }
        }
    }

    /// Finds shards that there are not, and buckets that are on none or on several.
    fn check(&self, buckets: Option<u16>, shards: Option<&[String]>, reader: &mut Reader<'_>) {
        let Some(count) = buckets else {
            if !reader.has("buckets") {
                let allowed = "how many there are, with `bucket_map`";
                reader.fault("buckets", Problem::Missing, allowed);
            }
            return;
        };
        let findings = reader.findings();
        let mut found: Vec<Option<&str>> = vec![None; usize::from(count)];
        let mut is_faulty = self.is_faulty;
        for (origin, place) in &self.places {
            let mut fault = |problem: String, allowed: &str| {
                let path = dotted(&self.path, &place.shard);
                findings.fault(origin, path, Problem::Contradiction(problem), allowed);
            };
            if let Some(shards) = shards.filter(|shards| !shards.contains(&place.shard)) {
                let problem = format!("{:?} is not among the shards", place.shard);
                fault(problem, &shards.join(", "));
            }
            for bucket in place.buckets.iter().cloned().flatten() {
                let problem = match found.get_mut(usize::from(bucket)) {
                    None => format!("there are {count} buckets, and none of the number {bucket}"),
                    Some(Some(other)) if *other == place.shard.as_str() => {
                        format!("bucket {bucket} is there twice")
                    }
                    Some(Some(other)) => format!("bucket {bucket} is on {other} already"),
                    Some(free) => {
                        *free = Some(place.shard.as_str());
                        continue;
                    }
                };
                fault(problem, "each bucket once");
                // One is enough of what may be thousands.
                is_faulty = true;
                break;
            }
        }
        let missing = found.iter().position(Option::is_none);
        if let Some(missing) = missing.filter(|_| !is_faulty) {
            let problem = Problem::Contradiction(format!("bucket {missing} is on no shard"));
            let allowed = "each bucket once";
            findings.fault(&self.origin, self.path.clone(), problem, allowed);
        }
    }

    fn places(self) -> Vec<BucketPlace> {
        self.places.into_iter().map(|(_, place)| place).collect()
    }
}

impl BucketPlace {
    fn show(&self) -> String {
        format!("{} on {}", written(&self.buckets), self.shard)
    }
}

/// Numbers of buckets as they are shown.
fn written(buckets: &[RangeInclusive<u16>]) -> String {
    let range = |range: &RangeInclusive<u16>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    buckets.iter().map(range).collect::<Vec<_>>().join(" ")
}

/// Numbers of buckets, as they are written.
struct Buckets(Vec<RangeInclusive<u16>>);

impl Setting for Buckets {
    fn allowed() -> String {
        "numbers of buckets from 0, such as \"0-31, 40\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        if let Some(number) = node.integer() {
            let number = u16::try_from(number).ok()?;
            return Some(Self(vec![number..=number]));
        }
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let range = |text: &str| {
            let (from, to) = match text.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                None => (number(text)?, number(text)?),
            };
            (from <= to).then_some(from..=to)
        };
        let ranges = node.text()?.split(',').map(range);
        ranges.collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> String {
        written(&self.0)
    }
}

impl KeyPlace {
    fn is_range(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

/// A value of a key, as it is written: a text or a number.
struct KeyText(String);

impl Setting for KeyText {
    fn allowed() -> String {
        "a text or a number".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let number = node.integer().map(|number| number.to_string());
        number.or_else(|| node.text().map(str::to_owned)).map(Self)
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Setting for KeyPlace {
    fn allowed() -> String {
        "{ values = [1, 2], shard = \"shop0\" }, { others = true, shard = \"shop0\" }, \
         { from = 0, to = 10, shard = \"shop0\" }"
            .to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        table(node, path, findings, Self::allowed(), |reader| {
            let values: Vec<KeyText> = reader.optional("values").unwrap_or_default();
            let from: Option<KeyText> = reader.optional("from");
            let to: Option<KeyText> = reader.optional("to");
            let others = reader.optional("others").unwrap_or_default();
            let shard = reader.required("shard");
            Some(Self {
                values: values.into_iter().map(|value| value.0).collect(),
                from: from.map(|value| value.0),
                to: to.map(|value| value.0),
                others,
                shard: shard?,
            })
        })
    }

    fn show(&self) -> String {
        let bound = |bound: &Option<String>| bound.clone().unwrap_or_default();
        let what = match (self.others, self.values.is_empty()) {
            (true, _) => "others".to_owned(),
            (false, false) => self.values.join(" "),
            (false, true) => format!("{}..{}", bound(&self.from), bound(&self.to)),
        };
        format!("{what} on {}", self.shard)
    }
}
