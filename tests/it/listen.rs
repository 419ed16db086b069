//! LISTEN in transaction mode, over the one connection of a herald.

mod crowd;
mod losses;
mod meaning;
mod slow;

use pgherd_tests::{Client, Database, Message, Proxy, Raw, until};
use tokio_postgres::SimpleQueryMessage;

/// A notification: from whom, where, and what.
type Note = (u32, String, String);

/// Takes a notification apart.
fn note(message: &Message) -> Note {
    assert_eq!(message.tag, 'A', "{message:?}");
    let from = u32::from_be_bytes(message.body[..4].try_into().unwrap());
    let mut words = message.body[4..].split(|byte| *byte == 0);
    let mut word = || String::from_utf8_lossy(words.next().unwrap()).into_owned();
    (from, word(), word())
}

/// Waits for the next notification of an idle client.
async fn next(client: &mut Raw) -> Note {
    note(&client.message().await)
}

/// Sends a simple query and gives the payloads of the notifications before its ReadyForQuery.
async fn heard(client: &mut Raw, query: &str) -> Vec<String> {
    client.send(&Raw::query(query)).await;
    let messages = client.ready().await;
    assert!(
        messages.iter().all(|message| message.tag != 'E'),
        "{query}: {messages:?}"
    );
    let notes = messages.iter().filter(|message| message.tag == 'A');
    notes.map(|message| note(message).2).collect()
}

/// A statement's messages up to its Sync.
fn part(text: &str) -> Vec<u8> {
    let parts = [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ];
    parts.concat()
}

/// Sends all at once, and gives the answers one by one.
async fn at_once(client: &mut Raw, messages: &[Vec<u8>], answers: usize) -> Vec<String> {
    client.send(&messages.concat()).await;
    let mut all = Vec::new();
    for _ in 0..answers {
        all.push(client.ask(&[]).await);
    }
    all
}

/// A proxy with two server connections, and its database.
async fn house() -> (Proxy, Database) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    (proxy, database)
}

async fn enter(proxy: &Proxy, database: &Database) -> Raw {
    Raw::login(proxy.port(), "app", &database.name, &[]).await
}

/// The herald's process on the server: the one that listens.
async fn herald(database: &Database) -> String {
    let question = "select pid from pg_stat_activity where datname = current_database() \
                    and application_name = 'pgherd herald'";
    let mut pid = String::new();
    until("somebody listens", async || {
        pid = database.sql(question).await;
        !pid.is_empty()
    })
    .await;
    pid
}

/// What the console shows of the only pool that listens.
async fn shown(console: &Client, column: &str) -> String {
    let shown = console.simple_query("show listeners").await.unwrap();
    let row = shown.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap().get(column).unwrap().to_owned()
}
