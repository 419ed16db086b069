//! What a client may ask, each with the check of what it must be answered.

use bytes::Bytes;
use futures_util::future::join3;
use futures_util::{SinkExt as _, TryStreamExt as _, pin_mut};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio_postgres::{Error, SimpleQueryMessage};

use super::guest::Guest;
use crate::checks::identity::{Cancels, Identity, is_cancel};

/// Does one of the acts below.
pub(super) async fn any(
    guest: &mut Guest,
    rng: &mut StdRng,
    identity: &Identity,
) -> Result<(), Error> {
    let size = rng.random_range(1..200);
    match rng.random_range(0..13) {
        0 => simple(guest, identity).await,
        1 => extended(guest, identity).await,
        2 | 3 => prepared(guest, identity).await,
        4 => error(guest, identity).await,
        5 => notice(guest, identity).await,
        6 => copy_in(guest, identity, size).await,
        // Whether a cancel came before the breaking off, the driver does not tell.
        7 if guest.cancels == Cancels::Never => copy_broken_off(guest, identity, size).await,
        8 => copy_out(guest, identity, size * 10).await,
        9 => pipeline(guest, identity).await,
        10 => transaction(guest, identity, size).await,
        11 => slow(guest, identity).await,
        _ => large(guest, identity, size * 50).await,
    }
}

/// Several statements in one message.
async fn simple(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let token = guest.token();
    let sql = format!("select '{token}'; select current_setting('application_name')");
    let messages = guest.client.simple_query(&sql).await?;
    let rows: Vec<_> = messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    identity.answer(&guest.name, &token, rows.first().and_then(|row| row.get(0)));
    identity.answer(
        &guest.name,
        &guest.name,
        rows.get(1).and_then(|row| row.get(0)),
    );
    Ok(())
}

/// Prepared, used and closed at once, with a text of its own.
async fn extended(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let token = guest.token();
    let sql = format!("select '{token}', $1::text, current_setting('application_name')");
    let row = guest.client.query_one(&sql, &[&token]).await?;
    identity.answer(&guest.name, &token, row.get(0));
    identity.answer(&guest.name, &token, row.get(1));
    identity.answer(&guest.name, &guest.name, row.get(2));
    Ok(())
}

/// Prepared once for the connection, with a text that all clients have.
async fn prepared(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let statement = match &guest.prepared {
        Some(statement) => statement.clone(),
        None => {
            let sql = "select $1::text, current_setting('application_name')";
            guest.client.prepare(sql).await?
        }
    };
    guest.prepared = Some(statement.clone());
    let token = guest.token();
    let row = guest.client.query_one(&statement, &[&token]).await?;
    identity.answer(&guest.name, &token, row.get(0));
    identity.answer(&guest.name, &guest.name, row.get(1));
    Ok(())
}

/// The error carries who asked.
async fn error(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let token = guest.token();
    let sql = format!("do $$ begin raise exception '{token}' using errcode = 'ZZ001'; end $$");
    match guest.client.batch_execute(&sql).await {
        Ok(()) => identity.fault(format!("{token} did not fail")),
        Err(error) if error.code().is_some_and(|code| code.code() == "ZZ001") => {
            identity.answer(
                &guest.name,
                &token,
                error.as_db_error().map(|error| error.message()),
            );
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The notice carries who asked, and comes before the statement's end.
async fn notice(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let token = guest.token();
    let sql = format!("do $$ begin raise notice '{token}'; end $$");
    guest.client.batch_execute(&sql).await?;
    let heard = guest.hear(identity);
    identity.answer(&guest.name, &token, heard.last().map(String::as_str));
    Ok(())
}

/// What was copied in is there, as often as it was sent.
async fn copy_in(guest: &mut Guest, identity: &Identity, rows: usize) -> Result<(), Error> {
    let token = guest.token();
    guest.astray = true;
    let sink = guest.client.copy_in("copy canary from stdin").await?;
    pin_mut!(sink);
    for _ in 0..rows {
        sink.send(Bytes::from(format!("{token}\n"))).await?;
    }
    let copied = sink.finish().await?;
    guest.astray = false;
    identity.answer(&guest.name, &rows.to_string(), Some(&copied.to_string()));
    forget(guest, identity, &token, rows).await
}

/// A COPY that the client breaks off leaves nothing behind, and nobody out of step.
async fn copy_broken_off(guest: &mut Guest, identity: &Identity, rows: usize) -> Result<(), Error> {
    let token = guest.token();
    {
        let sink = guest.client.copy_in("copy canary from stdin").await?;
        pin_mut!(sink);
        for _ in 0..rows {
            sink.send(Bytes::from(format!("{token}\n"))).await?;
        }
    }
    forget(guest, identity, &token, 0).await
}

/// Counts the rows of a token and removes them.
async fn forget(
    guest: &Guest,
    identity: &Identity,
    token: &str,
    expected: usize,
) -> Result<(), Error> {
    let gone = guest
        .client
        .execute("delete from canary where token = $1", &[&token])
        .await?;
    identity.answer(
        &guest.name,
        &format!("{token} {expected}"),
        Some(&format!("{token} {gone}")),
    );
    Ok(())
}

/// Every line is ours.
async fn copy_out(guest: &mut Guest, identity: &Identity, rows: usize) -> Result<(), Error> {
    let token = guest.token();
    let sql = format!("copy (select '{token}' from generate_series(1, {rows})) to stdout");
    let stream = guest.client.copy_out(&sql).await?;
    pin_mut!(stream);
    let mut text = Vec::new();
    while let Some(bytes) = stream.try_next().await? {
        text.extend_from_slice(&bytes);
    }
    let expected = format!("{token}\n").repeat(rows);
    identity.answer(&guest.name, &expected, std::str::from_utf8(&text).ok());
    Ok(())
}

/// Three questions under way at once, the middle one wrong.
async fn pipeline(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let (first, third) = (guest.token(), guest.token());
    let sql = "select $1::text";
    let (one, two, three) = join3(
        guest.client.query_one(sql, &[&first]),
        guest.client.batch_execute("select 1 / 0"),
        guest.client.query_one(sql, &[&third]),
    )
    .await;
    match two {
        Ok(()) => identity.fault(format!("{first} divided by zero")),
        Err(error) if error.code().is_some_and(|code| code.code() == "22012") => {}
        Err(error) => return Err(error),
    }
    identity.answer(&guest.name, &first, one?.get(0));
    identity.answer(&guest.name, &third, three?.get(0));
    Ok(())
}

/// What is done in a transaction is seen in it, and gone after its ROLLBACK.
async fn transaction(guest: &mut Guest, identity: &Identity, rows: usize) -> Result<(), Error> {
    let token = guest.token();
    guest.client.batch_execute("begin").await?;
    let inside = inside(guest, identity, &token, rows).await;
    // A late cancel may hit the ROLLBACK, too.
    while let Err(error) = guest.client.batch_execute("rollback").await {
        if guest.cancels == Cancels::Never || !is_cancel(&error) {
            return Err(error);
        }
    }
    inside?;
    forget(guest, identity, &token, 0).await
}

async fn inside(guest: &Guest, identity: &Identity, token: &str, rows: usize) -> Result<(), Error> {
    let client = &guest.client;
    let place = client
        .query_one("select pg_backend_pid()::text", &[])
        .await?;
    let insert = "insert into canary select $1 from generate_series(1, $2)";
    client.execute(insert, &[&token, &number(rows)]).await?;
    let again = client
        .query_one("select pg_backend_pid()::text", &[])
        .await?;
    identity.answer(&guest.name, place.get(0), again.get(0));
    let sql = "select count(*)::text from canary where token = $1";
    let row = client.query_one(sql, &[&token]).await?;
    identity.answer(&guest.name, &rows.to_string(), row.get(0));
    Ok(())
}

/// An answer that takes its time, so that a cancel finds it running.
async fn slow(guest: &mut Guest, identity: &Identity) -> Result<(), Error> {
    let token = guest.token();
    let sql = "select $1::text from pg_sleep(0.01)";
    let row = guest.client.query_one(sql, &[&token]).await?;
    identity.answer(&guest.name, &token, row.get(0));
    Ok(())
}

/// An answer of many packets.
async fn large(guest: &mut Guest, identity: &Identity, times: usize) -> Result<(), Error> {
    let token = guest.token();
    let row = guest
        .client
        .query_one("select repeat($1, $2)", &[&token, &number(times)])
        .await?;
    identity.answer(&guest.name, &token.repeat(times), row.get(0));
    Ok(())
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
