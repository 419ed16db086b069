//! What a hostile server does, as data.

use super::packet;
use super::scram::Lie;

/// One thing that a server does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one by one, each in a segment of its own.
    Drip(Vec<u8>),
    /// Sends these bytes so many times.
    Flood(Vec<u8>, usize),
    /// Says nothing more.
    Hang,
    /// Closes the connection.
    Close,
}

/// How a server opens a connection.
#[derive(Debug, Clone)]
pub enum Opening {
    /// It lets everybody in.
    Trust,
    /// It does this after the start-up packet, and goes on as after a login.
    Steps(Vec<Step>),
    /// It asks for SCRAM with the password `secret`.
    Scram(Lie),
    /// It answers a request for encryption with these bytes.
    Encryption(Vec<u8>),
}

/// What a client of the proxy may see of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// An answer as of a healthy server; the session goes on.
    Passed,
    /// An error of class 08 or 57; the session goes on.
    Told,
    /// The end of its connection, since part of a message was passed on already.
    Cut,
    /// Anything but silence.
    Any,
}

/// What a server does in place of answering a query for the attack's name.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub steps: Vec<Step>,
    /// What must come of it.
    pub expect: Expect,
}

/// The welcome after a login.
pub fn welcome() -> Vec<u8> {
    let said = [
        ("server_version", "17.0"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ];
    let mut welcome: Vec<u8> = said
        .iter()
        .flat_map(|(name, value)| packet::parameter(name, value))
        .collect();
    welcome.extend_from_slice(&packet::message(b'K', &[0, 0, 0, 9, 1, 2, 3, 4]));
    welcome.extend_from_slice(&packet::ready(b'I'));
    welcome
}

/// Attacks in place of the answer to a query.
pub fn queries() -> Vec<Attack> {
    let mut all = broken_frames();
    all.extend(broken_ready());
    all.extend(broken_errors());
    all.extend(broken_rows());
    all.extend(unasked());
    all.extend(ends());
    all.extend(slow_and_large());
    all
}

fn attack(name: &'static str, steps: Vec<Step>, expect: Expect) -> Attack {
    Attack {
        name,
        steps,
        expect,
    }
}

fn send(name: &'static str, bytes: Vec<u8>, expect: Expect) -> Attack {
    attack(name, vec![Step::Send(bytes)], expect)
}

/// An answer that ends as it should.
fn ends_well(before: &[u8]) -> Vec<u8> {
    [before, &packet::complete("SELECT 1"), &packet::ready(b'I')].concat()
}

fn broken_frames() -> Vec<Attack> {
    let lengths = |tag: u8, length: u32| [packet::declares(tag, length), vec![0; 64]].concat();
    let told = Expect::Told;
    vec![
        send("all ones", vec![0xff; 64], told),
        send("all zeros", vec![0; 64], told),
        send(
            "http",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
            told,
        ),
        send("row 0", lengths(b'D', 0), told),
        send("row 3", lengths(b'D', 3), told),
        send("row 2^30", lengths(b'D', 1 << 30 | 4), told),
        send("row 2^31-1", lengths(b'D', i32::MAX.unsigned_abs()), told),
        send("row 2^31", lengths(b'D', 1 << 31), told),
        send("row 2^32-1", lengths(b'D', u32::MAX), told),
        send("error 0", lengths(b'E', 0), told),
        send("error 2^32-1", lengths(b'E', u32::MAX), told),
        send("complete 2", lengths(b'C', 2), told),
        send("notice 2^31", lengths(b'N', 1 << 31), told),
        send("status 1", lengths(b'S', 1), told),
    ]
}

fn broken_ready() -> Vec<Attack> {
    let behind = |ready: Vec<u8>| [packet::rows("x"), ready].concat();
    let told = Expect::Told;
    vec![
        send(
            "ready of no status",
            behind(packet::message(b'Z', b"")),
            told,
        ),
        send("ready of a wrong status", behind(packet::ready(b'X')), told),
        send(
            "ready of two statuses",
            behind(packet::message(b'Z', b"II")),
            told,
        ),
        send(
            "ready of 300 kB",
            behind(packet::declares(b'Z', 300_000)),
            told,
        ),
        send(
            "ready of 1 GB",
            behind(packet::declares(b'Z', 0x3fff_ffff)),
            told,
        ),
    ]
}

fn broken_errors() -> Vec<Attack> {
    let ready = packet::ready(b'I');
    let error = |body: &[u8]| [packet::message(b'E', body), ready.clone()].concat();
    let any = Expect::Any;
    vec![
        send("error of nothing", error(b""), any),
        send("error of no field", error(b"\0"), any),
        send("error without code", error(b"SERROR\0Mno code\0\0"), any),
        send("error without end", error(b"SERROR\0C22012\0Mno end"), any),
        send("error of one letter", error(b"C"), any),
        send("error of an empty code", error(b"SERROR\0C\0M\0\0"), any),
        send(
            "error of a strange code",
            error(b"SERROR\0C\xff\xfe\xfd\0Mx\0\0"),
            any,
        ),
        send(
            "error twice over",
            error(b"SERROR\0SFATAL\0C22012\0C57P01\0Mx\0My\0\0"),
            any,
        ),
        send(
            "error of unknown fields",
            error(b"SERROR\0C22012\0Mx\0!a\0~b\0\x01c\0\0"),
            any,
        ),
        send(
            "error of 200 kB",
            error(&[b"SERROR\0C22012\0M", &[b'x'; 200_000][..], b"\0\0"].concat()),
            any,
        ),
        send(
            "error of 400 kB",
            error(&[b"SERROR\0C22012\0M", &[b'x'; 400_000][..], b"\0\0"].concat()),
            any,
        ),
        send(
            "notice of nothing",
            ends_well(&packet::message(b'N', b"")),
            any,
        ),
    ]
}

fn broken_rows() -> Vec<Attack> {
    let row = |body: &[u8]| ends_well(&[packet::columns(), packet::message(b'D', body)].concat());
    let any = Expect::Any;
    vec![
        send("value of -2", row(&[0, 1, 0xff, 0xff, 0xff, 0xfe]), any),
        send("value of -2^31", row(&[0, 1, 0x80, 0, 0, 0]), any),
        send(
            "value of 2^31-1",
            row(&[0, 1, 0x7f, 0xff, 0xff, 0xff, b'x']),
            any,
        ),
        send("-1 values", row(&[0xff, 0xff]), any),
        send("a row of nothing", row(&[]), any),
        send(
            "columns of nothing",
            ends_well(&packet::message(b'T', b"")),
            any,
        ),
        send("a row without columns", ends_well(&packet::row("x")), any),
        send(
            "complete of nothing",
            [packet::message(b'C', b""), packet::ready(b'I')].concat(),
            any,
        ),
        send(
            "discard without end",
            [packet::message(b'C', b"DISCARD ALL"), packet::ready(b'I')].concat(),
            any,
        ),
        send(
            "status of nothing",
            ends_well(&packet::message(b'S', b"")),
            any,
        ),
        send(
            "status of one name",
            ends_well(&packet::message(b'S', b"TimeZone")),
            any,
        ),
    ]
}

fn unasked() -> Vec<Attack> {
    let told = Expect::Told;
    let any = Expect::Any;
    let inside = |message: Vec<u8>| ends_well(&message);
    let after = |message: Vec<u8>| [packet::rows("x"), packet::ready(b'I'), message].concat();
    let failure = packet::error(&[(b'S', "ERROR"), (b'C', "XX000"), (b'M', "unasked")]);
    let fatal = packet::error(&[
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', "57P01"),
        (b'M', "bye"),
    ]);
    vec![
        send(
            "authentication inside",
            inside(packet::authentication(3, &[])),
            told,
        ),
        send(
            "authenticated inside",
            inside(packet::authentication(0, &[])),
            told,
        ),
        send(
            "a key inside",
            inside(packet::message(b'K', &[0, 0, 0, 1, 6, 6, 6, 6])),
            told,
        ),
        send(
            "negotiation inside",
            inside(packet::message(b'v', &[0; 8])),
            told,
        ),
        send("parsed inside", inside(packet::message(b'1', &[])), told),
        send(
            "unknown type inside",
            inside(packet::message(b'@', b"what")),
            told,
        ),
        send(
            "frontend type inside",
            inside(packet::message(b'Q', b"select\0")),
            told,
        ),
        send(
            "notification inside",
            inside(packet::message(b'A', b"\0\0\0\x09chan\0load\0")),
            any,
        ),
        send(
            "copy both inside",
            [packet::message(b'W', &[0, 0, 0]), packet::ready(b'I')].concat(),
            any,
        ),
        send(
            "copy in inside",
            [packet::message(b'G', &[0, 0, 0]), packet::ready(b'I')].concat(),
            any,
        ),
        send("ready twice", after(packet::ready(b'I')), any),
        send(
            "answer twice",
            after([packet::rows("y"), packet::ready(b'I')].concat()),
            any,
        ),
        send("error after ready", after(failure), any),
        send("fatal after ready", after(fatal), any),
        send(
            "notification after ready",
            after(packet::message(b'A', b"\0\0\0\x09chan\0load\0")),
            any,
        ),
        send(
            "half a message after ready",
            after(packet::declares(b'D', 100)),
            any,
        ),
        send(
            "transaction that nobody began",
            [packet::rows("x"), packet::ready(b'T')].concat(),
            any,
        ),
        send(
            "failure that nobody made",
            [packet::rows("x"), packet::ready(b'E')].concat(),
            any,
        ),
    ]
}

fn ends() -> Vec<Attack> {
    let told = Expect::Told;
    let close = |bytes: Vec<u8>| vec![Step::Send(bytes), Step::Close];
    let fatal = packet::error(&[
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', "57P01"),
        (b'M', "bye"),
    ]);
    let begun = [packet::columns(), packet::row("x")].concat();
    vec![
        attack("end at once", vec![Step::Close], told),
        attack("end behind columns", close(packet::columns()), told),
        attack("end behind a row", close(begun.clone()), told),
        attack("end behind complete", close(packet::rows("x")), told),
        attack(
            "end in a header",
            close([begun.clone(), vec![b'D', 0, 0]].concat()),
            told,
        ),
        attack("end in a row", close(packet::declares(b'D', 100)), told),
        attack(
            "end in a row of 1 GB",
            close(packet::declares(b'D', 0x3fff_ffff)),
            Expect::Cut,
        ),
        attack(
            "end in an error of 1 GB",
            close(packet::declares(b'E', 0x3fff_ffff)),
            Expect::Cut,
        ),
        attack("fatal", close(fatal.clone()), told),
        attack("fatal behind a row", close([begun, fatal].concat()), told),
    ]
}

fn slow_and_large() -> Vec<Attack> {
    let answer = [packet::rows("x"), packet::ready(b'I')].concat();
    let big: usize = 32 << 20;
    let mut row = packet::declares(b'D', u32::try_from(big + 10).unwrap_or(u32::MAX));
    row.extend_from_slice(&[0, 1]);
    row.extend_from_slice(&u32::try_from(big).unwrap_or(u32::MAX).to_be_bytes());
    let notice = packet::message(
        b'N',
        &[b"SNOTICE\0C00000\0M", &[b'n'; 1000][..], b"\0\0"].concat(),
    );
    let end = [packet::complete("SELECT 1"), packet::ready(b'I')].concat();
    let statuses = (0..20_000).flat_map(|n| packet::parameter(&format!("made.up_{n}"), "value"));
    vec![
        attack(
            "one byte at a time",
            vec![Step::Drip(answer.clone())],
            Expect::Passed,
        ),
        attack(
            "a row of 32 MB",
            vec![
                Step::Send([packet::columns(), row].concat()),
                Step::Flood(vec![b'x'; 1 << 16], big >> 16),
                Step::Send(end),
            ],
            Expect::Passed,
        ),
        attack(
            "20,000 notices",
            vec![Step::Flood(notice, 20_000), Step::Send(answer.clone())],
            Expect::Passed,
        ),
        attack(
            "20,000 parameters",
            vec![Step::Send(statuses.collect()), Step::Send(answer)],
            Expect::Any,
        ),
    ]
}
