//! `[log]`.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_telemetry::log::{Format, subscriber};

use super::{Client, Fake, House, SHOP};

/// What was written to the log by all tests of this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Whether some line has all the parts.
    fn have(&self, parts: &[&str]) -> bool {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        text.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

/// Logs in, is sent away for idleness, and tries the console in vain.
async fn come_and_go(house: &House, user: &str) {
    house.client(user).await.end().await.expect("sent away");
    Client::enter(house.address, user, "pgherd")
        .await
        .err()
        .expect("refused");
    house
        .wait_until("all have left", || house.facts.sessions.count() == 0)
        .await;
}

#[tokio::test]
async fn connections_disconnections_errors_and_totals() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = subscriber(Format::Text, "info", move || writer.clone()).expect("a filter");
    tracing::subscriber::set_global_default(subscriber).expect("no other test does this");
    let fake = Fake::plain().await;
    let text = format!("{SHOP}[timeouts]\nclient_idle = \"20ms\"\n[log]\n");
    let house = House::before(&fake, &format!("{text}stats_every = \"10ms\"\n")).await;
    come_and_go(&house, "heard").await;
    let told = "terminating connection due to the client idle timeout";
    let from = "peer=127.0.0.1:";
    let came = [
        "INFO",
        " login client=",
        from,
        "user=\"heard\"",
        "database=\"shop\"",
    ];
    assert!(lines.have(&came));
    assert!(lines.have(&["INFO", "error", "heard", "57P05", told]));
    let claimed = ["user=\"heard\"", "database=\"pgherd\""];
    assert!(lines.have(&["INFO", "login refused", from, claimed[0], claimed[1]]));
    house
        .wait_until("the end is written", || {
            lines.have(&["INFO", " end ", "heard"])
        })
        .await;
    house
        .wait_until("totals are written", || {
            lines.have(&["totals", "clients=0"])
        })
        .await;
    let never = "connections = false\ndisconnections = false\nerrors = false\nstats_every = 0\n";
    house.reload(&fake, &format!("{text}{never}")).await;
    come_and_go(&house, "unsung").await;
    house.reload(&fake, &text).await;
    come_and_go(&house, "again").await;
    house
        .wait_until("the end is written", || {
            lines.have(&["INFO", " end ", "again"])
        })
        .await;
    assert!(!lines.have(&["unsung"]));
}
