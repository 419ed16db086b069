//! The words of a line, as Postgres parts them.
//!
//! Source: PostgreSQL documentation, "The pg_hba.conf File", and `next_token` of hba.c.

use std::fmt;

/// A word; in quotes it is never a keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// It begins with a quote.
    pub(crate) quoted: bool,
}

impl Token {
    /// Takes a word of a TOML list, in which quotes within the text quote as they do in a file.
    pub(crate) fn of(text: &str) -> Self {
        let inner = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        Self {
            text: inner.map_or_else(|| text.to_owned(), |inner| inner.replace("\"\"", "\"")),
            quoted: inner.is_some(),
        }
    }

    /// Tells whether this is a keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// Gives the name of the file whose words stand for this one, `@file`.
    pub(crate) fn file(&self) -> Option<&str> {
        let name = self.text.strip_prefix('@').filter(|name| !name.is_empty());
        name.filter(|_| !self.quoted)
    }
}

/// Writes a name so that it is read as the name again, and as no keyword.
pub(super) fn write_name(f: &mut fmt::Formatter<'_>, name: &str, keywords: &[&str]) -> fmt::Result {
    let special = |c: char| c.is_ascii_whitespace() || "\",#@+/\\".contains(c);
    if name.is_empty() || name.contains(special) || keywords.contains(&name) {
        write!(f, "\"{}\"", name.replace('"', "\"\""))
    } else {
        f.write_str(name)
    }
}

/// A quote that does not end on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclosed;

/// Parts a line into fields, and each field into its words, which commas join.
pub(crate) fn fields(line: &str) -> Result<Vec<Vec<Token>>, Unclosed> {
    let mut rest = line;
    let mut fields = Vec::new();
    loop {
        let mut field = Vec::new();
        while let Some((token, goes_on)) = next(&mut rest)? {
            field.push(token);
            if !goes_on {
                break;
            }
        }
        if field.is_empty() {
            return Ok(fields);
        }
        fields.push(field);
    }
}

/// Takes the next word, and tells whether a comma follows it.
fn next(rest: &mut &str) -> Result<Option<(Token, bool)>, Unclosed> {
    let mut chars = rest
        .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',')
        .chars()
        .peekable();
    let mut token = Token {
        text: String::new(),
        quoted: false,
    };
    let (mut is_there, mut inside, mut goes_on) = (false, false, false);
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                token.text.push('"');
            }
            '"' => {
                token.quoted |= token.text.is_empty();
                is_there = true;
                inside = !inside;
            }
            c if inside => token.text.push(c),
            c if c.is_ascii_whitespace() => break,
            ',' => {
                goes_on = true;
                break;
            }
            // A comment takes the rest of the line.
            '#' => {
                chars = "".chars().peekable();
                break;
            }
            c => token.text.push(c),
        }
    }
    if inside {
        return Err(Unclosed);
    }
    // What was not looked at is the tail of the line, of the same length in bytes.
    let left: usize = chars.map(char::len_utf8).sum();
    *rest = &rest[rest.len() - left..];
    is_there |= !token.text.is_empty();
    Ok(is_there.then_some((token, goes_on)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Token, Unclosed, fields};

    /// The fields, words joined by `|`, quoted ones in brackets.
    fn read(line: &str) -> Vec<String> {
        let show = |token: &Token| match token.quoted {
            true => format!("[{}]", token.text),
            false => token.text.clone(),
        };
        let fields = fields(line).unwrap();
        let show = |field: &Vec<Token>| field.iter().map(show).collect::<Vec<_>>().join("|");
        fields.iter().map(show).collect()
    }

    #[test]
    fn words_are_parted_as_in_postgres() {
        for (line, expected) in [
            ("", &[][..]),
            (" # all of it", &[]),
            ("local\tall  all trust", &["local", "all", "all", "trust"]),
            ("a,b c", &["a|b", "c"]),
            // A comma joins over white space.
            ("a, b ,c d", &["a|b", "c", "d"]),
            ("a,", &["a"]),
            ("\"a b\",\"all\" c", &["[a b]|[all]", "c"]),
            ("\"a\"\"b\" x\"y\"z", &["[a\"b]", "xyz"]),
            ("\"\" a", &["[]", "a"]),
            ("a#b c", &["a"]),
            ("\"a#b\" c", &["[a#b]", "c"]),
            ("map=x \"/^(.*),$\"", &["map=x", "[/^(.*),$]"]),
            ("ä,ö ü # ß", &["ä|ö", "ü"]),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
        assert_eq!(fields("a \"b c"), Err(Unclosed));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn all_lines_end(line in "[a\" ,#\\\\ä@]{0,40}") {
            if let Ok(fields) = fields(&line) {
                prop_assert!(fields.iter().all(|field| !field.is_empty()));
            }
        }
    }
}
