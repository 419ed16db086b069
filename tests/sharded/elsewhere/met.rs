//! What others do meanwhile where rows go to other shards, and what is bound, set or declared besides.

use pgherd_tests::Raw;

use super::{Sides, keyed};

/// What a column holds that others have added, of which nobody here has heard yet, is not lost where its row goes. Once
/// it was met, it is known.
#[tokio::test]
async fn a_column_that_is_not_known_yet_is_not_left_out() {
    let sides = Sides::new("").await;
    let (mut raw, _) = sides.ends().await;
    let all = async |text: &str| {
        for database in sides.rig.shards.iter().chain([&sides.whole]) {
            database.sql(&keyed(text)).await;
        }
    };
    all("create table copies (tenant bigint, was bigint, n int, more int)").await;
    let known = "select count(*) from copies";
    for (alter, text) in [
        (
            "alter table accounts add more int; update accounts set more = 7 where id = {a1}",
            "update accounts set id = {b9}, amount = amount + 1 where id = {a1}",
        ),
        (
            "alter table visits add more int; update visits set more = 7",
            "insert into copies select tenant + 700, v.* from visits v",
        ),
    ] {
        assert_eq!(raw.ask(&Raw::query(known)).await, "T D C ZI");
        all(alter).await;
        let text = keyed(text);
        assert_eq!(raw.ask(&Raw::query(&text)).await, "E40001 ZI", "{text}");
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZI", "{text}");
        sides.whole.sql(&text).await;
        sides.same(&text).await;
    }
    let (whole, all) = sides.rows("copies").await;
    assert_eq!(all, whole);
}
