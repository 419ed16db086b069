//! What the body of a function in SQL or PL/pgSQL does to the session that runs it.
//!
//! Errs towards harm: a body is harmless only if it provably says nothing that outlives its transaction.

use std::cell::OnceCell;

use crate::effect::{Call, Calls};
use crate::lexer::{LexOptions, Lexer, Names, Token, TokenKind};
use crate::script::{Named, named};
use crate::word::{Word, word};

/// What was found in a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Something in it may change the session, whatever the functions that it calls do.
    pub harmful: bool,
    /// It may write rows, and so wake triggers.
    pub writes: bool,
    /// It makes statements or names of settings at run time, so that it may set any.
    pub obscure: bool,
    /// Whether it changes what the database consists of, so that other code may run from then on, itself.
    pub defines: Defines,
    /// It names a setting in a way that is not read here.
    pub unread: bool,
    /// The functions that it calls, in lower case, but for those of Postgres that are harmless.
    pub calls: Vec<Box<[u8]>>,
    /// The settings with a dot in their names that it sets, also those for the transaction only: the session gets to
    /// know them.
    pub settings: Vec<Box<str>>,
    /// The settings of Postgres itself that it sets, also those for the transaction only, in lower case. An empty one
    /// stands for any.
    pub parameters: Vec<Box<str>>,
    /// It may make something temporary, which names may stand for from then on.
    pub temporary: bool,
}

/// Whether code changes what the database consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Defines {
    /// It does not.
    #[default]
    Nothing,
    /// It may, or does so in a way by which hardly ever other code comes to run.
    Perhaps,
    /// It says so: there are the words for that in it, or in what it puts together.
    Says,
}

/// Reads a body.
pub fn body(text: &[u8]) -> Body {
    read(text, LexOptions::default())
}

/// The settings with a dot in their names that a text may set, by words anywhere in it: also in its strings, as the
/// code of a `DO` is one. `None` if one is named in a way that is not read here.
pub fn named_settings(text: &[u8], options: LexOptions) -> Option<Vec<Box<str>>> {
    let mut found = Vec::new();
    name_settings(text, options, 0, &mut found)?;
    found.sort();
    found.dedup();
    Some(found)
}

/// How deep strings are within strings that are read.
const STRINGS_MAX: usize = 3;

fn name_settings(
    text: &[u8],
    options: LexOptions,
    depth: usize,
    found: &mut Vec<Box<str>>,
) -> Option<()> {
    let body = read(text, options);
    if body.unread {
        return None;
    }
    found.extend(body.settings);
    if depth == STRINGS_MAX {
        return Some(());
    }
    let within = LexOptions {
        names: options.names,
        ..LexOptions::default()
    };
    let mut lexer = Lexer::new(text, options);
    while let Ok(Some(token)) = lexer.token() {
        if let Some(inner) = inside(&token) {
            name_settings(&inner, within, depth + 1, found)?;
        }
    }
    Some(())
}

/// What a constant of text says, nearly.
pub(crate) fn inside(token: &Token<'_>) -> Option<Vec<u8>> {
    if !token.is_string() {
        return None;
    }
    let text = token.text;
    if token.kind == TokenKind::DollarString {
        let tag = 2 + text.get(1..)?.iter().position(|byte| *byte == b'$')?;
        let inner = text.get(tag..text.len().checked_sub(tag)?)?;
        return Some(inner.to_vec());
    }
    let open = text.iter().position(|byte| *byte == b'\'')?;
    let inner = text.get(open + 1..text.len().checked_sub(1)?)?;
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        plain.push(*byte);
        if *byte == b'\'' {
            bytes.next();
        }
    }
    Some(plain)
}

fn read(text: &[u8], options: LexOptions) -> Body {
    let mut reader = BodyReader {
        lexer: Lexer::new(text, options),
        body: Body::default(),
        calls: Calls::default(),
        before: Before::Start,
        executes: false,
        says_set: false,
        put_together: Defines::Nothing,
    };
    loop {
        match reader.lexer.token() {
            Ok(Some(token)) => reader.take(&token),
            Ok(None) => break,
            Err(_) => {
                reader.body.harmful = true;
                reader.body.obscure = true;
                reader.defines(Defines::Perhaps);
                break;
            }
        }
    }
    reader.body.obscure |= reader.executes && reader.says_set;
    if reader.executes {
        let said = reader.put_together.max(Defines::Perhaps);
        reader.defines(said);
    }
    reader.body
}

/// What stands before a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that belongs to the same statement.
    Start,
    With,
    Other,
}

struct BodyReader<'a> {
    lexer: Lexer<'a>,
    body: Body,
    calls: Calls<'a>,
    before: Before,
    executes: bool,
    /// A string has the word SET in it, or what sets.
    says_set: bool,
    /// What the strings in it say.
    put_together: Defines,
}

/// What a name in quotes says.
fn unquoted(text: &[u8]) -> impl Iterator<Item = u8> {
    let inner = text.get(1..text.len().saturating_sub(1));
    let mut bytes = inner.unwrap_or_default().iter();
    std::iter::from_fn(move || {
        let byte = *bytes.next()?;
        if byte == b'"' {
            bytes.next();
        }
        Some(byte)
    })
}

/// Words of PL/pgSQL that may stand before a parenthesis.
const BEFORE_PARENTHESES: [&[u8]; 12] = [
    b"if", b"elsif", b"elseif", b"while", b"return", b"perform", b"query", b"assert", b"loop",
    b"next", b"exit", b"raise",
];

/// What a statement that leaves something in the session begins with.
const HARMFUL: [&[u8]; 14] = [
    b"set",
    b"reset",
    b"listen",
    b"unlisten",
    b"prepare",
    b"deallocate",
    b"discard",
    b"load",
    b"call",
    b"do",
    b"create",
    b"alter",
    b"drop",
    b"import",
];

const WRITES: [&[u8]; 6] = [
    b"insert",
    b"update",
    b"delete",
    b"merge",
    b"truncate",
    b"copy",
];

/// What a statement begins with that makes or changes what lasts. What is dropped brings no other code.
const DEFINE: [&[u8]; 3] = [b"create", b"alter", b"import"];

/// No more tokens of one are looked at.
const DEFINITION_MAX: usize = 64;

/// What may stand between such a word and that for what is made.
const BETWEEN: [&[u8]; 16] = [
    b"or",
    b"replace",
    b"global",
    b"local",
    b"unlogged",
    b"unique",
    b"event",
    b"constraint",
    b"recursive",
    b"materialized",
    b"foreign",
    b"trusted",
    b"procedural",
    b"default",
    b"access",
    b"force",
];

/// What runs code, or leads to it, and what `format` may put there.
const RUN: [&[u8]; 19] = [
    b"aggregate",
    b"cast",
    b"conversion",
    b"data",
    b"domain",
    b"extension",
    b"function",
    b"language",
    b"operator",
    b"policy",
    b"procedure",
    b"routine",
    b"rule",
    b"schema",
    b"transform",
    b"trigger",
    b"view",
    b"s",
    b"i",
];

/// What a table has that runs code of its own, where it is none that is there already: its children inherit that.
const OF_TABLES: [&[u8]; 3] = [b"default", b"check", b"generated"];

/// What a text defines by the statements in it: by their words, so that it may be in a string or be cut off.
///
/// A table runs new code by what its columns bring with them, an index by an expression; both count as what hardly does
/// it where there are none.
pub fn defines(text: &[u8]) -> Defines {
    let letters = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte < 0x80;
    let is = |word: &[u8], known: &[&[u8]]| known.iter().any(|it| word.eq_ignore_ascii_case(it));
    let mut words = text.split(letters).filter(|word| !word.is_empty());
    // Told once of all of it, so that many statements in one text take no longer.
    let brings = OnceCell::new();
    let all = words.clone();
    let brings = || *brings.get_or_init(|| all.clone().any(|word| is(word, &OF_TABLES)));
    let computes = OnceCell::new();
    let opening = || text.iter().filter(|byte| **byte == b'(').count();
    let computes = || *computes.get_or_init(|| opening() > 1);
    let mut found = Defines::Nothing;
    while let Some(word) = words.next() {
        if !is(word, &DEFINE) {
            continue;
        }
        let object = words.clone().find(|word| !is(word, &BETWEEN));
        found = found.max(match object {
            // What it makes is put there at run time.
            None => Defines::Says,
            Some(object) if is(object, &[b"temp", b"temporary"]) => Defines::Nothing,
            Some(object) if is(object, &RUN) => Defines::Says,
            Some(object) if is(object, &[b"table"]) && brings() => Defines::Says,
            Some(object) if is(object, &[b"index"]) && computes() => Defines::Says,
            Some(_) => Defines::Perhaps,
        });
    }
    found
}

impl<'a> BodyReader<'a> {
    fn take(&mut self, token: &Token<'a>) {
        if token.is_string() {
            self.says_set |= token
                .text
                .windows(3)
                .any(|three| three.eq_ignore_ascii_case(b"set"));
            self.put_together = self.put_together.max(defines(token.text));
        }
        match token.kind {
            TokenKind::Word => self.word(token),
            TokenKind::QuotedWord => self.name(&token.text[1..token.text.len() - 1]),
            TokenKind::UnicodeWord => {
                self.body.harmful = true;
                self.defines(Defines::Perhaps);
            }
            _ => {}
        }
        self.before = match token.kind {
            TokenKind::Punct(b';') => Before::Start,
            TokenKind::Operator if token.text == b">>" => Before::Start,
            TokenKind::Word => {
                const STARTS: [&[u8]; 6] =
                    [b"begin", b"then", b"else", b"loop", b"atomic", b"declare"];
                if STARTS.iter().any(|word| token.is_word(word)) {
                    Before::Start
                } else if token.is_word(b"with") {
                    Before::With
                } else {
                    Before::Other
                }
            }
            _ => Before::Other,
        };
        if let Some(call) = self.calls.step(token) {
            self.call(call);
        }
    }

    fn call(&mut self, call: Call<'a>) {
        let name = match call {
            Call::UsesSequence | Call::Volatile => return,
            // It may be told what another has used.
            Call::AsksSequence => {
                self.body.harmful = true;
                return;
            }
            Call::Unknown(name) => name.map(<[u8]>::to_ascii_lowercase),
        };
        match name {
            None => {
                self.body.harmful = true;
                self.defines(Defines::Perhaps);
            }
            Some(name) if BEFORE_PARENTHESES.contains(&&*name) => {}
            Some(name) if name == b"set_config" => self.set_config(),
            Some(name) => self.body.calls.push(name.into()),
        }
    }

    fn word(&mut self, token: &Token<'_>) {
        self.body.writes |= WRITES.iter().any(|word| token.is_word(word));
        if token.is_word(b"execute") {
            self.executes = true;
            self.body.harmful = true;
        }
        if token.is_word(b"hold") && self.before == Before::With {
            self.body.harmful = true;
        }
        if self.before == Before::Start && HARMFUL.iter().any(|word| token.is_word(word)) {
            let next = self.lexer.peek_token();
            let local = |next: Token<'_>| token.is_word(b"set") && next.is_word(b"local");
            self.body.harmful |= !next.is_ok_and(|next| next.is_some_and(local));
            self.setting(token);
            self.definition(token);
        }
        self.name(token.text);
    }

    fn defines(&mut self, how: Defines) {
        self.body.defines = self.body.defines.max(how);
    }

    /// What a statement defines that begins with this word.
    fn definition(&mut self, token: &Token<'_>) {
        if token.is_word(b"do") {
            // What it says is a string of this body.
            self.executes = true;
        }
        if !DEFINE.iter().any(|word| token.is_word(word)) {
            return;
        }
        let mut text = token.text.to_vec();
        let mut ahead = self.lexer;
        for _ in 0..DEFINITION_MAX {
            match ahead.token() {
                Ok(Some(next)) if !next.is(b';') => {
                    text.push(b' ');
                    text.extend_from_slice(next.text);
                }
                _ => return self.defines(defines(&text)),
            }
        }
        // What it has in the end is not known.
        let said = match defines(&text) {
            Defines::Nothing => Defines::Nothing,
            Defines::Perhaps | Defines::Says => Defines::Says,
        };
        self.defines(said);
    }

    /// The name behind a SET.
    fn setting(&mut self, token: &Token<'_>) {
        if token.is_word(b"reset") {
            self.body.parameters.push("".into());
        }
        if !token.is_word(b"set") {
            return;
        }
        let mut ahead = self.lexer;
        let mut next = || ahead.token().ok().flatten();
        let mut part = next();
        if part.is_some_and(|part| part.is_word(b"session") || part.is_word(b"local")) {
            part = next();
        }
        let mut name = Vec::new();
        while let Some(token) = part {
            match token.kind {
                TokenKind::Word => name.extend_from_slice(token.text),
                TokenKind::QuotedWord => name.extend(unquoted(token.text)),
                TokenKind::UnicodeWord => self.cannot_read(),
                _ => break,
            }
            part = next().filter(|dot| dot.is(b'.')).and_then(|_| next());
            if part.is_some() {
                name.push(b'.');
            }
        }
        if name.contains(&b'.') {
            self.remember(&name);
        } else {
            self.parameter(&name);
        }
    }

    /// A setting of Postgres itself, as its name stands behind a SET.
    fn parameter(&mut self, name: &[u8]) {
        let lower = name.to_ascii_lowercase();
        let name = match &*lower {
            b"constraints" | b"transaction" | b"characteristics" => return,
            b"time" => "timezone",
            b"names" => "client_encoding",
            b"schema" => "search_path",
            b"xml" => "xmloption",
            b"authorization" => "session_authorization",
            name => std::str::from_utf8(name).unwrap_or_default(),
        };
        self.body.parameters.push(name.into());
    }

    fn remember(&mut self, name: &[u8]) {
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$') || !byte.is_ascii()
        };
        // Others can be named all the same, but what is made of them where they are no names is not told.
        self.body.obscure |= !name.iter().all(|byte| plain(*byte));
        // Postgres compares them without regard to case only in ASCII.
        let is_told = name.is_ascii() || self.lexer.names() == Names::Utf8;
        match std::str::from_utf8(name) {
            Ok(name) if is_told => self.body.settings.push(name.to_ascii_lowercase().into()),
            _ => self.cannot_read(),
        }
    }

    fn cannot_read(&mut self) {
        self.body.obscure = true;
        self.body.unread = true;
    }

    /// Names that tell what they do.
    fn name(&mut self, name: &[u8]) {
        match word(name) {
            Word::Setseed | Word::AdvisoryLock | Word::TryAdvisoryLock | Word::Bound => {
                self.body.harmful = true;
            }
            Word::PgTemp | Word::Temp => {
                self.body.harmful = true;
                self.body.temporary = true;
            }
            _ => {}
        }
    }

    /// A call of `set_config`, read up to its parenthesis.
    fn set_config(&mut self) {
        let mut ahead = self.lexer;
        let mut tokens = Vec::new();
        // Name, value and the third argument are seldom longer.
        while tokens.len() < 32
            && let Ok(Some(token)) = ahead.token()
            && !token.is(b';')
        {
            tokens.push(token);
        }
        let (mut depth, mut ends) = (0usize, None);
        for (at, token) in tokens.iter().enumerate() {
            match token.kind {
                TokenKind::Punct(b'(' | b'[') => depth += 1,
                TokenKind::Punct(b')') if depth == 0 => {
                    ends = Some(at);
                    break;
                }
                TokenKind::Punct(b')' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let last = ends.and_then(|end| Some((tokens.get(end.checked_sub(2)?)?, &tokens[end - 1])));
        let local = last.is_some_and(|(comma, last)| comma.is(b',') && last.is_word(b"true"));
        self.body.harmful |= !local;
        match named(&tokens) {
            Named::Plainly(name) if name.contains('.') => self.remember(name.as_bytes()),
            // What Postgres knows itself shows among its settings.
            Named::Plainly(name) => self.parameter(name.as_bytes()),
            Named::Unread => self.cannot_read(),
            // What is over with the transaction is an empty text from then on, and the name is not known.
            Named::Computed => {
                self.body.obscure |= !local;
                if !begins_with_dot(&tokens) {
                    self.body.parameters.push("".into());
                }
            }
        }
    }
}

/// Whether a name that is put together begins with a text that has a dot in it: Postgres itself has none of that kind.
fn begins_with_dot(arguments: &[Token<'_>]) -> bool {
    let [first, then, ..] = arguments else {
        return false;
    };
    first.is_string() && first.text.contains(&b'.') && then.text == b"||"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Defines, body, defines, named_settings};
    use crate::lexer::{LexOptions, Names};

    #[test]
    fn what_touches_no_session_is_harmless() {
        for (text, calls) in [
            ("select $1 + 1", ""),
            ("begin return upper(new.name); end", ""),
            ("begin new.at := now(); return new; end;", ""),
            (
                "declare n int; begin update t set a = 1 where b = 2; if (n > 1) then \
                 insert into log (a) values (new.a); end if; return new; end",
                "",
            ),
            (
                "begin set local work_mem = '1MB'; perform set_config('app.x', n, true); end",
                "",
            ),
            (
                "begin notify news; perform pg_notify('news', 'x'); return null; end",
                "",
            ),
            ("begin perform audit(new.id); return new; end", "audit"),
            (
                "begin insert into t values (1) on conflict do nothing; end",
                "",
            ),
            ("begin raise notice 'set x'; end", ""),
        ] {
            let found = body(text.as_bytes());
            assert!(!found.harmful && !found.obscure, "{text} {found:?}");
            let names: Vec<_> = found
                .calls
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            assert_eq!(names.join(" "), calls, "{text}");
        }
    }

    #[test]
    fn what_may_touch_the_session_is_not() {
        for text in [
            "begin set work_mem = '1MB'; end",
            "begin if true then set role x; end if; end",
            "begin perform set_config('work_mem', '1MB', false); end",
            "begin perform set_config('work_mem', '1MB', $1); end",
            "begin execute 'select 1'; end",
            "begin for r in execute q loop end loop; end",
            "begin create temp table x (a int); end",
            "begin create table x (a int); end",
            "begin perform pg_advisory_lock(1); end",
            "begin perform setseed(0.5); end",
            "begin insert into pg_temp.x values (1); end",
            "begin listen x; end",
            "<<label>> set x = 1",
            "select U&\"f\"(1)",
            "declare c cursor with hold for select 1",
            "select 'open",
            "/* open",
            "begin prepare p as select 1; end",
            "select lastval()",
        ] {
            assert!(body(text.as_bytes()).harmful, "{text}");
        }
    }

    #[test]
    fn what_makes_other_code_run_is_told() {
        for (text, how) in [
            ("begin perform f(); set role x; end", Defines::Nothing),
            (
                "begin create temp table x (a int default f()); drop table x; end",
                Defines::Nothing,
            ),
            (
                "begin create or replace temporary view x as select 1; end",
                Defines::Nothing,
            ),
            (
                "begin raise notice 'create function'; end",
                Defines::Nothing,
            ),
            (
                "begin create table if not exists x (a int); end",
                Defines::Perhaps,
            ),
            ("begin create index on x (a); end", Defines::Perhaps),
            (
                "begin alter table x attach partition y for values in (1); end",
                Defines::Perhaps,
            ),
            ("begin execute 'select 1'; end", Defines::Perhaps),
            (
                "begin execute format('create table if not exists %I partition of x', y); end",
                Defines::Perhaps,
            ),
            (
                "begin execute 'could not create order'; end",
                Defines::Perhaps,
            ),
            (
                "begin create table x (a int default f()); end",
                Defines::Says,
            ),
            (
                "begin if a then create or replace function f() returns int; end if; end",
                Defines::Says,
            ),
            ("begin create index on x (f(a)); end", Defines::Says),
            (
                "begin create constraint trigger x after insert on t execute function f(); end",
                Defines::Says,
            ),
            (
                "begin alter table x alter a set default f(); end",
                Defines::Says,
            ),
            ("begin execute 'create trigger ' || x; end", Defines::Says),
            ("begin execute 'create ' || x; end", Defines::Says),
            (
                "begin execute format('create or replace %s x', y); end",
                Defines::Says,
            ),
            (
                "begin do $x$ begin create view v as select 1; end $x$; end",
                Defines::Says,
            ),
            (
                "import foreign schema x from server y into z",
                Defines::Says,
            ),
        ] {
            assert_eq!(body(text.as_bytes()).defines, how, "{text}");
        }
        // What is long in the end is not known.
        let columns = "a int, ".repeat(40);
        let long = format!("begin create table x ({columns} b int); end");
        assert_eq!(body(long.as_bytes()).defines, Defines::Says);
    }

    #[test]
    fn many_definitions_in_one_text_take_no_long_time() {
        let began = std::time::Instant::now();
        for word in [
            "create table ",
            "create or ",
            "then create ",
            "begin alter ",
        ] {
            let text = word.repeat(20_000);
            let _ = (defines(text.as_bytes()), body(text.as_bytes()));
        }
        assert!(began.elapsed().as_secs() < 20);
    }

    #[test]
    fn settings_of_ones_own_are_named() {
        let text = "begin perform set_config('App.Tenant', x, false); set my.thing = 1; end";
        let found = body(text.as_bytes());
        assert_eq!(found.settings, ["app.tenant".into(), "my.thing".into()]);
        assert!(!found.obscure);
        let found = body(b"begin perform set_config('app.a', x, true); set local app.b = 1; end");
        assert_eq!(found.settings, ["app.a".into(), "app.b".into()]);
        assert!(!found.harmful && !found.obscure);
        assert!(!body(b"begin perform set_config(x, y, true); end").obscure);
        assert!(body(b"begin perform set_config('app.' || x, y, false); end").obscure);
        assert!(body(b"begin execute format('set app.x = %L', y); end").obscure);
        assert!(!body(b"begin execute 'select 1'; end").obscure);
    }

    #[test]
    fn settings_of_postgres_itself_are_told() {
        for (text, names) in [
            (
                "begin perform set_config('Search_Path', x, true); set local datestyle = 'DMY'; end",
                "search_path datestyle",
            ),
            (
                "begin set local time zone 'UTC'; set schema 'a'; set session authorization x; set local role x; end",
                "timezone search_path session_authorization role",
            ),
            (
                "begin perform set_config('app.x', y, true); set constraints all deferred; end",
                "",
            ),
            ("begin perform set_config('app.' || x, y, true); end", ""),
            ("select set_config(x || 'app.', y, true)", "any"),
            ("begin perform set_config(x, y, true); end", "any"),
            ("begin reset all; end", "any"),
            ("update t set search_path = 1", ""),
        ] {
            let found = body(text.as_bytes()).parameters;
            let found = found.iter().map(|name| match &**name {
                "" => "any",
                name => name,
            });
            assert_eq!(found.collect::<Vec<_>>().join(" "), names, "{text}");
        }
        assert!(body(b"begin create temp table x (a int); end").temporary);
        assert!(!body(b"begin insert into t values (1); end").temporary);
    }

    #[test]
    fn settings_are_found_wherever_they_are_named() {
        for (text, names) in [
            (
                "do $$ begin perform set_config('app.a', '1', true); end $$",
                "app.a",
            ),
            (
                "do 'begin set app.a = 1; perform set_config(''app.b'', x, y); end'",
                "app.a app.b",
            ),
            (
                "do $x$ begin execute 'set local app.a = 1'; end $x$ language plpgsql",
                "app.a",
            ),
            (
                "set app.a = E'\\n'; set session app.b to $$x$$; set local app.c = ''",
                "app.a app.b app.c",
            ),
            (
                "copy (select \"set_config\"('app.a', 'b', false)) to stdout",
                "app.a",
            ),
            ("select set_config('work_mem', '1MB', false), 'app.a'", ""),
            (
                "set \"App.a\" = 1; set app.\"B\" = 1; set local \"app\".c to 1; set a.b.c = 1",
                "a.b.c app.a app.b app.c",
            ),
            ("set \"a\"\".b\" = 1; set \"work_mem\" = 1", "a\".b"),
            (
                "select set_config('app.a'::text, x, true), set_config(e'app.b', x, true), \
                 set_config($$App.c$$, x, y), set_config('app.d'::character varying, x, y), \
                 set_config(setting_name => 'app.e', new_value => x, is_local => true)",
                "app.a app.b app.c app.d app.e",
            ),
            (
                "select set_config('app.' || x, y, true), set_config('app.'::text || x, y, true), \
                 set_config(x::text, y, true), set_config($1, y, true)",
                "",
            ),
            ("select '", ""),
            ("do $$", ""),
        ] {
            let found = named_settings(text.as_bytes(), LexOptions::default());
            assert_eq!(found.expect("all are read").join(" "), names, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_a_name_is_told() {
        for text in [
            "set u&\"a.b\" = 1",
            "set app.\u{e9} = 1",
            "select set_config(e'app.\\x61', x, true)",
            "select set_config(u&'app.a', x, true)",
            "select set_config(u&'app!0061' uescape '!', x, true)",
            "select set_config('app.'\n'a', x, true)",
            "select set_config('app.a'::varchar(5), x, true)",
            "select set_config(is_local => true, setting_name => 'app.a', new_value => x)",
            "do $$ begin perform set_config(e'app.\\x61', x, true); end $$",
        ] {
            let found = named_settings(text.as_bytes(), LexOptions::default());
            assert_eq!(found, None, "{text}");
            let found = body(text.as_bytes());
            assert_eq!(found.unread, !text.starts_with("do"), "{text}");
            assert!(found.obscure || !found.unread, "{text}");
        }
    }

    #[test]
    fn names_are_not_of_ascii_only() {
        let options = LexOptions {
            names: Names::Utf8,
            ..LexOptions::default()
        };
        for text in [
            "set App.\u{e9}T\u{c9} = 1",
            "do $$ begin perform set_config('App.\u{e9}t\u{c9}', x, true); end $$",
        ] {
            let found = named_settings(text.as_bytes(), options);
            let expected: Box<str> = "app.\u{e9}t\u{c9}".into();
            assert_eq!(found, Some(vec![expected]), "{text}");
        }
        assert_eq!(named_settings(b"set app.\xe9 = 1", options), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = body(&bytes);
            let _ = named_settings(&bytes, LexOptions::default());
        }
    }
}
