//! What a process has used: `/proc/PID/stat` and `/proc/PID/status`.

use std::fs;
use std::time::Duration;

use crate::error::Error;

/// Gives the CPU time of all threads of a process, in steps of 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(Error::io("read the CPU time of a process"))?;
    parse_cpu(&text).ok_or_else(|| unexpected("/proc/PID/stat", &text))
}

/// Gives the resident memory of a process, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64, Error> {
    status(pid, "VmRSS:")
}

/// Gives the most resident memory that a process had since its start, or since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: u32) -> Result<u64, Error> {
    status(pid, "VmHWM:")
}

/// Has the peak begin anew, as `proc_pid_clear_refs(5)` says.
pub(crate) fn forget_peak(pid: u32) -> Result<(), Error> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .map_err(Error::io("reset the peak memory of a process"))
}

fn status(pid: u32, name: &str) -> Result<u64, Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(Error::io("read the memory of a process"))?;
    parse_memory(&text, name).ok_or_else(|| unexpected("/proc/PID/status", &text))
}

/// Adds `utime` and `stime`, fields 14 and 15 of `proc_pid_stat(5)`, in ticks of USER_HZ, which
/// is 100 on every Linux that programs see.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

/// Reads what `proc_pid_status(5)` gives in units of 1024 bytes.
fn parse_memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn unexpected(what: &'static str, text: &str) -> Error {
    Error::Unexpected {
        what,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "42 (pg bench) S 1 42 42 0 -1 4194560 1 2 3 4 150 27 0 0 20 0 5 0 99";
        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(1770)));
        assert_eq!(parse_cpu("42 (x) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "VmHWM:\t 19 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(parse_memory(status, "VmRSS:"), Some(12_288));
        assert_eq!(parse_memory(status, "VmHWM:"), Some(19_456));
        assert_eq!(parse_memory("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(memory(std::process::id()).unwrap() > 100_000);
        forget_peak(std::process::id()).unwrap();
        assert!(peak(std::process::id()).unwrap() > 100_000);
        cpu(std::process::id()).unwrap();
    }
}
