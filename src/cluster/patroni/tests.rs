use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::*;

/// Of the form that the documentation of Patroni 4 shows.
const BODY: &str = r#"{
  "members": [
    {"name": "patroni1", "role": "leader", "state": "running",
     "api_url": "http://10.89.0.4:8008/patroni", "host": "10.89.0.4", "port": 5432,
     "timeline": 5, "tags": {"clonefrom": true}},
    {"name": "patroni2", "role": "sync_standby", "state": "streaming",
     "api_url": "http://10.89.0.6:8008/patroni", "host": "10.89.0.6", "port": 5433,
     "timeline": 5, "tags": {"noloadbalance": true}, "receive_lag": 0, "receive_lsn": "0/4000060",
     "replay_lag": 0, "replay_lsn": "0/4000060", "lag": 16, "lsn": "0/4000060"},
    {"name": "patroni3", "role": "replica", "state": "creating replica",
     "api_url": "http://10.89.0.7:8008/patroni", "host": "db3.internal", "port": 5432, "lag": "unknown"}
  ],
  "scope": "demo",
  "scheduled_switchover": {"at": "2023-09-24T10:36:00+02:00", "from": "patroni1", "to": "patroni3"}
}"#;

fn parse(body: &str) -> Result<PatroniCluster, PatroniError> {
    PatroniCluster::parse(body.as_bytes())
}

fn error(body: &str) -> String {
    parse(body).unwrap_err().to_string()
}

#[test]
fn a_tag_is_set_by_whatever_patroni_takes_for_true() {
    let set = |value: &str| {
        let body = format!(
            r#"{{"members": [{{"name": "a", "role": "replica", "host": "h", "tags": {{"noloadbalance": {value}}}}}]}}"#
        );
        parse(&body).unwrap().members[0].no_reads
    };
    for value in ["true", "1", "\"true\"", "\"false\"", "[0]"] {
        assert!(set(value), "{value}");
    }
    for value in ["false", "0", "0.0", "null", "\"\"", "[]", "{}"] {
        assert!(!set(value), "{value}");
    }
}

#[test]
fn a_whole_answer() {
    let cluster = parse(BODY).unwrap();
    let claim = Claim {
        leader: Some(HostName::from("10.89.0.4:5432")),
        timeline: Some(5),
        source: Source::Patroni,
    };
    assert_eq!(cluster.claim, claim);
    assert!(!cluster.paused);
    let switchover = Switchover {
        at: "2023-09-24T10:36:00+02:00".to_owned(),
        to: Some("patroni3".to_owned()),
    };
    assert_eq!(cluster.switchover, Some(switchover));
    let second = PatroniMember {
        name: "patroni2".to_owned(),
        host: HostName::from("10.89.0.6:5433"),
        role: PatroniRole::SyncStandby,
        state: "streaming".to_owned(),
        timeline: Some(5),
        lag: Some(16),
        api_url: Some("http://10.89.0.6:8008/patroni".to_owned()),
        no_reads: true,
    };
    assert_eq!(cluster.members[1], second);
    let third = &cluster.members[2];
    assert_eq!(
        (third.lag, third.timeline, third.no_reads),
        (None, None, false)
    );
    assert_eq!(third.role, PatroniRole::Replica);
}

#[test]
fn while_nobody_leads_the_claim_is_for_nobody() {
    let cluster =
        parse(r#"{"members": [{"name": "a", "role": "replica", "host": "a", "timeline": 4}]}"#);
    let cluster = cluster.unwrap();
    assert_eq!((cluster.claim.leader, cluster.claim.timeline), (None, None));
    assert_eq!(cluster.members[0].host.as_str(), "a:5432");
    let none = parse(r#"{"members": [], "scope": "x"}"#).unwrap();
    assert_eq!(none.claim.leader, None);
}

#[test]
fn the_leader_of_a_standby_cluster_leads_nobody() {
    let cluster = parse(
        r#"{"members": [{"name": "a", "role": "standby_leader", "host": "a", "timeline": 4}]}"#,
    );
    let cluster = cluster.unwrap();
    assert_eq!(cluster.claim.leader, None);
    assert_eq!(cluster.members[0].role, PatroniRole::StandbyLeader);
}

#[test]
fn a_pause_is_seen() {
    assert!(parse(r#"{"members": [], "pause": true}"#).unwrap().paused);
    assert!(!parse(r#"{"members": [], "pause": "true"}"#).unwrap().paused);
}

#[test]
fn who_has_no_address_is_left_out() {
    let cluster = parse(
        r#"{"members": [{"name": "a", "role": "leader", "timeline": 2}, {"name": "b", "role": "replica", "host": "b"}]}"#,
    );
    let cluster = cluster.unwrap();
    assert_eq!(cluster.members.len(), 1);
    assert_eq!(cluster.claim.leader, None);
}

#[test]
fn what_is_only_shown_may_be_odd() {
    let cluster = parse(
        r#"{"members": [{"name": "a", "role": "new_role", "host": "a", "state": 7, "timeline": "?", "lag": -4,
            "api_url": null, "tags": [1], "port": null}], "scheduled_switchover": "soon", "more": {"x": [1]}}"#,
    );
    let cluster = cluster.unwrap();
    let member = &cluster.members[0];
    assert_eq!(member.role, PatroniRole::Replica);
    assert_eq!((member.timeline, member.lag), (None, None));
    assert_eq!(member.state, "");
    assert_eq!(cluster.switchover, None);
    for timeline in ["0", "-1", "4294967296", "1.5", "true"] {
        let body = format!(
            r#"{{"members": [{{"name": "a", "role": "leader", "host": "a", "timeline": {timeline}}}]}}"#
        );
        assert_eq!(parse(&body).unwrap().claim.timeline, None, "{timeline}");
    }
}

#[test]
fn two_leaders_are_not_believed() {
    let body = r#"{"members": [{"name": "a", "role": "leader", "host": "a"}, {"name": "b", "role": "leader", "host": "b"}]}"#;
    assert_eq!(error(body), "a and b are both said to lead");
}

#[test]
fn addresses_are_written_as_the_configuration_writes_them() {
    let address = |host: &str| {
        let body = format!(
            r#"{{"members": [{{"name": "a", "role": "replica", "host": "{host}", "port": 6000}}]}}"#
        );
        parse(&body)
            .map(|cluster| cluster.members[0].host.to_string())
            .ok()
    };
    assert_eq!(address("db.internal").as_deref(), Some("db.internal:6000"));
    assert_eq!(address("fe80::1").as_deref(), Some("[fe80::1]:6000"));
    assert_eq!(address("/var/run").as_deref(), Some("/var/run:6000"));
    for odd in [
        "", "a b", "a,b", "u@a", "a?x=1", "a/b", "a:1", "[a]", "a\\u0000", "a\\n",
    ] {
        assert_eq!(address(odd), None, "{odd}");
    }
    assert_eq!(address(&"x".repeat(300)), None);
}

#[test]
fn what_is_not_an_answer_is_refused() {
    let wrong = [
        "",
        "null",
        "[]",
        "{}",
        "{\"members\": {}}",
        "{\"members\": [1]}",
        "{\"members\": [{}]}",
        "{\"members\": [{\"name\": \"a\"}]}",
        "{\"members\": [{\"name\": 1, \"role\": \"leader\"}]}",
        "{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"host\": 7}]}",
        "{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"host\": \"a\", \"port\": 70000}]}",
        "{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"host\": \"a\", \"port\": 0}]}",
        "{\"members\": [{\"name\": \"a\", \"role\": \"replica\", \"role\": \"leader\"}]}",
        "{\"members\": [], \"members\": []}",
        "{\"members\": []} x",
        "<html>502</html>",
    ];
    for body in wrong {
        assert!(parse(body).is_err(), "{body}");
    }
}

#[test]
fn hostile_answers_are_bounded() {
    let long = format!("{{\"members\": [], \"x\": \"{}\"}}", "x".repeat(MAX_BODY));
    assert!(matches!(parse(&long), Err(PatroniError::TooLong(_))));
    let deep = format!("{{\"members\": [], \"x\": {}", "[".repeat(MAX_BODY / 2));
    assert!(matches!(parse(&deep), Err(PatroniError::Malformed(_))));
    let member = r#"{"name": "a", "role": "replica", "host": "a"}"#;
    let many = format!("{{\"members\": [{}]}}", [member; MAX_MEMBERS + 1].join(","));
    assert!(matches!(
        parse(&many),
        Err(PatroniError::TooManyMembers(257))
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), cut in 0..BODY.len(), byte in any::<u8>()) {
        let _ = PatroniCluster::parse(&bytes);
        let mut body = BODY.as_bytes().to_vec();
        let _ = PatroniCluster::parse(&body[..cut]);
        body[cut] = byte;
        if let Ok(cluster) = PatroniCluster::parse(&body) {
            assert!(cluster.members.len() <= 3);
        }
    }

    #[test]
    fn no_moment_makes_it_panic(text in vec(any::<char>(), 0..40)) {
        let text: String = text.into_iter().collect();
        for at in [text.clone(), format!("2026-01-01T00:00:00.{text}Z"), format!("9999-12-31T00:00:00{text}")] {
            let _ = Switchover { at, to: None }.moment();
        }
    }
}

#[test]
fn the_moment_of_a_switchover() {
    let seconds = |at: &str| {
        let switchover = Switchover {
            at: at.to_owned(),
            to: None,
        };
        let moment = switchover.moment()?;
        Some(
            moment
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs_f64(),
        )
    };
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2000-02-29T23:59:59+00:00", 951_868_799.0),
        ("2000-03-01T00:00:00+00:00", 951_868_800.0),
        ("2023-09-24T10:36:00+02:00", 1_695_544_560.0),
        ("2023-09-24T03:06:00-05:30", 1_695_544_560.0),
        ("2026-11-29 09:00:00.250000+00:00", 1_795_942_800.25),
        ("2026-11-29 09:00:00.2500000001Z", 1_795_942_800.25),
    ] {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    for wrong in [
        "",
        "now",
        "2023-09-24",
        "2023-09-24T10:36:00",
        "2023-13-24T10:36:00Z",
        "2023-09-24T10:36Z",
        "2023-09-24T10:36:00+0200",
        "2023-09-24T10:36:00.x+02:00",
        "2023-09-24T10:36:00.+02:00",
        "2026-01-01T00:00:00.1844674407370955e20Z",
        "2026-01-01T00:00:00.1234567890e20Z",
        "99999-09-24T10:36:00Z",
        "1970-01-01T00:00:00+01:00",
        "\u{e4}-09-24T10:36:00\u{e4}+",
    ] {
        assert_eq!(seconds(wrong), None, "{wrong}");
    }
}
