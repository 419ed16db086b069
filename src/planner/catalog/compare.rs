//! What two shards do not have alike.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Catalog, Relation};

pub(super) fn differences(one: &Catalog, other: &Catalog) -> Vec<String> {
    let mut found = Vec::new();
    for schema in one.schemas.symmetric_difference(&other.schemas) {
        found.push(format!("schema {schema} is on one of the two only"));
    }
    let name = |(schema, name): &super::Name| format!("{schema}.{name}");
    each(
        &one.relations,
        &other.relations,
        &mut found,
        |key, pair| match pair {
            (Some(left), Some(right)) => relation(&name(key), left, right),
            _ => vec![format!("relation {} is on one of the two only", name(key))],
        },
    );
    each(&one.functions, &other.functions, &mut found, |key, _| {
        vec![format!("the functions named {key} differ")]
    });
    each(&one.operators, &other.operators, &mut found, |key, _| {
        vec![format!("the operators named {key} differ")]
    });
    each(&one.types, &other.types, &mut found, |key, _| {
        vec![format!("type {} differs", name(key))]
    });
    found
}

/// What is said of each key whose values are not the same.
fn each<K: Ord, V: PartialEq>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
    found: &mut Vec<String>,
    say: impl Fn(&K, (Option<&V>, Option<&V>)) -> Vec<String>,
) {
    for (key, left) in one {
        let right = other.get(key);
        if right != Some(left) {
            found.extend(say(key, (Some(left), right)));
        }
    }
    for (key, right) in other {
        if !one.contains_key(key) {
            found.extend(say(key, (None, Some(right))));
        }
    }
}

fn relation(name: &str, left: &Relation, right: &Relation) -> Vec<String> {
    let mut found = Vec::new();
    let columns = left.columns.len().max(right.columns.len());
    for at in 0..columns {
        match (left.columns.get(at), right.columns.get(at)) {
            (Some(one), Some(two)) if one == two => {}
            (Some(one), Some(two)) if one.name == two.name => {
                found.push(format!(
                    "column {} of {name} is defined differently",
                    one.name
                ));
            }
            (one, two) => {
                let said = |column: Option<&super::Column>| {
                    column.map_or_else(|| "nothing".to_owned(), |column| column.name.clone())
                };
                let (one, two) = (said(one), said(two));
                found.push(format!(
                    "column {} of {name} is {one} here and {two} there",
                    at + 1
                ));
            }
        }
    }
    fn part<T: PartialEq + Debug>(what: &str, name: &str, pair: (&T, &T)) -> Option<String> {
        (pair.0 != pair.1).then(|| format!("{what} of {name} differ"))
    }
    found.extend(part(
        "the kind or definition",
        name,
        (&left.kind, &right.kind),
    ));
    found.extend(part(
        "unique indexes",
        name,
        (&left.uniques, &right.uniques),
    ));
    found.extend(part(
        "what foreign keys do that refer to rows",
        name,
        (&left.actions, &right.actions),
    ));
    let traits = |relation: &Relation| {
        let flags = (relation.row_security, relation.rules, relation.triggers);
        (flags, relation.inherited, relation.parent.clone())
    };
    let pair = (traits(left), traits(right));
    found.extend(part(
        "rules, triggers, policies or parents",
        name,
        (&pair.0, &pair.1),
    ));
    found
}
