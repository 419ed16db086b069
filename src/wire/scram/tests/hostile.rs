//! What a hostile peer may send at each step.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn the_flag_must_fit_the_mechanism_and_the_offer() {
    let first = |end_point: Option<&[u8]>, mechanism: &str, header: &str| {
        let message = format!("{header}n=,r=ours");
        server(end_point)
            .first(mechanism.as_bytes(), message.as_bytes())
            .map(drop)
    };
    use ScramError as E;
    let plus = SCRAM_SHA_256_PLUS;
    assert_eq!(first(Some(HASH), SCRAM_SHA_256, "y,,"), Err(E::Downgrade));
    assert_eq!(first(None, SCRAM_SHA_256, "y,,"), Ok(()));
    assert_eq!(first(Some(HASH), SCRAM_SHA_256, "n,,"), Ok(()));
    assert_eq!(first(Some(HASH), plus, "n,,"), Err(E::BindingFlag));
    assert_eq!(first(Some(HASH), plus, "y,,"), Err(E::BindingFlag));
    assert_eq!(
        first(Some(HASH), SCRAM_SHA_256, "p=tls-server-end-point,,"),
        Err(E::BindingFlag)
    );
    assert_eq!(
        first(Some(HASH), plus, "p=tls-unique,,"),
        Err(E::BindingType)
    );
    assert_eq!(
        first(None, plus, "p=tls-server-end-point,,"),
        Err(E::Mechanism)
    );
    assert_eq!(first(None, "SCRAM-SHA-1", "n,,"), Err(E::Mechanism));
    assert_eq!(
        first(None, SCRAM_SHA_256, "n,a=root,"),
        Err(E::AuthorizationIdentity)
    );
    assert_eq!(first(None, SCRAM_SHA_256, "n,,m=x,"), Err(E::Extension));
}

#[test]
fn the_first_message_is_read_strictly() {
    let long = "r".repeat(NONCE_MAX + 1);
    let huge = format!("n,,n=,r=ours,x={}", "x".repeat(MESSAGE_MAX));
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,r=ours",
        "n,,r=ours,n=",
        "n,,n=,r=",
        "n,,n=,r=a b",
        "n,,n=,r=ours,r=ours",
        "n,,n=,r=ours,",
        "n,,n=,r=ours,garbage",
        "n,,n=,r=ou\0rs",
        "x,,n=,r=o",
        "n,b,n=,r=ours",
        "n,,n=,r=ü",
        &format!("n,,n=,r={long}"),
        &huge,
    ] {
        let error = server(None)
            .first(b"SCRAM-SHA-256", message.as_bytes())
            .unwrap_err();
        assert!(
            matches!(error, ScramError::Malformed(_)),
            "{message}: {error}"
        );
    }
    assert!(
        server(None)
            .first(b"SCRAM-SHA-256", b"n,,n=,r=ours,x=later")
            .is_ok()
    );
}

#[test]
fn the_last_message_is_read_strictly() {
    let challenged = || {
        let mut server = server(None);
        let mut client = client(PLAIN, Binding::Prefer, None);
        let challenge = server.first(b"SCRAM-SHA-256", &client.first()).unwrap();
        let last = String::from_utf8(client.last(&challenge).unwrap()).unwrap();
        (server, last)
    };
    let (mut server, right) = challenged();
    let proof = right.split_once(",p=").unwrap().1.to_owned();
    assert!(server.last(right.as_bytes()).is_ok());
    for (from, to) in [
        ("c=biws,", ""),
        ("c=biws,", "c=biws,c=biws,"),
        ("c=biws", "c=eSws"),
        ("c=biws", "c=b!ws"),
        ("c=biws", "c="),
        (",r=ours", ",x=ours"),
        (",r=ours", ",r=ourx"),
        ("r=ourstheirs,", "r=ours,"),
        ("r=ourstheirs,", "r=ourstheirs2,"),
        ("r=ourstheirs,", "r=ourstheirs,r=ourstheirs,"),
        ("r=ourstheirs,", "r=ourstheirs,m=x,"),
        ("r=ourstheirs,", ""),
        ("c=biws,r=ourstheirs", "r=ourstheirs,c=biws"),
        (",p=", ",q="),
        (",p=", ",p=x,p="),
        (",p=", ",p=AAAA"),
        (&proof, ""),
        (&proof, "AAAA"),
        (&proof, "?"),
        (&proof, &"A".repeat(MESSAGE_MAX)),
        (&proof, &format!("{proof},x=y")),
        (&proof, &format!("{proof}\0")),
        (&right, ""),
    ] {
        let (mut server, right) = challenged();
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from} is not there");
        assert!(server.last(wrong.as_bytes()).is_err(), "{wrong}");
        assert_eq!(
            server.last(right.as_bytes()).unwrap_err(),
            ScramError::OutOfOrder
        );
    }
}

#[test]
fn each_fault_of_the_last_message_has_its_own_error() {
    let proof = STANDARD.encode([0; 32]);
    for (last, expected) in [
        (
            "c=biws,r=ourstheirs,p=?,x=y",
            ScramError::Malformed("garbage at the end"),
        ),
        (
            "c=biws,r=ourstheirs,r=ourstheirs,p=?",
            ScramError::Malformed("attribute repeated"),
        ),
        ("c=biws,r=ourstheirs,m=x,p=?", ScramError::Extension),
        ("c=biws,r=ourtheirss,p=?", ScramError::Nonce),
        ("c=eSws,r=ourstheirs,p=?", ScramError::Binding),
        ("c=biws,r=ourstheirs,p=?", ScramError::Proof),
    ] {
        let mut server = server(None);
        server.first(b"SCRAM-SHA-256", b"n,,n=,r=ours").unwrap();
        let last = last.replace('?', &proof);
        assert_eq!(
            server.last(last.as_bytes()).unwrap_err(),
            expected,
            "{last}"
        );
    }
    let refused = server(None).first(b"SCRAM-SHA-256", b"n,,n=,r=ours,x=\0");
    assert_eq!(refused, Err(ScramError::Malformed("message holds a NUL")));
}

#[test]
fn another_channel_is_noticed() {
    let mut client = client(BOTH, Binding::Require, Some(b"the thief's certificate"));
    assert_eq!(
        run(&mut client, &mut server(Some(HASH))).unwrap_err(),
        ScramError::Binding
    );
}

#[test]
fn binding_that_is_required_is_never_given_up() {
    for (offered, end_point) in [(PLAIN, Some(HASH)), (BOTH, None), (PLAIN, None)] {
        let offered = offered.iter().copied();
        let refused = client::Exchange::new(
            password("x"),
            offered,
            Binding::Require,
            end_point,
            "ours".into(),
        );
        assert_eq!(refused.err(), Some(ScramError::NoBinding));
    }
    let refused = client::Exchange::new(
        password("x"),
        [&b"OTHER"[..]],
        Binding::Prefer,
        None,
        "o".into(),
    );
    assert_eq!(refused.err(), Some(ScramError::NoMechanism));
}

#[test]
fn a_hostile_server_gets_no_answer() {
    let long = "x".repeat(64 * 1024);
    for challenge in [
        "",
        "r=ours1",
        "r=ours1,s=c2FsdA==",
        "s=c2FsdA==,r=ours1,i=1",
        "r=ours,s=c2FsdA==,i=1",
        "r=our,s=c2FsdA==,i=1",
        "r=other,s=c2FsdA==,i=1",
        "r=ours1,s=,i=1",
        "r=ours1,s=?,i=1",
        "r=ours1,s=c2FsdA==,i=0",
        "r=ours1,s=c2FsdA==,i=-1",
        "r=ours1,s=c2FsdA==,i=",
        "r=ours1,s=c2FsdA==,i=1000001",
        "r=ours1,s=c2FsdA==,i=2147483647",
        "r=ours1,s=c2FsdA==,i=99999999999999",
        "r=ours1,s=c2FsdA==,i=1,x=y",
        "m=x,r=ours1,s=c2FsdA==,i=1",
        "r=ours1,r=ours1,s=c2FsdA==,i=1",
        &format!("r=ours{long},s=c2FsdA==,i=1"),
        &format!("r=ours{},s=c2FsdA==,i=1", "x".repeat(NONCE_MAX)),
    ] {
        let mut client = client(PLAIN, Binding::Prefer, None);
        assert!(client.last(challenge.as_bytes()).is_err(), "{challenge}");
        assert_eq!(client.finish(b"v=AAAA"), Err(ScramError::OutOfOrder));
    }
    assert!(
        client(PLAIN, Binding::Prefer, None)
            .last(b"r=ours1,s=c2FsdA==,i=1")
            .is_ok()
    );
}

#[test]
fn only_the_right_signature_proves_a_server() {
    let zeros = format!("v={}", STANDARD.encode([0; 32]));
    let answered = || {
        let mut client = client(PLAIN, Binding::Prefer, None);
        client.last(b"r=ours1,s=c2FsdA==,i=1").unwrap();
        client
    };
    for (last, error) in [
        (&*zeros, ScramError::Signature),
        ("e=other-error", ScramError::Refused("other-error".into())),
        ("v=AAAA", ScramError::Malformed("invalid signature")),
        ("", ScramError::Malformed("attribute expected")),
        ("p=AAAA", ScramError::Malformed("signature expected")),
    ] {
        let mut client = answered();
        assert_eq!(client.finish(last.as_bytes()), Err(error));
        assert!(!client.is_proven());
    }
    assert_eq!(
        client(PLAIN, Binding::Prefer, None).finish(b"v=AAAA"),
        Err(ScramError::OutOfOrder)
    );
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(first in vec(any::<u8>(), 0..60), last in vec(any::<u8>(), 0..60)) {
        let mut server = server(Some(HASH));
        let _ = server.first(b"SCRAM-SHA-256", &first);
        let _ = server.last(&last);
        let mut challenged = self::server(None);
        challenged.first(b"SCRAM-SHA-256", b"n,,n=,r=ours").unwrap();
        prop_assert!(challenged.last(&last).is_err());
        let mut client = client(PLAIN, Binding::Prefer, None);
        let _ = client.last(&first);
        prop_assert!(client.finish(&last).is_err());
        let _ = Verifier::parse(&String::from_utf8_lossy(&first));
    }

    #[test]
    fn no_likely_text_causes_a_panic(text in "[nypcrsiv=,a0-9A-Z+/\0]{0,60}") {
        let mut server = server(None);
        let _ = server.first(b"SCRAM-SHA-256", text.as_bytes());
        let mut client = client(PLAIN, Binding::Prefer, None);
        let _ = client.last(text.as_bytes());
        let _ = Verifier::parse(&format!("SCRAM-SHA-256${text}"));
    }
}
