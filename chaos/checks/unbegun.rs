//! What had not begun when a primary was lost is told no error.

use std::time::Instant;

use parking_lot::Mutex;

use crate::checks::{Check, Wrong};
use crate::door::Failure;

/// When clients sent what they were told an error at, and when nothing could be under way at a server that was lost.
#[derive(Debug, Default)]
pub struct Unbegun {
    errors: Mutex<Vec<Told>>,
    spans: Mutex<Vec<Span>>,
}

/// An error at what was sent then.
#[derive(Debug)]
struct Told {
    kind: &'static str,
    sent: Instant,
    heard: Instant,
    what: String,
}

/// From a moment at which a lost server has taken the last that it took from anybody, until another one may be lost.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    until: Option<Instant>,
}

impl Span {
    /// Whether all of it was then. What was sent before the next server may be lost is lost with that one.
    fn has(&self, told: &Told) -> bool {
        self.from <= told.sent && self.until.is_none_or(|until| told.heard < until)
    }
}

impl Unbegun {
    /// Enters an error at a statement that stands for itself, and was sent at that moment.
    pub fn told(&self, kind: &'static str, who: &str, sent: Instant, failure: &Failure) {
        let what = format!("{who} was told {}", failure.code());
        let heard = Instant::now();
        self.errors.lock().push(Told {
            kind,
            sent,
            heard,
            what,
        });
    }

    /// What is sent from this moment on is sent to the next server.
    pub fn begins(&self, from: Instant) {
        self.spans.lock().push(Span { from, until: None });
    }

    /// From now on a server may be lost again.
    pub fn ends(&self) {
        if let Some(last) = self.spans.lock().last_mut() {
            last.until.get_or_insert_with(Instant::now);
        }
    }

    /// The errors that a workload was told at what it had sent when nothing could be under way.
    #[must_use]
    pub fn wrong(&self, workload: &str) -> Vec<Wrong> {
        let spans = self.spans.lock();
        let errors = self.errors.lock();
        let of_it = errors.iter().filter(|told| told.kind == workload);
        let within = of_it.filter_map(|told| Some((told, spans.iter().find(|it| it.has(told))?)));
        within
            .map(|(told, span)| {
                let late = told.sent.saturating_duration_since(span.from).as_millis();
                let what = &told.what;
                Check::Errors.caught(format!(
                    "{what} at what had not begun: it was sent {late} ms after nothing could be lost"
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio_postgres::error::SqlState;

    use super::Unbegun;
    use crate::door::Failure;

    #[test]
    fn only_what_was_sent_meanwhile_is_wrong() {
        let told = Failure::Said(SqlState::from_code("08007"));
        let checks = Unbegun::default();
        let lost = Instant::now();
        checks.told("a", "early", lost - Duration::from_millis(5), &told);
        checks.begins(lost);
        assert!(checks.wrong("a").is_empty());
        checks.told("a", "within", lost, &told);
        checks.told("b", "another", lost, &told);
        checks.ends();
        checks.told("a", "lost with the next", lost, &told);
        checks.told("a", "behind", Instant::now(), &told);
        let wrong = checks.wrong("a");
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].to_string().contains("within was told 08007"));
    }
}
