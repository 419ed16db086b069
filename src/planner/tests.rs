use std::sync::Arc;

use crate::catalog::{Catalog, Loader, Part};
use crate::placement::{
    Distribution, KeyType, KeyValue, Mapping, Method, Placement, Shard, Sharding, Unlisted,
};
use crate::{Hint, Names, Param, Params, Plan, Route, Slots, Statement, Wanted, plan};

mod deep;
mod values;

/// `public.t (k bigint NOT NULL, n int)` by `k`, `public.keyed (k bigint PRIMARY KEY)` with it, `public.names (name text
/// NOT NULL)` by `name`, and `public.same` and `public.alike (id bigint, kind int)` on every shard.
fn catalog() -> Catalog {
    let mut loader = Loader::default();
    let mut row = |part, values: &[&str]| {
        let values: Vec<Option<&str>> = values
            .iter()
            .map(|value| (*value != "-").then_some(*value))
            .collect();
        loader.row(part, &values).unwrap();
    };
    row(Part::Schemas, &["public"]);
    for table in ["t", "keyed", "names", "same", "alike"] {
        row(
            Part::Relations,
            &["public", table, "r", "f", "f", "f", "-", "-", "f", "-"],
        );
    }
    let mut column = |table, name, kind, oid, collation| {
        let values = [
            "public",
            table,
            name,
            "pg_catalog",
            kind,
            oid,
            "-1",
            "t",
            collation,
            "-",
            "f",
            "f",
        ];
        row(Part::Columns, &values);
    };
    column("t", "k", "int8", "20", "");
    column("t", "n", "int4", "23", "");
    column("keyed", "k", "int8", "20", "");
    column("names", "name", "text", "25", "D");
    for table in ["same", "alike"] {
        column(table, "id", "int8", "20", "");
        column(table, "kind", "int4", "23", "");
    }
    row(
        Part::Uniques,
        &["public", "keyed", "keyed_pkey", "t", "t", "k"],
    );
    for function in [
        ["nextval", "f", "v", "1"],
        ["count", "a", "i", "0"],
        ["sum", "a", "i", "1"],
        ["unnest", "f", "i", "1"],
    ] {
        let [name, kind, volatility, least] = function;
        row(
            Part::Functions,
            &[
                "pg_catalog",
                name,
                kind,
                volatility,
                least,
                "1",
                "f",
                "f",
                "-",
            ],
        );
    }
    loader.finish()
}

fn placement() -> Arc<Placement> {
    let mut placement = Placement::new(8);
    for (tables, column) in [(&["t", "keyed"][..], "k"), (&["names"], "name")] {
        let group = placement.group(Method::hash(8)).unwrap();
        for table in tables {
            let columns = vec![column.to_owned()];
            let sharding = Sharding { columns, group };
            placement.table("public", table, Distribution::Sharded(sharding));
        }
    }
    for table in ["same", "alike"] {
        placement.table("public", table, Distribution::Replicated);
    }
    Arc::new(placement)
}

fn planned(text: &str) -> Statement {
    plan(text, &Names::default(), &catalog(), &placement())
}

fn hinted(text: &str, hint: Hint) -> Statement {
    let names = Names {
        hint: Some(hint),
        ..Names::default()
    };
    plan(text, &names, &catalog(), &placement())
}

#[test]
fn as_a_whole_a_query_has_all_rows_of_its_tables() {
    let whole = |text: &str| {
        let names = Names {
            whole: true,
            ..Names::default()
        };
        plan(text, &names, &catalog(), &placement())
    };
    for text in [
        "select n from t where k = 7",
        "select count(*) from t",
        "select n from t join same on id = k where kind = 3 order by 1",
    ] {
        let statement = whole(text);
        match statement.route(&Params::default()) {
            Ok(Route::Pull { pulls, .. }) => {
                let [(shards, pull)] = pulls.as_slice() else {
                    panic!("{text}: {pulls:?}");
                };
                assert_eq!(shards.len(), 8, "{text}");
                assert!(!pull.text.contains("WHERE"), "{text}: {}", pull.text);
            }
            other => panic!("{text}: {other:?}"),
        }
        assert!(!statement.is_open(), "{text}");
    }
    for text in [
        "update t set n = 1",
        "select kind from same",
        "select n from t for update",
        "select 1",
    ] {
        assert!(matches!(whole(text).plan(), Plan::Refused(_)), "{text}");
    }
    assert!(whole("select n from t limit 1").is_open());
}

#[test]
fn a_hint_leaves_shards_out_and_adds_none() {
    for key in 0..20 {
        let (at, other) = (of(key), Shard((of(key).0 + 1) % 8));
        let route = |text: &str, shard| {
            let statement = hinted(text, Hint::Shard(shard));
            let route = statement.route(&Params::default());
            route.map(|route| format!("{route:?}")).ok()
        };
        let one = Some(format!("{:?}", Route::One(at)));
        for text in [
            "select distinct n from t",
            "select * from t order by n limit 3",
            "select ctid from t",
            "select 1",
            "select * from t where k = 1 and k = 2",
            "update t set n = 1",
            "explain select n from t, names where name < 'x'",
        ] {
            assert_eq!(route(text, at), one, "{text}");
        }
        for text in [
            format!("select * from t where k = {key}"),
            format!("select * from t where k in ({key}, {key})"),
            format!("insert into t values ({key}, 1)"),
            format!("delete from t where k = {key}"),
            format!("select * from t, names where k = {key} and name > 'x'"),
            format!("select * from t where k = {key} union all select * from t"),
            // Keys that leave out none of the rows that it gives.
            format!(
                "select n from t where exists (select 1 from keyed where keyed.k = t.k and keyed.k = {key})"
            ),
            format!(
                "select count(*) from t where exists (select 1 from keyed where keyed.k = t.k and keyed.k = {key})"
            ),
            format!("select n from t where exists (select 1 from keyed where keyed.k = {key})"),
            format!("select n, exists (select 1 from keyed where keyed.k = {key}) from t limit 3"),
            format!("select ctid from t left join keyed on keyed.k = t.k and keyed.k = {key}"),
            format!(
                "update t set n = 1 where exists (select 1 from keyed where keyed.k = t.k and keyed.k = {key})"
            ),
            format!(
                "delete from t using same where id = k and not exists (select 1 from keyed where keyed.k = t.k and keyed.k = {key})"
            ),
        ] {
            assert_eq!(route(&text, at), one, "{text}");
            assert_eq!(route(&text, other), None, "{text}");
        }
        for text in [
            "truncate t",
            "alter table t add x int",
            "copy t from stdin",
            "select * from t where k in (1, 2, 3, 4, 5)",
            "insert into t values (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)",
        ] {
            assert_eq!(route(text, at), None, "{text}");
        }
    }
    // By keys of which type is not certain.
    let statement = hinted("select 1", Hint::Key("7".into()));
    assert!(statement.route(&Params::default()).is_err());
    let statement = hinted("begin", Hint::Key("7".into()));
    assert!(matches!(
        statement.route(&Params::default()),
        Ok(Route::Session)
    ));
}

#[test]
fn a_new_column_does_not_say_that_rows_belong_elsewhere() {
    let mut placement = Placement::new(8);
    let group = placement.group(Method::hash(8)).unwrap();
    placement
        .column("k", group)
        .column("owner", group)
        .table("public", "alike", Distribution::Replicated)
        .unlisted(Unlisted::Replicated);
    let replicated = Arc::new(placement.clone());
    // A column of a name that stands before its own would be the key of `t`.
    placement.column("a", group);
    placement.schema("public", Distribution::OneShard(Shard(3)));
    let one = Arc::new(placement);
    let kind = |text: &str, placement: &Arc<Placement>| {
        let planned = plan(text, &Names::default(), &catalog(), placement);
        match planned.plan() {
            Plan::All => "all",
            Plan::OneShard { .. } => "one",
            Plan::Refused(_) => "no",
            other => panic!("{text}: {other:?}"),
        }
    };
    for (text, expected) in [
        (
            "alter table same add column k bigint not null default 0",
            "no",
        ),
        (
            "alter table same add column x int, add column owner bigint",
            "no",
        ),
        ("alter table same add column x int", "all"),
        ("alter table alike add column k bigint", "all"),
        ("alter table t add column owner bigint", "all"),
        ("alter table t add column a bigint", "all"),
        ("create table made (k bigint not null)", "all"),
    ] {
        assert_eq!(kind(text, &replicated), expected, "{text}");
    }
    for (text, expected) in [
        (
            "alter table same add column k bigint not null default 0",
            "no",
        ),
        ("alter table same add column x int", "one"),
        ("alter table t add column a bigint", "no"),
        ("alter table t add column if not exists k bigint", "all"),
        ("create table made (k bigint not null)", "all"),
        ("create table made (x int)", "one"),
    ] {
        assert_eq!(kind(text, &one), expected, "{text}");
    }
}

#[test]
fn a_new_name_does_not_say_that_rows_belong_elsewhere() {
    let mut placement = Placement::new(8);
    let group = placement.group(Method::hash(8)).unwrap();
    placement
        .column("k", group)
        .column("owner", group)
        .table("public", "alike", Distribution::Replicated)
        .unlisted(Unlisted::Replicated);
    let by_column = placement.clone();
    let mut by_kind = placement.clone();
    by_kind.column("kind", group);
    placement.schema("away", Distribution::OneShard(Shard(3)));
    let by_schema = placement.clone();
    placement.table("away", "alike", Distribution::Replicated);
    placement.table("away", "same", Distribution::Replicated);
    placement.table("away", "names", Distribution::Replicated);
    let is_done = |text: &str, placement: &Placement| {
        let placement = Arc::new(placement.clone());
        match plan(text, &Names::default(), &catalog(), &placement).plan() {
            Plan::All => true,
            Plan::Refused(_) => false,
            other => panic!("{text}: {other:?}"),
        }
    };
    // One is placed by its name, and would be by its column, which says something else.
    let away = "alter schema public rename to away";
    assert!(!is_done(away, &by_kind));
    assert!(!is_done(away, &by_schema));
    // Their rows stay where they are by either name.
    assert!(is_done(away, &placement));
    // An empty schema may have any name.
    assert!(is_done("alter schema empty rename to away", &by_schema));
    for (text, expected) in [
        ("alter table same rename column kind to sort", true),
        ("alter table same rename kind to owner", false),
        ("alter table alike rename kind to owner", true),
        ("alter table t rename column n to m", true),
        ("alter table t rename column k to key", false),
        ("alter table same rename to others", false),
        ("alter table same set schema away", false),
        ("alter table t rename constraint a to b", true),
        ("alter index t_key rename to t_keys", true),
        ("alter index t rename to others", false),
        ("alter type mood rename to temper", true),
    ] {
        assert_eq!(is_done(text, &by_column), expected, "{text}");
    }
}

#[test]
fn a_key_is_changed_on_its_shard_or_moves_its_row() {
    let statement = planned("update t set k = $1, n = 5 where k = $2");
    for (new, old) in (0..40).flat_map(|new| [(new, 3), (3, new)]) {
        let (new, old) = (new.to_string(), old.to_string());
        let values = [&new, &old].map(|text| Param {
            oid: 20,
            binary: false,
            value: Some(text.as_bytes()),
        });
        let params = Params {
            values: &values,
            ..Params::default()
        };
        let (one, two) = (of(new.parse().unwrap()), of(old.parse().unwrap()));
        match statement.route(&params).unwrap() {
            Route::Move { from, to, .. } => assert_eq!((from, to), (two, one)),
            route => assert_eq!((route, two), (Route::One(one), one), "{old} to {new}"),
        }
        assert_eq!(statement.only(&params), (one == two).then_some(one));
    }
}

#[test]
fn rows_go_to_other_shards_in_steps() {
    let other = (0..).find(|key| of(*key) != of(3)).unwrap().to_string();
    let values = [text(20, &other), text(20, "3")];
    let moves = planned("update t as x set k = $1, n = x.n + 1 where k = $2 returning x.n");
    let Route::Move { moved, .. } = routed(&moves, &values) else {
        panic!("it moves");
    };
    assert!(
        moved.delete.contains("RETURNING x.n + 1"),
        "{}",
        moved.delete
    );
    let stored = "OVERRIDING SYSTEM VALUE SELECT $1, pgherd_rows.w0 FROM pgherd_rows RETURNING x.n";
    assert!(moved.store.contains(stored), "{}", moved.store);
    let null = Param {
        value: None,
        ..text(20, "")
    };
    let none = routed(&moves, &[null, text(20, "3")]);
    assert!(
        matches!(none, Route::One(shard) if shard == of(3)),
        "its server refuses it"
    );
    let deals = planned("insert into t (k, n) select n, 'x' from t");
    let Route::Deal { source, deal } = routed(&deals, &[]) else {
        panic!("it is dealt out");
    };
    assert!(matches!(*source, Route::Concat { writes: false, .. }));
    let stored = "SELECT pgherd_rows.w0, 'x' FROM pgherd_rows";
    assert!(deal.store.contains(stored), "{}", deal.store);
    // What it is read as would be a text.
    assert!(deal.select.contains("n, NULL FROM"), "{}", deal.select);
    assert_eq!(deal.width, 2);
    let key = |param| {
        let values = [param];
        let key = Params {
            values: &values,
            ..Params::default()
        };
        deals.shard_of(deal, &key).map_err(|refusal| refusal.code)
    };
    assert_eq!(key(text(23, "3")), Ok(of(3)));
    assert_eq!(key(binary(21, &[0, 3])), Ok(of(3)));
    assert_eq!(key(text(25, "3")), Err("0A000"));
    let null = Param {
        oid: 20,
        binary: false,
        value: None,
    };
    assert_eq!(key(null), Err("23502"));
    let steps = planned("delete from keyed where k in (select n from t)");
    let Route::Deal { deal, .. } = routed(&steps, &[]) else {
        panic!("they are found first");
    };
    let among = "IN (SELECT pgherd_rows.w0 FROM pgherd_rows)";
    assert!(deal.store.contains(among), "{}", deal.store);
    let lock = deal.lock.as_deref().unwrap();
    assert!(lock.contains("FOR UPDATE"), "{lock}");
}

fn of(value: i64) -> Shard {
    let bucket = Method::bucket(&[KeyValue::Int(value)], 8);
    Shard(u16::try_from(bucket).unwrap())
}

fn binary(oid: u32, value: &[u8]) -> Param<'_> {
    Param {
        oid,
        binary: true,
        value: Some(value),
    }
}

fn text(oid: u32, value: &str) -> Param<'_> {
    Param {
        oid,
        binary: false,
        value: Some(value.as_bytes()),
    }
}

fn routed<'s>(statement: &'s Statement, values: &[Param<'_>]) -> Route<'s> {
    let params = Params {
        values,
        foreign_encoding: false,
    };
    statement.route(&params).unwrap()
}

#[test]
fn a_parameter_of_unnest_has_to_be_an_array_of_values() {
    let texts = [
        "select n, x from t, unnest($1) x",
        "select n, x from t, unnest($1) x where k = 7",
        "select sum(n) from t, unnest($1, '{a}'::text[]) x (a, b) group by a",
        "select n from t where n in (select unnest from unnest($1))",
    ];
    for query in texts {
        let statement = planned(query);
        let route = |oid| {
            let values = [text(oid, "{1,2}")];
            let params = Params {
                values: &values,
                foreign_encoding: false,
            };
            assert_eq!(statement.only(&params), None, "{query}");
            statement.route(&params).map(drop)
        };
        for oid in [1007, 1009, 1231, 2951] {
            assert_eq!(route(oid), Ok(()), "{query}");
        }
        // Of the users' own, of anything, of rows, and none.
        for oid in [0, 16_400, 2277, 2287, 3614, 25] {
            let refusal = route(oid).unwrap_err();
            assert_eq!((refusal.code, refusal.hint.is_some()), ("0A000", true));
        }
    }
    let cast = planned("select n from t, unnest($1::int4[]) y, unnest($1) x");
    assert!(cast.route(&Params::default()).is_ok());
    assert!(planned(texts[0]).route(&Params::default()).is_err());
}

#[test]
fn statements_are_shared_by_sessions() {
    fn shared<T: Send + Sync>() {}
    shared::<Statement>();
}

#[test]
fn binary_parameters_are_keys_too() {
    let statement = planned("select * from t where k = $1");
    assert_eq!(
        routed(&statement, &[binary(20, &7_i64.to_be_bytes())]),
        Route::One(of(7))
    );
    assert_eq!(
        routed(&statement, &[binary(23, &7_i32.to_be_bytes())]),
        Route::One(of(7))
    );
    // 7.0: one digit, weight 0, positive, scale 1.
    let numeric = [0, 1, 0, 0, 0, 0, 0, 1, 0, 7];
    assert_eq!(
        routed(&statement, &[binary(1700, &numeric)]),
        Route::One(of(7))
    );
}

#[test]
fn arrays_are_taken_apart_in_either_format() {
    let statement = planned("select * from t where k = any($1)");
    let mut array = Vec::new();
    for word in [1, 0, 20, 1, 1, 8] {
        array.extend_from_slice(&i32::to_be_bytes(word));
    }
    array.extend_from_slice(&9_i64.to_be_bytes());
    assert_eq!(
        routed(&statement, &[binary(1016, &array)]),
        Route::One(of(9))
    );
    assert_eq!(
        routed(&statement, &[text(1016, "{9,NULL}")]),
        Route::One(of(9))
    );
    let shards = [of(1), of(2), of(3)].into();
    let expected = Route::Concat {
        shards,
        writes: false,
    };
    assert_eq!(routed(&statement, &[text(1016, "{1,2,3}")]), expected);
    // What cannot be read is left to the servers.
    assert!(matches!(
        routed(&statement, &[text(1016, "{{1}}")]),
        Route::Concat { .. }
    ));
}

#[test]
fn a_parameter_without_a_type_has_that_of_all_its_uses() {
    let one = planned("select * from t where k = $1");
    assert_eq!(one.parameter_types().collect::<Vec<_>>(), [20]);
    assert_eq!(routed(&one, &[text(0, " 7 ")]), Route::One(of(7)));
    let two = planned("select * from t where k = $1 and n = $1");
    assert_eq!(two.parameter_types().collect::<Vec<_>>(), [0]);
    assert!(matches!(
        routed(&two, &[text(0, "7")]),
        Route::Concat { .. }
    ));
    assert_eq!(routed(&two, &[text(23, "7")]), Route::One(of(7)));
    let types = |query| planned(query).parameter_types().collect::<Vec<_>>();
    // A list has one type.
    assert_eq!(types("select * from t where k in ($1, 5, null)"), [20]);
    assert_eq!(types("select * from t where k in ($1, 2.5)"), [0]);
    // The server looks at what nobody reads, too.
    let unread = "with w as (select $1::timestamp) select * from t where k = $1";
    assert_eq!(types(unread), [0]);
    let read = "with w as (select * from t where k = $1) select * from w";
    assert_eq!(types(read), [20]);
}

#[test]
fn texts_of_another_encoding_are_no_keys() {
    let statement = planned("select * from names where name = $1");
    let values = [text(25, "ä")];
    let foreign = |foreign_encoding| {
        let params = Params {
            values: &values,
            foreign_encoding,
        };
        statement.shards(&params).unwrap().len()
    };
    assert_eq!((foreign(false), foreign(true)), (1, 8));
}

#[test]
fn moments_in_parameters_do_not_go_to_several_shards() {
    let statement = planned("select * from names where name > $1");
    let values = [text(25, "now")];
    let params = Params {
        values: &values,
        foreign_encoding: false,
    };
    assert_eq!(statement.route(&params).unwrap_err().code, "0A000");
}

#[test]
fn names_depend_on_the_session() {
    let mut names = Names::default();
    names.temporary.insert("t".into());
    let statement = plan(
        "select * from t where k = 7",
        &names,
        &catalog(),
        &placement(),
    );
    assert!(matches!(statement.plan(), Plan::Refused(_)));
    names.search_path.clear();
    names.temporary.clear();
    let statement = plan(
        "select * from t where k = 7",
        &names,
        &catalog(),
        &placement(),
    );
    assert!(matches!(statement.plan(), Plan::Refused(refusal) if refusal.code == "42P01"));
    let statement = plan(
        "select * from public.t where k = 7",
        &names,
        &catalog(),
        &placement(),
    );
    assert_eq!(routed(&statement, &[]), Route::One(of(7)));
}

#[test]
fn what_is_no_single_statement_is_refused() {
    for text in [
        "",
        "select 1; select 2",
        "select from where",
        "select $1 from t where k = $0",
    ] {
        assert!(matches!(planned(text).plan(), Plan::Refused(_)), "{text}");
    }
    let deep = format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(matches!(
        planned(&deep).plan(),
        Plan::Refused(_) | Plan::Anywhere
    ));
    let long = format!("select 1{} from t", " + 1".repeat(5_000));
    assert!(matches!(planned(&long).plan(), Plan::Refused(_)));
}

#[test]
fn what_is_nested_without_end_is_refused() {
    for depth in [60, 1000] {
        for text in [
            format!("SELECT n FROM t WHERE k = {}1", "1 + ".repeat(depth)),
            format!(
                "SELECT n FROM {}t{}",
                "(SELECT * FROM ".repeat(depth),
                ") x".repeat(depth)
            ),
        ] {
            let statement = planned(&text);
            let Plan::Refused(refusal) = statement.plan() else {
                panic!("{depth}");
            };
            assert_eq!(refusal.reason, "it is nested too deeply to be planned");
            assert_eq!(refusal.code, "0A000");
        }
    }
}

#[test]
fn what_one_server_may_answer_is_not_called_wrong() {
    let negated = format!("select {} 1", "~ ".repeat(20_000));
    for (text, code) in [
        ("alter table if exists nothing add x int", "0A000"),
        ("alter table nothing add x int", "42P01"),
        (
            "update t set n = 1 where k = 1 returning old.n, new.n",
            "0A000",
        ),
        ("update t set n = 1 where k = 1 returning old.*", "0A000"),
        ("update t set n = 1 where k = 1 returning new", "0A000"),
        ("update t set n = 1 where k = 1 returning older.n", "42P01"),
        ("select nothing(n) from t", "0A000"),
        ("select nothing(n, n) from t", "42883"),
        ("select t.sum from t", "0A000"),
        ("select t.nothing from t", "42703"),
        (negated.as_str(), "0A000"),
    ] {
        let statement = planned(text);
        let Plan::Refused(refusal) = statement.plan() else {
            panic!("{text}");
        };
        assert_eq!(refusal.code, code, "{text:.80}: {refusal}");
    }
}

#[test]
fn negative_limits_are_refused_as_by_postgres() {
    let statement = planned("select k from t order by k limit $1");
    let values = [text(20, "-1")];
    let params = Params {
        values: &values,
        foreign_encoding: false,
    };
    assert_eq!(statement.route(&params).unwrap_err().code, "2201W");
}

#[test]
fn copies_say_where_the_key_is() {
    let statement = planned("copy t (n, k) from stdin");
    let Plan::CopyIn(copy) = statement.plan() else {
        panic!("{:?}", statement.plan());
    };
    assert_eq!(copy.columns, ["n", "k"]);
    assert!(matches!(&copy.target, crate::CopyTarget::ByKey { key, .. } if key[0].0 == 1));
    assert!(matches!(
        planned("copy t (n) from stdin").plan(),
        Plan::Refused(_)
    ));
    assert!(matches!(
        planned("copy t to stdout").plan(),
        Plan::Pushed { .. }
    ));
    assert!(matches!(
        planned("copy t to stdout with (format csv, header)").plan(),
        Plan::Pushed { .. }
    ));
}

#[test]
fn a_copy_has_the_plan_of_its_query() {
    for (text, expected, header) in [
        (
            "copy (select n from t) to stdout csv header",
            "Pushed",
            true,
        ),
        (
            "copy (select n from t order by n) to stdout",
            "Merged",
            false,
        ),
        (
            "copy (select count(*) from t) to stdout binary",
            "Merged",
            false,
        ),
        (
            "copy (select a.n from t a join t b on a.n = b.k + 1) to stdout",
            "Pulled",
            false,
        ),
        // Neither a shard nor one Postgres takes a parameter.
        (
            "copy (select n from t where n > $1) to stdout",
            "Merged",
            false,
        ),
    ] {
        let statement = planned(text);
        let shown = format!("{:?}", statement.plan());
        assert!(shown.starts_with(expected), "{text}: {shown}");
        let out = statement.copied().expect(text);
        assert_eq!(out.header, header, "{text}");
    }
    for text in [
        "copy (select n from t) to stdout (odd)",
        "copy (select n from t) to stdout (delimiter 'ab')",
        "copy (insert into t values (1, 1) returning n) to stdout",
    ] {
        assert!(matches!(planned(text).plan(), Plan::Refused(_)), "{text}");
    }
    let statement = planned("copy (select n from t where k = 7) to stdout (odd)");
    assert!(matches!(
        statement.route(&Params::default()),
        Ok(Route::One(_))
    ));
}

#[test]
fn a_cursor_has_its_rows_of_one_server() {
    for text in [
        "select n from t",
        "select n from t order by n limit 3",
        "select distinct n from t",
        "select a.n from t a join t b on a.n = b.k + 1",
    ] {
        let statement = planned(&format!("declare c scroll cursor for {text}"));
        let route = statement.route(&Params::default());
        match route.unwrap() {
            Route::Pull { .. } => {}
            Route::Merge { merge, .. } => {
                assert!(matches!(merge, crate::Merge::Combined { .. }), "{merge:?}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let locks = planned("declare c cursor for select n from t for update");
    assert!(matches!(locks.plan(), Plan::Refused(_)));
}

#[test]
fn a_sequence_is_used_only_if_no_other_gives_the_same() {
    assert!(matches!(
        planned("select nextval('s')").plan(),
        Plan::Refused(_)
    ));
    let mut placement = Placement::new(2);
    placement.sequences(crate::placement::Sequences::Disjoint);
    let statement = plan(
        "select nextval('s')",
        &Names::default(),
        &catalog(),
        &Arc::new(placement.clone()),
    );
    assert!(matches!(statement.plan(), Plan::Anywhere));
    // One that is the same on all of them is none of these.
    placement.unlisted(Unlisted::Replicated);
    for text in [
        "create sequence s",
        "create table fresh (id bigserial)",
        "create table fresh (id bigint generated always as identity)",
    ] {
        let of = |placement: &Placement| {
            let placement = Arc::new(placement.clone());
            let planned = plan(text, &Names::default(), &catalog(), &placement);
            matches!(planned.plan(), Plan::All)
        };
        assert!(!of(&placement), "{text}");
        let mut overlapping = Placement::new(2);
        overlapping.unlisted(Unlisted::Replicated);
        assert!(of(&overlapping), "{text}");
    }
}

#[test]
fn a_key_that_is_looked_up_leads_on_once_it_is_known() {
    let mapping = Arc::new(Mapping::new(KeyType::Int8));
    let mut placement = Placement::new(2);
    let group = placement.group(Method::Lookup(Arc::clone(&mapping)));
    placement.column("k", group.unwrap());
    placement.table("public", "same", Distribution::Replicated);
    let placement = Arc::new(placement);
    let by = |text: &str| plan(text, &Names::default(), &catalog(), &placement);
    let none = Params::default();
    let texts = [
        ("select n from t where k = 7", "22023"),
        ("select n from t where k in (7, 8)", "22023"),
        (
            "select n from t where k = 7 and exists (select from keyed where k = 8)",
            "22023",
        ),
        ("update t set n = 1 where k = 7", "22023"),
        ("insert into t values (7, 1)", "23514"),
        ("insert into t values (7, 1), (8, 1)", "23514"),
    ];
    // What is planned once is right ever after.
    let planned = texts.map(|(text, code)| (text, code, by(text)));
    for (text, code, statement) in &planned {
        let refusal = statement.route(&none).unwrap_err();
        assert_eq!((refusal.code, refusal.unknown), (*code, true), "{text}");
        assert_eq!(statement.wanted(&none), Some(Wanted::Named), "{text}");
        assert_eq!(statement.only(&none), None, "{text}");
    }
    let given = |shards: [Option<u16>; 2]| {
        let keys = [7, 8].map(KeyValue::Int).into_iter();
        let pairs = keys.zip(shards.map(|shard| shard.map(Shard)));
        pairs.collect()
    };
    assert!(!mapping.take(given([Some(1), Some(1)])));
    for (text, _, statement) in &planned {
        assert_eq!(statement.route(&none), Ok(Route::One(Shard(1))), "{text}");
        assert_eq!(statement.wanted(&none), None, "{text}");
    }
    let dealt = "insert into t select id, kind from same";
    assert_eq!(by(dealt).wanted(&none), Some(Wanted::Met));
    assert_eq!(by("copy t from stdin").wanted(&none), Some(Wanted::Met));
    assert_eq!(by("copy same from stdin").wanted(&none), None);
    assert_eq!(by("select count(*) from t").wanted(&none), None);
    assert!(mapping.take(given([Some(0), Some(1)])));
    for (text, _, statement) in &planned {
        let refusal = statement.route(&none).unwrap_err();
        assert_eq!((refusal.code, refusal.unknown), ("55000", false), "{text}");
        assert_eq!(statement.wanted(&none), None, "{text}");
    }
    let eight = by("select n from t where k = 8");
    assert_eq!(eight.route(&none), Ok(Route::One(Shard(1))));
    // With another type of key it is none of its own.
    let mut other = Placement::new(2);
    let group = other.group(Method::Lookup(mapping)).unwrap();
    other.column("name", group);
    let statement = plan(
        "select 1 from names where name = 'x'",
        &Names::default(),
        &catalog(),
        &Arc::new(other),
    );
    assert!(matches!(statement.plan(), Plan::Refused(_)));
}

#[test]
fn what_does_not_agree_is_found() {
    let mut placement = Placement::new(2);
    let group = placement.group(Method::hash(2)).unwrap();
    let columns = vec!["k".to_owned()];
    let sharding = Distribution::Sharded(Sharding { columns, group });
    placement.table("public", "t", sharding.clone());
    placement.table("public", "missing", sharding);
    let values = [(KeyValue::Int(1), Shard(1))].into();
    let default = None;
    let listed = Method::List { values, default };
    let group = placement.group(listed).unwrap();
    for (table, column) in [("keyed", "k"), ("names", "name")] {
        let columns = vec![column.to_owned()];
        let sharding = Sharding { columns, group };
        placement.table("public", table, Distribution::Sharded(sharding));
    }
    let found = placement.check(&catalog());
    let told: Vec<String> = found
        .iter()
        .map(|found| format!("{} {}", found.table, found.problem))
        .collect();
    assert_eq!(
        told,
        [
            "public.missing does not exist",
            "public.alike is placed nowhere",
            "public.names has a key of another type than what it is placed by",
            "public.same is placed nowhere",
        ]
    );
}

fn explained(text: &str) -> Vec<String> {
    planned(text).explain(Some(&Params::default()))
}

/// What is brought, and what is run behind it.
fn pulled(text: &str) -> (Vec<String>, String) {
    match planned(text).plan() {
        Plan::Pulled(pulled) => {
            let sent = pulled.pulls.iter().map(|pull| pull.text.clone());
            (sent.collect(), pulled.text.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_used_of_the_rows_that_count_is_brought() {
    let (sent, rest) = pulled(
        "select a.k from t a join names b on b.name = a.n::text where a.n > 3 and b.name <> 'x'",
    );
    assert_eq!(
        sent,
        [
            "SELECT a.k, a.n FROM t a WHERE a.n > 3",
            "SELECT b.name FROM names b WHERE b.name <> 'x'",
        ]
    );
    assert_eq!(
        rest,
        "SELECT a.k FROM pgherd_pull_0 a JOIN pgherd_pull_1 b ON b.name = a.n::text \
         WHERE a.n > 3 AND b.name <> 'x'"
    );
}

#[test]
fn a_condition_that_may_fail_stays_where_it_was() {
    for condition in [
        "1 / a.n > 2",
        "a.n in (select 1)",
        "a.n::text = 'x'",
        "b.k > a.k",
    ] {
        let text = format!("select 1 from t a join t b on a.n = b.n where {condition}");
        let (sent, rest) = pulled(&text);
        assert!(!sent[0].contains("WHERE"), "{}", sent[0]);
        assert!(rest.contains("WHERE"), "{rest}");
    }
}

#[test]
fn a_part_that_may_fail_is_computed_where_it_is_needed() {
    for part in [
        "select 1 / n as x, n from t",
        "select k + n as x, n from t",
        "select n::int2 as x, n from t",
        "select n as x, n from t where 1 / k > 2",
    ] {
        let text = format!("select s.x from ({part}) s join t b on b.n = s.n where s.n <> 0");
        let (sent, rest) = pulled(&text);
        assert!(sent.iter().all(|sent| !sent.contains(" AS x")), "{sent:?}");
        assert!(rest.contains(" AS x"), "{rest}");
    }
    for part in [
        "select k as x, n from t",
        "select k::text as x, n from t where n > 3 and k is not null",
        "select case when n > 3 then k else 10 / 3 end as x, n from t where n / 3 < 7",
        "select coalesce(k, n) as x, n from t group by n, k",
    ] {
        let text = format!("select s.x from ({part}) s join t b on b.n = s.n where s.n <> 0");
        let (sent, rest) = pulled(&text);
        assert!(sent.iter().any(|sent| sent.contains(" AS x")), "{sent:?}");
        assert!(!rest.contains("CASE"), "{rest}");
    }
}

#[test]
fn a_name_of_several_columns_that_are_the_same_is_clear() {
    for (text, code) in [
        ("select k, k from t order by k", None),
        ("select k as a, t.k as a from t group by a", None),
        ("select k, n as k from t order by k", Some("42702")),
        ("select k, k + 1 as k from t order by k", Some("42702")),
        (
            "select n + 1 as k, n + 1 as k from t order by k",
            Some("0A000"),
        ),
        (
            "select k, k from t union all select k, k from t order by k",
            Some("42702"),
        ),
    ] {
        let code = code.map(str::to_owned);
        let found = match planned(text).plan() {
            Plan::Refused(refusal) => Some(refusal.code.to_owned()),
            _ => None,
        };
        assert_eq!(found, code, "{text}");
    }
}

#[test]
fn what_an_outer_join_keeps_is_not_left_out() {
    let (sent, _) = pulled(
        "select 1 from t a left join t b on a.n = b.n and b.n > 1 and a.n > 2 where a.n > 3 and b.k is null",
    );
    assert_eq!(
        sent,
        [
            "SELECT a.k, a.n FROM t a WHERE a.n > 3",
            "SELECT b.k, b.n FROM t b WHERE b.n > 1",
        ]
    );
}

#[test]
fn rows_without_a_partner_on_every_shard_are_not_brought() {
    let (sent, _) = pulled(
        "select 1 from t a join names b on b.name = a.n::text, same s, alike z
         where a.n = s.id and s.kind = z.kind and z.id in (1, 2)",
    );
    assert_eq!(
        sent[0],
        "SELECT a.n FROM t a WHERE a.n IN (SELECT s.id FROM same s, alike z \
         WHERE s.kind = z.kind AND z.id IN (1, 2))"
    );
    // Also where they are asked for by a query in an expression, whose names may hide others.
    let (sent, _) = pulled(
        "select 1 from same s where kind = 3 and 2 < (select count(*) from t where n = s.id)",
    );
    assert_eq!(
        sent,
        ["SELECT t.n FROM t t WHERE n IN (SELECT s.id FROM same s WHERE kind = 3)"]
    );
    // In ON, names are those of the two sides.
    let (sent, _) = pulled(
        "select 1 from t join same s on n = id and kind = 3 join names b on b.name = n::text",
    );
    assert_eq!(
        sent[0],
        "SELECT t.n FROM t t WHERE t.n IN (SELECT s.id FROM same s WHERE s.kind = 3)"
    );
    for text in [
        // Nothing is asked of the partner, or not of all of its rows.
        "select 1 from same s where 2 < (select count(*) from t where n = s.id)",
        "select 1 from same s where kind = 3 or 2 < (select count(*) from t where n = s.id)",
        "select 1 from t a join names b on b.name = a.n::text left join same s on s.id = a.n and s.kind = 3",
        // It is another.
        "select 1 from same s where kind = 3 and 2 < (select count(*) from t, alike s where n = s.id)",
        "with same as (select id, kind from alike) select 1 from same s
         where kind = 3 and 2 < (select count(*) from t where n = s.id)",
        // It is not the same everywhere, or may be an error.
        "select 1 from same s where 1 / kind = 3 and 2 < (select count(*) from t where n = s.id)",
        "select 1 from same s where id in (select id from alike limit 1)
         and 2 < (select count(*) from t where n = s.id)",
    ] {
        let (sent, _) = pulled(text);
        assert!(
            !sent.iter().any(|sent| sent.contains(" IN (SELECT")),
            "{sent:?}"
        );
    }
}

#[test]
fn a_row_that_is_only_looked_for_comes_once() {
    let (sent, _) =
        pulled("select 1 from t a where exists (select 1 from t b where b.n = a.n and b.n > 3)");
    assert!(
        sent.contains(&"SELECT DISTINCT b.n FROM t b WHERE b.n > 3".to_owned()),
        "{sent:?}"
    );
    for text in [
        "select (select count(*) from t b where b.n = a.n) from t a",
        "select 1 from t a where a.n in (select count(*) from t b where b.n = a.n)",
        "select 1 from t a where exists (select 1 from t b where b.n = a.n limit 1)",
        "select 1 from t a where exists (select 1 from (select b.n from t b limit 3) b where b.n = a.n)",
    ] {
        let (sent, _) = pulled(text);
        assert!(
            !sent.iter().any(|sent| sent.contains("DISTINCT")),
            "{sent:?}"
        );
    }
}

#[test]
fn a_condition_that_the_shards_can_judge_is_judged_there_alone() {
    let (sent, rest) = pulled(
        "select 1 from t a, keyed b, names c where a.k = b.k and c.name = a.n::text
         and b.k in (select k from t group by k having count(*) > 3)",
    );
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(
        sent[0].ends_with("IN (SELECT k FROM t GROUP BY k HAVING count(*) > 3)"),
        "{sent:?}"
    );
    assert!(!rest.contains("HAVING"), "{rest}");
}

#[test]
fn rows_that_are_all_on_one_shard_are_not_brought_to_another() {
    let statement = planned(
        "select exists (select 1 from t where k = 7 and n > 5), exists (select 1 from t where k = 7)",
    );
    let route = statement.route(&Params::default()).unwrap();
    assert_eq!(route, Route::One(of(7)));
    let statement = planned(
        "select exists (select 1 from t where k = 7), exists (select 1 from t where n = 7)",
    );
    let route = statement.route(&Params::default()).unwrap();
    let Route::Pull { pulls, .. } = route else {
        panic!("{route:?}");
    };
    let counts: Vec<usize> = pulls.iter().map(|(shards, _)| shards.len()).collect();
    assert_eq!(counts, [1, 8]);
}

#[test]
fn names_of_carriers_are_not_for_others() {
    let statement = planned("select a.k from t a join t b on a.n = b.n, (select 1) pgherd_pull_0");
    assert!(matches!(statement.plan(), Plan::Refused(_)));
}

#[test]
fn a_plan_is_told_step_by_step() {
    assert_eq!(
        explained("select * from t where k in (7, 8)"),
        [
            "One shard, as it is (each table's key is bound), if the keys lead to one".to_owned(),
            "Otherwise".into(),
            "  Append (its rows are disjoint parts of the shards)".into(),
            format!("    Fragment on shards {}, {}, as it is", of(8).0, of(7).0),
        ]
    );
    assert_eq!(
        explained("select k from t order by k desc limit 3"),
        [
            "Merge by column 1 DESC NULLS FIRST, limit 3 (each shard's rows are sorted, by types of a certain order)",
            "  Fragment on shards 0, 1, 2, 3, 4, 5, 6, 7: SELECT k FROM t ORDER BY k DESC LIMIT 3",
        ]
    );
    assert_eq!(
        explained("select a.k from t a join t b on a.n = b.n"),
        [
            "Rows are brought to one server (what is left reads nothing that is spread)",
            "  Final: SELECT a.k FROM pgherd_pull_0 a JOIN pgherd_pull_1 b ON a.n = b.n",
            "  Carrier pgherd_pull_0 (a table's rows, by its own conditions and used columns)",
            "    Fragment on shards 0, 1, 2, 3, 4, 5, 6, 7: SELECT a.k, a.n FROM t a",
            "    Only n that pgherd_pull_1.n has, if these are few",
            "  Carrier pgherd_pull_1 (a table's rows, by its own conditions and used columns)",
            "    Fragment on shards 0, 1, 2, 3, 4, 5, 6, 7: SELECT b.k, b.n FROM t b",
            "    Only n that pgherd_pull_0.n has, if these are few",
        ]
    );
    assert!(explained("select ctid from t")[0].starts_with("Refused: system column ctid"));
}

/// Where a text goes by the plan of all that have other literals.
fn by_slots(text: &str) -> Option<Shard> {
    let slots = Slots::of(text)?;
    planned(&slots.text).only(&Params {
        values: &slots.values,
        foreign_encoding: false,
    })
}

#[test]
fn one_plan_does_for_texts_with_other_literals() {
    for number in [0_i64, 7, 2_147_483_647, 2_147_483_648, 99_999_999_999] {
        for text in [
            format!("select * from t where k = {number}"),
            format!("select n, 'x' from t where k='{number}' and n > 12 limit 5;"),
            format!("select * from t where k in ({number}, {number}) order by 1"),
            format!("select * from t where {number} = k and n = -1"),
            format!("select * from t where k = {number}::bigint"),
            format!("update t set n = n + 1 where k = {number}"),
            format!("insert into t (k, n) values ({number}, 1)"),
            format!("select * from t a join t b on a.k = b.k where b.k = {number}"),
        ] {
            assert_eq!(by_slots(&text), Some(of(number)), "{text}");
            assert_eq!(
                routed(&planned(&text), &[]),
                Route::One(of(number)),
                "{text}"
            );
        }
    }
    for text in ["a", "", "a b"] {
        let text = format!("select * from names where name = '{text}'");
        let shard = by_slots(&text).expect("it is a plain string");
        assert_eq!(routed(&planned(&text), &[]), Route::One(shard), "{text}");
    }
}

#[test]
fn what_a_parameter_does_not_say_is_planned_by_itself() {
    for text in [
        // Where a constant is an expression of its own, or of another type.
        "select * from t where k = -7",
        "select * from t where k = 7.0",
        "select * from t where k = e'7'",
        "select * from t where k = bigint '7'",
        "select * from t where k = '7'::varchar(1)::bigint",
        "select * from t where k = 99999999999::int",
        "select * from names where name = 7",
        "select * from names where name = 'a' collate \"C\"",
        "select * from names where name = U&'a' uescape '!'",
        "select * from names where name = 'a' 'b'",
        "select * from names where name = 'it''s'",
        // Where none may stand.
        "select k::varchar(10) from t where k = 7",
        "insert into t (k, n) values ('x', 1)",
        // Rows that say something of each other's types.
        "insert into t (k, n) values (7, 1), (7, 2)",
        // Rows of several shards, or of all.
        "select * from t where k in (1, 2, 3, 4, 5, 6, 7)",
        "select * from t where n = 7",
        "select 7",
        "select nextval('s') from t where k = 7",
        "select * from t where k = 7; select 7",
    ] {
        assert_eq!(by_slots(text), None, "{text}");
    }
}
