#!/usr/bin/env python3
"""Cuts the middle 8 s out of three encoded loops, writes them as a clean FLV file, and checks it.

The output holds onMetaData, one AVC and one AAC sequence header, then exactly 240 video and 375 audio
tags in time order from 0 ms. Times are computed from the frame number (n * 1000 / 30 and
n * 1024 / 48, rounded), not copied: the loop is exactly 8000 ms. Only make-demo-sample.sh runs this.

Usage: cut_demo_loop.py LOOPS.flv OUTPUT.flv
"""

import struct
import sys

LOOP_MS = 8000
VIDEO_FRAMES, VIDEO_RATE = 240, 30
AUDIO_FRAMES, AUDIO_RATE, SAMPLES_PER_FRAME = 375, 48000, 1024
KEY_FRAME_EVERY = 60
MAX_BYTES = 700 * 1024

AUDIO, VIDEO, SCRIPT = 8, 9, 18
SEQUENCE_HEADER, CODED_FRAME = 0, 1


def read_tags(flv):
    """Yields (type, timestamp in ms, body) of every tag."""
    assert flv[:4] == b"FLV\x01", "not an FLV file"
    at = struct.unpack(">I", flv[5:9])[0] + 4
    while at < len(flv):
        kind, size = flv[at], int.from_bytes(flv[at + 1 : at + 4], "big")
        time_ms = int.from_bytes(flv[at + 4 : at + 7], "big") | flv[at + 7] << 24
        body = flv[at + 11 : at + 11 + size]
        assert len(body) == size, "the last tag is cut short"
        assert flv[at + 11 + size : at + 15 + size] == struct.pack(">I", size + 11)
        yield kind, time_ms, body
        at += 15 + size


def tag(kind, time_ms, body):
    head = bytes([kind]) + len(body).to_bytes(3, "big")
    head += (time_ms & 0xFFFFFF).to_bytes(3, "big") + bytes([time_ms >> 24, 0, 0, 0])
    return head + body + struct.pack(">I", len(body) + 11)


def metadata():
    """onMetaData with the facts of the sample and nothing of the tool that made it."""

    def amf_string(text):
        return struct.pack(">H", len(text)) + text.encode()

    values = {
        "duration": LOOP_MS / 1000,
        "width": 640,
        "height": 360,
        "framerate": VIDEO_RATE,
        "videocodecid": 7,
        "audiosamplerate": AUDIO_RATE,
        "audiosamplesize": 16,
        "stereo": True,
        "audiocodecid": 10,
    }
    body = b"\x02" + amf_string("onMetaData") + b"\x08" + struct.pack(">I", len(values))
    for name, value in values.items():
        coded = b"\x01" + bytes([value]) if value is True else b"\x00" + struct.pack(">d", value)
        body += amf_string(name) + coded
    return body + b"\x00\x00\x09"


def video_ms(n):
    return round(n * 1000 / VIDEO_RATE)


def audio_ms(n):
    return round(n * SAMPLES_PER_FRAME * 1000 / AUDIO_RATE)


def cut(loops):
    """The clean file: the tags of the second of three loops, renumbered from 0 ms."""
    tags = list(read_tags(loops))
    headers = [(k, b) for k, _, b in tags if k != SCRIPT and b[1] == SEQUENCE_HEADER]
    (avc,) = [b for k, b in headers if k == VIDEO]
    (aac,) = [b for k, b in headers if k == AUDIO]
    video = [(t, b) for k, t, b in tags if k == VIDEO and b[1] == CODED_FRAME]
    audio = [(t, b) for k, t, b in tags if k == AUDIO and b[1] == CODED_FRAME]

    # The muxer shifts everything so that the first audio frame, the encoder's priming, is at 0 ms.
    # Video frame 0 marks where the content starts; the middle loop begins one loop later.
    start_ms = video[0][0] + LOOP_MS
    first = min(range(len(audio)), key=lambda n: abs(audio[n][0] - start_ms))
    assert abs(audio[first][0] - start_ms) <= 1, "no AAC frame starts with the loop"
    pictures = [b for _, b in video[VIDEO_FRAMES : 2 * VIDEO_FRAMES]]
    sounds = [b for _, b in audio[first : first + AUDIO_FRAMES]]

    frames = [(video_ms(n), 0, VIDEO, b) for n, b in enumerate(pictures)]
    frames += [(audio_ms(n), 1, AUDIO, b) for n, b in enumerate(sounds)]
    frames.sort(key=lambda frame: frame[:2])
    out = b"FLV\x01\x05" + struct.pack(">II", 9, 0)
    out += tag(SCRIPT, 0, metadata()) + tag(VIDEO, 0, avc) + tag(AUDIO, 0, aac)
    return out + b"".join(tag(kind, time_ms, body) for time_ms, _, kind, body in frames)


class Bits:
    """The bits of a NAL unit, without emulation prevention bytes."""

    def __init__(self, nal):
        self.bits = "".join(f"{byte:08b}" for byte in nal.replace(b"\0\0\3", b"\0\0"))

    def take(self, count):
        taken, self.bits = self.bits[:count], self.bits[count:]
        return int(taken, 2) if count else 0

    def ue(self):
        zeros = self.bits.index("1")
        return self.take(2 * zeros + 1) - 1


def vui_timing(sps):
    """(num_units_in_tick, time_scale) of a High profile 4:2:0 SPS (H.264 7.3.2.1.1 and E.1.1)."""
    bits = Bits(sps[1:])
    assert bits.take(8) == 100, "High profile"
    bits.take(16)
    bits.ue()  # seq_parameter_set_id
    assert (bits.ue(), bits.ue(), bits.ue()) == (1, 0, 0), "4:2:0, 8 bit"
    assert bits.take(2) == 0, "no scaling lists"
    bits.ue()  # log2_max_frame_num
    order_type = bits.ue()
    assert order_type in (0, 2)
    if order_type == 0:
        bits.ue()
    bits.ue(), bits.take(1)  # max_num_ref_frames, gaps
    width, height = (bits.ue() + 1) * 16, (bits.ue() + 1) * 16
    assert bits.take(1) == 1, "frames, not fields"
    bits.take(1)
    if bits.take(1):
        crop = [bits.ue() for _ in range(4)]
        width, height = width - 2 * (crop[0] + crop[1]), height - 2 * (crop[2] + crop[3])
    assert (width, height) == (640, 360)
    assert bits.take(1) == 1, "VUI present"
    if bits.take(1) and bits.take(8) == 255:  # aspect_ratio_idc
        bits.take(32)
    if bits.take(1):  # overscan_info
        bits.take(1)
    if bits.take(1):  # video_signal_type
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):  # chroma_loc_info
        bits.ue(), bits.ue()
    assert bits.take(1) == 1, "timing_info_present_flag"
    return bits.take(32), bits.take(32)


def nal_types(body):
    at, types = 5, []
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        types.append(body[at + 4] & 31)
        at += 4 + size
    assert at == len(body), "NAL lengths do not add up"
    return types


def check(flv):
    """Fails unless the file is what `weir dev` and its tests are promised."""
    tags = list(read_tags(flv))
    assert [(k, t) for k, t, _ in tags[:3]] == [(SCRIPT, 0), (VIDEO, 0), (AUDIO, 0)]
    avc, aac, frames = tags[1][2], tags[2][2], tags[3:]
    assert avc[:5] == b"\x17\0\0\0\0" and aac[:2] == b"\xaf\0", "sequence headers"
    assert aac[2:4] == b"\x11\x90", "AudioSpecificConfig: AAC-LC, 48 kHz, stereo"
    sps_size = int.from_bytes(avc[11:13], "big")
    tick, scale = vui_timing(avc[13 : 13 + sps_size])
    assert scale == tick * 2 * VIDEO_RATE, f"VUI timing {tick}/{scale}"

    video = [(t, b) for k, t, b in frames if k == VIDEO]
    audio = [(t, b) for k, t, b in frames if k == AUDIO]
    assert len(video) + len(audio) == len(frames), "nothing but frames after the headers"
    assert (len(video), len(audio)) == (VIDEO_FRAMES, AUDIO_FRAMES)
    assert [t for t, _ in video] == [video_ms(n) for n in range(VIDEO_FRAMES)]
    assert [t for t, _ in audio] == [audio_ms(n) for n in range(AUDIO_FRAMES)]
    assert max(t for _, t, _ in frames) < LOOP_MS
    times = [t for _, t, _ in frames]
    assert times == sorted(times) and times[0] == 0
    for n, (_, body) in enumerate(video):
        key = n % KEY_FRAME_EVERY == 0
        assert body[0] == (0x17 if key else 0x27) and body[1] == CODED_FRAME, f"frame {n}"
        assert body[2:5] == b"\0\0\0", f"frame {n} has a composition offset"
        assert (5 in nal_types(body)) == key, f"frame {n}: IDR"
    assert all(b[:2] == b"\xaf\x01" for _, b in audio)
    assert len(flv) <= MAX_BYTES, f"{len(flv)} bytes are more than a sample in the repository may be"


def main():
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        flv = cut(file.read())
    check(flv)
    with open(target, "wb") as file:
        file.write(flv)


main()
