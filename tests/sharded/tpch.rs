//! TPC-H through the executable: its own rows, copied in through pgherd into four shards, and all its questions,
//! each answered to the byte as by one server.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt as _, stream};
use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect};
use pgherd_tpch::{FORMAT, INDEXES, LEAST, Rows, TABLES, Table, questions};

const SHARDING: &str = "
    tables = [
        { name = \"customer\", key = \"c_custkey\" },
        { name = \"orders\", key = \"o_orderkey\" },
        { name = \"lineitem\", key = \"l_orderkey\" },
    ]
    replicated = [\"region\", \"nation\", \"supplier\", \"part\", \"partsupp\"]";

/// As many lines go in one message.
const LINES: usize = 200;

async fn shards() -> Vec<Database> {
    let mut shards = Vec::new();
    for _ in 0..4 {
        let shard = Database::new().await;
        shard.sql(TABLES).await;
        shards.push(shard);
    }
    shards
}

async fn proxy(shards: &[Database]) -> Proxy {
    let mut text = String::from(
        "[listen]\naddresses = [\"127.0.0.1:{port}\"]\n\
         [auth]\nmethod = \"trust\"\n\
         [log]\nstats_every = 0\n\
         [users.app]\npassword = \"app\"\n",
    );
    for Database { name, port } in shards {
        text.push_str(&format!(
            "[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
        ));
    }
    let names: Vec<String> = shards.iter().map(|it| format!("{:?}", it.name)).collect();
    let names = names.join(", ");
    Proxy::start(&Config::text(format!(
        "{text}[databases.trade]\nshards = [{names}]\n[databases.trade.sharding]\n{SHARDING}\n"
    )))
    .await
}

/// Copies the rows of a table, and tells how many there were.
async fn copy(client: &Client, rows: &Rows, table: Table) -> u64 {
    let query = format!("copy {} from stdin {FORMAT}", table.name());
    let mut sink = pin!(client.copy_in(query.as_str()).await.unwrap());
    let lines: Vec<String> = rows.lines(table).collect();
    let pieces = lines
        .chunks(LINES)
        .map(|some| Ok(Bytes::from(some.concat())));
    sink.send_all(&mut stream::iter(pieces)).await.unwrap();
    sink.finish().await.unwrap()
}

/// What a query gives, in the words of the protocol: descriptions but for the tables of columns, and rows.
async fn answer(raw: &mut Raw, query: &str) -> Vec<String> {
    raw.send(&Raw::query(query)).await;
    let messages = raw.ready().await;
    let told = messages.iter().map(|message| match message.tag {
        'D' => message.columns().join("|"),
        'T' => names(&message.body).join("|"),
        'E' => format!("{:?} {:?}", message.field('C'), message.field('M')),
        tag => tag.to_string(),
    });
    told.collect()
}

/// The names of columns, with the numbers of their types.
fn names(mut body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    body = &body[2..];
    while let Some(end) = body.iter().position(|byte| *byte == 0) {
        let (name, rest) = body.split_at(end);
        let kind = u32::from_be_bytes(rest[7..11].try_into().unwrap());
        found.push(format!("{} {kind}", String::from_utf8_lossy(name)));
        body = &rest[19..];
    }
    found
}

#[tokio::test]
async fn all_questions_of_tpc_h_are_answered_as_by_one_server() {
    let rows = Rows::short(LEAST);
    let whole = Database::new().await;
    whole.sql(TABLES).await;
    let shards = shards().await;
    let proxy = proxy(&shards).await;
    let direct = connect(&whole.url("app")).await;
    let spread = connect(&proxy.url("app", "trade")).await;
    for table in Table::ALL {
        let expected = copy(&direct, &rows, table).await;
        assert_eq!(copy(&spread, &rows, table).await, expected, "{table:?}");
    }
    for database in shards.iter().chain([&whole]) {
        database.sql(INDEXES).await;
        database.sql("analyze").await;
    }
    let counted = "select count(*) from lineitem";
    for shard in &shards {
        let lines: u64 = shard.sql(counted).await.parse().unwrap();
        assert!(lines > 10_000, "{lines} on one shard");
    }
    let mut raw = Raw::login(whole.port, "app", &whole.name, &[]).await;
    let mut through = Raw::login(proxy.port(), "app", "trade", &[]).await;
    for (at, question) in questions(LEAST).iter().enumerate() {
        let expected = answer(&mut raw, question).await;
        // The description, the tag and the end are three messages; a NULL would be one row of nothing.
        assert!(expected.len() > 3, "{} shows nothing", at + 1);
        assert_eq!(answer(&mut through, question).await, expected, "{}", at + 1);
    }
}
