use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Format, LogError, subscriber};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, filter: &str, events: impl FnOnce()) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, events);
    let bytes = sink.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

const EVIL: &str = "joe\n2026 ERROR forged\r\u{1b}[2J\u{2028}\u{202e}";

#[test]
fn a_value_cannot_forge_a_line_or_steer_a_terminal() {
    for format in [Format::Text, Format::Json] {
        let text = logged(format, "info", || {
            tracing::info!(user = EVIL, "login of {EVIL}");
            tracing::warn!(user = %EVIL, other = ?EVIL, "second");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("forged"));
        let body = text.replace('\n', "");
        assert!(
            !body.contains(['\r', '\u{1b}', '\u{2028}', '\u{202e}']),
            "{text:?}"
        );
    }
}

#[test]
fn json_gives_the_value_back() {
    let text = logged(Format::Json, "info", || {
        tracing::info!(user = EVIL, "login")
    });
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["user"], &event["message"]),
        (&EVIL.into(), &"login".into())
    );
    assert_eq!(event["level"], "INFO");
}

#[test]
fn the_filter_is_kept() {
    let text = logged(Format::Text, "warn", || {
        tracing::info!("quiet");
        tracing::error!("loud");
    });
    assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    let refused = subscriber(Format::Text, "a=b=c", io::sink);
    assert!(matches!(refused, Err(LogError::Filter(_))));
}
