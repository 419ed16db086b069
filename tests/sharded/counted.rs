//! How statements ran, and why others were refused, is counted.

use pgherd_sandbox::free_port;
use pgherd_tests::Raw;

use crate::limits::metrics;
use crate::rig::key;
use crate::transactions::{filled, part};

/// What is counted by now of a label's value.
async fn count(port: u16, labels: &str) -> u64 {
    let page = metrics(port).await;
    let start = format!("pgherd_sharded_{labels} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("{start}: {page}"));
    line.parse().unwrap()
}

#[tokio::test]
async fn each_statement_counts_once() {
    let port = free_port();
    let rig = filled(&format!("[metrics]\nlisten = \"127.0.0.1:{port}\"")).await;
    let mut raw = rig.raw().await;
    let one = format!("select amount from accounts where id = {}", key(0));
    let tier = |name| format!("statements_total{{database=\"shop\",tier=\"{name}\"}}");
    let reason = |name| format!("refusals_total{{database=\"shop\",reason=\"{name}\"}}");
    for (text, label) in [
        (one.as_str(), tier("one_shard")),
        (
            "select name from countries where code = 'at'",
            tier("one_shard"),
        ),
        ("select amount from accounts", tier("pushed_down")),
        ("select amount from accounts order by id", tier("merged")),
        ("select count(*) from accounts", tier("merged")),
        (
            "select a.id from accounts a join entries e on e.what = a.owner",
            tier("pulled"),
        ),
        ("update accounts set amount = amount + 1", tier("written")),
        (
            "update countries set name = 'x' where code = 'at'",
            tier("written"),
        ),
        (
            "select nextval('x'), count(*) from accounts",
            reason("function"),
        ),
        ("select * from elsewhere", reason("table")),
        ("insert into accounts (owner) values ('x')", reason("write")),
        ("create temporary table x (id int)", reason("transaction")),
    ] {
        for extended in [false, true] {
            let before = count(port, &label).await;
            match extended {
                false => raw.send(&Raw::query(text)).await,
                true => raw.send(&[part(text), Raw::sync()].concat()).await,
            }
            let answer = raw.ready().await;
            let refused = answer.iter().any(|it| it.tag == 'E');
            assert_eq!(refused, label.starts_with("refusals"), "{text}: {answer:?}");
            assert_eq!(count(port, &label).await, before + 1, "{text} {extended}");
        }
    }
    // What is wrong for any Postgres is no refusal of ours.
    let label = reason("other");
    let before = count(port, &label).await;
    assert_eq!(raw.ask(&Raw::query("selct 1")).await, "E42601 ZI");
    assert_eq!(count(port, &label).await, before);
}
