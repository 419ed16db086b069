//! How a node's Patroni is configured.

use std::path::Path;

use pgherd_sandbox::Replication;

use super::place::{DCS, ETCD, NETWORK, POSTGRES, REST, node};

/// The cluster's name, under which etcd has its keys.
pub(super) const SCOPE: &str = "pgherd";

/// The file for the node of this number, whose files are in a directory of its own.
///
/// The times are the smallest that Patroni 4 takes (`patroni/config.py`). Processes are killed here, not
/// machines, so nothing is forced to the disk.
pub(super) fn patroni(
    number: usize,
    dir: &Path,
    binaries: &Path,
    replication: Replication,
) -> String {
    let (name, address, dcs) = (number + 1, node(number), DCS);
    let [etcd, _] = ETCD;
    let synchronous = replication == Replication::Synchronous;
    let (dir, binaries) = (dir.display(), binaries.display());
    format!(
        r#"scope: {SCOPE}
name: n{name}
restapi: {{listen: "{address}:{REST}", connect_address: "{address}:{REST}"}}
etcd3: {{hosts: ["{dcs}:{etcd}"]}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    primary_start_timeout: 0
    synchronous_mode: {synchronous}
    synchronous_mode_strict: {synchronous}
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {{hot_standby: "on", wal_log_hints: "on", max_connections: 200, wal_keep_size: 64MB, max_wal_size: 96MB, min_wal_size: 32MB, wal_retrieve_retry_interval: 50ms}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, no-sync]
postgresql:
  listen: "{address}:{POSTGRES}"
  connect_address: "{address}:{POSTGRES}"
  data_dir: {dir}/data
  bin_dir: {binaries}
  pgpass: {dir}/pgpass
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  pg_hba: ["local all all trust", "host all all {NETWORK} trust", "host replication all {NETWORK} trust"]
  authentication:
    superuser: {{username: postgres, password: postgres}}
    replication: {{username: replicator, password: replicator}}
    rewind: {{username: rewinder, password: rewinder}}
  parameters: {{unix_socket_directories: {dir}, fsync: "off", shared_buffers: 32MB, logging_collector: "off"}}
watchdog: {{mode: "off"}}
"#
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pgherd_sandbox::Replication;

    #[test]
    fn each_node_has_its_own_place_and_all_have_one_store() {
        let render = |number, replication| {
            super::patroni(number, Path::new("/h/n"), Path::new("/pg/bin"), replication)
        };
        let (one, two) = (
            render(0, Replication::Synchronous),
            render(1, Replication::Asynchronous),
        );
        assert!(one.contains("name: n1\n") && two.contains("name: n2\n"));
        assert!(one.contains("connect_address: \"10.87.0.1:5432\""), "{one}");
        assert!(two.contains("connect_address: \"10.87.0.2:8008\""), "{two}");
        for text in [&one, &two] {
            assert!(
                text.contains("etcd3: {hosts: [\"10.87.0.10:2379\"]}"),
                "{text}"
            );
            assert!(text.contains("data_dir: /h/n/data\n"), "{text}");
            assert!(text.contains("bin_dir: /pg/bin\n"), "{text}");
        }
        assert!(one.contains("synchronous_mode_strict: true\n"), "{one}");
        assert!(two.contains("synchronous_mode_strict: false\n"), "{two}");
    }
}
