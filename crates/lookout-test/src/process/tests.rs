//! A child is heard, signalled, and gone when it should be.

use super::*;

const WITHIN: Duration = Duration::from_secs(20);

fn sh(script: &str) -> Process {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Process::spawn("sh", command).unwrap()
}

async fn alive(pid: u32) -> bool {
    let stat = tokio::fs::read_to_string(format!("/proc/{pid}/stat")).await;
    // A zombie has ended; only its parent has not looked yet.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ends(pid: u32) -> bool {
    let wait = async {
        while alive(pid).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, wait).await.is_ok()
}

#[tokio::test]
async fn lines_of_both_streams_are_heard() {
    let process = sh("echo one; echo two >&2; exec sleep 60");
    assert_eq!(process.line(WITHIN, |l| (l == "one").then_some(1)).await.unwrap(), 1);
    assert_eq!(process.line(WITHIN, |l| (l == "two").then_some(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn an_early_end_is_told_with_the_last_lines() {
    let process = sh("echo cannot bind; exit 3");
    let error = process.line(WITHIN, |l| (l == "ready").then_some(())).await.unwrap_err();
    assert!(error.to_string().contains("it ended first"), "{error}");
    assert!(error.to_string().contains("cannot bind"), "{error}");
}

#[tokio::test]
async fn signals_arrive_and_exit_codes_come_back() {
    let mut process = sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    process.line(WITHIN, |l| (l == "ready").then_some(())).await.unwrap();
    process.signal("TERM").await.unwrap();
    assert_eq!(process.wait(WITHIN).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn dropping_ends_it() {
    let process = sh("exec sleep 60");
    let pid = process.id().unwrap();
    drop(process);
    assert!(ends(pid).await);
}

#[tokio::test]
async fn the_guard_ends_it_when_its_pipe_closes() {
    let mut process = sh("exec sleep 60");
    let pid = process.id().unwrap();
    // What the kernel does to the pipe when this process is killed.
    drop(process.guard.stdin.take());
    assert!(ends(pid).await);
}
