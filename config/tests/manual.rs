use std::collections::BTreeSet;

use super::Place;
use crate::Config;
use crate::draft::{self, Table, Value};
use crate::fault::{Findings, Origin};
use crate::load::DEFAULTS;

/// Gives the manual with its samples made real.
fn with_samples() -> String {
    let lines = DEFAULTS
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn leaves(table: &Table, path: &str, found: &mut BTreeSet<String>) {
    for (key, node) in table {
        let path = draft::dotted(path, key);
        match &node.value {
            Value::Table(inner) => leaves(inner, &path, found),
            _ => assert!(found.insert(path)),
        }
    }
}

#[test]
fn has_each_setting_and_no_other() {
    let mut findings = Findings::default();
    let place = |line| Origin::Default { line };
    let table = draft::parse(DEFAULTS, &place, &mut findings).unwrap();
    let mut written = BTreeSet::new();
    leaves(&table, "", &mut written);
    let typed: BTreeSet<String> = Config::defaults()
        .show()
        .into_iter()
        .map(|it| it.key)
        .collect();
    assert_eq!(written, typed);
}

#[test]
fn says_why_of_each_setting() {
    for line in DEFAULTS
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'))
    {
        let (_, why) = line
            .split_once(" # ")
            .unwrap_or_else(|| panic!("no reason: {line}"));
        assert!(!why.trim().is_empty(), "no reason: {line}");
    }
}

#[test]
fn samples_are_true() {
    let place = Place::with(&with_samples()).env("PGHERD_AUTH__QUERY_USER", "alice");
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    assert_eq!(config.pool, Config::defaults().pool);
    assert!(config.database("shop").is_some() && config.user("alice").is_some());
}

#[test]
fn has_each_setting_of_databases_and_users() {
    for (table, sample) in [
        ("databases.shop", "[databases.shop]"),
        ("databases.shop.tls", "[databases.shop.tls]"),
        ("databases.shop.patroni_tls", "[databases.shop.patroni_tls]"),
        ("databases.shop.limits", "[databases.shop.limits]"),
        ("databases.shops.sharding", "[databases.shops.sharding]"),
        ("users.alice", "[users.alice]"),
    ] {
        let head = match table.starts_with("databases.shops.") {
            true => "[databases.shops]\nshards = [\"shop\"]\n",
            false => "",
        };
        let faults = Place::with(&format!("{head}[{table}]\nzzzzzzzzz = 1\n")).faults();
        let fault = faults
            .lines()
            .find(|line| line.contains("zzzzzzzzz"))
            .unwrap();
        let (_, known) = fault.split_once("(allowed: ").unwrap();
        let start = DEFAULTS.find(&format!("#: {sample}")).unwrap();
        for key in known.trim_end_matches(')').split(", ") {
            let rest = &DEFAULTS[start..];
            let is_there = [
                format!("#: {key} = "),
                format!("# {key} = "),
                format!(".{key}]"),
            ];
            assert!(
                is_there.iter().any(|text| rest.contains(text)),
                "{table}.{key}"
            );
        }
    }
}

#[test]
fn keeps_sections_small() {
    for section in DEFAULTS.split("\n[").skip(1) {
        let keys = section
            .lines()
            .filter(|line| line.contains(" = ") && !line.starts_with('#'));
        assert!(keys.count() <= 16, "{section}");
    }
}
