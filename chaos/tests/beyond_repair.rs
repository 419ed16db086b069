//! A part that cannot be kept alive ends the process, with a code that says so.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgherd_chaos::rig::PATIENCE;
use pgherd_sandbox::free_port;

/// EX_SOFTWARE, by which a service manager knows that starting it anew may help.
const SOFTWARE: i32 = 70;

/// How often it is looked whether the process has ended.
const TICK: Duration = Duration::from_millis(10);

#[test]
fn a_part_beyond_repair_ends_the_process() {
    let output = crashing("root/router");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(SOFTWARE), "{log}");
    let words = "pgherd: a part is beyond repair: router: a test wanted this";
    assert!(log.contains(words), "{log}");
}

/// The executable, an actor of which panics whenever it is there, to its end.
fn crashing(path: &str) -> Output {
    let mut child = Command::new(crate::EXECUTABLE)
        .env_clear()
        .env("CHAOS_CRASH", path)
        .args(["--listen", &format!("127.0.0.1:{}", free_port())])
        // Nobody asks for a server, so there is none.
        .arg(format!("postgres://app@127.0.0.1:{}/shop", free_port()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it lives on: {}", String::from_utf8_lossy(&output.stderr));
        }
        thread::sleep(TICK);
    }
    child.wait_with_output().unwrap()
}
