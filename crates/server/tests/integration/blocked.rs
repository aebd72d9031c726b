//! Many requests that wait for media that does not exist yet (FAULTS F26, R5).
//!
//! Owns: a publisher that sends frames only when it is told, so that everybody waits for the same part. Does not own:
//! what is waited for and how long ([`crate::hls_watch`]).

use std::{net::SocketAddr, thread, time::Duration};

use crate::{
    hls_watch::Media,
    support::{
        PATIENCE, Weir,
        http::{self, Pending},
        rtmp::Client,
        wait_for, wait_until,
    },
};

const PLAYLIST: &str = "/live/numbers/video/index.m3u8";
const FRAME_MS: u32 = 40;
const GROUP_FRAMES: u32 = 25;
const FRAME_LEN: usize = 2_000;
/// Two segments of 2 s, and half of a third one: three parts of eight frames, and the first frame of a fourth one.
const FIRST_FRAMES: u32 = 5 * GROUP_FRAMES;
const FIRST_PARTS: usize = 3;
/// Enough for the next part to be complete.
const MORE_FRAMES: u32 = 16;
/// Requests that wait, half for the playlist and half for the part that it announces.
const THOUSAND: usize = 1_000;
/// What one address may ask for at once, by default.
const PER_ADDRESS_MAX: usize = 64;
/// Requests beyond the limit: as many as are refused when all others wait.
const BEYOND: usize = 16;

/// A stream that stands still, and what is to come next.
struct Paused {
    client: Client,
    sent: u32,
    reload: String,
    part: String,
}

impl Paused {
    fn publish(weir: &Weir) -> Self {
        let mut client = Client::publish(weir.rtmp_addr(), "numbers").expect("publish");
        client.video_config(1).expect("sent");
        let mut paused = Self {
            client,
            sent: 0,
            reload: String::new(),
            part: String::new(),
        };
        // At the pace of an encoder, or whoever packages it joins at a later key frame than the first one.
        for _ in 0..FIRST_FRAMES {
            paused.send(1);
            thread::park_timeout(Duration::from_millis(FRAME_MS.into()));
        }
        let media = wait_for("the parts of all frames", PATIENCE, || {
            let answer = weir.get(PLAYLIST);
            let media = (answer.status == 200).then(|| Media::parse(&answer.text()));
            let media = media?.expect("it is good");
            (media.segments.len() == 2 && media.position().1 == FIRST_PARTS).then_some(media)
        });
        let msn = media.open_msn();
        paused.reload = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={FIRST_PARTS}");
        paused.part = format!("/live/numbers/video/{}", media.hints[0]);
        paused
    }

    fn send(&mut self, frames: u32) {
        for number in self.sent..self.sent + frames {
            let sync = number % GROUP_FRAMES == 0;
            let sent = self
                .client
                .video_frame(1, number * FRAME_MS, sync, number, FRAME_LEN);
            sent.expect("publishers never wait");
        }
        self.sent += frames;
    }

    /// The name of the part in the playlist.
    fn part_name(&self) -> &str {
        self.part.rsplit('/').next().expect("a name")
    }
}

fn ask(addr: SocketAddr, path: &str, times: usize) -> Vec<Pending> {
    let asked = (0..times).map(|_| http::send(addr, "GET", path, &[]));
    asked.map(|sent| sent.expect("weir accepts")).collect()
}

/// Half of so many requests of one address for the playlist, half for the part. They wait, but for those beyond the
/// limit, which are refused.
fn ask_beyond(weir: &Weir, stream: &Paused, max: usize) -> (Vec<Pending>, Vec<Pending>) {
    let half = |path: &str| ask(weir.http_addr(), path, (max + BEYOND) / 2);
    let (mut reloads, mut parts) = (half(&stream.reload), half(&stream.part));
    let mut refused = Vec::new();
    wait_until("those beyond the limit are refused", PATIENCE, || {
        for waiting in [&mut reloads, &mut parts] {
            refused.extend(waiting.extract_if(.., |one| one.is_answered()));
        }
        refused.len() >= BEYOND
    });
    for one in refused {
        let answer = one.answer().expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.text().contains("blocked_requests_per_ip"));
    }
    assert_eq!(reloads.len() + parts.len(), max);
    (reloads, parts)
}

#[test]
fn e2e_f26_a_thousand_blocked_requests_get_what_they_wait_for() {
    let max = THOUSAND.to_string();
    let weir = Weir::start("dev", &[("WEIR_LIMITS_BLOCKED_REQUESTS_PER_IP", &max)]);
    let mut stream = Paused::publish(&weir);
    let (reloads, parts) = ask_beyond(&weir, &stream, THOUSAND);
    stream.send(MORE_FRAMES);
    for reload in reloads {
        let answer = reload.answer().expect("an answer");
        assert_eq!(answer.status, 200);
        let media = Media::parse(&answer.text()).expect("it is good");
        let open = media.open.expect("a segment is open");
        assert_eq!(open.parts[FIRST_PARTS].uri, stream.part_name());
    }
    let there = weir.get(&stream.part);
    assert!(there.status == 200 && there.body.len() > 8 * FRAME_LEN);
    for part in parts {
        let answer = part.answer().expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.body == there.body, "the same bytes");
    }
}

#[test]
fn e2e_r05_one_address_may_block_so_many_requests() {
    let weir = Weir::start("dev", &[("CDN_ADDR", "127.0.0.1:0")]);
    let mut stream = Paused::publish(&weir);
    let through_cdn = ask(weir.addr_of("cdn"), &stream.part, PER_ADDRESS_MAX + BEYOND);
    let (reloads, parts) = ask_beyond(&weir, &stream, PER_ADDRESS_MAX);
    // Whoever does not wait is served all the same.
    assert_eq!(weir.get(PLAYLIST).status, 200);
    stream.send(MORE_FRAMES);
    for one in reloads.into_iter().chain(parts).chain(through_cdn) {
        assert_eq!(one.answer().expect("an answer").status, 200);
    }
}
