//! FLV bodies, from RTMP messages or a file, as timeline input.
//!
//! Owns: which body is a frame, which a configuration, and whether a picture is really a key frame.

use bytes::Bytes;
use weir_media::{
    Input, Kind,
    codec::{Codec, h264},
    container::{
        amf0::Value,
        flv::{self, AudioBody, VideoBody},
    },
};

/// Reads the bodies of one publisher.
#[derive(Debug, Default)]
pub(super) struct BodyReader {
    /// How NAL units are delimited, once the sequence header has said so.
    nal_length_size: Option<usize>,
}

impl BodyReader {
    /// The input that a body is, if it is any.
    pub(super) fn read(
        &mut self,
        kind: Kind,
        timestamp_ms: u32,
        body: Bytes,
    ) -> Result<Option<Input>, flv::Error> {
        match kind {
            Kind::Video => self.read_video(timestamp_ms, body),
            Kind::Audio => read_audio(timestamp_ms, body),
        }
    }

    fn read_video(&mut self, timestamp_ms: u32, body: Bytes) -> Result<Option<Input>, flv::Error> {
        Ok(match flv::parse_video(body)? {
            VideoBody::Config(config) => {
                self.nal_length_size = Some(config.nal_length_size);
                Some(Input::Config(Codec::H264(config)))
            }
            VideoBody::Frame {
                sync,
                composition_ms,
                payload,
            } => {
                // Encoders also call pictures key frames at which decoding only recovers after a while.
                let idr = self
                    .nal_length_size
                    .is_some_and(|size| h264::is_idr(&payload, size));
                Some(Input::Frame {
                    kind: Kind::Video,
                    dts: timestamp_ms.into(),
                    composition: composition_ms,
                    sync: sync && idr,
                    payload,
                })
            }
            VideoBody::EndOfSequence | VideoBody::Skipped(_) => None,
        })
    }
}

fn read_audio(timestamp_ms: u32, body: Bytes) -> Result<Option<Input>, flv::Error> {
    Ok(match flv::parse_audio(body)? {
        AudioBody::Config(config) => Some(Input::Config(Codec::Aac(config))),
        AudioBody::Frame(payload) => Some(Input::Frame {
            kind: Kind::Audio,
            dts: timestamp_ms.into(),
            composition: 0,
            sync: true,
            payload,
        }),
        AudioBody::Skipped(_) => None,
    })
}

/// Which tracks an `onMetaData` message names, if it is one that names any.
pub(super) fn declared(values: &[Value]) -> Option<Input> {
    let [Value::String(name), properties, ..] = values else {
        return None;
    };
    let (Value::Object(properties) | Value::EcmaArray(properties)) = properties else {
        return None;
    };
    let names = |keys: [&str; 2]| {
        properties
            .iter()
            .any(|(key, _)| keys.contains(&key.as_str()))
    };
    let (video, audio) = (
        names(["videocodecid", "width"]),
        names(["audiocodecid", "audiosamplerate"]),
    );
    (name == "onMetaData" && (video || audio)).then_some(Input::Declared { video, audio })
}
