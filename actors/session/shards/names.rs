//! What a session's settings add to the meaning of a text.

use pgherd_planner::Names;
use pgherd_sql::{
    Encoding, LexOptions, Lexer, Pin, PinSet, Reading, Span, Step, Token, TokenKind, script,
};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::session::relay::Relay;
use crate::session::shards::{hint, unsupported};
use crate::shards::Known;

/// Postgres keeps so much of a name (NAMEDATALEN less one).
const NAME_MAX: usize = 63;

/// The first version of Postgres that reads `0x1F` and `1_000` as numbers, as the planner's grammar does.
const NUMBERS: u32 = 16;

/// The settings that say what a text means.
const MEANING: [&str; 5] = [
    "search_path",
    "role",
    "session_authorization",
    "array_nulls",
    "transform_null_equals",
];
/// With one of these, the settings that are known here may not be the server's.
const UNFOLLOWED: PinSet = PinSet::of(&[
    Pin::Set,
    Pin::SetConfig,
    Pin::Role,
    Pin::Function,
    Pin::Unknown,
]);

/// Refuses what changes the meaning of the texts behind it until the end of the transaction only, which nobody
/// here follows. `text` is one that is followed.
pub(super) fn of_transaction(relay: &Relay, text: &[u8]) -> Result<(), ErrorReport> {
    let Reading::Script(parts) = script(text, relay.lexing) else {
        return Ok(());
    };
    let changes = parts.iter().filter_map(|part| match &part.step {
        Step::Change(changes) => Some(changes),
        _ => None,
    });
    // Which setting it is cannot always be told.
    let means = |name: &str| name.is_empty() || MEANING.contains(&name);
    match changes
        .flatten()
        .find(|change| change.span != Span::Session && means(&change.name))
    {
        Some(change) if change.name.is_empty() => Err(unsupported(
            "what this sets for the transaction cannot be told on a sharded database",
        )),
        Some(change) => {
            let name = &change.name;
            let text = format!("{name} cannot be set for a transaction only on a sharded database");
            Err(unsupported(text).hint("Set it for the session."))
        }
        None => Ok(()),
    }
}

/// The schemas that the names of a session's texts are looked for in, and where it wants them to run.
pub(super) fn of(relay: &Relay, known: &Known) -> Result<Names, ErrorReport> {
    let parameters = &relay.parameters;
    if relay.pins != relay.pins.without(UNFOLLOWED) {
        let text = "what this session has set is not known for certain";
        return Err(unsupported(text).hint("DISCARD ALL, or log in anew."));
    }
    if parameters.get("role").is_some() || parameters.get("session_authorization").is_some() {
        let text = "SET ROLE and SET SESSION AUTHORIZATION are not supported on a sharded database";
        return Err(unsupported(text).hint("RESET ROLE, or log in as that role."));
    }
    for (name, usual) in [("array_nulls", "on"), ("transform_null_equals", "off")] {
        if parameters.get(name).is_some() {
            let text = format!("{name} cannot be set on a sharded database");
            return Err(unsupported(text));
        }
        // It may be set for the database or the role.
        if known.setting(name) != Some(usual) {
            let text = format!("{name} must be {usual} on the servers of a sharded database");
            return Err(unsupported(text).hint("ALTER DATABASE or ALTER ROLE … RESET it."));
        }
    }
    // What is set wrongly is told before anything runs.
    hint::verifies(relay)?;
    let path = parameters
        .get("search_path")
        .unwrap_or_else(|| known.search_path());
    let path = schemas(path).ok_or_else(|| unsupported("the search_path cannot be read"))?;
    let named = path.into_iter().map(|schema| match schema.as_str() {
        "$user" => known.user().to_owned(),
        _ => schema,
    });
    Ok(Names {
        search_path: named.filter(|schema| known.is_usable(schema)).collect(),
        hint: hint::of_session(relay)?,
        ..Names::default()
    })
}

/// What the servers' scanner takes for white space; other blanks of Unicode are part of a name.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// Reads a list of names as Postgres does (SplitIdentifierString).
fn schemas(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    // Whether a vertical tab is a blank depends on the version.
    if text.contains('\u{b}') {
        return None;
    }
    let mut rest = text.trim_start_matches(is_space);
    if rest.is_empty() {
        return Some(found);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            (name, rest) = unquoted(quoted)?;
        } else {
            let end = rest.find(|char: char| char == ',' || is_space(char));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            // How others are folded is the server's affair.
            if word.is_empty() || !word.is_ascii() {
                return None;
            }
            name = word.to_ascii_lowercase();
            rest = behind;
        }
        if name.len() > NAME_MAX {
            return None;
        }
        found.push(name);
        rest = rest.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind.trim_start_matches(is_space),
            None => return rest.is_empty().then_some(found),
        }
    }
}

/// A name up to its closing quote, and what is behind it.
fn unquoted(mut rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

/// What a setting is in a session: its own, or what the servers give one that has set none.
pub(super) fn setting<'a>(relay: &'a Relay, known: &'a Known, name: &str) -> Option<&'a str> {
    let own = relay.parameters.get(name);
    own.or_else(|| known.setting(name))
}

/// Whether the session's texts are in another encoding than the shards store.
pub(super) fn is_foreign(relay: &Relay, known: &Known) -> bool {
    encoding(relay, known) != plain(known.server_encoding())
}

/// The encoding of the session's texts, as [`plain`] has it.
pub(super) fn encoding(relay: &Relay, known: &Known) -> String {
    let own = relay.parameters.get("client_encoding");
    plain(own.unwrap_or_else(|| known.client_encoding()))
}

/// The name of an encoding, so that different spellings are equal.
pub(super) fn plain(name: &str) -> String {
    let kept = name.chars().filter(char::is_ascii_alphanumeric);
    match kept.collect::<String>().to_ascii_uppercase() {
        name if name == "UNICODE" => "UTF8".into(),
        name => name,
    }
}

/// A text as the planner reads it: in UTF-8, with strings as the standard has them.
pub(super) fn readable<'t>(
    relay: &Relay,
    known: &Known,
    text: &'t [u8],
) -> Result<&'t str, ErrorReport> {
    let utf8 = known.server_encoding() == "UTF8" && !is_foreign(relay, known);
    if !text.is_ascii() && !utf8 {
        let text = "texts beyond ASCII must be in UTF8 on a sharded database";
        return Err(unsupported(text).hint("SET client_encoding = UTF8."));
    }
    if !relay.lexing.standard_conforming_strings && text.contains(&b'\\') {
        let text = "standard_conforming_strings must be on for strings with a backslash in them";
        return Err(unsupported(text));
    }
    // Characters that are escaped are in the server's encoding, of which the planner knows one only, and what it
    // writes anew has them as they are.
    let may = text.iter().any(|byte| matches!(byte, b'\\' | b'&'));
    if !utf8 && may && has_token(text, relay.lexing, is_beyond_ascii) {
        let text = "escaped characters must be of a session in UTF8 on a sharded database";
        let hint =
            "Give them as a parameter, or, before servers in UTF8, SET client_encoding = UTF8.";
        return Err(unsupported(text).hint(hint));
    }
    is_read_alike(relay, known, text)?;
    std::str::from_utf8(text).map_err(|_| unsupported("the text is not in UTF8"))
}

/// Refuses what the servers read otherwise than the planner, or not at all: what is sent to them may be in its words.
fn is_read_alike(relay: &Relay, known: &Known, text: &[u8]) -> Result<(), ErrorReport> {
    let may = |is_pair: fn(&[u8]) -> bool| text.windows(2).any(is_pair);
    if may(|pair| pair == b"\\'") && has_token(text, relay.lexing, has_escaped_quote) {
        let setting = setting(relay, known, "backslash_quote");
        let allowed = matches!(setting, Some("on" | "safe_encoding"));
        if !allowed || relay.lexing.encoding != Encoding::AsciiSafe {
            let text = "an escaped quote must be allowed by backslash_quote on a sharded database";
            return Err(unsupported(text).hint("Write the quote twice."));
        }
    }
    let joined =
        may(|pair| pair[0].is_ascii_digit() && (pair[1].is_ascii_alphabetic() || pair[1] == b'_'));
    if known.version() < NUMBERS && joined && has_newer_number(text, relay.lexing) {
        let text = "numbers with letters or underscores in them are of servers from Postgres 16 on";
        return Err(ErrorReport::error(sqlstate::SYNTAX_ERROR, text));
    }
    Ok(())
}

/// Whether a number has what older servers take for the end of it, and for a name behind it.
fn has_newer_number(text: &[u8], lexing: LexOptions) -> bool {
    let mut end = None;
    has_token(text, lexing, |token| {
        let follows = token.kind == TokenKind::Word && end == Some(token.start);
        let number = token.kind == TokenKind::Number;
        end = number.then_some(token.start + token.text.len());
        follows
    })
}

fn has_escaped_quote(token: &Token<'_>) -> bool {
    token.kind == TokenKind::EscapeString && escaped(token.text).any(|byte| byte == b'\'')
}

/// What stands behind the backslashes of a string with escapes.
fn escaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = text.iter();
    std::iter::from_fn(move || {
        bytes.find(|byte| **byte == b'\\')?;
        bytes.next().copied()
    })
}

fn has_token(text: &[u8], lexing: LexOptions, mut is_one: impl FnMut(&Token<'_>) -> bool) -> bool {
    let mut lexer = Lexer::new(text, lexing);
    // What cannot be read to its end, the server does not read either.
    while let Ok(Some(token)) = lexer.token() {
        if is_one(&token) {
            return true;
        }
    }
    false
}

/// Whether escapes in a string or a name may make characters beyond ASCII.
fn is_beyond_ascii(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::UnicodeString | TokenKind::UnicodeWord => true,
        TokenKind::EscapeString => {
            escaped(token.text).any(|byte| matches!(byte, b'x' | b'u' | b'U' | b'0'..=b'7'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{LexOptions, Lexer};

    use super::{has_escaped_quote, has_newer_number, has_token, is_beyond_ascii, schemas};

    #[test]
    fn escapes_that_may_leave_ascii_are_found() {
        for (text, beyond) in [
            (r"U&'\00e4'", true),
            (r#"u&"a""#, true),
            (r"U&'!00e4'", true),
            (r"E'\xe4'", true),
            (r"e'\\\344'", true),
            (r"E'\u00e4'", true),
            (r"E'\\xe4\n\''", false),
            (r"'\xe4'", false),
            (r#""\xe4""#, false),
            (r"$$\xe4$$", false),
        ] {
            let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
            let token = lexer.token().unwrap().unwrap();
            assert_eq!(is_beyond_ascii(&token), beyond, "{text}");
        }
    }

    #[test]
    fn numbers_that_older_servers_take_apart_are_found() {
        for (text, newer) in [
            ("select 0x1F", true),
            ("select 1_000", true),
            ("select 1.5_0", true),
            ("select .5_0, 0b1", true),
            ("select 1e5, 1.5, t1.a_0, $1 x, 1 _0", false),
            ("select '0x1F', \"1_0\" -- 0x1F", false),
        ] {
            let found = has_newer_number(text.as_bytes(), LexOptions::default());
            assert_eq!(found, newer, "{text}");
        }
    }

    #[test]
    fn escaped_quotes_are_found() {
        for (text, escaped) in [
            (r"select E'a\'b'", true),
            (r"select E'a\\', ''''", false),
            (r"select 'a\', E''''", false),
        ] {
            let options = LexOptions::default();
            let found = has_token(text.as_bytes(), options, has_escaped_quote);
            assert_eq!(found, escaped, "{text}");
        }
    }

    #[test]
    fn a_search_path_is_read_as_by_postgres() {
        let read = |text: &str| schemas(text).map(|found| found.join("|"));
        assert_eq!(read("\"$user\", public").as_deref(), Some("$user|public"));
        assert_eq!(read("A , \"B\"\"c\",d").as_deref(), Some("a|B\"c|d"));
        assert_eq!(read("").as_deref(), Some(""));
        assert_eq!(read("a,"), None);
        assert_eq!(read("a b"), None);
        assert_eq!(read("\"a"), None);
        assert_eq!(read("\u{c4}"), None);
        assert_eq!(read("a\u{3000}"), None);
        assert_eq!(read("a,\u{a0}b"), None);
        assert_eq!(read("a,\u{b}b"), None);
    }
}
