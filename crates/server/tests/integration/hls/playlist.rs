//! Reads a live media playlist as strictly as the strictest player, and says what is wrong with it by itself.
//!
//! Owns: CONFORMANCE H1, H2, H3, H5, H6, H12, H15, H22. What one version may do to the one before is in
//! [`crate::support::hls`].

/// One version of a media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Playlist {
    pub(super) target_s: i64,
    pub(super) media_sequence: u64,
    pub(super) segments: Vec<Segment>,
}

/// One segment with everything that was said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) map: String,
    pub(super) uri: String,
    pub(super) duration_us: i64,
    /// Milliseconds since the Unix epoch.
    pub(super) date_ms: i64,
    discontinuity: bool,
}

/// How far a date may be from the one before plus a duration: it is rounded to milliseconds.
const DATE_MS_MAX: i64 = 2;
/// How much longer than the target duration a segment may be (Apple).
const OVER_TARGET_US_MAX: i64 = 500_000;

/// The tags that come once and before the first segment.
const ONCE: [&str; 4] = [
    "#EXT-X-VERSION:",
    "#EXT-X-TARGETDURATION:",
    "#EXT-X-MEDIA-SEQUENCE:",
    "#EXT-X-DISCONTINUITY-SEQUENCE:",
];

impl Playlist {
    pub(super) fn duration_us(&self) -> i64 {
        self.segments
            .iter()
            .map(|segment| segment.duration_us)
            .sum()
    }
}

/// Reads a playlist without ENDLIST whose segments all begin with a key frame.
pub(super) fn read(text: &str) -> Result<Playlist, String> {
    let (head, segments) = split(text)?;
    let [version, target_s, media_sequence, _] = once(&head)?;
    if version < 6 {
        return Err(format!("version {version} has no EXT-X-MAP"));
    }
    if !head.contains(&"#EXT-X-INDEPENDENT-SEGMENTS") {
        return Err("no EXT-X-INDEPENDENT-SEGMENTS".into());
    }
    let mut read = Vec::<Segment>::new();
    for lines in &segments {
        let map = read.last().map(|segment| segment.map.clone());
        let segment = read_segment(lines, map)?;
        check_segment(&segment, target_s, read.last())
            .map_err(|problem| format!("{}: {problem}", segment.uri))?;
        read.push(segment);
    }
    if read.is_empty() {
        return Err("no segment".into());
    }
    let media_sequence = media_sequence.unsigned_abs();
    Ok(Playlist {
        target_s,
        media_sequence,
        segments: read,
    })
}

/// The lines before the first segment, and those of each segment, its URI last.
fn split(text: &str) -> Result<(Vec<&str>, Vec<Vec<&str>>), String> {
    let text = text.strip_suffix('\n').ok_or("the last line has no end")?;
    let mut lines = text.split('\n');
    if lines.next() != Some("#EXTM3U") {
        return Err("the first line is not #EXTM3U".into());
    }
    let mut head = Vec::new();
    let mut segments = Vec::new();
    let mut segment = Vec::new();
    for line in lines {
        let of_segment = [
            "#EXT-X-MAP:",
            "#EXT-X-PROGRAM-DATE-TIME:",
            "#EXTINF:",
            "#EXT-X-DISCONTINUITY",
        ]
        .iter()
        .any(|tag| line.starts_with(tag) && !line.starts_with(ONCE[3]));
        if !line.starts_with('#') {
            segment.push(line);
            segments.push(std::mem::take(&mut segment));
        } else if of_segment {
            segment.push(line);
        } else if segments.is_empty() && segment.is_empty() {
            head.push(line);
        } else {
            return Err(format!("{line} among the segments"));
        }
    }
    if !segment.is_empty() {
        return Err("tags behind the last segment".into());
    }
    Ok((head, segments))
}

fn once(head: &[&str]) -> Result<[i64; 4], String> {
    let mut numbers = [0; 4];
    for (number, tag) in numbers.iter_mut().zip(ONCE) {
        let mut values = head.iter().filter_map(|line| line.strip_prefix(tag));
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(format!("{tag} is there not once"));
        };
        *number = value
            .parse()
            .map_err(|_| format!("{tag}{value} is no whole number"))?;
    }
    if let Some(line) = head.iter().find(|line| {
        !ONCE.iter().any(|tag| line.starts_with(tag)) && **line != "#EXT-X-INDEPENDENT-SEGMENTS"
    }) {
        return Err(format!("{line} is not expected"));
    }
    Ok(numbers)
}

fn read_segment(lines: &[&str], map: Option<String>) -> Result<Segment, String> {
    let uri = lines.last().copied().unwrap_or_default();
    let one = |tag: &str| {
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(tag));
        let value = values.next();
        if values.next().is_some() {
            Err(format!("{uri}: {tag} twice"))
        } else {
            Ok(value)
        }
    };
    let new_map = one("#EXT-X-MAP:URI=")?.map(|uri| uri.trim_matches('"').to_owned());
    let date = one("#EXT-X-PROGRAM-DATE-TIME:")?.and_then(date_ms);
    let duration = one("#EXTINF:")?.and_then(duration_us);
    Ok(Segment {
        map: new_map
            .or(map)
            .ok_or(format!("{uri}: no EXT-X-MAP before"))?,
        uri: uri.to_owned(),
        duration_us: duration.ok_or(format!("{uri}: no EXTINF with five decimals"))?,
        date_ms: date.ok_or(format!("{uri}: no date with milliseconds and zone"))?,
        discontinuity: one("#EXT-X-DISCONTINUITY")?.is_some(),
    })
}

fn check_segment(segment: &Segment, target_s: i64, before: Option<&Segment>) -> Result<(), String> {
    let target_us = target_s * 1_000_000;
    if segment.duration_us <= 0 || segment.duration_us > target_us + OVER_TARGET_US_MAX {
        return Err(format!(
            "{} us for a target of {target_s} s",
            segment.duration_us
        ));
    }
    if !segment.uri.ends_with(".m4s") || !segment.map.ends_with(".mp4") {
        return Err("an extension that players refuse".into());
    }
    if let Some(before) = before.filter(|_| !segment.discontinuity) {
        let date_ms = before.date_ms + before.duration_us / 1_000;
        if (segment.date_ms - date_ms).abs() > DATE_MS_MAX {
            return Err(format!(
                "dated {} ms, expected {date_ms} ms",
                segment.date_ms
            ));
        }
    }
    Ok(())
}

/// Microseconds of `2.005333,`.
fn duration_us(text: &str) -> Option<i64> {
    let (seconds, decimals) = text.strip_suffix(',')?.split_once('.')?;
    let micros: i64 = format!("{decimals:0<6}").parse().ok()?;
    (5..=6)
        .contains(&decimals.len())
        .then_some(seconds.parse::<i64>().ok()? * 1_000_000 + micros)
}

/// Milliseconds since the epoch of `2026-11-21T11:05:18.193Z`.
fn date_ms(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, mark| -> Option<Vec<i64>> {
        text.split(mark).map(|number| number.parse().ok()).collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (time, millis) = time.split_once('.')?;
    let [hour, minute, second] = numbers(time, ':')?[..] else {
        return None;
    };
    if millis.len() != 3 {
        return None;
    }
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000 + millis.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MAP:URI=\"init.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2024-02-29T23:59:59.193Z\n#EXTINF:2.005333,\n7.m4s\n\
        #EXT-X-PROGRAM-DATE-TIME:2024-03-01T00:00:01.198Z\n#EXTINF:1.995000,\n8.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init2.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2024-03-01T01:00:00.000Z\n#EXTINF:2.00000,\n9.m4s\n";

    #[test]
    fn a_good_playlist_is_read() {
        let playlist = read(GOOD).expect("it is good");
        assert_eq!((playlist.target_s, playlist.media_sequence), (2, 7));
        assert_eq!(playlist.duration_us(), 6_000_333);
        assert_eq!(playlist.segments[0].date_ms, 1_709_251_199_193);
        assert_eq!(playlist.segments[1].map, "init.mp4");
        assert_eq!(playlist.segments[2].map, "init2.mp4");
    }

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        assert!(GOOD.contains(from), "{from}");
        let problem = read(&GOOD.replacen(from, to, 1)).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn broken_playlists_are_found() {
        check("#EXTM3U", "\u{feff}#EXTM3U", "first line");
        check("#EXTM3U\n", "#EXTM3U\r\n", "first line");
        check("9.m4s\n", "9.m4s", "the last line has no end");
        check("#EXT-X-VERSION:6", "#EXT-X-VERSION:5", "version 5");
        check(
            "#EXT-X-VERSION:6\n",
            "",
            "#EXT-X-VERSION: is there not once",
        );
        check(
            "#EXT-X-VERSION:6\n",
            "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n",
            "VERSION: is there not once",
        );
        check(
            "#EXT-X-TARGETDURATION:2",
            "#EXT-X-TARGETDURATION:2.5",
            "no whole number",
        );
        check(
            "#EXT-X-DISCONTINUITY-SEQUENCE:3\n",
            "",
            "DISCONTINUITY-SEQUENCE: is there not once",
        );
        check("#EXT-X-INDEPENDENT-SEGMENTS\n", "", "INDEPENDENT");
        check(
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-PART-INF:PART-TARGET=0.3",
            "is not expected",
        );
        check(
            "7.m4s\n",
            "7.m4s\n#EXT-X-MEDIA-SEQUENCE:7\n",
            "among the segments",
        );
        check("#EXT-X-MAP:URI=\"init.mp4\"\n", "", "7.m4s: no EXT-X-MAP");
        check("init.mp4", "init", "an extension");
        check("8.m4s", "8", "8: an extension");
        check("2.005333", "2.005", "no EXTINF with five decimals");
        check("#EXTINF:2.005333,\n", "", "no EXTINF");
        check("2.005333", "2.600000", "2600000 us for a target of 2 s");
        check("59.193Z", "59.193", "no date");
        check("59.193Z", "59Z", "no date");
        check("01.198Z", "01.201Z", "8.m4s: dated");
        check("#EXT-X-DISCONTINUITY\n", "", "9.m4s: dated");
        check("9.m4s\n", "9.m4s\n#EXTINF:1.00000,\n", "tags behind");
    }
}
