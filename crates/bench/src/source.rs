//! What is published: an FLV file in an endless loop, each picture with its time code, padded to a bit rate.
//!
//! Owns: reading the file, when each frame is due, and the bodies that are sent. Does not own: clocks and sockets
//! ([`crate::publish`], [`crate::floor`]).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use weir_media::{
    codec::h264::{self, NAL_AUD},
    container::flv::{
        self, AudioBody, TagKind, VideoBody, audio_config, audio_frame_header, parse_audio,
        parse_video, video_config, video_frame_header,
    },
};

use crate::time_code::{self, TimeCode};

/// Bytes before each NAL unit of a picture. Every encoder in use writes four.
const NAL_LENGTH_SIZE: usize = 4;
/// A filler data unit (ITU-T H.264 7.3.2.7) around its bytes of ones: length, header and stop bit.
const NAL_FILLER: u8 = 12;
const FILLER_AROUND: usize = NAL_LENGTH_SIZE + 2;
/// The bit behind the content of a NAL unit.
const RBSP_STOP: u8 = 0x80;
/// Most padding of one picture: 30 pictures of it a second are 120 Mbit/s.
const FILLER_LEN_MAX: usize = 512 << 10;
/// The pause behind the last frame of a track that has only one.
const LONE_FRAME_US: u64 = 1_000_000;
/// Fastest pictures, a second.
const FPS_MAX: f64 = 1_000.0;

/// How the file is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Options {
    /// Bits a second of the whole stream, reached by padding pictures; none leaves them as they are.
    pub bitrate: Option<u64>,
    /// Pictures a second; none leaves the times of the file.
    pub fps: Option<f64>,
    /// Leaves the sound out.
    pub mute: bool,
}

/// Why a file cannot be published.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It is not FLV, or not a codec that is carried.
    #[error(transparent)]
    Flv(#[from] flv::Error),
    /// There is no H.264 in it.
    #[error("the file has no pictures, or none with a sequence header before it")]
    NoPictures,
    /// Its NAL units have lengths of another size than four bytes.
    #[error("the NAL units of the file have lengths of {0} bytes instead of {NAL_LENGTH_SIZE}")]
    NalLengthSize(usize),
    /// The bit rate is less than what the file has.
    #[error("the file alone has {has} bit/s: padding cannot make {wanted} bit/s of it")]
    Bitrate {
        /// What the file has with its time codes.
        has: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// So many pictures a second make no sense.
    #[error("the pictures a second must be more than 0 and at most {FPS_MAX}")]
    Fps,
}

/// A file, read once and shared by all streams.
#[derive(Debug)]
pub struct Source {
    metadata: Option<Bytes>,
    picture_config: Bytes,
    sound_config: Option<Bytes>,
    pictures: Track,
    sound: Track,
    bitrate: Option<u64>,
    /// The end of a filler data unit: ones and the stop bit.
    filler: Vec<u8>,
}

/// Frames that repeat.
#[derive(Debug, Default)]
struct Track {
    frames: Vec<Frame>,
    loop_us: u64,
}

#[derive(Debug)]
struct Frame {
    at_us: u64,
    sync: bool,
    composition_ms: i32,
    payload: Bytes,
}

impl Source {
    /// Reads an FLV file.
    ///
    /// # Errors
    /// It cannot be published, or not so.
    pub fn read(file: Bytes, options: Options) -> Result<Self, Error> {
        let mut source = Self {
            metadata: None,
            picture_config: Bytes::new(),
            sound_config: None,
            pictures: Track::default(),
            sound: Track::default(),
            bitrate: options.bitrate,
            filler: Vec::new(),
        };
        let mut reader = flv::Reader::new();
        reader.push(file);
        while let Some(tag) = reader.next()? {
            match tag.kind {
                TagKind::Script => source.metadata = source.metadata.or(Some(tag.body)),
                TagKind::Video => source.read_video(tag.timestamp_ms, tag.body)?,
                TagKind::Audio if options.mute => {}
                TagKind::Audio => source.read_audio(tag.timestamp_ms, tag.body)?,
            }
        }
        source.set_times(options.fps)?;
        source.check_bitrate()?;
        if options.bitrate.is_some() {
            source.filler = vec![0xFF; FILLER_LEN_MAX];
            source.filler.push(RBSP_STOP);
        }
        Ok(source)
    }

    /// The bodies that come before all frames, in order.
    pub fn head(&self) -> impl Iterator<Item = (TagKind, &Bytes)> {
        let metadata = self.metadata.iter().map(|body| (TagKind::Script, body));
        let picture = [(TagKind::Video, &self.picture_config)];
        let sound = self.sound_config.iter().map(|body| (TagKind::Audio, body));
        metadata.chain(picture).chain(sound)
    }

    /// Whether there is sound.
    #[must_use]
    pub fn has_sound(&self) -> bool {
        !self.sound.frames.is_empty()
    }

    /// The frames from the first one on, for ever.
    #[must_use]
    pub fn play(self: &Arc<Self>) -> Play {
        Play {
            source: Arc::clone(self),
            picture: 0,
            sound: 0,
            sent: 0,
            prefix: BytesMut::new(),
        }
    }

    fn read_video(&mut self, timestamp_ms: u32, body: Bytes) -> Result<(), Error> {
        match parse_video(body)? {
            VideoBody::Config(config) if config.nal_length_size != NAL_LENGTH_SIZE => {
                return Err(Error::NalLengthSize(config.nal_length_size));
            }
            VideoBody::Config(config) => self.picture_config = video_config(&config),
            VideoBody::Frame {
                composition_ms,
                payload,
                ..
            } => {
                let sync = h264::is_idr(&payload, NAL_LENGTH_SIZE);
                // Players start at a key frame, and so does each round of the loop.
                if sync || !self.pictures.frames.is_empty() {
                    self.pictures.frames.push(Frame {
                        at_us: u64::from(timestamp_ms) * 1_000,
                        sync,
                        composition_ms,
                        payload,
                    });
                }
            }
            VideoBody::EndOfSequence | VideoBody::Skipped(_) => {}
        }
        Ok(())
    }

    fn read_audio(&mut self, timestamp_ms: u32, body: Bytes) -> Result<(), Error> {
        match parse_audio(body)? {
            AudioBody::Config(config) => self.sound_config = Some(audio_config(&config)),
            AudioBody::Frame(payload) => self.sound.frames.push(Frame {
                at_us: u64::from(timestamp_ms) * 1_000,
                sync: true,
                composition_ms: 0,
                payload,
            }),
            AudioBody::Skipped(_) => {}
        }
        Ok(())
    }

    fn set_times(&mut self, fps: Option<f64>) -> Result<(), Error> {
        let first_us = self.pictures.frames.first().ok_or(Error::NoPictures)?.at_us;
        if self.picture_config.is_empty() {
            return Err(Error::NoPictures);
        }
        if self.sound_config.is_none() {
            self.sound.frames.clear();
        }
        self.pictures.begin_at(first_us);
        self.sound.begin_at(first_us);
        self.pictures.loop_us = self.pictures.measured_loop_us();
        self.sound.loop_us = self.sound.measured_loop_us();
        let Some(fps) = fps else {
            // Both tracks begin each round together, so that they stay in step.
            let loop_us = self.pictures.loop_us.max(self.sound.loop_us);
            (self.pictures.loop_us, self.sound.loop_us) = (loop_us, loop_us);
            return Ok(());
        };
        if !(fps > 0.0 && fps <= FPS_MAX) {
            return Err(Error::Fps);
        }
        let count = self.pictures.frames.len() as f64;
        let loop_us = count / fps * 1e6;
        let slower = loop_us / self.pictures.loop_us as f64;
        for (index, frame) in self.pictures.frames.iter_mut().enumerate() {
            frame.at_us = (index as f64 / fps * 1e6) as u64;
            frame.composition_ms = (f64::from(frame.composition_ms) * slower) as i32;
        }
        self.pictures.loop_us = loop_us as u64;
        Ok(())
    }

    fn check_bitrate(&self) -> Result<(), Error> {
        let Some(wanted) = self.bitrate else {
            return Ok(());
        };
        let around = NAL_LENGTH_SIZE + time_code::NAL_LEN;
        let has = self.pictures.bits_per_second(around) + self.sound.bits_per_second(0);
        if has > wanted {
            return Err(Error::Bitrate { has, wanted });
        }
        Ok(())
    }
}

impl Track {
    /// Moves times so that `first_us` becomes 0; what is before it is left out.
    fn begin_at(&mut self, first_us: u64) {
        self.frames.retain(|frame| frame.at_us >= first_us);
        for frame in &mut self.frames {
            frame.at_us -= first_us;
        }
        self.frames.sort_by_key(|frame| frame.at_us);
    }

    /// From the first frame to behind the last one, in whole milliseconds, as timestamps are.
    fn measured_loop_us(&self) -> u64 {
        let (Some(first), Some(last)) = (self.frames.first(), self.frames.last()) else {
            return 0;
        };
        let gaps = self.frames.len() as u64 - 1;
        let step_us = match gaps {
            0 => LONE_FRAME_US,
            gaps => ((last.at_us - first.at_us) / gaps).max(1_000),
        };
        (last.at_us + step_us + 500) / 1_000 * 1_000
    }

    fn bits_per_second(&self, around: usize) -> u64 {
        let bytes: usize = self
            .frames
            .iter()
            .map(|frame| frame.payload.len() + around)
            .sum();
        (bytes as u64 * 8_000_000)
            .checked_div(self.loop_us)
            .unwrap_or(0)
    }

    /// The frame with that number, counted through all rounds, and when it is due.
    fn frame(&self, number: u64) -> Option<(&Frame, u64)> {
        let count = self.frames.len() as u64;
        let round = number.checked_div(count)?;
        let frame = self.frames.get(usize::try_from(number % count).ok()?)?;
        Some((frame, round * self.loop_us + frame.at_us))
    }
}

/// One stream's place in the loop.
#[derive(Debug)]
pub struct Play {
    source: Arc<Source>,
    /// Numbers of the next picture and the next frame of sound.
    picture: u64,
    sound: u64,
    /// Bytes of bodies handed out.
    sent: u64,
    /// What is written before and between the pieces of a picture.
    prefix: BytesMut,
}

/// A frame that is due, as the pieces of an FLV body.
#[derive(Debug)]
pub struct Due<'a> {
    /// Picture or sound.
    pub kind: TagKind,
    /// Its timestamp.
    pub timestamp_ms: u32,
    /// Whether players can start here.
    pub sync: bool,
    /// The body, one piece after the other.
    pub pieces: [&'a [u8]; 4],
}

impl Play {
    /// When the next frame is due, microseconds since the first one was.
    #[must_use]
    pub fn next_due_us(&self) -> u64 {
        let picture = self.source.pictures.frame(self.picture);
        let sound = self.source.sound.frame(self.sound);
        let due = |frame: Option<(&Frame, u64)>| frame.map_or(u64::MAX, |(_, due)| due);
        due(picture).min(due(sound))
    }

    /// The next frame, with `sent_us` as the time code if it is a picture.
    pub fn next(&mut self, sent_us: u64) -> Option<Due<'_>> {
        let (source, due_us) = (&*self.source, self.next_due_us());
        let timestamp_ms = ((due_us / 1_000) & u64::from(u32::MAX)) as u32;
        self.prefix.clear();
        if let Some((frame, due)) = source.pictures.frame(self.picture)
            && due == due_us
        {
            let code = TimeCode {
                sent_us,
                number: self.picture,
            };
            self.picture += 1;
            let (delimiter, rest) = split_delimiter(&frame.payload);
            self.prefix
                .extend_from_slice(&video_frame_header(frame.sync, frame.composition_ms));
            self.prefix.extend_from_slice(delimiter);
            put_nal(&mut self.prefix, &code.nal());
            let len = self.prefix.len() + rest.len();
            let padding = source.padding(due_us, self.sent + len as u64);
            self.sent += (len + padding) as u64;
            let at = self.prefix.len();
            let mut filler: &[u8] = &[];
            if let Some(ones) = padding.checked_sub(FILLER_AROUND) {
                self.prefix.put_u32((ones + 2) as u32);
                self.prefix.put_u8(NAL_FILLER);
                filler = source
                    .filler
                    .get(FILLER_LEN_MAX - ones..)
                    .unwrap_or_default();
            }
            let (prefix, filler_header) = self.prefix.split_at(at);
            return Some(Due {
                kind: TagKind::Video,
                timestamp_ms,
                sync: frame.sync,
                pieces: [prefix, rest, filler_header, filler],
            });
        }
        let (frame, _) = source.sound.frame(self.sound)?;
        self.sound += 1;
        self.prefix.extend_from_slice(&audio_frame_header());
        self.sent += (self.prefix.len() + frame.payload.len()) as u64;
        Some(Due {
            kind: TagKind::Audio,
            timestamp_ms,
            sync: false,
            pieces: [&self.prefix, &frame.payload, &[], &[]],
        })
    }
}

impl Source {
    /// Bytes of padding for the picture due at `due_us`, when `sent` bytes are sent with it.
    fn padding(&self, due_us: u64, sent: u64) -> usize {
        let Some(bitrate) = self.bitrate else {
            return 0;
        };
        let step_us = self.pictures.loop_us / self.pictures.frames.len().max(1) as u64;
        let wanted = u128::from(bitrate) * u128::from(due_us + step_us) / 8_000_000;
        let missing = usize::try_from(wanted.saturating_sub(sent.into())).unwrap_or(usize::MAX);
        if missing < FILLER_AROUND {
            return 0;
        }
        missing.min(FILLER_LEN_MAX + FILLER_AROUND)
    }
}

fn put_nal(out: &mut BytesMut, nal: &[u8]) {
    out.put_u32(nal.len() as u32);
    out.put_slice(nal);
}

/// An access unit delimiter must stay first in its picture; everything behind it.
fn split_delimiter(payload: &[u8]) -> (&[u8], &[u8]) {
    let nal = payload.split_first_chunk::<NAL_LENGTH_SIZE>();
    let len = match nal {
        Some((len, nal)) if h264::nal_type(nal) == NAL_AUD => {
            NAL_LENGTH_SIZE + u32::from_be_bytes(*len) as usize
        }
        _ => 0,
    };
    payload.split_at_checked(len).unwrap_or((&[], payload))
}

#[cfg(test)]
mod tests {
    use weir_media::codec::h264::nal_units;

    use super::*;

    const DEMO: &[u8] = include_bytes!("../../../testdata/demo.flv");

    fn demo(options: Options) -> Result<Arc<Source>, Error> {
        Source::read(Bytes::from_static(DEMO), options).map(Arc::new)
    }

    /// Plays for so many seconds: due time, kind, timestamp, sync, body.
    fn played(options: Options, seconds: u64) -> Vec<(u64, TagKind, u32, bool, Bytes)> {
        let mut play = demo(options).expect("the demo can be published").play();
        let mut all = Vec::new();
        while play.next_due_us() < seconds * 1_000_000 {
            let due_us = play.next_due_us();
            let due = play.next(due_us).expect("it never ends");
            let body = due.pieces.concat().into();
            all.push((due_us, due.kind, due.timestamp_ms, due.sync, body));
        }
        all
    }

    #[test]
    fn loops_without_a_seam_and_in_order() {
        let frames = played(Options::default(), 24);
        let count = |kind| frames.iter().filter(|frame| frame.1 == kind).count();
        assert_eq!((count(TagKind::Video), count(TagKind::Audio)), (720, 1_125));
        assert!(frames.is_sorted_by_key(|frame| frame.0));
        for kind in [TagKind::Video, TagKind::Audio] {
            let times: Vec<_> = frames
                .iter()
                .filter(|frame| frame.1 == kind)
                .map(|frame| frame.0)
                .collect();
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(
                gaps.into_iter().all(|gap| (20_000..=34_000).contains(&gap)),
                "{kind:?}"
            );
        }
        for (number, frame) in frames
            .iter()
            .filter(|frame| frame.1 == TagKind::Video)
            .enumerate()
        {
            let code = TimeCode::find(&frame.4).expect("every picture has one");
            assert_eq!((code.number, code.sent_us), (number as u64, frame.0));
            assert_eq!(u64::from(frame.2), frame.0 / 1_000);
            assert_eq!(frame.3, number % 60 == 0, "a key frame every two seconds");
        }
    }

    #[test]
    fn pictures_stay_readable() {
        let options = Options {
            bitrate: Some(2_650_000),
            ..Options::default()
        };
        for (.., sync, body) in played(options, 3)
            .into_iter()
            .filter(|frame| frame.1 == TagKind::Video)
        {
            let Ok(VideoBody::Frame {
                sync: said,
                payload,
                ..
            }) = parse_video(body)
            else {
                panic!("not a picture");
            };
            assert_eq!(
                (said, h264::is_idr(&payload, NAL_LENGTH_SIZE)),
                (sync, sync)
            );
            let units: Result<Vec<_>, _> = nal_units(&payload, NAL_LENGTH_SIZE).collect();
            let units = units.expect("all lengths are right");
            let last = units.last().expect("there are some");
            if h264::nal_type(last) == NAL_FILLER {
                let ones = &last[1..last.len() - 1];
                assert!(ones.iter().all(|&byte| byte == 0xFF) && last.ends_with(&[RBSP_STOP]));
            }
        }
    }

    #[test]
    fn padding_reaches_the_bit_rate() {
        for (bitrate, fps, mute) in [
            (600_000, None, false),
            (2_650_000, None, false),
            (2_650_000, Some(25.0), false),
            (8_000_000, Some(60.0), true),
        ] {
            let options = Options {
                bitrate: Some(bitrate),
                fps,
                mute,
            };
            let frames = played(options, 16);
            let bytes: usize = frames.iter().map(|frame| frame.4.len()).sum();
            let has = bytes as f64 * 8.0 / 16.0 / bitrate as f64;
            assert!((0.99..1.01).contains(&has), "{options:?}: {has}");
            let pictures = frames
                .iter()
                .filter(|frame| frame.1 == TagKind::Video)
                .count();
            assert_eq!(pictures as f64 / 16.0, fps.unwrap_or(30.0), "{options:?}");
            assert_eq!(frames.len() > pictures, !mute, "{options:?}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let bitrate = Options {
            bitrate: Some(100_000),
            ..Options::default()
        };
        assert!(matches!(
            demo(bitrate),
            Err(Error::Bitrate {
                wanted: 100_000,
                ..
            })
        ));
        for fps in [0.0, -1.0, f64::NAN, 1e9] {
            let options = Options {
                fps: Some(fps),
                ..Options::default()
            };
            assert_eq!(demo(options).err(), Some(Error::Fps));
        }
        let read =
            |bytes: &'static [u8]| Source::read(Bytes::from_static(bytes), Options::default());
        assert_eq!(read(b"GIF").err(), Some(Error::Flv(flv::Error::Signature)));
        assert_eq!(read(&DEMO[..13]).err(), Some(Error::NoPictures));
    }
}
