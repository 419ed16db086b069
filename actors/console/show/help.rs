//! SHOW HELP: a notice, not rows.

use pgherd_wire::error::ErrorReport;

use crate::console::command::VERBS;
use crate::console::show::Show;

/// What may be said.
pub fn notice() -> ErrorReport {
    ErrorReport::notice("Console usage").detail(format!(
        "\n\tSHOW {}\n\t{}\n",
        Show::names().join("|"),
        VERBS.replace(", ", "\n\t")
    ))
}
