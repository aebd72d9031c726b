// Numbers as people read them.

/** "2.5 Mbit/s", "820 kbit/s". */
export function bitrate(bps: number): string {
  if (bps <= 0) return "–";
  return bps >= 1_000_000 ? `${(bps / 1_000_000).toFixed(1)} Mbit/s` : `${Math.round(bps / 1000)} kbit/s`;
}

/** "1.8 s"; below one second "420 ms", from one minute on "2:05". */
export function latency(ms: number): string {
  // A clock estimate is good to some tens of milliseconds, so a picture just received may seem to be from the future.
  const shown = Math.max(0, ms);
  if (shown >= 60_000) return duration(shown / 1000);
  return shown < 1000 ? `${Math.round(shown / 10) * 10} ms` : `${(shown / 1000).toFixed(1)} s`;
}

/** "1:02:03", "4:05". */
export function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** "1 viewer", "3 viewers". */
export function viewers(count: number): string {
  return count === 1 ? "1 viewer" : `${count} viewers`;
}
