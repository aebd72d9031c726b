// An estimate of the server's wall clock, so that a latency measured here does not contain the error of this computer's
// clock. The source is the `Date` header (RFC 9110, section 6.6.1) of ordinary answers.
//
// `Date` counts whole seconds, so one answer only says that the server's time was within a second at some moment between
// our sending and our receiving. Each answer is therefore a range that the offset lies in; the ranges of many answers
// overlap in one of about the round-trip time.

/** Follows the offset between the server's clock and ours. */
export class ServerClock {
  private lowMs = -Infinity;
  private highMs = Infinity;

  /** Learns from one answer: our time when the request left and when the answer came, and its `Date`. */
  observe(sentMs: number, receivedMs: number, date: string | null): void {
    const secondMs = date === null ? NaN : Date.parse(date);
    if (Number.isNaN(secondMs)) return;
    const lowMs = secondMs - receivedMs;
    const highMs = secondMs + 1000 - sentMs;
    if (lowMs > this.highMs || highMs < this.lowMs) {
      // One of the two clocks was set: what was learnt before is about another offset.
      this.lowMs = lowMs;
      this.highMs = highMs;
      return;
    }
    this.lowMs = Math.max(this.lowMs, lowMs);
    this.highMs = Math.min(this.highMs, highMs);
  }

  /**
   * Server time minus our time, in milliseconds. The smallest offset that agrees with all answers, so that two clocks
   * which agree are not "corrected" by the coarseness of the header.
   */
  offsetMs(): number {
    return Math.min(Math.max(0, this.lowMs), this.highMs);
  }

  /** The server's time now, in milliseconds since the Unix epoch. */
  nowMs(): number {
    return Date.now() + this.offsetMs();
  }
}
