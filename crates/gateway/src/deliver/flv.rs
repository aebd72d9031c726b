//! One viewer of FLV, whether its bytes go out as an HTTP response or as WebSocket messages.
//!
//! Owns: joining a stream, and what the viewer gets with each wake: its head where one is due, and shared bytes.

use std::{collections::VecDeque, time::Instant};

use axum::{http::StatusCode, response::Response};
use bytes::Bytes;
use serde::Deserialize;
use weir_hub::{Cursor, Role, Session};
use weir_media::StreamName;
use weir_package::flv;

use crate::{
    Gateway,
    derive::{Format, Head, Shared},
};

/// What a viewer may ask for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    /// `?anchor=1`: say which wall time timestamps had, so that the player can measure its latency.
    anchor: Option<String>,
}

/// A viewer that has joined.
pub(super) struct Viewer {
    cursor: Cursor<Shared>,
    session: Session,
    head: Head,
    with_anchor: bool,
    read: Vec<Shared>,
    /// What is to be written next.
    pub(super) ready: VecDeque<Bytes>,
}

impl Viewer {
    /// Joins a stream; the response says why it cannot be.
    pub(super) async fn join(
        gateway: &Gateway,
        protocol: &'static str,
        name: StreamName,
        options: &Options,
    ) -> Result<Self, Response> {
        let decision = gateway.requests.ask(Role::Play, protocol, name, None).await;
        let grant = decision
            .map_err(|refusal| super::refuse(StatusCode::FORBIDDEN, &refusal.to_string()))?;
        let stream = gateway.stream(&grant.name).await;
        let stream = stream.map_err(super::refuse_missing)?;
        let limits = gateway.limits;
        let cursor = gateway.derived.join(
            &stream,
            Format::Flv,
            limits.join,
            limits.viewer_lag,
            &gateway.tasks,
        );
        let session = gateway
            .hub
            .sessions()
            .open(Role::Play, protocol, grant.name, Instant::now());
        Ok(Self {
            cursor,
            session,
            head: Head::default(),
            with_anchor: options.anchor.as_deref() == Some("1"),
            read: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Waits until `ready` holds the next bytes; `None` at the end of the stream or of the session.
    pub(super) async fn read(mut self) -> Option<Self> {
        self.fill().await.then_some(self)
    }

    /// As [`Self::read`]; false at the end. Cancel-safe.
    pub(super) async fn fill(&mut self) -> bool {
        let skipped = tokio::select! {
            skipped = self.cursor.next(&mut self.read) => skipped,
            _ = self.session.killed() => None,
        };
        let Some(skipped) = skipped else { return false };
        self.session.add_skipped(skipped);
        let with_anchor = self.with_anchor;
        self.head
            .before_each(self.read.drain(..), &mut self.ready, |first, joins| {
                flv::head_tags(&first.epoch, first.at_ms, joins, with_anchor)
            });
        self.session
            .add_bytes(self.ready.iter().map(|bytes| bytes.len() as u64).sum());
        true
    }
}
