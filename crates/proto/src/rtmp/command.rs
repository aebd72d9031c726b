//! Commands: the calls of either end and the answers to them, and data messages, which are alike.
//!
//! Owns: the shape of command messages (name, transaction, object, arguments). Does not own: what a call does.
//! Specification: RTMP 7.2.

use weir_media::container::amf0::{self, Value};

/// The version string this server shows; clients compare it with Flash Media Server's.
const FMS_VERSION: &str = "FMS/3,0,1,123";
/// Capabilities as Flash Media Server announces them.
const CAPABILITIES: f64 = 31.0;

/// Tells a server to keep what follows for players that join.
const SET_DATA_FRAME: &str = "@setDataFrame";

/// A call of the peer, or an answer to one.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) name: String,
    /// Names the call in its answer; 0 wants none.
    pub(super) transaction: f64,
    /// The command object.
    pub(super) object: Value,
    /// What follows the command object.
    pub(super) arguments: Vec<Value>,
}

impl Command {
    /// The command in `body`; `Ok(None)` if it does not begin with a name.
    pub(super) fn decode(body: &[u8]) -> Result<Option<Self>, amf0::Error> {
        let mut values = amf0::decode_all(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Ok(None);
        };
        let transaction = values
            .next()
            .and_then(|value| value.as_number())
            .unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Some(Self {
            name,
            transaction,
            object,
            arguments: values.collect(),
        }))
    }

    /// The argument at `index` as text; empty if it is missing or something else.
    pub(super) fn text(&self, index: usize) -> &str {
        self.arguments
            .get(index)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The argument at `index` as a message stream id.
    pub(super) fn stream_id(&self, index: usize) -> Option<u32> {
        let number = self.arguments.get(index)?.as_number()?;
        (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0)
            .then_some(number as u32)
    }

    /// A text property of the command object; empty if it is missing or something else.
    pub(super) fn property(&self, name: &str) -> &str {
        self.object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// The values of a data message, without the `@setDataFrame` that publishers put before them.
pub(super) fn decode_data(body: &[u8]) -> Result<Vec<Value>, amf0::Error> {
    let mut values = amf0::decode_all(body)?;
    if values.first().and_then(Value::as_str) == Some(SET_DATA_FRAME) {
        values.remove(0);
    }
    Ok(values)
}

/// What a publisher's metadata begins with.
pub(super) fn set_data_frame() -> Vec<u8> {
    encode(&[SET_DATA_FRAME.into()])
}

/// A call with a command object; see [`call`] for one without.
pub(super) fn connect(transaction: f64, properties: Value) -> Vec<u8> {
    encode(&["connect".into(), transaction.into(), properties])
}

/// A call.
pub(super) fn call(name: &str, transaction: f64, arguments: &[Value]) -> Vec<u8> {
    let head = [name.into(), transaction.into(), Value::Null];
    encode(&[&head, arguments].concat())
}

/// `_result` of `connect`.
pub(super) fn connect_result(transaction: f64) -> Vec<u8> {
    let properties = Value::object([
        ("fmsVer", FMS_VERSION.into()),
        ("capabilities", CAPABILITIES.into()),
    ]);
    let Value::Object(mut info) = info(
        "status",
        "NetConnection.Connect.Success",
        "Connection succeeded.",
    ) else {
        return Vec::new();
    };
    info.push(("objectEncoding".to_owned(), 0.0.into()));
    encode(&[
        "_result".into(),
        transaction.into(),
        properties,
        Value::Object(info),
    ])
}

/// `_result` with one value.
pub(super) fn result(transaction: f64, value: Value) -> Vec<u8> {
    encode(&["_result".into(), transaction.into(), Value::Null, value])
}

/// `_error` with a status code and a reason for people.
pub(super) fn error(transaction: f64, code: &str, description: &str) -> Vec<u8> {
    encode(&[
        "_error".into(),
        transaction.into(),
        Value::Null,
        info("error", code, description),
    ])
}

/// `onStatus`.
pub(super) fn on_status(level: &str, code: &str, description: &str) -> Vec<u8> {
    notification("onStatus", level, code, description)
}

/// A call of the server that wants no answer, such as `onFCPublish`.
pub(super) fn notification(name: &str, level: &str, code: &str, description: &str) -> Vec<u8> {
    encode(&[
        name.into(),
        0.0.into(),
        Value::Null,
        info(level, code, description),
    ])
}

/// The body of a data message that tells a player that it may read samples; Flash players wait for it.
pub(super) fn sample_access() -> Vec<u8> {
    encode(&["|RtmpSampleAccess".into(), true.into(), true.into()])
}

fn info(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", level.into()),
        ("code", code.into()),
        ("description", description.into()),
    ])
}

fn encode(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values
        .iter()
        .for_each(|value| amf0::encode(value, &mut out));
    out
}
