//! One query, asked of all.

use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pgherd_tests::{Message, Raw};

use super::stage::Stage;
use crate::server::server;

/// How a query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Simple,
    Extended,
}

/// What became of a query.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is answered as by one server.
    Right,
    /// It is refused, for this reason.
    Refused(String),
    /// One server fails, too.
    FailsAnyway,
    /// The same rows in another order give another answer; here as many rows.
    Undetermined,
    /// It is answered otherwise.
    Wrong(String),
}

/// Sessions of one server and of the proxy.
pub(super) struct Both {
    whole: Raw,
    other: Raw,
    proxied: Raw,
}

/// The names and types of columns with the rows.
type Answer = (Vec<(String, u32)>, Vec<Vec<String>>);

/// An answer, or the SQLSTATE and the message.
type Outcome = Result<Answer, (String, String)>;

impl Both {
    pub(super) async fn new(stage: &Stage) -> Self {
        let port = server().await.port();
        Self {
            whole: Raw::login(port, "postgres", &stage.whole, &[]).await,
            other: Raw::login(port, "postgres", &stage.other, &[]).await,
            proxied: Raw::login(stage.proxy.port(), "postgres", "all", &[]).await,
        }
    }

    pub(super) async fn ask(&mut self, query: &str, form: Form) -> Verdict {
        let expected = through(&mut self.whole, query, form).await;
        // It writes, or takes too long for a test.
        if matches!(&expected, Err((code, _)) if ["25006", "57014"].contains(&code.as_str())) {
            return Verdict::FailsAnyway;
        }
        let given = through(&mut self.proxied, query, form).await;
        match (&expected, &given) {
            (Ok(_), Err((code, text))) if code == "0A000" => return Verdict::Refused(text.clone()),
            (Err((one, _)), Err((two, _))) if one == two || two == "0A000" => {
                return Verdict::FailsAnyway;
            }
            (Ok(one), Ok(two)) if same(query, one, two) => return Verdict::Right,
            _ => {}
        }
        let other = through(&mut self.other, query, form).await;
        let determined = match (&expected, &other) {
            (Ok(one), Ok(two)) => same(query, one, two),
            (Err(_), Err(_)) => true,
            _ => false,
        };
        match (&expected, &other, &given) {
            (_, Ok(two), Ok(three)) if same(query, two, three) => Verdict::Right,
            (Ok(one), other, Ok(three)) if !determined && may_be(one, other, three) => {
                Verdict::Undetermined
            }
            (Err(_), Ok(_), Ok(_)) | (Ok(_), Err(_), Err(_)) => Verdict::Undetermined,
            _ => Verdict::Wrong(format!(
                "{form:?} {query}\n  one server: {}\n  pgherd: {}",
                told(&expected),
                told(&given)
            )),
        }
    }
}

/// Whether an answer to a query that leaves it open may be another one: as many rows, unless even that is open.
fn may_be(one: &Answer, other: &Outcome, given: &Answer) -> bool {
    let open = matches!(other, Ok(other) if other.1.len() != one.1.len());
    one.0 == given.0 && (open || one.1.len() == given.1.len())
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Err(error) => format!("{error:?}"),
        Ok((columns, rows)) => {
            let first: Vec<String> = rows.iter().take(12).map(|row| row.join(" | ")).collect();
            format!(
                "{columns:?} {} rows\n    {}",
                rows.len(),
                first.join("\n    ")
            )
        }
    }
}

/// Whether answers are the same, in the order that the query says.
fn same(query: &str, one: &Answer, two: &Answer) -> bool {
    if one.0 != two.0 {
        return false;
    }
    let sorted = |rows: &[Vec<String>]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    let keys = keys(query, &one.0);
    let in_order = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
        let key = |row: &Vec<String>| keys.iter().map(|at| row[*at].clone()).collect();
        rows.iter().map(key).collect()
    };
    one.1 == two.1 || (sorted(&one.1) == sorted(&two.1) && in_order(&one.1) == in_order(&two.1))
}

/// By which columns of its answer a query orders it, as far as it can be seen.
fn keys(query: &str, columns: &[(String, u32)]) -> Vec<usize> {
    let Ok(parsed) = pg_query::parse(query, 0) else {
        return Vec::new();
    };
    let node = parsed
        .protobuf
        .stmts
        .first()
        .and_then(|it| it.stmt.as_ref()?.node.as_ref());
    let Some(NodeEnum::SelectStmt(select)) = node else {
        return Vec::new();
    };
    let key = |node: &pg_query::Node| {
        let NodeEnum::SortBy(by) = node.node.as_ref()? else {
            return None;
        };
        match by.node.as_ref()?.node.as_ref()? {
            NodeEnum::AConst(number) => match number.val.as_ref()? {
                Val::Ival(at) => usize::try_from(at.ival - 1)
                    .ok()
                    .filter(|at| *at < columns.len()),
                _ => None,
            },
            NodeEnum::ColumnRef(column) if column.fields.len() == 1 => {
                let NodeEnum::String(name) = column.fields[0].node.as_ref()? else {
                    return None;
                };
                let mut found = columns
                    .iter()
                    .enumerate()
                    .filter(|(_, it)| it.0 == name.sval);
                let first = found.next().map(|(at, _)| at);
                first.filter(|_| found.next().is_none())
            }
            _ => None,
        }
    };
    select.sort_clause.iter().map_while(key).collect()
}

async fn through(raw: &mut Raw, query: &str, form: Form) -> Outcome {
    let bytes = match form {
        Form::Simple => Raw::query(query),
        Form::Extended => [
            Raw::parse("", query),
            Raw::bind("", "", &[]),
            Raw::describe('P', ""),
            Raw::execute("", 0),
            Raw::sync(),
        ]
        .concat(),
    };
    raw.send(&bytes).await;
    let messages = raw.ready().await;
    assert_eq!(messages.last().unwrap().body, b"I", "{query}");
    if let Some(error) = messages.iter().find(|message| message.tag == 'E') {
        let field = |name| error.field(name).unwrap_or_default();
        return Err((field('C'), field('M')));
    }
    let described = messages.iter().find(|message| message.tag == 'T');
    let rows = messages.iter().filter(|message| message.tag == 'D');
    Ok((
        described.map(columns).unwrap_or_default(),
        rows.map(Message::columns).collect(),
    ))
}

/// The names and types; the types that users make have numbers of each database's own.
fn columns(described: &Message) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut rest = &described.body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, fields) = (&rest[..end], &rest[end + 1..]);
        let oid = u32::from_be_bytes(fields[6..10].try_into().unwrap());
        let own = if oid < 16_384 { oid } else { 0 };
        found.push((String::from_utf8_lossy(name).into_owned(), own));
        rest = &fields[18..];
    }
    found
}
