#!/usr/bin/env bash
# Generates testdata/demo.flv, the sample that `weir dev` loops as the stream `demo`.
#
# 8 s at 640x360: 240 H.264 frames (30 fps, no B-frames, a key frame every 2 s) and 375 AAC-LC frames
# (48 kHz stereo). 8 s is the least number of seconds that holds a whole number of both, so the loop
# has no seam in time; all that moves or sounds has a period that divides 8 s, so none in content.
# Three loops are encoded and the middle one is kept: its first AAC frame overlaps real sound rather
# than the encoder's priming silence.
#
# Usage: scripts/make-demo-sample.sh [OUTPUT]     needs ffmpeg, python3 and the DejaVu fonts
set -euo pipefail
cd "$(dirname "$0")/.."

output=${1:-testdata/demo.flv}
fonts=/usr/share/fonts/truetype/dejavu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The sea: three layers of waves, each the sum of two sines that move a whole number of wavelengths
# in 8 s. `surface` gives a layer's height at column X, `cover` how much of the pixel lies below it.
surface() { # base amplitude wavelength turns
    echo "($1+$2*sin(2*PI*(X/$3+$4*T/8))+$2*0.4*sin(2*PI*(X/($3*0.43)-T/8)))"
}
far=$(surface 228 7 420 1)
middle=$(surface 262 10 330 -1)
near=$(surface 302 13 520 2)

# The sun swings once round an ellipse in 8 s.
sun="hypot(X-(320+170*sin(2*PI*T/8)),Y-(150+48*cos(2*PI*T/8)))"

# One colour channel: the sky from top to horizon, the sun with its glow, then the three layers, each
# lit at its crest and darker with depth.
wave() { # height colour, paints the layer over the pixel in register 0
    echo "st(1,Y-$1);st(2,clip(ld(1)+0.5,0,1));\
st(0,ld(0)+ld(2)*($2*(1-clip(ld(1)/260,0,0.6))+46*exp(-max(ld(1),0)/3)-ld(0)))"
}
channel() { # sky-top sky-horizon sun far middle near
    echo "st(0,$1+($2-$1)*pow(Y/240,1.4));st(3,$sun);\
st(0,ld(0)+($3-ld(0))*max(clip(35.5-ld(3),0,1),0.5*exp(-max(ld(3)-35,0)/34)));\
$(wave "$far" "$4");$(wave "$middle" "$5");$(wave "$near" "$6");clip(ld(0),0,255)"
}
red=$(channel 14 232 255 44 22 10)
green=$(channel 22 138 214 112 84 56)
blue=$(channel 62 128 140 150 128 98)

# Eight lamps count the seconds; the lit one flashes white while the ping of that second starts.
lamps=""
for second in 0 1 2 3 4 5 6 7; do
    x=$((466 + second * 19))
    lamps+=",drawbox=x=$x:y=32:w=12:h=12:color=white@0.22:t=fill"
    lamps+=",drawbox=x=$x:y=32:w=12:h=12:color=0xffd27a:t=fill:enable='between(n,$((second * 30)),$((second * 30 + 29)))'"
    lamps+=",drawbox=x=$((x - 3)):y=29:w=18:h=18:color=white:t=fill:enable='between(n,$((second * 30)),$((second * 30 + 3)))'"
done

clock='00\:0%{eif\:floor(n/30)\:d}.%{eif\:mod(n,30)\:d\:2}'
title="drawtext=fontfile=$fonts/DejaVuSans-Bold.ttf:text='Weir demo':x=24:y=24:fontsize=28:fontcolor=white"
readout="drawtext=fontfile=$fonts/DejaVuSansMono-Bold.ttf:text='$clock':x=(w-text_w)/2:y=282:fontsize=48:fontcolor=white:shadowx=2:shadowy=2:shadowcolor=black@0.45"

echo "rendering one loop of the picture" >&2
ffmpeg -v error -y -f lavfi -i "color=black:size=640x360:rate=30:duration=8,format=gbrp" \
    -vf "geq=r='$red':g='$green':b='$blue'$lamps,$title,$readout" -c:v ffv1 "$work/picture.mkv"

# A soft A major chord, every partial a multiple of 1/8 Hz, that leans from one ear to the other once
# in 8 s; and a ping at every full second, faded in over a few ms so that it does not click.
chord="0.06*sin(2*PI*220*t)+0.05*sin(2*PI*277.125*t)+0.05*sin(2*PI*329.625*t)+0.03*sin(2*PI*110*t)"
ping="0.16*sin(2*PI*880*t)*exp(-9*mod(t,1))*(1-exp(-300*mod(t,1)))"
left="($chord)*(0.7+0.3*sin(2*PI*t/8))+$ping"
right="($chord)*(0.7-0.3*sin(2*PI*t/8))+$ping"

echo "encoding three loops" >&2
ffmpeg -v error -y -stream_loop 2 -i "$work/picture.mkv" \
    -f lavfi -i "aevalsrc='$left|$right':sample_rate=48000:duration=24" \
    -vf "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setpts=N/(30*TB)" -r 30 \
    -c:v libx264 -profile:v high -level 3.0 -refs 3 -preset veryslow -crf 19 -bf 0 -threads 1 \
    -g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop \
    -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv \
    -c:a aac -profile:a aac_low -b:a 96k -flags:a +bitexact -map 0:v -map 1:a "$work/loops.flv"

python3 scripts/cut_demo_loop.py "$work/loops.flv" "$work/demo.flv"
mkdir -p "$(dirname "$output")"
mv "$work/demo.flv" "$output"
echo "wrote $output ($(stat -c %s "$output") bytes)" >&2
