use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes events of one line each; whatever could end the line or steer a terminal is escaped, but for the last
/// line feed. In JSON such characters are escaped already, save those above ASCII, which are escaped alike.
pub(super) struct Escaped<W>(pub(super) W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (body, end) = match event {
            [body @ .., b'\n'] => (body, &b"\n"[..]),
            _ => (event, &b""[..]),
        };
        match escape(body) {
            None => self.0.write_all(event)?,
            Some(mut text) => {
                text.push_str(if end.is_empty() { "" } else { "\n" });
                self.0.write_all(text.as_bytes())?;
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// None if there is nothing to escape. `\uXXXX` is read back by JSON parsers and understood by people.
pub(super) fn escape(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if !text.chars().any(steers) {
        return None;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            // Writing to a String cannot fail; all of these are below 0x10000.
            let _infallible = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Some(safe)
}

/// Control characters, Unicode's line ends, and the marks that turn the direction of text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
