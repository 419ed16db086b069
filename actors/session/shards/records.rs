//! Records in their binary form, in which each value has the number of its type.

use crate::shards::FIRST_OWN;

/// The OID of `record`, and that of arrays of it.
const RECORD: u32 = 2249;
const RECORDS: u32 = 2287;

/// Whether values of this type have in them the numbers of others' types.
pub(super) fn has_numbers(oid: u32) -> bool {
    [RECORD, RECORDS].contains(&oid)
}

/// Whether there is a type in it that users have made, whose number is another on each server; also if that cannot
/// be read.
pub(super) fn has_own(oid: u32, value: &[u8]) -> bool {
    match oid {
        RECORD => fields(value).unwrap_or(true),
        RECORDS => elements(value).unwrap_or(true),
        oid => oid >= FIRST_OWN,
    }
}

fn fields(mut rest: &[u8]) -> Option<bool> {
    for _ in 0..number(&mut rest)? {
        let oid = number(&mut rest)?;
        let value = value(&mut rest)?;
        // Also the number of the type of a NULL is read.
        let own = match value {
            Some(value) => has_own(oid, value),
            None => oid >= FIRST_OWN,
        };
        if own {
            return Some(true);
        }
    }
    Some(false)
}

fn elements(mut rest: &[u8]) -> Option<bool> {
    let dimensions = usize::try_from(number(&mut rest)?).ok()?;
    // Behind it are whether there are NULLs, the type, and two numbers of each dimension.
    let header = dimensions.checked_mul(8)?.checked_add(8)?;
    rest = rest.get(header..)?;
    while !rest.is_empty() {
        if let Some(value) = value(&mut rest)?
            && has_own(RECORD, value)
        {
            return Some(true);
        }
    }
    Some(false)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    Some(u32::from_be_bytes(*number))
}

/// A value behind its length; none is NULL.
fn value<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = number(rest)?;
    if length == u32::MAX {
        return Some(None);
    }
    let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use super::{RECORD, RECORDS, has_own};

    fn record(fields: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
        let mut out = u32::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for (oid, value) in fields {
            out.extend(oid.to_be_bytes());
            let length = value.map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap());
            out.extend(length.to_be_bytes());
            out.extend(value.unwrap_or_default());
        }
        out
    }

    #[test]
    fn own_types_are_found_wherever_they_are() {
        let plain = record(&[(23, Some(&[0, 0, 0, 1])), (25, None)]);
        let own = record(&[(25, Some(b"a")), (16_400, None)]);
        let within = |value: &[u8]| record(&[(23, None), (RECORD, Some(value))]);
        let array = |value: &[u8]| {
            let head = [1, 0, RECORD, 1, 1, u32::try_from(value.len()).unwrap()];
            let head = head.map(u32::to_be_bytes).concat();
            [head, value.to_vec()].concat()
        };
        for (value, expected) in [(&plain, false), (&own, true)] {
            assert_eq!(has_own(RECORD, value), expected);
            assert_eq!(has_own(RECORD, &within(value)), expected);
            assert_eq!(has_own(RECORDS, &array(value)), expected);
        }
        assert!(has_own(RECORD, &plain[..plain.len() - 1]));
        assert!(has_own(RECORDS, &[0, 0, 0, 9]));
    }
}
