//! One program: its tables, its clock, its packets.
//!
//! Owns: PIDs (T9), when tables (T3) and clock references (T2) are due, what a picture and a group of sound frames look
//! like (T6). Time only goes on when its owner says so ([`Program::pass_to`]).
//! Does not own: the order of frames.

use bytes::BytesMut;
use weir_media::{
    Epoch, Frame, Kind, Track, TrackId,
    codec::{Codec, aac::adts, h264::annex_b},
    container::mpegts::{
        self, AUDIO_STREAM_ID, Adaptation, CLOCK_HZ, ElementaryStream, PesHeader, Pid,
        STREAM_TYPE_ADTS, STREAM_TYPE_H264, Section, Service, VIDEO_STREAM_ID,
    },
    rescale,
};

use super::{MS, PCR_LEAD, TIME_OFFSET};

const STREAM: u16 = 1;
const PROGRAM: u16 = 1;
const PAT_PID: u16 = 0;
const SDT_PID: u16 = 0x11;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;

/// Most time between clock references: DVB asks for 40 ms (T2).
const PCR_INTERVAL: i64 = 35 * MS;
/// Most time between tables (T3).
const TABLES_INTERVAL: i64 = 100 * MS;
/// Time after which the name is told again; DVB asks for 2 s.
const SERVICE_INTERVAL: i64 = 1_000 * MS;

/// Writes the packets of one program.
#[derive(Debug)]
pub(super) struct Program {
    pat: Pid,
    pmt: Pid,
    sdt: Pid,
    video: Pid,
    audio: Pid,
    /// A step forward by more is a jump; less is filled with clock references.
    fill_max: i64,
    service: Option<Service>,
    tables: Option<Tables>,
    pictures: Option<(Track, annex_b::Framing)>,
    sound: Option<(Track, adts::Framing)>,
    now: Option<i64>,
    pcr_at: Option<i64>,
    /// No PES may come before a clock reference.
    pcr_owed: bool,
    discontinuity: bool,
    tables_at: Option<i64>,
    service_at: Option<i64>,
    pes: BytesMut,
}

#[derive(Debug)]
struct Tables {
    pat: Section,
    pmt: Section,
    sdt: Option<Section>,
}

impl Program {
    /// A program that states `name`, if any, and fills pauses up to `fill_max` ticks.
    pub(super) fn new(name: Option<&str>, fill_max: i64) -> Self {
        let service = name.map(|name| Service {
            provider: "Weir".to_owned(),
            name: name.to_owned(),
            has_video: true,
        });
        Self {
            pat: Pid::new(PAT_PID),
            pmt: Pid::new(PMT_PID),
            sdt: Pid::new(SDT_PID),
            video: Pid::new(VIDEO_PID),
            audio: Pid::new(AUDIO_PID),
            fill_max,
            service,
            tables: None,
            pictures: None,
            sound: None,
            now: None,
            pcr_at: None,
            pcr_owed: true,
            discontinuity: false,
            tables_at: None,
            service_at: None,
            pes: BytesMut::new(),
        }
    }

    /// Takes the tracks of `epoch`. The tables' version is the epoch's index, so that it goes up whenever tracks change
    /// (T9) and is the same wherever the epoch is packaged.
    pub(super) fn begin_epoch(&mut self, epoch: &Epoch) {
        self.pictures = epoch
            .first(Kind::Video)
            .and_then(|track| match &track.codec {
                Codec::H264(config) => Some((track.clone(), annex_b::Framing::new(config))),
                Codec::Aac(_) => None,
            });
        self.sound = epoch
            .first(Kind::Audio)
            .and_then(|track| match &track.codec {
                Codec::Aac(config) => Some((track.clone(), adts::Framing::new(config)?)),
                Codec::H264(_) => None,
            });
        let mut streams = Vec::with_capacity(2);
        if self.pictures.is_some() {
            streams.push(ElementaryStream {
                stream_type: STREAM_TYPE_H264,
                pid: VIDEO_PID,
            });
        }
        if self.sound.is_some() {
            streams.push(ElementaryStream {
                stream_type: STREAM_TYPE_ADTS,
                pid: AUDIO_PID,
            });
        }
        let pcr_pid = self.pcr_pid().number();
        let has_video = self.pictures.is_some();
        self.tables = Some(Tables {
            pat: mpegts::pat(STREAM, PROGRAM, PMT_PID),
            pmt: mpegts::pmt(PROGRAM, epoch.index, pcr_pid, &streams),
            sdt: self.service.as_mut().map(|service| {
                service.has_video = has_video;
                mpegts::sdt(STREAM, PROGRAM, epoch.index, service)
            }),
        });
        self.tables_at = None;
        self.service_at = None;
        self.pcr_owed = true;
    }

    /// The clock jumps before what comes next.
    pub(super) fn jump(&mut self) {
        self.now = None;
        self.pcr_at = None;
        self.tables_at = None;
        self.pcr_owed = true;
        self.discontinuity = true;
    }

    /// Which kind of payload `frame` is, if it can be carried.
    pub(super) fn kind_of(&self, frame: &Frame) -> Option<Kind> {
        if let Some((track, framing)) = &self.pictures
            && track.id == frame.track
        {
            return framing.carries(&frame.payload).then_some(Kind::Video);
        }
        let (track, framing) = self.sound.as_ref()?;
        (track.id == frame.track && framing.header(frame.payload.len()).is_some())
            .then_some(Kind::Audio)
    }

    /// A time of `track` on the program's clock.
    pub(super) fn time(&self, track: TrackId, ticks: i64) -> i64 {
        let timescale = match (&self.pictures, &self.sound) {
            (Some((pictures, _)), _) if pictures.id == track => pictures.timescale,
            (_, Some((sound, _))) if sound.id == track => sound.timescale,
            _ => CLOCK_HZ,
        };
        rescale(ticks, timescale, CLOCK_HZ).saturating_add(TIME_OFFSET)
    }

    /// What a sound frame lasts, ticks of 90 kHz.
    pub(super) fn sound_frame_time(&self) -> i64 {
        let timescale = self
            .sound
            .as_ref()
            .map_or(CLOCK_HZ, |(track, _)| track.timescale);
        rescale(i64::from(adts::SAMPLES), timescale, CLOCK_HZ)
    }

    /// Time goes on to `at`, or stays when that is past, as it is for a track that is late: writes the clock references
    /// and tables that become due. With `tables` they are written in any case.
    pub(super) fn pass_to(&mut self, at: i64, tables: bool, out: &mut BytesMut) {
        if self
            .now
            .is_some_and(|now| at.saturating_sub(now) > self.fill_max)
        {
            self.jump();
        }
        let at = self.now.map_or(at, |now| at.max(now));
        if self.pcr_owed && self.now.is_some_and(|now| now < at) && self.tables_at == self.now {
            self.put_pcr(out);
        }
        self.fill_to(at, out);
        self.now = Some(at);
        if tables || self.tables_due() {
            self.put_tables(out);
        }
    }

    /// Writes what is due before `end`, which is not reached; nothing when that is too far away to be filled.
    pub(super) fn fill_to(&mut self, end: i64, out: &mut BytesMut) {
        while let Some(last) = self.pcr_at
            && (PCR_INTERVAL + 1..=self.fill_max + PCR_INTERVAL).contains(&end.saturating_sub(last))
        {
            self.now = Some(last + PCR_INTERVAL);
            if self.tables_due() {
                self.put_tables(out);
            }
            self.put_pcr(out);
        }
    }

    /// Writes a picture, now. The `last` one of a segment leaves its PID's counter where it began.
    pub(super) fn put_picture(&mut self, frame: &Frame, last: bool, out: &mut BytesMut) {
        let header = self.header(VIDEO_STREAM_ID, frame);
        let Some((_, framing)) = &self.pictures else {
            return;
        };
        self.pes.clear();
        header.put(&mut self.pes);
        framing.put(&mut self.pes, &frame.payload, frame.sync);
        self.put_pes(Kind::Video, frame.sync, last, out);
    }

    /// Writes sound frames that follow each other as one PES, now.
    pub(super) fn put_sound(&mut self, frames: &[Frame], last: bool, out: &mut BytesMut) {
        let Some(first) = frames.first() else { return };
        let header = self.header(AUDIO_STREAM_ID, first);
        let Some((_, framing)) = &self.sound else {
            return;
        };
        self.pes.clear();
        header.put(&mut self.pes);
        for frame in frames {
            if let Some(header) = framing.header(frame.payload.len()) {
                self.pes.extend_from_slice(&header);
                self.pes.extend_from_slice(&frame.payload);
            }
        }
        // Without pictures every sound frame is a place to start.
        let random_access = self.pictures.is_none();
        self.put_pes(Kind::Audio, random_access, last, out);
    }

    /// Repeats tables until their counters are where they began.
    pub(super) fn align_tables(&mut self, out: &mut BytesMut) {
        let Some(tables) = &self.tables else { return };
        while !self.pat.is_aligned() {
            self.pat.put_section(out, &tables.pat);
            self.pmt.put_section(out, &tables.pmt);
        }
    }

    fn put_pes(&mut self, kind: Kind, random_access: bool, last: bool, out: &mut BytesMut) {
        mpegts::seal_pes(&mut self.pes);
        let mut adaptation = Adaptation {
            random_access,
            ..Adaptation::default()
        };
        let on_pcr_pid = kind == Kind::Video || self.pictures.is_none();
        if on_pcr_pid && (random_access || self.pcr_owed || self.pcr_at < self.now) {
            // A PID with clock references may announce random access only together with one (2.4.3.5).
            adaptation.pcr = self.take_pcr();
            adaptation.discontinuity = std::mem::take(&mut self.discontinuity);
        } else if self.pcr_owed {
            self.put_pcr(out);
        }
        let pid = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        if last {
            pid.put_pes_aligned(out, adaptation, &self.pes);
        } else {
            pid.put_pes(out, adaptation, &self.pes);
        }
    }

    /// A packet with nothing but a clock reference.
    fn put_pcr(&mut self, out: &mut BytesMut) {
        let pcr = self.take_pcr();
        let discontinuity = std::mem::take(&mut self.discontinuity);
        self.pcr_pid().put_adaptation(
            out,
            Adaptation {
                pcr,
                random_access: false,
                discontinuity,
            },
        );
    }

    fn take_pcr(&mut self) -> Option<i64> {
        self.pcr_at = self.now;
        self.pcr_owed = false;
        self.now.map(|now| now.saturating_sub(PCR_LEAD))
    }

    fn pcr_pid(&mut self) -> &mut Pid {
        if self.pictures.is_some() {
            &mut self.video
        } else {
            &mut self.audio
        }
    }

    /// Whether the tables must come now, because the next chance may be a clock reference away.
    fn tables_due(&self) -> bool {
        match (self.tables_at, self.now) {
            (Some(last), Some(now)) => now.saturating_sub(last) > TABLES_INTERVAL - PCR_INTERVAL,
            _ => true,
        }
    }

    /// Writes the tables, unless they have just been. A clock reference of the same instant follows them, so that a
    /// receiver that starts here knows its time, and when they came.
    fn put_tables(&mut self, out: &mut BytesMut) {
        let Some(tables) = &self.tables else { return };
        if self.tables_at.is_some() && self.tables_at == self.now {
            return;
        }
        self.pat.put_section(out, &tables.pat);
        self.pmt.put_section(out, &tables.pmt);
        let told = self
            .service_at
            .zip(self.now)
            .is_some_and(|(at, now)| (0..SERVICE_INTERVAL).contains(&now.saturating_sub(at)));
        if let Some(sdt) = tables.sdt.as_ref().filter(|_| !told) {
            self.sdt.put_section(out, sdt);
            self.service_at = self.now;
        }
        self.tables_at = self.now;
        self.pcr_owed = true;
    }

    fn header(&self, stream_id: u8, frame: &Frame) -> PesHeader {
        PesHeader {
            stream_id,
            pts: self.time(frame.track, frame.pts),
            dts: self.time(frame.track, frame.dts),
        }
    }
}
