use std::time::Duration;

use super::{BUCKETS, Histogram, Snapshot, bucket, end};

#[test]
fn each_value_lies_in_its_bucket() {
    let mut last = 0;
    for micros in (0..100_000).chain((1..40).map(|bit| 1 << bit)) {
        let here = bucket(micros);
        if here < BUCKETS - 1 {
            assert!(end(here) > Duration::from_micros(micros), "{micros}");
            assert!(
                here == 0 || end(here - 1) <= Duration::from_micros(micros),
                "{micros}"
            );
        }
        assert!(here >= last || micros < 100_000);
        last = here;
    }
    assert!(bucket(100_000_000) < BUCKETS - 1);
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn quantiles_are_an_eighth_off_at_most() {
    let histogram = Histogram::default();
    for micros in 1..=10_000 {
        histogram.record(Duration::from_micros(micros));
    }
    let seen = histogram.snapshot();
    assert_eq!(seen.count(), 10_000);
    assert_eq!(seen.sum(), Duration::from_micros(50_005_000));
    for (quantile, micros) in [(0.0, 1.0), (0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
        let got = seen.quantile(quantile).unwrap().as_secs_f64() * 1e6;
        assert!(
            got > micros && got <= micros * 1.125 + 1.0,
            "{quantile}: {got}"
        );
    }
    assert_eq!(seen.below(Duration::from_micros(1_024)), 1_023);
    assert_eq!(Snapshot::default().quantile(0.5), None);
}

#[test]
fn what_is_too_long_is_counted_and_merged() {
    let histogram = Histogram::default();
    histogram.record(Duration::MAX);
    histogram.record(Duration::from_secs(90));
    let mut sum = histogram.snapshot();
    assert_eq!(sum.quantile(1.0), Some(Duration::from_micros(1 << 27)));
    sum.merge(&histogram.snapshot());
    assert_eq!(sum.count(), 4);
    assert_eq!(sum.below(Duration::from_secs(1_000)), 2);
}

#[test]
fn no_record_of_any_thread_is_lost() {
    let histogram = Histogram::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|i| histogram.record(Duration::from_micros(i))));
        }
    });
    assert_eq!(histogram.snapshot().count(), 40_000);
}
