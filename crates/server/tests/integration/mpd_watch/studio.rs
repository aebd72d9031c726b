//! A stream of low-latency DASH as it is to be, in fast motion: what the watcher must let pass, and what tests break.

use std::{
    thread,
    time::{Duration, Instant},
};

use weir_media::container::fmp4;

use crate::{
    hls_watch::studio::{PARTS, part, segment, track},
    support::origin::{Answer, Body, Origin, Request},
};

/// Half a second of media each.
const PART_EVERY: Duration = Duration::from_millis(60);
const PART_TICKS: u64 = 45_000;
const SEGMENT_TICKS: u64 = PART_TICKS * PARTS as u64;
const FIRST_OPEN: u64 = 108;
const WINDOW: u64 = 8;

/// Serves the stream at `/manifest.mpd`; `change` may break each answer.
pub(super) fn start(change: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Origin {
    let begun = Instant::now();
    Origin::start(move |request| {
        let kept = if request.target == "/time" {
            "no-store"
        } else {
            "no-cache"
        };
        let answer = answer(request, begun)
            .with("access-control-allow-origin", "*")
            .with("cache-control", kept);
        change(request, answer)
    })
}

/// How many parts there are since segment 0.
fn parts(begun: Instant) -> u64 {
    let since = begun.elapsed().as_millis() / PART_EVERY.as_millis();
    FIRST_OPEN * PARTS as u64 + u64::try_from(since).expect("a short test")
}

fn answer(request: &Request, begun: Instant) -> Answer {
    let open = parts(begun) / PARTS as u64;
    let name = request.target.trim_start_matches('/');
    if name == "manifest.mpd" {
        let etag = format!("\"{open}\"");
        let answer = match &request.known {
            Some(known) if *known == etag => Answer::new(304, ""),
            _ => Answer::new(200, manifest(open)),
        };
        return answer
            .with("content-type", "application/dash+xml")
            .with("etag", &etag);
    }
    let video = |answer: Answer| answer.with("content-type", "video/mp4");
    if name == "time" {
        let told = Answer::new(200, "1970-01-01T00:03:40.000Z");
        return told.with("date", "Thu, 01 Jan 1970 00:03:40 GMT");
    }
    if name == "init.mp4" {
        return video(Answer::new(200, fmp4::init(&track("video")).to_vec()));
    }
    let time = name
        .strip_suffix(".m4s")
        .and_then(|time| time.parse::<u64>().ok());
    match time.map(|time| (time / SEGMENT_TICKS, time % SEGMENT_TICKS)) {
        Some((msn, 0)) if msn < open => video(Answer::new(200, segment("video", msn))),
        Some((msn, 0)) if msn == open => {
            let pieces = (0..PARTS).map(move |number| {
                while parts(begun) <= msn * PARTS as u64 + number as u64 {
                    thread::park_timeout(PART_EVERY / 8);
                }
                part("video", msn, number)
            });
            video(Answer {
                body: Body::Pieces(Box::new(pieces)),
                ..Answer::new(200, "")
            })
        }
        _ => Answer::new(404, ""),
    }
}

/// With the open segment, whose duration is a guess.
fn manifest(open: u64) -> String {
    let (minutes, seconds) = (open / 60, open % 60);
    let first = open - WINDOW;
    format!(
        r#"<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" publishTime="1970-01-01T00:{minutes:02}:{seconds:02}Z" minimumUpdatePeriod="PT1S" minBufferTime="PT2S" timeShiftBufferDepth="PT16S" maxSegmentDuration="PT2.5S" suggestedPresentationDelay="PT6S">
<ServiceDescription id="0"><Latency target="2000"/><PlaybackRate min="0.96" max="1.04"/></ServiceDescription>
<Period id="a" start="PT0S">
<AdaptationSet contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1" maxWidth="640" maxHeight="360">
<ProducerReferenceTime id="1" type="encoder" wallClockTime="1970-01-01T00:00:00Z" presentationTime="0"><UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/time"/></ProducerReferenceTime>
<SegmentTemplate timescale="90000" initialization="init.mp4" media="$Time$.m4s" availabilityTimeOffset="1.5" availabilityTimeComplete="false">
<SegmentTimeline><S t="{}" d="{SEGMENT_TICKS}" r="{WINDOW}"/></SegmentTimeline>
</SegmentTemplate>
<Representation id="video" bandwidth="900" codecs="avc1.42c01e" width="640" height="360" frameRate="10"/>
</AdaptationSet>
</Period>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/time"/>
</MPD>
"#,
        first * SEGMENT_TICKS
    )
}
