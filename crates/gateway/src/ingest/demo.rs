//! The stream `demo` of `weir dev`: a sample that loops without a seam.
//!
//! Owns: playing an FLV file in real time, again and again, as any publisher would. Needs no FFmpeg.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior};
use weir_hub::{KillReason, Moment, PublishError};
use weir_media::{
    Input, Kind, SessionClock, StreamName,
    container::flv::{self, TagKind},
};

use crate::{Gateway, ingest::flv::BodyReader};

/// How often frames are handed on: about one picture at 30 fps.
const TICK: Duration = Duration::from_millis(33);
/// The protocol label of the session.
const PROTOCOL: &str = "demo";

/// Why a sample cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not FLV, or not a codec that is carried.
    #[error("the demo sample is not usable: {0}")]
    Flv(#[from] flv::Error),
    /// Somebody else has the name.
    #[error("the demo stream cannot start: {0}")]
    Publish(#[from] PublishError),
}

/// A sample, read once.
#[derive(Debug)]
pub struct Sample {
    configs: Vec<Input>,
    frames: Vec<(Kind, u32, Input)>,
    loop_ms: u64,
}

impl Sample {
    /// Reads an FLV file whose frames repeat every `loop_ms`.
    ///
    /// # Errors
    /// It is not FLV of H.264 and AAC.
    pub fn read(file: Bytes, loop_ms: u32) -> Result<Self, Error> {
        let mut sample = Self {
            configs: Vec::new(),
            frames: Vec::new(),
            loop_ms: loop_ms.into(),
        };
        let mut reader = flv::Reader::new();
        let mut bodies = BodyReader::default();
        reader.push(file);
        while let Some(tag) = reader.next()? {
            let kind = match tag.kind {
                TagKind::Video => Kind::Video,
                TagKind::Audio => Kind::Audio,
                TagKind::Script => continue,
            };
            match bodies.read(kind, tag.timestamp_ms, tag.body)? {
                Some(input @ Input::Frame { .. }) => {
                    sample.frames.push((kind, tag.timestamp_ms, input))
                }
                Some(config) => sample.configs.push(config),
                None => {}
            }
        }
        Ok(sample)
    }

    /// Publishes the sample as `name` until the server ends the session.
    ///
    /// # Errors
    /// Somebody else publishes that name.
    pub async fn publish(&self, name: &StreamName, gateway: &Gateway) -> Result<KillReason, Error> {
        let publisher =
            gateway
                .hub
                .publish(name, None, PROTOCOL, SessionClock::MS_32_BIT, Moment::now())?;
        for config in &self.configs {
            publisher.push(Moment::now(), config.clone());
        }
        let start = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = self.frames_forever().peekable();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                reason = publisher.session().killed() => return Ok(reason),
            }
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            while let Some((_, input)) = due.next_if(|(at_ms, _)| *at_ms <= now_ms) {
                publisher.push(Moment::now(), input);
            }
        }
    }

    fn frames_forever(&self) -> impl Iterator<Item = (u64, Input)> {
        (0..).flat_map(move |round: u64| {
            self.frames.iter().map(move |(_, ms, input)| {
                let at_ms = round * self.loop_ms + u64::from(*ms);
                let mut input = input.clone();
                if let Input::Frame { dts, .. } = &mut input {
                    *dts = at_ms;
                }
                (at_ms, input)
            })
        })
    }
}
