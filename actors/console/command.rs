//! What may be asked of the console.

use std::time::Duration;

use pgherd_config::Role;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console::check;
use crate::console::parameter::{self, Parameter};
use crate::console::select::{self, Select};
use crate::console::show::Show;
use crate::console::table::Column;
use crate::console::verb::{Scope, Verb};
use crate::console::words::{Word, statements};
use crate::drain::Ending;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing at all, as drivers ask to see whether somebody is there.
    Empty,
    /// What drivers say by habit and has no meaning here; the tag that they expect.
    Habit(&'static str),
    /// A table.
    Show(Show),
    /// A parameter of the session, as drivers ask for it.
    Parameter(Parameter),
    /// One of the questions that drivers and tools put as queries.
    Select(Select),
    /// A look at the rows of sharded databases.
    Check {
        /// The database, in the name that clients use; `None` is all that are sharded.
        database: Option<String>,
        /// For how long it may go on.
        timeout: Duration,
    },
    /// A deed.
    Verb(Verb),
}

impl Command {
    /// The least role that may give it.
    pub fn needs(&self) -> Role {
        match self {
            Self::Verb(_) | Self::Check { .. } => Role::Admin,
            _ => Role::Reader,
        }
    }

    /// The columns of its answer, none if it has no rows.
    pub fn columns(&self) -> Vec<Column> {
        match self {
            Self::Show(show) => show.columns().to_vec(),
            Self::Parameter(parameter) => vec![parameter.column()],
            Self::Select(select) => vec![select.column()],
            Self::Check { .. } => check::COLUMNS.to_vec(),
            Self::Empty | Self::Habit(_) | Self::Verb(_) => Vec::new(),
        }
    }
}

/// The commands of a text, one for each of its statements; each understood by itself, so that those
/// before a wrong one are carried out, as Postgres does. An empty text is one empty command.
///
/// # Errors
/// 42601 for a quote or comment without end.
pub fn read(text: &str) -> Result<Vec<Result<Command, ErrorReport>>, ErrorReport> {
    let statements = statements(text)
        .map_err(|error| ErrorReport::error(sqlstate::SYNTAX_ERROR, error.to_string()))?;
    let filled: Vec<_> = statements
        .iter()
        .filter(|words| !words.is_empty())
        .collect();
    if filled.is_empty() {
        return Ok(vec![Ok(Command::Empty)]);
    }
    Ok(filled.into_iter().map(|words| parse(words)).collect())
}

fn parse(words: &[Word<'_>]) -> Result<Command, ErrorReport> {
    let keys: Vec<String> = words.iter().map(Word::key).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rest = &words[1..];
    let verb = match keys.as_slice() {
        ["show", asked @ ..] => return show(asked),
        ["select", asked @ ..] => return select(asked, rest),
        ["set", ..] => return set(&keys, rest),
        ["check", "sharding", asked @ ..] => return check(asked, &words[2..]),
        ["check", ..] => return Err(syntax("CHECK what? There is CHECK SHARDING")),
        ["pause", ..] => Verb::Pause(scope(rest)?),
        ["resume", ..] => Verb::Resume(scope(rest)?),
        ["reconnect", ..] => Verb::Reconnect(scope(rest)?),
        ["wait_close", ..] => Verb::WaitClose(scope(rest)?),
        ["kill", ..] => Verb::Kill(scope(rest)?),
        ["kill_client", ..] => Verb::KillClient(client(rest)?),
        ["disable", ..] => Verb::Disable(one(rest)?),
        ["enable", ..] => Verb::Enable(one(rest)?),
        ["switchover", ..] => switchover(&keys, rest)?,
        ["adopt", ..] => adopt(rest)?,
        ["suspend"] => Verb::Suspend,
        ["reload"] => Verb::Reload,
        ["shutdown"] => Verb::Shutdown(Ending::AtOnce),
        ["shutdown", "wait_for_servers"] => Verb::Shutdown(Ending::Gracefully),
        ["shutdown", "wait_for_clients"] => Verb::Shutdown(Ending::WhenClientsLeft),
        _ => {
            return habit(&keys)
                .map(Command::Habit)
                .ok_or_else(|| unknown(words));
        }
    };
    Ok(Command::Verb(verb))
}

fn show(asked: &[&str]) -> Result<Command, ErrorReport> {
    let known = match asked {
        [name] => Show::named(name).map(Command::Show),
        // SHOW STATS TOTALS is how older tools write SHOW STATS_TOTALS.
        ["stats", part] => Show::named(&format!("stats_{part}")).map(Command::Show),
        _ => None,
    };
    let parameter = || parameter::find(asked).map(Command::Parameter);
    known.or_else(parameter).ok_or_else(|| match asked {
        ["fds"] => unsupported("SHOW FDS is not supported")
            .hint("Sockets are handed to a new process by that process, not by a table."),
        [] => syntax("SHOW what?"),
        _ => syntax(format!(
            "there is no SHOW {}",
            asked.join(" ").to_ascii_uppercase()
        )),
    })
}

/// PgBouncer answers `SELECT word` as `SHOW word`; the rest are questions of drivers.
fn select(asked: &[&str], words: &[Word<'_>]) -> Result<Command, ErrorReport> {
    if let [name] = asked
        && let Some(show) = Show::named(name)
    {
        return Ok(Command::Show(show));
    }
    select::find(words).map(Command::Select).ok_or_else(|| {
        ErrorReport::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "the console does not run queries",
        )
        .hint("It knows the commands that SHOW HELP lists; connect to another database for SQL.")
    })
}

fn set(keys: &[&str], words: &[Word<'_>]) -> Result<Command, ErrorReport> {
    if parameter::is_settable(&keys[1..]) {
        return Ok(Command::Habit("SET"));
    }
    match words.first().and_then(Word::name) {
        Some(name) if words.len() > 1 => Ok(Command::Verb(Verb::Set(name.to_owned()))),
        _ => Err(syntax("SET needs a name and a value")),
    }
}

fn habit(keys: &[&str]) -> Option<&'static str> {
    Some(match keys {
        ["begin", ..] => "BEGIN",
        ["start", "transaction", ..] => "START TRANSACTION",
        ["commit" | "end", ..] => "COMMIT",
        ["rollback" | "abort"] => "ROLLBACK",
        ["discard", "all"] => "DISCARD ALL",
        ["deallocate", "all"] => "DEALLOCATE ALL",
        ["reset", ..] => "RESET",
        ["close", "all"] => "CLOSE CURSOR ALL",
        ["unlisten", "*"] => "UNLISTEN",
        _ => return None,
    })
}

fn scope(words: &[Word<'_>]) -> Result<Scope, ErrorReport> {
    if words.is_empty() {
        Ok(Scope::All)
    } else {
        one(words).map(Scope::Database)
    }
}

/// A database whose clients are meant. The section of those that are not named is none: nobody asks for it by that name,
/// and it must not look as if something was done.
fn one(words: &[Word<'_>]) -> Result<String, ErrorReport> {
    let name = database(words)?;
    match name == pgherd_config::WILDCARD {
        true => Err(ErrorReport::error(
            sqlstate::INVALID_CATALOG_NAME,
            format!("no such database: {name}"),
        )
        .hint("Name one of those for which it stands; most commands mean all if none is named.")),
        false => Ok(name),
    }
}

fn database(words: &[Word<'_>]) -> Result<String, ErrorReport> {
    match words {
        [word] => word
            .name()
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        _ => None,
    }
    .ok_or_else(|| syntax("the name of one database is expected"))
}

fn switchover(keys: &[&str], words: &[Word<'_>]) -> Result<Verb, ErrorReport> {
    let (name, grace) = match keys {
        [_, _] => (words, None),
        [_, _, "grace", seconds] => {
            let seconds = seconds.parse().ok().filter(|seconds| *seconds <= GRACE_MAX);
            let seconds = seconds
                .ok_or_else(|| syntax(format!("GRACE takes whole seconds, up to {GRACE_MAX}")))?;
            (&words[..1], Some(Duration::from_secs(seconds)))
        }
        _ => {
            return Err(syntax(
                "SWITCHOVER takes a database, and GRACE with seconds",
            ));
        }
    };
    let database = database(name)?;
    Ok(Verb::Switchover { database, grace })
}

fn adopt(words: &[Word<'_>]) -> Result<Verb, ErrorReport> {
    let Some((name, host)) = words.split_first() else {
        return Err(syntax(
            "ADOPT takes a database, and a host if that is meant",
        ));
    };
    let host = match host {
        [] => None,
        [host] => host.name().map(str::to_owned),
        // A host without quotes.
        [Word::Plain(host), Word::Sign(':'), Word::Plain(port)] => Some(format!("{host}:{port}")),
        _ => {
            return Err(syntax(
                "a host is expected, as SHOW HOSTS has it, in quotes",
            ));
        }
    };
    Ok(Verb::Adopt {
        database: database(std::slice::from_ref(name))?,
        host,
    })
}

/// For how long CHECK SHARDING goes on if nothing is said, in seconds.
const CHECK_USUAL: u64 = 600;
/// It goes on no longer.
const CHECK_MAX: u64 = 7 * 24 * 3600;

fn check(asked: &[&str], words: &[Word<'_>]) -> Result<Command, ErrorReport> {
    let (names, seconds) = match asked {
        [names @ .., "timeout", seconds] if names.len() < 2 => (&words[..names.len()], *seconds),
        [] | [_] => (words, ""),
        _ => {
            return Err(syntax(
                "CHECK SHARDING takes a database, and TIMEOUT with seconds",
            ));
        }
    };
    let seconds = match seconds {
        "" => Some(CHECK_USUAL),
        said => said.parse().ok().filter(|it| (1..=CHECK_MAX).contains(it)),
    };
    let seconds =
        seconds.ok_or_else(|| syntax(format!("TIMEOUT takes whole seconds, up to {CHECK_MAX}")))?;
    let database = match names {
        [] => None,
        names => Some(database(names)?),
    };
    Ok(Command::Check {
        database,
        timeout: Duration::from_secs(seconds),
    })
}

/// A longer grace time is none.
const GRACE_MAX: u64 = 3600;

fn client(words: &[Word<'_>]) -> Result<i32, ErrorReport> {
    let name = if let [word] = words {
        word.name()
    } else {
        None
    };
    // SHOW CLIENTS writes `c7` where PgBouncer has an address, which its KILL_CLIENT takes.
    name.and_then(|name| name.strip_prefix('c').unwrap_or(name).parse().ok())
        .ok_or_else(|| syntax("the id of a client is expected, as SHOW CLIENTS has it"))
}

fn syntax(message: impl Into<String>) -> ErrorReport {
    ErrorReport::error(sqlstate::SYNTAX_ERROR, message).hint(hint())
}

fn unsupported(message: &str) -> ErrorReport {
    ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
}

/// The longest part of an unknown command that is told back, in characters.
const ECHO_MAX: usize = 40;

fn unknown(words: &[Word<'_>]) -> ErrorReport {
    let first = words.first().and_then(Word::name).unwrap_or("");
    let first: String = first.chars().take(ECHO_MAX).collect();
    syntax(format!("unknown command \"{first}\""))
}

fn hint() -> String {
    format!(
        "The commands are: SHOW {}; {VERBS}.",
        Show::names().join("|")
    )
}

/// The verbs, as the hint and the help write them.
pub const VERBS: &str = "PAUSE [db], RESUME [db], RECONNECT [db], WAIT_CLOSE [db], KILL [db], \
    KILL_CLIENT id, DISABLE db, ENABLE db, SWITCHOVER db [GRACE seconds], ADOPT db [host], CHECK SHARDING [db] [TIMEOUT seconds], RELOAD, SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]";

#[cfg(test)]
mod tests;
