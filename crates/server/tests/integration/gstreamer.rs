//! GStreamer as a player: pictures and sound come out of its decoders and go on when what was listed first is over.
//!
//! Its newer elements (`playbin3` with `hlsdemux2`) and its older ones (`playbin` with `hlsdemux`), as far as they play
//! such a stream from any server: ARCHITECTURE.md says what GStreamer 1.22 does not.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    process::Process,
    wait_until,
};

/// GStreamer begins three segments before the end, and so does not end up with fewer in the list than it plays.
const LISTED_MIN: usize = 3;
/// Ten seconds of the demo: six are listed when GStreamer begins, the rest comes while it plays.
const PICTURES_MIN: usize = 300;
/// Frames of 1024 samples at 48 kHz, a little fewer than in ten seconds, because they are decoded behind the pictures.
const SOUND_MIN: usize = 440;
/// As long as VLC gets: ten seconds pass in real time, and two cores have other tests to run.
const PLAY_PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn e2e_gstreamer_plays_hls_of_transport_streams() {
    check_demo("playbin3", "/live/demo/playlist.m3u8");
}

#[test]
fn e2e_old_gstreamer_plays_hls_of_transport_streams() {
    check_demo("playbin", "/live/demo/playlist.m3u8");
}

#[test]
fn e2e_gstreamer_plays_hls_of_cmaf() {
    check_demo("playbin3", "/live/demo/index.m3u8");
}

#[test]
fn e2e_gstreamer_plays_reordered_pictures() {
    let dir = Dir::new("gstreamer");
    let source = dir.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -g 60 -c:a aac";
    ffmpeg::encode(
        &format!("{VIDEO}:rate=30 {AUDIO}:s=48000 {x264} -t 20"),
        &source,
    );
    let weir = Weir::start("dev", &[]);
    let _push = ffmpeg::push_forever(&source, &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    wait_until_listed(&weir, "room");
    check("playbin3", &weir.http_url("/live/room/index.m3u8"));
}

#[test]
fn e2e_gstreamer_plays_dash_that_has_ended() {
    const FPS: u64 = 25;
    const SECONDS: u64 = 8;
    const PIXELS: u64 = 160 * 90;
    let dir = Dir::new("gstreamer");
    let source = dir.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -g 50 -c:a aac";
    ffmpeg::encode(
        &format!("{VIDEO}:rate={FPS} {AUDIO}:s=48000 {x264} -t {SECONDS}"),
        &source,
    );
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "1")]);
    let push = ffmpeg::push(&source, &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    push.output(PATIENCE);
    let manifest = "/live/room/manifest.mpd";
    wait_until("the stream has ended", PATIENCE, || {
        weir.get(manifest).text().contains(r#"type="static""#)
    });
    let (pictures, sound) = (dir.path().join("pictures"), dir.path().join("sound"));
    let pipeline = format!(
        "souphttpsrc location={} ! dashdemux name=demux \
         demux.video_00 ! queue ! qtdemux ! h264parse ! avdec_h264 ! videoconvert \
         ! video/x-raw,format=GRAY8 ! filesink location={} \
         demux.audio_00 ! queue ! qtdemux ! aacparse ! avdec_aac ! audioconvert \
         ! audio/x-raw,format=S16LE,channels=1 ! filesink location={}",
        weir.http_url(manifest),
        pictures.display(),
        sound.display(),
    );
    launch(pipeline.split_whitespace()).output(PLAY_PATIENCE);
    let len = |file: &Path| fs::metadata(file).expect("GStreamer wrote it").len();
    assert_eq!(len(&pictures), SECONDS * FPS * PIXELS);
    assert!(len(&sound) >= (SECONDS - 1) * 48_000 * 2, "{}", len(&sound));
}

/// GStreamer is the first to ask for what it plays of the demo.
fn check_demo(element: &str, path: &str) {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    wait_until_listed(&weir, "demo");
    check(element, &weir.http_url(path));
}

fn wait_until_listed(weir: &Weir, name: &str) {
    wait_until("enough segments are listed", PATIENCE, || {
        let media = weir.get(&format!("/live/{name}/video/index.m3u8"));
        media.text().matches("#EXTINF").count() >= LISTED_MIN
    });
}

fn check(element: &str, url: &str) {
    let player = launch([
        element,
        &format!("uri={url}"),
        &format!("video-sink={}", counted("pictures")),
        &format!("audio-sink={}", counted("sound")),
    ]);
    let counts = || (count(&player, "pictures"), count(&player, "sound"));
    let playing = format!("{element} plays {url}");
    wait_until(&playing, PLAY_PATIENCE, || {
        assert!(player.is_running(), "it ended: {}", player.stderr());
        let (pictures, sound) = counts();
        pictures >= PICTURES_MIN && sound >= SOUND_MIN
    });
}

/// A sink that takes each buffer when it is due and says so.
fn counted(name: &str) -> String {
    format!("fakesink name={name} silent=false sync=true")
}

fn launch<'a>(pipeline: impl IntoIterator<Item = &'a str>) -> Process {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-v").args(pipeline);
    Process::start(command)
}

/// About how many buffers a sink has got: what it says of one is sometimes lost, or said twice.
fn count(player: &Process, sink: &str) -> usize {
    player
        .stdout()
        .matches(&format!("chain   ******* ({sink}:"))
        .count()
}
