use std::collections::BTreeMap;

use crate::config::Config;
use crate::row::{Effect, Row};

/// A setting that differs between two configurations; secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path of the setting.
    pub path: String,
    /// What it was; `None` if it was not set.
    pub old: Option<String>,
    /// What it is; `None` if it is not set.
    pub new: Option<String>,
    /// When the change takes hold.
    pub effect: Effect,
}

impl Config {
    /// Finds what differs between two configurations, by path.
    pub fn diff(old: &Self, new: &Self) -> Vec<Change> {
        let before = by_path(old);
        let mut after = by_path(new);
        let mut changes = Vec::new();
        for (path, row) in before {
            let new = after.remove(&path);
            if new.as_ref().is_some_and(|new| new.value == row.value) {
                continue;
            }
            let effect = row.effect;
            let new = new.map(|new| new.value.text());
            changes.push(Change {
                path,
                old: Some(row.value.text()),
                new,
                effect,
            });
        }
        changes.extend(after.into_iter().map(|(path, row)| {
            let effect = row.effect;
            Change {
                path,
                old: None,
                new: Some(row.value.text()),
                effect,
            }
        }));
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        changes
    }
}

fn by_path(config: &Config) -> BTreeMap<String, Row> {
    let users = config.users.values().flat_map(|user| user.rows());
    let databases = config
        .databases
        .values()
        .flat_map(|database| database.rows());
    let sharded = config.sharded.values().flat_map(|sharded| sharded.rows());
    let databases = databases.chain(sharded);
    let rows = config.rows().into_iter().chain(databases).chain(users);
    let rows = rows.chain(lines(config));
    rows.map(|row| (row.path.clone(), row)).collect()
}

/// The lines of the files of rules and of maps, which change where no setting does.
fn lines(config: &Config) -> impl Iterator<Item = Row> {
    let auth = &config.auth;
    let rules = auth.hba_file.rules.iter().map(ToString::to_string);
    let rules = rules
        .zip(1..)
        .map(|(line, at)| (format!("auth.hba_file[{at}]"), line));
    let maps = auth.ident_file.maps.lines();
    let maps = maps
        .zip(1..)
        .map(|(line, at)| (format!("auth.ident_file[{at}]"), line));
    let row = |(path, line)| Row::plain(path, line, Effect::NextConnection);
    rules.chain(maps).map(row)
}
