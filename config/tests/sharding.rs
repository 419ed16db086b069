use std::time::Duration;

use super::Place;
use crate::{KeyLookup, KeyMethod, ShardMethod, Sharding};

const SHARDS: &str = "[databases.a]\nhosts = [\"h:1\"]\n[databases.b]\nhosts = [\"h:2\"]\n";

fn faults(text: &str) -> String {
    Place::with(&format!("{SHARDS}{text}")).faults()
}

#[test]
fn shards_are_databases_with_servers() {
    let told = faults("[databases.all]\nshards = [\"a\", \"c\", \"a\"]\n");
    assert!(
        told.contains("pgherd.toml:6: databases.all.shards: a is there twice"),
        "{told}"
    );
    let told = faults("[databases.all]\nshards = [\"a\", \"c\"]\n");
    let expected = "pgherd.toml:6: databases.all.shards: \"c\" is no database with servers of its own \
                    (allowed: a, b)";
    assert!(told.contains(expected), "{told}");
    let told = faults("[databases.all]\nshards = []\n");
    assert!(told.contains("there is no shard"), "{told}");
    let told = faults("[databases.all]\nshards = [\"a\"]\n[databases.more]\nshards = [\"all\"]\n");
    assert!(told.contains("\"all\" is no database"), "{told}");
}

#[test]
fn sessions_of_their_own_cannot_be_spread() {
    let told = faults("pool = { mode = \"session\" }\n[databases.all]\nshards = [\"a\", \"b\"]\n");
    assert!(
        told.contains("the pools of \"b\" are not of transaction mode"),
        "{told}"
    );
}

const ALL: &str = "[databases.all]\nshards = [\"a\", \"b\"]\n[databases.all.sharding]\n";

/// The faults of what stands below `[databases.all.sharding]`, which begins in the eighth line of its file.
fn sharding_faults(text: &str) -> String {
    faults(&format!("{ALL}{text}"))
}

/// What is read there.
fn sharding(text: &str) -> Sharding {
    let config = Place::with(&format!("{SHARDS}{ALL}{text}")).config();
    config.sharded["all"].sharding.clone()
}

#[test]
fn each_bucket_is_on_one_shard() {
    let found = sharding("buckets = 8\nbucket_map = { b = \"0-2, 7\", a = \"3 - 6\" }\n").keys;
    let shown = found.bucket_map.iter();
    let shown = shown.map(|it| (it.shard.as_str(), it.buckets.as_slice()));
    let expected = [("a", &[3..=6_u16][..]), ("b", &[0..=2_u16, 7..=7][..])];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    // A number may stand by itself, and a shard without any.
    let all = sharding("buckets = 1\nbucket_map = { b = 0 }\n").keys;
    assert_eq!(all.bucket_map.len(), 1);
    let path = "databases.all.sharding.bucket_map";
    let map = |map: &str| sharding_faults(&format!("buckets = 8\n[{path}]\n{map}"));
    for (text, expected) in [
        (
            "a = \"0-4\"\nb = \"4-7\"\n",
            format!(
                "pgherd.toml:11: {path}.b: bucket 4 is on a already (allowed: each bucket once)"
            ),
        ),
        (
            "a = \"0-4\"\nb = \"5-7, 5\"\n",
            format!(
                "pgherd.toml:11: {path}.b: bucket 5 is there twice (allowed: each bucket once)"
            ),
        ),
        (
            "a = \"0-4\"\nb = \"6-7\"\n",
            format!("pgherd.toml:9: {path}: bucket 5 is on no shard (allowed: each bucket once)"),
        ),
        (
            "a = \"0-4\"\n\nb = \"5-8\"\n",
            format!(
                "pgherd.toml:12: {path}.b: there are 8 buckets, and none of the number 8 (allowed: each bucket once)"
            ),
        ),
        (
            "a = \"0-4\"\nc = \"5-7\"\n",
            format!("pgherd.toml:11: {path}.c: \"c\" is not among the shards (allowed: a, b)"),
        ),
        (
            "a = \"0-4\"\nb = \"7-5\"\n",
            format!(
                "pgherd.toml:11: {path}.b: \"7-5\" is not allowed (allowed: numbers of buckets from 0, such as \"0-31, 40\")"
            ),
        ),
    ] {
        assert_eq!(map(text), expected, "{text}");
    }
    for value in ["\"\"", "\"1,\"", "\"-1\"", "-1", "65536", "[1]", "\"a\""] {
        let told = map(&format!("a = \"0-7\"\nb = {value}\n"));
        assert!(told.contains("is not allowed"), "{value}: {told}");
        assert_eq!(told.lines().count(), 1, "{value}: {told}");
    }
    let told = sharding_faults("bucket_map = { a = \"0-7\" }\n");
    assert!(
        told.contains("sharding.buckets: is missing (allowed: how many"),
        "{told}"
    );
    let told = sharding_faults("buckets = 8\nbucket_map = \"0-7\"\n");
    assert!(
        told.contains("pgherd.toml:9: databases.all.sharding.bucket_map: \"0-7\" is not allowed"),
        "{told}"
    );
    let listed = "method = \"list\"\nplaces = [{ others = true, shard = \"a\" }]\n";
    let told = sharding_faults(&format!("{listed}bucket_map = {{ a = \"0-7\" }}\n"));
    assert!(
        told.contains("bucket_map: nothing is hashed (allowed: with `method` hash only)"),
        "{told}"
    );
}

#[test]
fn what_a_group_does_not_say_is_as_for_the_database() {
    let head = "buckets = 4\nbucket_map = { a = \"0-1\", b = \"2-3\" }\n";
    let places = "places = [{ values = [\"x\"], shard = \"a\" }]";
    let found = sharding(&format!(
        "{head}groups = [{{ name = \"same\" }}, {{ name = \"more\", buckets = 8 }}, \
         {{ name = \"turned\", bucket_map = {{ b = \"0-3\" }} }}, \
         {{ name = \"listed\", method = \"list\", key_type = \"text\", {places} }}]\n\
         columns = [\"c\", {{ name = \"d\", group = \"listed\" }}]\n"
    ));
    let of = |group: &str| found.keys_of(group);
    assert_eq!(of("same"), of(""));
    assert_eq!(of(""), &found.keys);
    assert_eq!(
        (of("more").buckets, of("more").bucket_map.len()),
        (Some(8), 0)
    );
    let turned = of("turned");
    assert_eq!((turned.buckets, turned.bucket_map.len()), (Some(4), 1));
    let listed = of("listed");
    assert_eq!(listed.method, ShardMethod::List);
    assert_eq!((listed.buckets, listed.bucket_map.len()), (None, 0));
    assert_eq!(listed.key_type.as_deref(), Some("text"));
    let columns = found.columns.iter();
    let columns = columns.map(|it| (it.name.as_str(), it.group.as_str()));
    assert_eq!(columns.collect::<Vec<_>>(), [("c", ""), ("d", "listed")]);
    // A list says which values, and a group its own.
    let listed = format!("method = \"list\"\nkey_type = \"text\"\n{places}\n");
    let found = sharding(&format!(
        "{listed}groups = [{{ name = \"own\", places = [{{ others = true, shard = \"b\" }}] }}, \
         {{ name = \"hashed\", method = \"hash\" }}]\n"
    ));
    assert_eq!(found.keys_of("own").key_type.as_deref(), Some("text"));
    assert!(found.keys_of("own").places[0].others);
    assert_eq!(found.keys_of("hashed"), &KeyMethod::default());
}

#[test]
fn faults_of_groups_are_told_where_they_stand() {
    for (text, expected) in [
        (
            "groups = [\n  { name = \"g\", method = \"list\" },\n]\n",
            "pgherd.toml:9: databases.all.sharding.groups.places: is missing",
        ),
        (
            "groups = [\n  { name = \"g\", bucket_map = { a = \"0\", b = \"0\" }, buckets = 1 },\n]\n",
            "pgherd.toml:9: databases.all.sharding.groups.bucket_map.b: bucket 0 is on a already",
        ),
        (
            "groups = [\n  { name = \"g\", method = \"range\", places = [{ to = 1, shard = \"c\" }] },\n]\n",
            "pgherd.toml:9: databases.all.sharding.groups.places: \"c\" is not among the shards (allowed: a, b)",
        ),
        (
            "places = [{ to = 1, shard = \"c\" }]\nmethod = \"range\"\n",
            "pgherd.toml:8: databases.all.sharding.places: \"c\" is not among the shards (allowed: a, b)",
        ),
        (
            "groups = [\n  { buckets = 8 },\n]\n",
            "pgherd.toml:9: databases.all.sharding.groups.name: is missing",
        ),
        (
            "groups = [\n  { name = \"g\" },\n  { name = \"g\" },\n]\n",
            "pgherd.toml:10: databases.all.sharding.groups: g is there twice",
        ),
        (
            "groups = [{ name = \"g\", bucket = 8 }]\n",
            "databases.all.sharding.groups.bucket: no such setting, perhaps `buckets`",
        ),
        (
            "groups = [\"g\"]\n",
            "databases.all.sharding.groups: \"g\" is not allowed",
        ),
        (
            "groups = { name = \"g\" }\n",
            "databases.all.sharding.groups: a table is not allowed",
        ),
        (
            "groups = [{ name = \"g\" }]\ntables = [\n  { name = \"t\", key = \"k\" },\n  { name = \"u\", key = \"k\", group = \"h\" },\n]\n",
            "pgherd.toml:11: databases.all.sharding.tables: \"h\" is none of the groups (allowed: g)",
        ),
        (
            "groups = [{ name = \"g\" }]\ncolumns = [\"c\", { name = \"d\", group = \"h\" }]\n",
            "pgherd.toml:9: databases.all.sharding.columns: \"h\" is none of the groups (allowed: g)",
        ),
        (
            "columns = [{ group = \"h\" }]\n",
            "pgherd.toml:8: databases.all.sharding.columns.name: is missing",
        ),
    ] {
        let told = sharding_faults(text);
        assert!(told.contains(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
    // Where none has a method of its own, they need no more than a name.
    let found = sharding("tables = [{ name = \"u\", key = \"k\", group = \"h\" }]\n");
    assert_eq!(found.tables[0].group, "h");
}

#[test]
fn a_lookup_is_a_query_that_one_shard_is_asked() {
    let query = "lookup = \"select k, s from t\"\n";
    let found = sharding(&format!(
        "method = \"lookup\"\nkey_type = \"text\"\n{query}lookup_on = \"b\"\nlookup_max_rows = 7\nlookup_timeout = \"2s\"\n\
         groups = [{{ name = \"more\", lookup_on = \"a\" }}, {{ name = \"hashed\", method = \"hash\" }}]\n"
    ));
    let said = &found.keys.lookup;
    assert_eq!(said.query.as_deref(), Some("select k, s from t"));
    assert_eq!(said.on.as_deref(), Some("b"));
    assert_eq!(
        (said.max_rows(), said.timeout()),
        (7, Duration::from_secs(2))
    );
    let more = found.keys_of("more");
    assert_eq!(
        (more.method, &more.lookup.query),
        (ShardMethod::Lookup, &said.query)
    );
    assert_eq!(
        (more.lookup.on.as_deref(), more.lookup.max_rows()),
        (Some("a"), 7)
    );
    assert_eq!(found.keys_of("hashed"), &KeyMethod::default());
    let plain = KeyLookup::default();
    assert_eq!(
        (plain.max_rows(), plain.timeout()),
        (100_000, Duration::from_secs(5))
    );
    let method = "method = \"lookup\"\n";
    for (text, expected) in [
        (
            method.to_owned(),
            "sharding.lookup: is missing (allowed: a query of two columns",
        ),
        (
            format!("{method}lookup = \"\"\n"),
            "sharding.lookup: \"\" is not allowed",
        ),
        (
            format!("{method}{query}lookup_on = \"c\"\n"),
            "sharding.lookup_on: \"c\" is not among the shards (allowed: a, b)",
        ),
        (
            format!("{method}{query}lookup_max_rows = 0\n"),
            "sharding.lookup_max_rows: 0 is not allowed",
        ),
        (
            format!("{method}{query}lookup_timeout = 0\n"),
            "sharding.lookup_timeout: there is no time (allowed: at least 1ms)",
        ),
        (
            format!("{method}{query}lookup_timeout = \"soon\"\n"),
            "sharding.lookup_timeout: \"soon\" is not allowed",
        ),
        (
            query.to_owned(),
            "sharding.lookup: nothing is looked up (allowed: with `method` lookup only)",
        ),
        (
            "lookup_max_rows = 1\n".to_owned(),
            "sharding.lookup_max_rows: nothing is looked up",
        ),
        (
            format!("{method}{query}buckets = 2\n"),
            "sharding.buckets: nothing is hashed",
        ),
        (
            format!("{method}{query}places = [{{ others = true, shard = \"a\" }}]\n"),
            "sharding.places: keys are looked up (allowed: with `method` list or range only)",
        ),
    ] {
        let told = sharding_faults(&text);
        assert!(told.contains(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}

#[test]
fn what_is_placed_is_placed_somewhere() {
    let with = sharding_faults;
    let told = with("schemas = [{ name = \"s\", shard = \"c\" }]\n");
    assert!(told.contains("pgherd.toml:8: databases.all.sharding.schemas: \"c\" is not among the shards (allowed: a, b)"), "{told}");
    let told = with("tables = [{ name = \"t\" }]\n");
    assert!(
        told.contains("databases.all.sharding.tables.key: is missing"),
        "{told}"
    );
    let told = with("tables = [{ name = \"t\", keys = \"k\" }]\n");
    assert!(told.contains("perhaps `key`"), "{told}");
    let told = with("method = \"list\"\n");
    assert!(
        told.contains("databases.all.sharding.places: is missing"),
        "{told}"
    );
    let told = with("method = \"range\"\nplaces = [{ values = [1], shard = \"a\" }]\n");
    assert!(told.contains("a place is not of the method"), "{told}");
    let told = with("tabels = []\n");
    assert!(told.contains("perhaps `tables`"), "{told}");
    let told =
        with("method = \"list\"\nbuckets = 3\nplaces = [{ others = true, shard = \"a\" }]\n");
    assert!(told.contains("nothing is hashed"), "{told}");
}
