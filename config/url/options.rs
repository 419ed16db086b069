use std::collections::BTreeMap;

use super::UrlFault;

/// Understands `-c name=value`, `-cname=value` and `--name=value`, as a server's command line.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>
pub(super) fn parse(text: String) -> Result<BTreeMap<String, String>, UrlFault> {
    let mut parameters = BTreeMap::new();
    let mut words = split(&text).into_iter();
    while let Some(word) = words.next() {
        let pair = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(pair) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            pair.to_owned()
        } else {
            return Err(UrlFault::Options(word));
        };
        match pair.split_once('=') {
            // Postgres takes `-` for `_` in names given so.
            Some((name, value)) if !name.is_empty() => {
                parameters.insert(name.replace('-', "_"), value.to_owned());
            }
            _ => return Err(UrlFault::Options(word)),
        }
    }
    Ok(parameters)
}

/// Splits at white space, which `\` escapes.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_with(String::new).extend(rest.next()),
            c => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}
