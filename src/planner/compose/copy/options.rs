//! The options of a `COPY`, as far as rows are told apart or written by them. Servers look at all of them, too.

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, DefElem};

use crate::plan::copy::{CopyOut, Form, Format, Quoted, Quotes, Shape};
use crate::refusal::{Refusal, Result};
use crate::resolve::{inner, strings};

/// What the options say.
pub(super) struct Options {
    pub(super) form: Form,
    pub(super) encoding: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            form: Form::Binary,
            encoding: None,
        }
    }
}

/// Which columns an option is about.
#[derive(Default)]
enum About {
    #[default]
    None,
    All,
    These(Vec<String>),
}

impl About {
    fn of(option: &DefElem) -> Result<Self> {
        match option.arg.as_deref().map(inner).transpose()? {
            Some(NodeEnum::AStar(_)) => Ok(Self::All),
            Some(NodeEnum::List(list)) => {
                let names = strings(&list.items)?;
                Ok(Self::These(names.into_iter().map(str::to_owned).collect()))
            }
            _ => Err(unclear(&option.defname)),
        }
    }

    fn has(&self, column: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name == column),
        }
    }
}

/// Reads them; `key` are the names of the key's columns.
pub(super) fn read(copy: &CopyStmt, key: &[&str]) -> Result<Options> {
    let mut format = "text".to_owned();
    let (mut delimiter, mut null, mut default) = (None, None, None);
    let (mut quote, mut escape, mut encoding) = (None, None, None);
    let mut header = false;
    let (mut never_null, mut null_in_quotes) = (About::None, About::None);
    for option in &copy.options {
        let NodeEnum::DefElem(option) = inner(option)? else {
            return Err(unclear("an option"));
        };
        match option.defname.as_str() {
            "format" => format = text(option)?,
            "delimiter" => delimiter = Some(byte(option)?),
            "null" => null = Some(text(option)?),
            "default" => default = Some(text(option)?),
            "quote" => quote = Some(byte(option)?),
            "escape" => escape = Some(byte(option)?),
            "encoding" => encoding = Some(text(option)?),
            "header" => header = is_header(option)?,
            "force_not_null" => never_null = About::of(option)?,
            "force_null" => null_in_quotes = About::of(option)?,
            // It only says how the table's pages are written, and none of it was made in this transaction.
            "freeze" if truth(option) == Some(false) => {}
            "on_error" if text(option)? == "stop" => {}
            other => {
                let part = format!("COPY … {}", other.to_uppercase());
                return Err(Refusal::new(part, "it is not supported over shards"));
            }
        }
    }
    let is_csv = format == "csv";
    let null = null.unwrap_or_else(|| if is_csv { "" } else { "\\N" }.to_owned());
    let shape = Shape {
        delimiter: delimiter.unwrap_or(if is_csv { b',' } else { b'\t' }),
        null: null.into_bytes().into(),
        default: default.map(|text| text.into_bytes().into()),
        header,
    };
    let about = |about: &About| key.iter().map(|column| about.has(column)).collect();
    let form = match format.as_str() {
        "binary" => Form::Binary,
        "text" if shape.delimiter != b'\\' => Form::Text(shape),
        "csv" => {
            let quote = quote.unwrap_or(b'"');
            let quotes = Quotes {
                quote,
                escape: escape.unwrap_or(quote),
                never_null: about(&never_null),
                null_in_quotes: about(&null_in_quotes),
            };
            if quote == shape.delimiter {
                return Err(unclear("quote"));
            }
            Form::Csv(shape, quotes)
        }
        _ => return Err(unclear("format")),
    };
    Ok(Options { form, encoding })
}

/// How the rows of a `COPY … TO` are written.
pub(super) fn written(copy: &CopyStmt) -> Result<CopyOut> {
    let mut format = "text".to_owned();
    let (mut delimiter, mut null) = (None, None);
    let (mut quote, mut escape, mut encoding) = (None, None, None);
    let mut header = false;
    let mut quoted = About::None;
    for option in &copy.options {
        let NodeEnum::DefElem(option) = inner(option)? else {
            return Err(unclear("an option"));
        };
        match option.defname.as_str() {
            "format" => format = text(option)?,
            "delimiter" => delimiter = Some(byte(option)?),
            "null" => null = Some(text(option)?),
            "quote" => quote = Some(byte(option)?),
            "escape" => escape = Some(byte(option)?),
            "encoding" => encoding = Some(text(option)?),
            "header" => header = is_header(option)?,
            "force_quote" => quoted = About::of(option)?,
            other => {
                let part = format!("COPY … {}", other.to_uppercase());
                return Err(Refusal::new(part, "it is not supported over shards"));
            }
        }
    }
    let null = |default: &str| {
        let null = null.clone().unwrap_or_else(|| default.to_owned());
        null.into_bytes().into_boxed_slice()
    };
    let format = match format.as_str() {
        "binary" => Format::Binary,
        "text" => Format::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null("\\N"),
        },
        "csv" => {
            let quote = quote.unwrap_or(b'"');
            Format::Csv {
                delimiter: delimiter.unwrap_or(b','),
                null: null(""),
                quote,
                escape: escape.unwrap_or(quote),
                quoted: match quoted {
                    About::None => Quoted::These(Vec::new()),
                    About::These(names) => Quoted::These(names),
                    About::All => Quoted::All,
                },
            }
        }
        _ => return Err(unclear("format")),
    };
    Ok(CopyOut {
        header,
        encoding,
        format,
    })
}

fn unclear(option: &str) -> Refusal {
    let part = format!("COPY … {}", option.to_uppercase());
    Refusal::new(part, "it cannot be read")
}

fn text(option: &DefElem) -> Result<String> {
    match option.arg.as_deref().map(inner).transpose()? {
        // Words of the grammar come folded, texts as they are.
        Some(NodeEnum::String(text)) => Ok(text.sval.clone()),
        _ => Err(unclear(&option.defname)),
    }
}

/// One byte that stands for itself in all encodings, and is no part of the end of a line.
fn byte(option: &DefElem) -> Result<u8> {
    match text(option)?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(*byte),
        _ => Err(unclear(&option.defname)),
    }
}

fn truth(option: &DefElem) -> Option<bool> {
    let Some(said) = option.arg.as_deref() else {
        return Some(true);
    };
    match inner(said).ok()? {
        NodeEnum::Integer(number) if matches!(number.ival, 0 | 1) => Some(number.ival == 1),
        NodeEnum::Boolean(truth) => Some(truth.boolval),
        NodeEnum::String(text) => match text.sval.to_ascii_lowercase().as_str() {
            "true" | "on" => Some(true),
            "false" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn is_header(option: &DefElem) -> Result<bool> {
    match (truth(option), text(option)) {
        (Some(header), _) => Ok(header),
        (None, Ok(text)) if text.eq_ignore_ascii_case("match") => Ok(true),
        _ => Err(unclear("header")),
    }
}
