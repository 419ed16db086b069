use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::cancel::CancelKey;
use crate::frame::{HEADER_LEN, TooLong, header};
use crate::read::MessageError;
use crate::startup::Version;

/// The body of the message that `write` writes.
fn body(tag: u8, write: impl FnOnce(&mut BytesMut) -> Result<(), TooLong>) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out).unwrap();
    let header = header(&out).unwrap().unwrap();
    assert_eq!((header.tag, header.total()), (tag, out.len()));
    out[HEADER_LEN..].to_vec()
}

/// The same for messages that cannot be too long.
fn sure(tag: u8, write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    body(tag, |out| {
        write(out);
        Ok(())
    })
}

#[test]
fn each_demand_is_read_as_it_was_made() {
    let read = |body: &[u8], expected: Authentication<'_>| {
        assert_eq!(Authentication::parse(body), Ok(expected));
    };
    let tag = tag::AUTHENTICATION;
    read(&sure(tag, authentication_ok), Authentication::Ok);
    read(
        &sure(tag, authentication_cleartext),
        Authentication::Cleartext,
    );
    let md5 = sure(tag, |out| authentication_md5(out, *b"salt"));
    read(&md5, Authentication::Md5 { salt: *b"salt" });
    let next = body(tag, |out| authentication_sasl_continue(out, b"next"));
    read(&next, Authentication::SaslContinue(b"next"));
    let last = body(tag, |out| authentication_sasl_final(out, b"last"));
    read(&last, Authentication::SaslFinal(b"last"));
    read(b"\0\0\0\x07", Authentication::Unsupported(7));
    let garbage = Authentication::parse(b"\0\xff\xff\xff");
    assert_eq!(garbage, Err(MessageError::Method(0x00ff_ffff)));
    let offer = body(tag, |out| authentication_sasl(out, &["A-PLUS", "A"]));
    let Ok(Authentication::Sasl(mechanisms)) = Authentication::parse(&offer) else {
        panic!("an offer was made");
    };
    assert_eq!(
        mechanisms.iter().collect::<Vec<_>>(),
        [&b"A-PLUS"[..], b"A"]
    );
}

#[test]
fn broken_demands_are_refused() {
    for body in [
        &b""[..],
        b"\0\0\0",
        b"\0\0\0\0x",
        b"\0\0\0\x05abc",
        b"\0\0\0\x05abcde",
        b"\0\0\0\x0a",
        b"\0\0\0\x0aSCRAM",
        b"\0\0\0\x0aSCRAM\0",
        b"\0\0\0\x0aSCRAM\0\0x",
    ] {
        assert!(Authentication::parse(body).is_err(), "{body:?}");
    }
}

#[test]
fn a_status_is_one_of_three() {
    use TransactionStatus::{Failed, Idle, InTransaction};
    for status in [Idle, InTransaction, Failed] {
        let body = sure(tag::READY_FOR_QUERY, |out| ready_for_query(out, status));
        assert_eq!(ReadyForQuery::parse(&body), Ok(ReadyForQuery { status }));
    }
    assert_eq!(ReadyForQuery::parse(b"X"), Err(MessageError::Status(b'X')));
    assert_eq!(ReadyForQuery::parse(b""), Err(MessageError::Short));
    assert_eq!(ReadyForQuery::parse(b"II"), Err(MessageError::Trailing));
}

#[test]
fn keys_keep_to_their_lengths() {
    for length in [4, 32, 256] {
        let key = CancelKey::new(-7, &vec![9; length]).unwrap();
        let body = sure(tag::BACKEND_KEY_DATA, |out| backend_key_data(out, &key));
        let read = BackendKeyData::parse(&body).unwrap();
        assert_eq!((read.pid, read.secret), (-7, key.secret()));
    }
    for length in [0, 3, 257] {
        let body = [&[0; 4][..], &vec![9; length]].concat();
        assert_eq!(
            BackendKeyData::parse(&body).err(),
            Some(MessageError::KeyLength(length))
        );
    }
}

#[test]
fn columns_are_described_as_postgres_does() {
    let columns = [
        Column::text("name"),
        Column {
            name: "n",
            type_oid: Column::INT8,
        },
    ];
    let body = body(tag::ROW_DESCRIPTION, |out| row_description(out, &columns));
    let read = RowDescription::parse(&body).unwrap();
    let read: Vec<_> = read
        .columns()
        .map(|one| (one.name, one.type_oid, one.size))
        .collect();
    assert_eq!(read, [(&b"name"[..], 25, -1), (b"n", 20, 8)]);
    assert_eq!(
        RowDescription::parse(&body[..body.len() - 1]),
        Err(MessageError::Short)
    );
    assert_eq!(RowDescription::parse(b"\0\0x"), Err(MessageError::Trailing));
    assert_eq!(
        RowDescription::parse(b"\xff\xff"),
        Err(MessageError::Unterminated)
    );
}

#[test]
fn a_row_has_no_negative_lengths_but_null() {
    assert_eq!(
        DataRow::parse(b"\0\x01\xff\xff\xff\xff")
            .unwrap()
            .values()
            .next(),
        Some(None)
    );
    let negative = DataRow::parse(b"\0\x01\xff\xff\xff\xfe");
    assert_eq!(negative, Err(MessageError::NegativeLength(-2)));
    assert_eq!(
        DataRow::parse(b"\0\x02\xff\xff\xff\xff"),
        Err(MessageError::Short)
    );
    assert_eq!(
        DataRow::parse(b"\0\x01\0\0\0\x02x"),
        Err(MessageError::Short)
    );
    assert_eq!(DataRow::parse(b"\0\0x"), Err(MessageError::Trailing));
}

#[test]
fn copy_responses_have_the_layout_of_the_manual() {
    let text = body(tag::COPY_IN_RESPONSE, |out| {
        copy_in_response(out, 0, &[0, 0])
    });
    assert_eq!(text, b"\0\0\x02\0\0\0\0");
    let binary = body(tag::COPY_OUT_RESPONSE, |out| {
        copy_out_response(out, 1, &[1])
    });
    assert_eq!(binary, b"\x01\0\x01\0\x01");
    let both = body(tag::COPY_BOTH_RESPONSE, |out| {
        copy_both_response(out, 0, &[])
    });
    assert_eq!(both, b"\0\0\0");
    let note = body(tag::NOTIFICATION_RESPONSE, |out| {
        notification(out, 7, b"c", b"p")
    });
    assert_eq!(note, b"\0\0\0\x07c\0p\0");
    assert_eq!(sure(tag::NO_DATA, no_data), b"");
    assert_eq!(sure(tag::EMPTY_QUERY_RESPONSE, empty_query), b"");
}

#[test]
fn a_count_of_options_is_not_believed() {
    let options: &[&[u8]] = &[b"_pq_.a", b"_pq_.b"];
    let body = body(tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        negotiate_protocol_version(out, Version::V3_2, options)
    });
    let read = NegotiateProtocolVersion::parse(&body).unwrap();
    assert_eq!((read.version, &*read.options), (Version::V3_2, options));
    let lie = NegotiateProtocolVersion::parse(b"\0\x03\0\x02\xff\xff\xff\xff");
    assert_eq!(lie, Err(MessageError::Unterminated));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in vec(1_u8..=255, 0..9), value in vec(1_u8..=255, 0..9),
        row in vec(option::of(vec(any::<u8>(), 0..9)), 0..5),
    ) {
        let status = body(tag::PARAMETER_STATUS, |out| parameter_status(out, &name, &value));
        let expected = ParameterStatus { name: &name, value: &value };
        prop_assert_eq!(ParameterStatus::parse(&status), Ok(expected));
        let complete = body(tag::COMMAND_COMPLETE, |out| command_complete(out, &name));
        prop_assert_eq!(CommandComplete::parse(&complete), Ok(CommandComplete { tag: &name }));
        let values: Vec<_> = row.iter().map(Option::as_deref).collect();
        let written = body(tag::DATA_ROW, |out| data_row(out, &values));
        let read = DataRow::parse(&written).unwrap();
        prop_assert_eq!(read.len(), values.len());
        prop_assert_eq!(read.values().collect::<Vec<_>>(), values);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..80)) {
        if let Ok(Authentication::Sasl(mechanisms)) = Authentication::parse(&bytes) {
            let _ = mechanisms.iter().count();
        }
        let _ = ReadyForQuery::parse(&bytes);
        let _ = ParameterStatus::parse(&bytes);
        let _ = BackendKeyData::parse(&bytes).map(|key| key.pid);
        let _ = CommandComplete::parse(&bytes);
        let _ = NegotiateProtocolVersion::parse(&bytes);
        let _ = RowDescription::parse(&bytes).map(|row| row.columns().count());
        let _ = DataRow::parse(&bytes).map(|row| row.values().count());
    }
}
