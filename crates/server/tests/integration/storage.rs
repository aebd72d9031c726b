//! HLS as files (`HLS_PATH`): what is written, what is removed, and disks that fail (FAULTS F32, F33).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    process::Process,
    wait_for, wait_until,
};

fn start(path: &Path) -> Weir {
    let path = path.to_str().expect("UTF-8");
    let weir = Weir::start(
        "dev",
        &[
            ("HLS_PATH", path),
            ("SEGMENT_DURATION", "1"),
            ("PLAYLIST_SIZE", "3"),
        ],
    );
    weir.wait_until_live("demo");
    weir
}

/// Names of the segments in a playlist, and of the init object.
pub(crate) fn listed(playlist: &str) -> Vec<&str> {
    let maps = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI="));
    let segments = playlist
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    maps.map(|map| map.trim_matches('"'))
        .chain(segments)
        .collect()
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

pub(crate) fn metric(weir: &Weir, name: &str) -> u64 {
    let metrics = weir.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name} in:\n{metrics}"))
}

#[test]
fn e2e_files_are_what_is_served() {
    let dir = Dir::new("storage");
    let weir = start(dir.path());
    let demo = dir.path().join("demo");
    for (served, playlist) in [
        ("/live/demo/video/index.m3u8", "video/index.m3u8"),
        ("/live/demo/audio/index.m3u8", "audio/index.m3u8"),
        ("/live/demo/ts.m3u8", "ts.m3u8"),
    ] {
        let base = served.rsplit_once('/').expect("a folder").0;
        let folder = demo.join(playlist).parent().expect("a folder").to_owned();
        // Between the two looks a segment may leave the window; then both are looked at again.
        wait_for("files as they are served", PATIENCE, || {
            assert_eq!(weir.get(served).status, 200, "{served}");
            let text = read(demo.join(playlist))?;
            let names = listed(&text);
            let mut compared = 0;
            for name in &names {
                let file = fs::read(folder.join(name)).ok()?;
                let answer = weir.get(&format!("{base}/{name}"));
                let same = answer.status == 200 && answer.body == file;
                compared += usize::from(same);
            }
            (names.len() >= 3 && compared == names.len()).then_some(())
        });
    }
    let multivariant = read(demo.join("index.m3u8")).expect("a playlist");
    assert!(
        multivariant.contains("\nvideo/index.m3u8\n"),
        "{multivariant}"
    );
    let classic = read(demo.join("playlist.m3u8")).expect("a playlist");
    assert!(classic.contains("\nts.m3u8\n"), "{classic}");
    let mode = fs::metadata(demo.join("index.m3u8")).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o640);
    // FFmpeg plays the folder as it is.
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-v", "error", "-i"])
        .arg(demo.join("index.m3u8"));
    let ffmpeg = Process::start({
        ffmpeg.args(["-t", "1", "-f", "null", "-"]);
        ffmpeg
    });
    assert!(ffmpeg.wait(PATIENCE).success(), "{}", ffmpeg.stderr());
}

#[test]
fn e2e_files_leave_with_the_window_and_with_the_process_before() {
    let dir = Dir::new("storage-window");
    let old = {
        let weir = start(dir.path());
        let video = dir.path().join("demo/video");
        let first = wait_for("a segment", PATIENCE, || {
            files(&video)
                .into_iter()
                .find(|name| name.ends_with(".m4s"))
        });
        wait_until("the first segment leaves", PATIENCE, || {
            !video.join(&first).exists()
        });
        weir.kill();
        files(&video)
    };
    assert!(!old.is_empty(), "a killed process leaves its files");
    // What is not ours stays, inside a folder of ours and outside.
    let foreign: [PathBuf; 3] = ["demo/video/notes.txt", "site/index.m3u8", "site/1-1.ts"]
        .map(|path| dir.path().join(path));
    fs::create_dir_all(dir.path().join("site")).expect("the disk takes it");
    for path in &foreign {
        fs::write(path, "keep").expect("the disk takes it");
    }
    let _weir = start(dir.path());
    let video = dir.path().join("demo/video");
    wait_until("the files of the process before are gone", PATIENCE, || {
        let now = files(&video);
        old.iter()
            .all(|name| name == "index.m3u8" || !now.contains(name))
    });
    for path in &foreign {
        assert_eq!(read(path).as_deref(), Some("keep"), "{}", path.display());
    }
}

#[test]
fn e2e_files_leave_some_time_after_their_stream() {
    let dir = Dir::new("storage-linger");
    let path = dir.path().to_str().expect("UTF-8");
    let variables = [("HLS_PATH", path), ("WEIR_LIMITS_PUBLISHER_GRACE", "0")];
    let weir = Weir::start("dev", &variables);
    let source = Dir::new("storage-linger-source");
    let source = source.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac";
    ffmpeg::encode(&format!("{VIDEO}:rate=25 {AUDIO} {x264} -t 3"), &source);
    let _push = ffmpeg::push(&source, &weir.rtmp_url("room"));
    let room = dir.path().join("room");
    wait_until("the playlist ends", PATIENCE, || {
        let playlist = read(room.join("video/index.m3u8")).unwrap_or_default();
        playlist.contains("#EXT-X-ENDLIST")
    });
    // Players have half a minute to see the end.
    wait_until("the folder is gone", 2 * PATIENCE, || !room.exists());
    assert!(
        dir.path().join("demo").exists(),
        "another stream keeps its files"
    );
}

/// A file system of one MiB.
pub(crate) struct SmallDisk(pub(crate) Dir);

impl SmallDisk {
    pub(crate) fn mount() -> Self {
        let dir = Dir::new("storage-small");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "weir-test"]);
        mount.arg(dir.path());
        let mount = Process::start(mount);
        assert!(mount.wait(PATIENCE).success(), "{}", mount.stderr());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn e2e_f32_a_full_disk_does_not_stop_the_stream() {
    let disk = SmallDisk::mount();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 900 << 10]).expect("there is room");
    let weir = start(disk.0.path());
    let failures = "streaming_hls_disk_failures_total ";
    wait_until("the disk is full", PATIENCE, || metric(&weir, failures) > 0);
    let sequence = || {
        let playlist = weir.get("/live/demo/video/index.m3u8").text();
        let tag = "#EXT-X-MEDIA-SEQUENCE:";
        let value = playlist.lines().find_map(|line| line.strip_prefix(tag));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let first = wait_for("a playlist", PATIENCE, sequence);
    wait_until("the stream goes on", PATIENCE, || {
        sequence().is_some_and(|now| now >= first + 3)
    });
    let warnings = weir.log().matches("HLS is not on the disk").count();
    assert!((1..=4).contains(&warnings), "{warnings} lines in the log");
    // The room comes back, and so do the files.
    fs::remove_file(&ballast).expect("it is ours");
    let path = disk.0.path().join("demo/video/index.m3u8");
    wait_until("files are written again", PATIENCE, || {
        let text = read(&path).unwrap_or_default();
        let folder = path.parent().expect("a folder");
        let names = listed(&text);
        names.len() > 3 && names.iter().all(|name| folder.join(name).exists())
    });
}

#[test]
fn e2e_a_folder_that_cannot_be_used_is_refused_at_the_start() {
    let dir = Dir::new("storage-refused");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("the disk takes it");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("dev").current_dir(dir.path()).env_clear();
    for name in ["RTMP_ADDR", "HTTPFLV_ADDR", "HLS_ADDR"] {
        command.env(name, "127.0.0.1:0");
    }
    let weir = Process::start({
        command.arg("--hls-storage").arg(&file);
        command
    });
    assert_eq!(weir.wait(PATIENCE).code(), Some(2));
    assert!(weir.stderr().contains("HLS_PATH"), "{}", weir.stderr());
}
