//! Where a client wishes to read: by a parameter of its session, or by a comment in front of a statement.

use pgherd_session::Parameters;

/// The parameter: `SET pgherd.role = 'replica'`, or in the `options` of a start-up packet.
const NAME: &str = "pgherd.role";

/// A wish about the server that a statement or a block is run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The one that may be written to.
    Primary,
    /// One that is only read from, also where the statement does not show that it only reads.
    Replica,
    /// Whichever the configuration says.
    Auto,
}

impl Wish {
    fn of(word: &str) -> Self {
        match word {
            "replica" => Self::Replica,
            "auto" | "" => Self::Auto,
            // The primary is right for whatever this may mean.
            _ => Self::Primary,
        }
    }

    /// What the session wishes.
    pub(super) fn of_session(parameters: &Parameters) -> Self {
        parameters.get(NAME).map_or(Self::Auto, Self::of)
    }

    /// What a comment in front of the text says, as in `/* pgherd.role = replica */ SELECT …`.
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        let comment = text.trim_ascii_start().strip_prefix(b"/*")?;
        let end = comment.windows(2).position(|pair| pair == b"*/")?;
        let comment = std::str::from_utf8(&comment[..end]).ok()?;
        let (name, value) = comment.split_once('=')?;
        let value = value.trim().trim_matches('\'');
        (name.trim() == NAME).then(|| Self::of(value))
    }
}

#[cfg(test)]
mod tests {
    use super::Wish;

    #[test]
    fn a_comment_in_front_tells() {
        for (text, expected) in [
            ("/* pgherd.role = replica */ select 1", Some(Wish::Replica)),
            ("\n /*pgherd.role='primary'*/ select 1", Some(Wish::Primary)),
            ("/* pgherd.role = auto */", Some(Wish::Auto)),
            ("/* pgherd.role = master */", Some(Wish::Primary)),
            ("/* role = replica */ select 1", None),
            ("select 1 /* pgherd.role = replica */", None),
            ("/* pgherd.role = replica", None),
            ("/*/", None),
        ] {
            assert_eq!(Wish::of_text(text.as_bytes()), expected, "{text}");
        }
    }
}
