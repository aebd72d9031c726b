//! What each message and each command of the peer does.
//!
//! Owns: the reactions of [`Session`] to its peer. Does not own: the answers of the session's owner.

use weir_media::{Kind, container::amf0};

use super::{Event, PlayRequest, PublishRequest, Refusal, Session, StreamState};
use crate::rtmp::{
    Cause,
    address::{Address, AddressError, Application},
    chunk::{CSID_CONTROL, PLAY_STREAM_ID},
    command::{self, Command},
    message::{
        self, Message, TYPE_AUDIO, TYPE_COMMAND, TYPE_COMMAND_AMF3, TYPE_DATA, TYPE_DATA_AMF3,
        TYPE_SET_PEER_BANDWIDTH, TYPE_VIDEO,
    },
};

/// Set Peer Bandwidth: the peer decides whether the limit is hard or soft (RTMP 5.4.5).
const LIMIT_DYNAMIC: u8 = 2;
/// Status codes of refusals that the session decides itself.
const CODE_INVALID_APP: &str = "NetConnection.Connect.InvalidApp";

impl Session {
    pub(super) fn handle_message(&mut self, message: Message) -> Result<Option<Event>, Cause> {
        let body = &message.payload;
        match message.type_id {
            TYPE_AUDIO => return Ok(self.handle_media(message, Kind::Audio)),
            TYPE_VIDEO => return Ok(self.handle_media(message, Kind::Video)),
            TYPE_DATA => return Ok(self.handle_data(message.stream_id, body)),
            TYPE_DATA_AMF3 => {
                return Ok(self.handle_data(message.stream_id, message::without_format(body)));
            }
            TYPE_COMMAND => return self.handle_command(message.stream_id, body),
            TYPE_COMMAND_AMF3 => {
                return self.handle_command(message.stream_id, message::without_format(body));
            }
            // Acknowledgements, user control, shared objects, and what nobody has defined.
            _ => {}
        }
        Ok(None)
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
        match command::decode_data(body) {
            Ok(values) => Some(Event::Metadata { stream_id, values }),
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
                self.link.answer(&command, amf0::Value::Undefined);
                self.notify(
                    "onFCPublish",
                    "NetStream.Publish.Start",
                    "FCPublish received.",
                );
            }
            "FCUnpublish" => {
                self.link.answer(&command, amf0::Value::Undefined);
                let code = "NetStream.Unpublish.Success";
                self.notify("onFCUnpublish", code, "FCUnpublish received.");
                let published = self.stream_published_as(command.text(0));
                return Ok(published.and_then(|stream_id| self.end_role(stream_id)));
            }
            "FCSubscribe" => {
                self.link.answer(&command, amf0::Value::Undefined);
                self.notify(
                    "onFCSubscribe",
                    "NetStream.Play.Start",
                    "FCSubscribe received.",
                );
            }
            "releaseStream" | "_checkbw" => self.link.answer(&command, amf0::Value::Undefined),
            // A live stream has no length.
            "getStreamLength" => self.link.answer(&command, 0.0.into()),
            // Answers of the peer to what it takes for calls.
            "_result" | "_error" | "onStatus" => {}
            _ => {
                let reason = "This server does not know the command.";
                self.link
                    .answer_error(&command, "NetConnection.Call.Failed", reason);
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
                self.link.connected();
                self.link.send_window_ack_size();
                let window = self.config.window_ack_size.to_be_bytes();
                let bandwidth = [&window[..], &[LIMIT_DYNAMIC]].concat();
                self.link
                    .send(CSID_CONTROL, TYPE_SET_PEER_BANDWIDTH, 0, &bandwidth);
                self.link.send_chunk_size(self.config.chunk_size_out);
                self.link
                    .send_command(&command::connect_result(command.transaction));
                Ok(None)
            }
            Err(error) => {
                let reason = error.to_string();
                self.link.send_command(&command::error(
                    command.transaction,
                    CODE_INVALID_APP,
                    &reason,
                ));
                self.link.close();
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
                self.link.answer(command, f64::from(stream_id).into());
            }
            None => {
                let reason = "This connection has too many streams.";
                self.link
                    .answer_error(command, "NetConnection.Call.Failed", reason);
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
                self.link.send_status(stream_id, &body);
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

    fn notify(&mut self, name: &str, code: &str, description: &str) {
        self.link
            .send_command(&command::notification(name, "status", code, description));
    }
}
