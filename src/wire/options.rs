//! The `options` start-up parameter: command-line switches of a server process.
//!
//! Source: `pg_split_opts` and the switches of `process_postgres_switches`, PostgreSQL
//! documentation of `PGOPTIONS`. Switches that set a parameter are understood, all others are
//! refused: a proxy cannot pass them on to servers that already run.

use thiserror::Error;

#[cfg(test)]
mod tests;

/// Options that do not set parameters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A switch other than `-c` and `--`.
    #[error("invalid command-line argument for server process: {0}")]
    Unknown(String),
    /// A `-c` at the end, with nothing to set.
    #[error("option requires an argument -- 'c'")]
    NothingToSet,
    /// A setting without a value.
    #[error("-c {0} requires a value")]
    NoValue(String),
    /// A setting without a name.
    #[error("invalid configuration parameter name \"\"")]
    NoName,
}

/// The parameters that `options` set, in its order.
///
/// White space separates the words, a backslash takes the next character as it is, `-c a=b`,
/// `-ca=b` and `--a=b` set `a` to `b`, and a hyphen in a name stands for an underscore.
///
/// # Errors
/// The first word that sets nothing.
pub fn parse(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = words(options);
    while let Some(word) = words.next() {
        // It ends the switches, and there are none but these.
        if word == "--" {
            return words
                .next()
                .map_or(Ok(settings), |word| Err(OptionsError::Unknown(word)));
        }
        let setting = if let Some(long) = word.strip_prefix("--") {
            split(long)?
        } else if word == "-c" {
            split(&words.next().ok_or(OptionsError::NothingToSet)?)?
        } else if let Some(short) = word.strip_prefix("-c") {
            split(short)?
        } else {
            return Err(OptionsError::Unknown(word));
        };
        settings.push(setting);
    }
    Ok(settings)
}

fn split(setting: &str) -> Result<(String, String), OptionsError> {
    let Some((name, value)) = setting.split_once('=') else {
        return Err(OptionsError::NoValue(setting.to_owned()));
    };
    if name.is_empty() {
        return Err(OptionsError::NoName);
    }
    Ok((name.replace('-', "_"), value.to_owned()))
}

/// The words, each at least one character of the text long, so that there is an end.
fn words(options: &str) -> impl Iterator<Item = String> {
    let mut rest = options.chars();
    std::iter::from_fn(move || {
        let mut word = String::new();
        let first = rest.by_ref().find(|letter| !is_space(*letter))?;
        let mut next = Some(first);
        while let Some(letter) = next.filter(|letter| !is_space(*letter)) {
            match letter {
                // A backslash at the very end stands for nothing, as in Postgres.
                '\\' => word.extend(rest.next()),
                _ => word.push(letter),
            }
            next = rest.next();
        }
        Some(word)
    })
}

/// What C calls white space.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Writes settings as `options` that [`parse`] reads back, for a server that is to be started
/// with them.
pub fn format<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut options = String::new();
    for (name, value) in settings {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str("-c ");
        escape(&mut options, name);
        options.push('=');
        escape(&mut options, value);
    }
    options
}

fn escape(options: &mut String, text: &str) {
    for letter in text.chars() {
        if is_space(letter) || letter == '\\' {
            options.push('\\');
        }
        options.push(letter);
    }
}
