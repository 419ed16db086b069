use std::time::Duration;

use super::{Exposition, ExpositionError};
use crate::Histogram;

fn text(exposition: Exposition) -> String {
    String::from_utf8(exposition.text().unwrap()).unwrap()
}

#[test]
fn families_are_sorted_and_labels_escaped() {
    let mut all = Exposition::default();
    all.gauge("b", "Bees.", &[("db", "a\"b\\c\nd")], 1.5)
        .unwrap();
    all.counter("a_total", "Line\nbreak.", &[], 3).unwrap();
    all.gauge("b", "Bees.", &[("db", "x")], 2.0).unwrap();
    let expected = "# HELP a_total Line\\nbreak.\n# TYPE a_total counter\na_total 3\n\
        # HELP b Bees.\n# TYPE b gauge\nb{db=\"a\\\"b\\\\c\\nd\"} 1.5\nb{db=\"x\"} 2\n";
    assert_eq!(text(all), expected);
}

#[test]
fn a_histogram_is_cumulative_and_ends_at_infinity() {
    let histogram = Histogram::default();
    for micros in [10, 100, 100, 1 << 30] {
        histogram.record(Duration::from_micros(micros));
    }
    let mut all = Exposition::default();
    all.histogram("h_seconds", "H.", &[("pool", "p")], &histogram.snapshot())
        .unwrap();
    let text = text(all);
    for line in [
        "# TYPE h_seconds histogram",
        "h_seconds_bucket{pool=\"p\",le=\"0.000064\"} 1",
        "h_seconds_bucket{pool=\"p\",le=\"0.000128\"} 3",
        "h_seconds_bucket{pool=\"p\",le=\"67.108864\"} 3",
        "h_seconds_bucket{pool=\"p\",le=\"+Inf\"} 4",
        "h_seconds_count{pool=\"p\"} 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in {text}");
    }
}

#[test]
fn bad_names_and_mixed_kinds_are_refused() {
    let mut all = Exposition::default();
    assert!(matches!(
        all.gauge("a-b", "", &[], 1.0),
        Err(ExpositionError::Name(_))
    ));
    assert!(matches!(
        all.gauge("a", "", &[("x:y", "")], 1.0),
        Err(ExpositionError::Name(_))
    ));
    all.gauge("a", "", &[], 1.0).unwrap();
    assert!(matches!(
        all.counter("a", "", &[], 1),
        Err(ExpositionError::Kind(_))
    ));
}
