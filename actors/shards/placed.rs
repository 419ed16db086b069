//! From what an operator says of placement to the planner's own.

use std::collections::BTreeMap;

use pgherd_config::{ShardMethod, ShardSequences, Sharded, UnlistedTables};
use pgherd_planner::placement::{
    Distribution, Group, KeyType, KeyValue, Method, Placement, Range, Sequences, Shard, Sharding,
    Unlisted,
};

/// Why nothing can be placed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("databases.{database}.sharding.{key}: {why}")]
pub struct Misplaced {
    database: String,
    key: &'static str,
    why: String,
}

/// Where rows live by this configuration.
///
/// # Errors
/// What of it makes no sense.
pub fn placement(config: &Sharded) -> Result<Placement, Misplaced> {
    let shards = u16::try_from(config.shards.len()).unwrap_or(u16::MAX);
    let wrong = |key, why: String| Misplaced {
        database: config.name.clone(),
        key,
        why,
    };
    let said = &config.sharding;
    let mut placement = Placement::new(shards);
    let method = method(config, shards).map_err(|why| wrong("places", why))?;
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    let names = said.tables.iter().map(|table| table.group.as_str());
    for name in names.chain([""]) {
        if groups.contains_key(name) {
            continue;
        }
        let group = placement
            .group(method.clone())
            .map_err(|error| wrong("method", error.to_string()))?;
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
        placement.column(column, groups[""]);
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
    Ok(placement)
}

fn method(config: &Sharded, shards: u16) -> Result<Method, String> {
    let said = &config.sharding;
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
            buckets: (0..said.buckets.unwrap_or(shards))
                .map(|bucket| Shard(bucket % shards.max(1)))
                .collect(),
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
    })
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
    use pgherd_config::{KeyPlace, ShardMethod, Sharded, ShardedTable, Sharding};
    use pgherd_planner::placement::{Distribution, KeyValue, Shard};

    use super::placement;

    fn sharded(sharding: Sharding) -> Sharded {
        Sharded {
            name: "all".into(),
            shards: vec!["a".into(), "b".into()],
            sharding,
        }
    }

    fn table(name: &str, key: &str) -> ShardedTable {
        ShardedTable {
            name: name.into(),
            key: vec![key.into()],
            group: String::new(),
        }
    }

    #[test]
    fn tables_columns_and_the_rest() {
        let placed = placement(&sharded(Sharding {
            tables: vec![table("orders", "customer"), table("x.y", "z")],
            columns: vec!["tenant".into()],
            replicated: vec!["countries".into()],
            buckets: Some(64),
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
        let place = |values: &[&str], others, shard: &str| KeyPlace {
            values: values.iter().map(|text| (*text).to_owned()).collect(),
            from: None,
            to: None,
            others,
            shard: shard.into(),
        };
        let by_list = |places| {
            placement(&sharded(Sharding {
                method: ShardMethod::List,
                places,
                tables: vec![table("t", "k")],
                ..Sharding::default()
            }))
        };
        let placed = by_list(vec![place(&["1", "2"], false, "b"), place(&[], true, "a")]);
        let placed = placed.expect("a placement");
        let Some(Distribution::Sharded(sharding)) = placed.of("public", "t", &[]) else {
            panic!("it is sharded");
        };
        let shard = |key| placed.shard(sharding.group, &[KeyValue::Int(key)]);
        assert_eq!((shard(2), shard(7)), (Ok(Shard(1)), Ok(Shard(0))));
        let error = by_list(vec![place(&["one"], false, "b")]).expect_err("no number");
        assert!(error.to_string().contains("\"one\""), "{error}");
        by_list(vec![place(&["1"], false, "b"), place(&["1"], false, "a")]).expect_err("twice");
    }
}
