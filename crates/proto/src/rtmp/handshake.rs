//! The simple handshake, both sides.
//!
//! Owns: version byte and two packets each way: C0, C1, C2 and S0, S1, S2. Does not own: the digest handshake of Flash
//! players; our first packet carries version zero, which tells peers that offer it to do without.
//! Specification: RTMP 5.2.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Length of C1, C2, S1 and S2.
const PACKET_LEN: usize = 1536;
/// The one protocol version there is.
const VERSION: u8 = 3;

/// Waits for the packets of the peer, one after the other.
#[derive(Debug)]
pub(super) struct Handshake {
    /// For the greeting; `None` once that is sent.
    seed: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Version,
    First(Vec<u8>),
    Second { left: usize },
}

impl Handshake {
    /// The side that answers. `seed` fills the random bytes of S1, which need not be secret (RTMP 5.2.3).
    pub(super) fn server(seed: u64) -> Self {
        Self {
            seed: Some(seed),
            state: State::Version,
        }
    }

    /// The side that begins: sends C0 and C1 at once. `seed` is as for [`Self::server`].
    pub(super) fn client(seed: u64, out: &mut BytesMut) -> Self {
        greet(seed, out);
        Self {
            seed: None,
            state: State::Version,
        }
    }

    /// Consumes `input`; returns `Ok(true)` once the handshake is complete. Fails with the version of the peer if it
    /// is not RTMP.
    pub(super) fn handle_input(
        &mut self,
        input: &mut Bytes,
        out: &mut BytesMut,
    ) -> Result<bool, u8> {
        while input.has_remaining() {
            match &mut self.state {
                State::Version => match input.get_u8() {
                    VERSION => self.state = State::First(Vec::new()),
                    other => return Err(other),
                },
                State::First(packet) => {
                    let missing = PACKET_LEN.saturating_sub(packet.len()).min(input.len());
                    packet.extend_from_slice(&input.split_to(missing));
                    if packet.len() == PACKET_LEN {
                        if let Some(seed) = self.seed.take() {
                            greet(seed, out);
                        }
                        // C2 and S2 echo the first packet of the peer.
                        out.put_slice(packet);
                        self.state = State::Second { left: PACKET_LEN };
                    }
                }
                State::Second { left } => {
                    // The echo is not compared: peers are known to send something else.
                    let taken = (*left).min(input.len());
                    input.advance(taken);
                    *left -= taken;
                    if *left == 0 {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Bytes held.
    pub(super) fn buffered(&self) -> usize {
        match &self.state {
            State::First(packet) => packet.capacity(),
            State::Version | State::Second { .. } => 0,
        }
    }
}

/// Version and first packet of this side: time 0, version 0, random bytes.
fn greet(seed: u64, out: &mut BytesMut) {
    out.reserve(1 + 2 * PACKET_LEN);
    out.put_u8(VERSION);
    out.put_u64(0);
    let mut state = seed;
    for _ in 0..(PACKET_LEN - 8) / 8 {
        out.put_u64(split_mix_64(&mut state));
    }
}

/// The `SplitMix64` generator: enough for bytes that only have to differ between connections.
fn split_mix_64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_c0_and_c1_and_swallows_c2() {
        let c1: Vec<u8> = (0..PACKET_LEN).map(|at| at.to_le_bytes()[0]).collect();
        let stream = [&[VERSION][..], &c1, &[9; PACKET_LEN], b"rest"].concat();
        for split in 0..stream.len() - 4 {
            let mut handshake = Handshake::server(1);
            let mut out = BytesMut::new();
            let (head, tail) = stream.split_at(split);
            let (mut head, mut tail) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail));
            assert_eq!(handshake.handle_input(&mut head, &mut out), Ok(false));
            assert_eq!(handshake.handle_input(&mut tail, &mut out), Ok(true));
            assert_eq!(tail, "rest");
            assert_eq!(out.len(), 1 + 2 * PACKET_LEN);
            assert_eq!(out[..9], [VERSION, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_ne!(out[9..17], out[17..25]);
            assert_eq!(out[1 + PACKET_LEN..], c1);
        }
    }

    #[test]
    fn clients_begin_and_echo_s1() {
        let mut to_server = BytesMut::new();
        let mut client = Handshake::client(1, &mut to_server);
        assert_eq!(to_server.len(), 1 + PACKET_LEN);
        let mut server = Handshake::server(2);
        let mut to_client = BytesMut::new();
        let mut input = to_server.split().freeze();
        assert_eq!(server.handle_input(&mut input, &mut to_client), Ok(false));
        let s1 = to_client[1..=PACKET_LEN].to_vec();
        for (at, byte) in to_client.iter().enumerate() {
            let mut input = Bytes::copy_from_slice(&[*byte]);
            let is_complete = client.handle_input(&mut input, &mut to_server);
            assert_eq!(is_complete, Ok(at == 2 * PACKET_LEN), "{at}");
        }
        assert_eq!(to_server, s1);
        let mut input = to_server.freeze();
        assert_eq!(server.handle_input(&mut input, &mut to_client), Ok(true));
    }

    #[test]
    fn refuses_other_versions() {
        for version in [0, 2, 6, b'G'] {
            let mut handshake = Handshake::server(1);
            let mut input = Bytes::copy_from_slice(&[version]);
            assert_eq!(
                handshake.handle_input(&mut input, &mut BytesMut::new()),
                Err(version)
            );
        }
    }
}
