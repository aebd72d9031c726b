//! What each message and each command of the peer does.
//!
//! Owns: the reactions of [`Session`] to its peer. Does not own: the answers of the session's owner.

use weir_media::{Kind, container::amf0};

use super::{Cause, Event, PlayRequest, Progress, PublishRequest, Refusal, Session, StreamState};
use crate::rtmp::{
    address::{Address, AddressError, Application},
    chunk::{self, CSID_CONTROL, PLAY_STREAM_ID},
    command::{self, Command},
    message::{
        Aggregate, Message, TYPE_ABORT, TYPE_AGGREGATE, TYPE_AUDIO, TYPE_COMMAND,
        TYPE_COMMAND_AMF3, TYPE_DATA, TYPE_DATA_AMF3, TYPE_SET_CHUNK_SIZE, TYPE_SET_PEER_BANDWIDTH,
        TYPE_USER_CONTROL, TYPE_VIDEO, TYPE_WINDOW_ACK_SIZE, UserControl,
    },
};

/// Set Peer Bandwidth: the peer decides whether the limit is hard or soft (RTMP 5.4.5).
const LIMIT_DYNAMIC: u8 = 2;
/// Status codes of refusals that the session decides itself.
const CODE_INVALID_APP: &str = "NetConnection.Connect.InvalidApp";

impl Session {
    /// Takes one message, or one part of an aggregate, from the input.
    pub(super) fn step(&mut self) -> Result<Progress, Cause> {
        if let Some(handshake) = &mut self.handshake {
            return match handshake.handle_input(&mut self.input, &mut self.output) {
                Ok(true) => {
                    self.handshake = None;
                    Ok(Progress::Made)
                }
                Ok(false) => Ok(Progress::NeedsInput),
                Err(version) => Err(Cause::Version(version)),
            };
        }
        let message = match &mut self.aggregate {
            Some(aggregate) => match aggregate.next_message() {
                Some(message) => message,
                None => {
                    self.aggregate = None;
                    return Ok(Progress::Made);
                }
            },
            None => match self.reader.read(&mut self.input)? {
                Some(message) if message.type_id == TYPE_AGGREGATE => {
                    self.aggregate = Some(Aggregate::new(message));
                    return Ok(Progress::Made);
                }
                Some(message) => message,
                None => return Ok(Progress::NeedsInput),
            },
        };
        Ok(self
            .handle_message(message)?
            .map_or(Progress::Made, Progress::Event))
    }

    fn handle_message(&mut self, message: Message) -> Result<Option<Event>, Cause> {
        let body = &message.payload;
        match message.type_id {
            TYPE_SET_CHUNK_SIZE => self.reader.set_chunk_size(control_value(&message)?)?,
            TYPE_ABORT => self.reader.abort(control_value(&message)?),
            TYPE_WINDOW_ACK_SIZE => self.window_in = control_value(&message)?,
            TYPE_SET_PEER_BANDWIDTH => self.handle_peer_bandwidth(control_value(&message)?),
            TYPE_USER_CONTROL => {
                if let Some(UserControl::PingRequest(time)) = UserControl::decode(body) {
                    self.send_user_control(UserControl::PingResponse(time));
                }
            }
            TYPE_AUDIO => return Ok(self.handle_media(message, Kind::Audio)),
            TYPE_VIDEO => return Ok(self.handle_media(message, Kind::Video)),
            TYPE_DATA => return Ok(self.handle_data(message.stream_id, body)),
            TYPE_DATA_AMF3 => return Ok(self.handle_data(message.stream_id, without_first(body))),
            TYPE_COMMAND => return self.handle_command(message.stream_id, body),
            TYPE_COMMAND_AMF3 => {
                return self.handle_command(message.stream_id, without_first(body));
            }
            // Acknowledgements, shared objects, and what nobody has defined.
            _ => {}
        }
        Ok(None)
    }

    /// RTMP 5.4.5: answered when it differs from the window announced last.
    fn handle_peer_bandwidth(&mut self, window: u32) {
        if window != self.config.window_ack_size {
            self.send_window_ack_size();
        }
    }

    fn handle_media(&mut self, message: Message, kind: Kind) -> Option<Event> {
        let Message {
            timestamp_ms,
            stream_id,
            payload,
            ..
        } = message;
        (!payload.is_empty() && self.is_publishing(stream_id)).then_some(Event::Media {
            stream_id,
            kind,
            timestamp_ms,
            payload,
        })
    }

    /// Metadata is of no use to the protocol, so a broken one costs no publisher.
    fn handle_data(&mut self, stream_id: u32, body: &[u8]) -> Option<Event> {
        if !self.is_publishing(stream_id) {
            return None;
        }
        match amf0::decode_all(body) {
            Ok(mut values) => {
                if values.first().and_then(amf0::Value::as_str) == Some("@setDataFrame") {
                    values.remove(0);
                }
                Some(Event::Metadata { stream_id, values })
            }
            Err(error) => Some(Event::BadMetadata { stream_id, error }),
        }
    }

    fn handle_command(&mut self, stream_id: u32, body: &[u8]) -> Result<Option<Event>, Cause> {
        let command = Command::decode(body)?.ok_or(Cause::CommandName)?;
        if command.name == "connect" {
            return self.handle_connect(&command);
        }
        if self.application.is_none() {
            return Err(Cause::NotConnected);
        }
        match command.name.as_str() {
            "createStream" => self.handle_create_stream(&command),
            "publish" => return Ok(self.handle_publish(stream_id, &command)),
            "play" => return Ok(self.handle_play(stream_id, &command)),
            "closeStream" => return Ok(self.end_role(stream_id)),
            "deleteStream" => return Ok(self.handle_delete_stream(&command)),
            "FCPublish" => {
                self.answer(&command, amf0::Value::Undefined);
                self.notify(
                    "onFCPublish",
                    "NetStream.Publish.Start",
                    "FCPublish received.",
                );
            }
            "FCUnpublish" => {
                self.answer(&command, amf0::Value::Undefined);
                let code = "NetStream.Unpublish.Success";
                self.notify("onFCUnpublish", code, "FCUnpublish received.");
                let published = self.stream_published_as(command.text(0));
                return Ok(published.and_then(|stream_id| self.end_role(stream_id)));
            }
            "FCSubscribe" => {
                self.answer(&command, amf0::Value::Undefined);
                self.notify(
                    "onFCSubscribe",
                    "NetStream.Play.Start",
                    "FCSubscribe received.",
                );
            }
            "releaseStream" | "_checkbw" => self.answer(&command, amf0::Value::Undefined),
            // A live stream has no length.
            "getStreamLength" => self.answer(&command, 0.0.into()),
            // Answers of the peer to what it takes for calls.
            "_result" | "_error" | "onStatus" => {}
            _ => {
                let reason = "This server does not know the command.";
                self.answer_error(&command, "NetConnection.Call.Failed", reason);
            }
        }
        Ok(None)
    }

    fn handle_connect(&mut self, command: &Command) -> Result<Option<Event>, Cause> {
        if self.application.is_some() {
            return Err(Cause::ConnectedTwice);
        }
        let (app, tc_url) = (command.property("app"), command.property("tcUrl"));
        match Application::resolve(app, tc_url, &self.config.apps) {
            Ok(application) => {
                self.application = Some(application);
                self.send_window_ack_size();
                let window = self.config.window_ack_size.to_be_bytes();
                let bandwidth = [&window[..], &[LIMIT_DYNAMIC]].concat();
                self.send(CSID_CONTROL, TYPE_SET_PEER_BANDWIDTH, 0, &bandwidth);
                self.send_chunk_size();
                self.send_command(&command::connect_result(command.transaction));
                Ok(None)
            }
            Err(error) => {
                let reason = error.to_string();
                self.send_command(&command::error(
                    command.transaction,
                    CODE_INVALID_APP,
                    &reason,
                ));
                self.is_closing = true;
                Ok(Some(Event::Refused {
                    code: CODE_INVALID_APP,
                    reason,
                }))
            }
        }
    }

    /// Takes the lowest free id, so that a client with one stream has stream 1.
    fn handle_create_stream(&mut self, command: &Command) {
        let free = self
            .streams
            .iter_mut()
            .zip(1u32..)
            .find(|(state, _)| **state == StreamState::Free);
        match free {
            Some((state, stream_id)) => {
                *state = StreamState::Idle;
                self.answer(command, f64::from(stream_id).into());
            }
            None => {
                let reason = "This connection has too many streams.";
                self.answer_error(command, "NetConnection.Call.Failed", reason);
            }
        }
    }

    fn handle_publish(&mut self, stream_id: u32, command: &Command) -> Option<Event> {
        if self
            .stream_mut(stream_id)
            .is_none_or(|state| *state != StreamState::Idle)
        {
            let reason = "publish needs a stream of its own; call createStream first.";
            return Some(self.refused(
                stream_id,
                Refusal::Failed.publish_code(),
                reason.to_owned(),
            ));
        }
        match self.address(command.text(0)) {
            Ok(address) => {
                if let Some(state) = self.stream_mut(stream_id) {
                    *state = StreamState::PublishRequested(address.name.clone());
                }
                Some(Event::Publish(PublishRequest {
                    stream_id,
                    key: address.key(),
                    bare_key: address.bare_key(),
                    app: address.app,
                    name: address.name,
                    params: address.params,
                }))
            }
            Err(error) => {
                let code = Refusal::BadName.publish_code();
                Some(self.refused(stream_id, code, error.to_string()))
            }
        }
    }

    fn handle_play(&mut self, stream_id: u32, command: &Command) -> Option<Event> {
        if self
            .stream_mut(stream_id)
            .is_none_or(|state| *state != StreamState::Idle)
        {
            let reason = "play needs a stream of its own; call createStream first.";
            return Some(self.refused(stream_id, Refusal::Failed.play_code(), reason.to_owned()));
        }
        if stream_id != PLAY_STREAM_ID {
            let reason = "one connection can play one stream, on the first stream it creates.";
            return Some(self.refused(stream_id, Refusal::Failed.play_code(), reason.to_owned()));
        }
        match self.address(command.text(0)) {
            Ok(address) => {
                if let Some(state) = self.stream_mut(stream_id) {
                    *state = StreamState::PlayRequested;
                }
                Some(Event::Play(PlayRequest {
                    stream_id,
                    app: address.app,
                    name: address.name,
                    params: address.params,
                }))
            }
            Err(error) => {
                let code = Refusal::StreamNotFound.play_code();
                Some(self.refused(stream_id, code, error.to_string()))
            }
        }
    }

    fn handle_delete_stream(&mut self, command: &Command) -> Option<Event> {
        let stream_id = command.stream_id(0)?;
        let ended = self.end_role(stream_id);
        if let Some(state) = self.stream_mut(stream_id) {
            *state = StreamState::Free;
        }
        ended
    }

    /// Ends what the peer does on a message stream; the stream itself stays.
    fn end_role(&mut self, stream_id: u32) -> Option<Event> {
        let state = self.stream_mut(stream_id)?;
        match state {
            StreamState::Publishing(_) => {
                *state = StreamState::Idle;
                let code = "NetStream.Unpublish.Success";
                let body = command::on_status("status", code, "Publishing stopped.");
                self.send_status(stream_id, &body);
                Some(Event::PublishEnded { stream_id })
            }
            StreamState::Playing => {
                *state = StreamState::Idle;
                Some(Event::PlayEnded { stream_id })
            }
            _ => None,
        }
    }

    /// The message stream that FCUnpublish means: it names the stream and arrives on message stream 0.
    fn stream_published_as(&self, name: &str) -> Option<u32> {
        let wanted = self.address(name).ok()?.name;
        self.streams
            .iter()
            .zip(1u32..)
            .find_map(|(state, stream_id)| match state {
                StreamState::Publishing(name) if *name == wanted => Some(stream_id),
                _ => None,
            })
    }

    fn address(&self, name: &str) -> Result<Address, AddressError> {
        let apps = &self.config.apps;
        match &self.application {
            Some(application) => application.address(name, apps),
            None => Err(AddressError::unknown_app(apps)),
        }
    }

    fn refused(&mut self, stream_id: u32, code: &'static str, reason: String) -> Event {
        self.refuse(stream_id, code, &reason);
        Event::Refused { code, reason }
    }

    fn is_publishing(&mut self, stream_id: u32) -> bool {
        matches!(self.stream_mut(stream_id), Some(StreamState::Publishing(_)))
    }

    fn answer(&mut self, command: &Command, value: amf0::Value) {
        if command.transaction != 0.0 {
            self.send_command(&command::result(command.transaction, value));
        }
    }

    fn answer_error(&mut self, command: &Command, code: &str, reason: &str) {
        if command.transaction != 0.0 {
            self.send_command(&command::error(command.transaction, code, reason));
        }
    }

    fn notify(&mut self, name: &str, code: &str, description: &str) {
        self.send_command(&command::notification(name, "status", code, description));
    }

    fn send_window_ack_size(&mut self) {
        let window = self.config.window_ack_size.to_be_bytes();
        self.send(CSID_CONTROL, TYPE_WINDOW_ACK_SIZE, 0, &window);
    }

    /// Announces our chunk size and uses it from the next message on.
    fn send_chunk_size(&mut self) {
        let size = self
            .config
            .chunk_size_out
            .clamp(chunk::CHUNK_SIZE_DEFAULT, chunk::CHUNK_SIZE_MAX);
        let field = u32::try_from(size).unwrap_or(u32::MAX >> 8);
        self.send(CSID_CONTROL, TYPE_SET_CHUNK_SIZE, 0, &field.to_be_bytes());
        self.chunk_size_out = size;
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

/// AMF3 messages begin with a format selector and go on in AMF0.
fn without_first(body: &[u8]) -> &[u8] {
    body.get(1..).unwrap_or_default()
}
