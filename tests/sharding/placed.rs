//! Thousands of values of each type: the bucket that is computed is the partition that Postgres chooses.

use pgherd_planner::placement::{KeyType, KeyValue, Method};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::database;

const VALUES: usize = 3_000;
const BUCKETS: usize = 64;

/// A type by its name, how its key is read, and its columns in a key.
const TYPES: &[(&str, KeyType)] = &[
    ("int2", KeyType::Int2),
    ("int4", KeyType::Int4),
    ("int8", KeyType::Int8),
    ("uuid", KeyType::Uuid),
    ("text", KeyType::Text),
    ("varchar", KeyType::Text),
    ("bpchar", KeyType::Bpchar),
    ("date", KeyType::Date),
    ("timestamptz", KeyType::Timestamptz),
    ("numeric", KeyType::Numeric),
    ("bytea", KeyType::Bytea),
];

fn digits(random: &mut StdRng, most: usize) -> String {
    let count = random.random_range(1..=most);
    (0..count)
        .map(|_| char::from(b'0' + random.random_range(0..10)))
        .collect()
}

fn number(random: &mut StdRng) -> String {
    let sign = ["", "-", "+"][random.random_range(0..3)];
    match random.random_range(0..40) {
        0 => "NaN".into(),
        1 => format!("{sign}Infinity"),
        2 => format!("{sign}0.000"),
        3..10 => format!("{sign}{}", digits(random, 30)),
        10..15 => format!(
            "{sign}{}e{}",
            digits(random, 9),
            random.random_range(-40..40)
        ),
        15..20 => format!("{sign}{}000000.000", digits(random, 9)),
        20..25 => format!("{sign}.000000{}", digits(random, 12)),
        _ => format!("{sign}{}.{}", digits(random, 12), digits(random, 12)),
    }
}

fn word(random: &mut StdRng) -> String {
    let letters: Vec<char> = "abcXYZ 0189äß€漢 '".chars().collect();
    let count = random.random_range(0..30);
    (0..count)
        .map(|_| letters[random.random_range(0..letters.len())])
        .collect()
}

fn value(kind: KeyType, random: &mut StdRng) -> String {
    let day = |random: &mut StdRng| {
        let (year, month, day) = (
            random.random_range(1..=9999),
            random.random_range(1..=12),
            random.random_range(1..=28),
        );
        format!("{year:04}-{month:02}-{day:02}")
    };
    match kind {
        KeyType::Int2 => random.random::<i16>().to_string(),
        KeyType::Int4 => random.random::<i32>().to_string(),
        KeyType::Int8 => (random.random::<i64>() >> random.random_range(0..64)).to_string(),
        KeyType::Uuid => format!("{:032x}", random.random::<u128>()),
        KeyType::Text => word(random),
        KeyType::Bpchar => format!("{}  ", word(random)),
        KeyType::Date => day(random),
        KeyType::Timestamptz => format!(
            "{} {:02}:{:02}:{:02}.{}{:+03}:{:02}",
            day(random),
            random.random_range(0..24),
            random.random_range(0..60),
            random.random_range(0..60),
            digits(random, 6),
            random.random_range(-12..=14),
            [0, 30, 45][random.random_range(0..3)],
        ),
        KeyType::Numeric => number(random),
        KeyType::Bytea => {
            let count = random.random_range(0..40);
            let hex = (0..count).map(|_| format!("{:02x}", random.random::<u8>()));
            format!("\\x{}", hex.collect::<String>())
        }
    }
}

async fn lines(client: &Client, query: &str) -> Vec<(String, String)> {
    let messages = client.simple_query(query).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    });
    rows.collect()
}

/// Asks for the values' binary forms, and whether each is in the partition of its bucket.
async fn check(client: &Client, name: &str, kind: KeyType, texts: &[String]) {
    let setup = format!(
        "drop table if exists placed; drop table if exists of_{name};
         create table of_{name} (k {name}) partition by hash (k);
         create table placed (n int, b int, t text)"
    );
    client.batch_execute(&setup).await.unwrap();
    let rows: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let key = KeyValue::from_text(kind, text.as_bytes()).expect(text);
            let bucket = Method::bucket(std::slice::from_ref(&key), BUCKETS);
            format!("({n}, {bucket}, '{}')", text.replace('\'', "''"))
        })
        .collect();
    let insert = format!("insert into placed values {}", rows.join(","));
    client.batch_execute(&insert).await.unwrap();
    let wrong = format!(
        "select b, t from placed where not satisfies_hash_partition('of_{name}'::regclass, {BUCKETS}, b, t::{name})"
    );
    assert_eq!(lines(client, &wrong).await, [], "{name}");
    let send = match kind {
        KeyType::Date | KeyType::Timestamptz | KeyType::Uuid | KeyType::Numeric => {
            format!("{name}_")
        }
        _ => name.to_owned(),
    };
    let binary = format!("select t, encode({send}send(t::{name}), 'hex') from placed order by n");
    for (text, hex) in lines(client, &binary).await {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(
            KeyValue::from_binary(kind, &bytes),
            KeyValue::from_text(kind, text.as_bytes()),
            "{name} {text}"
        );
    }
}

#[tokio::test]
async fn keys_are_where_postgres_partitions_would_have_them() {
    let client = database().await;
    let mut random = StdRng::seed_from_u64(11);
    for (name, kind) in TYPES {
        let texts: Vec<String> = (0..VALUES).map(|_| value(*kind, &mut random)).collect();
        check(&client, name, *kind, &texts).await;
    }
}

#[tokio::test]
async fn keys_of_several_columns_are_too() {
    let client = database().await;
    let setup = "create table composite (a int8, b text, c uuid) partition by hash (a, b, c)";
    client.batch_execute(setup).await.unwrap();
    let mut random = StdRng::seed_from_u64(12);
    let mut rows = Vec::new();
    for _ in 0..VALUES {
        let kinds = [KeyType::Int8, KeyType::Text, KeyType::Uuid];
        let texts = kinds.map(|kind| value(kind, &mut random).replace('\'', ""));
        let key: Vec<KeyValue> = kinds
            .iter()
            .zip(&texts)
            .map(|(kind, text)| KeyValue::from_text(*kind, text.as_bytes()).unwrap())
            .collect();
        let bucket = Method::bucket(&key, BUCKETS);
        rows.push(format!(
            "({bucket}, '{}', '{}', '{}')",
            texts[0], texts[1], texts[2]
        ));
    }
    let wrong = format!(
        "select bucket, a from (values {}) v (bucket, a, b, c) where not satisfies_hash_partition(
         'composite'::regclass, {BUCKETS}, bucket, a::int8, b::text, c::uuid)",
        rows.join(",")
    );
    assert_eq!(lines(&client, &wrong).await, []);
}
