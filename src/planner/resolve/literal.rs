//! Literals, as far as they may be keys.

use pg_query::protobuf::{AConst, a_const::Val};

use crate::placement::{KeyType, KeyValue};
use crate::tree::{Constant, Kind};

/// What a literal is. A number without a point is an integer if it has at most 64 bits.
pub(crate) fn constant(literal: &AConst) -> Constant {
    if literal.isnull {
        return Constant::Null;
    }
    match &literal.val {
        Some(Val::Ival(number)) => Constant::Typed(KeyValue::Int(number.ival.into())),
        Some(Val::Fval(number)) => number_of(&number.fval),
        Some(Val::Sval(text)) => Constant::Unknown(text.sval.clone()),
        _ => Constant::Other,
    }
}

fn number_of(text: &str) -> Constant {
    let whole = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    let kind = if whole {
        KeyType::Int8
    } else {
        KeyType::Numeric
    };
    let value = KeyValue::from_text(kind, text.as_bytes())
        .or_else(|_| KeyValue::from_text(KeyType::Numeric, text.as_bytes()));
    value.map_or(Constant::Other, Constant::Typed)
}

/// What a cast makes of a literal; the text of a literal without a type is read as the type.
pub(crate) fn cast(constant: &Constant, kind: KeyType) -> Constant {
    match constant {
        Constant::Null => Constant::Null,
        Constant::Unknown(text) => {
            KeyValue::from_text(kind, text.as_bytes()).map_or(Constant::Other, Constant::Typed)
        }
        // Only what a cast leaves as it is: it may round, or refuse.
        Constant::Typed(value) | Constant::Cast(value, _) if value.fits(kind) => {
            Constant::Typed(value.clone())
        }
        Constant::Typed(KeyValue::Int(value)) | Constant::Cast(KeyValue::Int(value), _)
            if kind == KeyType::Numeric =>
        {
            let value = KeyValue::Int(*value).as_type(kind);
            value
                .ok()
                .flatten()
                .map_or(Constant::Other, Constant::Typed)
        }
        _ => Constant::Other,
    }
}

/// The value that a literal has where it is compared with a column, or stored in it; `Ok(None)` for NULL and
/// where nothing of the column's type is equal to it.
pub(crate) fn value(constant: &Constant, kind: KeyType) -> Option<Option<KeyValue>> {
    match constant {
        Constant::Null => Some(None),
        Constant::Unknown(text) => KeyValue::from_text(kind, text.as_bytes()).ok().map(Some),
        Constant::Typed(value) | Constant::Cast(value, _) => value.as_type(kind).ok(),
        Constant::Other => None,
    }
}

/// The same constant with a type that it does not show by itself.
pub(crate) fn of_type(constant: Constant, oid: u32) -> Constant {
    let shown = kind(&constant).oid;
    match constant {
        Constant::Typed(value) if shown != 0 && shown != oid => Constant::Cast(value, oid),
        constant => constant,
    }
}

pub(crate) fn kind(constant: &Constant) -> Kind {
    match constant {
        Constant::Cast(_, oid) => Kind::plain(*oid),
        Constant::Typed(KeyValue::Int(value)) if i32::try_from(*value).is_ok() => Kind::plain(23),
        Constant::Typed(KeyValue::Int(_)) => Kind::plain(20),
        Constant::Typed(KeyValue::Numeric(_)) => Kind::plain(1700),
        _ => Kind::UNKNOWN,
    }
}
