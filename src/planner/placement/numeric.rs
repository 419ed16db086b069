//! `numeric`: by value, so that 1.0 and 1.00 are one key.

use std::cmp::Ordering;

use super::hash;
use super::key::KeyError;
use super::text::trim;

/// How many decimal digits, and how great an exponent, are followed.
const LIMIT: usize = 1_000;

/// A number as `numeric` holds it: digits to the base 10,000, of which neither the first nor the last is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numeric {
    /// Less than all numbers.
    NegativeInfinity,
    /// A number; zero has no digits, the weight 0 and no sign.
    Finite {
        /// Whether it is less than zero.
        negative: bool,
        /// The power of 10,000 of the first digit.
        weight: i32,
        /// The digits.
        digits: Box<[i16]>,
    },
    /// More than all numbers.
    Infinity,
    /// Not a number; equal to itself, and more than all else.
    NaN,
}

impl Numeric {
    fn finite(negative: bool, weight: i32, digits: &[i16]) -> Self {
        let start = digits.iter().position(|digit| *digit != 0);
        let end = digits.iter().rposition(|digit| *digit != 0);
        match (start, end) {
            (Some(start), Some(end)) => Self::Finite {
                negative,
                // There are at most some thousands of digits.
                weight: weight - start as i32,
                digits: digits[start..=end].into(),
            },
            _ => Self::Finite {
                negative: false,
                weight: 0,
                digits: Box::default(),
            },
        }
    }

    /// `numeric_in`. Hexadecimal numbers and underscores, which only newer versions read, are not followed.
    pub(super) fn from_text(text: &[u8]) -> Result<Self, KeyError> {
        let text = trim(text);
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let is = |name: &str| unsigned.eq_ignore_ascii_case(name.as_bytes());
        if is("nan") && unsigned.len() == text.len() {
            return Ok(Self::NaN);
        }
        if is("infinity") || is("inf") {
            return Ok(match negative {
                true => Self::NegativeInfinity,
                false => Self::Infinity,
            });
        }
        let (digits, point) = decimal(unsigned)?;
        Ok(Self::from_decimal(negative, &digits, point))
    }

    /// From decimal digits, of which so many (perhaps less than none) stand before the point.
    fn from_decimal(negative: bool, decimals: &[u8], point: i32) -> Self {
        let groups = point.div_euclid(4) + i32::from(point.rem_euclid(4) != 0);
        // How many zeros stand before the first digit in its group of four.
        let lead = (groups * 4 - point) as usize;
        let mut digits = Vec::with_capacity(decimals.len() / 4 + 2);
        let all = decimals.len() + lead;
        for group in 0..all.div_ceil(4) {
            let mut value = 0;
            for at in group * 4..group * 4 + 4 {
                let decimal = at.checked_sub(lead).and_then(|at| decimals.get(at));
                value = value * 10 + i16::from(decimal.copied().unwrap_or_default());
            }
            digits.push(value);
        }
        Self::finite(negative, groups - 1, &digits)
    }

    /// `numeric_recv`: the numbers of digits, the weight, the sign, the scale, then the digits.
    pub(super) fn from_binary(bytes: &[u8]) -> Result<Self, KeyError> {
        let words: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| pair.try_into().map(u16::from_be_bytes))
            .collect::<Result<_, _>>()
            .map_err(|_| KeyError::Invalid)?;
        let [count, weight, sign, scale, digits @ ..] = &*words else {
            return Err(KeyError::Invalid);
        };
        if usize::from(*count) != digits.len() || digits.iter().any(|digit| *digit > 9_999) {
            return Err(KeyError::Invalid);
        }
        let negative = match sign {
            0xC000 => return Ok(Self::NaN),
            0xD000 => return Ok(Self::Infinity),
            0xF000 => return Ok(Self::NegativeInfinity),
            0x4000 => true,
            0 => false,
            _ => return Err(KeyError::Invalid),
        };
        let weight = i32::from(*weight as i16);
        let digits: Vec<i16> = digits.iter().map(|digit| *digit as i16).collect();
        let value = Self::finite(negative, weight, &digits);
        // A server cuts off what is behind the scale.
        match value.scale() {
            Some(real) if real > i32::from(*scale) => Err(KeyError::Obscure),
            _ => Ok(value),
        }
    }

    /// The whole number that is equal to it, if there is one of 64 bits.
    pub fn to_int(&self) -> Option<i64> {
        let Self::Finite {
            negative,
            weight,
            digits,
        } = self
        else {
            return None;
        };
        if digits.is_empty() {
            return Some(0);
        }
        if *weight < 0 || *weight > 4 || digits.len() as i32 > weight + 1 {
            return None;
        }
        let mut value: i128 = 0;
        for at in 0..=*weight {
            let digit = digits.get(at as usize).copied().unwrap_or_default();
            value = value * 10_000 + i128::from(digit);
        }
        i64::try_from(if *negative { -value } else { value }).ok()
    }

    /// How many decimal digits stand behind the point; None if it is no finite number.
    pub(crate) fn scale(&self) -> Option<i32> {
        let Self::Finite { weight, digits, .. } = self else {
            return None;
        };
        let last = *digits.last()?;
        let zeros = (0..4).take_while(|n| last % 10_i16.pow(n + 1) == 0).count() as i32;
        Some(((digits.len() as i32 - 1 - weight) * 4 - zeros).max(0))
    }

    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Finite { digits, .. } if digits.is_empty() => hash::NUMERIC_ZERO,
            Self::Finite { digits, weight, .. } => hash::numeric(digits, *weight),
            _ => hash::NUMERIC_SPECIAL,
        }
    }

    fn rank(&self) -> i8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite { .. } => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        let decimals: Vec<u8> = value.unsigned_abs().to_string().into_bytes();
        let digits: Vec<u8> = decimals.iter().map(|byte| byte - b'0').collect();
        Self::from_decimal(value < 0, &digits, digits.len() as i32)
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        let (
            Self::Finite {
                negative,
                weight,
                digits,
            },
            Self::Finite {
                negative: other_negative,
                weight: other_weight,
                digits: other_digits,
            },
        ) = (self, other)
        else {
            return self.rank().cmp(&other.rank());
        };
        let sign = |negative: bool, digits: &[i16]| match (negative, digits.is_empty()) {
            (_, true) => 0,
            (true, false) => -1,
            (false, false) => 1,
        };
        let left = sign(*negative, digits);
        left.cmp(&sign(*other_negative, other_digits))
            .then_with(|| {
                let size = (weight, digits).cmp(&(other_weight, other_digits));
                if left < 0 { size.reverse() } else { size }
            })
    }
}

/// The decimal digits of an unsigned number, and how many of them stand before the point.
fn decimal(text: &[u8]) -> Result<(Vec<u8>, i32), KeyError> {
    let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut digits = Vec::new();
    let mut point = None;
    for byte in mantissa {
        match byte {
            b'0'..=b'9' => digits.push(byte - b'0'),
            b'.' if point.is_none() => point = Some(digits.len()),
            b'_' | b'x' | b'X' | b'o' | b'O' | b'b' | b'B' => return Err(KeyError::Obscure),
            _ => return Err(KeyError::Invalid),
        }
    }
    if digits.is_empty() {
        return Err(KeyError::Invalid);
    }
    if digits.len() > LIMIT {
        return Err(KeyError::Obscure);
    }
    let point = point.unwrap_or(digits.len()) as i32 + exponent;
    Ok((digits, point))
}

fn exponent(text: &[u8]) -> Result<i32, KeyError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(KeyError::Obscure);
    }
    let value = digits
        .iter()
        .try_fold(0_usize, |value, byte| {
            let value = value * 10 + usize::from(byte - b'0');
            (value <= LIMIT).then_some(value)
        })
        .ok_or(KeyError::Obscure)?;
    Ok(if negative {
        -(value as i32)
    } else {
        value as i32
    })
}
