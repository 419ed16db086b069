//! The table of what a client is told when its server is lost, each cell in each form of the protocol.

use pgherd_tests::{Database, Raw};

use super::{SYNC, pipelined, shop};
use crate::retries::fatal;
use crate::retries::node::{Fault, Node};

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Simple,
    Extended,
    /// Behind another one, to the same Sync.
    Pipelined,
}

impl Form {
    const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Pipelined];

    fn send(self, text: &str) -> Vec<u8> {
        match self {
            Self::Simple => Raw::query(text),
            Self::Extended => [pipelined(text), Raw::sync()].concat(),
            Self::Pipelined => [pipelined("select 'first'"), pipelined(text), Raw::sync()].concat(),
        }
    }

    /// What a server answers to a statement with so many rows, where it is read from.
    fn answer(self, rows: usize, status: &str) -> String {
        let data = "D ".repeat(rows);
        match (self, rows) {
            (Self::Simple, 0) => format!("C {status}"),
            (Self::Simple, _) => format!("T {data}C {status}"),
            (Self::Extended, _) => format!("1 2 {data}C {status}"),
            (Self::Pipelined, _) => format!("1 2 D C 1 2 {data}C {status}"),
        }
    }

    /// What is in the last message of a statement, with which it is over if that reaches the server; and without which
    /// nothing of it is begun, if it does not.
    fn last(self, passes: bool) -> &'static str {
        match self {
            Self::Extended | Self::Pipelined if passes => SYNC,
            _ => "needle",
        }
    }
}

/// The message with this in it reaches the server, or not; this is what comes back, and the connection ends.
fn lose(node: &Node, needle: &'static str, passes: bool, says: Vec<u8>) {
    node.fail(Fault {
        needle,
        passes,
        says,
        times: 1,
    });
}

async fn rows(database: &Database) -> String {
    database.sql("select count(*) from goods").await
}

#[tokio::test]
async fn each_place_is_told_what_the_table_says_in_each_form() {
    const WRITE: &str = "insert into goods values (1) /* needle */";
    const READ: &str = "select count(*), 'needle' from goods";
    let (database, node, _proxy, mut client) = shop("[pool]\nsize = 2").await;
    for form in Form::ALL {
        eprintln!("{form:?}");
        // Connected and idle.
        node.lead_to(database.port).await;
        assert_eq!(client.ask(&form.send(READ)).await, form.answer(1, "ZI"));
        // Sent, but refused before it ran.
        for code in ["57P03", "53300"] {
            lose(&node, "needle", false, fatal(code));
            assert_eq!(client.ask(&form.send(WRITE)).await, form.answer(0, "ZI"));
            assert_eq!((node.left(), rows(&database).await.as_str()), (0, "1"));
            database.sql("delete from goods").await;
        }
        // A read that was cut off before any of its answer came.
        for passes in [true, false] {
            lose(&node, form.last(passes), passes, Vec::new());
            assert_eq!(client.ask(&form.send(READ)).await, form.answer(1, "ZI"));
            assert_eq!(node.left(), 0);
        }
        // Inside a transaction.
        assert_eq!(
            client.ask(&Raw::query("begin; select 1")).await,
            "C T D C ZT"
        );
        lose(&node, form.last(true), true, Vec::new());
        assert_eq!(client.ask(&form.send(WRITE)).await, "E40001 ZE");
        assert_eq!(client.ask(&form.send(READ)).await, "E25P02 ZE");
        assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
        assert_eq!((node.left(), rows(&database).await.as_str()), (0, "0"));
        // A write whose answer is missing, which is there or not.
        for passes in [true, false] {
            lose(&node, form.last(passes), passes, Vec::new());
            assert_eq!(client.ask(&form.send(WRITE)).await, "E08007 ZI");
            assert_eq!(node.left(), 0);
            if passes {
                super::there(&database).await;
            }
        }
        // A COMMIT whose answer is missing.
        for passes in [true, false] {
            let begun = format!("begin; {WRITE}");
            assert_eq!(client.ask(&Raw::query(&begun)).await, "C C ZT");
            lose(&node, form.last(passes), passes, Vec::new());
            let commit = form.send("commit /* needle */");
            assert_eq!(client.ask(&commit).await, "E08007 ZI");
            assert_eq!(node.left(), 0);
            if passes {
                super::there(&database).await;
            }
        }
        assert_eq!(rows(&database).await, "0");
    }
}

/// The same of what changes something, where it is found out.
#[tokio::test]
async fn each_place_is_told_what_became_of_it_in_each_form() {
    const WRITE: &str = "insert into goods values (1) /* needle */";
    let more = "[pool]\nsize = 2\n[failover]\ncommit_resolution = \"on\"";
    let (database, node, _proxy, mut client) = shop(more).await;
    for form in Form::ALL {
        eprintln!("{form:?}");
        // What is sent by itself goes in a block of ours, or before its own Sync.
        let needle = match form {
            Form::Simple => "Q\0\0\0\u{b}COMMIT",
            Form::Extended | Form::Pipelined => SYNC,
        };
        for passes in [true, false] {
            lose(&node, needle, passes, Vec::new());
            let told = client.ask(&form.send(WRITE)).await;
            match passes {
                true => assert_eq!(told, form.answer(0, "ZI")),
                // That it has run may be told before it is committed, as Postgres does.
                false => assert!(told.ends_with("E40001 ZI"), "{told}"),
            }
            assert_eq!(node.left(), 0, "{passes}");
            let count = if passes { "1" } else { "0" };
            assert_eq!(rows(&database).await, count);
            database.sql("delete from goods").await;
        }
        for passes in [true, false] {
            assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
            assert_eq!(client.ask(&Raw::query(WRITE)).await, "C ZT");
            lose(&node, form.last(passes), passes, Vec::new());
            let told = client.ask(&form.send("commit /* needle */")).await;
            match (passes, form) {
                // Where the rows before it are lost, no success can do without them.
                (true, Form::Pipelined) => {
                    let success = form.answer(0, "ZI");
                    assert!(told == "E08007 ZI" || told == success, "{told}");
                }
                (true, _) => assert_eq!(told, form.answer(0, "ZI")),
                // It hangs on which answers to what stands before it have come.
                (false, Form::Pipelined) => {
                    assert!(["E08007 ZI", "E40001 ZI"].contains(&&*told), "{told}");
                }
                (false, _) => assert_eq!(told, "E40001 ZI"),
            }
            assert_eq!(node.left(), 0, "{passes}");
            let count = if passes { "1" } else { "0" };
            assert_eq!(rows(&database).await, count);
            database.sql("delete from goods").await;
        }
    }
}
