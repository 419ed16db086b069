//! Conversations in the notation of the protocol manual, which Postgres and pgherd must lead alike.
//!
//! `F` lines that follow each other are sent in one write; each `B` line is one message. Notices
//! and ParameterStatus are passed over. A text stands in double quotes, with `\n` for a line's end.

use std::time::Duration;

use pgherd_tests::{Database, Message, Proxy, Raw, until};
use tokio::time::timeout;

use super::drivers::noise::Noise;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

const TRANSCRIPTS: &[(&str, &str)] = &[
    ("simple", include_str!("transcripts/simple.txt")),
    ("extended", include_str!("transcripts/extended.txt")),
    ("errors", include_str!("transcripts/errors.txt")),
    ("portals", include_str!("transcripts/portals.txt")),
    ("statements", include_str!("transcripts/statements.txt")),
    ("copy", include_str!("transcripts/copy.txt")),
    ("transactions", include_str!("transcripts/transactions.txt")),
    ("pipelines", include_str!("transcripts/pipelines.txt")),
    ("prepare", include_str!("transcripts/prepare.txt")),
    ("functions", include_str!("transcripts/functions.txt")),
];

/// Splits a line into words and quoted texts.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.replace("\\n", "\n"));
        rest = after.trim_start();
    }
    words
}

/// Makes a frontend message of its name and its fields.
fn frontend(line: &str) -> Vec<u8> {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let kind = |word: &str| word.chars().next().expect("S or P");
    match words.as_slice() {
        ["Query", text] => Raw::query(text),
        ["Parse", name, text] => Raw::parse(name, text),
        ["Bind", portal, statement, values @ ..] => Raw::bind(portal, statement, values),
        ["Describe", what, name] => Raw::describe(kind(what), name),
        ["Close", what, name] => Raw::close(kind(what), name),
        ["Execute", portal, rows] => Raw::execute(portal, rows.parse().expect("a number")),
        ["Sync"] => Raw::sync(),
        ["Flush"] => Raw::flush(),
        ["FunctionCall", number, values @ ..] => call(number.parse().expect("a number"), values),
        ["CopyData", text] => Raw::framed(b'd', text.as_bytes()),
        ["CopyDone"] => Raw::framed(b'c', b""),
        ["CopyFail", text] => Raw::framed(b'f', format!("{text}\0").as_bytes()),
        other => panic!("unknown message: {other:?}"),
    }
}

/// Makes a FunctionCall with values and a result in text.
fn call(number: u32, values: &[&str]) -> Vec<u8> {
    let count = u16::try_from(values.len()).expect("few values");
    let mut body = number.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(count.to_be_bytes());
    for value in values {
        let length = u32::try_from(value.len()).expect("a short value");
        body.extend(length.to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend([0, 0]);
    Raw::framed(b'F', &body)
}

/// Writes a backend message down as the transcripts do.
fn backend(message: &Message) -> String {
    let text = || {
        String::from_utf8_lossy(&message.body)
            .trim_end_matches('\0')
            .replace('\n', "\\n")
    };
    match message.tag {
        '1' => "ParseComplete".to_owned(),
        '2' => "BindComplete".to_owned(),
        '3' => "CloseComplete".to_owned(),
        'C' => format!("CommandComplete \"{}\"", text()),
        'D' => format!("DataRow \"{}\"", message.columns().join("\" \"")),
        'E' => format!("ErrorResponse {}", message.field('C').unwrap_or_default()),
        'G' => "CopyInResponse".to_owned(),
        'H' => "CopyOutResponse".to_owned(),
        'I' => "EmptyQueryResponse".to_owned(),
        'T' => "RowDescription".to_owned(),
        'V' => {
            let value = message.body.get(4..).unwrap_or_default();
            format!(
                "FunctionCallResponse \"{}\"",
                String::from_utf8_lossy(value)
            )
        }
        'Z' => format!("ReadyForQuery {}", char::from(message.body[0])),
        'c' => "CopyDone".to_owned(),
        'd' => format!("CopyData \"{}\"", text()),
        'n' => "NoData".to_owned(),
        's' => "PortalSuspended".to_owned(),
        't' => "ParameterDescription".to_owned(),
        other => format!("unknown message {other}"),
    }
}

async fn replay(whom: &str, text: &str, mut client: Raw) {
    let mut pending = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.split_once(' ') {
            Some(("F", message)) => pending.extend(frontend(message)),
            Some(("B", expected)) => {
                client.send(&std::mem::take(&mut pending)).await;
                let said = async {
                    loop {
                        let message = client.message().await;
                        if !['N', 'S'].contains(&message.tag) {
                            break backend(&message);
                        }
                    }
                };
                let said = timeout(PATIENCE, said).await;
                let said = said.unwrap_or_else(|_| panic!("{whom}, line {number}: silence"));
                assert_eq!(said, expected, "{whom}, line {number}");
            }
            _ => assert!(
                line.is_empty() || line.starts_with('#'),
                "line {number}: {line}"
            ),
        }
    }
}

#[tokio::test]
async fn postgres_and_pgherd_say_the_same() {
    for (name, text) in TRANSCRIPTS {
        for through in [false, true] {
            let database = Database::new().await;
            let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
            let port = if through { proxy.port() } else { database.port };
            let client = Raw::login(port, "app", &database.name, &[]).await;
            let whom = if through { "pgherd" } else { "Postgres" };
            replay(&format!("{name}.txt, {whom}"), text, client).await;
        }
    }
}

/// Where others use the same two servers meanwhile, and change what a server remembers.
#[tokio::test]
async fn pgherd_says_the_same_among_others() {
    for (name, text) in TRANSCRIPTS {
        let database = Database::new().await;
        let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
        let noise = Noise::begin(&proxy.url("app", &database.name));
        until("both servers are there", async || {
            database.backends("app").await == 2
        })
        .await;
        let client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        replay(&format!("{name}.txt, pgherd among others"), text, client).await;
        noise.end().await;
    }
}
