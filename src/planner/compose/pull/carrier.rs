//! What is brought to the server that answers, and the relation that it becomes there.

use super::{CARRIER, Puller};
use crate::catalog::{Collation, Column, Relation, RelationKind, TypeRef};
use crate::plan::{Prune, Pull, Rule};

impl Puller<'_> {
    /// A relation that is to be filled.
    pub(super) fn carrier(
        &mut self,
        text: String,
        prune: Prune,
        columns: &[String],
        rule: Rule,
    ) -> String {
        let carrier = format!("{CARRIER}{}", self.pulls.len());
        let columns = columns.iter().map(|name| plain_column(name));
        let (text, view) = match &self.view {
            Some(view) => (view.checked(&text), Some(view.name.clone())),
            None => (text, None),
        };
        self.carriers
            .insert(carrier.clone(), relation(columns.collect()));
        self.pulls.push(Pull {
            carrier: carrier.clone(),
            text,
            prune,
            primary: Vec::new(),
            keyless: false,
            indexes: Vec::new(),
            filtered: false,
            keys: Vec::new(),
            rule,
            view,
        });
        carrier
    }
}

/// The names of so many columns.
pub(super) fn columns(width: usize) -> Vec<String> {
    (0..width).map(|at| format!("c{at}")).collect()
}

/// A column of which no more is known than its name.
fn plain_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        kind: TypeRef {
            schema: String::new(),
            name: String::new(),
            oid: 0,
        },
        modifier: -1,
        not_null: false,
        collation: Collation::None,
        default: None,
        identity: false,
        generated: false,
    }
}

/// A relation of which no more is known than its columns.
pub(super) fn relation(columns: Vec<Column>) -> Relation {
    Relation {
        kind: RelationKind::Table,
        columns,
        uniques: Vec::new(),
        actions: Vec::new(),
        row_security: false,
        rules: false,
        triggers: false,
        parent: None,
        inherited: false,
    }
}
