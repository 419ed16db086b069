//! Tests of statements and portals.

use bytes::BytesMut;
use pgherd_wire::error::ErrorReport;

use super::{Extended, HELD_MAX};
use crate::console::command::Command;
use crate::console::show::Show;

fn parse(to: &mut Extended, name: &str, query: &str) -> Result<BytesMut, ErrorReport> {
    let mut out = BytesMut::new();
    to.parse(format!("{name}\0{query}\0\0\0").as_bytes(), &mut out)
        .map(|()| out)
}

fn bind(to: &mut Extended, portal: &str, name: &str, tail: &[u8]) -> Result<(), ErrorReport> {
    let mut body = format!("{portal}\0{name}\0").into_bytes();
    body.extend_from_slice(tail);
    to.bind(&body, &mut BytesMut::new())
}

fn describe(to: &mut Extended, body: &[u8]) -> Result<BytesMut, ErrorReport> {
    let mut out = BytesMut::new();
    to.describe(body, &mut out).map(|()| out)
}

const NO_PARAMETERS: [u8; 6] = [0; 6];

fn code<T: std::fmt::Debug>(outcome: Result<T, ErrorReport>) -> String {
    outcome.expect_err("refused").code.as_str().to_owned()
}

#[test]
fn a_command_is_prepared_bound_and_described() {
    let mut client = Extended::default();
    assert_eq!(
        &parse(&mut client, "", "SHOW VERSION;").expect("known")[..],
        b"1\0\0\0\x04"
    );
    bind(&mut client, "", "", &NO_PARAMETERS).expect("bound");
    assert_eq!(
        *client.portal(b"").expect("there").command,
        Command::Show(Show::Version)
    );
    let statement = describe(&mut client, b"S\0").expect("there");
    assert_eq!(&statement[..8], b"t\0\0\0\x06\0\0T");
    let portal = describe(&mut client, b"P\0").expect("there");
    assert_eq!(portal[0], b'T');
    client.sync();
    assert_eq!(code(describe(&mut client, b"P\0")), "34000");
    assert!(
        describe(&mut client, b"S\0").is_ok(),
        "statements outlive Sync"
    );
}

#[test]
fn what_gives_no_rows_is_described_so() {
    let mut client = Extended::default();
    for text in ["", "PAUSE", "SET application_name = 'x'", "SHOW HELP"] {
        parse(&mut client, "", text).expect("known");
        let told = describe(&mut client, b"S\0").expect("there");
        assert_eq!(&told[..], b"t\0\0\0\x06\0\0n\0\0\0\x04", "{text}");
    }
}

#[test]
fn a_portal_is_described_in_its_own_formats() {
    let mut client = Extended::default();
    parse(&mut client, "a", "SHOW LISTS").expect("known");
    bind(&mut client, "p", "a", &[0, 0, 0, 0, 0, 1, 0, 1]).expect("bound");
    let portal = describe(&mut client, b"Pp\0").expect("there");
    assert_eq!(portal[portal.len() - 2..], [0, 1]);
    let statement = describe(&mut client, b"Sa\0").expect("there");
    assert_eq!(statement[statement.len() - 2..], [0, 0]);
}

#[test]
fn what_is_wrong_has_the_code_of_postgres() {
    let mut client = Extended::default();
    assert_eq!(
        code(parse(&mut client, "", "SHOW POOLS; SHOW LISTS")),
        "42601"
    );
    assert_eq!(code(parse(&mut client, "", "nonsense")), "42601");
    assert_eq!(
        code(client.parse(b"\0\xff\0\0\0", &mut BytesMut::new())),
        "08P01"
    );
    assert_eq!(code(client.parse(b"no end", &mut BytesMut::new())), "08P01");
    assert_eq!(code(bind(&mut client, "", "none", &NO_PARAMETERS)), "26000");
    parse(&mut client, "a", "SHOW POOLS").expect("known");
    assert_eq!(code(parse(&mut client, "a", "SHOW POOLS")), "42P05");
    let one_parameter = [0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0];
    assert_eq!(code(bind(&mut client, "", "a", &one_parameter)), "08P01");
    assert_eq!(
        code(bind(&mut client, "", "a", &[0, 0, 0, 0, 0, 2, 0, 0, 0, 0])),
        "08P01"
    );
    bind(&mut client, "p", "a", &NO_PARAMETERS).expect("bound");
    assert_eq!(code(bind(&mut client, "p", "a", &NO_PARAMETERS)), "42P03");
}

#[test]
fn closing_frees_the_name_and_the_place() {
    let mut client = Extended::default();
    for number in 0..HELD_MAX {
        parse(&mut client, &format!("s{number}"), "SHOW POOLS").expect("a place");
    }
    assert_eq!(code(parse(&mut client, "more", "SHOW POOLS")), "54000");
    parse(&mut client, "", "SHOW POOLS").expect("the unnamed one has its own place");
    for body in [b"Ss0\0", b"Sxx\0", b"Ss1\0"] {
        client.close(body, &mut BytesMut::new()).expect("closed");
    }
    parse(&mut client, "s0", "SHOW POOLS").expect("a place");
}
