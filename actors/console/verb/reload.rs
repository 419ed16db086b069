//! RELOAD.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::{Change, Effect};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::config::{ConfigMessage, ReloadError, Reloaded, TOLD_MAX};
use crate::console::verb::Done;
use crate::facts::Facts;

/// How long reading the files and telling the pools may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Puts the configuration as it is now written in force; a notice tells each setting that changed, and a warning what is
/// odd about it.
///
/// # Errors
/// F0000 with all faults, when there is any: nothing has changed then. 57P03 when nobody answers.
pub async fn reload(facts: &Arc<Facts>) -> Result<Done, ErrorReport> {
    let outcome = facts
        .configuration
        .call(ConfigMessage::Reload, PATIENCE)
        .await;
    let outcome = outcome.map_err(|error| {
        ErrorReport::error(
            sqlstate::CANNOT_CONNECT_NOW,
            "the configuration cannot be reloaded",
        )
        .detail(error.to_string())
    })?;
    match outcome {
        Ok(Reloaded { changes, warnings }) => Ok(Done {
            notices: notices(&changes, &warnings),
            ending: None,
        }),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &ReloadError) -> ErrorReport {
    ErrorReport::error(
        sqlstate::CONFIG_FILE_ERROR,
        "the configuration has faults and was not loaded",
    )
    .detail(error.to_string())
    .hint("Nothing has changed. Correct the file and RELOAD again.")
}

fn notices(changes: &[Change], warnings: &[String]) -> Vec<ErrorReport> {
    let warning = |text: &String| ErrorReport::warning(sqlstate::WARNING, text.clone());
    let warnings = told(warnings, warning);
    // The contents of a certificate are in no setting.
    let none =
        || ErrorReport::notice("no setting has changed; the files that they name were read anew");
    let none = changes.is_empty().then(none);
    none.into_iter()
        .chain(told(changes, notice))
        .chain(warnings)
        .collect()
}

/// The first of these one by one, and how many more there are.
fn told<T>(all: &[T], one: impl Fn(&T) -> ErrorReport) -> Vec<ErrorReport> {
    let rest = all.len().saturating_sub(TOLD_MAX);
    let rest = (rest > 0).then(|| ErrorReport::notice(format!("and {rest} more")));
    all.iter().take(TOLD_MAX).map(one).chain(rest).collect()
}

fn notice(change: &Change) -> ErrorReport {
    let old = change.old.as_deref().unwrap_or("(not set)");
    let new = change.new.as_deref().unwrap_or("(not set)");
    let text = format!("{}: {old} -> {new}", change.path);
    match change.effect {
        Effect::Now => ErrorReport::notice(text),
        Effect::NextConnection => ErrorReport::notice(text).detail("It holds for new connections."),
        Effect::Restart => ErrorReport::warning(sqlstate::WARNING, text)
            .detail("It takes hold when pgherd is started anew."),
    }
}

#[cfg(test)]
mod tests {
    use pgherd_config::{Change, Effect};
    use pgherd_wire::error::Severity;

    use super::notices;
    use crate::config::TOLD_MAX;

    fn change(effect: Effect) -> Change {
        let (old, new) = (Some("20".to_owned()), None);
        Change {
            path: "pool.size".to_owned(),
            old,
            new,
            effect,
        }
    }

    #[test]
    fn each_change_is_told() {
        let odd = ["a file is open to everyone".to_owned()];
        let told = notices(&[change(Effect::Now), change(Effect::Restart)], &odd);
        assert_eq!(told.len(), 3);
        assert_eq!(told[2].message, odd[0]);
        assert_eq!(told[0].message, "pool.size: 20 -> (not set)");
        assert_eq!(
            (told[0].severity, told[1].severity),
            (Severity::Notice, Severity::Warning)
        );
    }

    #[test]
    fn none_and_too_many_are_told_in_a_word() {
        let none = notices(&[], &[]);
        assert!(none[0].message.starts_with("no setting has changed"));
        let told = notices(&vec![change(Effect::Now); TOLD_MAX + 3], &[]);
        assert_eq!(told.len(), TOLD_MAX + 1);
        assert_eq!(told[TOLD_MAX].message, "and 3 more");
    }
}
