use crate::config::Config;
use crate::row::Effect;

/// A row of SHOW CONFIG, as PgBouncer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The path of the setting.
    pub key: String,
    /// What it is.
    pub value: String,
    /// What it is if nobody says anything.
    pub default: String,
    /// Whether RELOAD can change it.
    pub changeable: bool,
}

impl Config {
    /// Gives the rows of SHOW CONFIG; databases and users have tables of their own.
    pub fn show(&self) -> Vec<Line> {
        let defaults = Self::defaults().rows();
        let rows = self.rows().into_iter().zip(defaults);
        rows.map(|(row, default)| Line {
            changeable: row.effect != Effect::Restart,
            value: row.value.text(),
            default: default.value.text(),
            key: row.path,
        })
        .collect()
    }
}
