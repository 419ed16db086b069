//! Scripts as psql reads them: statements up to a semicolon, `\;` between statements of one
//! message, and the lines of a COPY up to `\.`.
//!
//! Of psql's own commands only `\set` means something here; the others are passed over.

use std::collections::BTreeMap;

mod words;

use words::Words;

/// What is sent in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The line it begins at.
    pub line: usize,
    /// Its text, without the last semicolon.
    pub text: String,
    /// It is several statements, by `\;`.
    pub several: bool,
}

impl Statement {
    /// Whether it seems to read lines that stand behind it.
    pub fn reads_on(&self) -> bool {
        let words: Vec<_> = self.text.split_whitespace().collect();
        words.windows(2).any(|pair| {
            pair[0].eq_ignore_ascii_case("from")
                && pair[1].to_ascii_lowercase().starts_with("stdin")
        })
    }

    /// Its text in one line, short.
    pub fn brief(&self) -> String {
        brief(&self.text)
    }
}

/// A text in one line, short.
pub fn brief(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(160).collect()
}

/// What remains of a script.
#[derive(Debug)]
pub struct Script<'a> {
    text: &'a str,
    at: usize,
    variables: BTreeMap<String, String>,
}

/// What one look at the text gives.
enum Piece {
    /// It belongs to the statement.
    Text(usize),
    /// It is left out.
    Skip(usize),
    /// The statement ends.
    End(usize),
    /// Another statement of the same message begins.
    And(usize),
    /// A command of psql.
    Command(usize),
    /// A variable of psql, and how long its mention is.
    Value(String, usize),
}

impl<'a> Script<'a> {
    /// The whole of a text, without variables.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            variables: BTreeMap::new(),
        }
    }

    /// Gives a variable to the script.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The lines up to `\.`, as COPY takes them.
    pub fn data(&mut self) -> String {
        // The rest of the statement's own line.
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
        let mut data = String::new();
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            let line = rest.split_inclusive('\n').next().unwrap_or_default();
            self.at += line.len();
            if line.trim_end() == "\\." {
                break;
            }
            data += line;
        }
        data
    }

    /// The next statement.
    pub fn statement(&mut self) -> Option<Statement> {
        let mut text = String::new();
        let mut line = 0;
        let mut several = false;
        let mut words = Words::default();
        while self.at < self.text.len() {
            let begun = !text.trim().is_empty();
            let from = self.at;
            match self.piece(begun, &mut words) {
                Piece::Text(end) => {
                    if !begun && !self.text[from..end].trim().is_empty() {
                        line = 1 + self.text[..from].matches('\n').count();
                        text.clear();
                    }
                    text += &self.text[from..end];
                    self.at = end;
                }
                Piece::Value(value, end) => {
                    text += &value;
                    self.at = end;
                }
                Piece::Skip(end) => self.at = end,
                Piece::And(end) => {
                    text.push(';');
                    several = true;
                    self.at = end;
                    words = Words::default();
                }
                Piece::Command(end) => {
                    self.command(from, end);
                    self.at = end;
                    if begun {
                        break;
                    }
                }
                Piece::End(end) => {
                    self.at = end;
                    if begun {
                        break;
                    }
                    words = Words::default();
                }
            }
        }
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(Statement {
            line,
            text,
            several,
        })
    }

    /// What stands at this place.
    fn piece(&self, begun: bool, words: &mut Words) -> Piece {
        let rest = &self.text[self.at..];
        let bytes = rest.as_bytes();
        let at = self.at;
        let line = || at + rest.find('\n').unwrap_or(rest.len());
        match bytes[0] {
            b'-' if bytes.starts_with(b"--") && !begun => Piece::Skip(line()),
            b'-' if bytes.starts_with(b"--") => Piece::Text(line()),
            b'/' if bytes.starts_with(b"/*") => {
                let end = at + comment(rest);
                if begun {
                    Piece::Text(end)
                } else {
                    Piece::Skip(end)
                }
            }
            b'\'' => Piece::Text(at + quoted(rest, b'\'', words.escapes())),
            b'"' => Piece::Text(at + quoted(rest, b'"', false)),
            b'$' if !words.in_word() => Piece::Text(at + dollars(rest)),
            b';' if words.is_whole() => Piece::End(at + 1),
            b'\\' if bytes.starts_with(b"\\;") => Piece::And(at + 2),
            b'\\' => Piece::Command(line()),
            b':' if !words.in_word() => self.value(rest).map_or_else(
                || Piece::Text(at + if bytes.starts_with(b"::") { 2 } else { 1 }),
                |(value, length)| Piece::Value(value, at + length),
            ),
            _ => {
                let one = rest.chars().next().map_or(1, char::len_utf8);
                words.take(&rest[..one]);
                return Piece::Text(at + one);
            }
        }
        .noted(words)
    }

    /// The value of the variable that is named here, as `:name`, `:'name'` or `:"name"`.
    fn value(&self, rest: &str) -> Option<(String, usize)> {
        let quote = rest[1..].chars().next().filter(|c| matches!(c, '\'' | '"'));
        let from = 1 + usize::from(quote.is_some());
        let name: String = rest[from..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let value = self.variables.get(&name)?;
        let end = from + name.len();
        let Some(quote) = quote else {
            return Some((value.clone(), end));
        };
        rest[end..]
            .starts_with(quote)
            .then(|| (format!("{quote}{value}{quote}"), end + 1))
    }

    /// Does what a command of psql says, if it is `\set`.
    fn command(&mut self, from: usize, end: usize) {
        let mut words = self.text[from..end].split_whitespace();
        if words.next() != Some("\\set") {
            return;
        }
        let Some(name) = words.next() else { return };
        let value: String = words
            .map(|word| match word.strip_prefix(':') {
                Some(name) => self.variables.get(name).cloned().unwrap_or_default(),
                None => word.trim_matches('\'').to_owned(),
            })
            .collect();
        self.variables.insert(name.to_owned(), value);
    }
}

impl Piece {
    /// Takes note that no word goes on here.
    fn noted(self, words: &mut Words) -> Self {
        words.pause();
        self
    }
}

/// How long a comment is that may hold others.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// How long a quoted text is.
fn quoted(text: &str, quote: u8, escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// How long a text in dollars is; 1 if it is none.
fn dollars(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else {
        return 1;
    };
    let tag = &text[..end + 2];
    let inner = &tag[1..tag.len() - 1];
    let named = inner.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !inner.starts_with(|c: char| c.is_ascii_digit());
    if !named {
        return 1;
    }
    let behind = &text[tag.len()..];
    behind
        .find(tag)
        .map_or(text.len(), |place| tag.len() + place + tag.len())
}

#[cfg(test)]
mod tests {
    use super::Script;

    fn all(text: &str) -> Vec<String> {
        let mut script = Script::new(text);
        std::iter::from_fn(|| script.statement().map(|statement| statement.text)).collect()
    }

    #[test]
    fn semicolons_in_quotes_bodies_and_comments_end_nothing() {
        let text = "-- one;\nselect ';', \";\", $$;$$, $a$;$$;$a$ /* ; /* ; */ ; */, E'\\';';\n\
                    create rule r as on insert to t do (select 1; select 2);\n\
                    create function f() returns int begin atomic select case 1 when 1 then 2 end; \
                    select 2; end;\nbegin; end;";
        let found = all(text);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].starts_with("select ';'"));
        assert_eq!(found[3..], ["begin", "end"]);
    }

    #[test]
    fn statements_of_one_message_stay_together() {
        let mut script = Script::new("select 1\\; select 2;\nselect 3;");
        let first = script.statement().unwrap();
        assert!(first.several);
        assert_eq!(first.text, "select 1; select 2");
        let second = script.statement().unwrap();
        assert_eq!((second.line, second.several), (2, false));
    }

    #[test]
    fn the_lines_of_a_copy_are_no_statements() {
        let mut script = Script::new("copy t from stdin;\n1\n;\n\\.\nselect 1;");
        assert!(script.statement().unwrap().reads_on());
        assert_eq!(script.data(), "1\n;\n");
        assert_eq!(script.statement().unwrap().text, "select 1");
    }

    #[test]
    fn variables_are_filled_in() {
        let mut script = Script::new(
            "\\set file :dir '/a.data'\ncopy t from :'file';\nselect a[1:2], 'x'::text, :n;",
        );
        script.set("dir", "/tmp");
        assert_eq!(
            script.statement().unwrap().text,
            "copy t from '/tmp/a.data'"
        );
        assert_eq!(
            script.statement().unwrap().text,
            "select a[1:2], 'x'::text, :n"
        );
    }
}
