//! The question "may this connection publish or play?", as a value.
//!
//! Owns: [`Request`], which a protocol hands to whoever decides, and the [`Decision`] that comes back. A protocol never
//! calls the deciding code, and the deciding code never sees a socket.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use weir_media::StreamName;

/// Requests that may wait for a decision at once; more are refused as overload.
const PENDING_MAX: usize = 1_024;
/// How long a request may wait for its decision: encoders give up on their own after about 10 s, and
/// without a reason to show.
const DECISION_WAIT: Duration = Duration::from_secs(5);

/// Text that must never be shown: its `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for comparing digests of it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Identifies a publishing key without being it: the digest under which it is kept. Two publishers with the same one
/// are the same publisher (CONTRACT 1.10).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(***)")
    }
}

/// What a connection wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Send a stream in.
    Publish,
    /// Take a stream out.
    Play,
}

/// One pending publish or play.
pub struct Request {
    /// What is wanted.
    pub role: Role,
    /// The protocol's label, as sessions and metrics show it: `rtmp`, `http-flv`, `hls`.
    pub protocol: &'static str,
    /// The stream asked for. A publisher without a key may have put its bare key here (CONTRACT 1.1), so it is never
    /// shown before the decision names the stream.
    pub name: StreamName,
    /// The key that came with the name.
    pub key: Option<Secret>,
    reply: oneshot::Sender<Decision>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("role", &self.role)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Answers the request. The asker may be gone; then nothing happens.
    pub fn decide(self, decision: Decision) {
        let _ = self.reply.send(decision);
    }
}

/// The answer.
pub type Decision = Result<Grant, Refusal>;

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The public name of the stream.
    pub name: StreamName,
    /// The key that was shown, if one was.
    pub key: Option<KeyId>,
}

/// A request that was not. The text is for the person at the encoder or player.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key, or a wrong one; also for a stream that does not exist, so that names cannot be probed.
    #[error(
        "publishing to this stream needs its key: use {{name}}?key={{secret}} as the stream key"
    )]
    Denied,
    /// There is no such stream.
    #[error("no such stream is live")]
    NotFound,
    /// Nobody decided in time.
    #[error("the server is too busy to decide; try again in a few seconds")]
    Busy,
}

/// Where protocols hand in their requests.
#[derive(Debug, Clone)]
pub struct Requests {
    queue: mpsc::Sender<Request>,
}

impl Requests {
    /// The sending side, and the side that decides.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Request>) {
        let (queue, pending) = mpsc::channel(PENDING_MAX);
        (Self { queue }, pending)
    }

    /// Asks, and waits for the decision.
    ///
    /// # Errors
    /// The refusal; [`Refusal::Busy`] when too many requests wait, when nobody decides in time or when
    /// the deciding side is gone.
    pub async fn ask(
        &self,
        role: Role,
        protocol: &'static str,
        name: StreamName,
        key: Option<Secret>,
    ) -> Decision {
        let (reply, decision) = oneshot::channel();
        let request = Request {
            role,
            protocol,
            name,
            key,
            reply,
        };
        self.queue.try_send(request).map_err(|_| Refusal::Busy)?;
        match tokio::time::timeout(DECISION_WAIT, decision).await {
            Ok(Ok(decision)) => decision,
            _ => Err(Refusal::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    const SECRET: &str = "s3cr3t";

    #[tokio::test]
    async fn a_request_carries_the_question_and_brings_back_the_answer() {
        let granted = Grant {
            name: name("public"),
            key: Some(KeyId([7; 32])),
        };
        for decision in [Ok(granted), Err(Refusal::Denied), Err(Refusal::NotFound)] {
            let (requests, mut pending) = Requests::channel();
            let decide = async {
                let request = pending.recv().await.expect("it was asked");
                assert_eq!((request.role, request.protocol), (Role::Publish, "rtmp"));
                assert_eq!(request.name, name("asked"));
                assert_eq!(request.key.as_ref().map(Secret::expose), Some(SECRET));
                request.decide(decision.clone());
            };
            assert_eq!(tokio::join!(ask(&requests), decide).0, decision);
        }
    }

    #[tokio::test]
    async fn busy_when_the_deciding_side_is_gone() {
        let (requests, pending) = Requests::channel();
        drop(pending);
        assert_eq!(ask(&requests).await, Err(Refusal::Busy));

        let (requests, mut pending) = Requests::channel();
        let forget = async { drop(pending.recv().await) };
        assert_eq!(tokio::join!(ask(&requests), forget).0, Err(Refusal::Busy));

        let (requests, pending) = Requests::channel();
        let mut asked = pin!(ask(&requests));
        assert!(
            asked
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        drop(pending);
        assert_eq!(asked.await, Err(Refusal::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn busy_when_nobody_decides_in_time() {
        let (requests, mut pending) = Requests::channel();
        let before = tokio::time::Instant::now();
        assert_eq!(ask(&requests).await, Err(Refusal::Busy));
        assert_eq!(before.elapsed().as_secs(), DECISION_WAIT.as_secs());
        // The asker is gone; deciding is harmless.
        pending
            .recv()
            .await
            .expect("it was asked")
            .decide(Err(Refusal::Denied));
    }

    #[tokio::test]
    async fn busy_at_once_when_too_many_wait() {
        let (requests, mut pending) = Requests::channel();
        let mut waiting: Vec<_> = (0..PENDING_MAX).map(|_| Box::pin(ask(&requests))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(
            waiting
                .iter_mut()
                .all(|asked| asked.as_mut().poll(&mut context).is_pending())
        );
        assert_eq!(ask(&requests).await, Err(Refusal::Busy));
        drop(pending.recv().await);
        let mut next = pin!(ask(&requests));
        assert!(
            next.as_mut().poll(&mut context).is_pending(),
            "there is room again"
        );
    }

    #[tokio::test]
    async fn secrets_are_never_shown() {
        let (requests, mut pending) = Requests::channel();
        let key = Some(Secret::new(SECRET));
        // A publisher that sends its bare key as the name.
        let mut asked = pin!(requests.ask(Role::Publish, "rtmp", name(SECRET), key.clone()));
        assert!(
            asked
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        let request = pending.recv().await.expect("it was asked");
        check_hidden(&request);
        check_hidden(&key);
        check_hidden(&requests);
        check_hidden(&KeyId([0xAB; 32]));
        check_hidden(&Grant {
            name: name("public"),
            key: Some(KeyId([0xAB; 32])),
        });
    }

    fn check_hidden(value: &impl fmt::Debug) {
        for text in [
            format!("{value:?}"),
            format!("{value:#?}"),
            format!("{value:x?}"),
        ] {
            assert!(!text.contains(SECRET), "{text}");
            assert!(
                !text.contains("171") && !text.to_lowercase().contains("ab"),
                "{text}"
            );
        }
    }

    async fn ask(requests: &Requests) -> Decision {
        requests
            .ask(
                Role::Publish,
                "rtmp",
                name("asked"),
                Some(Secret::new(SECRET)),
            )
            .await
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }
}
