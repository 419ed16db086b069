//! What applications do with sqlx. Usage: pgherd-sqlx DATABASE_URL

use std::error::Error;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::types::time::{Date, OffsetDateTime};
use sqlx::types::{Json, Uuid};
use sqlx::{Acquire, Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

/// More connections than the proxy has servers.
const CLIENTS: i32 = 6;
/// A check that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

type Done = Result<(), Box<dyn Error + Send + Sync>>;

/// The SQLSTATE of an error, or what else it is.
fn code(error: &sqlx::Error) -> String {
    let told = error.as_database_error().and_then(|error| error.code());
    told.map_or_else(|| error.to_string(), |code| code.into_owned())
}

async fn values(pool: &PgPool) -> Done {
    let row: (String, i64, Option<i32>, bool, Vec<u8>, Vec<i32>, Uuid, Date) =
        sqlx::query_as("select $1::text, $2::int8, $3::int, $4::bool, $5::bytea, $6::int[], $7::uuid, $8::date")
            .bind("ü'\\")
            .bind(1_i64 << 62)
            .bind(None::<i32>)
            .bind(true)
            .bind([0_u8, 255].as_slice())
            .bind(vec![1, 2])
            .bind(Uuid::from_u128(7))
            .bind(Date::from_ordinal_date(2024, 60)?)
            .fetch_one(pool)
            .await?;
    println!("    {row:?}");
    let moment = OffsetDateTime::from_unix_timestamp(1_709_208_000)?;
    let seen: OffsetDateTime = sqlx::query_scalar("select $1::timestamptz").bind(moment).fetch_one(pool).await?;
    println!("    {}", seen == moment);
    pool.execute("create table herd (id bigserial primary key, name text, marks text[], about jsonb); select 1").await?;
    let herd = sqlx::query("insert into herd (name, marks, about) values ($1, $2, $3) returning *")
        .bind("north")
        .bind(vec!["a", "b\""])
        .bind(Json(vec![Some(1), None]))
        .fetch_one(pool)
        .await?;
    let about: Json<Vec<Option<i32>>> = herd.get("about");
    println!("    {} {:?} {:?}", herd.get::<i64, _>("id"), herd.get::<Vec<String>, _>("marks"), about.0);
    Ok(())
}

async fn prepared(pool: &PgPool) -> Done {
    pool.execute("create table prep (id int primary key, n int not null)").await?;
    pool.execute("insert into prep select i, 0 from generate_series(0, 5) i").await?;
    let turns = (0..CLIENTS).map(|me| async move {
        let ask = format!("select n + {me} from prep where id = $1");
        let mut last: i32 = 0;
        for _ in 0..15 {
            let mut block = pool.begin().await?;
            sqlx::query("update prep set n = n + 1 where id = $1").bind(me).execute(&mut *block).await?;
            last = sqlx::query_scalar(&ask).bind(me).fetch_one(&mut *block).await?;
            block.commit().await?;
        }
        Ok::<_, sqlx::Error>(last)
    });
    println!("    {:?}", try_join_all(turns).await?);
    // Few of its own: it closes statements all the time.
    let mut client = PgConnection::connect_with(&pool.connect_options().as_ref().clone().statement_cache_capacity(3)).await?;
    for turn in 0..3 {
        for number in 0..8 {
            let text = format!("select {number}, $1::int");
            let row = sqlx::query(&text).bind(turn).fetch_one(&mut client).await?;
            assert_eq!((row.get::<i32, _>(0), row.get::<i32, _>(1)), (number, turn));
        }
    }
    client.clear_cached_statements().await?;
    client.close().await?;
    Ok(())
}

async fn transactions(pool: &PgPool) -> Done {
    pool.execute("create table trans (n int unique)").await?;
    let mut outer = pool.begin().await?;
    outer.execute("insert into trans values (1)").await?;
    let mut inner = outer.begin().await?;
    println!("    {}", code(&inner.execute("insert into trans values (1)").await.unwrap_err()));
    println!("    {}", code(&inner.execute("select 1").await.unwrap_err()));
    inner.rollback().await?;
    outer.execute("insert into trans values (2)").await?;
    outer.commit().await?;
    // One that is dropped is rolled back before its connection is used again.
    let mut dropped = pool.begin().await?;
    dropped.execute("insert into trans values (3)").await?;
    drop(dropped);
    let count: i64 = sqlx::query_scalar("select count(*) from trans").fetch_one(pool).await?;
    println!("    {count}");
    for wrong in ["select 1/0", "selekt", "select * from nowhere"] {
        println!("    {}", code(&sqlx::query(wrong).execute(pool).await.unwrap_err()));
    }
    Ok(())
}

async fn rows(pool: &PgPool) -> Done {
    let sums = (0..CLIENTS).map(|me| async move {
        let many = sqlx::query("select n, repeat($1, 1000) from generate_series(1, 3000) n").bind(me.to_string());
        let sum = many.fetch(pool).try_fold(0, async |sum, row| {
            assert_eq!(row.get::<String, _>(1), me.to_string().repeat(1000));
            Ok(sum + row.get::<i32, _>(0))
        });
        sum.await
    });
    println!("    {:?}", try_join_all(sums).await?);
    // The rest is not read.
    let mut some = sqlx::query("select generate_series(1, 100000)").fetch(pool);
    let first = some.next().await.transpose()?.map(|row| row.get::<i32, _>(0));
    drop(some);
    println!("    {first:?}");
    Ok(())
}

async fn copies(pool: &PgPool) -> Done {
    pool.execute("create table cp (n int, t text)").await?;
    let mut sink = pool.copy_in_raw("copy cp from stdin").await?;
    for n in 0..2000 {
        sink.send(format!("{n}\tsome text\n").as_bytes()).await?;
    }
    println!("    {}", sink.finish().await?);
    let out = pool.copy_out_raw("copy (select t from cp) to stdout").await?;
    let bytes = out.try_fold(0, async |sum, part| Ok(sum + part.len())).await?;
    println!("    {bytes}");
    let mut bad = pool.copy_in_raw("copy cp from stdin").await?;
    bad.send(&b"x\ty\n"[..]).await?;
    println!("    {}", code(&bad.finish().await.unwrap_err()));
    let count: i64 = sqlx::query_scalar("select count(*) from cp").fetch_one(pool).await?;
    println!("    {count}");
    Ok(())
}

async fn notifications(pool: &PgPool) -> Done {
    let mut ear = PgListener::connect_with(pool).await?;
    ear.listen_all(["news", "other"]).await?;
    sqlx::query("select pg_notify('news', $1)").bind("first").execute(pool).await?;
    let mut block = pool.begin().await?;
    block.execute("notify other, 'second'").await?;
    block.commit().await?;
    for _ in 0..2 {
        let note = ear.recv().await?;
        println!("    {} {}", note.channel(), note.payload());
    }
    ear.unlisten_all().await?;
    Ok(())
}

async fn timeouts(pool: &PgPool) -> Done {
    let patient: PgConnectOptions = pool.connect_options().as_ref().clone();
    let patient = patient.options([("statement_timeout", "150")]).application_name("patient");
    let mut client = PgConnection::connect_with(&patient).await?;
    println!("    {}", code(&client.execute("select pg_sleep(20)").await.unwrap_err()));
    let shown: String = sqlx::query_scalar("show application_name").fetch_one(&mut client).await?;
    println!("    {shown}");
    client.close().await?;
    Ok(())
}

async fn lost(pool: &PgPool) -> Done {
    pool.execute("create table lost (n int)").await?;
    let mut block = pool.begin().await?;
    block.execute("insert into lost values (1)").await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *block).await?;
    let gone: bool = sqlx::query_scalar("select pg_terminate_backend($1, 5000)").bind(pid).fetch_one(pool).await?;
    println!("    {gone} {}", block.execute("insert into lost values (2)").await.is_err());
    drop(block);
    pool.execute("insert into lost values (3)").await?;
    let sum: i64 = sqlx::query_scalar("select sum(n) from lost").fetch_one(pool).await?;
    println!("    {sum}");
    Ok(())
}

async fn checked(name: &str, check: impl Future<Output = Done>) -> Done {
    println!("{name} ...");
    timeout(PATIENCE, check).await?
}

#[tokio::main]
async fn main() -> Done {
    let url = std::env::args().nth(1).ok_or("a URL is needed")?;
    let pool = PgPoolOptions::new().max_connections(CLIENTS.unsigned_abs()).connect(&url).await?;
    checked("values", values(&pool)).await?;
    checked("prepared statements", prepared(&pool)).await?;
    checked("transactions and savepoints", transactions(&pool)).await?;
    checked("rows", rows(&pool)).await?;
    checked("copy", copies(&pool)).await?;
    checked("notifications", notifications(&pool)).await?;
    checked("timeouts", timeouts(&pool)).await?;
    checked("work goes on after the server was lost", lost(&pool)).await?;
    pool.close().await;
    Ok(())
}
