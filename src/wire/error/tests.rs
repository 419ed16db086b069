use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER_LEN, header};
use crate::sqlstate::{ADMIN_SHUTDOWN, QUERY_CANCELED, SYNTAX_ERROR};

fn body(report: &ErrorReport) -> Vec<u8> {
    let mut out = BytesMut::new();
    report.encode_error(&mut out);
    let header = header(&out).unwrap().unwrap();
    assert_eq!(
        (header.tag, header.total()),
        (tag::ERROR_RESPONSE, out.len())
    );
    out[HEADER_LEN..].to_vec()
}

#[test]
fn is_written_with_both_severities_and_a_terminator() {
    let report = ErrorReport::fatal(ADMIN_SHUTDOWN, "going")
        .detail("d")
        .hint("h");
    assert_eq!(body(&report), b"SFATAL\0VFATAL\0C57P01\0Mgoing\0Dd\0Hh\0\0");
    assert_eq!(report.to_string(), "FATAL: going (57P01)");
    let mut out = BytesMut::new();
    ErrorReport::notice("psst").encode_notice(&mut out);
    assert_eq!(out, b"N\0\0\0\x22SNOTICE\0VNOTICE\0C00000\0Mpsst\0\0"[..]);
}

#[test]
fn a_text_cannot_break_the_frame() {
    let report = ErrorReport::error(SYNTAX_ERROR, "a\0Cxxxxx").detail("é".repeat(FIELD_MAX));
    let read = ErrorReport::parse(&body(&report));
    assert_eq!((&*read.message, read.code), ("a", SYNTAX_ERROR));
    assert!(read.detail.unwrap().len() <= FIELD_MAX);
}

#[test]
fn what_a_server_leaves_out_is_filled_in() {
    for bytes in [
        &b""[..],
        b"\0",
        b"S",
        b"C\0",
        b"Cabc\0\0",
        b"C57p01\0",
        b"SFEHLER\0\0",
    ] {
        let report = ErrorReport::parse(bytes);
        assert_eq!(
            (report.severity, report.code),
            (Severity::Error, INTERNAL_ERROR),
            "{bytes:?}"
        );
        assert!(!report.message.is_empty());
    }
}

#[test]
fn what_a_server_says_twice_counts_once() {
    let twice = b"SFATAL\0VERROR\0C57014\0C42601\0Ma\0Mb\0Da\0Db\0P1\0P2\0Zx\0\0Mafter\0";
    let report = ErrorReport::parse(twice);
    let expected = ErrorReport::error(QUERY_CANCELED, "a").detail("a");
    let others = vec![(Field::Position, "1".to_owned())];
    assert_eq!(report, ErrorReport { others, ..expected });
    let first = ErrorReport::parse(b"VFATAL\0VERROR\0SPANIC\0");
    assert_eq!(first.severity, Severity::Fatal);
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    assert_eq!(ErrorReport::parse(b"Ma\xffb").message, "a\u{fffd}b");
}

#[test]
fn a_peek_sees_severity_and_code() {
    let peek = |bytes: &'static [u8]| {
        let peek = ErrorReport::peek(bytes);
        (peek.severity_v, peek.code)
    };
    assert_eq!(
        peek(b"SFATAAL\0VFATAL\0C57P01\0Mx\0\0"),
        (&b"FATAL"[..], &b"57P01"[..])
    );
    assert_eq!(peek(b"SFATAL\0C57P01\0\0"), (&b"FATAL"[..], &b"57P01"[..]));
    assert_eq!(peek(b"\0VFATAL\0"), (&b""[..], &b""[..]));
    assert_eq!(peek(b"C57P01"), (&b""[..], &b"57P01"[..]));
}

#[test]
fn becomes_fatal_but_no_less_than_it_was() {
    assert!(
        ErrorReport::error(SYNTAX_ERROR, "x")
            .into_fatal()
            .is_fatal()
    );
    let panic = ErrorReport::new(Severity::Panic, SYNTAX_ERROR, "x").into_fatal();
    assert_eq!(panic.severity, Severity::Panic);
    assert!(!ErrorReport::error(SYNTAX_ERROR, "x").is_fatal());
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in "[^\0]{1,20}", detail in "[^\0]{0,20}") {
        let mut report = ErrorReport::error(SYNTAX_ERROR, message).detail(detail).hint("h");
        for byte in b"PpqWstcdnFLR" {
            report.others.push((Field::from_byte(*byte).unwrap(), char::from(*byte).into()));
        }
        prop_assert_eq!(ErrorReport::parse(&body(&report)), report);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..80)) {
        let _ = ErrorReport::peek(&bytes);
        let report = ErrorReport::parse(&bytes);
        let _ = body(&report);
    }
}
