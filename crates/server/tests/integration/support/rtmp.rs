//! An RTMP client that does what it is told, right or wrong: any timestamp, any message, any bytes.
//!
//! Owns: the client's side of handshake, commands and chunks, and H.264 frames that carry a number, so that a test can
//! count them at the other end. Does not own: judging the answers.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use bytes::{Bytes, BytesMut};
use weir_media::container::{
    amf0::{self, Value},
    flv,
};
use weir_proto::rtmp::{
    chunk::{self, CHUNK_SIZE_DEFAULT, CSID_COMMAND, CSID_CONTROL, CSID_DATA, CSID_VIDEO},
    message::{Message, TYPE_COMMAND, TYPE_DATA, TYPE_SET_CHUNK_SIZE, TYPE_VIDEO},
};

use super::PATIENCE;

/// Length of C1, C2, S1 and S2 (RTMP 5.2).
const HANDSHAKE_LEN: usize = 1_536;
/// The chunk size that this client sends with once it has announced it.
const CHUNK_SIZE: usize = 60_000;
/// Bytes of a video body before the number of a frame: FLV header, NAL length, NAL header.
const NUMBER_AT: usize = 5 + 4 + 1;
/// The configuration of an encoder: H.264 high profile, 1920×1080.
const AVCC: &str =
    "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000468ef8fcbfdf8f800";

/// What the server said to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: String,
    pub(crate) description: String,
}

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    reader: chunk::Reader,
    input: Bytes,
    chunk_size: usize,
    transactions: u32,
}

impl Client {
    /// Connects and shakes hands.
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        Self::with(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// Shakes hands on a socket.
    pub(crate) fn with(mut socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(&[[3].as_slice(), &[0; HANDSHAKE_LEN]].concat())?;
        let mut answer = vec![0; 1 + 2 * HANDSHAKE_LEN];
        socket.read_exact(&mut answer)?;
        socket.write_all(&answer[1..=HANDSHAKE_LEN])?;
        Ok(Self {
            socket,
            reader: chunk::Reader::new(chunk::Limits::default()),
            input: Bytes::new(),
            chunk_size: CHUNK_SIZE_DEFAULT,
            transactions: 0,
        })
    }

    /// Connects to the application `live` and publishes on a new message stream.
    pub(crate) fn publish(addr: SocketAddr, name: &str) -> io::Result<Self> {
        let mut client = Self::open(addr)?;
        client.connect("live")?;
        let stream_id = client.create_stream()?;
        let status = client.request_publish(stream_id, name)?;
        assert_eq!(status.code, "NetStream.Publish.Start", "{status:?}");
        client.set_chunk_size()?;
        Ok(client)
    }

    /// Connects to the application `live` and plays.
    pub(crate) fn play(socket: TcpStream, name: &str) -> io::Result<Self> {
        let mut client = Self::with(socket)?;
        client.connect("live")?;
        let stream_id = client.create_stream()?;
        let status = client.request_play(stream_id, name)?;
        assert_eq!(status.code, "NetStream.Play.Start", "{status:?}");
        Ok(client)
    }

    /// The `connect` command; returns the status that answers it.
    pub(crate) fn connect(&mut self, app: &str) -> io::Result<Status> {
        let description = Value::object([
            ("app", app.into()),
            ("tcUrl", format!("rtmp://127.0.0.1/{app}").into()),
        ]);
        self.command(0, "connect", &[description])?;
        loop {
            let answer = self.answer()?;
            if matches!(answer[0].as_str(), Some("_result" | "_error")) {
                return Ok(status(&answer));
            }
        }
    }

    /// The `createStream` command; returns the message stream.
    pub(crate) fn create_stream(&mut self) -> io::Result<u32> {
        self.command(0, "createStream", &[Value::Null])?;
        loop {
            let answer = self.answer()?;
            let is_ours = answer[1].as_number() == Some(f64::from(self.transactions));
            if is_ours && answer[0].as_str() == Some("_result") {
                let id = answer[3].as_number().expect("a message stream id");
                return Ok(id as u32);
            }
        }
    }

    pub(crate) fn request_publish(&mut self, stream_id: u32, name: &str) -> io::Result<Status> {
        let arguments = [Value::Null, name.into(), "live".into()];
        self.command(stream_id, "publish", &arguments)?;
        self.status()
    }

    /// Answers with `NetStream.Play.Start` or what comes in its place.
    pub(crate) fn request_play(&mut self, stream_id: u32, name: &str) -> io::Result<Status> {
        self.command(stream_id, "play", &[Value::Null, name.into()])?;
        loop {
            let status = self.status()?;
            if status.code != "NetStream.Play.Reset" {
                return Ok(status);
            }
        }
    }

    /// Sends a command: its name, a new transaction id, and `arguments`.
    pub(crate) fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        arguments: &[Value],
    ) -> io::Result<()> {
        self.transactions += 1;
        let mut body = BytesMut::new();
        amf0::encode(&name.into(), &mut body);
        amf0::encode(&f64::from(self.transactions).into(), &mut body);
        for argument in arguments {
            amf0::encode(argument, &mut body);
        }
        self.message(CSID_COMMAND, 0, TYPE_COMMAND, stream_id, &body)
    }

    /// Announces a chunk size that suits video, and uses it from then on.
    pub(crate) fn set_chunk_size(&mut self) -> io::Result<()> {
        let size = u32::try_from(CHUNK_SIZE).expect("it is small");
        self.message(CSID_CONTROL, 0, TYPE_SET_CHUNK_SIZE, 0, &size.to_be_bytes())?;
        self.chunk_size = CHUNK_SIZE;
        Ok(())
    }

    /// What is said of numbered frames before the first: that there is video and nothing else, and its sequence header.
    pub(crate) fn video_config(&mut self, stream_id: u32) -> io::Result<()> {
        let mut metadata = BytesMut::new();
        amf0::encode(&"@setDataFrame".into(), &mut metadata);
        amf0::encode(&"onMetaData".into(), &mut metadata);
        amf0::encode(
            &Value::object([("videocodecid", 7.0.into())]),
            &mut metadata,
        );
        self.message(CSID_DATA, 0, TYPE_DATA, stream_id, &metadata)?;
        let record = (0..AVCC.len()).step_by(2);
        let record =
            record.map(|at| u8::from_str_radix(&AVCC[at..at + 2], 16).expect("hexadecimal"));
        let body: Vec<u8> = [0x17, 0, 0, 0, 0].into_iter().chain(record).collect();
        self.message(CSID_VIDEO, 0, TYPE_VIDEO, stream_id, &body)
    }

    /// A frame with a number, `len` bytes long; an IDR picture when `sync`.
    pub(crate) fn video_frame(
        &mut self,
        stream_id: u32,
        timestamp_ms: u32,
        sync: bool,
        number: u32,
        len: usize,
    ) -> io::Result<()> {
        let (flv_header, nal_header) = if sync { (0x17, 0x65) } else { (0x27, 0x41) };
        let nal_len = u32::try_from(len + 5).expect("a frame is small");
        let mut body = vec![flv_header, 1, 0, 0, 0];
        body.extend(nal_len.to_be_bytes());
        body.push(nal_header);
        body.extend(number.to_be_bytes());
        body.resize(body.len() + len, 0xAA);
        self.message(CSID_VIDEO, timestamp_ms, TYPE_VIDEO, stream_id, &body)
    }

    pub(crate) fn message(
        &mut self,
        csid: u32,
        timestamp_ms: u32,
        type_id: u8,
        stream_id: u32,
        body: &[u8],
    ) -> io::Result<()> {
        let mut out = BytesMut::new();
        chunk::write_message(
            &mut out,
            csid,
            timestamp_ms,
            type_id,
            stream_id,
            &[body],
            self.chunk_size,
        );
        self.raw(&out)
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The next message of the server; `None` at its end of the connection, however it came.
    pub(crate) fn next_message(&mut self) -> io::Result<Option<Message>> {
        loop {
            let read = self
                .reader
                .read(&mut self.input)
                .map_err(io::Error::other)?;
            if let Some(message) = read {
                if message.type_id == TYPE_SET_CHUNK_SIZE {
                    let size = message
                        .payload
                        .as_ref()
                        .try_into()
                        .map_err(io::Error::other)?;
                    let size = u32::from_be_bytes(size);
                    self.reader.set_chunk_size(size).map_err(io::Error::other)?;
                }
                return Ok(Some(message));
            }
            let mut buffer = BytesMut::zeroed(64 << 10);
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(len) => self.input = buffer.split_to(len).freeze(),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads until the server closes; the last status it sent, if it sent one.
    pub(crate) fn until_closed(&mut self) -> io::Result<Option<Status>> {
        let mut last = None;
        while let Some(message) = self.next_message()? {
            if message.type_id == TYPE_COMMAND {
                let values = amf0::decode_all(&message.payload).map_err(io::Error::other)?;
                if values.get(3).is_some_and(|info| info.get("code").is_some()) {
                    last = Some(status(&values));
                }
            }
        }
        Ok(last)
    }

    /// The number of the next video frame of a stream that is played.
    pub(crate) fn next_number(&mut self) -> io::Result<Option<u32>> {
        while let Some(message) = self.next_message()? {
            if message.type_id == TYPE_VIDEO
                && let Some(number) = frame_number(&message.payload)
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    fn status(&mut self) -> io::Result<Status> {
        loop {
            let answer = self.answer()?;
            if answer[0].as_str() == Some("onStatus") {
                return Ok(status(&answer));
            }
        }
    }

    /// The next command of the server: name, transaction, object, and at least one more value.
    fn answer(&mut self) -> io::Result<Vec<Value>> {
        while let Some(message) = self.next_message()? {
            if message.type_id == TYPE_COMMAND {
                let mut values = amf0::decode_all(&message.payload).map_err(io::Error::other)?;
                values.resize(values.len().max(4), Value::Undefined);
                return Ok(values);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn status(answer: &[Value]) -> Status {
    let text = |name| answer[3].get(name).and_then(Value::as_str);
    Status {
        code: text("code").unwrap_or_default().to_owned(),
        description: text("description").unwrap_or_default().to_owned(),
    }
}

/// The number in a video body; `None` for a sequence header.
fn frame_number(body: &[u8]) -> Option<u32> {
    if body.get(1) != Some(&1) {
        return None;
    }
    let number = body.get(NUMBER_AT..NUMBER_AT + 4)?;
    Some(u32::from_be_bytes(number.try_into().expect("four bytes")))
}

/// Reads the numbers of frames out of an FLV stream.
#[derive(Default)]
pub(crate) struct FlvNumbers(flv::Reader);

impl FlvNumbers {
    /// The numbers of the frames that end in `bytes`.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<u32> {
        self.0.push(Bytes::copy_from_slice(bytes));
        let mut numbers = Vec::new();
        while let Some(tag) = self.0.next().expect("it is FLV") {
            if tag.kind == flv::TagKind::Video {
                numbers.extend(frame_number(&tag.body));
            }
        }
        numbers
    }
}
