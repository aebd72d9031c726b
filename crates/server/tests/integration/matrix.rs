//! What encoders push, and what players get of it over each protocol.

use crate::support::{PATIENCE, Weir, ffmpeg, ffprobe};

#[test]
fn e2e_smoke() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    assert!(weir.rss_kib() > 1000);
    assert_eq!(weir.get("/live/nothing.flv").status, 404);
    let dir = crate::support::Dir::new("smoke");
    let file = dir.path().join("a.flv");
    ffmpeg::encode(&format!("-f lavfi -i {} -f lavfi -i {} -t 3 -c:v libx264 -c:a aac", ffmpeg::VIDEO, ffmpeg::AUDIO), &file);
    let packets = ffprobe::packets(&ffprobe::start(file.to_str().expect("UTF-8")).output(PATIENCE));
    println!("{:?}", &packets[..5]);
    weir.terminate();
    assert!(weir.wait(PATIENCE).success());
    println!("{}", weir.log());
}
