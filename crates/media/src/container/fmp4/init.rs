//! The init segment: `ftyp` and `moov` of one track, without samples.
//!
//! Owns: ISO/IEC 14496-12 8.2 to 8.8, sample entries of ISO/IEC 14496-15 5.4.2 (`avc1`) and ISO/IEC 14496-14
//! 5.6 (`mp4a`). Does not own: anything that changes from fragment to fragment.

use bytes::{Bytes, BytesMut};
use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec as SampleEntry, Dinf, Dref, FixedPoint, FourCC, Ftyp, Hdlr,
    Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url,
    Visual, Vmhd, esds,
};

use super::{TRACK_ID, put_box};
use crate::{
    Track,
    codec::{Codec, aac, h264},
};

/// `objectTypeIndication` of MPEG-4 audio (ISO/IEC 14496-1 table 5).
const OBJECT_TYPE_MPEG4_AUDIO: u8 = 0x40;
/// `streamType` of audio (ISO/IEC 14496-1 table 6).
const STREAM_TYPE_AUDIO: u8 = 5;
/// The language of a track whose language nobody stated.
const LANGUAGE_UNDETERMINED: &str = "und";
/// AAC decodes to samples of this size, as far as the sample entry can say.
const SAMPLE_SIZE_BITS: u16 = 16;

/// The init segment of `track`: what a player needs before its first fragment. Another codec configuration
/// gives another init segment, the same configuration always the same bytes.
#[must_use]
pub fn init(track: &Track) -> Bytes {
    let mut out = BytesMut::new();
    put_box(
        &Ftyp {
            major_brand: FourCC::new(b"cmf2"),
            minor_version: 0,
            compatible_brands: [b"cmf2", b"cmfc", b"iso6", b"mp41"].map(FourCC::new).into(),
        },
        &mut out,
    );
    put_box(&moov(track), &mut out);
    out.freeze()
}

/// Every duration is 0: the length of a live stream is not known.
fn moov(track: &Track) -> Moov {
    let trex = Trex {
        track_id: TRACK_ID,
        default_sample_description_index: 1,
        ..Default::default()
    };
    Moov {
        mvhd: Mvhd {
            timescale: track.timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Default::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![trex],
        }),
        trak: vec![trak(track)],
        ..Default::default()
    }
}

fn trak(track: &Track) -> Trak {
    let (width, height, volume) = match &track.codec {
        Codec::H264(config) => {
            let (width, height) = picture_size(config);
            (width, height, 0)
        }
        Codec::Aac(_) => (0, 0, 1),
    };
    Trak {
        tkhd: Tkhd {
            track_id: TRACK_ID,
            enabled: true,
            in_movie: true,
            volume: volume.into(),
            width: width.into(),
            height: height.into(),
            ..Default::default()
        },
        mdia: mdia(track),
        ..Default::default()
    }
}

fn mdia(track: &Track) -> Mdia {
    let (handler, name, sample_entry) = match &track.codec {
        Codec::H264(config) => (b"vide", "VideoHandler", SampleEntry::Avc1(avc1(config))),
        Codec::Aac(config) => (b"soun", "SoundHandler", SampleEntry::Mp4a(mp4a(config))),
    };
    let is_video = handler == b"vide";
    Mdia {
        mdhd: Mdhd {
            timescale: track.timescale,
            language: LANGUAGE_UNDETERMINED.to_owned(),
            ..Default::default()
        },
        hdlr: Hdlr {
            handler: FourCC::new(handler),
            name: name.to_owned(),
        },
        minf: Minf {
            vmhd: is_video.then(Vmhd::default),
            smhd: (!is_video).then(Smhd::default),
            dinf: Dinf {
                dref: Dref {
                    entries: vec![Url::default().into()],
                },
            },
            stbl: Stbl {
                stsd: Stsd {
                    codecs: vec![sample_entry],
                },
                stco: Some(Stco::default()),
                ..Default::default()
            },
            ..Default::default()
        },
    }
}

fn avc1(config: &h264::Config) -> Avc1 {
    let (width, height) = picture_size(config);
    let visual = Visual {
        data_reference_index: 1,
        width,
        height,
        ..Default::default()
    };
    Avc1 {
        visual,
        avcc: avcc(config),
        ..Default::default()
    }
}

/// The record as the encoder sent it. Where what follows the parameter sets is damaged, only they are kept:
/// they are all that a decoder needs.
fn avcc(config: &h264::Config) -> Avcc {
    if let Ok(avcc) = Avcc::decode_body(&mut config.record.clone()) {
        return avcc;
    }
    let sets = config.parameter_sets();
    let owned = |sets: Vec<Bytes>| sets.iter().map(|set| set.to_vec()).collect();
    Avcc {
        configuration_version: 1,
        avc_profile_indication: config.profile,
        profile_compatibility: config.constraints,
        avc_level_indication: config.level,
        length_size: u8::try_from(config.nal_length_size).unwrap_or(4),
        sequence_parameter_sets: owned(sets.sps),
        picture_parameter_sets: owned(sets.pps),
        ext: None,
    }
}

fn mp4a(config: &aac::Config) -> Mp4a {
    // Rates beyond 16 bits cannot be written here; players take the rate from the configuration.
    let sample_rate = u16::try_from(config.sample_rate).unwrap_or(0);
    let dec_config = esds::DecoderConfig {
        object_type_indication: OBJECT_TYPE_MPEG4_AUDIO,
        stream_type: STREAM_TYPE_AUDIO,
        dec_specific: Some(esds::DecoderSpecific {
            raw: config.asc.to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: config.channels.into(),
            sample_size: SAMPLE_SIZE_BITS,
            sample_rate: FixedPoint::from(sample_rate),
        },
        esds: esds::Esds {
            es_desc: esds::EsDescriptor {
                dec_config,
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    }
}

/// Width and height in pixels, 0 when the SPS cannot be understood: decoders read it themselves.
fn picture_size(config: &h264::Config) -> (u16, u16) {
    let side = |side| u16::try_from(side).unwrap_or(0);
    config.picture.map_or((0, 0), |picture| {
        (side(picture.width), side(picture.height))
    })
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Any, DecodeMaybe};

    use super::*;
    use crate::{TrackId, codec::hex};

    /// 640x360 at 25 pictures a second, from x264.
    const AVCC: &str =
        "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";

    fn video(record: &str) -> Track {
        let config = h264::Config::parse(hex(record)).unwrap();
        Track::new(TrackId::VIDEO, Codec::H264(config))
    }

    fn audio(asc: &str) -> Track {
        Track::new(
            TrackId::AUDIO,
            Codec::Aac(aac::Config::parse(hex(asc)).unwrap()),
        )
    }

    fn read_back(init: &Bytes) -> Moov {
        let mut rest = &init[..];
        let Some(Any::Ftyp(ftyp)) = Any::decode_maybe(&mut rest).unwrap() else {
            panic!("no ftyp")
        };
        for brand in [b"cmf2", b"cmfc", b"iso6", b"mp41"] {
            assert!(ftyp.compatible_brands.contains(&FourCC::new(brand)));
        }
        let Some(Any::Moov(moov)) = Any::decode_maybe(&mut rest).unwrap() else {
            panic!("no moov")
        };
        assert!(rest.is_empty());
        moov
    }

    fn check(track: &Track) -> SampleEntry {
        let moov = read_back(&init(track));
        let [trak] = &moov.trak[..] else {
            panic!("one track")
        };
        let [trex] = &moov.mvex.as_ref().unwrap().trex[..] else {
            panic!("one trex")
        };
        assert_eq!((trak.tkhd.track_id, trex.track_id), (TRACK_ID, TRACK_ID));
        let durations = [
            moov.mvhd.duration,
            trak.tkhd.duration,
            trak.mdia.mdhd.duration,
        ];
        assert_eq!(durations, [0; 3]);
        assert_eq!(trak.mdia.mdhd.timescale, track.timescale);
        assert_eq!(trak.mdia.mdhd.language, "und");
        assert!(trak.edts.is_none());
        let stbl = &trak.mdia.minf.stbl;
        assert!(stbl.stts.entries.is_empty() && stbl.stsc.entries.is_empty());
        let [entry] = &stbl.stsd.codecs[..] else {
            panic!("one sample entry")
        };
        entry.clone()
    }

    #[test]
    fn video_carries_its_record_and_its_size() {
        let track = video(AVCC);
        let SampleEntry::Avc1(avc1) = check(&track) else {
            panic!("avc1")
        };
        assert_eq!((avc1.visual.width, avc1.visual.height), (640, 360));
        let tkhd = &read_back(&init(&track)).trak[0].tkhd;
        assert_eq!((tkhd.width.integer(), tkhd.height.integer()), (640, 360));
        assert_eq!(tkhd.volume.integer(), 0);
        assert!(
            contains(&init(&track), &hex(AVCC)),
            "the record is unchanged"
        );
        let high = "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000468ef8fcbfdf8f800";
        assert!(
            contains(&init(&video(high)), &hex(high)),
            "and so is its extension"
        );
    }

    #[test]
    fn a_record_with_a_damaged_end_keeps_its_parameter_sets() {
        for tail in ["fd", "fdf8f801ffff"] {
            let SampleEntry::Avc1(avc1) = check(&video(&format!("{AVCC}{tail}"))) else {
                panic!("avc1")
            };
            assert_eq!(avc1.avcc, avcc_of(AVCC));
        }
    }

    #[test]
    fn an_unknown_picture_size_is_zero() {
        let SampleEntry::Avc1(avc1) = check(&video("0142c01effe1000467ffffff00")) else {
            panic!("avc1")
        };
        assert_eq!((avc1.visual.width, avc1.visual.height), (0, 0));
    }

    #[test]
    fn audio_carries_its_configuration() {
        for (asc, channels, rate) in [
            ("119056e500", 2, 48_000),
            ("120856e500", 1, 44_100),
            ("11b056e500", 6, 48_000),
            ("2b118800", 2, 24_000),
            ("eb098800", 1, 24_000),
            // 96 kHz needs 17 bits.
            ("101056e500", 2, 0),
        ] {
            let SampleEntry::Mp4a(mp4a) = check(&audio(asc)) else {
                panic!("mp4a")
            };
            let decoder = mp4a.esds.es_desc.dec_config.dec_specific.unwrap();
            assert_eq!(decoder.raw, hex(asc), "explicit SBR included");
            assert_eq!(
                (mp4a.audio.channel_count, mp4a.audio.sample_rate.integer()),
                (channels, rate)
            );
        }
    }

    fn avcc_of(record: &str) -> Avcc {
        Avcc::decode_body(&mut hex(record)).unwrap()
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }
}
