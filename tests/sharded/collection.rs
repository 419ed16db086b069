//! The planner's collection of queries, through the executable in each form of the protocol: no answer is another
//! than that of one server, and what has one shard is answered.

use std::collections::BTreeMap;

use pgherd_tests::{Config, Message, Proxy, Raw};

use crate::answer::ask;
use crate::server::server;
use crate::world::{Buckets, World};

/// A line: which kind of route is expected, whether rows have an order, the query, and its parameters.
pub(crate) struct Line<'a> {
    kind: &'a str,
    pub(crate) order: Order,
    pub(crate) query: &'a str,
    values: Vec<Value>,
}

pub(crate) const COLLECTIONS: [&str; 2] = [
    include_str!("../sharding/queries.txt"),
    include_str!("../sharding/pulled.txt"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Any,
    Said,
    CountOnly,
}

struct Value {
    kind: &'static str,
    oid: u32,
    text: Option<String>,
}

const TYPES: &[(&str, u32)] = &[
    ("int8", 20),
    ("int4", 23),
    ("int2", 21),
    ("numeric", 1700),
    ("text", 25),
    ("uuid", 2950),
    ("int8[]", 1016),
    ("numeric[]", 1231),
    ("int4[]", 1007),
    ("text[]", 1009),
    ("bpchar", 1042),
    ("date", 1082),
];

pub(crate) fn line(text: &str) -> Option<Line<'_>> {
    if text.trim().is_empty() || text.starts_with("--") {
        return None;
    }
    let (kind, query) = text.split_once(' ').unwrap();
    let order = match kind.chars().last() {
        Some('=') => Order::Said,
        Some('~') => Order::CountOnly,
        _ => Order::Any,
    };
    let (query, values) = query.split_once(" -- ").unwrap_or((query, ""));
    let values = values.split(" | ").filter(|text| !text.is_empty());
    let values = values.map(|text| {
        let (kind, text) = text.split_once(':').unwrap();
        let (kind, oid) = TYPES.iter().find(|(name, _)| *name == kind).expect(kind);
        Value {
            kind,
            oid: *oid,
            text: (text != "NULL").then(|| text.to_owned()),
        }
    });
    Some(Line {
        kind: kind.trim_end_matches(['=', '~']),
        order,
        query: query.trim(),
        values: values.collect(),
    })
}

impl Value {
    /// The value as a client would send it in binary; `None` if the test cannot make it.
    fn binary(&self) -> Option<Vec<u8>> {
        let text = self.text.as_deref()?.trim();
        match self.kind {
            "int8" => text.parse::<i64>().ok().map(|it| it.to_be_bytes().into()),
            "int4" => text.parse::<i32>().ok().map(|it| it.to_be_bytes().into()),
            "int2" => text.parse::<i16>().ok().map(|it| it.to_be_bytes().into()),
            "text" | "bpchar" => Some(self.text.clone()?.into()),
            "uuid" => {
                let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
                let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
                digits.chunks(2).map(pair).collect()
            }
            _ => None,
        }
    }
}

/// The query with its values written into it.
pub(crate) fn with(line: &Line<'_>) -> String {
    let mut text = line.query.to_owned();
    for (at, value) in line.values.iter().enumerate().rev() {
        let literal = match &value.text {
            Some(text) => format!("('{}'::{})", text.replace('\'', "''"), value.kind),
            None => format!("(NULL::{})", value.kind),
        };
        text = text.replace(&format!("${}", at + 1), &literal);
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Simple,
    Texts,
    Binary,
    Prepared,
    /// What comes back is in binary.
    Results,
    /// Within a block.
    Block,
    /// Within a block, and what comes back is in binary.
    BlockResults,
}

impl Form {
    fn is_simple(self) -> bool {
        [Self::Simple, Self::Block].contains(&self)
    }

    fn is_in_block(self) -> bool {
        [Self::Block, Self::BlockResults].contains(&self)
    }

    fn gives_binary(self) -> bool {
        [Self::Results, Self::BlockResults].contains(&self)
    }
}

const FORMS: [Form; 7] = [
    Form::Simple,
    Form::Texts,
    Form::Binary,
    Form::Prepared,
    Form::Results,
    Form::Block,
    Form::BlockResults,
];

/// What is said of columns whose values cannot be decoded alike.
const DIFFER: [&str; 2] = [
    "the shards give columns of different types",
    "the shards give records with types of the users' own in binary",
];

/// What is said in a block of what is grouped by a key alone.
const KEYLESS: &str =
    "GROUP BY of a primary key alone is not supported in a transaction over several shards";

/// What is said of what is not run on several shards.
const SEVERAL: &str = "this statement has rows on 3 shards, and runs on one only";

/// Literals that are a moment.
const MOMENTS: [&str; 3] = ["'now'", "'today'", "'tomorrow'"];

/// The messages of one form.
fn request(line: &Line<'_>, form: Form) -> Vec<u8> {
    if form.is_simple() {
        return Raw::query(&with(line));
    }
    let name = if form == Form::Prepared { "p" } else { "" };
    let mut parse = format!("{name}\0{}\0", line.query).into_bytes();
    parse.extend(u16::try_from(line.values.len()).unwrap().to_be_bytes());
    for value in &line.values {
        parse.extend(value.oid.to_be_bytes());
    }
    let mut formats = Vec::new();
    let mut values = Vec::new();
    for value in &line.values {
        let texts = form == Form::Texts || form.gives_binary();
        let binary = value.binary().filter(|_| !texts);
        formats.extend([0, u8::from(binary.is_some())]);
        let bytes = binary.or_else(|| value.text.clone().map(Into::into));
        match bytes {
            None => values.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                values.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                values.extend(bytes);
            }
        }
    }
    let count = u16::try_from(line.values.len()).unwrap().to_be_bytes();
    let mut bind = format!("\0{name}\0").into_bytes();
    bind.extend(count);
    bind.extend(formats);
    bind.extend(count);
    bind.extend(values);
    match form.gives_binary() {
        true => bind.extend([0, 1, 0, 1]),
        false => bind.extend([0, 0]),
    }
    let apart = match form {
        Form::Prepared => [Raw::describe('S', name), Raw::sync()].concat(),
        _ => Vec::new(),
    };
    let close = match form {
        Form::Prepared => Raw::close('S', name),
        _ => Vec::new(),
    };
    [
        Raw::framed(b'P', &parse),
        apart,
        Raw::framed(b'B', &bind),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        close,
        Raw::sync(),
    ]
    .concat()
}

/// The columns and the rows as they come, or the SQLSTATE and the message.
type Outcome = Result<(Vec<Column>, Vec<Vec<u8>>), (String, String)>;

/// A column's name, type and modifier. The types that users make have numbers of each database's own.
type Column = (String, u32, i32);

fn columns(described: &Message) -> Vec<Column> {
    let mut found = Vec::new();
    let mut rest = &described.body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, fields) = (&rest[..end], &rest[end + 1..]);
        let number = |at: usize| fields[at..at + 4].try_into().unwrap();
        let oid = u32::from_be_bytes(number(6));
        let own = if oid < 16_384 { oid } else { 0 };
        let modifier = i32::from_be_bytes(number(12));
        found.push((String::from_utf8_lossy(name).into_owned(), own, modifier));
        rest = &fields[18..];
    }
    found
}

/// What is remarked on, and how often.
type Remarks = BTreeMap<String, usize>;

async fn through(raw: &mut Raw, line: &Line<'_>, form: Form, remarks: &mut Remarks) -> Outcome {
    if form.is_in_block() {
        raw.ask(&Raw::query("begin")).await;
    }
    raw.send(&request(line, form)).await;
    let mut messages = raw.ready().await;
    if form.is_in_block() {
        let end = messages.last().map(|it| it.body.clone()).unwrap();
        assert!(end == b"T" || end == b"E", "{}", line.query);
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
        let idle = messages.last_mut().unwrap();
        idle.body = b"I".to_vec();
    }
    if form == Form::Prepared {
        let refused = messages.iter().any(|message| message.tag == 'E');
        let more = raw.ready().await;
        if !refused {
            messages = more;
        }
        // One that was prepared in vain must not be in the way of the next.
        raw.ask(&[Raw::close('S', "p"), Raw::sync()].concat()).await;
    }
    assert_eq!(messages.last().unwrap().body, b"I", "{}", line.query);
    for notice in messages.iter().filter(|message| message.tag == 'N') {
        let field = |name| notice.field(name).unwrap_or_default();
        let said = format!("{}: {}", field('M'), field('D'));
        *remarks.entry(said).or_default() += 1;
    }
    if let Some(error) = messages.iter().find(|message| message.tag == 'E') {
        let field = |name| error.field(name).unwrap_or_default();
        return Err((field('C'), field('M')));
    }
    let described = messages.iter().find(|message| message.tag == 'T');
    let rows = messages.iter().filter(|message| message.tag == 'D');
    let rows = rows.map(|message| message.body.clone()).collect();
    Ok((described.map(columns).unwrap_or_default(), rows))
}

/// What the configuration says of methods where each group has its own, as the world has it.
fn methods(shards: &[String]) -> String {
    let [first, second, third] = shards else {
        panic!("{shards:?}");
    };
    let one_of = |kind: &str, values: &str, shard: &str, others: &str| {
        format!(
            "method = \"list\", key_type = \"{kind}\", places = [{{ values = [{values}], shard = \"{shard}\" }}, \
             {{ others = true, shard = \"{others}\" }}]"
        )
    };
    let cut = |kind: &str, at: &str, below: &str, above: &str| {
        format!(
            "method = \"range\", key_type = \"{kind}\", places = [{{ to = \"{at}\", shard = \"{below}\" }}, \
             {{ from = \"{at}\", shard = \"{above}\" }}]"
        )
    };
    let groups = [
        (
            "docs",
            cut(
                "uuid",
                "00000000-0000-4000-8000-000000000014",
                second,
                first,
            ),
        ),
        (
            "names",
            one_of(
                "text",
                "\"näme 3\", \"näme 7\", \"näme 8\", \"näme 31\"",
                third,
                first,
            ),
        ),
        (
            "codes",
            one_of("char", "\"c1\", \"c4\", \"c5\"", second, third),
        ),
        (
            "prices",
            format!(
                "method = \"range\", key_type = \"numeric\", places = [{{ to = -5, shard = \"{first}\" }}, \
                 {{ from = -5, to = \"7.5\", shard = \"{third}\" }}, {{ from = \"7.5\", shard = \"{second}\" }}]"
            ),
        ),
        ("days", cut("date", "2026-01-10", second, third)),
        ("pairs", "buckets = 5".to_owned()),
    ];
    let groups = groups.map(|(name, method)| format!("{{ name = \"{name}\", {method} }}"));
    format!(
        "buckets = 16\nbucket_map = {{ {third} = \"0-2, 4-6\", {first} = \"3, 7-10\", {second} = \"11-15\" }}\n\
         groups = [\n{}\n]\n",
        groups.join(",\n")
    )
}

pub(crate) async fn config(world: &World, buckets: Buckets) -> Config {
    let server = server().await;
    let host = format!("{}:{}", server.socket_dir().display(), server.port());
    let mut text = String::from(
        "[listen]\naddresses = [\"127.0.0.1:{port}\"]\n[auth]\nmethod = \"trust\"\n\
         [log]\nstats_every = 0\n[users.postgres]\npassword = \"postgres\"\n",
    );
    let mut names = Vec::new();
    for shard in &world.shards {
        let name = ask(shard, "select current_database()").await.unwrap();
        names.push(name.rows[0][0].clone().unwrap());
    }
    for name in &names {
        text.push_str(&format!("[databases.{name}]\nhosts = [\"{host}\"]\n"));
    }
    text.push_str(&format!(
        "[databases.all]\nshards = {names:?}\n[databases.all.sharding]\n\
         replicated = [\"products\", \"countries\", \"other.users\"]\n\
         schemas = [{{ name = \"conf\", shard = \"{}\" }}]\ntables = [\n",
        names[names.len().min(2) - 1]
    ));
    for (table, key, group) in [
        ("users", "\"id\"", ""),
        ("orders", "\"user_id\"", ""),
        ("items", "\"user_id\"", ""),
        ("Upper", "\"Id\"", ""),
        ("loose", "\"user_id\"", ""),
        ("bags", "\"id\"", ""),
        ("spans", "\"id\"", ""),
        ("docs", "\"key\"", "docs"),
        ("names", "\"name\"", "names"),
        ("codes", "\"code\"", "codes"),
        ("prices", "\"amount\"", "prices"),
        ("days", "\"day\"", "days"),
        ("pairs", "[\"a\", \"b\"]", "pairs"),
        ("pairs2", "[\"a\", \"b\"]", "pairs"),
    ] {
        let group = match group {
            "" => String::new(),
            group => format!(", group = \"{group}\""),
        };
        text.push_str(&format!("{{ name = \"{table}\", key = {key}{group} }},\n"));
    }
    text.push_str("]\n");
    if let Buckets::Mixed = buckets {
        text.push_str(&methods(&names));
    }
    Config::text(text)
}

fn shown(rows: &[Vec<u8>]) -> Vec<String> {
    let shown = rows.iter().map(|row| row.escape_ascii().to_string());
    shown.collect()
}

#[derive(Default)]
struct Tally {
    /// Everything runs as in a block.
    verifies: bool,
    right: BTreeMap<(String, Form), usize>,
    failed: usize,
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
    unexpected: Vec<String>,
}

impl Tally {
    fn take(&mut self, line: &Line<'_>, form: Form, expected: &Outcome, given: Outcome) {
        let query = with(line);
        match (expected, given) {
            (Err(_), Err(_)) => self.failed += 1,
            (Ok(_), Err((code, text))) if code == "0A000" => {
                // A parameter that is written into the text is another expression.
                let as_it_is = !form.is_simple() || line.values.is_empty();
                let planned = ["any", "one", "push", "merge", "pull"].contains(&line.kind);
                // In their binary form, composites have the numbers of types in them, which differ.
                let numbered = form.gives_binary() && DIFFER.contains(&text.as_str());
                // Where tables are not made, they have no keys.
                let keyless = (form.is_in_block() || self.verifies) && text == KEYLESS;
                // A literal of a moment is read when it is prepared, which is not followed over shards.
                let prepares = !form.is_simple() && text == SEVERAL;
                let dated = prepares && MOMENTS.iter().any(|word| line.query.contains(word));
                if planned && as_it_is && !numbered && !dated && !keyless {
                    self.unexpected.push(format!("{form:?} {text}\n  {query}"));
                }
                let reason = text.split(": ").last().unwrap_or_default().to_owned();
                *self.refused.entry(reason).or_default() += 1;
            }
            (Ok((one_columns, one)), Ok((two_columns, two))) => {
                let (mut one, mut two) = (one.clone(), two);
                if line.order == Order::Any {
                    one.sort();
                    two.sort();
                }
                let same = match line.order {
                    Order::CountOnly => one.len() == two.len(),
                    _ => one == two,
                };
                match same && *one_columns == two_columns {
                    true => *self.right.entry((line.kind.to_owned(), form)).or_default() += 1,
                    false => self.wrong.push(format!(
                        "{form:?} {query}\n  {one_columns:?} {:?}\n  {two_columns:?} {:?}",
                        shown(&one),
                        shown(&two)
                    )),
                }
            }
            (one, two) => self
                .wrong
                .push(format!("{form:?} {query}\n  {one:?}\n  {two:?}")),
        }
    }
}

#[tokio::test]
async fn no_query_gives_another_answer_through_the_proxy() {
    compared(Buckets::Even, &FORMS, &[]).await;
}

#[tokio::test]
async fn nor_where_each_group_has_a_method_of_its_own() {
    let forms = [Form::Simple, Form::Binary, Form::Block];
    compared(Buckets::Mixed, &forms, &[]).await;
}

#[tokio::test]
async fn each_answer_is_verified_by_that_of_all_rows_on_one_server() {
    let forms = [Form::Simple, Form::Results, Form::Block];
    let verify = [("options", "-c pgherd.verify=on")];
    let (right, remarks) = compared(Buckets::Even, &forms, &verify).await;
    let unverified = remarks
        .iter()
        .filter(|(said, _)| said.contains("not verified"));
    let unverified: usize = unverified.map(|(_, count)| count).sum();
    println!("{unverified} of {right} not verified: {remarks:#?}");
    assert!(
        unverified * 10 < right,
        "{unverified} of {right}: {remarks:#?}"
    );
}

/// Compares the answers to the collection in these forms; tells how many were right, and what was remarked on.
async fn compared(
    buckets: Buckets,
    forms: &[Form],
    parameters: &[(&str, &str)],
) -> (usize, Remarks) {
    let world = World::with(3, buckets).await;
    let proxy = Proxy::start(&config(&world, buckets).await).await;
    let mut raw = Raw::login(proxy.port(), "postgres", "all", parameters).await;
    let (mut remarks, mut others) = (Remarks::default(), Remarks::default());
    let name = ask(&world.whole, "select current_database()")
        .await
        .unwrap();
    let name = name.rows[0][0].clone().unwrap();
    let mut whole = Raw::login(server().await.port(), "postgres", &name, &[]).await;
    let mut tally = Tally {
        verifies: !parameters.is_empty(),
        ..Tally::default()
    };
    let lines = COLLECTIONS.iter().flat_map(|text| text.lines());
    for line in lines.filter_map(line) {
        for form in forms.iter().copied() {
            // Without parameters it is the same as in texts.
            if form == Form::Binary && line.values.is_empty() {
                continue;
            }
            let expected = through(&mut whole, &line, form, &mut others).await;
            let given = through(&mut raw, &line, form, &mut remarks).await;
            tally.take(&line, form, &expected, given);
        }
    }
    println!(
        "right {:?}, failing on both {}, WRONG {}\nrefused {:#?}",
        tally.right,
        tally.failed,
        tally.wrong.len(),
        tally.refused
    );
    assert!(tally.wrong.is_empty(), "WRONG:\n{}", tally.wrong.join("\n"));
    let unexpected = tally.unexpected.join("\n");
    assert!(unexpected.is_empty(), "refused:\n{unexpected}");
    (tally.right.values().sum(), remarks)
}
