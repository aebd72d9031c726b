//! For tests: conversations as bytes, and what one end said as lines to compare with.

use bytes::{Bytes, BytesMut};
use weir_media::container::amf0::{self, Value};

use super::{
    chunk::{self, CSID_COMMAND, CSID_CONTROL},
    message::{Message, TYPE_COMMAND, TYPE_DATA, TYPE_SET_CHUNK_SIZE},
};

/// Version byte and both packets.
const HANDSHAKE_LEN: usize = 1 + 2 * 1536;

/// Reads what one end says.
pub(super) struct Transcript {
    reader: chunk::Reader,
    handshake_left: usize,
}

impl Default for Transcript {
    fn default() -> Self {
        Self::after(0)
    }
}

impl Transcript {
    /// From where `handshake_len` bytes of the handshake have been said.
    pub(super) fn after(handshake_len: usize) -> Self {
        Self {
            reader: chunk::Reader::new(chunk::Limits::default()),
            handshake_left: HANDSHAKE_LEN - handshake_len,
        }
    }

    pub(super) fn messages(&mut self, mut bytes: Bytes) -> Vec<Message> {
        let skipped = self.handshake_left.min(bytes.len());
        self.handshake_left -= skipped;
        let _ = bytes.split_to(skipped);
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut bytes).unwrap() {
            if message.type_id == TYPE_SET_CHUNK_SIZE {
                let size = u32::from_be_bytes(*message.payload.first_chunk().unwrap());
                self.reader.set_chunk_size(size).unwrap();
            }
            messages.push(message);
        }
        messages
    }

    /// One line a message: commands as `stream name transaction outcome`, where the outcome is the code or the last
    /// argument; others as type and bytes.
    pub(super) fn lines(&mut self, bytes: Bytes) -> Vec<String> {
        self.messages(bytes).iter().map(line).collect()
    }
}

pub(super) fn line(message: &Message) -> String {
    let Message {
        type_id,
        stream_id,
        payload,
        ..
    } = message;
    if *type_id != TYPE_COMMAND && *type_id != TYPE_DATA {
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        return format!("type {type_id} {hex}");
    }
    let values = amf0::decode_all(payload).unwrap();
    let name = values[0].as_str().unwrap();
    if *type_id == TYPE_DATA {
        return format!("{stream_id} {name}");
    }
    let transaction = values[1].as_number().unwrap();
    let last = values.last().unwrap();
    let outcome = match last.get("code") {
        Some(code) => {
            assert!(
                !last
                    .get("description")
                    .unwrap()
                    .as_str()
                    .unwrap()
                    .is_empty()
            );
            code.as_str().unwrap().to_owned()
        }
        None => match last {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => String::new(),
        },
    };
    format!("{stream_id} {name} {transaction} {outcome}")
        .trim_end()
        .to_owned()
}

pub(super) fn handshake() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend((0..1536u32 * 2).map(|at| at.to_le_bytes()[0]));
    bytes
}

pub(super) fn message(type_id: u8, stream_id: u32, timestamp_ms: u32, body: &[u8]) -> Vec<u8> {
    let csid = if type_id < 8 {
        CSID_CONTROL
    } else {
        CSID_COMMAND
    };
    let mut out = BytesMut::new();
    chunk::write_message(
        &mut out,
        csid,
        timestamp_ms,
        type_id,
        stream_id,
        &[body],
        128,
    );
    out.to_vec()
}

pub(super) fn amf(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values
        .iter()
        .for_each(|value| amf0::encode(value, &mut out));
    out
}
