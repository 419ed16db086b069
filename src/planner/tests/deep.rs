//! Texts that are short, and come to very much where each query is put where it is named.

use std::fmt::Write as _;
use std::sync::Arc;

use pg_query::NodeEnum;

use super::{catalog, placement, planned};
use crate::analyze::Analysis;
use crate::resolve::Resolver;
use crate::{Names, Plan};

/// What a text is refused with.
fn code(text: &str) -> Option<&'static str> {
    match planned(text).plan() {
        Plan::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// Does something with no more stack than the threads have that plan for clients.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(work).unwrap().join().unwrap()
}

fn codes(texts: Vec<String>) -> Vec<Option<&'static str>> {
    on_a_thread(move || texts.iter().map(|text| code(text)).collect())
}

/// Queries of a WITH, each of which reads the one before it.
fn chain(with: &str, first: &str, link: impl Fn(&str, &str) -> String, count: usize) -> String {
    let mut text = format!("{with} a0 AS ({first})");
    for at in 1..=count {
        let (before, own) = (format!("a{}", at - 1), format!("a{at}"));
        write!(text, ", {own} AS ({})", link(&before, &own)).unwrap();
    }
    text + &format!(" SELECT x FROM a{count}")
}

fn wrapped(inner: String, times: usize, wrap: impl Fn(String) -> String) -> String {
    (0..times).fold(inner, |inner, _| wrap(inner))
}

#[test]
fn queries_that_read_each_other_are_not_followed_to_the_end_of_the_stack() {
    type Link = fn(&str, &str) -> String;
    let links: [Link; 6] = [
        |before, _| format!("SELECT x FROM {before}"),
        |before, _| {
            let joined = |inner: String| format!("({inner} CROSS JOIN (SELECT 1) o)");
            let joined = wrapped(before.to_owned(), 8, joined);
            format!("SELECT x FROM {joined}")
        },
        |before, _| {
            let sum = |inner: String| format!("1 + ({inner})");
            let sum = wrapped(format!("SELECT x FROM {before}"), 8, sum);
            format!("SELECT {sum} AS x")
        },
        |before, _| {
            let any = |inner: String| format!("(x = 1 AND (x IN (2, 3) OR x = ({inner})))");
            let any = wrapped(format!("SELECT x FROM {before}"), 4, any);
            format!("SELECT 1 AS x FROM (SELECT 1 AS x) s WHERE {any}")
        },
        |before, _| {
            let united = " UNION ALL SELECT 1".repeat(30);
            format!("SELECT x FROM {before}{united}")
        },
        |before, _| {
            let sub = |inner: String| format!("SELECT x FROM ({inner}) s");
            wrapped(format!("SELECT x FROM {before}"), 8, sub)
        },
    ];
    for first in ["SELECT 1 AS x", "SELECT k AS x FROM t"] {
        for link in links {
            let shown = link("a0", "a1");
            let code = move |count| code(&chain("WITH", first, link, count));
            let deepest = on_a_thread(move || {
                assert_eq!(code(3000), Some("0A000"));
                (1..=70).rev().find(|count| code(*count).is_none())
            });
            // Rows of shards cannot be had for each of them.
            let read = first.contains("FROM") || deepest.is_some();
            assert!(read && deepest != Some(70), "{shown}: {deepest:?}");
        }
    }
}

#[test]
fn what_a_short_text_comes_to_is_bounded() {
    let counts: Vec<String> = (0..20_000)
        .map(|at| format!("c{at} AS (SELECT 1)"))
        .collect();
    let many = format!("WITH {} SELECT 1", counts.join(", "));
    let recursive = format!("WITH RECURSIVE {} SELECT 1", counts.join(", "));
    // Their first parts are resolved twice, each of which has another in it.
    let twice = |before: &str, own: &str| {
        format!("SELECT x FROM {before} UNION ALL SELECT x + 1 FROM {own} WHERE x < 3")
    };
    let twice = chain("WITH RECURSIVE", "SELECT 1 AS x", twice, 30);
    let pairs = |before: &str, _: &str| format!("SELECT one.x FROM {before} one, {before} two");
    let pairs = chain("WITH", "SELECT 1 AS x", pairs, 30);
    let ones: Vec<String> = (0..1000).map(|at| format!("1 AS x{at}")).collect();
    let rows = "w, ".repeat(1000) + "w";
    let rows = format!(
        "WITH w AS (SELECT {}) SELECT 1 FROM w WHERE ({rows}) IS NULL",
        ones.join(", ")
    );
    let within = "1, ".repeat(20_000) + "1";
    let within = format!(
        "WITH w AS (SELECT 1 AS x WHERE 1 IN ({within})) SELECT 1 FROM {}",
        (0..300)
            .map(|at| format!("w w{at}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let ones = "1, ".repeat(20_000) + "1";
    let again = format!(
        "SELECT n IN ({ones}) FROM t GROUP BY 1{}",
        ", 1".repeat(1000)
    );
    let texts = vec![many, recursive, twice, pairs, rows, within, again];
    assert_eq!(codes(texts), [Some("0A000"); 7]);
    let stars = |inner: String| format!("SELECT *, *, *, * FROM ({inner}) s");
    let stars = wrapped("SELECT 1 AS x".to_owned(), 12, stars);
    assert_eq!(codes(vec![stars]), [Some("54011")]);
}

#[test]
fn a_query_of_with_recursive_that_does_not_name_itself_is_as_any_other() {
    let link = |before: &str, _: &str| format!("SELECT x FROM {before} UNION ALL SELECT 1");
    let texts = vec![
        chain("WITH RECURSIVE", "SELECT 1 x UNION ALL SELECT 2", link, 30),
        "WITH RECURSIVE a AS (WITH RECURSIVE b AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM b WHERE x < 3)
         SELECT x FROM b UNION ALL SELECT a.x + 10 FROM a WHERE a.x < 20) SELECT * FROM a"
            .to_owned(),
    ];
    assert_eq!(codes(texts), [None, None]);
}

/// Has a query analysed.
fn analysed<T>(text: &str, ask: impl FnOnce(&Analysis<'_>) -> T) -> T {
    let parsed = pg_query::parse(text, 0).unwrap().protobuf;
    let node = parsed.stmts[0].stmt.as_ref().unwrap().node.as_ref();
    let Some(NodeEnum::SelectStmt(select)) = node else {
        panic!("{text}");
    };
    let (catalog, placement, names) = (catalog(), placement(), Names::default());
    let mut resolver = Resolver::new(&catalog, &placement, &names);
    let query = resolver.query(select).unwrap();
    let mut analysis = Analysis::new(&resolver.relations);
    analysis.query(&query);
    ask(&analysis)
}

#[test]
fn what_levels_say_is_noted_once_however_deep_they_are() {
    let noted = |text: &str| analysed(text, |analysis| analysis.facts.noted());
    let lists: Vec<String> = (0..1000).map(|at| format!("k IN ({at}, 7)")).collect();
    let inner = format!("SELECT k FROM t WHERE {}", lists.join(" AND "));
    type Wrap = fn(String) -> String;
    let wraps: [Wrap; 4] = [
        |inner| format!("SELECT k FROM ({inner}) s"),
        |inner| format!("SELECT s.k FROM same LEFT JOIN ({inner}) s ON s.k = same.id"),
        |inner| format!("SELECT s.k FROM ({inner}) s JOIN same ON s.k = same.id"),
        |inner| format!("SELECT k FROM t WHERE k IN ({inner})"),
    ];
    for wrap in wraps {
        let noted = noted(&wrapped(inner.clone(), 10, wrap));
        assert!(
            (1000..1200).contains(&noted),
            "{noted}: {}",
            wrap("…".into())
        );
    }
}

#[test]
fn a_list_of_values_is_kept_once_for_all_tables_that_it_is_about() {
    let tables: Vec<String> = (0..300).map(|at| format!("t t{at}")).collect();
    let equal: Vec<String> = (1..300).map(|at| format!("t{at}.k = t0.k")).collect();
    let list: Vec<String> = (0..10_000).map(|at| at.to_string()).collect();
    let text = format!(
        "SELECT 1 FROM {} WHERE {} AND t0.k IN ({})",
        tables.join(", "),
        equal.join(" AND "),
        list.join(", ")
    );
    analysed(&text, |analysis| {
        let lists = analysis.reach.values().map(|reach| &reach.values[0][0]);
        let lists: Vec<_> = lists.collect();
        assert_eq!(lists.len(), 300);
        assert!(lists.iter().all(|list| Arc::ptr_eq(list, lists[0])));
    });
}
