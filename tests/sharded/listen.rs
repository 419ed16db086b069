//! LISTEN and NOTIFY of a sharded database: one shard has them all.

use pgherd_tests::{Message, Raw};
use rustix::process::Signal;

use crate::rig::{Rig, config, key};
use crate::transactions::{filled, part, sum};

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

/// A notification: from whom, and what.
fn note(message: &Message) -> (u32, String) {
    assert_eq!(message.tag, 'A', "{message:?}");
    let from = u32::from_be_bytes(message.body[..4].try_into().unwrap());
    let mut words = message.body[4..].split(|byte| *byte == 0);
    (
        from,
        String::from_utf8_lossy(words.nth(1).unwrap()).into_owned(),
    )
}

/// What an idle client hears next.
async fn next(raw: &mut Raw) -> String {
    note(&raw.message().await).1
}

fn update(shard: u16) -> String {
    let id = key(shard);
    format!("update accounts set amount = amount + 1 where id = {id}")
}

/// A client that has used this shard last.
async fn at(rig: &Rig, shard: u16) -> Raw {
    let mut raw = rig.raw().await;
    let text = format!("select owner from accounts where id = {}", key(shard));
    assert_eq!(raw.one(&text).await, "x");
    raw
}

#[tokio::test]
async fn who_listens_hears_what_is_notified_from_any_shard() {
    let rig = filled("").await;
    for own in [0, 1] {
        let mut ear = at(&rig, own).await;
        assert_eq!(told(&mut ear, "listen news").await, "C ZI");
        let mut other = at(&rig, 1 - own).await;
        assert_eq!(told(&mut other, "notify news, 'one'").await, "C ZI");
        assert_eq!(next(&mut ear).await, "one");
        other.one("select pg_notify('news', 'two')").await;
        assert_eq!(next(&mut ear).await, "two");
        for text in ["notify news, 'three'", "select pg_notify('news', 'four')"] {
            let all = [part(text), Raw::sync()].concat();
            assert!(other.ask(&all).await.ends_with("C ZI"), "{text}");
        }
        assert_eq!(next(&mut ear).await, "three");
        assert_eq!(next(&mut ear).await, "four");
        // It goes on to work elsewhere.
        assert_eq!(told(&mut ear, &update(1)).await, "C ZI");
        assert_eq!(told(&mut ear, &update(0)).await, "C ZI");
        told(&mut other, "notify news, 'five'").await;
        assert_eq!(next(&mut ear).await, "five");
        // Its own comes before it may go on, and has its number.
        ear.send(&Raw::query("notify news, 'own'")).await;
        let answer = ear.ready().await;
        let own: Vec<_> = answer.iter().filter(|it| it.tag == 'A').map(note).collect();
        let (number, _) = ear.key.clone();
        assert_eq!(own, [(number, "own".to_owned())]);
        assert_eq!(told(&mut ear, "unlisten news").await, "C ZI");
        told(&mut other, "notify news, 'six'").await;
        assert_eq!(told(&mut ear, "listen news").await, "C ZI");
        told(&mut other, "notify news, 'seven'").await;
        assert_eq!(next(&mut ear).await, "seven");
        // From wherever it is, all of it ends.
        assert_eq!(told(&mut ear, &update(1)).await, "C ZI");
        assert_eq!(told(&mut ear, "discard all").await, "C ZI");
        told(&mut other, "notify news, 'eight'").await;
        assert_eq!(told(&mut ear, "listen news").await, "C ZI");
        told(&mut other, "notify news, 'nine'").await;
        assert_eq!(next(&mut ear).await, "nine");
    }
}

#[tokio::test]
async fn listening_is_part_of_its_transaction() {
    let rig = filled("").await;
    let mut ear = at(&rig, 1).await;
    let mut other = rig.raw().await;
    for text in ["begin", "listen a", "rollback"] {
        assert!(told(&mut ear, text).await.starts_with('C'), "{text}");
    }
    told(&mut other, "notify a, 'lost'").await;
    for text in ["begin", "listen b", "commit"] {
        assert!(told(&mut ear, text).await.starts_with('C'), "{text}");
    }
    told(&mut other, "notify a, 'lost'").await;
    told(&mut other, "notify b, 'heard'").await;
    assert_eq!(next(&mut ear).await, "heard");
    let all = [part("begin"), part("listen c"), part("commit"), Raw::sync()];
    assert!(ear.ask(&all.concat()).await.ends_with("C ZI"));
    told(&mut other, "notify c, 'too'").await;
    assert_eq!(next(&mut ear).await, "too");
    // Not with other shards.
    for texts in [
        ["begin", &update(1), "listen d"],
        ["begin", "listen d", &update(1)],
    ] {
        for text in &texts[..2] {
            assert_eq!(told(&mut ear, text).await, "C ZT", "{text}");
        }
        assert_eq!(told(&mut ear, texts[2]).await, "E0A000 ZE", "{texts:?}");
        assert_eq!(told(&mut ear, "rollback").await, "C ZI");
    }
    let all = [
        part("begin"),
        part(&update(1)),
        part("listen d"),
        Raw::sync(),
    ];
    assert!(ear.ask(&all.concat()).await.ends_with("E0A000 ZE"));
    assert_eq!(told(&mut ear, "rollback").await, "C ZI");
    assert_eq!(told(&mut ear, "listen d; listen e").await, "E0A000 ZI");
    told(&mut other, "notify d, 'lost'").await;
    told(&mut other, "notify b, 'again'").await;
    assert_eq!(next(&mut ear).await, "again");
}

/// What the refused block has begun to listen to is over with it, and so is its hold on what its server notifies
/// next, which is somebody else's.
#[tokio::test]
async fn a_refused_block_holds_back_nothing_of_the_next_one_on_its_server() {
    let rig = filled("[pool]\nsize = 1\n").await;
    let mut ear = at(&rig, 1).await;
    let mut other = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    let (number, _) = ear.key.clone();
    for bound in [false, true] {
        for text in ["begin", "listen more"] {
            assert_eq!(told(&mut ear, text).await, "C ZT", "{text}");
        }
        let there = update(1);
        let answer = match bound {
            true => ear.ask(&[part(&there), Raw::sync()].concat()).await,
            false => told(&mut ear, &there).await,
        };
        assert!(answer.ends_with("E0A000 ZE"), "{answer}");
        assert_eq!(told(&mut ear, "rollback").await, "C ZI");
        // By the only connection that there is.
        assert_eq!(told(&mut other, "notify news, 'again'").await, "C ZI");
        let (from, what) = note(&ear.message().await);
        assert_eq!(what, "again");
        assert_ne!(from, number);
    }
}

/// Has a statement prepared within what goes over both shards: a block, or a pipeline that reads both.
async fn prepare_among_others(raw: &mut Raw, parse: Vec<u8>, in_block: bool) {
    let others = |name: &str, text: &str| {
        let parts = [
            Raw::parse(name, text),
            Raw::bind("", name, &[]),
            Raw::execute("", 0),
            Raw::close('S', name),
        ];
        parts.concat()
    };
    if !in_block {
        let read = others("sum", "select sum(amount) from accounts");
        let answer = raw.ask(&[read, parse, Raw::sync()].concat()).await;
        assert_eq!(answer, "1 2 D C 3 1 ZI");
        return;
    }
    for text in ["begin", "update accounts set amount = amount + 1"] {
        assert_eq!(told(raw, text).await, "C ZT", "{text}");
    }
    assert_eq!(raw.ask(&[parse, Raw::sync()].concat()).await, "1 ZT");
    // A simple query would end the unnamed statement.
    let commit = [others("end", "commit"), Raw::sync()].concat();
    assert_eq!(raw.ask(&commit).await, "1 2 C 3 ZI");
}

/// Run as it is, it would have a listener behind that nobody knows of, for the next client.
#[tokio::test]
async fn what_was_prepared_among_statements_for_both_shards_listens_as_any_other() {
    let rig = filled("[pool]\nsize = 1\n").await;
    let mut other = rig.raw().await;
    let run = |name: &str| [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()].concat();
    for (listen, unlisten) in [("", ""), ("l", "u")] {
        for in_block in [false, true] {
            let mut ear = rig.raw().await;
            let prepared = Raw::parse(listen, "listen news");
            prepare_among_others(&mut ear, prepared, in_block).await;
            assert_eq!(ear.ask(&run(listen)).await, "2 C ZI");
            // By the only connection that there is.
            let notified = told(&mut other, "notify news, 'x'").await;
            assert_eq!(notified, "C ZI", "{listen:?} {in_block}");
            assert_eq!(next(&mut ear).await, "x");
            let prepared = Raw::parse(unlisten, "unlisten news");
            prepare_among_others(&mut ear, prepared, in_block).await;
            assert_eq!(ear.ask(&run(unlisten)).await, "2 C ZI");
            assert_eq!(told(&mut ear, "listen more").await, "C ZI");
            for text in ["notify news, 'lost'", "notify more, 'kept'"] {
                assert_eq!(told(&mut other, text).await, "C ZI", "{text}");
            }
            assert_eq!(next(&mut ear).await, "kept", "{unlisten:?} {in_block}");
        }
    }
}

/// It is sent away while it waits for its own notifications, and its servers are there for others.
#[tokio::test]
async fn who_has_no_room_for_what_it_notifies_itself_is_told_of_the_commit_and_why_it_goes() {
    let rig = filled("[pool]\nsize = 1\n[notifications]\nmax_waiting = 2\n").await;
    for round in 0..8 {
        let mut ear = rig.raw().await;
        let three = ["notify news, '1'", "notify news, '2'", "notify news, '3'"];
        assert_eq!(told(&mut ear, "listen news").await, "C ZI");
        let (here, there) = (update(0), update(1));
        for text in ["begin", &here, &there].into_iter().chain(three) {
            assert_eq!(told(&mut ear, text).await, "C ZT", "{text}");
        }
        ear.send(&Raw::query("commit")).await;
        let rest = String::from_utf8_lossy(&ear.end().await).into_owned();
        // Its shards may take longer than it is waited for.
        let unknown = rest.contains("08007") && rest.contains("too slow");
        let known = rest.contains("COMMIT\0") && rest.contains("53400");
        assert!(known || unknown, "{round}: {rest}");
        let mut other = rig.raw().await;
        for text in [&here, &there] {
            assert_eq!(told(&mut other, text).await, "C ZI", "{text}");
        }
    }
}

#[tokio::test]
async fn a_notification_goes_with_the_commit_of_all_shards() {
    let rig = filled("").await;
    let mut ear = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    let mut raw = rig.raw().await;
    let decisions = async || {
        let made = "select count(*) from pg_tables where tablename = 'decisions'";
        match rig.shards[0].sql(made).await == "1" {
            true => {
                sum(
                    &rig,
                    "select count(*) from pgherd.decisions where committed",
                )
                .await
            }
            false => 0,
        }
    };
    for (number, texts) in [
        vec![update(0), update(1), "notify news, '{}'".to_owned()],
        vec!["notify news, '{}'".to_owned(), update(1)],
        vec![update(1), "select pg_notify('news', '{}')".to_owned()],
        vec![update(1), "notify news, '{}'".to_owned(), update(0)],
    ]
    .into_iter()
    .enumerate()
    {
        for (ends, bound) in [("rollback", false), ("commit", false), ("commit", true)] {
            let before = decisions().await;
            assert_eq!(told(&mut raw, "begin").await, "C ZT");
            for text in &texts {
                let text = text.replace("{}", &format!("{number} {ends} {bound}"));
                let answer = match bound {
                    true => raw.ask(&[part(&text), Raw::sync()].concat()).await,
                    false => told(&mut raw, &text).await,
                };
                assert!(answer.ends_with("C ZT"), "{text}: {answer}");
            }
            assert_eq!(told(&mut raw, ends).await, "C ZI");
            if ends == "commit" {
                assert_eq!(next(&mut ear).await, format!("{number} commit {bound}"));
                // Both have a part in it, also where the first has written nothing.
                assert_eq!(decisions().await, before + 1, "{texts:?}");
            }
        }
    }
    assert_eq!(
        sum(&rig, "select sum(amount) from accounts").await,
        600 + 12
    );
    // Who listens hears its own before the end.
    for text in ["begin", &update(1), "notify news, 'own'"] {
        assert_eq!(told(&mut ear, text).await, "C ZT");
    }
    ear.send(&Raw::query("commit")).await;
    let answer = ear.ready().await;
    let own: Vec<_> = answer.iter().filter(|it| it.tag == 'A').map(note).collect();
    let (number, _) = ear.key.clone();
    assert_eq!(own, [(number, "own".to_owned())]);
    // Nobody else is taken for it afterwards.
    let mut other = rig.raw().await;
    for _ in 0..4 {
        told(&mut other, "notify news, 'other'").await;
        let (from, what) = note(&ear.message().await);
        assert_eq!(what, "other");
        assert_ne!(from, number);
    }
    assert_eq!(
        told(&mut raw, "notify news, 'a'; notify news, 'b'").await,
        "C C ZI"
    );
    assert_eq!(
        (next(&mut ear).await, next(&mut ear).await),
        ("a".into(), "b".into())
    );
}

/// One that goes to its server as it is would have a listener behind that nobody knows of, for the next client.
#[tokio::test]
async fn what_is_fetched_in_pieces_is_looked_at_as_well() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let piece = |text: &str| {
        let parts = [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 1),
            Raw::sync(),
        ];
        parts.concat()
    };
    for text in [
        "listen news",
        "unlisten *",
        "select set_config('work_mem', '1MB', false)",
    ] {
        assert_eq!(told(&mut raw, "begin").await, "C ZT");
        let all = "update accounts set amount = amount + 1";
        assert_eq!(told(&mut raw, all).await, "C ZT");
        let answer = raw.ask(&piece(text)).await;
        assert!(answer.ends_with("E0A000 ZE"), "{text}: {answer}");
        assert_eq!(told(&mut raw, "commit").await, "C ZI");
    }
    // What notifies so goes with the commit of all.
    let mut ear = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    for text in ["begin", &update(1)] {
        assert_eq!(told(&mut raw, text).await, "C ZT", "{text}");
    }
    let notify = piece("select pg_notify('news', 'piece')");
    assert_eq!(raw.ask(&notify).await, "1 2 D s ZT");
    assert_eq!(told(&mut raw, "commit").await, "C ZI");
    assert_eq!(next(&mut ear).await, "piece");
}

/// How many tables of decisions there are.
const MADE: &str = "select count(*) from pg_tables where tablename = 'decisions'";
const DECIDED: &str = "select count(*) from pgherd.decisions where committed";

#[tokio::test]
async fn a_block_that_has_notified_is_a_writer_when_it_comes_to_another_shard() {
    for text in ["notify news, 'x'", "select pg_notify('news', 'x')"] {
        for bound in [false, true] {
            // Nobody has made the tables yet.
            let rig = filled("").await;
            let mut ear = rig.raw().await;
            assert_eq!(told(&mut ear, "listen news").await, "C ZI");
            let mut raw = rig.raw().await;
            assert_eq!(told(&mut raw, "begin").await, "C ZT");
            for text in [text, &update(1)] {
                let answer = match bound {
                    true => raw.ask(&[part(text), Raw::sync()].concat()).await,
                    false => told(&mut raw, text).await,
                };
                assert!(answer.ends_with("C ZT"), "{text}: {answer}");
            }
            assert_eq!(told(&mut raw, "commit").await, "C ZI", "{text} {bound}");
            assert_eq!(next(&mut ear).await, "x");
            assert_eq!(sum(&rig, DECIDED).await, 1);
        }
    }
}

/// The end of the block before is answered only behind it.
#[tokio::test]
async fn what_notifies_behind_the_end_of_another_block_in_its_pipeline_counts() {
    let rig = filled("").await;
    let mut ear = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    let mut raw = rig.raw().await;
    let syncs = [Vec::new(), Raw::sync()];
    for (decided, sync) in (1..).zip(syncs) {
        for text in ["begin", &update(0)] {
            assert_eq!(told(&mut raw, text).await, "C ZT", "{text}");
        }
        let behind = [part("begin"), part("notify news, 'x'"), Raw::sync()].concat();
        let all = [part("commit"), sync.clone(), behind].concat();
        let mut answer = raw.ask(&all).await;
        if !sync.is_empty() {
            assert_eq!(answer, "1 2 C ZI");
            answer = raw.ask(&[]).await;
        }
        assert!(answer.ends_with("C ZT"), "{answer}");
        for (text, expected) in [(update(1).as_str(), "C ZT"), ("commit", "C ZI")] {
            assert_eq!(told(&mut raw, text).await, expected, "{text}");
        }
        assert_eq!(next(&mut ear).await, "x");
        assert_eq!(sum(&rig, DECIDED).await, decided);
    }
}

#[tokio::test]
async fn what_is_only_called_so_notifies_nobody() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for column in ["owner as notify_by", "'pg_notify'", "owner as notify"] {
        let read = format!("select {column} from accounts where id = {}", key(0));
        assert_eq!(told(&mut raw, "begin").await, "C ZT");
        assert_eq!(told(&mut raw, &read).await, "T D C ZT");
        for text in [update(1).as_str(), "commit"] {
            assert!(told(&mut raw, text).await.starts_with('C'), "{text}");
        }
        assert_eq!(sum(&rig, MADE).await, 0, "{column}");
    }
}

#[tokio::test]
async fn who_listens_where_nobody_notifies_any_more_is_told() {
    let rig = filled("").await;
    let mut ear = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    let places = rig.shards.iter().rev();
    let places: Vec<_> = places
        .map(|shard| (shard.name.clone(), format!("127.0.0.1:{}", shard.port)))
        .collect();
    rig.proxy.rewrite(&config(&places, ""));
    rig.proxy.signal(Signal::HUP);
    let last = ear.message().await;
    assert_eq!((last.tag, last.field('C')), ('E', Some("57P01".to_owned())));
    assert!(ear.next().await.is_none());
    // All are on the other one now.
    let mut ear = rig.raw().await;
    assert_eq!(told(&mut ear, "listen news").await, "C ZI");
    let mut other = rig.raw().await;
    assert_eq!(told(&mut other, "notify news, 'x'").await, "C ZI");
    assert_eq!(next(&mut ear).await, "x");
}
