//! An init object: what a player knows before the first fragment (CONFORMANCE C1, C7, C8).

use super::boxes::{Fields, all, boxes, find};

/// What the fragments of a track need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Init {
    /// Ticks a second.
    pub(crate) timescale: u32,
    /// As in a playlist's CODECS (RFC 6381).
    pub(crate) codec: String,
    /// Width and height, where there is a picture.
    pub(crate) picture: Option<(u16, u16)>,
    /// Whether presentation times are shifted by an edit list.
    pub(super) edited: bool,
    pub(super) track_id: u32,
    /// Defaults of `trex`: duration, size, flags.
    pub(super) defaults: [u32; 3],
}

impl Init {
    /// Reads one; what breaks a rule and does not hinder the reading is added to `problems`.
    pub(crate) fn read(bytes: &[u8], problems: &mut Vec<String>) -> Result<Self, String> {
        let mut need = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        let kinds: Vec<_> = boxes(bytes)?.iter().map(|atom| atom.kind).collect();
        let shown: Vec<_> = kinds.iter().map(|kind| kind.escape_ascii()).collect();
        let order = format!("C1: boxes {shown:?} where ftyp and moov are to be");
        need(kinds == [*b"ftyp", *b"moov"], &order);
        let (brands, _) = find(bytes, &[b"ftyp"])?.as_chunks::<4>();
        let has = |brand| brands.contains(brand);
        need(has(b"cmfc") || has(b"cmf2"), "C1: no brand cmfc or cmf2");
        need(has(b"iso6") || has(b"mp41"), "C1: no brand iso6 or mp41");
        let moov = find(bytes, &[b"moov"])?;
        let traks = all(moov, b"trak");
        need(traks.len() == 1, "C1: not one track");
        let trak = *traks.first().ok_or("C1: no track")?;
        let stbl = find(trak, &[b"mdia", b"minf", b"stbl"])?;
        for (kind, at) in [(b"stts", 4), (b"stsc", 4), (b"stco", 4), (b"stsz", 8)] {
            let mut fields = Fields::plain(find(stbl, &[kind])?);
            fields.skip(at)?;
            let what = format!("C1: samples in {}", kind.escape_ascii());
            need(fields.u32()? == 0, &what);
        }
        let (timescale, duration) = times(find(trak, &[b"mdia", b"mdhd"])?, 0)?;
        let (_, movie_duration) = times(find(moov, &[b"mvhd"])?, 0)?;
        let (track_id, track_duration) = times(find(trak, &[b"tkhd"])?, 4)?;
        need(
            [duration, movie_duration, track_duration] == [0; 3],
            "C1: a duration that is not 0",
        );
        let mut trex = Fields::full(find(moov, &[b"mvex", b"trex"])?)?;
        need(trex.u32()? == track_id, "C1: trex is of another track");
        trex.skip(4)?;
        let defaults = [trex.u32()?, trex.u32()?, trex.u32()?];
        let (codec, picture) = sample_entry(find(stbl, &[b"stsd"])?)?;
        Ok(Self {
            timescale,
            codec,
            picture,
            edited: !all(trak, b"edts").is_empty(),
            track_id,
            defaults,
        })
    }
}

/// The number behind the two dates of a header box, and the duration, which follows `reserved` bytes later.
fn times(body: &[u8], reserved: usize) -> Result<(u32, u64), String> {
    let mut fields = Fields::full(body)?;
    fields.sized()?;
    fields.sized()?;
    let number = fields.u32()?;
    fields.skip(reserved)?;
    Ok((number, fields.sized()?))
}

/// Name and picture size of the one sample entry.
fn sample_entry(stsd: &[u8]) -> Result<(String, Option<(u16, u16)>), String> {
    let entries = boxes(stsd.get(8..).unwrap_or_default())?;
    let [entry] = &entries[..] else {
        return Err(format!("C1: {} sample entries", entries.len()));
    };
    let body = entry.body;
    let of = |kind| find(body.get(78..).unwrap_or_default(), &[kind]);
    let size = |at: usize| {
        body.get(at..at + 2)
            .map(|two| u16::from_be_bytes([two[0], two[1]]))
    };
    let picture = size(24).zip(size(26));
    match &entry.kind {
        b"avc1" => {
            let avcc = of(b"avcC")?;
            let [1, profile, flags, level, _, sets, ..] = avcc else {
                return Err("C7: no avcC".into());
            };
            if sets & 0x1F == 0 {
                return Err("C7: no SPS in avcC".into());
            }
            Ok((format!("avc1.{profile:02X}{flags:02X}{level:02X}"), picture))
        }
        b"mp4a" => {
            let esds = find(body.get(28..).unwrap_or_default(), &[b"esds"])?;
            let object_type = audio_object_type(esds).ok_or("C8: no configuration in esds")?;
            Ok((format!("mp4a.40.{object_type}"), None))
        }
        kind => Err(format!("C7: a sample entry {}", kind.escape_ascii())),
    }
}

/// The audio object type in the decoder configuration (ISO/IEC 14496-1 section 7.2.6).
fn audio_object_type(esds: &[u8]) -> Option<u8> {
    let stream = descriptor(esds.get(4..)?, 3)?;
    let config = descriptor(stream.get(3..)?, 4)?;
    let specific = descriptor(config.get(13..)?, 5)?;
    Some(specific.first()? >> 3).filter(|object_type| *object_type < 31)
}

/// The body of the descriptor of a tag that stands first.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, mut rest) = bytes.split_first()?;
    let mut len = 0;
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        len = len << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    rest.get(..len).filter(|_| *first == tag)
}
