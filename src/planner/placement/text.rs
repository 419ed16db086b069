//! The texts of whole numbers, `uuid` and `bytea`.

use super::key::KeyError;

/// What C's `isspace` takes for white space.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

pub(super) fn trim(text: &[u8]) -> &[u8] {
    let Some(start) = text.iter().position(|byte| !is_space(*byte)) else {
        return &[];
    };
    let end = text.iter().rposition(|byte| !is_space(*byte));
    &text[start..end.map_or(start, |last| last + 1)]
}

/// `pg_strtoint64`. What only newer versions read (`0x10`, `1_000`) is not followed.
pub(super) fn int(text: &[u8]) -> Result<i64, KeyError> {
    let text = trim(text);
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return Err(KeyError::Invalid);
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = match byte {
            b'0'..=b'9' => i64::from(byte - b'0'),
            b'_' | b'x' | b'X' | b'o' | b'O' | b'b' | b'B' => return Err(KeyError::Obscure),
            _ => return Err(KeyError::Invalid),
        };
        value = value
            .checked_mul(10)
            .and_then(|value| match negative {
                true => value.checked_sub(digit),
                false => value.checked_add(digit),
            })
            .ok_or(KeyError::Invalid)?;
    }
    Ok(value)
}

fn hex(byte: u8) -> Result<u8, KeyError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(KeyError::Invalid),
    }
}

/// `string_to_uuid`: hexadecimal digits, with a hyphen or none behind each four of them, in braces or not.
pub(super) fn uuid(text: &[u8]) -> Result<[u8; 16], KeyError> {
    let (braces, mut rest) = match text {
        [b'{', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut value = [0; 16];
    for (at, byte) in value.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else {
            return Err(KeyError::Invalid);
        };
        *byte = hex(*high)? << 4 | hex(*low)?;
        rest = match tail {
            [b'-', behind @ ..] if at % 2 == 1 && at < 15 => behind,
            behind => behind,
        };
    }
    match (braces, rest) {
        (true, [b'}']) | (false, []) => Ok(value),
        _ => Err(KeyError::Invalid),
    }
}

/// `byteain`: the form `\x…` and the older one with escapes.
pub(super) fn bytea(text: &[u8]) -> Result<Vec<u8>, KeyError> {
    if let [b'\\', b'x', digits @ ..] = text {
        if digits.iter().any(|byte| is_space(*byte)) {
            return Err(KeyError::Obscure);
        }
        let pairs = digits.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(KeyError::Invalid);
        }
        return pairs
            .map(|pair| Ok(hex(pair[0])? << 4 | hex(pair[1])?))
            .collect();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = match (first, behind) {
            (b'\\', [b'\\', behind @ ..]) => {
                bytes.push(b'\\');
                behind
            }
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    behind @ ..,
                ],
            ) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                behind
            }
            (b'\\', _) => return Err(KeyError::Invalid),
            (byte, behind) => {
                bytes.push(*byte);
                behind
            }
        };
    }
    Ok(bytes)
}
