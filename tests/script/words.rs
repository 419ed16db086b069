//! The words of a statement, as far as they say where it ends.

/// What has been seen of a statement so far.
#[derive(Debug, Default)]
pub(super) struct Words {
    word: String,
    /// The first words.
    first: Vec<String>,
    parentheses: usize,
    /// Bodies in SQL's own notation, `BEGIN ATOMIC … END`, and the `CASE`s in them.
    bodies: usize,
}

impl Words {
    /// Takes a character that is outside of quotes and comments.
    pub(super) fn take(&mut self, character: &str) {
        match character {
            "(" => self.parentheses += 1,
            ")" => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
        let within = character.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if within {
            self.word += character;
        } else {
            self.pause();
        }
    }

    /// No word goes on here.
    pub(super) fn pause(&mut self) {
        let word = std::mem::take(&mut self.word).to_ascii_lowercase();
        match word.as_str() {
            "" => return,
            "begin" if self.defines() => self.bodies += 1,
            "case" if self.bodies > 0 => self.bodies += 1,
            "end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
        if self.first.len() < 4 {
            self.first.push(word);
        }
    }

    /// Whether a word goes on here.
    pub(super) fn in_word(&self) -> bool {
        !self.word.is_empty()
    }

    /// Whether a quote that begins here knows backslashes.
    pub(super) fn escapes(&self) -> bool {
        self.word.eq_ignore_ascii_case("e")
    }

    /// Whether a semicolon ends the statement here.
    pub(super) fn is_whole(&mut self) -> bool {
        self.pause();
        self.parentheses == 0 && self.bodies == 0
    }

    /// Whether a function or procedure is being made.
    fn defines(&self) -> bool {
        let words: Vec<_> = self.first.iter().map(String::as_str).collect();
        matches!(
            words.as_slice(),
            ["create", "function" | "procedure", ..]
                | ["create", "or", "replace", "function" | "procedure", ..]
        )
    }
}
