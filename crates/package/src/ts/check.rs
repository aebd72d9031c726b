//! `ts-check`: a strict reader of transport streams, which shares no code with the writer.
//!
//! Owns: rows T1 to T6, T9 and T10 of CONFORMANCE section 9 for one program of H.264 and AAC, H27 for segments, and
//! taking the elementary streams out again. The first violation ends the reading; its text begins with its row.
//! Needs nothing but the standard library.

use std::collections::BTreeMap;

const PACKET_LEN: usize = 188;
const MS: i64 = 90;
const WRAP: i64 = 1 << 33;
const PAT_PID: u16 = 0;
const SDT_PID: u16 = 0x11;

/// What a stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Every PMT version with its streams as (type, PID), in order of appearance.
    pub(crate) programs: Vec<(u8, Vec<(u8, u16)>)>,
    /// The name in the service description.
    pub(crate) service: Option<String>,
    /// The PES of the video and of the audio stream, in order.
    pub(crate) video: Vec<Pes>,
    pub(crate) audio: Vec<Pes>,
    /// How often the clock was said to jump.
    pub(crate) discontinuities: usize,
    /// First and last clock reference, unwrapped.
    pub(crate) pcr: Option<(i64, i64)>,
}

/// One PES.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pes {
    /// Times as written, 33 bits.
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    /// The clock reference before it.
    pub(crate) pcr: i64,
    pub(crate) random_access: bool,
    /// NAL units or raw AAC frames.
    pub(crate) units: Vec<Vec<u8>>,
}

/// Reads a whole stream. `pauses` allows more than 700 ms between times of a track.
pub(crate) fn check(bytes: &[u8], pauses: bool) -> Result<Report, String> {
    let mut checker = Checker {
        pauses,
        ..Checker::default()
    };
    let (packets, rest) = bytes.as_chunks::<PACKET_LEN>();
    ensure(rest.is_empty(), || {
        format!("T1: {} bytes behind the last packet", rest.len())
    })?;
    for (number, packet) in packets.iter().enumerate() {
        checker
            .packet(packet)
            .map_err(|violation| format!("{violation} (packet {number})"))?;
    }
    checker.finish()
}

/// What a segment must be beside that (H27, DESIGN 4): tables first, every counter from 0 round to 0.
pub(crate) fn check_segment(bytes: &[u8]) -> Result<(), String> {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    let (packets, _) = bytes.as_chunks::<PACKET_LEN>();
    let pids: Vec<u16> = packets.iter().take(2).map(pid).collect();
    ensure(pids == [PAT_PID, 0x1000], || {
        format!("H27: a segment begins with PIDs {pids:?}")
    })?;
    for packet in packets.iter().filter(|packet| packet[3] & 0x10 != 0) {
        let count = counts.entry(pid(packet)).or_default();
        let counter = usize::from(packet[3] & 0x0F);
        ensure(counter == *count % 16, || {
            format!(
                "H27: packet {count} of PID {} has counter {counter}",
                pid(packet)
            )
        })?;
        *count += 1;
    }
    let odd = counts.iter().find(|(_, count)| *count % 16 != 0);
    ensure(odd.is_none(), || format!("H27: (PID, packets) is {odd:?}"))
}

#[derive(Debug, Default)]
struct Checker {
    pauses: bool,
    report: Report,
    counters: BTreeMap<u16, u8>,
    pmt_pid: Option<u16>,
    pcr_pid: u16,
    streams: BTreeMap<u16, Stream>,
    pcr: Option<i64>,
    /// Clock time of the tables: that of the first reference behind them.
    tables_at: [Option<i64>; 2],
    tables_seen: [bool; 2],
    tables_since_picture: [bool; 2],
}

/// An elementary stream.
#[derive(Debug, Default)]
struct Stream {
    stream_type: u8,
    open: Option<(Pes, Vec<u8>)>,
    last: Option<(i64, i64)>,
}

impl Checker {
    fn packet(&mut self, packet: &[u8; PACKET_LEN]) -> Result<(), String> {
        ensure(packet[0] == 0x47, || {
            format!("T1: sync byte {:#x}", packet[0])
        })?;
        ensure(packet[1] & 0x80 == 0 && packet[3] & 0xC0 == 0, || {
            "T1: in error or scrambled".into()
        })?;
        let (pid, start) = (pid(packet), packet[1] & 0x40 != 0);
        let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        ensure(has_adaptation || has_payload, || {
            "T1: neither adaptation nor payload".into()
        })?;
        self.count(pid, packet[3] & 0x0F, has_payload)?;
        let mut rest = &packet[4..];
        let mut random_access = false;
        if has_adaptation {
            let len = usize::from(rest[0]);
            ensure(len <= if has_payload { 182 } else { 183 }, || {
                format!("T1: adaptation of {len} bytes")
            })?;
            random_access = self.adaptation(pid, &rest[1..=len])?;
            rest = &rest[1 + len..];
        }
        match pid {
            _ if !has_payload => Ok(()),
            PAT_PID => self.pat(section(rest, start)?),
            SDT_PID => self.sdt(section(rest, start)?),
            _ if Some(pid) == self.pmt_pid => self.pmt(section(rest, start)?),
            _ => self.payload(pid, start, random_access, rest),
        }
    }

    fn count(&mut self, pid: u16, counter: u8, has_payload: bool) -> Result<(), String> {
        let expected = match self.counters.get(&pid) {
            Some(&last) if has_payload => (last + 1) & 0x0F,
            Some(&last) => last,
            None => counter,
        };
        self.counters.insert(pid, counter);
        ensure(counter == expected, || {
            format!("T4: PID {pid} has counter {counter} instead of {expected}")
        })
    }

    fn adaptation(&mut self, pid: u16, field: &[u8]) -> Result<bool, String> {
        let Some((&flags, rest)) = field.split_first() else {
            return Ok(false);
        };
        let (discontinuity, random_access) = (flags & 0x80 != 0, flags & 0x40 != 0);
        ensure(flags & 0x2F == 0, || {
            format!("T1: unknown adaptation flags {flags:#x}")
        })?;
        self.report.discontinuities += usize::from(discontinuity);
        let stuffing = if flags & 0x10 == 0 {
            ensure(!random_access || pid != self.pcr_pid, || {
                "T6: random access without a clock reference".into()
            })?;
            rest
        } else {
            ensure(pid == self.pcr_pid, || {
                format!("T2: a clock reference on PID {pid}")
            })?;
            let (pcr, stuffing) = rest
                .split_first_chunk::<6>()
                .ok_or("T2: a clock reference is cut")?;
            self.clock(pcr, discontinuity)?;
            stuffing
        };
        ensure(stuffing.iter().all(|&byte| byte == 0xFF), || {
            "T1: stuffing is not 0xFF".into()
        })?;
        Ok(random_access)
    }

    fn clock(&mut self, bytes: &[u8; 6], discontinuity: bool) -> Result<(), String> {
        let value = bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | i64::from(byte));
        ensure(value >> 9 & 0x3F == 0x3F && value & 0x1FF == 0, || {
            format!("T2: clock reference {value:#x}")
        })?;
        let raw = value >> 15;
        let now = match self.pcr {
            Some(last) => last + signed(raw - last),
            None => raw,
        };
        if let Some(last) = self.pcr
            && !discontinuity
        {
            ensure((1..=35 * MS).contains(&(now - last)), || {
                format!("T2: clock went {} ticks", now - last)
            })?;
        }
        self.pcr = Some(now);
        self.report.pcr = Some((self.report.pcr.map_or(now, |(first, _)| first), now));
        for table in 0..2 {
            if discontinuity {
                self.tables_at[table] = None;
            }
            if std::mem::take(&mut self.tables_seen[table]) {
                self.tables_at[table] = Some(now);
            }
            let since = self.tables_at[table].map_or(0, |at| now - at);
            ensure(since <= 100 * MS, || {
                format!("T3: {} ms without table {table}", since / MS)
            })?;
        }
        Ok(())
    }

    fn pat(&mut self, section: &[u8]) -> Result<(), String> {
        ensure(section[0] == 0 && section.len() == 16, || {
            format!("T3: PAT {section:x?}")
        })?;
        let pmt_pid = u16_at(section, 10) & 0x1FFF;
        ensure(self.pmt_pid.is_none_or(|pid| pid == pmt_pid), || {
            "T9: the PMT has moved".into()
        })?;
        self.pmt_pid = Some(pmt_pid);
        self.table_seen(0);
        Ok(())
    }

    fn table_seen(&mut self, table: usize) {
        self.tables_seen[table] = true;
        self.tables_since_picture[table] = true;
    }

    fn pmt(&mut self, section: &[u8]) -> Result<(), String> {
        ensure(section[0] == 2 && section.len() >= 16, || {
            format!("T3: PMT {section:x?}")
        })?;
        self.pcr_pid = u16_at(section, 8) & 0x1FFF;
        let version = section[5] >> 1 & 0x1F;
        let entries = section[12..section.len() - 4].chunks(5);
        let streams: Vec<(u8, u16)> = entries
            .map(|entry| (entry[0], u16_at(entry, 1) & 0x1FFF))
            .collect();
        self.table_seen(1);
        match self.report.programs.last() {
            Some((last, known)) if *last == version => {
                return ensure(*known == streams, || {
                    "T9: tracks changed, the version did not".into()
                });
            }
            Some((last, _)) => {
                let next = (last + 1) & 0x1F;
                ensure(version == next, || {
                    format!("T9: version {version} instead of {next}")
                })?;
            }
            None => {}
        }
        for &(stream_type, pid) in &streams {
            let stream = self.streams.entry(pid).or_insert_with(|| Stream {
                stream_type,
                ..Stream::default()
            });
            ensure(stream.stream_type == stream_type, || {
                format!("T9: PID {pid} has become another stream")
            })?;
        }
        self.report.programs.push((version, streams));
        Ok(())
    }

    fn sdt(&mut self, section: &[u8]) -> Result<(), String> {
        ensure(section[0] == 0x42 && section.get(16) == Some(&0x48), || {
            format!("T9: SDT {section:x?}")
        })?;
        let provider_len = usize::from(section[19]);
        let name_len = usize::from(section[20 + provider_len]);
        let name = &section[21 + provider_len..][..name_len];
        self.report.service = Some(String::from_utf8_lossy(name).into_owned());
        Ok(())
    }

    fn payload(
        &mut self,
        pid: u16,
        start: bool,
        random_access: bool,
        bytes: &[u8],
    ) -> Result<(), String> {
        ensure(self.streams.contains_key(&pid), || {
            format!("T3: PID {pid} is in no table")
        })?;
        if start {
            self.close(pid)?;
            let pcr = self
                .pcr
                .ok_or("T2: a PES before the first clock reference")?;
            let pes = Pes {
                pcr,
                random_access,
                ..Pes::default()
            };
            let stream = self.streams.entry(pid).or_default();
            stream.open = Some((pes, bytes.to_vec()));
            if stream.stream_type == 0x1B {
                let tables = std::mem::take(&mut self.tables_since_picture);
                ensure(!random_access || tables == [true; 2], || {
                    "T3: no tables before a key frame".into()
                })?;
            }
            return Ok(());
        }
        ensure(!random_access, || "T6: random access inside a PES".into())?;
        let open = self.streams.entry(pid).or_default().open.as_mut();
        open.ok_or("T6: payload before the first PES")?
            .1
            .extend_from_slice(bytes);
        Ok(())
    }

    fn close(&mut self, pid: u16) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&pid) else {
            return Ok(());
        };
        let Some((mut pes, bytes)) = stream.open.take() else {
            return Ok(());
        };
        let is_video = stream.stream_type == 0x1B;
        let payload = pes_header(&mut pes, &bytes, is_video)?;
        let lead = signed(pes.pts - pes.pcr);
        ensure((100 * MS..=1_000 * MS).contains(&lead), || {
            format!("T5: PTS - PCR is {lead} ticks")
        })?;
        ensure(signed(pes.dts - pes.pcr) >= 0, || {
            "T5: decoding time is past".into()
        })?;
        if let Some((pts, dts)) = stream.last.replace((pes.pts, pes.dts)) {
            ensure(signed(pes.dts - dts) > 0, || {
                format!("T5: DTS {} after {dts}", pes.dts)
            })?;
            let gap = signed(pes.pts - pts);
            ensure(self.pauses || gap <= 700 * MS, || {
                format!("T5: {} ms without PTS", gap / MS)
            })?;
        }
        if is_video {
            pes.units = nal_units(payload)?;
            check_picture(&pes)?;
            self.report.video.push(pes);
        } else {
            pes.units = adts_frames(payload)?;
            self.report.audio.push(pes);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, String> {
        let pids: Vec<u16> = self.streams.keys().copied().collect();
        for pid in pids {
            self.close(pid)?;
        }
        Ok(self.report)
    }
}

fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(violation()) }
}

fn pid(packet: &[u8; PACKET_LEN]) -> u16 {
    u16_at(packet, 1) & 0x1FFF
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A difference of wrapping times, the short way round.
fn signed(difference: i64) -> i64 {
    (difference + WRAP / 2).rem_euclid(WRAP) - WRAP / 2
}

/// The one section of a packet, without what follows it; its CRC is right (T10).
fn section(payload: &[u8], start: bool) -> Result<&[u8], String> {
    ensure(start && payload[0] == 0, || {
        "T3: a section does not start its packet".into()
    })?;
    let len = 3 + usize::from(u16_at(payload, 2) & 0x0FFF);
    let section = payload
        .get(1..=len)
        .ok_or("T3: a section is longer than its packet")?;
    ensure(section.len() >= 12, || "T3: a section is too short".into())?;
    let mut register = u32::MAX;
    for bit in section
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)))
    {
        let out = register >> 31;
        register <<= 1;
        if out != bit {
            register ^= 0x04C1_1DB7;
        }
    }
    ensure(register == 0, || "T10: wrong CRC".into())?;
    ensure(payload[1 + len..].iter().all(|&byte| byte == 0xFF), || {
        "T3: no stuffing behind a section".into()
    })?;
    Ok(section)
}

/// Reads the header into `pes` and returns what follows it.
fn pes_header<'a>(pes: &mut Pes, bytes: &'a [u8], is_video: bool) -> Result<&'a [u8], String> {
    let (header, rest) = bytes.split_at_checked(9).ok_or("T6: a PES header is cut")?;
    let stream_id = if is_video { 0xE0 } else { 0xC0 };
    ensure(header[..4] == [0, 0, 1, stream_id], || {
        format!("T6: a PES begins with {:x?}", &header[..4])
    })?;
    let length = usize::from(u16_at(header, 4));
    let unstated = is_video && length == 0 && bytes.len() > 0xFFFF;
    ensure(unstated || length == bytes.len() - 6, || {
        format!("T6: length {length} of {}", bytes.len())
    })?;
    ensure(header[6] == 0x84, || {
        format!("T6: flags {:#x}, not aligned", header[6])
    })?;
    let (times, payload) = rest
        .split_at_checked(header[8].into())
        .ok_or("T6: a PES header is cut")?;
    let time = |bytes: &[u8], prefix: u8| {
        let marked = bytes[0] >> 4 == prefix && bytes[0] & bytes[2] & bytes[4] & 1 == 1;
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at| i64::from(bytes[at]));
        let value = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
        ensure(marked, || format!("T6: time {bytes:x?}")).map(|()| value)
    };
    (pes.pts, pes.dts) = match (header[7], times.len()) {
        (0x80, 5) => (time(times, 2)?, time(times, 2)?),
        (0xC0, 10) => (time(&times[..5], 3)?, time(&times[5..], 1)?),
        (flags, len) => return Err(format!("T6: times {flags:#x} of {len} bytes")),
    };
    Ok(payload)
}

fn nal_units(payload: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    ensure(payload.starts_with(&[0, 0, 0, 1]), || {
        "T6: a picture begins without a start code".into()
    })?;
    let mut starts: Vec<usize> = (0..payload.len())
        .filter(|&at| payload[at..].starts_with(&[0, 0, 1]))
        .collect();
    starts.push(payload.len() + 1);
    let unit = |pair: &[usize]| payload[pair[0] + 3..(pair[1] - 1).min(payload.len())].to_vec();
    Ok(starts.windows(2).map(unit).collect())
}

fn check_picture(pes: &Pes) -> Result<(), String> {
    let types: Vec<u8> = pes
        .units
        .iter()
        .map(|unit| unit.first().map_or(0, |byte| byte & 0x1F))
        .collect();
    let delimiters = types.iter().filter(|&&unit| unit == 9).count();
    ensure(types.first() == Some(&9) && delimiters == 1, || {
        format!("T6: NAL unit types {types:?}")
    })?;
    let idr = types.iter().position(|&unit| unit == 5);
    ensure(idr.is_some() == pes.random_access, || {
        "T6: random access and key frames do not match".into()
    })?;
    let before = &types[..idr.unwrap_or(0)];
    let configured = before.contains(&7) && before.contains(&8);
    ensure(idr.is_none() || configured, || {
        format!("T6: an IDR picture without SPS and PPS: {types:?}")
    })
}

fn adts_frames(mut payload: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut frames = Vec::new();
    while !payload.is_empty() {
        let (header, _) = payload
            .split_first_chunk::<7>()
            .ok_or("T6: an ADTS header is cut")?;
        ensure(header[..2] == [0xFF, 0xF1] && header[6] == 0xFC, || {
            format!("T6: ADTS header {header:x?}")
        })?;
        let [a, b, c] = [header[3], header[4], header[5]].map(usize::from);
        let len = (a & 3) << 11 | b << 3 | c >> 5;
        let frame = payload.get(7..len).ok_or("T6: an ADTS frame is cut")?;
        frames.push(frame.to_vec());
        payload = &payload[len..];
    }
    ensure(!frames.is_empty(), || "T6: a PES without sound".into())?;
    Ok(frames)
}
