//! From a command to its answer.

use std::sync::Arc;

use pgherd_config::Role;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console::check;
use crate::console::command::Command;
use crate::console::show::{Show, help};
use crate::console::table::Row;
use crate::console::verb::Done;
use crate::control::Control;
use crate::drain::Ending;
use crate::facts::Facts;

/// The answer to a command.
#[derive(Debug, Default)]
pub struct Answer {
    /// Notices that come first.
    pub notices: Vec<ErrorReport>,
    /// The rows; `None` if the command has none to give.
    pub rows: Option<Vec<Row>>,
    /// What CommandComplete says; empty for the empty query.
    pub tag: &'static str,
    /// How the proxy is to end, once the answer has been sent.
    pub ending: Option<Ending>,
}

/// Checks that a role may give a command.
///
/// # Errors
/// 42501 if it may not.
pub fn permit(role: Role, command: &Command) -> Result<(), ErrorReport> {
    if role >= command.needs() {
        return Ok(());
    }
    Err(
        ErrorReport::error(sqlstate::INSUFFICIENT_PRIVILEGE, "only admins may do this").hint(
            "Users under admin.readers may only SHOW; see admin.admins in the configuration.",
        ),
    )
}

/// Carries a command out.
///
/// # Errors
/// What the asker is told.
pub async fn answer(
    command: &Command,
    role: Role,
    facts: &Arc<Facts>,
    control: &Control,
) -> Result<Answer, ErrorReport> {
    permit(role, command)?;
    let rows = |rows, tag| Answer {
        rows: Some(rows),
        tag,
        ..Answer::default()
    };
    Ok(match command {
        Command::Empty => Answer::default(),
        Command::Habit(tag) => Answer {
            tag,
            ..Answer::default()
        },
        Command::Show(Show::Help) => Answer {
            notices: vec![help::notice()],
            tag: "SHOW",
            ..Answer::default()
        },
        Command::Show(show) => rows(show.rows(facts).await?, "SHOW"),
        Command::Parameter(parameter) => rows(vec![vec![parameter.value()]], "SHOW"),
        Command::Select(select) => rows(vec![vec![select.answer(control)]], "SELECT 1"),
        Command::Check { database, timeout } => {
            let (found, notices) =
                check::check(database.as_deref(), *timeout, facts, control).await?;
            Answer {
                notices,
                ..rows(found, "CHECK SHARDING")
            }
        }
        Command::Verb(verb) => {
            if let Some(who) = control.identity() {
                tracing::info!(user = who.user, ?verb, "console");
            }
            let Done { notices, ending } = verb.act(facts).await?;
            Answer {
                notices,
                rows: None,
                tag: verb.tag(),
                ending,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use pgherd_config::Role;

    use super::permit;
    use crate::console::command::read;

    /// Every command, and whether a reader may give it.
    const COMMANDS: [(&str, bool); 21] = [
        ("", true),
        ("SELECT 1", true),
        ("SELECT version()", true),
        ("SHOW timezone", true),
        ("SHOW HELP", true),
        ("SET client_encoding = 'UTF8'", true),
        ("BEGIN", true),
        ("SET pool_mode = session", false),
        ("PAUSE", false),
        ("PAUSE a", false),
        ("RESUME", false),
        ("RECONNECT", false),
        ("WAIT_CLOSE", false),
        ("KILL", false),
        ("KILL_CLIENT 1", false),
        ("DISABLE a", false),
        ("ENABLE a", false),
        ("SUSPEND", false),
        ("CHECK SHARDING", false),
        ("RELOAD", false),
        ("SHUTDOWN WAIT_FOR_CLIENTS", false),
    ];

    #[test]
    fn who_may_do_what() {
        for (text, open) in COMMANDS {
            let command = read(text).expect("whole").remove(0).expect("known");
            assert_eq!(permit(Role::Admin, &command), Ok(()), "{text}");
            let code = permit(Role::Reader, &command).map_err(|report| report.code.to_string());
            let wanted = if open {
                Ok(())
            } else {
                Err("42501".to_owned())
            };
            assert_eq!(code, wanted, "{text}");
            assert!(permit(Role::None, &command).is_err(), "{text}");
        }
    }
}
