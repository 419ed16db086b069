//! What a setting is given, as `set_config` takes it (`guc_funcs.c`, flatten_set_variable_args).

use super::{Value, name};
use crate::lexer::{Token, TokenKind};

/// Settings whose values are lists of names: each is quoted where it must be. No extension can add
/// to them (GUC_LIST_QUOTE).
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `{TO|=} value[, value]…` or `DEFAULT`.
pub(super) fn assigned(name: &str, tokens: &[Token<'_>]) -> Option<Value> {
    let (sign, values) = tokens.split_first()?;
    // The lexer takes `=-` for one operator.
    let negative = match sign.kind {
        TokenKind::Operator if sign.text == b"=" => None,
        TokenKind::Operator if sign.text == b"=-" => Some('-'),
        TokenKind::Operator if sign.text == b"=+" => Some('+'),
        TokenKind::Word if sign.is_word(b"to") => None,
        _ => return None,
    };
    if let ([one], None) = (values, negative)
        && one.is_word(b"default")
    {
        return Some(Value::Default);
    }
    let mut text = String::new();
    for (at, item) in values.split(|token| token.is(b',')).enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        let sign = negative.filter(|_| at == 0);
        let item = item_text(sign, item)?;
        if LISTS.contains(&name) && !item.is_number {
            push_identifier(&mut text, &item.text)?;
        } else {
            text.push_str(&item.text);
        }
    }
    Some(Value::Text(text.into()))
}

struct Item {
    text: String,
    is_number: bool,
}

fn item_text(sign: Option<char>, tokens: &[Token<'_>]) -> Option<Item> {
    let (sign, token) = match (sign, tokens) {
        (_, [token]) => (sign, token),
        (None, [sign, token]) if sign.kind == TokenKind::Operator => match sign.text {
            b"-" => (Some('-'), token),
            b"+" => (Some('+'), token),
            _ => return None,
        },
        _ => return None,
    };
    if token.kind == TokenKind::Number {
        let number = number(token)?;
        // A whole number is read as one, and there is no zero below zero among them.
        let text = match sign {
            Some('-') if number != "0" => format!("-{number}"),
            _ => number.to_owned(),
        };
        let is_number = true;
        return Some(Item { text, is_number });
    }
    let text = match token.kind {
        _ if sign.is_some() => return None,
        TokenKind::Word | TokenKind::QuotedWord => name::identifier(token)?,
        _ => string(token)?,
    };
    let is_number = false;
    Some(Item { text, is_number })
}

/// A number that PostgreSQL writes as it was written: other forms mean something else in each release.
fn number<'a>(token: &Token<'a>) -> Option<&'a str> {
    let text = std::str::from_utf8(token.text).ok()?;
    let whole = text.split('.').next().unwrap_or_default();
    let leading = whole.len() > 1 && whole.starts_with('0');
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && !leading && !whole.is_empty() && text.len() <= 32 && !text.ends_with('.'))
        .then_some(text)
}

/// A constant of text in one piece.
pub(super) fn string(token: &Token<'_>) -> Option<String> {
    if token.kind != TokenKind::String {
        return None;
    }
    let inner = token.text.get(1..token.text.len().saturating_sub(1))?;
    // A single quote in it closes a piece that goes on in the next line.
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\'' && bytes.next() != Some(&b'\'') {
            return None;
        }
    }
    String::from_utf8(name::unquoted(token.text, b'\'')).ok()
}

/// One word.
pub(super) fn word(token: &Token<'_>) -> Option<Value> {
    name::identifier(token).map(|word| Value::Text(word.into()))
}

fn word_or_string(token: &Token<'_>) -> Option<String> {
    string(token).or_else(|| name::identifier(token))
}

/// Behind `SET ROLE`.
pub(super) fn role(tokens: &[Token<'_>]) -> Option<Value> {
    match tokens {
        [one] => Some(Value::Text(word_or_string(one)?.into())),
        _ => None,
    }
}

/// Behind `SET SESSION AUTHORIZATION`.
pub(super) fn authorization(tokens: &[Token<'_>]) -> Option<Value> {
    match tokens {
        [one] if one.is_word(b"default") => Some(Value::Default),
        _ => role(tokens),
    }
}

/// Behind `SET TIME ZONE`. Every server reports what comes of it, so intervals need not be told.
pub(super) fn zone(tokens: &[Token<'_>]) -> Option<Value> {
    match tokens {
        [one] if one.is_word(b"default") || one.is_word(b"local") => Some(Value::Default),
        [one] => Some(Value::Text(word_or_string(one)?.into())),
        _ => None,
    }
}

/// Behind `SET NAMES`.
pub(super) fn encoding(tokens: &[Token<'_>]) -> Option<Value> {
    match tokens {
        [] => Some(Value::Default),
        [one] if one.is_word(b"default") => Some(Value::Default),
        [one] => Some(Value::Text(string(one)?.into())),
        _ => None,
    }
}

/// Behind `SET SCHEMA`.
pub(super) fn schema(tokens: &[Token<'_>]) -> Option<Value> {
    let [one] = tokens else {
        return None;
    };
    let mut text = String::new();
    push_identifier(&mut text, &string(one)?)?;
    Some(Value::Text(text.into()))
}

/// As `quote_identifier` writes a name; `None` where releases differ.
fn push_identifier(text: &mut String, name: &str) -> Option<()> {
    let head = name.bytes().next();
    let bare = head.is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if bare && RECENT.binary_search(&name).is_ok() {
        return None;
    }
    if bare && KEYWORDS.binary_search(&name).is_err() {
        text.push_str(name);
        return Some(());
    }
    text.push('"');
    for character in name.chars() {
        if character == '"' {
            text.push('"');
        }
        text.push(character);
    }
    text.push('"');
    Some(())
}

/// Keywords that only some of the releases 14 to 18 have, or take for another kind.
const RECENT: [&str; 13] = [
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "merge_action",
    "system_user",
];

/// Keywords that are not free as names (`kwlist.h`: all but UNRESERVED_KEYWORD).
const KEYWORDS: [&str; 151] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];
