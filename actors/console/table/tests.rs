//! Tests of tables on the wire.

use bytes::BytesMut;
use pgherd_wire::backend::{self, Column as WireColumn};

use super::{Cell, Column, Format, Formats, Row, describe, int, row, text};

const COLUMNS: [Column; 2] = [text("name"), int("value")];

fn binary_each() -> Formats {
    Formats::parse(&[0, 0, 0, 1], 2).expect("two formats for two columns")
}

#[test]
fn a_description_in_text_is_the_one_of_the_protocol_crate() {
    let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
    describe(&mut ours, &COLUMNS, &Formats::default()).expect("short");
    let columns = [
        WireColumn::text("name"),
        WireColumn {
            name: "value",
            type_oid: WireColumn::INT8,
        },
    ];
    backend::row_description(&mut theirs, &columns).expect("short");
    assert_eq!(ours, theirs);
}

#[test]
fn a_description_says_which_columns_are_binary() {
    let mut out = BytesMut::new();
    describe(&mut out, &COLUMNS, &binary_each()).expect("short");
    assert_eq!(out[out.len() - 2..], [0, 1]);
    let name_ends = 5 + 2 + "name\0".len();
    assert_eq!(out[name_ends + 16..name_ends + 18], [0, 0]);
}

#[test]
fn values_in_either_format() {
    let cells: Row = vec!["a".into(), 258_u64.into()];
    let mut out = BytesMut::new();
    row(&mut out, &cells, &Formats::default()).expect("short");
    assert_eq!(&out[..], b"D\0\0\0\x12\0\x02\0\0\0\x01a\0\0\0\x03258");
    out.clear();
    row(&mut out, &cells, &binary_each()).expect("short");
    assert_eq!(
        &out[..],
        b"D\0\0\0\x17\0\x02\0\0\0\x01a\0\0\0\x08\0\0\0\0\0\0\x01\x02"
    );
}

#[test]
fn null_has_no_bytes() {
    let mut out = BytesMut::new();
    row(&mut out, &vec![Cell::Null], &Formats::default()).expect("short");
    assert_eq!(&out[..], b"D\0\0\0\x0a\0\x01\xff\xff\xff\xff");
}

#[test]
fn numbers_beyond_int8_are_cut_not_wrapped() {
    assert_eq!(Cell::from(u64::MAX), Cell::Int(i64::MAX));
    assert_eq!(Cell::from(u128::MAX), Cell::Int(i64::MAX));
    assert_eq!(Cell::from(None::<u64>), Cell::Null);
}

#[test]
fn formats_of_a_bind() {
    assert_eq!(Formats::parse(&[], 3), Ok(Formats::default()));
    let all = Formats::parse(&[0, 1], 3).expect("one for all");
    assert_eq!(all.of(2), Format::Binary);
    let wrong = Formats::parse(&[0, 1, 0, 1], 3).expect_err("two for three");
    assert_eq!(wrong.code.as_str(), "08P01");
    let unknown = Formats::parse(&[0, 2], 1).expect_err("no such format");
    assert_eq!(unknown.code.as_str(), "22023");
}
