//! The sequence parameter set, as far as a server needs it.
//!
//! Owns: picture size with cropping, and the nominal frame rate (ITU-T H.264 7.3.2.1.1, 7.4.2.1.1, E.1.1).
//! Does not own: anything a decoder alone needs. Whatever cannot be understood becomes `None`.

use super::{NAL_SPS, Picture, nal_type};
use crate::codec::bits::{Bits, End, without_emulation_prevention};

/// Longest side of a picture in pixels; twice what 8K has.
pub(super) const PICTURE_SIDE_MAX: u32 = 16_384;
/// Highest plausible frame rate. Encoders with a variable rate state their clock instead, often 1000 a second.
const FRAME_RATE_MAX: u64 = 480;
/// Bytes of an SPS that are read. Real ones have about 30; this holds every scaling list and more.
const SPS_LEN_MAX: usize = 4096;
/// `num_ref_frames_in_pic_order_cnt_cycle` may not exceed this (7.4.2.1.1).
const POC_CYCLE_LEN_MAX: u32 = 255;
/// `aspect_ratio_idc` that is followed by an explicit ratio (table E-1).
const ASPECT_RATIO_EXTENDED: u8 = 255;

/// Profiles whose SPS describes its chroma format (7.3.2.1.1).
const CHROMA_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// The picture that the SPS `nal` describes, or `None` when it cannot be understood.
pub(super) fn picture(nal: &[u8]) -> Option<Picture> {
    if nal_type(nal) != NAL_SPS {
        return None;
    }
    let body = nal.get(1..)?;
    let sps = without_emulation_prevention(body.get(..SPS_LEN_MAX).unwrap_or(body));
    read(&mut Bits::new(&sps)).ok()
}

/// The SPS cannot be understood; nobody asks why.
struct Unclear;

impl From<End> for Unclear {
    fn from(End: End) -> Self {
        Self
    }
}

fn read(bits: &mut Bits<'_>) -> Result<Picture, Unclear> {
    let chroma = chroma(bits)?;
    pass_over_order_count(bits)?;
    bits.unsigned_golomb()?; // max_num_ref_frames
    bits.flag()?; // gaps_in_frame_num_value_allowed_flag
    let (width, height) = size(bits, chroma)?;
    // The size stands even when what follows is cut off.
    let frame_rate = if bits.flag() == Ok(true) {
        frame_rate(bits).unwrap_or(None)
    } else {
        None
    };
    Ok(Picture {
        width,
        height,
        frame_rate,
    })
}

/// How many luma samples one chroma sample spans, across and down.
#[derive(Debug, Clone, Copy)]
struct Chroma {
    across: u32,
    down: u32,
}

/// Reads from `profile_idc` to the scaling lists.
fn chroma(bits: &mut Bits<'_>) -> Result<Chroma, Unclear> {
    let profile = bits.byte(8)?;
    bits.skip(16)?; // constraint flags, level_idc
    bits.unsigned_golomb()?; // seq_parameter_set_id
    if !CHROMA_PROFILES.contains(&profile) {
        return Ok(Chroma { across: 2, down: 2 });
    }
    let format = bits.unsigned_golomb()?;
    let separate_planes = format == 3 && bits.flag()?;
    bits.unsigned_golomb()?; // bit_depth_luma_minus8
    bits.unsigned_golomb()?; // bit_depth_chroma_minus8
    bits.flag()?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if bits.flag()? {
                pass_over_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    match format {
        _ if separate_planes => Ok(Chroma { across: 1, down: 1 }),
        0 | 3 => Ok(Chroma { across: 1, down: 1 }),
        1 => Ok(Chroma { across: 2, down: 2 }),
        2 => Ok(Chroma { across: 2, down: 1 }),
        _ => Err(Unclear),
    }
}

fn pass_over_scaling_list(bits: &mut Bits<'_>, len: u32) -> Result<(), Unclear> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.signed_golomb()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// Reads from `log2_max_frame_num_minus4` to the end of the picture order count.
fn pass_over_order_count(bits: &mut Bits<'_>) -> Result<(), Unclear> {
    bits.unsigned_golomb()?; // log2_max_frame_num_minus4
    match bits.unsigned_golomb()? {
        0 => {
            bits.unsigned_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.flag()?; // delta_pic_order_always_zero_flag
            bits.signed_golomb()?; // offset_for_non_ref_pic
            bits.signed_golomb()?; // offset_for_top_to_bottom_field
            let cycle_len = bits.unsigned_golomb()?;
            if cycle_len > POC_CYCLE_LEN_MAX {
                return Err(Unclear);
            }
            for _ in 0..cycle_len {
                bits.signed_golomb()?; // offset_for_ref_frame
            }
        }
        2 => {}
        _ => return Err(Unclear),
    }
    Ok(())
}

/// Reads from `pic_width_in_mbs_minus1` to the cropping rectangle; width and height in pixels.
fn size(bits: &mut Bits<'_>, chroma: Chroma) -> Result<(u32, u32), Unclear> {
    let width_in_blocks = bits.unsigned_golomb()?.checked_add(1).ok_or(Unclear)?;
    let height_in_map_units = bits.unsigned_golomb()?.checked_add(1).ok_or(Unclear)?;
    let frames_only = bits.flag()?;
    // A map unit is a pair of macroblock rows when pictures may be fields.
    let rows = if frames_only { 1 } else { 2 };
    if !frames_only {
        bits.flag()?; // mb_adaptive_frame_field_flag
    }
    bits.flag()?; // direct_8x8_inference_flag
    let width = width_in_blocks.checked_mul(16).ok_or(Unclear)?;
    let height = height_in_map_units.checked_mul(16 * rows).ok_or(Unclear)?;
    let [left, right, top, bottom] = if bits.flag()? {
        let mut side = || bits.unsigned_golomb();
        [side()?, side()?, side()?, side()?]
    } else {
        [0; 4]
    };
    let across = left
        .checked_add(right)
        .ok_or(Unclear)?
        .checked_mul(chroma.across)
        .ok_or(Unclear)?;
    let down = top
        .checked_add(bottom)
        .ok_or(Unclear)?
        .checked_mul(chroma.down * rows)
        .ok_or(Unclear)?;
    let plausible = |side: &u32| (1..=PICTURE_SIDE_MAX).contains(side);
    let width = width.checked_sub(across).filter(plausible).ok_or(Unclear)?;
    let height = height.checked_sub(down).filter(plausible).ok_or(Unclear)?;
    Ok((width, height))
}

/// Reads the video usability information up to its timing.
fn frame_rate(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, Unclear> {
    if bits.flag()? && bits.byte(8)? == ASPECT_RATIO_EXTENDED {
        bits.skip(32)?; // sar_width, sar_height
    }
    if bits.flag()? {
        bits.flag()?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.skip(24)?; // colour_primaries, transfer_characteristics, matrix_coefficients
        }
    }
    if bits.flag()? {
        bits.unsigned_golomb()?; // chroma_sample_loc_type_top_field
        bits.unsigned_golomb()?; // chroma_sample_loc_type_bottom_field
    }
    if !bits.flag()? {
        return Ok(None);
    }
    // A tick is a field, so a frame lasts two.
    let ticks_a_frame = u64::from(bits.field(32)?) * 2;
    let ticks_a_second = u64::from(bits.field(32)?);
    if ticks_a_frame == 0 || ticks_a_second == 0 {
        return Ok(None);
    }
    if ticks_a_second > ticks_a_frame.saturating_mul(FRAME_RATE_MAX) {
        return Ok(None);
    }
    let divisor = greatest_common_divisor(ticks_a_second, ticks_a_frame);
    let rate = u32::try_from(ticks_a_second / divisor);
    let scale = u32::try_from(ticks_a_frame / divisor);
    Ok(rate.ok().zip(scale.ok()))
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hex;

    /// 640x360 at 25 pictures a second, from x264.
    const SPS: &str = "6742c01eda0280bfe5c044000003000400000300c83c58ba80";

    #[test]
    fn a_cut_sps_gives_the_size_without_the_rate_or_nothing() {
        let whole = hex(SPS);
        let full = Picture {
            width: 640,
            height: 360,
            frame_rate: Some((25, 1)),
        };
        let mut seen = Vec::new();
        for len in 0..=whole.len() {
            let picture = picture(&whole[..len]);
            if seen.last() != Some(&picture) {
                seen.push(picture);
            }
        }
        assert_eq!(
            seen,
            [
                None,
                Some(Picture {
                    frame_rate: None,
                    ..full
                }),
                Some(full)
            ]
        );
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let check = |width, height, expected| {
            // Baseline with order counts of type 2.
            assert_size(66, &[code(0), code(0), code(2)], width, height, expected);
        };
        check(0, 0, Some((16, 16)));
        check(1023, 1023, Some((16_384, 16_384)));
        check(1024, 0, None);
        check(0, 1024, None);
        check(u32::MAX - 2, 0, None);
        check(0x1000_0000, 0x1000_0000, None);
    }

    #[test]
    fn scaling_lists_are_passed_over() {
        // Lists of 16 and of 64 zero deltas; a delta of -8 ends a list at once.
        let (short, long) = (
            format!("1{}", "1".repeat(16)),
            format!("1{}", "1".repeat(64)),
        );
        let ended = format!("1{}", code(16));
        let check = |format: &str, lists: &[&str]| {
            let depths = [code(0), code(0), "0".to_owned(), "1".to_owned()].concat();
            let lists = lists.concat();
            let order = [code(0), code(2)].concat();
            let fields = [code(0), format.to_owned(), depths, lists, order];
            assert_size(100, &fields, 39, 22, Some((640, 368)));
        };
        check(&code(1), &[&short, "0", "0", "0", "0", &ended, &long, "0"]);
        let separate_planes = "0";
        let twelve = [
            &short, "0", "0", "0", "0", &short, &long, "0", &ended, "0", "0", &long,
        ];
        check(&format!("{}{separate_planes}", code(3)), &twelve);
    }

    #[test]
    fn order_counts_of_type_1_are_passed_over() {
        let check = |cycle_len: u32, expected| {
            let offsets = code(4).repeat(usize::try_from(cycle_len).unwrap());
            let order = [
                code(1),
                "0".to_owned(),
                code(2),
                code(3),
                code(cycle_len),
                offsets,
            ];
            let fields = [code(0), code(0), order.concat()];
            assert_size(66, &fields, 39, 22, expected);
        };
        check(0, Some((640, 368)));
        check(255, Some((640, 368)));
        check(256, None);
    }

    /// Checks the size of an SPS of `profile` whose bits behind the level are `fields`; width and height are in
    /// macroblocks less one.
    fn assert_size(
        profile: u8,
        fields: &[String],
        width: u32,
        height: u32,
        expected: Option<(u32, u32)>,
    ) {
        // One reference, no gaps; frames only, direct 8x8 inference, no cropping, no usability information.
        let size = [
            code(1),
            "0".to_owned(),
            code(width),
            code(height),
            "1100".to_owned(),
        ];
        let bits = [fields.concat(), size.concat()].concat();
        let mut sps = vec![0x67, profile, 0, 31];
        for byte in bits.as_bytes().chunks(8) {
            let padded = format!("{:0<8}", std::str::from_utf8(byte).unwrap());
            sps.push(u8::from_str_radix(&padded, 2).unwrap());
        }
        let got = picture(&sps).map(|picture| (picture.width, picture.height));
        assert_eq!(got, expected, "{bits}");
    }

    /// An unsigned Exp-Golomb code as text.
    fn code(value: u32) -> String {
        let binary = format!("{:b}", value + 1);
        format!("{}{binary}", "0".repeat(binary.len() - 1))
    }
}
