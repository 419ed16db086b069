use super::*;

async fn cluster(replication: Replication) -> Result<Cluster, Error> {
    let cluster = Cluster::start(&Binaries::find()?, 3, replication).await?;
    let table = "create table t (n int)";
    cluster.node(0).sql(table).await?;
    Ok(cluster)
}

async fn fail_over(cluster: &mut Cluster) -> Result<(usize, usize), Error> {
    let old = cluster.primary();
    let new = cluster.elect().await?;
    cluster.promote().await?;
    assert_ne!(old, new);
    assert_eq!(cluster.primary(), new);
    Ok((old, new))
}

#[tokio::test]
async fn what_was_acknowledged_outlives_each_primary() -> Result<(), Error> {
    let mut cluster = cluster(Replication::Synchronous).await?;
    let ports = cluster.ports();
    for turn in 0..3 {
        let primary = cluster.primary();
        let insert = format!("insert into t values ({turn})");
        cluster.node(primary).sql(&insert).await?;
        if turn == 1 {
            cluster.stop(primary).await?;
        } else {
            cluster.kill9(primary);
        }
        let (old, new) = fail_over(&mut cluster).await?;
        let there = cluster.node(new).sql("select count(*) from t").await?;
        assert_eq!(there, (turn + 1).to_string());
        cluster.rejoin(old).await?;
    }
    assert_eq!(cluster.ports(), ports);
    Ok(())
}

#[tokio::test]
async fn a_frozen_primary_acknowledges_nothing_when_it_wakes() -> Result<(), Error> {
    let mut cluster = cluster(Replication::Synchronous).await?;
    cluster.node(0).freeze();
    let (old, new) = fail_over(&mut cluster).await?;
    cluster.node(new).sql("insert into t values (1)").await?;
    cluster.node(old).thaw();
    let insert = cluster.node(old).sql("insert into t values (2)");
    let patience = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(patience, insert).await.is_err());
    assert_eq!(cluster.rejoin(old).await?, Rejoined::Rewound);
    cluster.node(old).caught_up(cluster.node(new)).await?;
    assert_eq!(cluster.node(old).sql("select n from t").await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_revived_primary_takes_writes_until_it_rejoins() -> Result<(), Error> {
    let mut cluster = cluster(Replication::Synchronous).await?;
    cluster.kill9(0);
    let (old, new) = fail_over(&mut cluster).await?;
    cluster.revive(old).await?;
    cluster.node(old).sql("insert into t values (1)").await?;
    assert_eq!(cluster.node(old).sql("select n from t").await?, "1");
    assert_eq!(cluster.rejoin(old).await?, Rejoined::Rewound);
    assert_eq!(cluster.node(new).sql("select n from t").await?, "");
    let setting = "show synchronous_standby_names";
    assert_eq!(cluster.node(old).sql(setting).await?, "ANY 1 (*)");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_rewound_is_copied() -> Result<(), Error> {
    let mut cluster = cluster(Replication::Asynchronous).await?;
    cluster.kill9(0);
    let (old, new) = fail_over(&mut cluster).await?;
    cluster.node(new).sql("insert into t values (1)").await?;
    let control = cluster.node(old).data_dir().join("global/pg_control");
    std::fs::remove_file(control).map_err(Error::io("remove a file"))?;
    assert_eq!(cluster.rejoin(old).await?, Rejoined::Copied);
    cluster.node(old).caught_up(cluster.node(new)).await?;
    assert_eq!(cluster.node(old).sql("select n from t").await?, "1");
    Ok(())
}

#[tokio::test]
async fn an_asynchronous_primary_loses_what_nobody_received() -> Result<(), Error> {
    let mut cluster = cluster(Replication::Asynchronous).await?;
    cluster.sever().await?;
    cluster.node(0).sql("insert into t values (1)").await?;
    cluster.kill9(0);
    let (_, new) = fail_over(&mut cluster).await?;
    assert_eq!(cluster.node(new).sql("select n from t").await?, "");
    Ok(())
}
