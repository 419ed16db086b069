use super::*;

fn sample(rate: f64, p99: f64, cpu: Option<f64>) -> Sample {
    Sample {
        rate,
        latency: Some(Latency {
            p50: p99 / 4.0,
            p95: p99 / 2.0,
            p99,
        }),
        cpu,
    }
}

fn row(cell: &str, who: Who, samples: Vec<Sample>) -> Row {
    Row {
        cell: cell.to_owned(),
        who,
        samples,
        median: None,
        ratio: None,
        trouble: None,
    }
}

fn report(rows: Vec<Row>) -> Report {
    let mut report = Report {
        circumstances: Circumstances {
            cores: 2,
            postgres: "15".to_owned(),
            pgbouncer: "1.18".to_owned(),
            pool_size: 20,
            seconds: 5,
            rounds: 3,
        },
        rows,
        idle: Vec::new(),
        shards: Proof::default(),
    };
    report.conclude();
    report
}

#[test]
fn ratios_are_to_pgbouncer_in_the_same_cell() {
    let report = report(vec![
        row("other", Who::Pgbouncer, vec![sample(1.0, 1.0, Some(1.0))]),
        row(
            "select",
            Who::Pgbouncer,
            vec![sample(200.0, 8.0, Some(4.0))],
        ),
        row("select", Who::Pgherd, vec![sample(300.0, 4.0, Some(1.0))]),
    ]);
    let ratio = report.rows[2].ratio.unwrap();
    assert_eq!((ratio.rate, ratio.cpu), (1.5, Some(0.25)));
    assert_eq!(ratio.latency.unwrap().p99, 0.5);
    let text = report.text();
    assert!(
        text.contains("1.50      0.50      0.50      0.25"),
        "{text}"
    );
    assert!(!report.failed());
}

#[test]
fn without_pgbouncer_there_is_no_ratio() {
    let mut bouncer = row("select", Who::Pgbouncer, Vec::new());
    bouncer.trouble = Some(Trouble::Unable);
    let pgherd = row("select", Who::Pgherd, vec![sample(300.0, 4.0, Some(1.0))]);
    let report = report(vec![bouncer, pgherd]);
    assert_eq!(report.rows[1].ratio, None);
    assert!(report.text().contains("cannot"));
    assert!(!report.failed());
}

#[test]
fn a_failure_is_shown_with_its_reason() {
    let mut failed = row("select", Who::Pgherd, Vec::new());
    failed.trouble = Some(Trouble::Failed("no such herd".to_owned()));
    let report = report(vec![failed]);
    assert!(report.failed());
    assert!(
        report
            .text()
            .contains("select by pgherd failed: no such herd")
    );
}
