//! PostgreSQL's own grammar, for rare paths and tests: it costs 3 to 12 µs a statement.
//!
//! The C parser checks its stack against the thread's real one and refuses what is nested too deeply.

#[cfg(test)]
mod tests;

use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, VariableSetKind, VariableSetStmt, a_const::Val};

/// The longest text that is handed to the parser; longer ones are refused at once.
pub const MAX_TEXT: usize = 4 << 20;

/// Why a text was not parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not UTF-8, or with a zero byte.
    #[error("text is not UTF-8 without zero bytes")]
    Encoding,
    /// Longer than [`MAX_TEXT`].
    #[error("text of {0} bytes is too long to parse")]
    TooLong(usize),
    /// The grammar refused it, or it is nested too deeply. The parser's own words.
    #[error("{0}")]
    Refused(String),
    /// Not a single `SET` or `RESET`.
    #[error("not a single SET or RESET statement")]
    NotSet,
    /// A value of a kind that cannot be told (`SET x = $1`).
    #[error("the value of {0} is not a list of constants")]
    Value(String),
}

/// What a `SET` or `RESET` gives its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// The values of the list, each as text; more than one only for lists such as `search_path`.
    Values(Vec<String>),
    /// An interval given to `SET TIME ZONE INTERVAL '…' …`: the text of the interval, its unit left out.
    Interval(String),
    /// `DEFAULT`, or `RESET name`.
    Default,
    /// `FROM CURRENT`.
    Current,
    /// `RESET ALL`; the name is empty.
    ResetAll,
    /// `SET TRANSACTION …`, `SET SESSION CHARACTERISTICS …`: several parameters; the name is PostgreSQL's
    /// word for the kind.
    Multiple,
}

/// A `SET` or `RESET`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatement {
    /// The parameter, folded as PostgreSQL does.
    pub name: String,
    /// Its value.
    pub value: SetValue,
    /// Whether it was `SET LOCAL`.
    pub local: bool,
}

fn parse(text: &[u8]) -> Result<Vec<NodeEnum>, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::TooLong(text.len()));
    }
    let text = std::str::from_utf8(text).map_err(|_| ParseError::Encoding)?;
    let result = pg_query::parse(text, 0).map_err(|error| match error {
        pg_query::Error::Conversion(_) => ParseError::Encoding,
        other => ParseError::Refused(other.to_string()),
    })?;
    Ok(result
        .protobuf
        .stmts
        .into_iter()
        .filter_map(|raw| raw.stmt?.node)
        .collect())
}

/// The kinds of the statements of `text` by PostgreSQL's node names (`SelectStmt`, `VariableSetStmt`, …).
///
/// # Errors
/// When the text cannot be parsed.
pub fn statement_kinds(text: &[u8]) -> Result<Vec<String>, ParseError> {
    Ok(parse(text)?.iter().map(kind).collect())
}

/// The name of the variant, which is the name of the node; cut from its Debug form so as to name none here.
fn kind(node: &NodeEnum) -> String {
    struct Head(String);
    impl std::fmt::Write for Head {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            let end = part.find(|c: char| !c.is_alphanumeric());
            self.0.push_str(&part[..end.unwrap_or(part.len())]);
            // Stops the formatter at the end of the name.
            end.map_or(Ok(()), |_| Err(std::fmt::Error))
        }
    }
    let mut head = Head(String::new());
    let _stopped = std::fmt::write(&mut head, format_args!("{node:?}"));
    head.0
}

/// Takes a single `SET` or `RESET` apart.
///
/// # Errors
/// When the text cannot be parsed, is something else, or its value is no list of constants.
pub fn set_statement(text: &[u8]) -> Result<SetStatement, ParseError> {
    let mut nodes = parse(text)?.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(NodeEnum::VariableSetStmt(set)), None) => taken_apart(set),
        _ => Err(ParseError::NotSet),
    }
}

/// What a `LISTEN` or `UNLISTEN` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// `LISTEN` to a channel, named as PostgreSQL folds it.
    Listen(String),
    /// `UNLISTEN` of one channel.
    Unlisten(String),
    /// `UNLISTEN *`.
    UnlistenAll,
}

/// The longest name that is certain not to be cut: identifiers have up to 63 bytes (`NAMEDATALEN`), and
/// one of just that length may have been longer.
const NAME_MAX: usize = 62;

/// Takes a single `LISTEN` or `UNLISTEN` apart; None where it is something else, cannot be parsed, or
/// has a name that the server may cut.
pub fn channel(text: &[u8]) -> Option<Channel> {
    let mut nodes = parse(text).ok()?.into_iter();
    let (node, None) = (nodes.next()?, nodes.next()) else {
        return None;
    };
    let channel = match node {
        NodeEnum::ListenStmt(listen) => Channel::Listen(listen.conditionname),
        NodeEnum::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => {
            Channel::UnlistenAll
        }
        NodeEnum::UnlistenStmt(unlisten) => Channel::Unlisten(unlisten.conditionname),
        _ => return None,
    };
    match &channel {
        Channel::Listen(name) | Channel::Unlisten(name) if name.len() > NAME_MAX => None,
        _ => Some(channel),
    }
}

fn taken_apart(set: VariableSetStmt) -> Result<SetStatement, ParseError> {
    let value = match set.kind() {
        VariableSetKind::VarSetValue => value(&set)?,
        VariableSetKind::VarSetDefault | VariableSetKind::VarReset => SetValue::Default,
        VariableSetKind::VarSetCurrent => SetValue::Current,
        VariableSetKind::VarSetMulti => SetValue::Multiple,
        VariableSetKind::VarResetAll => SetValue::ResetAll,
        VariableSetKind::Undefined => return Err(ParseError::NotSet),
    };
    Ok(SetStatement {
        local: set.is_local,
        name: set.name,
        value,
    })
}

fn value(set: &VariableSetStmt) -> Result<SetValue, ParseError> {
    let unknown = || ParseError::Value(set.name.clone());
    let mut values = Vec::with_capacity(set.args.len());
    for arg in &set.args {
        match &arg.node {
            Some(NodeEnum::AConst(constant)) => {
                values.push(text_of(constant).ok_or_else(unknown)?);
            }
            Some(NodeEnum::TypeCast(cast)) => {
                let inner = cast.arg.as_ref().and_then(|arg| arg.node.as_ref());
                let Some(NodeEnum::AConst(constant)) = inner else {
                    return Err(unknown());
                };
                return text_of(constant)
                    .map(SetValue::Interval)
                    .ok_or_else(unknown);
            }
            _ => return Err(unknown()),
        }
    }
    Ok(SetValue::Values(values))
}

fn text_of(constant: &AConst) -> Option<String> {
    Some(match constant.val.as_ref()? {
        Val::Ival(number) => number.ival.to_string(),
        Val::Fval(number) => number.fval.clone(),
        Val::Boolval(value) => value.boolval.to_string(),
        Val::Sval(text) => text.sval.clone(),
        Val::Bsval(bits) => bits.bsval.clone(),
    })
}
