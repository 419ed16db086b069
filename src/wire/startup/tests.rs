use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::backend::NegotiateProtocolVersion;
use crate::frame::HEADER_LEN;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

fn login(minor: u16, body: &[u8]) -> Result<Startup, StartupError> {
    match opening(&packet(Version { major: 3, minor }.to_word(), body))? {
        Some((Opening::Startup(startup), _)) => Ok(startup),
        other => panic!("not a login: {other:?}"),
    }
}

#[test]
fn tells_what_a_connection_is_opened_for() {
    let mut out = BytesMut::new();
    ssl_request(&mut out);
    assert_eq!(&out[..], &packet(80_877_103, b"")[..]);
    out.extend_from_slice(b"stuffed in before the handshake");
    assert_eq!(opening(&out), Ok(Some((Opening::SslRequest, 8))));
    let gss = packet(80_877_104, b"");
    assert_eq!(opening(&gss), Ok(Some((Opening::GssEncRequest, 8))));
    for length in [4, 32, 256] {
        let key = CancelKey::new(42, &vec![7; length]).unwrap();
        out.clear();
        cancel_request(&mut out, &key);
        assert_eq!(out[..8], packet(80_877_102, &vec![0; length + 4])[..8]);
        assert_eq!(opening(&out), Ok(Some((Opening::Cancel(key), out.len()))));
    }
}

#[test]
fn refuses_lengths_before_the_packet_is_there() {
    for length in [0, 3, 4, 7, 10_005, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        assert_eq!(
            opening(&length.to_be_bytes()),
            Err(StartupError::Length(length))
        );
    }
    assert_eq!(opening(&10_004_u32.to_be_bytes()), Ok(None));
    assert_eq!(
        opening(&packet(SSL_CODE, b"x")),
        Err(StartupError::Length(9))
    );
    for length in [0, 4, 7, 261] {
        let error = opening(&packet(CANCEL_CODE, &vec![0; length])).unwrap_err();
        assert_eq!(error, StartupError::CancelLength(length));
    }
}

#[test]
fn refuses_other_protocols_in_the_words_of_postgres() {
    // The first bytes of a client of protocol 2, of a future one, and of HTTP.
    for word in [2 << 16, 4 << 16, 0] {
        let error = opening(&packet(word, b"")).unwrap_err();
        assert_eq!(error, StartupError::Version(Version::from_word(word)));
        assert_eq!(error.code(), FEATURE_NOT_SUPPORTED);
    }
    let error = StartupError::Version(Version { major: 2, minor: 0 });
    let text = "unsupported frontend protocol 2.0: server supports 3.0 to 3.2";
    assert_eq!(error.to_string(), text);
    let old = format!("EFATAL:  {text}\n\0").into_bytes();
    assert_eq!(error.in_old_form(), Some(old));
    for (major, minor) in [(4, 0), (0, 0)] {
        let error = StartupError::Version(Version { major, minor });
        assert_eq!(error.in_old_form(), None, "{major}.{minor}");
    }
    assert!(opening(b"GET / HTTP/1.1\r\n").is_err());
}

#[test]
fn reads_who_logs_in_and_where() {
    let body = b"user\0u\0options\0-c a=b\0database\0d\0application_name\0x\0_pq_.z\0\0\0";
    let startup = login(0, body).unwrap();
    assert_eq!((startup.user(), startup.database()), (Ok("u"), Ok("d")));
    assert_eq!(
        startup.settings().collect::<Vec<_>>(),
        [("application_name", "x")]
    );
    let startup = login(0, b"user\0u\0database\0\0\0").unwrap();
    assert_eq!(startup.database(), Ok("u"));
    let startup = login(0, b"user\0u\0user\0v\0\0").unwrap();
    assert_eq!(startup.user(), Ok("v"));
    for body in [&b"\0"[..], b"user\0\0\0"] {
        assert_eq!(login(0, body).unwrap().user(), Err(StartupError::NoUser));
    }
}

#[test]
fn names_are_as_long_as_names_are() {
    for (name, cut) in [
        ("u".repeat(63), "u".repeat(63)),
        ("u".repeat(64), "u".repeat(63)),
        ("ä".repeat(32), "ä".repeat(31)),
    ] {
        let body = format!("user\0{name}\0database\0{name}\0\0");
        let startup = login(0, body.as_bytes()).unwrap();
        assert_eq!(startup.user(), Ok(cut.as_str()));
        assert_eq!(startup.database(), Ok(cut.as_str()));
    }
}

#[test]
fn parameters_must_end_with_the_packet() {
    for body in [
        &b""[..],
        b"user",
        b"user\0",
        b"user\0u",
        b"user\0u\0",
        b"user\0u\0\0x",
        b"\0\0",
    ] {
        assert_eq!(login(0, body), Err(StartupError::Layout), "{body:?}");
    }
}

#[test]
fn only_an_application_name_may_be_other_than_utf8() {
    let startup = login(0, b"application_name\0a\xff\0\0").unwrap();
    assert_eq!(startup.get("application_name"), Some(r"a\xff"));
    assert_eq!(
        login(0, b"user\0\xff\0\0"),
        Err(StartupError::NotUtf8("user".into()))
    );
}

#[test]
fn negotiates_what_it_does_not_know() {
    let answer = |minor: u16, body: &[u8]| negotiate(&login(minor, body).unwrap());
    for minor in 0..=2 {
        assert_eq!(answer(minor, b"user\0u\0\0"), None);
    }
    let expect = |bytes: Option<Vec<u8>>, version: Version, options: &[&[u8]]| {
        let bytes = bytes.unwrap();
        let read = NegotiateProtocolVersion::parse(&bytes[HEADER_LEN..]).unwrap();
        assert_eq!((read.version, &*read.options), (version, options));
    };
    expect(answer(9999, b"user\0u\0\0"), Version::V3_2, &[]);
    expect(
        answer(0, b"_pq_.a\0on\0user\0u\0\0"),
        Version::V3_0,
        &[b"_pq_.a"],
    );
    expect(answer(3, b"_pq_.a\0on\0\0"), Version::V3_2, &[b"_pq_.a"]);
    assert_eq!(
        [Version::V3_0.secret_len(), Version::V3_2.secret_len()],
        [4, 32]
    );
}

#[test]
fn nothing_is_written_that_no_server_takes() {
    let mut out = BytesMut::new();
    let fill = |length: usize| "x".repeat(length);
    // Word 4, name 1 + 1, value + 1, terminator 1.
    assert!(startup(&mut out, Version::V3_0, &[("a", &fill(STARTUP_MAX - 7))]).is_err());
    assert!(out.is_empty());
    startup(&mut out, Version::V3_0, &[("a", &fill(STARTUP_MAX - 8))]).unwrap();
    assert_eq!(opening(&out).unwrap().unwrap().1, STARTUP_MAX + 4);
}

proptest! {
    #[test]
    fn what_is_written_is_read_once_it_is_whole(
        pairs in vec(("[^\0]{1,8}", "[^\0]{0,8}"), 0..5), behind in vec(any::<u8>(), 0..9),
    ) {
        let borrowed: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut out = BytesMut::new();
        startup(&mut out, Version::V3_2, &borrowed).unwrap();
        for length in 0..out.len() {
            prop_assert_eq!(opening(&out[..length]), Ok(None));
        }
        let size = out.len();
        out.extend_from_slice(&behind);
        let expected = Startup { version: Version::V3_2, parameters: pairs };
        prop_assert_eq!(opening(&out), Ok(Some((Opening::Startup(expected), size))));
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..80), code in 0_u32..4) {
        let _ = opening(&bytes);
        let code = [CANCEL_CODE, SSL_CODE, GSSENC_CODE, 3 << 16][code as usize];
        if let Ok(Some((Opening::Startup(startup), _))) = opening(&packet(code, &bytes)) {
            let _ = (negotiate(&startup), startup.user(), startup.database());
        }
    }
}
