//! Rows are told apart alike, wherever the data is cut.

use std::collections::BTreeMap;

use super::{Lines, Parts, Splitter, Stop, To};
use crate::placement::{KeyType, KeyValue, Method, Placement};
use crate::plan::copy::{Form, Quotes, Shape};
use crate::plan::{CopyIn, CopyTarget};

/// What each shard gets, and how many rows with how many lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    bytes: BTreeMap<u16, Vec<u8>>,
    rows: Vec<(To, Lines)>,
}

impl Parts for Got {
    fn bytes(&mut self, to: To, bytes: &[u8]) {
        let shards = match to {
            To::All => 0..4,
            To::One(shard) => shard.0..shard.0 + 1,
        };
        for shard in shards {
            self.bytes
                .entry(shard)
                .or_default()
                .extend_from_slice(bytes);
        }
    }

    fn row(&mut self, to: To, lines: Lines) {
        self.rows.push((to, lines));
    }
}

fn placement() -> (Placement, crate::placement::Group) {
    let mut placement = Placement::new(4);
    let group = placement.group(Method::hash(4)).unwrap();
    (placement, group)
}

fn shape(delimiter: u8, null: &[u8]) -> Shape {
    Shape {
        delimiter,
        null: null.into(),
        default: None,
        header: false,
    }
}

fn csv() -> Form {
    let quotes = Quotes {
        quote: b'"',
        escape: b'"',
        never_null: Vec::new(),
        null_in_quotes: Vec::new(),
    };
    Form::Csv(shape(b',', b""), quotes)
}

/// A splitter of rows of three columns, of which the second is the key.
fn splitter(form: &Form, kind: KeyType, watched: &[usize]) -> Splitter {
    splitter_of(form, kind, watched, false)
}

/// The same for data that may be in another encoding than the servers'.
fn splitter_of(form: &Form, kind: KeyType, watched: &[usize], foreign: bool) -> Splitter {
    let (placement, group) = placement();
    let key = vec![(1, kind)];
    let copy = CopyIn {
        schema: "public".into(),
        table: "t".into(),
        columns: ["a", "k", "b"].map(str::to_owned).into(),
        target: CopyTarget::ByKey { group, key },
        encoding: None,
        form: form.clone(),
        modifiers: vec![-1],
        watched: watched.to_vec(),
    };
    Splitter::new(&copy, &placement.into(), foreign, 1 << 20)
}

/// Splits data that comes in pieces of this size.
fn split(form: &Form, kind: KeyType, data: &[u8], size: usize) -> (Got, Result<(), Stop>) {
    let mut splitter = splitter(form, kind, &[]);
    let mut got = Got::default();
    for piece in data.chunks(size) {
        if let Err(stop) = splitter.feed(piece, &mut got) {
            return (got, Err(stop));
        }
    }
    let done = splitter.finish(&mut got);
    (got, done)
}

fn shard(kind: KeyType, key: &str) -> u16 {
    let (placement, group) = placement();
    let key = KeyValue::from_text(kind, key.as_bytes()).unwrap();
    placement.shard(group, &[key]).unwrap().0
}

#[test]
fn rows_are_the_same_wherever_data_is_cut() {
    let text = Form::Text(shape(b'\t', b"\\N"));
    for (form, rows) in [
        (
            &text,
            vec![
                ("one", "a\tone\tx\n"),
                ("t\two", "\\\t\tt\\two\t\\\n\n"),
                ("A\u{1}B", "\tA\\1\\x42\t\\N\n"),
                ("end", "\tend\t"),
            ],
        ),
        (
            &text,
            vec![
                ("one", "a\tone\tx\r\n"),
                ("two", "a\ttwo\ty\r\n\\.\r\nno"),
                ("", ""),
            ],
        ),
        (
            &csv(),
            vec![
                ("x,\ny", "a,\"x,\ny\",b\n"),
                ("a\"b", "\"\r\",a\"\"\"\"b,\\.\n"),
            ],
        ),
        (&csv(), vec![("one", ",one,\r"), ("\\.", ",\\.,")]),
    ] {
        let data: String = rows.iter().map(|(_, row)| *row).collect();
        let whole = split(form, KeyType::Text, data.as_bytes(), data.len());
        for size in 1..data.len() {
            let found = split(form, KeyType::Text, data.as_bytes(), size);
            assert_eq!(found.0, whole.0, "{data:?} by {size}");
            assert_eq!(found.1.is_ok(), whole.1.is_ok(), "{data:?} by {size}");
        }
        let mut expected: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        if whole.1.is_err() {
            continue;
        }
        for (key, row) in rows.iter().filter(|(_, row)| !row.is_empty()) {
            let row = row.split("\\.\r\n").next().unwrap();
            let bytes = expected.entry(shard(KeyType::Text, key)).or_default();
            bytes.extend_from_slice(row.as_bytes());
        }
        assert_eq!(whole.0.bytes, expected, "{data:?}");
    }
}

#[test]
fn what_no_server_takes_ends_the_rows() {
    let text = Form::Text(shape(b'\t', b"\\N"));
    for (form, data) in [
        (&text, "a\tone\tx\nb\ttwo\ty\r\nc"),
        (&text, "a\tone\tx\\.\n"),
        (&text, "a\tone\tx\n\\."),
        (&text, "a\t\\N\tx\nb\ttwo\tx\n"),
        (&text, "a\n"),
        (&csv(), "a,\"one,x\n"),
        (&csv(), "a,,x\n"),
    ] {
        for size in 1..=data.len() {
            let (_, stop) = split(form, KeyType::Text, data.as_bytes(), size);
            assert!(
                matches!(stop, Err(Stop::Doubt(_))),
                "{data:?} by {size}: {stop:?}"
            );
        }
    }
    let (_, stop) = split(&csv(), KeyType::Text, b"\\.\n", 1);
    assert!(matches!(stop, Err(Stop::Refused(_))), "{stop:?}");
    let mut splitter = splitter(&text, KeyType::Text, &[2]);
    let stop = splitter.feed(b"a\tb\tto\\x64ay\n", &mut Got::default());
    assert!(matches!(stop, Err(Stop::Refused(_))), "{stop:?}");
}

#[test]
fn binary_rows_are_the_same_wherever_data_is_cut() {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02xy".to_vec();
    let head = data.len();
    let mut expected: BTreeMap<u16, Vec<u8>> = (0..4).map(|it| (it, data.clone())).collect();
    for key in 0..9_i32 {
        let start = data.len();
        data.extend([0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4]);
        data.extend(key.to_be_bytes());
        data.extend([0, 0, 0, 2, 7, 7]);
        let row = data[start..].to_vec();
        expected
            .entry(shard(KeyType::Int4, &key.to_string()))
            .or_default()
            .extend(row);
    }
    data.extend([0xff, 0xff]);
    expected
        .values_mut()
        .for_each(|bytes| bytes.extend([0xff, 0xff]));
    for size in 1..=data.len() {
        let (got, done) = split(&Form::Binary, KeyType::Int4, &data, size);
        assert_eq!((got.bytes, done), (expected.clone(), Ok(())), "by {size}");
        assert_eq!(got.rows.len(), 9);
    }
    for end in (1..data.len() - 2).filter(|end| *end < head || !(end - head).is_multiple_of(20)) {
        let (_, done) = split(&Form::Binary, KeyType::Int4, &data[..end], 3);
        assert!(matches!(done, Err(Stop::Doubt(_))), "{end}: {done:?}");
    }
    data.push(0);
    let (_, done) = split(&Form::Binary, KeyType::Int4, &data, 3);
    assert!(matches!(done, Err(Stop::Doubt(_))), "{done:?}");
}

#[test]
fn bytes_in_text_form_depend_on_the_encoding_too() {
    let text = Form::Text(shape(b'\t', b"\\N"));
    for (form, row) in [(&text, &b"a\t\xe9\tx\n"[..]), (&csv(), &b"a,\xe9,x\n"[..])] {
        let fed = |foreign| {
            let mut splitter = splitter_of(form, KeyType::Bytea, &[], foreign);
            let mut got = Got::default();
            splitter.feed(row, &mut got).map(|()| got.bytes)
        };
        assert!(matches!(fed(true), Err(Stop::Doubt(_))), "{:?}", fed(true));
        let (placement, group) = placement();
        let key = KeyValue::Bytea(b"\xe9"[..].into());
        let shard = placement.shard(group, &[key]).unwrap().0;
        assert_eq!(fed(false).unwrap(), BTreeMap::from([(shard, row.to_vec())]));
    }
    // The newer form is of ASCII alone, and so may the older one be.
    for row in [&b"a\t\\\\xe9\tx\n"[..], b"a\t\\\\351\tx\n"] {
        let mut splitter = splitter_of(&text, KeyType::Bytea, &[], true);
        assert_eq!(splitter.feed(row, &mut Got::default()), Ok(()));
    }
}
