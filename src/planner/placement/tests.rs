use super::*;

fn text(kind: KeyType, text: &str) -> Result<KeyValue, KeyError> {
    KeyValue::from_text(kind, text.as_bytes())
}

#[test]
fn whole_numbers_are_read_as_by_postgres() {
    for (given, value) in [("5", 5), (" 12\t", 12), ("+12", 12), ("-0", 0), ("007", 7)] {
        assert_eq!(
            text(KeyType::Int8, given),
            Ok(KeyValue::Int(value)),
            "{given:?}"
        );
    }
    for given in ["", " ", "-", "+ 1", "1 2", "1e1", "1.0", "a", "--1"] {
        assert_eq!(
            text(KeyType::Int8, given),
            Err(KeyError::Invalid),
            "{given:?}"
        );
    }
    for given in ["0x10", "1_000", "0b1"] {
        assert_eq!(
            text(KeyType::Int8, given),
            Err(KeyError::Obscure),
            "{given:?}"
        );
    }
    assert_eq!(text(KeyType::Int2, "32768"), Err(KeyError::Invalid));
    assert_eq!(
        text(KeyType::Int4, "-2147483648"),
        Ok(KeyValue::Int(-2_147_483_648))
    );
    assert_eq!(
        text(KeyType::Int8, "-9223372036854775808"),
        Ok(KeyValue::Int(i64::MIN))
    );
    assert_eq!(
        text(KeyType::Int8, "9223372036854775808"),
        Err(KeyError::Invalid)
    );
}

#[test]
fn a_uuid_has_its_spellings() {
    let plain = text(KeyType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
    for given in [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ] {
        assert_eq!(text(KeyType::Uuid, given).as_ref(), Ok(&plain), "{given}");
    }
    for given in [
        " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
        "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
    ] {
        assert_eq!(
            text(KeyType::Uuid, given),
            Err(KeyError::Invalid),
            "{given}"
        );
    }
}

#[test]
fn numbers_are_equal_by_value() {
    let one = text(KeyType::Numeric, "1").unwrap();
    for given in [
        "1.0", "1.00000", "01", "+1", "10e-1", "0.1e1", " 1. ", "0.0001e4",
    ] {
        assert_eq!(text(KeyType::Numeric, given).as_ref(), Ok(&one), "{given}");
    }
    let zero = text(KeyType::Numeric, "0").unwrap();
    assert_eq!(text(KeyType::Numeric, "-0.000"), Ok(zero));
    let order = [
        "-inf", "-12345.6", "-12345.5", "-1", "0", "0.00001", "9999", "10000", "10000.1",
        "Infinity", "nan",
    ];
    let read: Vec<_> = order
        .iter()
        .map(|given| text(KeyType::Numeric, given).unwrap())
        .collect();
    assert!(read.is_sorted(), "{read:?}");
    for given in ["", ".", "1..0", "1 0", "-nan", "e5"] {
        assert_eq!(
            text(KeyType::Numeric, given),
            Err(KeyError::Invalid),
            "{given}"
        );
    }
    assert_eq!(text(KeyType::Numeric, "0x1F"), Err(KeyError::Obscure));
    assert_eq!(text(KeyType::Numeric, "1e100000"), Err(KeyError::Obscure));
}

#[test]
fn values_of_other_types_are_equal_or_not() {
    let numeric = |given| text(KeyType::Numeric, given).unwrap();
    assert_eq!(
        numeric("4.0").as_type(KeyType::Int8),
        Ok(Some(KeyValue::Int(4)))
    );
    assert_eq!(numeric("4.5").as_type(KeyType::Int8), Ok(None));
    assert_eq!(
        numeric("9223372036854775808").as_type(KeyType::Int8),
        Ok(None)
    );
    assert_eq!(numeric("70000").as_type(KeyType::Int2), Ok(None));
    assert_eq!(
        numeric("-20000000").as_type(KeyType::Int4),
        Ok(Some(KeyValue::Int(-20_000_000)))
    );
    assert_eq!(
        KeyValue::Int(7).as_type(KeyType::Numeric),
        Ok(Some(numeric("7.00")))
    );
    assert_eq!(
        KeyValue::Int(7).as_type(KeyType::Text),
        Err(KeyError::Obscure)
    );
    assert_eq!(text(KeyType::Bpchar, "a  "), text(KeyType::Bpchar, "a"));
    assert_ne!(text(KeyType::Text, "a  "), text(KeyType::Text, "a"));
}

#[test]
fn moments_are_read_where_they_are_certain() {
    assert_eq!(text(KeyType::Date, "2000-01-01"), Ok(KeyValue::Date(0)));
    assert_eq!(text(KeyType::Date, "2000-02-29"), Ok(KeyValue::Date(59)));
    assert_eq!(text(KeyType::Date, "1999-12-31"), Ok(KeyValue::Date(-1)));
    assert_eq!(text(KeyType::Date, "1900-02-29"), Err(KeyError::Invalid));
    assert_eq!(text(KeyType::Date, "01/02/2000"), Err(KeyError::Obscure));
    let noon = text(KeyType::Timestamptz, "2000-01-01 12:00:00+00");
    assert_eq!(noon, Ok(KeyValue::Timestamptz(43_200_000_000)));
    assert_eq!(noon, text(KeyType::Timestamptz, "2000-01-01T14:30+02:30"));
    assert_eq!(
        noon,
        text(KeyType::Timestamptz, "2000-01-01 04:00:00.000-0800")
    );
    assert_eq!(
        text(KeyType::Timestamptz, "2000-01-01 12:00:00"),
        Err(KeyError::Obscure)
    );
}

#[test]
fn lists_and_ranges_know_their_shards() {
    let mut placement = Placement::new(3);
    let int = KeyValue::Int;
    let values = [(int(1), Shard(1)), (int(2), Shard(2))].into();
    let list = placement
        .group(Method::List {
            values,
            default: None,
        })
        .unwrap();
    assert_eq!(placement.shard(list, &[int(2)]), Ok(Shard(2)));
    assert_eq!(placement.shard(list, &[int(3)]), Err(MethodError::Unmapped));
    let range = |from: Option<i64>, to: Option<i64>, shard| method::Range {
        from: from.map(int),
        to: to.map(int),
        shard: Shard(shard),
    };
    let ranges = vec![range(None, Some(10), 0), range(Some(10), Some(20), 1)];
    let group = placement.group(Method::Range(ranges)).unwrap();
    assert_eq!(placement.shard(group, &[int(-5)]), Ok(Shard(0)));
    assert_eq!(placement.shard(group, &[int(10)]), Ok(Shard(1)));
    assert_eq!(
        placement.shard(group, &[int(20)]),
        Err(MethodError::Unmapped)
    );
    let wrong = vec![range(None, Some(10), 0), range(Some(9), None, 1)];
    assert_eq!(
        placement.group(Method::Range(wrong)),
        Err(MethodError::Ranges)
    );
    assert_eq!(
        placement.group(Method::hash(4)),
        Err(MethodError::NoShard(3))
    );
}
