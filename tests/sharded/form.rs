//! A line of a collection in each form that the protocol has for it, and what comes of it.

use std::collections::BTreeMap;

use pgherd_tests::{Message, Raw};

use crate::line::{Line, Value, with};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Simple,
    Texts,
    Binary,
    /// Of what types the parameters are is for the server to find out.
    Untyped,
    Prepared,
    /// What comes back is in binary.
    Results,
    /// Within a block.
    Block,
    /// Within a block, and what comes back is in binary.
    BlockResults,
    /// Within a block that is committed; all others are rolled back.
    Committed,
}

impl Form {
    pub(crate) fn is_simple(self) -> bool {
        [Self::Simple, Self::Block, Self::Committed].contains(&self)
    }

    pub(crate) fn is_in_block(self) -> bool {
        self.end().is_some()
    }

    /// What ends its block.
    fn end(self) -> Option<&'static str> {
        match self {
            Self::Block | Self::BlockResults => Some("rollback"),
            Self::Committed => Some("commit"),
            Self::Simple
            | Self::Texts
            | Self::Binary
            | Self::Untyped
            | Self::Prepared
            | Self::Results => None,
        }
    }

    /// Whether it is the form of what has parameters only.
    pub(crate) fn is_of_values(self) -> bool {
        [Self::Binary, Self::Untyped].contains(&self)
    }

    pub(crate) fn gives_binary(self) -> bool {
        [Self::Results, Self::BlockResults].contains(&self)
    }
}

/// All forms in which a query is asked.
pub(crate) const FORMS: [Form; 8] = [
    Form::Simple,
    Form::Texts,
    Form::Binary,
    Form::Untyped,
    Form::Prepared,
    Form::Results,
    Form::Block,
    Form::BlockResults,
];

/// The value as a client would send it in binary; `None` if the test cannot make it.
fn binary(value: &Value) -> Option<Vec<u8>> {
    let text = value.text.as_deref()?.trim();
    match value.kind {
        "int8" => text.parse::<i64>().ok().map(|it| it.to_be_bytes().into()),
        "int4" => text.parse::<i32>().ok().map(|it| it.to_be_bytes().into()),
        "int2" => text.parse::<i16>().ok().map(|it| it.to_be_bytes().into()),
        "text" | "bpchar" => Some(value.text.clone()?.into()),
        "uuid" => {
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
            digits.chunks(2).map(pair).collect()
        }
        _ => None,
    }
}

/// A Bind of the statement of this name.
fn bind(line: &Line<'_>, form: Form, name: &str) -> Vec<u8> {
    let mut formats = Vec::new();
    let mut values = Vec::new();
    for value in &line.values {
        let texts = [Form::Texts, Form::Untyped].contains(&form) || form.gives_binary();
        let binary = binary(value).filter(|_| !texts);
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
    let mut body = format!("\0{name}\0").into_bytes();
    body.extend(count);
    body.extend(formats);
    body.extend(count);
    body.extend(values);
    match form.gives_binary() {
        true => body.extend([0, 1, 0, 1]),
        false => body.extend([0, 0]),
    }
    Raw::framed(b'B', &body)
}

/// The messages of one form.
fn request(line: &Line<'_>, form: Form) -> Vec<u8> {
    if form.is_simple() {
        return Raw::query(&with(line.query, &line.values));
    }
    let name = if form == Form::Prepared { "p" } else { "" };
    let mut parse = format!("{name}\0{}\0", line.query).into_bytes();
    let typed = match form {
        Form::Untyped => &[][..],
        _ => &line.values[..],
    };
    parse.extend(u16::try_from(typed.len()).unwrap().to_be_bytes());
    for value in typed {
        parse.extend(value.oid.to_be_bytes());
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
        bind(line, form, name),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        close,
        Raw::sync(),
    ]
    .concat()
}

/// The columns and the rows as they come, and the tags of what has completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<u8>>,
    pub(crate) tags: Vec<String>,
}

/// What came of it, or the SQLSTATE and the message.
pub(crate) type Outcome = Result<Answer, (String, String)>;

/// A column's name, type and modifier. The types that users make have numbers of each database's own.
pub(crate) type Column = (String, u32, i32);

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

/// What is told by messages up to a ReadyForQuery.
pub(crate) fn outcome(messages: &[Message]) -> Outcome {
    if let Some(error) = messages.iter().find(|message| message.tag == 'E') {
        let field = |name| error.field(name).unwrap_or_default();
        return Err((field('C'), field('M')));
    }
    let of = |tag| messages.iter().filter(move |message| message.tag == tag);
    let tag = |message: &Message| {
        let text = String::from_utf8_lossy(&message.body);
        text.trim_end_matches('\0').to_owned()
    };
    Ok(Answer {
        columns: of('T').flat_map(columns).collect(),
        rows: of('D').map(|message| message.body.clone()).collect(),
        tags: of('C').map(tag).collect(),
    })
}

/// What is remarked on, and how often.
pub(crate) type Remarks = BTreeMap<String, usize>;

pub(crate) async fn through(
    raw: &mut Raw,
    line: &Line<'_>,
    form: Form,
    remarks: &mut Remarks,
) -> Outcome {
    if form.is_in_block() {
        raw.ask(&Raw::query("begin")).await;
    }
    raw.send(&request(line, form)).await;
    let mut messages = raw.ready().await;
    if let Some(end) = form.end() {
        let status = &messages.last().unwrap().body;
        assert!(status == b"T" || status == b"E", "{}", line.query);
        assert_eq!(raw.ask(&Raw::query(end)).await, "C ZI", "{}", line.query);
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
    if !form.is_in_block() {
        assert_eq!(messages.last().unwrap().body, b"I", "{}", line.query);
    }
    for notice in messages.iter().filter(|message| message.tag == 'N') {
        let field = |name| notice.field(name).unwrap_or_default();
        let said = format!("{}: {}", field('M'), field('D'));
        *remarks.entry(said).or_default() += 1;
    }
    outcome(&messages)
}
