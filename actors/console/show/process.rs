//! SHOW VERSION, STATE and MEM.

use crate::console::figures::Figures;
use crate::console::table::{Column, Row, int, text};

/// The column of SHOW VERSION.
pub const VERSION: [Column; 1] = [text("version")];

/// The columns of SHOW STATE.
pub const STATE: [Column; 2] = [text("key"), text("value")];

/// The columns of SHOW MEM.
pub const MEM: [Column; 5] = [
    text("name"),
    int("size"),
    int("used"),
    int("free"),
    int("memtotal"),
];

/// The version.
pub fn version() -> Vec<Row> {
    vec![vec![concat!("pgherd ", env!("CARGO_PKG_VERSION")).into()]]
}

/// Whether all pools are paused, those to come (`doors`) or those that are there. Nothing is ever
/// suspended.
pub fn state(doors: bool, pools: &[Figures]) -> Vec<Row> {
    let paused = doors || !pools.is_empty() && pools.iter().all(|pool| pool.servers.paused);
    let word = |truth| if truth { "yes" } else { "no" };
    vec![
        vec!["active".into(), word(!paused).into()],
        vec!["paused".into(), word(paused).into()],
        vec!["suspended".into(), word(false).into()],
    ]
}

/// The memory of the process in pages of 1 KiB, where the system tells: there are no slabs as
/// PgBouncer has them.
pub fn mem() -> Vec<Row> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rows = [("resident", "VmRSS:"), ("peak", "VmHWM:")]
        .into_iter()
        .filter_map(|(name, key)| {
            let kilobytes = kilobytes(&status, key)?;
            let total = kilobytes.saturating_mul(1024);
            Some(vec![
                name.into(),
                1024_u64.into(),
                kilobytes.into(),
                0_u64.into(),
                total.into(),
            ])
        });
    rows.collect()
}

fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::kilobytes;

    #[test]
    fn memory_as_the_system_writes_it() {
        let status = "Name:\tpgherd\nVmHWM:\t    9000 kB\nVmRSS:\t    8132 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(8132));
        assert_eq!(kilobytes(status, "VmHWM:"), Some(9000));
        assert_eq!(kilobytes("", "VmRSS:"), None);
    }
}
