//! One end of a connection below its commands: what client and server do alike.
//!
//! Owns: the handshake, input and output that wait, chunk sizes, aggregates, acknowledgements, pings, how calls of the
//! peer are answered.
//! Does not own: commands and media; [`Link::next_message`] hands those up.
//! Specification: RTMP 5.

use bytes::{Bytes, BytesMut};
use weir_media::container::amf0;

use super::{
    Cause, Error,
    chunk::{self, CHUNK_SIZE_DEFAULT, CSID_COMMAND, CSID_CONTROL, CSID_DATA},
    command::{self, Command},
    handshake::Handshake,
    message::{
        Aggregate, Message, TYPE_ABORT, TYPE_ACKNOWLEDGEMENT, TYPE_AGGREGATE, TYPE_COMMAND,
        TYPE_SET_CHUNK_SIZE, TYPE_SET_PEER_BANDWIDTH, TYPE_USER_CONTROL, TYPE_WINDOW_ACK_SIZE,
        UserControl,
    },
};

/// How often the peer is pinged.
const PING_INTERVAL_MS: u64 = 30_000;
/// How long the peer may be silent after a ping.
const PONG_TIMEOUT_MS: u64 = 15_000;
/// Bytes between acknowledgements, both ways, until the peer says otherwise: what Flash Media Server uses.
pub(super) const WINDOW_ACK_SIZE: u32 = 2_500_000;

/// One end of a connection. Memory is bounded by what one call hands in and by the limits of [`chunk::Reader`].
pub(super) struct Link {
    /// `None` once it is complete.
    handshake: Option<Handshake>,
    reader: chunk::Reader,
    input: Bytes,
    output: BytesMut,
    /// Bytes handed in, and how many of them the peer has been told of.
    pub(super) received: u64,
    pub(super) acknowledged: u64,
    window_in: u32,
    window_out: u32,
    chunk_size_out: usize,
    aggregate: Option<Aggregate>,
    /// Whether `connect` succeeded: nobody acknowledges or pings before.
    is_connected: bool,
    is_closing: bool,
    next_ping_ms: u64,
    pong_deadline_ms: Option<u64>,
}

impl Link {
    /// The end of a server; see [`super::Session::new`].
    pub(super) fn server(seed: u64, limits: chunk::Limits, window_out: u32, now_ms: u64) -> Self {
        Self::new(Handshake::server(seed), limits, window_out, now_ms)
    }

    /// The end of a client, which begins.
    pub(super) fn client(seed: u64, limits: chunk::Limits, now_ms: u64) -> Self {
        let mut output = BytesMut::new();
        let handshake = Handshake::client(seed, &mut output);
        Self {
            output,
            ..Self::new(handshake, limits, WINDOW_ACK_SIZE, now_ms)
        }
    }

    fn new(handshake: Handshake, limits: chunk::Limits, window_out: u32, now_ms: u64) -> Self {
        Self {
            handshake: Some(handshake),
            reader: chunk::Reader::new(limits),
            input: Bytes::new(),
            output: BytesMut::new(),
            received: 0,
            acknowledged: 0,
            window_in: WINDOW_ACK_SIZE,
            window_out,
            chunk_size_out: CHUNK_SIZE_DEFAULT,
            aggregate: None,
            is_connected: false,
            is_closing: false,
            next_ping_ms: now_ms.saturating_add(PING_INTERVAL_MS),
            pong_deadline_ms: None,
        }
    }

    /// Hands in bytes of the peer, cut anywhere. If earlier input has not been used up, both are joined, which copies.
    pub(super) fn handle_input(&mut self, input: Bytes) {
        self.received = self.received.saturating_add(len_u64(input.len()));
        self.pong_deadline_ms = None;
        self.input = if self.input.is_empty() {
            input
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len().saturating_add(input.len()));
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&input);
            joined.freeze()
        };
        self.acknowledge();
    }

    /// The next message that is not about the connection itself; `None`: more input is needed.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Error> {
        self.try_next_message().map_err(|cause| self.fail(cause))
    }

    /// All bytes to send so far, in one piece.
    pub(super) fn poll_output(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// Sends a ping when one is due; fails when the last one was not answered. Any input counts as an answer.
    pub(super) fn handle_timeout(&mut self, now_ms: u64) -> Result<(), Error> {
        if self
            .pong_deadline_ms
            .is_some_and(|deadline| now_ms >= deadline)
        {
            return Err(self.fail(Cause::PingTimeout));
        }
        if now_ms >= self.next_ping_ms {
            self.next_ping_ms = now_ms.saturating_add(PING_INTERVAL_MS);
            if self.is_connected && !self.is_closing {
                self.pong_deadline_ms = Some(now_ms.saturating_add(PONG_TIMEOUT_MS));
                // The field is a 32-bit clock that the peer echoes.
                let time = u32::try_from(now_ms & u64::from(u32::MAX)).unwrap_or(u32::MAX);
                self.send_user_control(UserControl::PingRequest(time));
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn next_timeout_ms(&self) -> u64 {
        self.pong_deadline_ms
            .map_or(self.next_ping_ms, |pong| pong.min(self.next_ping_ms))
    }

    /// Whether messages may be sent.
    pub(super) fn is_handshake_complete(&self) -> bool {
        self.handshake.is_none()
    }

    /// Notes that `connect` succeeded.
    pub(super) fn connected(&mut self) {
        self.is_connected = true;
    }

    /// Nothing more is wanted of the peer; output that waits is still written.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether [`Self::close`] or [`Self::fail`] was called.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Closes over a fault of the peer.
    pub(super) fn fail(&mut self, cause: Cause) -> Error {
        self.is_closing = true;
        Error {
            offset: self.received.saturating_sub(len_u64(self.input.len())),
            cause,
        }
    }

    /// Bytes held for the peer: input that waits, unfinished messages, output that waits.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.handshake.as_ref().map_or(0, Handshake::buffered)
            + self.input.len()
            + self.reader.buffered()
            + self.aggregate.as_ref().map_or(0, Aggregate::buffered)
            + self.output.capacity()
    }

    /// Announces `size`, kept to what is allowed, and uses it from the next message on.
    pub(super) fn send_chunk_size(&mut self, size: usize) {
        let size = size.clamp(CHUNK_SIZE_DEFAULT, chunk::CHUNK_SIZE_MAX);
        let field = u32::try_from(size).unwrap_or(u32::MAX >> 8);
        self.send(CSID_CONTROL, TYPE_SET_CHUNK_SIZE, 0, &field.to_be_bytes());
        self.chunk_size_out = size;
    }

    /// Announces the window in which acknowledgements are wanted.
    pub(super) fn send_window_ack_size(&mut self) {
        let window = self.window_out.to_be_bytes();
        self.send(CSID_CONTROL, TYPE_WINDOW_ACK_SIZE, 0, &window);
    }

    /// `_result` for a call of the peer, if it wants an answer.
    pub(super) fn answer(&mut self, command: &Command, value: amf0::Value) {
        if command.transaction != 0.0 {
            self.send_command(&command::result(command.transaction, value));
        }
    }

    /// `_error` for a call of the peer, if it wants an answer.
    pub(super) fn answer_error(&mut self, command: &Command, code: &str, reason: &str) {
        if command.transaction != 0.0 {
            self.send_command(&command::error(command.transaction, code, reason));
        }
    }

    /// Sends `onStatus` on a message stream.
    pub(super) fn send_status(&mut self, stream_id: u32, body: &[u8]) {
        self.send(CSID_DATA, TYPE_COMMAND, stream_id, body);
    }

    /// Sends a command of the connection itself.
    pub(super) fn send_command(&mut self, body: &[u8]) {
        self.send(CSID_COMMAND, TYPE_COMMAND, 0, body);
    }

    /// Sends a user control event.
    pub(super) fn send_user_control(&mut self, event: UserControl) {
        self.send(CSID_CONTROL, TYPE_USER_CONTROL, 0, &event.encode());
    }

    /// Sends a message at time 0.
    pub(super) fn send(&mut self, csid: u32, type_id: u8, stream_id: u32, body: &[u8]) {
        self.send_at(0, csid, type_id, stream_id, &[body]);
    }

    /// Sends a message whose body is the parts of `body` in turn.
    pub(super) fn send_at(
        &mut self,
        timestamp_ms: u32,
        csid: u32,
        type_id: u8,
        stream_id: u32,
        body: &[&[u8]],
    ) {
        let chunk_size = self.chunk_size_out;
        chunk::write_message(
            &mut self.output,
            csid,
            timestamp_ms,
            type_id,
            stream_id,
            body,
            chunk_size,
        );
    }

    fn try_next_message(&mut self) -> Result<Option<Message>, Cause> {
        if let Some(handshake) = &mut self.handshake {
            match handshake.handle_input(&mut self.input, &mut self.output) {
                Ok(true) => self.handshake = None,
                Ok(false) => return Ok(None),
                Err(version) => return Err(Cause::Version(version)),
            }
        }
        while let Some(message) = self.read_message()? {
            if !self.handle_control(&message)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn read_message(&mut self) -> Result<Option<Message>, Cause> {
        loop {
            if let Some(aggregate) = &mut self.aggregate {
                match aggregate.next_message() {
                    Some(message) => return Ok(Some(message)),
                    None => self.aggregate = None,
                }
            }
            match self.reader.read(&mut self.input)? {
                Some(message) if message.type_id == TYPE_AGGREGATE => {
                    self.aggregate = Some(Aggregate::new(message));
                }
                other => return Ok(other),
            }
        }
    }

    /// Whether the message was about the connection itself and needs no more attention.
    fn handle_control(&mut self, message: &Message) -> Result<bool, Cause> {
        match message.type_id {
            TYPE_SET_CHUNK_SIZE => self.reader.set_chunk_size(control_value(message)?)?,
            TYPE_ABORT => self.reader.abort(control_value(message)?),
            TYPE_WINDOW_ACK_SIZE => self.window_in = control_value(message)?,
            // RTMP 5.4.5: answered when it differs from the window announced last.
            TYPE_SET_PEER_BANDWIDTH => {
                if control_value(message)? != self.window_out {
                    self.send_window_ack_size();
                }
            }
            TYPE_USER_CONTROL => match UserControl::decode(&message.payload) {
                Some(UserControl::PingRequest(time)) => {
                    self.send_user_control(UserControl::PingResponse(time));
                }
                _ => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Acknowledges what was received once it is a window full. The sequence number wraps at 2^32 (RTMP 5.4.3).
    fn acknowledge(&mut self) {
        let window = u64::from(self.window_in);
        if self.is_connected
            && window > 0
            && self.received.saturating_sub(self.acknowledged) >= window
        {
            self.acknowledged = self.received;
            let sequence = u32::try_from(self.received & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            self.send(
                CSID_CONTROL,
                TYPE_ACKNOWLEDGEMENT,
                0,
                &sequence.to_be_bytes(),
            );
        }
    }
}

/// The 32-bit value that protocol control messages begin with.
fn control_value(message: &Message) -> Result<u32, Cause> {
    let value = message
        .payload
        .first_chunk()
        .ok_or(Cause::Control(message.type_id))?;
    Ok(u32::from_be_bytes(*value))
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
