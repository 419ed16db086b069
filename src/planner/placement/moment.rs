//! Dates and moments, in the ISO forms that mean the same under any `DateStyle` and `TimeZone`.

use super::key::KeyError;

/// Days from 0000-03-01, from which leap days are easy to count, to 2000-01-01.
const EPOCH: i64 = 730_425;

const DAY: i64 = 86_400_000_000;

/// The digits at the beginning, and what is behind them.
fn digits(text: &[u8], count: usize) -> Result<(i64, &[u8]), KeyError> {
    let (head, rest) = text.split_at_checked(count).ok_or(KeyError::Obscure)?;
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return Err(KeyError::Obscure);
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Ok((value, rest))
}

fn after(text: &[u8], byte: u8) -> Result<&[u8], KeyError> {
    match text {
        [first, rest @ ..] if *first == byte => Ok(rest),
        _ => Err(KeyError::Obscure),
    }
}

/// The day `YYYY-MM-DD` at the beginning.
fn day(text: &[u8]) -> Result<(i64, &[u8]), KeyError> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(after(rest, b'-')?, 2)?;
    let (day, rest) = digits(after(rest, b'-')?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Err(KeyError::Invalid),
    };
    if year == 0 || day == 0 || day > last {
        return Err(KeyError::Invalid);
    }
    // Years are taken to begin in March, so that the leap day is the last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Ok((days - EPOCH, rest))
}

pub(super) fn date(text: &[u8]) -> Result<i32, KeyError> {
    match text {
        b"infinity" => return Ok(i32::MAX),
        b"-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    match day(text)? {
        (days, []) => i32::try_from(days).map_err(|_| KeyError::Invalid),
        _ => Err(KeyError::Obscure),
    }
}

/// `YYYY-MM-DD HH:MM[:SS[.ffffff]]` with a zone behind it, which is `Z` or an offset; with `T` for the blank.
pub(super) fn timestamptz(text: &[u8]) -> Result<i64, KeyError> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (days, rest) = day(text)?;
    let [b' ' | b'T', rest @ ..] = rest else {
        return Err(KeyError::Obscure);
    };
    let (hour, rest) = digits(rest, 2)?;
    let (minute, mut rest) = digits(after(rest, b':')?, 2)?;
    let (mut second, mut micros) = (0, 0);
    if let [b':', behind @ ..] = rest {
        (second, rest) = digits(behind, 2)?;
        if let [b'.', behind @ ..] = rest {
            (micros, rest) = fraction(behind)?;
        }
    }
    // 24:00 and the second 60 are read as well, but seldom meant.
    if hour > 23 || minute > 59 || second > 59 {
        return Err(KeyError::Obscure);
    }
    let local = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    Ok(days * DAY + local - offset(rest)? * 1_000_000)
}

/// Up to six digits; a server rounds more of them.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), KeyError> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > 6 {
        return Err(KeyError::Obscure);
    }
    let (value, rest) = digits(text, count)?;
    Ok((value * 10_i64.pow(6 - count as u32), rest))
}

/// Seconds east of Greenwich.
fn offset(text: &[u8]) -> Result<i64, KeyError> {
    let (sign, rest) = match text {
        b"Z" => return Ok(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(KeyError::Obscure),
    };
    let (hours, rest) = digits(rest, 2)?;
    let minutes = match rest {
        [] => 0,
        [b':', rest @ ..] | rest => match digits(rest, 2)? {
            (minutes, []) => minutes,
            _ => return Err(KeyError::Obscure),
        },
    };
    if hours > 14 || minutes > 59 {
        return Err(KeyError::Obscure);
    }
    Ok(sign * (hours * 60 + minutes) * 60)
}
