//! Openings of a connection after which no login can succeed, as data.

use super::attack::{Opening, Step, welcome};
use super::packet;
use super::scram::Lie;

/// What a server says in them that nobody has vouched for yet.
pub const WORDS: &str = "words-of-an-impostor";

/// An opening by name.
pub type Named = (&'static str, Opening);

/// All of them.
pub fn bad() -> Vec<Named> {
    let mut all = refusals();
    all.extend(requests());
    all.extend(noise());
    all.extend(endless());
    all.extend(welcomes());
    all.extend(lies());
    all
}

fn send(bytes: Vec<u8>) -> Opening {
    Opening::Steps(vec![Step::Send(bytes)])
}

fn ok() -> Vec<u8> {
    packet::authentication(0, &[])
}

/// An error that ends the connection, in words that must not be passed on.
pub fn refusal(code: &str) -> Vec<u8> {
    let fatal = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code)];
    packet::error(&[&fatal[..], &[(b'M', WORDS), (b'D', WORDS)]].concat())
}

fn refusals() -> Vec<Named> {
    let codeless = packet::error(&[(b'S', "FATAL"), (b'M', WORDS)]);
    let old = [b"E", WORDS.as_bytes(), b"\n\0"].concat();
    vec![
        ("a refused password", send(refusal("28P01"))),
        ("too many connections", send(refusal("53300"))),
        ("starting up", send(refusal("57P03"))),
        ("no database", send(refusal("3D000"))),
        ("an error without code", send(codeless)),
        ("an error of nothing", send(packet::message(b'E', b""))),
        ("an error of protocol 2", send(old)),
    ]
}

fn requests() -> Vec<Named> {
    let request = |code: u32, data: &[u8]| send(packet::authentication(code, data));
    vec![
        ("a request of kerberos", request(7, &[])),
        ("a request of no method", request(99, WORDS.as_bytes())),
        ("a request of nothing", send(packet::message(b'R', b""))),
        ("a challenge unasked", request(11, b"r=x,s=c2FsdA==,i=4096")),
        ("a salt of md5 too short", request(5, b"ab")),
    ]
}

fn noise() -> Vec<Named> {
    let http = format!("HTTP/1.1 400 {WORDS}\r\n\r\n").into_bytes();
    vec![
        ("garbage", send(vec![0xff; 64])),
        ("zeros", send(vec![0; 64])),
        ("http", send(http)),
        ("a row in place of a login", send(packet::rows("x"))),
        ("a length of 2^31", send(packet::declares(b'R', 1 << 31))),
        (
            "a length of 1 GB",
            send(packet::declares(b'R', 0x3fff_ffff)),
        ),
        ("a length of 0", send(packet::declares(b'R', 0))),
    ]
}

fn endless() -> Vec<Named> {
    let notice = packet::message(b'N', b"SNOTICE\0C00000\0Mwait\0\0");
    let parameter = packet::parameter("a", "b");
    let steps = |steps: Vec<Step>| Opening::Steps(steps);
    vec![
        ("silence", steps(vec![Step::Hang])),
        ("an end", steps(vec![Step::Close])),
        (
            "silence after ok",
            steps(vec![Step::Send(ok()), Step::Hang]),
        ),
        (
            "notices without end",
            steps(vec![Step::Flood(notice, usize::MAX)]),
        ),
        (
            "parameters without end",
            steps(vec![Step::Send(ok()), Step::Flood(parameter, usize::MAX)]),
        ),
    ]
}

fn welcomes() -> Vec<Named> {
    let after = |parts: &[Vec<u8>]| send([ok(), parts.concat()].concat());
    let key = packet::message(b'K', &[7; 2]);
    vec![
        ("ready without ok", send(welcome())),
        ("a wrong status", after(&[packet::ready(b'T')])),
        ("an impossible status", after(&[packet::ready(b'?')])),
        ("more than a welcome", after(&[welcome(), vec![0xff; 32]])),
        ("two welcomes", after(&[welcome(), welcome()])),
        ("a key of 2 bytes", after(&[key, packet::ready(b'I')])),
        ("a refusal after ok", after(&[refusal("57P03")])),
    ]
}

fn lies() -> Vec<Named> {
    let lies = [
        ("a nonce of 64 kB", Lie::Nonce(64 << 10)),
        ("a nonce of 2 kB", Lie::Nonce(2 << 10)),
        ("another nonce", Lie::OtherNonce),
        (
            "2^31-1 iterations",
            Lie::Iterations(i32::MAX.unsigned_abs()),
        ),
        ("2^32-1 iterations", Lie::Iterations(u32::MAX)),
        ("no iterations", Lie::Iterations(0)),
        ("no salt", Lie::NoSalt),
        ("a bad salt", Lie::BadSalt),
        ("a wrong signature", Lie::Signature),
        ("no signature", Lie::NoSignature),
        ("no challenge", Lie::NoChallenge),
        ("words in place of a signature", Lie::Refusal(WORDS)),
        ("an unknown mechanism", Lie::Mechanism),
        ("mechanisms without end", Lie::Unended),
    ];
    lies.map(|(name, lie)| (name, Opening::Scram(lie))).into()
}
