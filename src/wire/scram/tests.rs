use super::client::{Binding, Credentials};
use super::*;

mod hostile;

const PLAIN: &[&[u8]] = &[b"SCRAM-SHA-256"];
const BOTH: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];
const HASH: &[u8] = b"hash of a certificate";

fn verifier() -> Verifier {
    Verifier::from_password(b"pencil", b"sixteen bytes ok", 7)
}

fn password(text: &str) -> Credentials {
    Credentials::Password(text.as_bytes().to_vec())
}

fn client(offered: &[&[u8]], policy: Binding, end_point: Option<&[u8]>) -> client::Exchange {
    let offered = offered.iter().copied();
    client::Exchange::new(
        password("pencil"),
        offered,
        policy,
        end_point,
        "ours".into(),
    )
    .unwrap()
}

fn server(end_point: Option<&[u8]>) -> server::Exchange {
    server::Exchange::new(verifier(), end_point.map(<[u8]>::to_vec), "theirs".into())
}

/// Runs both sides against each other.
fn run(
    client: &mut client::Exchange,
    server: &mut server::Exchange,
) -> Result<ClientKey, ScramError> {
    let challenge = server.first(client.mechanism().as_bytes(), &client.first())?;
    let (signature, key) = server.last(&client.last(&challenge)?)?;
    client.finish(&signature)?;
    assert!(client.is_proven());
    Ok(key)
}

#[test]
fn agrees_with_rfc_7677() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = Verifier::from_password(b"pencil", &salt, 4096);
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
    let mut server = server::Exchange::new(verifier, None, nonce);
    let first = server
        .first(b"SCRAM-SHA-256", b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        .unwrap();
    let expected = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(first, expected);
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (signature, _) = server.last(last).unwrap();
    assert_eq!(signature, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn reads_and_writes_what_postgres_stores() {
    // From the regression tests of Postgres (password.sql).
    let stored = "SCRAM-SHA-256$4096:VLK4RMaQLCvNtQ==$\
        6YtlR4t69SguDiwFvbVgVZtuz6gpJQQqUMZ7IQJK5yI=:ps75jrHeYU4lXCcXI4O8oIdJ3eO8o2jirjruw9phBTo=";
    let verifier = Verifier::parse(stored).unwrap();
    assert_eq!(verifier.format(), stored);
    assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    for (from, to) in [
        ("256$", "1$"),
        ("4096", "0"),
        ("4096", "+4096"),
        ("4096", "99999999999"),
        ("VLK4RMaQLCvNtQ==", ""),
        ("VLK4", "VL!4"),
        ("5yI=", "5y"),
        ("ps75", "ps75ps75"),
        ("=:p", "=;p"),
        ("BTo=", "BTo=$"),
    ] {
        assert!(
            Verifier::parse(&stored.replace(from, to)).is_err(),
            "{from} as {to}"
        );
    }
}

#[test]
fn both_sides_agree_with_and_without_the_channel() {
    use Binding::{Disable, Prefer, Require};
    for (offered, policy, at_client, at_server, mechanism) in [
        (PLAIN, Disable, None, None, SCRAM_SHA_256),
        (PLAIN, Prefer, Some(HASH), None, SCRAM_SHA_256),
        (BOTH, Disable, Some(HASH), Some(HASH), SCRAM_SHA_256),
        (BOTH, Prefer, None, Some(HASH), SCRAM_SHA_256),
        (BOTH, Prefer, Some(HASH), Some(HASH), SCRAM_SHA_256_PLUS),
        (BOTH, Require, Some(HASH), Some(HASH), SCRAM_SHA_256_PLUS),
    ] {
        let mut client = client(offered, policy, at_client);
        assert_eq!(client.mechanism(), mechanism);
        let key = run(&mut client, &mut server(at_server)).unwrap();
        assert!(verifier().accepts(&key));
    }
}

#[test]
fn the_key_of_a_login_repeats_it_without_the_password() {
    let key = run(&mut client(PLAIN, Binding::Prefer, None), &mut server(None)).unwrap();
    let keys = verifier().keys(key);
    let again = |server: &mut server::Exchange| {
        let credentials = Credentials::Keys(keys.clone());
        let offered = PLAIN.iter().copied();
        let again =
            client::Exchange::new(credentials, offered, Binding::Prefer, None, "2nd".into());
        run(&mut again.unwrap(), server)
    };
    assert!(again(&mut server(None)).is_ok());
    // The same password stored anew is another one to the keys, and is not tried.
    for (salt, iterations) in [(&b"another salt"[..], 7), (b"sixteen bytes ok", 8)] {
        let stored_anew = Verifier::from_password(b"pencil", salt, iterations);
        let mut server = server::Exchange::new(stored_anew, None, "theirs".into());
        assert_eq!(again(&mut server).unwrap_err(), ScramError::OtherPassword);
    }
    // Another password under the same salt is for the server to refuse.
    let other = Verifier::from_password(b"crayon", b"sixteen bytes ok", 7);
    let mut server = server::Exchange::new(other, None, "theirs".into());
    assert_eq!(again(&mut server).unwrap_err(), ScramError::Proof);
}

#[test]
fn keys_are_the_same_only_if_all_of_them_is() {
    let keys =
        |password: &[u8], salt: &[u8], iterations| Keys::from_password(password, salt, iterations);
    let one = keys(b"pencil", b"salt", 2);
    assert!(one.same(&keys(b"pencil", b"salt", 2)));
    assert!(!one.same(&keys(b"Pencil", b"salt", 2)));
    assert!(!one.same(&keys(b"pencil", b"tals", 2)));
    assert!(!one.same(&keys(b"pencil", b"salt", 3)));
}

#[test]
fn a_wrong_password_or_an_unknown_user_proves_nothing() {
    let offered = || PLAIN.iter().copied();
    let guess = |text: &str| {
        client::Exchange::new(
            password(text),
            offered(),
            Binding::Prefer,
            None,
            "ours".into(),
        )
    };
    let refused = run(&mut guess("Pencil").unwrap(), &mut server(None));
    assert_eq!(refused.unwrap_err(), ScramError::Proof);
    let mock = Verifier::mock("nobody", b"secret");
    let mut server = server::Exchange::new(mock, None, "theirs".into());
    assert_eq!(
        run(&mut guess("").unwrap(), &mut server).unwrap_err(),
        ScramError::Proof
    );
    assert!(verifier().verify(b"pencil"));
    assert!(!verifier().verify(b"pencils"));
}

#[test]
fn an_unknown_user_looks_the_same_each_time() {
    let mock = |user: &str, secret: &[u8]| Verifier::mock(user, secret).format();
    assert_eq!(mock("nobody", b"secret"), mock("nobody", b"secret"));
    assert_ne!(mock("nobody", b"secret"), mock("nobody2", b"secret"));
    assert_ne!(mock("nobody", b"secret"), mock("nobody", b"other"));
    let real = Verifier::from_password(b"x", &[7; 16], ITERATIONS).format();
    assert_eq!(mock("nobody", b"secret").len(), real.len());
}

#[test]
fn passwords_are_prepared_as_postgres_does() {
    let verifier = |text: &[u8]| Verifier::from_password(text, b"salt", 1).format();
    // U+00AD is mapped to nothing, U+2168 to IX (RFC 4013, section 3).
    assert_eq!(verifier("I\u{ad}X".as_bytes()), verifier(b"IX"));
    assert_eq!(verifier("\u{2168}".as_bytes()), verifier(b"IX"));
    // What may not be prepared, or is not UTF-8, is taken as it is.
    assert_ne!(verifier(b"\x07IX"), verifier(b"IX"));
    assert_ne!(verifier(b"\xff"), verifier(b"\xfe"));
}

#[test]
fn nonces_differ_and_fit_the_grammar() {
    let mut rng = rand::rng();
    let one = nonce(&mut rng);
    assert_eq!(attribute::nonce(one.as_bytes()), Ok(&*one));
    assert_ne!(one, nonce(&mut rng));
}
