//! Who a client is.

use pgherd_tests::Raw;

use super::{before, pair, steps};

const WHO: &str = "select current_user || ' ' || session_user";

#[tokio::test]
async fn a_role_follows_its_client_with_its_rights() {
    let (database, proxy) = before(1).await;
    database
        .sql(
            "create table secret (a int); create table open (a int); grant select on open to other",
        )
        .await;
    let [first, second] = pair(&database, &proxy).await;
    for set in [
        "set role other",
        "set role 'other'",
        "set role to other",
        "select set_config('role', 'other', false)",
    ] {
        steps(&first, &[set, "set work_mem = '5MB'"]).await;
        for _ in 0..2 {
            assert_eq!(first.one(WHO).await, "other app", "{set}");
            assert_eq!(first.one("select count(*) from open").await, "0");
            assert_eq!(
                first.refused("select count(*) from secret").await.0,
                "42501"
            );
            assert_eq!(second.one(WHO).await, "app app", "{set}");
            assert_eq!(second.one("select count(*) from secret").await, "0");
            assert_eq!(second.one("show role").await, "none");
        }
        for back in ["reset role", "set role none"] {
            steps(&first, &["set role other", back]).await;
            assert_eq!(second.one(WHO).await, "app app");
            assert_eq!(first.one(WHO).await, "app app", "{back}");
        }
    }
    steps(&first, &["begin", "set role other", "rollback"]).await;
    assert_eq!(first.one(WHO).await, "app app");
    steps(&first, &["begin", "set local role other"]).await;
    assert_eq!(first.one(WHO).await, "other app");
    steps(&first, &["commit"]).await;
    assert_eq!(first.one(WHO).await, "app app");
    steps(&first, &["set role other", "reset all"]).await;
    assert_eq!(second.one(WHO).await, "app app");
    assert_eq!(first.one(WHO).await, "other app");
    steps(&first, &["discard all"]).await;
    assert_eq!(first.one(WHO).await, "app app");
}

#[tokio::test]
async fn a_user_follows_its_client() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    steps(&first, &["set session authorization other"]).await;
    for _ in 0..2 {
        assert_eq!(second.one(WHO).await, "app app");
        assert_eq!(second.one("show is_superuser").await, "on");
        assert_eq!(first.one(WHO).await, "other other");
        assert_eq!(first.one("show is_superuser").await, "off");
    }
    // What only a superuser may set is set before it becomes somebody else.
    steps(
        &first,
        &[
            "reset session authorization",
            "set log_min_duration_statement = '1h'",
            "set session authorization other",
        ],
    )
    .await;
    assert_eq!(second.one("show log_min_duration_statement").await, "-1");
    assert_eq!(first.one("show log_min_duration_statement").await, "1h");
    assert_eq!(first.one(WHO).await, "other other");
    steps(&first, &["set session authorization default"]).await;
    assert_eq!(first.one(WHO).await, "app app");
    assert_eq!(second.one(WHO).await, "app app");
}

#[tokio::test]
async fn a_role_that_is_gone_is_an_error_and_not_another_role() {
    let (database, proxy) = before(1).await;
    database
        .sql("drop role if exists passing; create role passing; create table touched (a int)")
        .await;
    let [first, second] = pair(&database, &proxy).await;
    steps(&first, &["set role passing"]).await;
    assert_eq!(first.one(WHO).await, "passing app");
    assert_eq!(second.one(WHO).await, "app app");
    database.sql("drop role passing").await;
    for _ in 0..3 {
        let (code, message) = first.refused("insert into touched values (1)").await;
        assert_eq!(code, "22023", "{message}");
        assert!(message.contains("passing"), "{message}");
    }
    assert_eq!(second.one("select count(*) from touched").await, "0");
    steps(&first, &["reset role"]).await;
    assert_eq!(first.one(WHO).await, "app app");
    assert_eq!(second.one(WHO).await, "app app");
}

#[tokio::test]
async fn nothing_that_was_sent_along_runs_as_somebody_else() {
    let (database, proxy) = before(1).await;
    database
        .sql("drop role if exists fading; create role fading; create table touched (a int)")
        .await;
    let mut first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let insert = "insert into touched values (1)";
    first.ask(&Raw::query("set role fading")).await;
    let prepared = [
        Raw::parse("r", "rollback"),
        Raw::parse("i", insert),
        Raw::sync(),
    ]
    .concat();
    assert_eq!(first.ask(&prepared).await, "1 1 ZI");
    database.sql("drop role fading").await;
    let execute =
        |name: &str| [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()].concat();
    for (sent, answers) in [
        (Raw::query(insert), 1),
        (Raw::query(&format!("rollback; {insert}")), 1),
        ([Raw::query("rollback"), Raw::query(insert)].concat(), 2),
        ([execute("r"), execute("i")].concat(), 2),
        (
            [
                Raw::query("begin"),
                Raw::query(insert),
                Raw::query("commit"),
            ]
            .concat(),
            3,
        ),
    ] {
        // Somebody else uses the server in between, without a role.
        assert_eq!(second.one("select count(*) from touched").await, "0");
        first.send(&sent).await;
        let mut refused = 0;
        for _ in 0..answers {
            let told = first.ready().await;
            refused += usize::from(told.iter().any(|message| message.tag == 'E'));
        }
        assert!(refused > 0);
    }
    assert_eq!(second.one("select count(*) from touched").await, "0");
}
