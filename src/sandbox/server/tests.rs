use std::fs;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

async fn server() -> Result<Server, Error> {
    Server::builder(&Binaries::find()?).start().await
}

#[tokio::test]
async fn a_server_answers_and_leaves_nothing_behind() -> Result<(), Error> {
    let server = Server::builder(&Binaries::find()?)
        .settings(&[("work_mem", "7MB"), ("cluster_name", "it's ours")])
        .start()
        .await?;
    let answer = server
        .sql("show work_mem; show cluster_name; show fsync")
        .await?;
    assert_eq!(answer, "7MB\nit's ours\noff");
    assert!(
        TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .is_ok()
    );

    let home = server.socket_dir().to_owned();
    let pid = server.pid().ok_or(Error::Down(NAME))?;
    let family = process::children(pid);
    assert!(!family.is_empty());
    let segment = segments();
    drop(server);
    assert!(!home.exists());
    assert!(!process::alive(pid));
    assert!(family.iter().all(|child| !process::alive(*child)));
    // Others may start and stop servers at the same time, so only ours is looked for.
    assert!(!segments().contains(&pid) && segment.contains(&pid));
    Ok(())
}

/// Lists the processes that made the System V segments there are now; see `proc_sysvipc(5)`.
fn segments() -> Vec<u32> {
    fs::read_to_string("/proc/sysvipc/shm")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4)?.parse().ok())
        .collect()
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() -> Result<(), Error> {
    let server = server().await?;
    let home = server.socket_dir().to_owned();
    let task = tokio::spawn(async move {
        let _server = server;
        panic!("planned");
    });
    assert!(task.await.is_err());
    assert!(!home.exists());
    Ok(())
}

#[tokio::test]
async fn servers_share_a_template_and_nothing_else() -> Result<(), Error> {
    let binaries = Binaries::find()?;
    let first = Server::builder(&binaries).start().await?;
    let second = Server::builder(&binaries).start().await?;
    assert_ne!(first.port(), second.port());
    first.sql("create table mine ()").await?;
    assert!(second.sql("select * from mine").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_replica_streams_and_can_be_promoted() -> Result<(), Error> {
    let primary = server().await?;
    let replica = primary.replica().await?;
    primary.sql("create table t as select 42 as n").await?;
    replica.caught_up(&primary).await?;
    assert_eq!(replica.sql("select n from t").await?, "42");
    let refused = replica.sql("insert into t values (1)").await;
    assert!(matches!(refused, Err(Error::Tool { message, .. }) if message.contains("read-only")));

    let third = primary.replica().await?;
    replica.promote().await?;
    third.follow(&replica).await?;
    replica.sql("insert into t values (43)").await?;
    third.caught_up(&replica).await?;
    assert_eq!(third.sql("select max(n) from t").await?, "43");
    Ok(())
}

#[tokio::test]
async fn a_killed_server_keeps_its_data_over_a_restart() -> Result<(), Error> {
    let mut server = server().await?;
    server.sql("create table t as select 42 as n").await?;
    let before = (server.port(), server.pid());
    server.kill9();
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", before.0)).await.is_err());
    server.restart().await?;
    assert_eq!(server.sql("select n from t").await?, "42");
    assert_eq!(server.port(), before.0);
    assert_ne!(server.pid(), before.1);
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_is_down_until_restarted() -> Result<(), Error> {
    let mut server = server().await?;
    server.stop(Stop::Immediate).await?;
    assert!(matches!(server.stop(Stop::Fast).await, Err(Error::Down(_))));
    server.restart().await?;
    server.restart().await?;
    server.stop(Stop::Fast).await?;
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_is_silent_until_thawed() -> Result<(), Error> {
    let server = server().await?;
    server.freeze();
    let query = server.sql("select 1");
    tokio::pin!(query);
    let silence = Duration::from_millis(300);
    assert!(timeout(silence, &mut query).await.is_err());
    server.thaw();
    assert_eq!(query.await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_killed_backend_makes_the_server_recover() -> Result<(), Error> {
    let server = server().await?;
    let sleeper = server.sql("set application_name = 'sleeper'; select pg_sleep(600)");
    tokio::pin!(sleeper);
    let backends = async {
        loop {
            let pids = server.backend_pids().await?;
            if !pids.is_empty() {
                return Ok::<_, Error>(pids);
            }
        }
    };
    let pids = tokio::select! {
        pids = backends => pids?,
        end = &mut sleeper => panic!("the sleeper ended early: {end:?}"),
    };
    server.kill_backend(pids[0]);
    assert!(sleeper.await.is_err());
    // A process that is not the server's is left alone.
    server.kill_backend(std::process::id());
    Ok(())
}

#[tokio::test]
async fn tls_is_spoken_with_a_certificate_that_can_be_verified() -> Result<(), Error> {
    let server = Server::builder(&Binaries::find()?)
        .tls(true)
        .auth(&["hostssl all all 127.0.0.1/32 trust"])
        .start()
        .await?;
    let certificate = server.certificate().ok_or(Error::Down(NAME))?;
    // The data directory is the server's alone, so the authority is copied out of it.
    let ca = server.home.join("ca.crt");
    fs::copy(&certificate.ca, &ca).map_err(Error::io("copy"))?;
    let connect = |mode: &str| -> Result<Command, Error> {
        let mut psql = server.client("psql")?;
        psql.args([
            "-XAtc",
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        ]);
        psql.arg(format!(
            "host=127.0.0.1 dbname=postgres sslmode={mode} sslrootcert={}",
            ca.display()
        ));
        Ok(psql)
    };
    assert_eq!(tool::run(connect("verify-full")?).await?.trim(), "t");
    assert!(tool::run(connect("disable")?).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_is_reported_with_the_log() -> Result<(), Error> {
    let failed = Server::builder(&Binaries::find()?)
        .settings(&[("shared_buffers", "much")])
        .start()
        .await;
    assert!(matches!(failed, Err(Error::Died { log, .. }) if log.contains("shared_buffers")));
    Ok(())
}

#[tokio::test]
async fn a_server_gives_up_on_a_full_disk_and_goes_on_when_there_is_room() -> Result<(), Error> {
    let builder = Server::builder(&Binaries::find()?).disk(256 << 20);
    let mut server = match builder.start().await {
        // Only root may make a disk, and not everywhere.
        Err(Error::Tool { tool, .. }) if tool == "mount" => return Ok(()),
        started => started?,
    };
    server.sql("create table t as select 1 as n").await?;
    server.fill().await?;
    let refused = server.sql("create table u as select repeat('x', 100000)");
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("No space left on device"), "{refused}");
    assert_eq!(server.sql("select n from t").await?, "1");
    let home = server.socket_dir().to_owned();
    server.choke().await?;
    assert_eq!(server.pid(), None);
    server.make_room()?;
    server.restart().await?;
    assert_eq!(server.sql("select n from t").await?, "1");
    let replica = server.replica().await?;
    replica.fill().await?;
    replica.make_room()?;
    drop((server, replica));
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    assert!(!home.exists() && !mounts.contains(&home.display().to_string()));
    Ok(())
}

#[tokio::test]
async fn only_a_disk_of_its_own_is_filled() -> Result<(), Error> {
    let refused = server().await?.fill().await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot fill a disk");
    Ok(())
}
