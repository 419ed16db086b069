use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::UrlFault;

/// Understands `name = value name='a value'`, with `\` before a quote or itself.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, UrlFault> {
    let mut said = BTreeMap::new();
    let mut rest = text.chars().peekable();
    let mut before = String::new();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(said);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        skip_space(&mut rest);
        if name.is_empty() || rest.next() != Some('=') {
            return Err(UrlFault::Pair(before));
        }
        skip_space(&mut rest);
        let value = value(&mut rest).ok_or_else(|| UrlFault::Pair(name.clone()))?;
        before.clone_from(&name);
        said.insert(name, value);
    }
}

/// Takes a value, which may be empty; `None` if a quote or an escape is left open.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.peek() {
            None => return (!quoted).then_some(value),
            Some(c) if !quoted && c.is_whitespace() => return Some(value),
            Some(_) => {}
        }
        match rest.next()? {
            '\'' if quoted => return Some(value),
            '\\' => value.push(rest.next()?),
            c => value.push(c),
        }
    }
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}
