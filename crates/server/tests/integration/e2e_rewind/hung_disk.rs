//! A disk that answers no more while a stream is live (FAULTS F33).
//!
//! Owns: how a disk is made to hang. strace holds every system call of the server that names something in its folder;
//! sockets, and files elsewhere, are as quick as they were.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use super::{MISSES, REWIND, media, metric, start_in, wait_for_seconds};
use crate::{
    hls_watch::{Options, watch},
    support::{Dir, PATIENCE, Weir, http, process::Process, wait_until},
};

const DROPPED: &str = "streaming_hls_disk_dropped_updates_total ";
/// Longer than the test takes.
const HANG: &str = "600s";

/// Lets the disk hang as long as what is returned runs.
fn hang(weir: &Weir, dir: &Dir) -> Process {
    let root = fs::canonicalize(dir.path()).expect("it is there");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-p", &weir.pid().to_string()]);
    let calls = "openat,mkdirat,renameat,unlinkat,fstatfs";
    strace.args(["-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:delay_enter={HANG}")]);
    for folder in ["", "demo", "demo/video", "demo/audio"] {
        strace.arg("-P").arg(root.join(Path::new(folder)));
    }
    let strace = Process::start(strace);
    wait_until("strace is attached", PATIENCE, || {
        assert!(strace.is_running(), "{}", strace.stderr());
        strace.stderr().contains(" attached")
    });
    strace
}

#[test]
fn f33_a_hung_disk_holds_up_neither_the_stream_nor_shutdown() {
    let dir = Dir::new("rewind-hung");
    let weir = start_in(&dir);
    wait_for_seconds(&weir, 24);
    let archived: Vec<String> = media(&weir, REWIND)
        .segments
        .into_iter()
        .map(|segment| format!("/live/demo/video/{}", segment.uri))
        .skip(1)
        .take(3)
        .collect();
    // What is read now is kept, so the others are looked at only once they hang.
    let (read, hung) = archived.split_first().expect("segments");
    assert_eq!(weir.get(read).status, 200);
    assert!(metric(&weir, MISSES) > 0, "they have left memory");
    let strace = hang(&weir, &dir);
    thread::scope(|scope| {
        for path in hung {
            let addr = weir.http_addr();
            scope.spawn(move || {
                let answer = http::try_get(addr, path).expect("weir answers");
                assert_eq!(answer.status, 503, "{path}");
                assert!(answer.header("retry-after").is_some());
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            });
        }
        let options = Options {
            low_latency: true,
            lasts: Duration::from_secs(10),
        };
        let report = watch(weir.http_addr(), "/live/demo/index.m3u8", options);
        assert_eq!(report.problems, Vec::<String>::new(), "{report:?}");
        assert!(report.parts > 40, "{report:?}");
    });
    assert_eq!(weir.get(read).status, 200, "it was read before");
    assert!(metric(&weir, DROPPED) > 0, "nothing waits for the disk");
    assert!(strace.is_running(), "{}", strace.stderr());
    weir.terminate();
    wait_until("it has stopped", PATIENCE, || {
        weir.log().contains("\"message\":\"stopped\"")
    });
    // Threads that the system holds are its own to end, and strace holds them beyond the exit.
    drop(strace);
    assert!(weir.wait(PATIENCE).success(), "{}", weir.log());
}
