//! The order of values whose types have one order everywhere, as servers send them.

use std::cmp::Ordering;

use pgherd_planner::SortKey;
use pgherd_planner::placement::{KeyType, KeyValue};

/// The OIDs of `pg_type.dat` that are no types of keys: `bool` and `timestamp`.
const BOOL: u32 = 16;
const TIMESTAMP: u32 = 1114;

/// A value to be compared; `None` is NULL.
pub(super) type Value = Option<KeyValue>;

/// Reads a value as it has come, in text or in binary; `None` if it is written in a form that is not followed.
pub(super) fn read(oid: u32, binary: bool, value: &[u8]) -> Option<KeyValue> {
    match (oid, binary) {
        (BOOL, false) => match value {
            b"t" => Some(KeyValue::Int(1)),
            b"f" => Some(KeyValue::Int(0)),
            _ => None,
        },
        (BOOL, true) => match value {
            [value] => Some(KeyValue::Int(i64::from(*value != 0))),
            _ => None,
        },
        (TIMESTAMP, true) => KeyValue::from_binary(KeyType::Timestamptz, value).ok(),
        (TIMESTAMP, false) => {
            let finite = value.first().is_some_and(u8::is_ascii_digit);
            let zone: &[u8] = if finite { b"+00" } else { b"" };
            let text = [value, zone].concat();
            KeyValue::from_text(KeyType::Timestamptz, &text).ok()
        }
        (oid, true) => KeyValue::from_binary(KeyType::of(oid)?, value).ok(),
        (oid, false) => KeyValue::from_text(KeyType::of(oid)?, value).ok(),
    }
}

/// Which of two rows comes first, by the values of their keys.
pub(super) fn compare(keys: &[SortKey], one: &[Value], two: &[Value]) -> Ordering {
    let orders = keys.iter().zip(one).zip(two).map(|((key, one), two)| {
        let (before, behind) = match key.nulls_first {
            true => (Ordering::Less, Ordering::Greater),
            false => (Ordering::Greater, Ordering::Less),
        };
        match (one, two) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => before,
            (Some(_), None) => behind,
            (Some(one), Some(two)) if key.descending => two.cmp(one),
            (Some(one), Some(two)) => one.cmp(two),
        }
    });
    orders
        .into_iter()
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use pgherd_planner::SortKey;

    use super::{compare, read};

    fn key(oid: u32, descending: bool, nulls_first: bool) -> SortKey {
        SortKey {
            column: 0,
            oid,
            descending,
            nulls_first,
        }
    }

    #[test]
    fn values_have_the_order_of_their_types() {
        for (oid, sorted) in [
            (16, &["f", "t"][..]),
            (21, &["-3", "2", "10"]),
            (1700, &["-Infinity", "-2.5", "0.10", "9", "10.00", "NaN"]),
            (25, &["", "B", "a", "aa", "\u{e9}"]),
            (1082, &["-infinity", "1999-12-31", "2000-01-01", "infinity"]),
            (
                1114,
                &[
                    "-infinity",
                    "2000-01-01 00:00:00",
                    "2000-01-01 00:00:00.5",
                    "infinity",
                ],
            ),
            (
                1184,
                &[
                    "2000-01-01 01:30:00+02",
                    "2000-01-01 01:00:00+01",
                    "2000-01-01 01:00:00+00",
                ],
            ),
        ] {
            for pair in sorted.windows(2) {
                let value = |text: &str| vec![Some(read(oid, false, text.as_bytes()).unwrap())];
                let (one, two) = (value(pair[0]), value(pair[1]));
                let order = compare(&[key(oid, false, false)], &one, &two);
                let expected = match pair[0].contains("+02") {
                    true => Ordering::Less,
                    false => one[0].cmp(&two[0]),
                };
                assert_eq!(order, expected, "{pair:?}");
                assert_ne!(order, Ordering::Greater, "{pair:?}");
                let order = compare(&[key(oid, true, false)], &one, &two);
                assert_ne!(order, Ordering::Less, "{pair:?}");
            }
        }
    }

    #[test]
    fn nulls_are_where_they_are_said_to_be() {
        let (null, one) = (vec![None], vec![read(23, false, b"1")]);
        for descending in [false, true] {
            let first = compare(&[key(23, descending, true)], &null, &one);
            let last = compare(&[key(23, descending, false)], &null, &one);
            assert_eq!((first, last), (Ordering::Less, Ordering::Greater));
        }
        assert_eq!(
            compare(&[key(23, false, false)], &null, &null),
            Ordering::Equal
        );
    }

    #[test]
    fn what_cannot_be_read_has_no_order() {
        assert_eq!(read(1082, false, b"Thu Mar 12 2026"), None);
        assert_eq!(read(1114, false, b"0044-03-15 00:00:00 BC"), None);
        assert_eq!(read(16, true, b""), None);
        assert_eq!(read(700, false, b"1.5"), None);
    }
}
