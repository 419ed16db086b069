use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER_LEN, header};

/// The body of the one message in `out`.
fn body(out: &BytesMut, tag: u8) -> &[u8] {
    let header = header(out).unwrap().unwrap();
    assert_eq!((header.tag, header.total()), (tag, out.len()));
    &out[HEADER_LEN..]
}

#[test]
fn constants_are_whole_messages() {
    let mut out = BytesMut::new();
    for (write, tag) in [
        (sync as fn(&mut BytesMut), tag::SYNC),
        (flush, tag::FLUSH),
        (terminate, tag::TERMINATE),
        (copy_done, tag::COPY_DONE),
    ] {
        out.clear();
        write(&mut out);
        assert_eq!(body(&out, tag), b"");
    }
}

#[test]
fn bodies_are_read_to_the_last_byte() {
    use MessageError as E;
    assert_eq!(Query::parse(b"select 1"), Err(E::Unterminated));
    assert_eq!(Query::parse(b"select\0 1\0"), Err(E::Trailing));
    assert_eq!(Parse::parse(b"a\0b\0\0\x02\0\0\0\x19"), Err(E::Short));
    assert_eq!(Parse::parse(b"a\0b\0\0\x00\0\0\0\x19"), Err(E::Trailing));
    assert_eq!(Parse::parse(b"a\0b\0\xff\xff"), Err(E::Short));
    assert_eq!(Describe::parse(b"Xa\0"), Err(E::Target(b'X')));
    assert_eq!(Describe::parse(b""), Err(E::Short));
    assert_eq!(Close::parse(b"Sa"), Err(E::Unterminated));
    assert_eq!(Execute::parse(b"a\0\0\0\0"), Err(E::Short));
    assert_eq!(Execute::parse(b"a\0\0\0\0\x01x"), Err(E::Trailing));
    assert!(SaslInitial::parse(b"a\0\xff\xff\xff\xfe").is_err());
}

#[test]
fn counts_and_lengths_of_a_bind_must_agree() {
    use MessageError as E;
    let bind = |rest: &[u8]| Bind::parse(&[b"p\0s\0", rest].concat()).map(|bind| bind.count);
    assert_eq!(bind(b"\0\0\0\x01\0\0\0\x01x\0\0"), Ok(1));
    assert_eq!(bind(b"\0\0\0\x01\xff\xff\xff\xff\0\0"), Ok(1));
    assert_eq!(
        bind(b"\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        Err(E::NegativeLength(-2))
    );
    assert_eq!(bind(b"\0\0\0\x01\x7f\xff\xff\xff\0\0"), Err(E::Short));
    let formats = E::Formats {
        formats: 2,
        parameters: 1,
    };
    assert_eq!(bind(b"\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0"), Err(formats));
    assert_eq!(bind(b"\0\0\0\0\0\0x"), Err(E::Trailing));
    assert_eq!(bind(b"\0\0\xff\xff"), Err(E::Short));
}

#[test]
fn too_many_of_anything_is_refused_and_leaves_nothing() {
    let mut out = BytesMut::new();
    assert!(bind(&mut out, b"", b"", &[], &vec![None; 65_536], &[]).is_err());
    assert!(parse(&mut out, b"", b"", &vec![0; 65_536]).is_err());
    assert!(out.is_empty());
    bind(&mut out, b"", b"", &[], &vec![None; 65_535], &[]).unwrap();
    assert_eq!(Bind::parse(body(&out, tag::BIND)).unwrap().count, 65_535);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8..=255, 0..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in name(), query in name(), types in vec(any::<u32>(), 0..5), rows in any::<i32>(),
        values in vec(option::of(vec(any::<u8>(), 0..9)), 0..5), results in vec(0_i16..2, 0..3),
    ) {
        let mut out = BytesMut::new();
        parse(&mut out, &name, &query, &types).unwrap();
        let parsed = Parse::parse(body(&out, tag::PARSE)).unwrap();
        prop_assert_eq!((parsed.name, parsed.query), (&name[..], &query[..]));
        prop_assert_eq!(parsed.type_oids().collect::<Vec<_>>(), types);

        out.clear();
        let borrowed: Vec<_> = values.iter().map(Option::as_deref).collect();
        bind(&mut out, &name, &query, &[1], &borrowed, &results).unwrap();
        let bound = Bind::parse(body(&out, tag::BIND)).unwrap();
        prop_assert_eq!((bound.portal, bound.statement), (&name[..], &query[..]));
        prop_assert_eq!(bound.parameters().collect::<Vec<_>>(), borrowed);
        prop_assert_eq!(bound.results.len(), results.len() * 2);
        let whole = body(&out, tag::BIND);
        let needed = name.len() + query.len() + 2;
        for length in 0..whole.len() {
            let head = BindHead::parse(&whole[..length]).unwrap();
            prop_assert_eq!(head.map(|head| head.len), (length >= needed).then_some(needed));
            prop_assert!(Bind::parse(&whole[..length]).is_err());
        }

        for kind in [Target::Statement, Target::Portal] {
            out.clear();
            describe(&mut out, kind, &name).unwrap();
            prop_assert_eq!(
                Describe::parse(body(&out, tag::DESCRIBE)),
                Ok(Describe { kind, name: &name })
            );
            out.clear();
            close(&mut out, kind, &name).unwrap();
            prop_assert_eq!(Close::parse(body(&out, tag::CLOSE)), Ok(Close { kind, name: &name }));
        }
        out.clear();
        execute(&mut out, &name, rows).unwrap();
        let executed = Execute::parse(body(&out, tag::EXECUTE));
        prop_assert_eq!(executed, Ok(Execute { portal: &name, max_rows: rows }));
    }

    #[test]
    fn logins_and_copies_are_read(text in name(), data in vec(any::<u8>(), 0..20)) {
        let mut out = BytesMut::new();
        sasl_initial(&mut out, &text, &data).unwrap();
        let initial = SaslInitial::parse(body(&out, tag::PASSWORD)).unwrap();
        prop_assert_eq!((initial.mechanism, initial.data), (&text[..], Some(&data[..])));
        for (write, tag) in [
            (sasl_response as fn(&mut BytesMut, &[u8]) -> _, tag::PASSWORD),
            (copy_data, tag::COPY_DATA),
        ] {
            out.clear();
            write(&mut out, &data).unwrap();
            prop_assert_eq!(body(&out, tag), &data[..]);
        }
        for (write, tag) in [
            (query as fn(&mut BytesMut, &[u8]) -> _, tag::QUERY),
            (password, tag::PASSWORD),
            (copy_fail, tag::COPY_FAIL),
        ] {
            out.clear();
            write(&mut out, &text).unwrap();
            let read = Password::parse(body(&out, tag)).map(|password| password.text);
            prop_assert_eq!(read, Ok(&text[..]));
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..80)) {
        let _ = Query::parse(&bytes);
        let _ = Parse::parse(&bytes).map(|parse| parse.type_oids().count());
        let _ = BindHead::parse(&bytes);
        let _ = Bind::parse(&bytes).map(|bind| bind.parameters().count());
        let _ = Describe::parse(&bytes);
        let _ = Close::parse(&bytes);
        let _ = Execute::parse(&bytes);
        let _ = SaslInitial::parse(&bytes).map(|initial| initial.mechanism.len());
        let _ = Password::parse(&bytes).map(|password| password.text.len());
    }
}
