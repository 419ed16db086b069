use std::time::Duration;

use super::*;

const TEMPLATE: &str = "?.c1x2y3.eu-west-1.rds.amazonaws.com:5432";

fn template() -> HostTemplate {
    TEMPLATE.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn host(text: &str) -> HostName {
    HostName::from(text)
}

fn row(name: &str, writer: bool) -> AuroraRow {
    let session = if writer { WRITER } else { "f3c1" };
    AuroraRow::read(name, Some(session), Some("17"), Some("12.5"), Some("1")).unwrap()
}

/// What an instance says: all names, and the writer's.
fn said(own: &str, standing: Standing, all: &[&str], writer: &str) -> Testimony {
    let rows = all.iter().map(|name| row(name, *name == writer)).collect();
    Testimony::new(name(own), standing, rows).unwrap()
}

/// The leader that is claimed.
fn leader(instances: &Instances) -> Option<String> {
    let claim = instances.claim(Some(&template())).unwrap();
    assert_eq!((claim.timeline, claim.source), (None, Source::Aurora));
    claim.leader.map(|host| host.to_string())
}

use Standing::{Primary, Replica};

#[test]
fn the_columns_of_a_row() {
    let row = row("one", true);
    assert!(row.writer);
    assert_eq!(row.durable, Some(Lsn::new(17)));
    assert_eq!(row.lag, Some(Duration::from_micros(12_500)));
    assert_eq!(row.updated_ago, Some(Duration::from_secs(1)));
    for lag in ["nan", "inf", "-1", "1e300", "x", ""] {
        let row = AuroraRow::read("one", None, Some("-5"), Some(lag), None).unwrap();
        assert_eq!(
            (row.lag, row.durable, row.writer),
            (None, None, false),
            "{lag}"
        );
    }
}

#[test]
fn an_instance_has_its_place_from_its_own_row() {
    let mut reader = said("two", Replica, &["one", "two"], "one");
    assert_eq!(reader.place(), Lsn::new(17));
    assert_eq!(reader.place_age(), Duration::from_secs(2));
    reader.rows[1].updated_ago = None;
    assert_eq!(reader.place_age(), ROW_MARGIN);
    reader.rows.pop();
    // Whatever was written is not known to be there.
    assert_eq!((reader.place(), reader.lag()), (Lsn::new(0), None));
    let writer = said("one", Primary, &[], "one");
    assert_eq!(writer.place(), Lsn::new(u64::MAX));
}

#[test]
fn who_says_it_of_itself_is_believed_and_of_two_nobody() {
    let all = ["one", "two", "three"];
    let mut instances = Instances::default();
    assert_eq!(instances.claim(None), None);
    instances.heard(&host("a"), said("one", Primary, &all, "one"));
    // Readers may not have heard of it yet.
    instances.heard(&host("b"), said("two", Replica, &all, "three"));
    instances.heard(&host("c"), said("three", Replica, &all, "three"));
    assert_eq!(leader(&instances).as_deref(), Some("a"));
    instances.heard(&host("c"), said("three", Primary, &all, "three"));
    assert_eq!(leader(&instances), None);
    instances.failed(&host("a"));
    assert_eq!(leader(&instances).as_deref(), Some("c"));
    // By another name it is the same one.
    instances.heard(&host("d"), said("three", Primary, &all, "three"));
    assert!(leader(&instances).is_some());
}

#[test]
fn without_a_writer_most_readers_tell_whom_they_wait_for() {
    let all = ["one", "two", "three", "four"];
    let mut instances = Instances::default();
    instances.heard(&host("b"), said("two", Replica, &all, "one"));
    let there = "one.c1x2y3.eu-west-1.rds.amazonaws.com:5432";
    assert_eq!(leader(&instances).as_deref(), Some(there));
    instances.heard(&host("c"), said("three", Replica, &all, "two"));
    assert_eq!(leader(&instances), None);
    instances.heard(&host("d"), said("four", Replica, &all, "two"));
    assert_eq!(leader(&instances).as_deref(), Some("b"));
    // Who is not in recovery and says that another is the writer claims nothing.
    instances.heard(&host("d"), said("four", Primary, &all, "two"));
    assert_eq!(leader(&instances).as_deref(), Some("b"));
    instances.keep(|kept| *kept == host("x"));
    assert_eq!(instances.claim(None), None);
}

#[test]
fn a_row_of_a_former_writer_makes_its_answer_say_nothing() {
    let mut instances = Instances::default();
    let mut reader = said("two", Replica, &["one", "two", "three"], "one");
    reader.rows[2].writer = true;
    instances.heard(&host("b"), reader);
    assert_eq!(leader(&instances), None);
}

#[test]
fn those_that_name_each_other_are_one_cluster() {
    let mut instances = Instances::default();
    let one = instances.heard(&host("a"), said("one", Primary, &["one", "two"], "one"));
    // It has not heard of the others yet, but they have of it.
    let two = instances.heard(&host("b"), said("two", Replica, &[], ""));
    assert_eq!(one, two);
    let other = instances.heard(&host("x"), said("ten", Primary, &["ten"], "ten"));
    assert_ne!(one, other);
    assert_eq!(
        instances.members(one, &template(), |_, _| true),
        [
            host("one.c1x2y3.eu-west-1.rds.amazonaws.com:5432"),
            host("two.c1x2y3.eu-west-1.rds.amazonaws.com:5432")
        ]
    );
    // A new one answers before it is named, and is one of them once it is.
    let new = instances.heard(&host("c"), said("new", Replica, &["new"], ""));
    assert_ne!(new, one);
    let named = instances.heard(&host("a"), said("one", Primary, &["one", "new"], "one"));
    let new = instances.heard(&host("c"), said("new", Replica, &["new"], ""));
    assert_eq!(new, named);
}

#[test]
fn the_names_that_are_remembered_are_bounded() {
    let mut instances = Instances::default();
    for n in 0..2 * MAX_NAMES {
        let new = format!("i{n}");
        instances.heard(&host("a"), said("one", Primary, &["one", &new], "one"));
    }
    assert_eq!(instances.clusters.len(), 1);
    assert!(
        instances
            .clusters
            .values()
            .all(|names| names.len() <= MAX_NAMES)
    );
}

#[test]
fn instances_that_were_deleted_are_left_out() {
    let mut instances = Instances::default();
    let mut writer = said("one", Primary, &["gone", "one", "two"], "one");
    writer.rows[0].updated_ago = Some(ROW_EXPIRY + Duration::from_secs(1));
    writer.rows[1].updated_ago = None;
    let cluster = instances.heard(&host("a"), writer);
    assert_eq!(
        instances.members(cluster, &template(), |_, _| true).len(),
        2
    );
    // One is known by the host that has answered, also when that fails later.
    instances.failed(&host("a"));
    instances.heard(&host("b"), said("two", Replica, &["one", "two"], "one"));
    let found = instances.members(cluster, &template(), |_, known| known.is_empty());
    assert_eq!(found, []);
}

#[test]
fn a_name_leads_nowhere_else() {
    let long = "x".repeat(64);
    for wrong in ["", "a.b", "a b", "evil.example:1/", "ä", "a@b", &long] {
        let read = AuroraRow::read(wrong, None, None, None, None);
        assert!(matches!(read, Err(AuroraError::Name(_))), "{wrong}");
    }
    let rows = vec![row("one", false); MAX_INSTANCES + 1];
    let read = Testimony::new(name("one"), Replica, rows);
    assert_eq!(read, Err(AuroraError::TooMany));
}

#[test]
fn a_template_has_one_place() {
    assert_eq!(template().to_string(), TEMPLATE);
    for wrong in ["", "db", "?.?", "? x", "u@?", "?,x", "{x}?"] {
        assert!(wrong.parse::<HostTemplate>().is_err(), "{wrong}");
    }
}

#[test]
fn the_endpoint_of_a_cluster_stands_for_its_instances() {
    let of = |name: &str| HostTemplate::of_endpoint(name, 5432).map(|it| it.to_string());
    for endpoint in [
        "shop.cluster-c1x2y3.eu-west-1.rds.amazonaws.com",
        "Shop.Cluster-RO-c1x2y3.eu-west-1.rds.amazonaws.com.",
    ] {
        assert_eq!(of(endpoint).as_deref(), Some(TEMPLATE), "{endpoint}");
    }
    let china = of("shop.cluster-c1.cn-north-1.rds.amazonaws.com.cn");
    assert_eq!(
        china.as_deref(),
        Some("?.c1.cn-north-1.rds.amazonaws.com.cn:5432")
    );
    for other in [
        "shop-1.c1x2y3.eu-west-1.rds.amazonaws.com",
        "few.cluster-custom-c1x2y3.eu-west-1.rds.amazonaws.com",
        "shop.cluster-c1x2y3.example.com",
        "shop.proxy-c1x2y3.eu-west-1.rds.amazonaws.com",
        "localhost",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
}
