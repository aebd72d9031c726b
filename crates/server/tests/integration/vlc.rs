//! VLC as a player: pictures and sound come out of its decoders, over each protocol that it is used with.

use std::{
    collections::HashSet,
    env, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{Weir, process::Process, wait_until};

/// VLC saves one of so many pictures that it shows.
const SCENE_RATIO: usize = 5;
/// As many of the saved pictures have to come, two seconds of the demo, and almost all have to differ: it moves.
const PICTURES_MIN: usize = 12;
const DIFFERENT_MIN: usize = PICTURES_MIN - 2;
/// One second of sound: 48 kHz, two channels of two bytes.
const SOUND_LEN_MIN: u64 = 48_000 * 2 * 2;
/// VLC waits for three segments before it plays HLS, and starts slowly where it has no cache of its modules.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user and group `nobody` of Debian.
const NOBODY: &str = "65534";

#[test]
fn e2e_vlc_plays_hls_of_transport_streams() {
    check("/live/demo/playlist.m3u8");
}

#[test]
fn e2e_vlc_plays_hls_of_cmaf() {
    check("/live/demo/index.m3u8");
}

#[test]
fn e2e_vlc_plays_dash() {
    check("/live/demo/manifest.mpd");
}

#[test]
fn e2e_vlc_plays_http_ts() {
    check("/live/demo.ts");
}

#[test]
fn e2e_vlc_plays_http_flv() {
    check("/live/demo.flv");
}

fn check(path: &str) {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let folder = Folder::new();
    let player = play(&weir.http_url(path), &folder.0);
    wait_until("pictures and sound", PATIENCE, || {
        assert!(player.is_running(), "VLC ended: {}", player.stderr());
        let pictures = folder.pictures();
        let different: HashSet<_> = pictures.iter().collect();
        pictures.len() >= PICTURES_MIN
            && different.len() >= DIFFERENT_MIN
            && folder.sound_len() >= SOUND_LEN_MIN
    });
}

/// A folder that any user may write to: VLC refuses to run as root, and other users see nothing of root's folders.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = Self(env::temp_dir().join(format!("weir-vlc-{}", std::process::id())));
        fs::create_dir(&folder.0).expect("the folder for temporary files can be written");
        let anybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&folder.0, anybody).expect("it is ours");
        folder
    }

    /// What is in the pictures that were saved.
    fn pictures(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        let paths = entries.map(|entry| entry.path());
        let pictures = paths.filter(|path| path.extension().is_some_and(|ending| ending == "png"));
        pictures.filter_map(|path| fs::read(path).ok()).collect()
    }

    fn sound_len(&self) -> u64 {
        fs::metadata(self.0.join("sound.wav")).map_or(0, |file| file.len())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// VLC without a window, which writes what it decodes to files.
fn play(url: &str, folder: &Path) -> Process {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "vlc",
        ]);
        command
    } else {
        Command::new("vlc")
    };
    let sound = folder.join("sound.wav");
    command
        .env("HOME", folder)
        .args(["--intf", "dummy", "--vout", "dummy", "--aout", "afile"])
        .arg(format!("--audiofile-file={}", sound.display()))
        .args(["--video-filter", "scene", "--scene-format", "png"])
        .arg(format!("--scene-ratio={SCENE_RATIO}"))
        .arg(format!("--scene-path={}", folder.display()))
        .arg(url);
    Process::start(command)
}
