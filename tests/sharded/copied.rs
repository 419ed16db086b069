//! `COPY … TO STDOUT` of what is on several shards: each byte is that which one Postgres with all rows gives.

use std::collections::BTreeMap;

use pgherd_tests::{Database, Message, Raw};

use crate::line::{COLLECTIONS, Mode, line, with};
use crate::pull::{JOIN, filled, nothing_is_left};
use crate::rig::{Rig, key, keys};
use crate::spread::Spread;
use crate::world::Buckets;

/// What stands before the rows in the binary format, without extensions.
const HEAD: usize = 19;

const OPTIONS: [&str; 4] = [
    "",
    " (format csv, header)",
    " (format csv, delimiter ';', null 'o', quote '''', escape 'a', force_quote *)",
    " (format binary)",
];

/// What is said in a block of what is grouped by a key alone.
const KEYLESS: &str = "GROUP BY of a primary key alone is not supported in a transaction";

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Simple,
    Extended,
    Block,
}

/// What a COPY gives: the CopyOutResponse, what stands before the rows, these, and the tag.
type Outcome = Result<(Vec<u8>, Vec<u8>, Vec<Vec<u8>>, Vec<u8>), (String, String)>;

fn sent(text: &str, form: Form) -> Vec<u8> {
    match form {
        Form::Simple | Form::Block => Raw::query(text),
        Form::Extended => [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::describe('P', ""),
            Raw::execute("", 0),
            Raw::sync(),
        ]
        .concat(),
    }
}

fn outcome(messages: &[Message], is_binary: bool) -> Outcome {
    if let Some(error) = messages.iter().find(|message| message.tag == 'E') {
        let field = |name| error.field(name).unwrap_or_default();
        return Err((field('C'), field('M')));
    }
    let of = |tag| messages.iter().filter(move |message| message.tag == tag);
    let body = |tag| of(tag).map(|message| message.body.clone()).next();
    let mut rows: Vec<Vec<u8>> = of('d').map(|message| message.body.clone()).collect();
    let mut head = Vec::new();
    if is_binary {
        let first = rows.first_mut().unwrap();
        head = first.drain(..HEAD).collect();
    }
    assert_eq!(of('c').count(), 1, "{messages:?}");
    Ok((body('H').unwrap(), head, rows, body('C').unwrap()))
}

async fn copied(raw: &mut Raw, text: &str, form: Form) -> Outcome {
    if form == Form::Block {
        raw.ask(&Raw::query("begin")).await;
    }
    raw.send(&sent(text, form)).await;
    let messages = raw.ready().await;
    if form == Form::Block {
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    outcome(&messages, text.contains("binary"))
}

#[derive(Default)]
struct Tally {
    right: usize,
    failed: usize,
    refused: BTreeMap<String, Vec<String>>,
    wrong: Vec<String>,
}

impl Tally {
    fn take(&mut self, text: &str, form: Form, mode: Mode, expected: Outcome, given: Outcome) {
        let (one, two) = match (expected, given) {
            (Err(_), Err(_)) => {
                self.failed += 1;
                return;
            }
            (Ok(_), Err((code, said))) if code == "0A000" => {
                let reason = said.split(": ").last().unwrap_or_default().to_owned();
                let shown = format!("{form:?} {text}");
                self.refused.entry(reason).or_default().push(shown);
                return;
            }
            (Ok(one), Ok(two)) => (one, two),
            (one, two) => {
                let shown = format!("{form:?} {text}\n  {one:?}\n  {two:?}");
                self.wrong.push(shown);
                return;
            }
        };
        let (mut one, mut two) = (one, two);
        if mode != Mode::Sequence {
            one.2.sort();
            two.2.sort();
        }
        let same = match mode {
            Mode::Count => one.2.len() == two.2.len(),
            Mode::Bag | Mode::Sequence => one == two,
        };
        match same {
            true => self.right += 1,
            false => {
                let shown = |it: &[Vec<u8>]| {
                    let rows = it.iter().map(|row| row.escape_ascii().to_string());
                    rows.collect::<Vec<_>>().join("")
                };
                self.wrong.push(format!(
                    "{form:?} {text}\n  {:?} {}\n  {:?} {}",
                    (&one.0, &one.1, &one.3),
                    shown(&one.2),
                    (&two.0, &two.1, &two.3),
                    shown(&two.2)
                ));
            }
        }
    }
}

/// A query that is refused by itself is refused as a part of a COPY.
async fn is_answered(raw: &mut Raw, query: &str, form: Form) -> bool {
    if form == Form::Block {
        raw.ask(&Raw::query("begin")).await;
    }
    let told = raw.ask(&sent(query, form)).await;
    if form == Form::Block {
        raw.ask(&Raw::query("rollback")).await;
    }
    !told.contains('E')
}

#[tokio::test]
async fn no_copy_of_a_query_gives_another_byte_than_one_server() {
    let mut both = Spread::new(3, Buckets::Even, &[]).await;
    let mut tally = Tally::default();
    let mut unexpected = Vec::new();
    let lines = COLLECTIONS.iter().flat_map(|text| text.lines());
    for (at, line) in lines.filter_map(line).enumerate() {
        let query = with(line.query, &line.values);
        for (options, forms) in [
            (OPTIONS[at % 3], &[Form::Simple][..]),
            (OPTIONS[(at + 1) % 3], &[Form::Block]),
            (OPTIONS[(at + 2) % 3], &[Form::Extended]),
            (OPTIONS[3], &[Form::Simple, Form::Block]),
        ] {
            let text = format!("copy ({query}\n) to stdout{options}");
            for form in forms.iter().copied() {
                let expected = copied(&mut both.whole, &text, form).await;
                let given = copied(&mut both.raw, &text, form).await;
                let refused = matches!(&given, Err((code, _)) if code == "0A000");
                // In the binary format, a query may give what one server alone can read; by the extended protocol, it runs as in
                // a block.
                let keyless = matches!(&given, Err((_, text)) if text.starts_with(KEYLESS));
                let differs = options == OPTIONS[3] || form == Form::Extended && keyless;
                if refused && !differs && is_answered(&mut both.raw, &query, form).await {
                    unexpected.push(format!("{form:?} {text}\n  {given:?}"));
                }
                tally.take(&text, form, line.mode, expected, given);
            }
        }
    }
    println!(
        "right {}, failing on both {}, refused {:#?}",
        tally.right, tally.failed, tally.refused
    );
    assert!(tally.wrong.is_empty(), "WRONG:\n{}", tally.wrong.join("\n"));
    assert!(unexpected.is_empty(), "refused:\n{}", unexpected.join("\n"));
    assert!(tally.right > 3000, "{}", tally.right);
}

/// Values in which each format has something to escape.
const VALUES: &str = "(1, null), (2, ''), (3, 'a,b;c|d'), (4, E'tab\\there'), (5, E'line\\nfeed\\rboth'),
    (6, 'back\\slash'), (7, E'\\b\\f\\x0b\\x01'), (8, 'a \"quoted\" one'), (9, '\\.'), (10, '\\N'), (11, 'null'),
    (12, ' spaced '), (13, 'äöü€'), (14, E'it''s'), (15, '\"'), (16, 'N'), (17, 'x''y')";

#[tokio::test]
async fn values_are_escaped_as_one_server_escapes_them() {
    let rig = Rig::new("").await;
    let whole = Database::new().await;
    let table = "create table all_accounts (id int, owner text)";
    whole
        .sql(&format!(
            "{table}; insert into all_accounts values {VALUES}"
        ))
        .await;
    for (at, shard) in (0..).zip(&rig.shards) {
        for (place, id) in keys(at).take(9).enumerate() {
            // The amount is the number of the value.
            let amount = place * 2 + usize::from(at) + 1;
            shard
                .sql(&format!(
                    "insert into accounts select {id}, v.w, {amount}
                     from (values {VALUES}) v (n, w) where n = {amount}"
                ))
                .await;
        }
    }
    let mut raw = rig.raw().await;
    let mut direct = Raw::login(whole.port, "app", &whole.name, &[]).await;
    for options in [
        "",
        "(header)",
        "(delimiter '|', null 'null')",
        "(delimiter E'\\x01')",
        "delimiter ';' null ''",
        "(format csv)",
        "csv header",
        "csv header quote '''' escape '\"' force quote owner",
        "(format csv, null 'N', force_quote (owner, amount))",
        "(format csv, force_quote *, delimiter E'\\t')",
        "(format csv, escape '\\')",
        "(format csv, quote 'a', escape 'b')",
        "(format binary)",
        "binary",
        "(encoding 'utf8')",
    ] {
        let is_binary = options.contains("binary");
        for columns in ["owner", "amount, owner"] {
            let one = columns.replace("amount", "id as amount");
            let one =
                format!("copy (select {one} from all_accounts order by id) to stdout {options}");
            let ours = format!(
                "copy (select {columns} from accounts order by amount) to stdout {options}"
            );
            direct.send(&Raw::query(&one)).await;
            let expected = direct.ready().await;
            let expected = outcome(&expected, is_binary);
            for form in [Form::Simple, Form::Extended, Form::Block] {
                let given = copied(&mut raw, &ours, form).await;
                let same = given == expected || expected.is_err() && given.is_err();
                assert!(same, "{form:?} {ours}:\n{given:?}\n{expected:?}");
            }
            // Rows one behind the other, which the shards write themselves.
            let mut expected = expected;
            let plain = format!("copy (select {columns} from accounts) to stdout {options}");
            let mut given = copied(&mut raw, &plain, Form::Simple).await;
            for outcome in [&mut expected, &mut given].into_iter().flatten() {
                outcome.2.sort();
            }
            let same = given == expected || expected.is_err() && given.is_err();
            assert!(same, "{plain}:\n{given:?}\n{expected:?}");
        }
    }
    assert_eq!(raw.one("select count(*) from countries").await, "2");
}

#[tokio::test]
async fn a_copy_is_a_part_of_its_block() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let join = format!("copy ({JOIN}) to stdout");
    let sorted = "copy (select amount from accounts order by amount desc limit 3) to stdout";
    let count = "copy (select count(*), sum(amount) from accounts) to stdout (format csv)";
    let table = "copy accounts (amount) to stdout (format csv, header)";
    let data = |messages: &[Message]| {
        let data = messages.iter().filter(|message| message.tag == 'd');
        let data: Vec<u8> = data.flat_map(|message| message.body.clone()).collect();
        String::from_utf8(data).unwrap()
    };
    for begin in ["begin", "begin read only"] {
        assert_eq!(raw.ask(&Raw::query(begin)).await, "C ZT");
        for form in [Form::Simple, Form::Extended] {
            raw.send(&sent(sorted, form)).await;
            assert_eq!(data(&raw.ready().await), "11\n10\n9\n");
            raw.send(&sent(count, form)).await;
            assert_eq!(data(&raw.ready().await), "12,66\n");
            raw.send(&sent(&join, form)).await;
            let lines = data(&raw.ready().await);
            assert!(!lines.is_empty());
            raw.send(&sent(table, form)).await;
            let messages = raw.ready().await;
            assert_eq!(data(&messages).matches("amount\n").count(), 1);
            assert_eq!(data(&messages).lines().count(), 13);
            let of_one = format!(
                "copy (select amount from accounts where id = {}) to stdout",
                key(1)
            );
            raw.send(&sent(&of_one, form)).await;
            assert_eq!(data(&raw.ready().await), "1\n");
            raw.send(&sent("copy countries to stdout", form)).await;
            assert_eq!(data(&raw.ready().await).lines().count(), 2);
        }
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    }
    // It sees what its block has written, and an error fails it.
    raw.ask(&Raw::query(
        "begin; update accounts set amount = amount + 100",
    ))
    .await;
    raw.send(&sent(count, Form::Extended)).await;
    assert_eq!(data(&raw.ready().await), "12,1266\n");
    let failing = "copy (select 1 / (amount - 103) from accounts order by amount) to stdout";
    let told = raw.ask(&Raw::query(failing)).await;
    assert!(told.ends_with("E22012 ZE"), "{told}");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    // Several in one text.
    let both = format!("{sorted}; {count}");
    assert_eq!(raw.ask(&Raw::query(&both)).await, "H d d d c C H d c C ZI");
    // One time for all.
    let timed = "copy (select count(*) from accounts where now() > timestamptz '2000-01-01'
         and now() < timestamptz '2900-01-01') to stdout";
    let plain =
        "copy (select amount from accounts where now() > timestamptz '2000-01-01') to stdout";
    for form in [Form::Simple, Form::Extended, Form::Block] {
        let (_, _, rows, tag) = copied(&mut raw, timed, form).await.unwrap();
        assert_eq!(
            (rows.concat(), &tag[..]),
            (b"12\n".to_vec(), &b"COPY 1\0"[..])
        );
        let (_, _, rows, _) = copied(&mut raw, plain, form).await.unwrap();
        assert_eq!(rows.len(), 12, "{form:?}");
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_copy_is_told_as_by_one_server() {
    let rig = filled("[limits]\nmax_combined_rows = 5").await;
    let mut raw = rig.raw().await;
    for (text, expected) in [
        (
            "(select owner from accounts order by amount) to stdout (format csv, force_quote (x))",
            "E42703",
        ),
        (
            "(select owner from accounts order by amount) to stdout (force_quote *)",
            "E0A000",
        ),
        (
            "(select owner from accounts order by amount) to stdout (delimiter 'a')",
            "E22023",
        ),
        (
            "(select owner from accounts order by amount) to stdout (format csv, header match)",
            "E0A000",
        ),
        (
            "(select owner from accounts where amount > $1 order by amount) to stdout",
            "E42P02",
        ),
        (
            "(select owner from accounts order by amount) to stdout (encoding 'latin1')",
            "E0A000",
        ),
        (
            "(select owner from accounts order by amount) to stdout (odd)",
            "E0A000",
        ),
        // More than may be combined; what is sorted has no such limit.
        (
            "(select count(distinct amount) from accounts) to stdout",
            "E53400",
        ),
    ] {
        let told = raw.ask(&Raw::query(&format!("copy {text}"))).await;
        assert_eq!(told, format!("{expected} ZI"), "{text}");
    }
    let sorted = "copy (select amount from accounts order by amount) to stdout";
    let (_, _, rows, tag) = copied(&mut raw, sorted, Form::Simple).await.unwrap();
    assert_eq!((rows.len(), &tag[..]), (12, &b"COPY 12\0"[..]));
    // A COPY has no parameters, whatever is bound.
    let bound = [
        Raw::parse("", sorted),
        Raw::bind("", "", &["1"]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "1 E08P01 ZI");
    assert_eq!(raw.one("select count(*) from countries").await, "2");
}

/// The first row comes with what the binary format begins with, and does not stay here for that.
#[tokio::test]
async fn large_rows_are_copied_in_binary_through_little_memory() {
    const ROOM: u64 = 24 << 20;
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    raw.one("select count(*) from accounts").await;
    let before = rig.proxy.most_memory();
    // The first shard has none at first.
    for (shard, rows) in [(1, 1), (0, 2)] {
        let add = format!("insert into accounts values ({})", key(shard));
        rig.shards[usize::from(shard)].sql(&add).await;
        for size in [300_usize << 10, 64 << 20] {
            for shard in &rig.shards {
                let fill = format!("update accounts set owner = repeat('x', {size})");
                shard.sql(&fill).await;
            }
            let text = "copy accounts (owner) to stdout (format binary)";
            raw.send(&Raw::query(text)).await;
            let messages = raw.ready().await;
            let data = messages.iter().filter(|message| message.tag == 'd');
            let data: Vec<u8> = data.flat_map(|message| message.body.clone()).collect();
            let (head, mut rest) = data.split_at(HEAD);
            assert!(head.starts_with(b"PGCOPY"), "{head:?}");
            for _ in 0..rows {
                let (columns, behind) = rest.split_at(2);
                let (length, behind) = behind.split_at(4);
                let (value, behind) = behind.split_at(size);
                assert_eq!(columns, [0, 1]);
                assert_eq!(length, u32::try_from(size).unwrap().to_be_bytes());
                assert!(value.iter().all(|byte| *byte == b'x'));
                rest = behind;
            }
            assert_eq!(rest, [255, 255], "{size}");
        }
    }
    let most = rig.proxy.most_memory();
    assert!(most < before + ROOM, "{before} {most}");
}
