//! Messages of a logged-in client that are wrong inside, as data.

use super::packet::{self, message, string};

/// A piece of conversation that is wrong somewhere.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// What is wrong.
    pub name: &'static str,
    /// The bytes; they end with a Sync where the extended protocol is used.
    pub bytes: Vec<u8>,
}

fn case(name: &'static str, bytes: Vec<u8>) -> Malformed {
    Malformed { name, bytes }
}

/// Behind a good Parse, and before a Sync.
fn extended(name: &'static str, wrong: Vec<u8>) -> Malformed {
    let parse = packet::parse("", "select $1::text");
    case(
        name,
        [parse, wrong, packet::execute(), packet::sync()].concat(),
    )
}

/// Bind of the unnamed statement, by its parts after the names.
fn bind(name: &'static str, rest: &[u8]) -> Malformed {
    extended(name, message(b'B', &[b"\0\0", rest].concat()))
}

/// All of them; some are right, so that a judge who refuses everything is found out.
pub fn all() -> Vec<Malformed> {
    let mut all = binds();
    all.extend(texts());
    all.extend(others());
    all
}

fn binds() -> Vec<Malformed> {
    vec![
        bind("a good bind", &[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0]),
        bind(
            "a good bind of null",
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0],
        ),
        bind(
            "two formats for one value",
            &[0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0],
        ),
        bind("no value for one parameter", &[0, 0, 0, 0, 0, 0]),
        bind(
            "two values for one parameter",
            &[0, 0, 0, 2, 0, 0, 0, 1, b'x', 0, 0, 0, 1, b'y', 0, 0],
        ),
        bind(
            "fewer values than declared",
            &[0, 0, 0, 9, 0, 0, 0, 1, b'x', 0, 0],
        ),
        bind("65,535 values declared", &[0, 0, 0xff, 0xff]),
        bind("65,535 formats declared", &[0xff, 0xff]),
        bind("a value of -2", &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0]),
        bind(
            "a value of 2^31-1",
            &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, b'x', 0, 0],
        ),
        bind(
            "bytes behind the end",
            &[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0, b'!'],
        ),
        bind("no result formats", &[0, 0, 0, 1, 0, 0, 0, 1, b'x']),
        bind(
            "an unknown format",
            &[0, 1, 0, 7, 0, 1, 0, 0, 0, 1, b'x', 0, 0],
        ),
        bind(
            "an embedded nul",
            &[0, 0, 0, 1, 0, 0, 0, 3, b'x', 0, b'y', 0, 0],
        ),
        extended("a bind of nothing", message(b'B', b"")),
        extended("a bind without nul", message(b'B', b"portal")),
        extended("a bind of one name", message(b'B', b"portal\0statement")),
        extended(
            "a bind of an unknown name",
            message(b'B', b"\0nobody\0\0\0\0\0\0\0"),
        ),
    ]
}

fn texts() -> Vec<Malformed> {
    vec![
        case("a good query", packet::query("select 1")),
        case("a query without nul", message(b'Q', b"select 1")),
        case("a query of nothing", message(b'Q', b"")),
        case(
            "a query with a nul inside",
            message(b'Q', b"select 1\0select 2\0"),
        ),
        case(
            "a query with bytes behind",
            message(b'Q', b"select 1\0\0\0"),
        ),
        case(
            "a query that is not UTF-8",
            message(b'Q', b"select '\xff\xfe'\0"),
        ),
        case(
            "a parse without nul",
            [message(b'P', b"name"), packet::sync()].concat(),
        ),
        case(
            "a parse of nothing",
            [message(b'P', b""), packet::sync()].concat(),
        ),
        case(
            "a parse without types",
            [message(b'P', b"\0select 1\0"), packet::sync()].concat(),
        ),
        case(
            "a parse of 65,535 types",
            [message(b'P', b"\0select 1\0\xff\xff"), packet::sync()].concat(),
        ),
        case(
            "a parse with bytes behind",
            [message(b'P', b"\0select 1\0\0\0more"), packet::sync()].concat(),
        ),
        case(
            "a named parse with a nul inside",
            [message(b'P', b"a\0b\0select 1\0\0\0"), packet::sync()].concat(),
        ),
    ]
}

fn others() -> Vec<Malformed> {
    let synced = |wrong: Vec<u8>| [wrong, packet::sync()].concat();
    vec![
        case("a describe of nothing", synced(message(b'D', b""))),
        case(
            "a describe of an unknown kind",
            synced(message(b'D', b"X\0")),
        ),
        case("a describe without nul", synced(message(b'D', b"Sname"))),
        case("a close of an unknown kind", synced(message(b'C', b"X\0"))),
        case(
            "a close with bytes behind",
            synced(message(b'C', b"S\0more")),
        ),
        extended_execute("an execute of nothing", b""),
        extended_execute("an execute without count", b"\0"),
        extended_execute("an execute with bytes behind", b"\0\0\0\0\0more"),
        case("a sync with a body", message(b'S', b"body")),
        case("a flush with a body", synced(message(b'H', b"body"))),
        case("a function call of nothing", message(b'F', b"")),
        case("a function call of garbage", message(b'F', &[0xff; 32])),
        case("an unknown type", message(b'@', b"what")),
        case("a password after login", message(b'p', &string("secret"))),
        case(
            "copy data outside of a copy",
            [message(b'd', b"data"), packet::query("select 1")].concat(),
        ),
    ]
}

fn extended_execute(name: &'static str, body: &[u8]) -> Malformed {
    let ready = [packet::parse("", "select 1"), packet::bind("")].concat();
    case(name, [ready, message(b'E', body), packet::sync()].concat())
}
