//! Views that are read in pieces: who may not read them gets nothing of them, and who may not read what is in them is
//! told so.

use pgherd_tests::{Database, Proxy, Raw};

use crate::pull::{filled_shards, forms, nothing_is_left, rows};
use crate::rig::{Rig, SCHEMA};

const VIEWS: &str = "
    create view busy as select a.amount, e.n from accounts a join entries e on e.what = a.owner where a.amount < 2;
    create view owners as select owner, count(*) as n from accounts group by owner;
    create view busier as select n from busy;
    create view rich as select id, owner from accounts where amount > 9;";

async fn rig() -> Rig {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        database.sql(SCHEMA).await;
        database.sql(VIEWS).await;
        shards.push(database);
    }
    filled_shards(&shards).await;
    let more = "[users.other]\npassword = \"other\"";
    let proxy = Proxy::start(&Rig::config(&shards, more)).await;
    Rig { shards, proxy }
}

async fn granted(rig: &Rig, text: &str) {
    for shard in &rig.shards {
        shard.sql(text).await;
    }
}

/// What all forms of a query give, with the error's words.
async fn all(raw: &mut Raw, text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for bytes in forms(text) {
        raw.send(&bytes).await;
        let answer = raw.ready().await;
        let error = answer.iter().find(|message| message.tag == 'E');
        let words = error.and_then(|error| error.field('M'));
        all.push((rows(&answer), words.unwrap_or_default()));
    }
    for bytes in forms(text) {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        raw.send(&bytes).await;
        let answer = raw.ready().await;
        let error = answer.iter().find(|message| message.tag == 'E');
        let words = error.and_then(|error| error.field('M'));
        all.push((rows(&answer), words.unwrap_or_default()));
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    all
}

/// The same where all forms give the same.
async fn given(raw: &mut Raw, text: &str) -> (String, String) {
    let mut all = all(raw, text).await;
    assert!(all.iter().all(|it| *it == all[0]), "{text}: {all:?}");
    all.remove(0)
}

#[tokio::test]
async fn a_view_in_pieces_is_read_with_the_rights_of_both() {
    let rig = rig().await;
    let mut raw = Raw::login(rig.proxy.port(), "other", "shop", &[]).await;
    let texts = [
        ("select amount, n from busy order by 1", "0,5 1,5"),
        ("select n from busier order by 1", "5 5"),
        (
            "select b.n, o.n from busy b join owners o on o.owner = 'o0' order by 1",
            "5,3 5,3",
        ),
    ];
    granted(&rig, "grant select on busy, owners, busier, rich to other").await;
    // Whole views are read with their owners' rights, and so is what has one shard.
    let (found, _) = given(&mut raw, "select owner from rich order by id").await;
    assert_eq!(found.split(' ').count(), 2, "{found}");
    // One Postgres would answer.
    for (text, _) in texts {
        let (code, words) = given(&mut raw, text).await;
        assert_eq!(code, "E0A000", "{text}: {words}");
        assert!(words.contains("is read in pieces"), "{text}: {words}");
    }
    granted(&rig, "grant select on accounts, entries to other").await;
    for (text, expected) in texts {
        assert_eq!(given(&mut raw, text).await.0, expected, "{text}");
    }
    // What one Postgres would not show, though its reader may read all that is in it.
    granted(&rig, "revoke select on busy, busier from other").await;
    for (text, _) in texts {
        // Some forms are told so by a server, in its words.
        for (code, words) in all(&mut raw, text).await {
            assert!(["E0A000", "E42501"].contains(&&*code), "{text}: {words}");
        }
    }
    nothing_is_left(&rig).await;
}
