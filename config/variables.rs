//! Settings as environment variables: `PGHERD_POOL__SIZE` is `pool.size`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::draft::{Node, Table, Value};
use crate::fault::{Findings, Origin, Problem};

const PREFIX: &str = "PGHERD_";

/// No setting lies deeper; the tree is walked by recursion.
const DEEPEST: usize = 8;

/// Names the configuration file, and so is no setting of it.
pub(crate) const FILE: &str = "PGHERD_CONFIG";

/// Lays variables over a draft.
pub(crate) fn lay(env: &BTreeMap<String, String>, draft: &mut Table, findings: &mut Findings) {
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|_| name != FILE) else {
            continue;
        };
        let origin = Origin::Variable(Arc::from(name.as_str()));
        let segments: Vec<&str> = rest.split("__").collect();
        if segments.len() > DEEPEST || segments.iter().any(|segment| segment.is_empty()) {
            let problem = Problem::Unknown { near: None };
            findings.fault(&origin, "", problem, "PGHERD_SECTION__KEY");
            continue;
        }
        if !set(draft, &segments, Node::text_at(&origin, value)) {
            let problem = Problem::Contradiction("a part of its path is no table".to_owned());
            findings.fault(&origin, "", problem, "PGHERD_SECTION__KEY");
        }
    }
}

/// Sets a value at a path; `false` if something on the way is no table.
fn set(table: &mut Table, path: &[&str], node: Node) -> bool {
    let [first, rest @ ..] = path else {
        return false;
    };
    // Names may have capitals; variables are usually written in nothing else.
    let known = table
        .keys()
        .find(|key| key.eq_ignore_ascii_case(first))
        .cloned();
    let key = known.unwrap_or_else(|| first.to_ascii_lowercase());
    if rest.is_empty() {
        // A secret takes the place of a file of lower layers that has it, and the other way.
        let other = match key.strip_suffix("_file") {
            Some(inline) => inline.to_owned(),
            None => format!("{key}_file"),
        };
        if table.get(&other).is_some_and(|below| !below.is_untyped()) {
            table.remove(&other);
        }
        table.insert(key, node);
        return true;
    }
    let empty = || Node {
        origin: node.origin.clone(),
        value: Value::Table(Table::new()),
    };
    match &mut table.entry(key).or_insert_with(empty).value {
        Value::Table(inner) => set(inner, rest, node),
        _ => false,
    }
}
