//! Answers that go on without HTTP: behind their head, the connection is theirs (HTTP/1.1 only).
//!
//! Owns: how a handler asks for that, and the head of such an answer. An endless answer costs least when nothing stands
//! between its bytes and the socket. Does not own: what is written then.

use std::{
    future::Future,
    io::{self, Write as _},
    pin::Pin,
    sync::Arc,
    time::SystemTime,
};

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use http::response::Parts;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;

use crate::net::Socket;

type Ended = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
type Continue = Box<dyn FnOnce(Socket, Bytes) -> Ended + Send>;

/// Asks, as an extension of a response, for its connection. Over HTTP/2 the response is answered as it is.
#[derive(Clone)]
pub(crate) struct Handover(Arc<Mutex<Option<Continue>>>);

impl Handover {
    /// Goes on with `then` once the head is written. It gets the socket, and what the client has sent already.
    pub(crate) fn new<F>(then: impl FnOnce(Socket, Bytes) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let then: Continue = Box::new(|socket, read| Box::pin(then(socket, read)));
        Self(Arc::new(Mutex::new(Some(then))))
    }
}

/// Where the answer of a connection waits that is to be handed over.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<(Parts, Handover)>>>);

impl Slot {
    /// Takes an answer out of the way of HTTP if it asks for its connection; others go on.
    pub(super) fn keep(&self, mut answer: Response) -> Option<Response> {
        let Some(handover) = answer.extensions_mut().remove::<Handover>() else {
            return Some(answer);
        };
        *self.0.lock() = Some((answer.into_parts().0, handover));
        None
    }

    pub(super) fn is_taken(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Writes the head and hands the connection over, until it ends.
    pub(super) async fn hand_over(self, mut socket: Socket, read: Bytes) -> io::Result<()> {
        let Some((mut parts, handover)) = self.0.lock().take() else {
            return Ok(());
        };
        let Some(then) = handover.0.lock().take() else {
            return Ok(());
        };
        socket.write_all(&head(&mut parts)).await?;
        then(socket, read).await
    }
}

/// The head of an answer whose body ends with its connection (RFC 9112, section 6.3).
fn head(parts: &mut Parts) -> Vec<u8> {
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        parts.headers.insert(header::DATE, date);
    }
    // The length of the body that is not sent.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .entry(header::CONNECTION)
        .or_insert(HeaderValue::from_static("close"));
    let mut head = Vec::with_capacity(512);
    // Writing to memory cannot fail.
    let _ = write!(head, "HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_http() {
        let answer = Response::builder()
            .status(200)
            .header("content-type", "video/x-flv")
            .header("content-length", "0")
            .body(())
            .expect("a response");
        let mut parts = answer.into_parts().0;
        let text = String::from_utf8(head(&mut parts)).expect("ASCII");
        assert!(!text.contains("content-length"), "{text}");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: video/x-flv\r\n"));
        assert!(
            text.contains("\r\ndate: ") && text.contains(" GMT\r\n"),
            "{text}"
        );
        assert!(text.ends_with("connection: close\r\n\r\n"), "{text}");
    }
}
