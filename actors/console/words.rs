//! From a text to the words of its statements.

use std::borrow::Cow;

/// One word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<'a> {
    /// A bare word or number, as it was written.
    Plain(&'a str),
    /// What stood between quotes, single or double.
    Quoted(Cow<'a, str>),
    /// Any other sign.
    Sign(char),
}

/// A quote or a comment that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unterminated {0}")]
pub struct Unterminated(&'static str);

impl<'a> Word<'a> {
    /// The word as a key word: in small letters; empty for what was quoted or is a sign.
    pub fn key(&self) -> String {
        match self {
            Self::Plain(word) => word.to_ascii_lowercase(),
            Self::Quoted(_) | Self::Sign(_) => String::new(),
        }
    }

    /// The word as a name or a value; `None` for signs.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Plain(word) => Some(word),
            Self::Quoted(word) => Some(word),
            Self::Sign(_) => None,
        }
    }
}

/// The words of each statement of a text; statements are parted by `;`, and one without words may be
/// among them. What follows the last `;` counts only if it has words.
///
/// # Errors
/// A quote or comment without end.
pub fn statements(text: &str) -> Result<Vec<Vec<Word<'_>>>, Unterminated> {
    let mut statements = Vec::new();
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = if first.is_whitespace() {
            &rest[first.len_utf8()..]
        } else if first == ';' {
            statements.push(std::mem::take(&mut words));
            &rest[1..]
        } else if rest.starts_with("--") {
            rest.find('\n').map_or("", |end| &rest[end..])
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/").ok_or(Unterminated("comment"))?;
            &comment[end + 2..]
        } else if first == '"' || first == '\'' {
            let (word, after) = quoted(&rest[1..], first)?;
            words.push(Word::Quoted(word));
            after
        } else if is_plain(first) {
            let end = plain_end(rest);
            words.push(Word::Plain(&rest[..end]));
            &rest[end..]
        } else {
            words.push(Word::Sign(first));
            &rest[first.len_utf8()..]
        };
    }
    if !words.is_empty() {
        statements.push(words);
    }
    Ok(statements)
}

/// What stands before the closing quote, in which a doubled quote is one; and what follows it.
fn quoted(text: &str, quote: char) -> Result<(Cow<'_, str>, &str), Unterminated> {
    let mut from = 0;
    while let Some(found) = text[from..].find(quote) {
        let end = from + found;
        if !text[end + 1..].starts_with(quote) {
            let word = &text[..end];
            let word = if from == 0 {
                Cow::Borrowed(word)
            } else {
                Cow::Owned(word.replace(&format!("{quote}{quote}"), &quote.to_string()))
            };
            return Ok((word, &text[end + 1..]));
        }
        from = end + 2;
    }
    Err(Unterminated("quoted text"))
}

/// Names of databases have dashes and dots often enough that they count as letters here.
fn is_plain(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, '_' | '-' | '.' | '$' | '*')
}

fn plain_end(text: &str) -> usize {
    let end = text.find(|sign| !is_plain(sign)).unwrap_or(text.len());
    text[..end].find("--").unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::{Unterminated, Word, statements};

    fn plain<'a>(words: &[&'a str]) -> Vec<Word<'a>> {
        words.iter().map(|word| Word::Plain(word)).collect()
    }

    #[test]
    fn statements_are_parted() {
        let found = statements(" show pools ;; SHOW\tLISTS;\n").expect("whole");
        assert_eq!(
            found,
            [plain(&["show", "pools"]), vec![], plain(&["SHOW", "LISTS"])]
        );
        assert_eq!(
            statements("  -- nothing").expect("whole"),
            Vec::<Vec<Word<'_>>>::new()
        );
    }

    #[test]
    fn quotes_and_comments_hide_what_they_hold() {
        let found = statements("pause \"a;\"\"b\" /* ; */ 'it''s' my-db--;\n = x").expect("whole");
        let wanted = [vec![
            Word::Plain("pause"),
            Word::Quoted("a;\"b".into()),
            Word::Quoted("it's".into()),
            Word::Plain("my-db"),
            Word::Sign('='),
            Word::Plain("x"),
        ]];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_does_not_end_is_refused() {
        assert_eq!(statements("pause 'a''"), Err(Unterminated("quoted text")));
        assert_eq!(statements("/* a"), Err(Unterminated("comment")));
        assert_eq!(statements("/*/"), Err(Unterminated("comment")));
    }

    #[test]
    fn letters_of_any_length_are_cut_between_them() {
        let found = statements("päuse ü;€").expect("whole");
        assert_eq!(found, [plain(&["päuse", "ü"]), vec![Word::Sign('€')]]);
    }
}
