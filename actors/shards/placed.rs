//! From what an operator says of placement to the planner's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_config::{KeyMethod, ShardMethod, ShardSequences, Sharded, UnlistedTables};
use pgherd_planner::placement::{
    Distribution, Group, KeyType, KeyValue, Method, Placement, Range, Sequences, Shard, Sharding,
    Unlisted,
};

use super::lookup::Lookup;

/// Why nothing can be placed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("databases.{database}.sharding.{key}: {why}")]
pub struct Misplaced {
    database: String,
    key: &'static str,
    why: String,
}

/// Where rows live, and the lookups by which it is known.
pub(super) struct Placed {
    pub(super) placement: Placement,
    pub(super) lookups: Vec<Lookup>,
}

/// Where rows live by this configuration. What is looked up is not known yet.
///
/// # Errors
/// What of it makes no sense.
pub fn placement(config: &Sharded) -> Result<Placement, Misplaced> {
    placed(config).map(|placed| placed.placement)
}

/// As [`placement`], with what is to be looked up.
pub(super) fn placed(config: &Sharded) -> Result<Placed, Misplaced> {
    let shards = u16::try_from(config.shards.len()).unwrap_or(u16::MAX);
    let wrong = |key, why: String| Misplaced {
        database: config.name.clone(),
        key,
        why,
    };
    let said = &config.sharding;
    let mut placement = Placement::new(shards);
    let mut lookups = Vec::new();
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for name in names(said) {
        if groups.contains_key(name) {
            continue;
        }
        let method = method(config, name, &mut lookups);
        let method = method.map_err(|why| match is_own(said, name) {
            true => wrong("groups", format!("{name}: {why}")),
            false => wrong("places", why),
        })?;
        let group = placement
            .group(method)
            .map_err(|error| match is_own(said, name) {
                true => wrong("groups", format!("{name}: {error}")),
                false => wrong("method", error.to_string()),
            })?;
        groups.insert(name, group);
    }
    for table in &said.tables {
        let (schema, name) = qualified(&table.name);
        let sharding = Sharding {
            columns: table.key.clone(),
            group: groups[table.group.as_str()],
        };
        placement.table(schema, name, Distribution::Sharded(sharding));
    }
    for column in &said.columns {
        placement.column(&column.name, groups[column.group.as_str()]);
    }
    for table in &said.replicated {
        let (schema, name) = qualified(table);
        placement.table(schema, name, Distribution::Replicated);
    }
    for place in &said.schemas {
        let shard = shard(config, &place.shard);
        placement.schema(&place.name, Distribution::OneShard(shard));
    }
    for function in &said.harmless_functions {
        let (schema, name) = qualified(function);
        placement.harmless_function(schema, name);
    }
    placement.unlisted(match said.unlisted {
        UnlistedTables::Refused => Unlisted::Refused,
        UnlistedTables::Replicated => Unlisted::Replicated,
    });
    placement.sequences(match said.sequences {
        ShardSequences::Overlapping => Sequences::Overlapping,
        ShardSequences::Disjoint => Sequences::Disjoint,
    });
    Ok(Placed { placement, lookups })
}

/// All groups that tables are of, or that have a method of their own; the one without a name is always there.
fn names(said: &pgherd_config::Sharding) -> impl Iterator<Item = &str> {
    let own = said.groups.iter().map(|group| group.name.as_str());
    let tables = said.tables.iter().map(|table| table.group.as_str());
    let columns = said.columns.iter().map(|column| column.group.as_str());
    own.chain(tables).chain(columns).chain([""])
}

/// Whether a group has a method of its own.
fn is_own(said: &pgherd_config::Sharding, group: &str) -> bool {
    said.groups.iter().any(|it| it.name == group)
}

/// How the keys of a group lead to shards.
fn method(config: &Sharded, group: &str, lookups: &mut Vec<Lookup>) -> Result<Method, String> {
    let said = config.sharding.keys_of(group);
    let kind = match said.key_type.as_deref() {
        None => KeyType::Int8,
        Some(name) => key_type(name).ok_or_else(|| format!("there are no keys of type {name}"))?,
    };
    let read = |text: &String| {
        let value = KeyValue::from_text(kind, text.as_bytes());
        value.map_err(|error| format!("{text:?} {error}"))
    };
    Ok(match said.method {
        ShardMethod::Hash => Method::Hash {
            buckets: buckets(config, said)?,
        },
        ShardMethod::List => {
            let mut values = BTreeMap::new();
            let mut default = None;
            for place in &said.places {
                let shard = shard(config, &place.shard);
                if place.others && default.replace(shard).is_some() {
                    return Err("all others can be on one shard only".to_owned());
                }
                for text in &place.values {
                    if values.insert(read(text)?, shard).is_some() {
                        return Err(format!("{text:?} is there twice"));
                    }
                }
            }
            Method::List { values, default }
        }
        ShardMethod::Range => {
            let ranges = said.places.iter().map(|place| {
                Ok(Range {
                    from: place.from.as_ref().map(read).transpose()?,
                    to: place.to.as_ref().map(read).transpose()?,
                    shard: shard(config, &place.shard),
                })
            });
            Method::Range(ranges.collect::<Result<_, String>>()?)
        }
        ShardMethod::Lookup => {
            // Groups of which the same is said are placed alike, and asked for once.
            let known = lookups.iter().find(|it| it.is_for(&said.lookup, kind));
            let known = known.map(|known| Arc::clone(known.mapping()));
            Method::Lookup(known.unwrap_or_else(|| {
                let lookup = Lookup::new(config, group, &said.lookup, kind);
                let mapping = Arc::clone(lookup.mapping());
                lookups.push(lookup);
                mapping
            }))
        }
    })
}

/// The shard of each bucket.
fn buckets(config: &Sharded, said: &KeyMethod) -> Result<Vec<Shard>, String> {
    let shards = u16::try_from(config.shards.len()).unwrap_or(u16::MAX);
    let count = said.buckets.unwrap_or(shards);
    if said.bucket_map.is_empty() {
        let shard = |bucket| Shard(bucket % shards.max(1));
        return Ok((0..count).map(shard).collect());
    }
    let mut found = vec![None; usize::from(count)];
    for place in &said.bucket_map {
        let shard = shard(config, &place.shard);
        for bucket in place.buckets.iter().cloned().flatten() {
            // The configuration has checked that it is the only one.
            let free = found.get_mut(usize::from(bucket));
            *free.ok_or_else(|| format!("there is no bucket {bucket}"))? = Some(shard);
        }
    }
    let found = found.into_iter().enumerate();
    found
        .map(|(bucket, shard)| shard.ok_or_else(|| format!("bucket {bucket} is on no shard")))
        .collect()
}

/// A shard by its section, which the configuration has checked to be there.
fn shard(config: &Sharded, section: &str) -> Shard {
    Shard(config.shard(section).unwrap_or(u16::MAX))
}

fn key_type(name: &str) -> Option<KeyType> {
    Some(match name {
        "smallint" | "int2" => KeyType::Int2,
        "integer" | "int" | "int4" => KeyType::Int4,
        "bigint" | "int8" => KeyType::Int8,
        "uuid" => KeyType::Uuid,
        "text" | "varchar" => KeyType::Text,
        "bpchar" | "char" => KeyType::Bpchar,
        "date" => KeyType::Date,
        "timestamptz" => KeyType::Timestamptz,
        "numeric" => KeyType::Numeric,
        "bytea" => KeyType::Bytea,
        _ => return None,
    })
}

/// A name with its schema, which is `public` if it has none.
fn qualified(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or(("public", name))
}

#[cfg(test)]
mod tests {
    use pgherd_config::{
        BucketPlace, KeyLookup, KeyMethod, KeyPlace, ShardGroup, ShardMethod, Sharded,
        ShardedColumn, ShardedTable, Sharding,
    };
    use pgherd_planner::placement::{Distribution, Group, KeyValue, Method, Placement, Shard};

    use super::placement;

    fn sharded(sharding: Sharding) -> Sharded {
        Sharded {
            name: "all".into(),
            shards: vec!["a".into(), "b".into()],
            sharding,
        }
    }

    fn table(name: &str, key: &str, group: &str) -> ShardedTable {
        ShardedTable {
            name: name.into(),
            key: vec![key.into()],
            group: group.into(),
        }
    }

    fn column(name: &str, group: &str) -> ShardedColumn {
        ShardedColumn {
            name: name.into(),
            group: group.into(),
        }
    }

    fn place(values: &[&str], others: bool, shard: &str) -> KeyPlace {
        KeyPlace {
            values: values.iter().map(|text| (*text).to_owned()).collect(),
            from: None,
            to: None,
            others,
            shard: shard.into(),
        }
    }

    fn by_list(places: Vec<KeyPlace>) -> KeyMethod {
        KeyMethod {
            method: ShardMethod::List,
            places,
            ..KeyMethod::default()
        }
    }

    /// The columns of the key and the group of a table.
    fn keyed(placed: &Placement, name: &str, columns: &[&str]) -> (Vec<String>, Group) {
        match placed.of("public", name, columns) {
            Some(Distribution::Sharded(sharding)) => (sharding.columns, sharding.group),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tables_columns_and_the_rest() {
        let placed = placement(&sharded(Sharding {
            keys: KeyMethod {
                buckets: Some(64),
                ..KeyMethod::default()
            },
            tables: vec![table("orders", "customer", ""), table("x.y", "z", "")],
            columns: vec![column("tenant", "")],
            replicated: vec!["countries".into()],
            ..Sharding::default()
        }))
        .expect("a placement");
        let of = |schema, name, columns: &[&str]| placed.of(schema, name, columns);
        let keyed = |found| match found {
            Some(Distribution::Sharded(sharding)) => sharding.columns[0].clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(keyed(of("public", "orders", &[])), "customer");
        assert_eq!(keyed(of("x", "y", &[])), "z");
        assert_eq!(keyed(of("public", "any", &["tenant"])), "tenant");
        let countries = of("public", "countries", &["tenant"]);
        assert_eq!(countries, Some(Distribution::Replicated));
        assert_eq!(of("public", "other", &["a"]), None);
    }

    #[test]
    fn lists_have_values_of_their_type() {
        let listed = |places| {
            placement(&sharded(Sharding {
                keys: by_list(places),
                tables: vec![table("t", "k", "")],
                ..Sharding::default()
            }))
        };
        let placed = listed(vec![place(&["1", "2"], false, "b"), place(&[], true, "a")]);
        let placed = placed.expect("a placement");
        let (_, group) = keyed(&placed, "t", &[]);
        let shard = |key| placed.shard(group, &[KeyValue::Int(key)]);
        assert_eq!((shard(2), shard(7)), (Ok(Shard(1)), Ok(Shard(0))));
        let error = listed(vec![place(&["one"], false, "b")]).expect_err("no number");
        assert!(error.to_string().contains("\"one\""), "{error}");
        listed(vec![place(&["1"], false, "b"), place(&["1"], false, "a")]).expect_err("twice");
    }

    #[test]
    fn buckets_are_where_the_map_says() {
        let on = |shard: &str, buckets| BucketPlace {
            shard: shard.to_owned(),
            buckets,
        };
        let mapped = |bucket_map| {
            placement(&sharded(Sharding {
                keys: KeyMethod {
                    buckets: Some(8),
                    bucket_map,
                    ..KeyMethod::default()
                },
                ..Sharding::default()
            }))
        };
        let shards = |placed: &Placement| match placed.method(Group(0)) {
            Some(Method::Hash { buckets }) => buckets.iter().map(|it| it.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let plain = mapped(Vec::new()).expect("a placement");
        assert_eq!(shards(&plain), [0, 1, 0, 1, 0, 1, 0, 1]);
        let map = vec![on("b", vec![0..=2, 7..=7]), on("a", vec![3..=6])];
        let placed = mapped(map).expect("a placement");
        assert_eq!(shards(&placed), [1, 1, 1, 0, 0, 0, 0, 1]);
        let gap = vec![on("b", vec![0..=2]), on("a", vec![4..=7])];
        let error = mapped(gap).expect_err("one is nowhere").to_string();
        assert!(error.contains("bucket 3 is on no shard"), "{error}");
        mapped(vec![on("b", vec![0..=8])]).expect_err("there is none of that number");
    }

    #[test]
    fn groups_of_one_lookup_are_placed_alike() {
        let by = |query: &str, key_type: &str| KeyMethod {
            method: ShardMethod::Lookup,
            key_type: Some(key_type.into()),
            lookup: KeyLookup {
                query: Some(query.into()),
                ..KeyLookup::default()
            },
            ..KeyMethod::default()
        };
        let group = |name: &str, keys| ShardGroup {
            name: name.into(),
            keys,
        };
        let placed = super::placed(&sharded(Sharding {
            keys: by("select 1, 2", "text"),
            groups: vec![
                group("same", by("select 1, 2", "text")),
                group("typed", by("select 1, 2", "uuid")),
                group("other", by("select 3, 4", "text")),
            ],
            ..Sharding::default()
        }));
        let placed = placed.expect("a placement");
        assert_eq!(placed.lookups.len(), 3);
        // The first is that of the group that stands first, the last that of all others.
        let method = |at| placed.placement.method(Group(at));
        assert_eq!(method(0), method(3));
        assert!(method(0) != method(1) && method(0) != method(2) && method(1) != method(2));
        let wrong = placement(&sharded(Sharding {
            keys: by("select 1, 2", "json"),
            ..Sharding::default()
        }));
        let error = wrong.expect_err("no key").to_string();
        assert!(error.contains("there are no keys of type json"), "{error}");
    }

    #[test]
    fn groups_have_methods_of_their_own() {
        let sharding = |places| Sharding {
            groups: vec![ShardGroup {
                name: "regions".into(),
                keys: KeyMethod {
                    key_type: Some("text".into()),
                    ..by_list(places)
                },
            }],
            tables: vec![table("t", "k", ""), table("u", "k", "other")],
            columns: vec![column("region", "regions"), column("tenant", "")],
            ..Sharding::default()
        };
        let places = vec![place(&["eu"], false, "b"), place(&["us"], false, "a")];
        let placed = placement(&sharded(sharding(places))).expect("a placement");
        let (columns, regions) = keyed(&placed, "shops", &["region"]);
        assert_eq!(columns, ["region"]);
        let text = |text: &str| KeyValue::Text(text.as_bytes().into());
        assert_eq!(placed.shard(regions, &[text("eu")]), Ok(Shard(1)));
        assert_eq!(placed.shard(regions, &[text("us")]), Ok(Shard(0)));
        placed.shard(regions, &[text("af")]).expect_err("nowhere");
        let (_, plain) = keyed(&placed, "t", &[]);
        let (_, other) = keyed(&placed, "u", &[]);
        let (_, tenants) = keyed(&placed, "any", &["tenant"]);
        assert_eq!(plain, tenants);
        assert!(plain != other && plain != regions && other != regions);
        // Who has none of its own is placed as the database says.
        assert_eq!(placed.method(plain), placed.method(other));
        assert_eq!(placed.method(plain), Some(&Method::hash(2)));
        let twice = vec![place(&["eu"], false, "b"), place(&["eu"], false, "a")];
        let error = placement(&sharded(sharding(twice))).expect_err("twice");
        let expected = "databases.all.sharding.groups: regions: \"eu\" is there twice";
        assert_eq!(error.to_string(), expected);
    }
}
