use std::convert::Infallible;
use std::sync::Arc;

use super::Cache;

fn put(cache: &Cache<usize>, text: &[u8], value: usize, size: usize) -> usize {
    *cache
        .get_or_insert_with(text, 0, || Ok::<_, Infallible>((value, size)))
        .unwrap()
}

#[test]
fn the_first_value_stays() {
    let cache = Cache::new(1 << 20);
    assert_eq!(put(&cache, b"a", 1, 8), 1);
    assert_eq!(put(&cache, b"a", 2, 8), 1);
    assert_eq!(put(&cache, b"b", 3, 8), 3);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 2, 2));
}

#[test]
fn extras_are_part_of_the_key() {
    let cache = Cache::new(1 << 20);
    put(&cache, b"a", 1, 8);
    assert_eq!(cache.get(b"a", 1), None);
    assert_eq!(cache.get(b"a", 0), Some(Arc::new(1)));
}

#[test]
fn a_failure_keeps_nothing() {
    let cache = Cache::<usize>::new(1 << 20);
    assert_eq!(cache.get_or_insert_with(b"a", 0, || Err("no")), Err("no"));
    assert_eq!(cache.stats().entries, 0);
}

#[test]
fn the_bound_holds_and_used_entries_outlive_unused_ones() {
    let cache = Cache::new(160_000);
    put(&cache, b"hot", 0, 8);
    for i in 1..20_000 {
        put(&cache, format!("select {i}").as_bytes(), i, 100);
        assert_eq!(put(&cache, b"hot", usize::MAX, 8), 0);
    }
    let stats = cache.stats();
    assert!(stats.bytes <= 160_000, "{stats:?}");
    assert!(stats.entries > 300 && stats.evictions > 19_000, "{stats:?}");
}

#[test]
fn what_is_larger_than_a_share_is_not_kept() {
    let cache = Cache::new(16_000);
    assert_eq!(put(&cache, b"huge", 1, 2_000), 1);
    assert_eq!(cache.stats().entries, 0);
    put(&cache, b"small", 1, 8);
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
}

#[test]
fn threads_agree_on_one_value() {
    let cache = Cache::new(1 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..1_000usize {
                    let seen = put(cache, &i.to_le_bytes(), thread, 8);
                    assert_eq!(put(cache, &i.to_le_bytes(), 99, 8), seen);
                }
            });
        }
    });
    assert_eq!(cache.stats().entries, 1_000);
}
