//! The values of keys, as servers read them.

use std::sync::Arc;

use super::{binary, text};
use crate::catalog::{Catalog, Loader, Part};
use crate::placement::{Distribution, KeyValue, Method, Placement, Sharding};
use crate::tree::Kind;
use crate::{Names, Param, Params, Refusal, Statement, plan};

const SHARDS: u16 = 8;

/// Tables that are sharded by `k`, and its type.
const TABLES: [(&str, &str, &str); 6] = [
    ("blobs", "bytea", "17"),
    ("texts", "text", "25"),
    ("words", "varchar", "1043"),
    ("moments", "timestamptz", "1184"),
    ("counts", "int8", "20"),
    ("amounts", "numeric", "1700"),
];

fn catalog() -> Catalog {
    let mut loader = Loader::default();
    let mut row = |part, values: &[&str]| {
        let given = values.iter().map(|it| (*it != "-").then_some(*it));
        let values: Vec<Option<&str>> = given.collect();
        loader.row(part, &values).unwrap();
    };
    row(Part::Schemas, &["public"]);
    for (table, _, _) in TABLES {
        row(
            Part::Relations,
            &["public", table, "r", "f", "f", "f", "-", "-", "f", "-"],
        );
    }
    for (table, kind, oid) in TABLES {
        let collation = if matches!(oid, "25" | "1043") {
            "D"
        } else {
            ""
        };
        // A timestamptz(3).
        let modifier = if oid == "1184" { "3" } else { "-1" };
        let column = [
            "public",
            table,
            "k",
            "pg_catalog",
            kind,
            oid,
            modifier,
            "t",
            collation,
            "-",
            "f",
            "f",
        ];
        row(Part::Columns, &column);
    }
    loader.finish()
}

fn planned(text: &str) -> Statement {
    let mut placement = Placement::new(SHARDS);
    for (table, _, _) in TABLES {
        let group = placement.group(Method::hash(SHARDS)).unwrap();
        let columns = vec!["k".to_owned()];
        let sharding = Distribution::Sharded(Sharding { columns, group });
        placement.table("public", table, sharding);
    }
    plan(text, &Names::default(), &catalog(), &Arc::new(placement))
}

/// The shards of a statement with one parameter, or with none.
fn shards(
    sql: &str,
    value: Option<Param<'_>>,
    foreign_encoding: bool,
) -> Result<Vec<u16>, Refusal> {
    let params = Params {
        values: value.as_slice(),
        foreign_encoding,
    };
    let found = planned(sql).shards(&params)?;
    Ok(found.into_iter().map(|shard| shard.0).collect())
}

fn of(value: &KeyValue) -> Vec<u16> {
    let bucket = Method::bucket(std::slice::from_ref(value), usize::from(SHARDS));
    vec![u16::try_from(bucket).unwrap()]
}

fn of_text(text: &str) -> Vec<u16> {
    of(&KeyValue::Text(text.as_bytes().into()))
}

fn all() -> Vec<u16> {
    (0..SHARDS).collect()
}

#[test]
fn bytes_in_text_form_depend_on_the_encoding_too() {
    let key = of(&KeyValue::Bytea("é".as_bytes().into()));
    let select = "select * from blobs where k = $1";
    let given = Some(text(17, "é"));
    assert_eq!(shards(select, given, false).unwrap(), key);
    assert_eq!(shards(select, given, true).unwrap(), all());
    // In binary nothing is converted, and the older form may be of ASCII only.
    let sent = Some(binary(17, "é".as_bytes()));
    assert_eq!(shards(select, sent, true).unwrap(), key);
    let escaped = Some(text(17, "\\303\\251"));
    assert_eq!(shards(select, escaped, true).unwrap(), key);
    let any = "select * from blobs where k = any($1)";
    assert_eq!(shards(any, Some(text(1001, "{é}")), true).unwrap(), all());
    let insert = "insert into blobs values ($1)";
    assert_eq!(shards(insert, given, false).unwrap(), key);
    assert!(shards(insert, given, true).is_err());
    assert_eq!(shards(insert, sent, true).unwrap(), key);
}

#[test]
fn a_padded_value_equals_several_texts() {
    for delete in [
        "delete from words where k = $1",
        "delete from words where k in ($1)",
        "delete from words where k = any(array[$1])",
    ] {
        for given in [text(1042, "ab"), binary(1042, b"ab")] {
            assert_eq!(shards(delete, Some(given), false).unwrap(), all());
        }
    }
    let any = "delete from words where k = any($1)";
    let given = Some(text(1014, "{ab}"));
    assert_eq!(shards(any, given, false).unwrap(), all());
    let given = Some(text(1015, "{ab}"));
    assert_eq!(shards(any, given, false).unwrap(), of_text("ab"));
    let equal = "delete from words where k = $1";
    let given = Some(text(1043, "ab "));
    assert_eq!(shards(equal, given, false).unwrap(), of_text("ab "));
    // What is stored of it has no blanks at its end.
    let insert = "insert into words values ($1)";
    let given = Some(text(1042, "ab "));
    assert_eq!(shards(insert, given, false).unwrap(), of_text("ab"));
}

#[test]
fn blanks_of_unicode_are_part_of_an_element() {
    for blank in ["\u{3000}", "\u{a0}", "\u{85}"] {
        let key = format!("a{blank}");
        let array = format!("{{{key} }}");
        for sql in [
            format!("select * from texts where k = any('{array}')"),
            format!("select * from texts where k = any('{array}'::text[])"),
        ] {
            assert_eq!(shards(&sql, None, false).unwrap(), of_text(&key), "{sql}");
        }
        let any = "select * from texts where k = any($1)";
        let given = Some(text(1009, &array));
        assert_eq!(shards(any, given, false).unwrap(), of_text(&key));
    }
}

#[test]
fn equal_numbers_of_one_scale_are_the_same() {
    let of = |modifier| Kind {
        modifier,
        ..Kind::plain(1700)
    };
    // numeric(8, 2) and numeric(8, 3).
    let (two, three) = (of(524_294), of(524_295));
    assert!(two.is_exact());
    assert!(!of(-1).is_exact());
    assert_eq!(two.and(two), Some(two));
    assert_eq!(two.and(three), Some(of(-1)));
}

#[test]
fn infinity_is_as_fine_as_any_moment() {
    for (word, micros) in [("infinity", i64::MAX), ("-infinity", i64::MIN)] {
        let insert = format!("insert into moments values ('{word}')");
        let key = of(&KeyValue::Timestamptz(micros));
        assert_eq!(shards(&insert, None, false).unwrap(), key);
    }
    let finer = "insert into moments values ('2026-01-02 03:04:05.6789Z')";
    assert!(shards(finer, None, false).is_err());
}

#[test]
fn a_cast_rounds_what_has_a_fraction() {
    // 7.6 as `numeric_send` writes it.
    let sent = [0, 2, 0, 0, 0, 0, 0, 1, 0, 7, 0x17, 0x70];
    for table in ["counts", "amounts"] {
        for condition in [
            "k = $1::int8",
            "k in ($1::int4)",
            "k = any(array[$1::int8])",
        ] {
            let delete = format!("delete from {table} where {condition}");
            for given in [text(1700, "7.6"), binary(1700, &sent)] {
                assert_eq!(
                    shards(&delete, Some(given), false).unwrap(),
                    all(),
                    "{delete}"
                );
            }
        }
        let any = format!("delete from {table} where k = any($1::int8[])");
        let given = Some(text(1231, "{7,7.6}"));
        assert_eq!(shards(&any, given, false).unwrap(), all(), "{any}");
    }
    // What a cast leaves as it is is looked for.
    let seven = of(&KeyValue::Int(7));
    let equal = "delete from counts where k = $1::int8";
    assert_eq!(
        shards(equal, Some(text(1700, "7.0")), false).unwrap(),
        seven
    );
    let any = "delete from counts where k = any($1::int8[])";
    assert_eq!(
        shards(any, Some(text(1231, "{7.0}")), false).unwrap(),
        seven
    );
    // Without a cast, and for NULL, there is no row wherever.
    let null = Param {
        value: None,
        ..text(1700, "")
    };
    assert_eq!(shards(equal, Some(null), false).unwrap(), [0]);
    let plain = "delete from counts where k = $1";
    assert_eq!(shards(plain, Some(text(1700, "7.6")), false).unwrap(), [0]);
    let elements = "delete from counts where k = any($1)";
    assert_eq!(
        shards(elements, Some(text(1231, "{7.6}")), false).unwrap(),
        [0]
    );
    // A double is another number than the numeric that it is made from.
    let double = "delete from amounts where k = any($1::float8[])";
    assert_eq!(
        shards(double, Some(text(1231, "{7.6}")), false).unwrap(),
        all()
    );
}
