use super::Place;

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

#[test]
fn what_is_placed_is_placed_somewhere() {
    let with = |text: &str| {
        let all = "[databases.all]\nshards = [\"a\", \"b\"]\n[databases.all.sharding]\n";
        faults(&format!("{all}{text}"))
    };
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
