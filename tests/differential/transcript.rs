//! What a server said, in lines that can be compared.
//!
//! Two servers that are right may still differ in what no client can rely on. This, and nothing
//! else, is made alike:
//!
//! * **OIDs of tables** in row descriptions, but for being none, and **OIDs of types** from 16384
//!   on: whoever makes objects first gets the lower number, and other clients make objects too.
//! * **The numbers of temporary schemas** (`pg_temp_3`): they count the processes of the server.
//! * **The numbers of shared statements** (`pgherd_7`), which count the statements of the pool.
//! * **The process that notified**: only whether it is the client's own, by its BackendKeyData.
//! * **A ParameterStatus that tells what the client knows already**: it says nothing.
//!
//! Postgres' own regression scripts show more that changes with each run; see [`mask`].

use pgherd_tests::Message;

/// The first OID that is not the same in all databases (`FirstNormalObjectId`, `transam.h`).
const FIRST_NORMAL_OID: u32 = 16384;

/// Writes a message down. ParameterStatus and NotificationResponse are up to the caller.
pub(crate) fn line(message: &Message) -> String {
    let text = || escape(String::from_utf8_lossy(&message.body).trim_end_matches('\0'));
    match message.tag {
        '1' => "ParseComplete".to_owned(),
        '2' => "BindComplete".to_owned(),
        '3' => "CloseComplete".to_owned(),
        'C' => format!("CommandComplete {}", text()),
        'D' => format!("DataRow {}", escape(&message.columns().join(" | "))),
        'E' => format!("ErrorResponse {}", fields(message)),
        'G' => format!("CopyInResponse {:?}", message.body),
        'H' => format!("CopyOutResponse {:?}", message.body),
        'I' => "EmptyQueryResponse".to_owned(),
        'N' => format!("NoticeResponse {}", fields(message)),
        'T' => format!("RowDescription {}", columns(&message.body)),
        'Z' => format!("ReadyForQuery {}", text()),
        'c' => "CopyDone".to_owned(),
        'd' => format!("CopyData {}", text()),
        'n' => "NoData".to_owned(),
        's' => "PortalSuspended".to_owned(),
        't' => format!("ParameterDescription {}", types(&message.body)),
        other => format!("message {other} {:?}", message.body),
    }
}

/// All fields of an error or a notice, in their order.
fn fields(message: &Message) -> String {
    let fields = message.body.split(|byte| *byte == 0);
    let fields = fields.filter_map(|field| {
        let (name, value) = field.split_first()?;
        let value = escape(&String::from_utf8_lossy(value));
        Some(format!("{}={value}", char::from(*name)))
    });
    fields.collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    without_numbers(&text.replace('\n', "\\n").replace('\r', "\\r"))
}

/// Takes away the numbers behind these words: of temporary schemas, and of shared statements.
const NUMBERED: [&str; 3] = ["pg_temp_", "pg_toast_temp_", "pgherd_"];

fn without_numbers(text: &str) -> String {
    let mut out = text.to_owned();
    for word in NUMBERED {
        let mut parts = out.split(word);
        let mut next = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            next += word;
            next += if rest.len() < part.len() { "N" } else { "" };
            next += rest;
        }
        out = next;
    }
    out
}

/// Takes numbers from a body, front to back.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_at(N);
        self.0 = rest;
        first.try_into().expect("as many bytes")
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes())
    }

    fn oid(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).expect("an end");
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        text
    }
}

fn kind(oid: u32) -> String {
    if oid < FIRST_NORMAL_OID {
        oid.to_string()
    } else {
        "own".to_owned()
    }
}

fn columns(body: &[u8]) -> String {
    let mut numbers = Numbers(body);
    let count = numbers.short();
    let columns = (0..count).map(|_| {
        let name = numbers.text();
        let table = if numbers.oid() == 0 {
            ""
        } else {
            " of a table"
        };
        let place = numbers.short();
        let kind = kind(numbers.oid());
        let (length, modifier) = (numbers.short(), numbers.oid().cast_signed());
        let format = numbers.short();
        format!("{name}({kind} {length} {modifier} {format}{table} {place})")
    });
    columns.collect::<Vec<_>>().join(" ")
}

fn types(body: &[u8]) -> String {
    let mut numbers = Numbers(body);
    let count = numbers.short();
    let types = (0..count).map(|_| kind(numbers.oid()));
    types.collect::<Vec<_>>().join(" ")
}

/// What differs between two lists, without what is alike at their beginnings and ends.
pub(crate) fn difference(one: &[String], other: &[String]) -> Option<(Vec<String>, Vec<String>)> {
    if one == other {
        return None;
    }
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let begin = one.iter().zip(other).take_while(same).count();
    let (one, other) = (&one[begin..], &other[begin..]);
    let end = one
        .iter()
        .rev()
        .zip(other.iter().rev())
        .take_while(same)
        .count();
    Some((
        one[..one.len() - end].to_vec(),
        other[..other.len() - end].to_vec(),
    ))
}

/// Takes away what differs in each run of Postgres' own scripts: runs of five and more digits,
/// which are OIDs, transaction numbers, process numbers and parts of times and costs.
pub(crate) fn mask(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut digits = String::new();
    for character in line.chars().chain(['\0']) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        if digits.len() < 5 {
            out += &digits;
        } else {
            out.push('#');
        }
        digits.clear();
        if character != '\0' {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{difference, mask, without_numbers};

    #[test]
    fn only_numbers_that_mean_nothing_go() {
        assert_eq!(
            without_numbers("pg_temp_3.t pg_toast_temp_12.t my_temp_3 pg_temp pgherd_9"),
            "pg_temp_N.t pg_toast_temp_N.t my_temp_3 pg_temp pgherd_N"
        );
    }

    #[test]
    fn what_is_alike_at_both_ends_is_left_out() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(difference(&list("a b"), &list("a b")), None);
        let found = difference(&list("a b c"), &list("a x y c"));
        assert_eq!(found, Some((list("b"), list("x y"))));
        let found = difference(&list("a a"), &list("a"));
        assert_eq!(found, Some((list("a"), Vec::new())));
    }

    #[test]
    fn long_numbers_are_masked() {
        assert_eq!(mask("oid 16384, 1234 12345"), "oid #, 1234 #");
    }
}
