use super::*;

fn loaded(rows: &[(Part, &[Option<&str>])]) -> Catalog {
    let mut loader = Loader::default();
    for (part, row) in rows {
        loader.row(*part, row).unwrap();
    }
    loader.finish()
}

fn table(not_null: &str) -> Catalog {
    let column = [
        "public",
        "t",
        "k",
        "pg_catalog",
        "int8",
        "20",
        "-1",
        not_null,
        "",
    ]
    .map(Some);
    let column: Vec<_> = column
        .into_iter()
        .chain([None, Some("f"), Some("f")])
        .collect();
    let relation = ["public", "t", "r", "f", "false", "f"].map(Some);
    let relation: Vec<_> = relation
        .into_iter()
        .chain([None, None, Some("f"), None])
        .collect();
    loaded(&[
        (Part::Schemas, &[Some("public")]),
        (Part::Relations, &relation),
        (Part::Columns, &column),
        (
            Part::Uniques,
            &["public", "t", "t_pkey", "t", "t", "k"].map(Some),
        ),
    ])
}

#[test]
fn rows_become_facts() {
    let catalog = table("t");
    let relation = catalog.relation("public", "t").unwrap();
    assert_eq!(relation.kind, RelationKind::Table);
    assert_eq!(relation.column("k"), Some(0));
    assert_eq!(relation.columns[0].kind.oid, 20);
    assert!(relation.uniques[0].primary);
}

#[test]
fn a_row_that_is_none_is_refused() {
    let mut loader = Loader::default();
    assert!(loader.row(Part::Columns, &[Some("public")]).is_err());
    assert!(loader.row(Part::Schemas, &[None]).is_err());
}

#[test]
fn what_differs_is_named() {
    assert_eq!(table("t").differences(&table("t")), Vec::<String>::new());
    assert_eq!(
        table("t").differences(&table("f")),
        ["column k of public.t is defined differently"]
    );
    assert_eq!(
        table("t").differences(&Catalog::default()),
        [
            "schema public is on one of the two only",
            "relation public.t is on one of the two only"
        ]
    );
}
