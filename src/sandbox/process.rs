//! Processes by number: who descends from whom, who is alive, signals.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = number(pid) {
        // The process may have ended in between, which is what most callers want anyway.
        let _ = kill_process(pid, signal);
    }
}

/// Tells whether a process exists and is not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    if fs::exists("/proc/self/stat").unwrap_or(false) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return parse_stat(&stat).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'));
    }
    number(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Lists the children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return children_by_ps(parent);
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parse_stat(&stat).is_some_and(|(_, ppid)| ppid == parent)
        })
        .collect()
}

/// Kills a process and all its children, and waits until they are gone, but not for ever.
pub(crate) fn kill_family(parent: u32) {
    // A stopped parent makes no more children between the list and the kill.
    signal(parent, Signal::STOP);
    let children = children(parent);
    signal(parent, Signal::KILL);
    for child in &children {
        signal(*child, Signal::KILL);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while children.iter().any(|pid| alive(*pid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads state and parent from `/proc/PID/stat`; see `proc_pid_stat(5)`.
///
/// The second field is a name in parentheses, which may itself hold blanks and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((state, parent))
}

fn children_by_ps(parent: u32) -> Vec<u32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid = fields.next()?.parse().ok()?;
            (fields.next()?.parse() == Ok(parent)).then_some(pid)
        })
        .collect()
}

fn number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        assert_eq!(parse_stat("42 (a) S) R 7 42"), Some(('R', 7)));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn a_family_is_found_and_killed() {
        let mut parent = Command::new("sh")
            .args(["-c", "sleep 600 & sleep 600 & wait"])
            .spawn()
            .unwrap();
        while children(parent.id()).len() < 2 {
            std::thread::yield_now();
        }
        let family = children(parent.id());
        assert!(family.iter().all(|pid| alive(*pid)));
        kill_family(parent.id());
        parent.wait().unwrap();
        assert!(family.iter().all(|pid| !alive(*pid)));
        assert!(!alive(parent.id()));
    }
}
