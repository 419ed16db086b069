//! How replication sessions end, whoever ends them.

use pgherd_sandbox::{Account, Home, Server, Stop};
use pgherd_tests::{Config, Message, Proxy, Raw, connect, until};
use rustix::process::Signal;
use tokio_postgres::SimpleQueryMessage;

use super::rig::{
    Running, connections, database, program, senders, server, start, stop, wait_for_senders,
};
use super::stream::{status, streaming};

/// Reads past WAL and keepalives to what else is said up to the end.
async fn last_words(client: &mut Raw) -> Vec<Message> {
    let mut words = Vec::new();
    while let Some(message) = client.next().await {
        if message.tag != 'd' {
            words.push(message);
        }
    }
    words
}

/// Reads past WAL and keepalives to the next other message.
async fn past_data(client: &mut Raw) -> Message {
    loop {
        let message = client.message().await;
        if message.tag != 'd' {
            return message;
        }
    }
}

/// The tags of messages, with the SQLSTATEs of errors and notices.
fn brief(words: &[Message]) -> String {
    let words = words.iter().map(|message| match message.tag {
        'E' | 'N' => format!("{}{}", message.tag, message.field('C').unwrap_or_default()),
        tag => tag.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

async fn pid(server: &Server, name: &str) -> u32 {
    let question = format!("select pid from pg_stat_replication where application_name = '{name}'");
    server.sql(&question).await.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_killed_in_the_stream_leaves_nothing_behind() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    console.simple_query("show version").await.unwrap();
    let home = Home::new(Account::choose()).unwrap();
    let mut receiver = program(server, "pg_receivewal", proxy.port(), "killed");
    receiver
        .arg("--no-loop")
        .arg("--directory")
        .arg(home.path());
    let running = Running::start(receiver);
    let (raw, _) = streaming(&proxy, server, "killed").await;
    wait_for_senders(server, "killed", 2).await;
    // Both while WAL flows.
    let flow = "create table flood as select repeat('x', 1000) from generate_series(1, 30000)";
    let flood = server.sql_in(&database.name, flow);
    let kill = async {
        running.signal(Signal::KILL);
        drop(raw);
    };
    tokio::join!(flood, kill).0.unwrap();
    assert_eq!(running.end().await.0, -1);
    wait_for_senders(server, "killed", 0).await;
    until("only the console is connected", async || {
        connections(proxy.pid()) == 1
    })
    .await;
}

#[tokio::test]
async fn a_walsender_that_is_killed_is_told_of_and_leaves_nothing_behind() {
    let server = start().await;
    let database = database(&server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut client, _) = streaming(&proxy, &server, "shot").await;
    let mut idle = idle(&proxy, &database.name).await;
    server.kill_backend(pid(&server, "shot").await);
    let words = last_words(&mut client).await;
    assert_eq!(brief(&words), "E08006", "{words:?}");
    // Postgres ends its other sessions for it, with a warning if it can.
    let words = brief(&last_words(&mut idle).await);
    assert!(["E08006", "N57P02 E08006"].contains(&&*words), "{words}");
    drop((client, idle));
    until("nobody is connected", async || {
        connections(proxy.pid()) == 0
    })
    .await;
    until("the server is back", async || {
        server.sql("select 1").await.is_ok()
    })
    .await;
    let (mut client, from) = streaming(&proxy, &server, "again").await;
    client.send(&status(from)).await;
    assert_eq!(senders(&server, "again").await, 1);
}

#[tokio::test]
async fn what_the_server_says_last_is_last() {
    let mut server = start().await;
    let database = database(&server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut ended, _) = streaming(&proxy, &server, "ended").await;
    let end = format!(
        "select pg_terminate_backend({})",
        pid(&server, "ended").await
    );
    server.sql(&end).await.unwrap();
    let words = last_words(&mut ended).await;
    assert_eq!(brief(&words), "E57P01");
    let text = words[0].field('M').unwrap();
    assert_eq!(text, "terminating connection due to administrator command");
    // A server that shuts down ends its streams when all is confirmed.
    let (mut client, _) = streaming(&proxy, &server, "shut").await;
    let streams = "select state from pg_stat_replication where application_name = 'shut'";
    until("it streams", async || {
        server.sql(streams).await.unwrap() == "streaming"
    })
    .await;
    let stopped = server.stop(Stop::Fast);
    let read = async {
        let mut words = Vec::new();
        while let Some(message) = client.next().await {
            if message.tag == 'd' && message.body[0] == b'w' {
                let start = u64::from_be_bytes(message.body[1..9].try_into().unwrap());
                let end = start + u64::try_from(message.body.len() - 25).unwrap();
                client.send(&status(end)).await;
            } else if message.tag != 'd' {
                words.push(message);
            }
        }
        words
    };
    let (stopped, words) = tokio::join!(stopped, read);
    stopped.unwrap();
    assert_eq!(brief(&words), "C", "{words:?}");
    assert_eq!(words[0].body, b"COPY 0\0");
}

/// A logical session that asks for nothing.
async fn idle(proxy: &Proxy, database: &str) -> Raw {
    let more = [("replication", "database"), ("application_name", "idle")];
    Raw::login(proxy.port(), "app", database, &more).await
}

#[tokio::test]
async fn a_drain_ends_streams_cleanly_and_lets_commands_and_transactions_end() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut client, from) = streaming(&proxy, server, "drained").await;
    let mut waiting = idle(&proxy, &database.name).await;
    let mut busy = idle(&proxy, &database.name).await;
    let mut block = idle(&proxy, &database.name).await;
    assert_eq!(block.ask(&Raw::query("begin")).await, "C ZT");
    busy.send(&Raw::query("select pg_sleep(1)")).await;
    let sleeping = "select count(*) from pg_stat_activity \
                    where application_name = 'idle' and wait_event = 'PgSleep'";
    until("it sleeps", async || {
        server.sql(sleeping).await.unwrap() == "1"
    })
    .await;
    let block = async {
        for expected in ["N57P01", "c"] {
            let word = past_data(&mut client).await;
            assert_eq!(brief(&[word]), expected);
        }
        // A report may come between, and is no answer.
        client.send(&status(from)).await;
        client.send(&Raw::framed(b'c', b"")).await;
        let words = last_words(&mut client).await;
        assert_eq!(brief(&words), "C Z", "{words:?}");
        assert_eq!(words[0].body, b"COPY 0\0");
        assert_eq!(brief(&last_words(&mut waiting).await), "E57P01");
        assert_eq!(block.ask(&Raw::query("commit")).await, "C ZI");
        assert_eq!(brief(&last_words(&mut block).await), "E57P01");
        assert_eq!(brief(&last_words(&mut busy).await), "T D C Z E57P01");
    };
    tokio::join!(stop(proxy), block);
    wait_for_senders(server, "drained", 0).await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_not_confirmed_to_who_does_not_agree_to_it() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut client, from) = streaming(&proxy, server, "hasty").await;
    let words = async {
        assert_eq!(brief(&[past_data(&mut client).await]), "N57P01");
        assert_eq!(brief(&[past_data(&mut client).await]), "c");
        client.send(&status(from)).await;
        client.send(&Raw::framed(b'X', b"")).await;
        assert_eq!(last_words(&mut client).await, []);
    };
    tokio::join!(stop(proxy), words);
}

#[tokio::test]
async fn who_does_not_come_to_an_end_is_ended_after_the_grace() {
    let server = server().await;
    let database = database(server).await;
    let grace = "[timeouts]\nshutdown = \"300ms\"\n";
    let proxy = Proxy::before(&database, grace).await;
    let mut busy = idle(&proxy, &database.name).await;
    let mut block = idle(&proxy, &database.name).await;
    assert_eq!(block.ask(&Raw::query("begin")).await, "C ZT");
    busy.send(&Raw::query("select pg_sleep(600)")).await;
    let words = async {
        assert_eq!(brief(&last_words(&mut busy).await), "E57P01");
        assert_eq!(brief(&last_words(&mut block).await), "E57P01");
    };
    tokio::join!(stop(proxy), words);
}

#[tokio::test]
async fn an_administrator_may_send_it_away() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut client, _) = streaming(&proxy, server, "sent_away").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let rows = console.simple_query("show clients").await.unwrap();
    let id = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) if row.get("replication") == Some("physical") => row.get("id"),
        _ => None,
    });
    let kill = format!("kill_client {}", id.expect("it is shown"));
    console.simple_query(&kill).await.unwrap();
    let words = last_words(&mut client).await;
    assert_eq!(brief(&words), "E57P01", "{words:?}");
    wait_for_senders(server, "sent_away", 0).await;
}

#[tokio::test]
async fn a_database_that_leaves_the_configuration_is_replicated_no_more() {
    let server = server().await;
    let (stays, goes) = (database(server).await, database(server).await);
    let both = format!(
        "[databases.{}]\nhosts = [\"127.0.0.1:{}\"]\n",
        goes.name, goes.port
    );
    let proxy = Proxy::before(&stays, &both).await;
    let mut kept = idle(&proxy, &stays.name).await;
    let mut ended = idle(&proxy, &goes.name).await;
    proxy.rewrite(&Config::before(&stays, ""));
    proxy.signal(Signal::HUP);
    let words = last_words(&mut ended).await;
    assert_eq!(brief(&words), "E57P01");
    assert_eq!(kept.one("select 'kept'").await, "kept");
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_so() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let mut client = idle(&proxy, &database.name).await;
    let pid = client.one("select pg_backend_pid()").await;
    client.send(b"d\0\0\0\x01").await;
    assert_eq!(brief(&last_words(&mut client).await), "E08P01");
    let lives = format!("select count(*) from pg_stat_activity where pid = {pid}");
    until("its server is free", async || {
        server.sql(&lives).await.unwrap() == "0"
    })
    .await;
}
