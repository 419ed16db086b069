//! The function call protocol, which libpq uses for large objects.

use std::fs;

use pgherd_sandbox::{Account, Home};
use pgherd_tests::{Database, Message, Proxy, Raw, run, server};

/// A FunctionCall with binary arguments and a binary result.
fn call(function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend(u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(*argument);
    }
    body.extend([0, 1]);
    Raw::framed(b'F', &body)
}

/// The result of a call, which must have succeeded.
fn result(messages: &[Message]) -> Vec<u8> {
    let value = messages.iter().find(|message| message.tag == 'V');
    let value = value.unwrap_or_else(|| panic!("{messages:?}"));
    value.body[4..].to_vec()
}

async fn ask(client: &mut Raw, function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    client.send(&call(function, arguments)).await;
    result(&client.ready().await)
}

async fn number(client: &mut Raw, function: &str) -> u32 {
    let question = format!("select '{function}'::regproc::oid");
    client.one(&question).await.parse().unwrap()
}

const READ_AND_WRITE: [u8; 4] = 0x0006_0000_u32.to_be_bytes();

#[tokio::test]
async fn large_objects_are_written_and_read_by_calls_while_others_use_the_pool() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut other = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut functions = Vec::new();
    for name in [
        "lo_creat", "lo_open", "lowrite", "lo_lseek", "loread", "lo_close",
    ] {
        functions.push(number(&mut client, name).await);
    }
    let [create, open, write, seek, read, close] = functions[..] else {
        panic!("six functions");
    };
    // Outside of a block it is a transaction of its own, after which the server is free.
    let object = ask(&mut client, create, &[&READ_AND_WRITE]).await;
    assert_eq!(other.one("select 1").await, "1");
    let value: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_be_bytes()[3]).collect();
    assert_eq!(client.ask(&Raw::query("begin read write")).await, "C ZT");
    let descriptor = ask(&mut client, open, &[&object, &READ_AND_WRITE]).await;
    let written = ask(&mut client, write, &[&descriptor, &value]).await;
    assert_eq!(written, 3_000_000_u32.to_be_bytes());
    assert_eq!(other.one("select 1").await, "1");
    ask(&mut client, seek, &[&descriptor, &[0; 4], &[0; 4]]).await;
    let answer = ask(&mut client, read, &[&descriptor, &written]).await;
    assert!(answer == value, "other bytes came back");
    ask(&mut client, close, &[&descriptor]).await;
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    let size = "select sum(length(data)) from pg_largeobject";
    assert_eq!(other.one(size).await, "3000000");
}

#[tokio::test]
async fn postgres_and_pgherd_answer_calls_alike() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut answers = Vec::new();
    for port in [proxy.port(), database.port] {
        let mut client = Raw::login(port, "app", &database.name, &[]).await;
        let abs = number(&mut client, "pg_catalog.int4abs").await;
        let good = call(abs, &[&(-7_i32).to_be_bytes()]);
        let mut said = Vec::new();
        for bytes in [
            good.clone(),
            call(1, &[]),
            call(abs, &[]),
            call(abs, &[b"short"]),
            Raw::query("begin read write"),
            good.clone(),
            call(1, &[]),
            good.clone(),
            Raw::query("rollback"),
            // Calls in a row are answered in a row.
            [good.clone(), good.clone(), Raw::query("select 1")].concat(),
        ] {
            said.push(client.ask(&bytes).await);
        }
        said.push(client.ask(&[]).await);
        said.push(client.ask(&[]).await);
        // A Sync that was not owed.
        said.push(client.ask(&[good, Raw::sync()].concat()).await);
        said.push(client.ask(&[]).await);
        answers.push(said);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0][0], "V ZI");
    assert_eq!(answers[0][7], "E25P02 ZE");
}

#[tokio::test]
async fn psql_imports_and_exports_large_objects() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let home = Home::new(Account::choose()).unwrap();
    let value: Vec<u8> = (0..100_000_u32).map(|at| at.to_be_bytes()[3]).collect();
    let (from, to) = (home.join("from"), home.join("to"));
    fs::write(&from, &value).unwrap();
    let mut psql = server().await.client("psql").unwrap();
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .arg(proxy.url("app", &database.name));
    let script = format!(
        "\\lo_import {}\n\\lo_export :LASTOID {}\n\\lo_unlink :LASTOID\n",
        from.display(),
        to.display()
    );
    run(psql, &script).await.success();
    assert!(fs::read(&to).unwrap() == value, "other bytes came back");
}
