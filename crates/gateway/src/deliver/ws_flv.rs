//! WS-FLV: HTTP-FLV as binary WebSocket messages, on the same URLs.
//!
//! Owns: the upgrade, and one connection after it. Does not own: frames of the protocol ([`weir_proto::websocket`]) or
//! what they carry: the same shared bytes as HTTP-FLV, each behind a header of a few bytes.

use axum::{
    Extension,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use weir_media::StreamName;
use weir_proto::websocket::{self, CloseCode, Reader, Received};

use super::{
    refuse,
    viewer::{Container, Heard, Peer, Viewer},
};
use crate::{
    Gateway,
    derive::Framing,
    net::{Socket, http::Handover},
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "ws-flv";

/// What one read asks the socket for; a player says next to nothing.
const READ_LEN: usize = 1 << 10;

/// Whether a request asks for a WebSocket (RFC 6455, section 4.2.1).
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let names = |name, token: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

/// Answers an upgrade on `{name}.flv`.
pub(super) async fn respond(
    gateway: Gateway,
    request: Request,
    name: StreamName,
    container: Container,
) -> Response {
    let headers = request.headers();
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut response = refuse(
            StatusCode::UPGRADE_REQUIRED,
            "only version 13 of WebSocket is spoken here",
        );
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return response;
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok());
    let accept = key
        .and_then(websocket::accept_key)
        .and_then(|accept| HeaderValue::try_from(accept).ok());
    let Some(accept) = accept else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "the Sec-WebSocket-Key is missing or malformed",
        );
    };
    let viewer = match Viewer::join(&gateway, PROTOCOL, name, container).await {
        Ok(viewer) => viewer,
        Err(refusal) => return refusal,
    };
    let handover = Handover::new(move |socket, read| {
        let client = Client {
            reader: Reader::default(),
            unread: read,
        };
        viewer.watch(socket, client)
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (
        StatusCode::SWITCHING_PROTOCOLS,
        headers,
        Extension(handover),
    )
        .into_response()
}

/// A client that speaks WebSocket: a player says next to nothing.
struct Client {
    reader: Reader,
    /// What came behind its request.
    unread: Bytes,
}

impl Peer for Client {
    const FRAMING: Framing = Framing::WebSocket;

    async fn listen(&mut self, socket: &mut Socket) -> Heard {
        let mut input = [0; READ_LEN];
        loop {
            if self.unread.is_empty() {
                match socket.read(&mut input).await {
                    Ok(0) | Err(_) => return Heard::Gone,
                    Ok(len) => {
                        self.unread = Bytes::copy_from_slice(input.get(..len).unwrap_or_default());
                    }
                }
            }
            let unread = std::mem::take(&mut self.unread);
            if let Some(heard) = self.hear(&unread) {
                return heard;
            }
        }
    }

    fn farewell(&self) -> Bytes {
        websocket::close(CloseCode::Normal)
    }
}

impl Client {
    fn hear(&mut self, input: &[u8]) -> Option<Heard> {
        let mut received = Vec::new();
        let read = self.reader.read(input, &mut received);
        let mut answer = BytesMut::new();
        for received in received {
            match received {
                Received::Ping(payload) => answer.extend_from_slice(&websocket::pong(&payload)),
                Received::Close => {
                    answer.extend_from_slice(&websocket::close(CloseCode::Normal));
                    return Some(Heard::LastAnswer(answer.freeze()));
                }
            }
        }
        if let Err(error) = read {
            answer.extend_from_slice(&websocket::close(error.close_code()));
            return Some(Heard::LastAnswer(answer.freeze()));
        }
        (!answer.is_empty()).then(|| Heard::Answer(answer.freeze()))
    }
}
