//! What each message and each command of the server does.
//!
//! Owns: the reactions of [`Client`] to its server. Does not own: what the client does of itself.

use weir_media::{Kind, container::amf0::Value};

use super::{
    Client, EndReason, Event, Role, State, TRANSACTION_CONNECT, TRANSACTION_CREATE_STREAM,
    TRANSACTION_ROLE,
};
use crate::rtmp::{
    Cause,
    command::{self, Command},
    message::{
        self, Message, TYPE_AUDIO, TYPE_COMMAND, TYPE_COMMAND_AMF3, TYPE_DATA, TYPE_DATA_AMF3,
        TYPE_USER_CONTROL, TYPE_VIDEO, UserControl,
    },
};

/// Longest status code kept, in characters: the longest that servers have is below 50.
const CODE_LEN_MAX: usize = 64;
/// Longest description kept, in characters: a line of a log.
const DESCRIPTION_LEN_MAX: usize = 200;

/// Codes that mean a refusal even where the server leaves out the level.
const CODES_REFUSED: [&str; 14] = [
    "NetConnection.Call.Failed",
    "NetConnection.Connect.AppShutdown",
    "NetConnection.Connect.Closed",
    "NetConnection.Connect.Failed",
    "NetConnection.Connect.InvalidApp",
    "NetConnection.Connect.Rejected",
    "NetStream.Authenticate.UsherToken.Failed",
    "NetStream.Failed",
    "NetStream.Play.Failed",
    "NetStream.Play.StreamNotFound",
    "NetStream.Publish.BadConnection",
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Publish.Rejected",
];

impl Client {
    pub(super) fn handle_message(&mut self, message: Message) -> Result<Option<Event>, Cause> {
        let body = &message.payload;
        match message.type_id {
            TYPE_USER_CONTROL => Ok(self.handle_user_control(body)),
            TYPE_AUDIO => Ok(self.handle_media(message, Kind::Audio)),
            TYPE_VIDEO => Ok(self.handle_media(message, Kind::Video)),
            TYPE_DATA => Ok(self.handle_data(body)),
            TYPE_DATA_AMF3 => Ok(self.handle_data(message::without_format(body))),
            TYPE_COMMAND => self.handle_command(body),
            TYPE_COMMAND_AMF3 => self.handle_command(message::without_format(body)),
            // Acknowledgements, shared objects, and what nobody has defined.
            _ => Ok(None),
        }
    }

    fn handle_user_control(&mut self, body: &[u8]) -> Option<Event> {
        match UserControl::decode(body) {
            // A leftover of another stream id, or of none, is not about us.
            Some(UserControl::StreamEof(id)) if Some(id) == self.stream_id() => {
                Some(self.ended(EndReason::StreamEof))
            }
            _ => None,
        }
    }

    fn handle_media(&mut self, message: Message, kind: Kind) -> Option<Event> {
        (!message.payload.is_empty() && self.receives()).then_some(Event::Media {
            kind,
            timestamp_ms: message.timestamp_ms,
            payload: message.payload,
        })
    }

    /// Metadata is of no use to the protocol, so a broken one costs no stream.
    fn handle_data(&mut self, body: &[u8]) -> Option<Event> {
        let event = match command::decode_data(body) {
            Ok(values) => match values.first().and_then(Value::as_str) {
                // Signals to Flash players, sent before the status too.
                Some("|RtmpSampleAccess" | "onStatus") => return None,
                _ => Event::Metadata { values },
            },
            Err(error) => Event::BadMetadata { error },
        };
        self.receives().then_some(event)
    }

    /// Whether media is expected. The first of it stands for the status that the server left out.
    fn receives(&mut self) -> bool {
        if self.config.role == Role::Play
            && let State::Requested(stream_id) = self.state
        {
            self.state = State::Active(stream_id);
        }
        self.config.role == Role::Play && self.has_role()
    }

    fn handle_command(&mut self, body: &[u8]) -> Result<Option<Event>, Cause> {
        let command = Command::decode(body)?.ok_or(Cause::CommandName)?;
        match command.name.as_str() {
            "_result" => return self.handle_result(&command),
            "_error" => return Ok(self.handle_error(&command)),
            "onStatus" => return Ok(self.handle_status(&command)),
            // Some refuse here. That they grant is said again, by the status of the stream.
            "onFCPublish" | "onFCSubscribe" => return Ok(self.handle_refusal(&command)),
            "close" => return Ok(Some(self.ended(EndReason::Closed))),
            // Measures bandwidth; the time that the answer takes is what counts.
            "_onbwcheck" | "onBWCheck" => self.link.answer(&command, Value::Undefined),
            "onBWDone" | "_onbwdone" | "onFCUnpublish" => {}
            _ => {
                let reason = "This client does not know the command.";
                self.link
                    .answer_error(&command, "NetConnection.Call.Failed", reason);
            }
        }
        Ok(None)
    }

    fn handle_result(&mut self, command: &Command) -> Result<Option<Event>, Cause> {
        match self.state {
            State::Connecting if command.transaction == TRANSACTION_CONNECT => {
                let refusal = self.handle_refusal(command);
                if refusal.is_none() {
                    self.create_stream();
                }
                Ok(refusal)
            }
            State::Creating if command.transaction == TRANSACTION_CREATE_STREAM => {
                let id = command.stream_id(0).filter(|&id| id > 0);
                self.request(id.ok_or(Cause::StreamId)?);
                Ok(None)
            }
            // Answers that nothing depends on.
            _ => Ok(None),
        }
    }

    /// Servers refuse `releaseStream` and `FCPublish` as a matter of course, so those do not count.
    fn handle_error(&mut self, command: &Command) -> Option<Event> {
        [
            TRANSACTION_CONNECT,
            TRANSACTION_CREATE_STREAM,
            TRANSACTION_ROLE,
        ]
        .contains(&command.transaction)
        .then(|| self.refused(command))
    }

    fn handle_status(&mut self, command: &Command) -> Option<Event> {
        let refusal = self.handle_refusal(command);
        // Nothing can begin or end before there is a stream.
        if refusal.is_some() || self.stream_id().is_none() {
            return refusal;
        }
        match (self.config.role, info_text(command, "code")) {
            (Role::Play, "NetStream.Play.Start") => self.granted(Event::Playing),
            (Role::Publish, "NetStream.Publish.Start") => self.granted(Event::Publishing),
            (Role::Play, "NetStream.Play.UnpublishNotify")
            | (Role::Publish, "NetStream.Unpublish.Success") => {
                Some(self.ended(EndReason::Unpublished))
            }
            (Role::Play, "NetStream.Play.Complete") => Some(self.ended(EndReason::Complete)),
            (Role::Play, "NetStream.Play.Stop") => Some(self.ended(EndReason::Stopped)),
            _ => None,
        }
    }

    /// The refusal that a status is, by level or by code.
    fn handle_refusal(&mut self, command: &Command) -> Option<Event> {
        let is_refusal = info_text(command, "level") == "error"
            || CODES_REFUSED.contains(&info_text(command, "code"));
        is_refusal.then(|| self.refused(command))
    }

    fn granted(&mut self, event: Event) -> Option<Event> {
        let State::Requested(stream_id) = self.state else {
            return None;
        };
        self.state = State::Active(stream_id);
        Some(event)
    }

    fn ended(&mut self, reason: EndReason) -> Event {
        self.link.close();
        Event::Ended { reason }
    }

    fn refused(&mut self, command: &Command) -> Event {
        self.link.close();
        let shown = |text: &str, len_max: usize| -> String {
            let letters = text.chars().filter(|letter| !letter.is_control());
            letters.take(len_max).collect()
        };
        let description = self.config.url.redact(info_text(command, "description"));
        Event::Refused {
            code: shown(info_text(command, "code"), CODE_LEN_MAX),
            description: shown(&description, DESCRIPTION_LEN_MAX),
        }
    }
}

/// A text property of the information object; empty if it is missing or something else.
fn info_text<'a>(command: &'a Command, name: &str) -> &'a str {
    // It follows the command object, and some servers put it in its place.
    [command.arguments.first(), Some(&command.object)]
        .into_iter()
        .flatten()
        .find_map(|info| info.get(name).and_then(Value::as_str))
        .unwrap_or_default()
}
