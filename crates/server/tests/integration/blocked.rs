//! Many requests that wait for media that does not exist yet (FAULTS F26, R5).
//!
//! Owns: a publisher that sends frames only when it is told, so that everybody waits for the same part. Does not own:
//! what is waited for and how long ([`crate::hls_watch`]).

use std::net::SocketAddr;

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
/// Players; each reloads the playlist and asks for the part that it announces.
const PLAYERS: usize = 500;
/// What one address may ask for at once, by default.
const PER_ADDRESS_MAX: usize = 64;

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
        paused.send(FIRST_FRAMES);
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

fn start(limit: &[(&str, &str)]) -> Weir {
    Weir::start("dev", &[&[("CDN_ADDR", "127.0.0.1:0")][..], limit].concat())
}

#[test]
fn f26_a_thousand_blocked_requests_get_what_they_wait_for() {
    let weir = start(&[("WEIR_LIMITS_BLOCKED_REQUESTS_PER_IP", "0")]);
    let mut stream = Paused::publish(&weir);
    let reloads = ask(weir.http_addr(), &stream.reload, PLAYERS);
    let parts = ask(weir.http_addr(), &stream.part, PLAYERS);
    let answered = |asked: &[Pending]| asked.iter().filter(|one| one.is_answered()).count();
    assert_eq!((answered(&reloads), answered(&parts)), (0, 0), "they wait");
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
fn r05_one_address_may_not_block_more_than_some() {
    let weir = start(&[]);
    let mut stream = Paused::publish(&weir);
    let beyond = 16;
    let asked = PER_ADDRESS_MAX + beyond;
    let viewers = [&stream.reload, &stream.part]
        .map(|path| ask(weir.http_addr(), path, asked / 2))
        .into_iter()
        .flatten();
    let mut waiting: Vec<_> = viewers.collect();
    let through_cdn = ask(weir.addr_of("cdn"), &stream.part, asked);
    let mut refused = Vec::new();
    wait_until("those beyond the limit are refused", PATIENCE, || {
        refused.extend(waiting.extract_if(.., |one| one.is_answered()));
        refused.len() >= beyond
    });
    assert_eq!(refused.len(), beyond);
    for one in refused {
        let answer = one.answer().expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.text().contains("blocked_requests_per_ip"));
    }
    // Whoever does not wait is served all the same.
    assert_eq!(weir.get(PLAYLIST).status, 200);
    stream.send(MORE_FRAMES);
    for one in waiting.into_iter().chain(through_cdn) {
        assert_eq!(one.answer().expect("an answer").status, 200);
    }
}
