//! DISABLE and ENABLE.

use pgherd_wire::error::ErrorReport;

use crate::console::verb::Scope;
use crate::facts::Facts;

/// Refuses new clients of a database, or takes them again. Those that are there stay.
///
/// # Errors
/// No such database.
pub fn disable(name: &str, disabled: bool, facts: &Facts) -> Result<(), ErrorReport> {
    // Only for its error: pools are left as they are.
    Scope::Database(name.to_owned()).pools(facts)?;
    facts.doors.disable(name, disabled);
    Ok(())
}
