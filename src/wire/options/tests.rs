use proptest::prelude::*;

use super::*;

fn pairs(options: &str) -> Vec<(String, String)> {
    parse(options).unwrap()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn reads_each_way_to_set_a_parameter() {
    for options in [
        "-c a_b=c",
        "-ca_b=c",
        "--a_b=c",
        "--a-b=c",
        "  -c\ta-b=c \n",
    ] {
        assert_eq!(pairs(options), [pair("a_b", "c")], "{options}");
    }
    assert_eq!(pairs("-c a=b --c=d=e"), [pair("a", "b"), pair("c", "d=e")]);
    assert_eq!(pairs("-c a="), [pair("a", "")]);
    assert_eq!(pairs(" \t "), []);
    assert_eq!(pairs("-c a=b --"), [pair("a", "b")]);
}

#[test]
fn a_backslash_takes_the_next_character_as_it_is() {
    assert_eq!(
        pairs(r"-c search_path=a,\ b"),
        [pair("search_path", "a, b")]
    );
    assert_eq!(pairs(r"-c a=\\b"), [pair("a", r"\b")]);
    assert_eq!(pairs(r"-c a=b\"), [pair("a", "b")]);
}

#[test]
fn refuses_what_sets_nothing() {
    assert_eq!(parse("-c"), Err(OptionsError::NothingToSet));
    assert_eq!(parse("-c ="), Err(OptionsError::NoName));
    assert_eq!(parse("-c="), Err(OptionsError::NoName));
    assert_eq!(parse("--=x"), Err(OptionsError::NoName));
    assert_eq!(parse("-- -c a=b"), Err(OptionsError::Unknown("-c".into())));
    assert_eq!(parse("-c a"), Err(OptionsError::NoValue("a".into())));
    assert_eq!(parse("-fs"), Err(OptionsError::Unknown("-fs".into())));
    assert_eq!(parse("+"), Err(OptionsError::Unknown("+".into())));
}

proptest! {
    #[test]
    fn always_ends(options in any::<String>()) {
        let _ = parse(&options);
    }

    #[test]
    fn always_ends_on_likely_text(options in r"[-c= \\a+\t]{0,40}") {
        let settings = parse(&options).unwrap_or_default();
        prop_assert!(settings.len() <= options.len());
        prop_assert!(settings.iter().all(|(name, _)| !name.is_empty()));
    }

    #[test]
    fn reads_what_it_writes(
        settings in proptest::collection::vec(("[a-z_.]{1,8}", any::<String>()), 0..4),
    ) {
        let pairs = settings.iter().map(|(name, value)| (&**name, &**value));
        prop_assert_eq!(parse(&format(pairs)), Ok(settings));
    }
}
