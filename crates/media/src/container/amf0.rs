//! AMF0: the typed values of RTMP commands and of FLV script tags.
//!
//! Owns: [`Value`], a decoder that needs no stack of its own and stays within fixed limits, and an encoder.
//! Does not own: what the values mean (crate `proto` for commands, [`super::flv`] for `onMetaData`), and AMF3,
//! which is refused.
//! Specification: Adobe, "Action Message Format -- AMF 0", 2007 (amf0-file-format-specification).

use bytes::BufMut;

/// Containers that may be open at once. Encoders nest two or three deep; the limit bounds recursion of everything
/// that walks a [`Value`].
pub const DEPTH_MAX: usize = 16;
/// Values and properties in one decoded message. `onMetaData` with a key frame index is the largest in use.
pub const NODES_MAX: usize = 4096;
/// Bytes of one string. Only long strings and XML could be longer.
pub const STRING_LEN_MAX: usize = 64 * 1024;
/// Bytes of one message handed to the decoder.
pub const TOTAL_LEN_MAX: usize = 256 * 1024;

const MARKER_NUMBER: u8 = 0x00;
const MARKER_BOOLEAN: u8 = 0x01;
const MARKER_STRING: u8 = 0x02;
const MARKER_OBJECT: u8 = 0x03;
const MARKER_NULL: u8 = 0x05;
const MARKER_UNDEFINED: u8 = 0x06;
const MARKER_REFERENCE: u8 = 0x07;
const MARKER_ECMA_ARRAY: u8 = 0x08;
const MARKER_OBJECT_END: u8 = 0x09;
const MARKER_STRICT_ARRAY: u8 = 0x0A;
const MARKER_DATE: u8 = 0x0B;
const MARKER_LONG_STRING: u8 = 0x0C;
const MARKER_UNSUPPORTED: u8 = 0x0D;
const MARKER_XML_DOCUMENT: u8 = 0x0F;
const MARKER_TYPED_OBJECT: u8 = 0x10;
const MARKER_AVMPLUS: u8 = 0x11;

/// Named values, in the order of the wire.
pub type Properties = Vec<(String, Value)>;

/// One AMF0 value. Text that is not UTF-8 arrives with replacement characters.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double; AMF0 has no integers.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text of at most 65 535 bytes; longer text is encoded as [`Value::LongString`].
    String(String),
    /// An anonymous object.
    Object(Properties),
    /// Null.
    Null,
    /// Undefined; the rare marker "unsupported" decodes to this as well.
    Undefined,
    /// The index of an object earlier in the message. It is not resolved.
    Reference(u16),
    /// An associative array, which `onMetaData` uses.
    EcmaArray(Properties),
    /// An array with indices only.
    StrictArray(Vec<Value>),
    /// A point in time.
    Date {
        /// Milliseconds since the unix epoch, UTC.
        unix_ms: f64,
        /// Reserved by the specification; senders write 0.
        timezone: i16,
    },
    /// Text with a 32-bit length.
    LongString(String),
    /// An XML document as text.
    XmlDocument(String),
    /// An object with a class name.
    TypedObject {
        /// The class name.
        class: String,
        /// Its properties.
        properties: Properties,
    },
}

/// Why bytes are not an AMF0 message. `at` counts from the first byte handed to the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a value.
    #[error("AMF0 data ends inside a value at byte {at}")]
    Truncated {
        /// Where the input ends.
        at: usize,
    },
    /// A marker that is reserved or unknown.
    #[error("AMF0 marker {marker:#04x} at byte {at} is not a value")]
    Marker {
        /// The marker.
        marker: u8,
        /// Its position.
        at: usize,
    },
    /// The sender switches to AMF3.
    #[error("AMF3 data at byte {at} is not supported")]
    Amf3 {
        /// The position of the marker.
        at: usize,
    },
    /// More than [`DEPTH_MAX`] containers inside each other.
    #[error("AMF0 data is nested deeper than {DEPTH_MAX} at byte {at}")]
    Depth {
        /// The position of the container.
        at: usize,
    },
    /// More than [`NODES_MAX`] values.
    #[error("AMF0 data holds more than {NODES_MAX} values")]
    Nodes,
    /// A string longer than [`STRING_LEN_MAX`].
    #[error("AMF0 string of {len} bytes at byte {at} is longer than {STRING_LEN_MAX}")]
    StringLength {
        /// The declared length in bytes.
        len: u32,
        /// The position of the length.
        at: usize,
    },
    /// An array that declares more elements than there are bytes.
    #[error("AMF0 array at byte {at} declares {count} elements, more than there are bytes")]
    Count {
        /// The declared count.
        count: u32,
        /// The position of the count.
        at: usize,
    },
    /// More than [`TOTAL_LEN_MAX`] bytes.
    #[error("AMF0 data of {len} bytes is longer than {TOTAL_LEN_MAX}")]
    Total {
        /// The length handed in.
        len: usize,
    },
}

impl Value {
    /// The text of a string of any kind.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::LongString(text) | Self::XmlDocument(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The properties of an object, typed object or ECMA array.
    #[must_use]
    pub fn properties(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(properties)
            | Self::EcmaArray(properties)
            | Self::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// The first property called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.properties()?
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// An object with these properties.
    #[must_use]
    pub fn object<const N: usize>(properties: [(&str, Self); N]) -> Self {
        Self::Object(
            properties
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        )
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

/// Decodes every value of `input`.
pub fn decode_all(input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder::new(input)?;
    let mut values = Vec::new();
    while let Some(value) = decoder.decode()? {
        values.push(value);
    }
    Ok(values)
}

/// Appends `value` to `out`. Text beyond 65 535 bytes becomes a long string; a property whose name is that long
/// cannot be expressed and is left out. The depth is the caller's: values from a decoder are at most [`DEPTH_MAX`] deep.
pub fn encode(value: &Value, out: &mut impl BufMut) {
    match value {
        Value::Number(number) => {
            out.put_u8(MARKER_NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(truth) => {
            out.put_u8(MARKER_BOOLEAN);
            out.put_u8(u8::from(*truth));
        }
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(len) => {
                out.put_u8(MARKER_STRING);
                out.put_u16(len);
                out.put_slice(text.as_bytes());
            }
            Err(_) => encode_long(MARKER_LONG_STRING, text, out),
        },
        Value::Object(properties) => {
            out.put_u8(MARKER_OBJECT);
            encode_properties(properties, out);
        }
        Value::Null => out.put_u8(MARKER_NULL),
        Value::Undefined => out.put_u8(MARKER_UNDEFINED),
        Value::Reference(index) => {
            out.put_u8(MARKER_REFERENCE);
            out.put_u16(*index);
        }
        Value::EcmaArray(properties) => {
            out.put_u8(MARKER_ECMA_ARRAY);
            out.put_u32(saturated(properties.len()));
            encode_properties(properties, out);
        }
        Value::StrictArray(values) => {
            out.put_u8(MARKER_STRICT_ARRAY);
            out.put_u32(saturated(values.len()));
            values.iter().for_each(|value| encode(value, out));
        }
        Value::Date { unix_ms, timezone } => {
            out.put_u8(MARKER_DATE);
            out.put_f64(*unix_ms);
            out.put_i16(*timezone);
        }
        Value::LongString(text) => encode_long(MARKER_LONG_STRING, text, out),
        Value::XmlDocument(text) => encode_long(MARKER_XML_DOCUMENT, text, out),
        Value::TypedObject { class, properties } => {
            out.put_u8(MARKER_TYPED_OBJECT);
            encode_name(class, out);
            encode_properties(properties, out);
        }
    }
}

fn encode_properties(properties: &[(String, Value)], out: &mut impl BufMut) {
    for (name, value) in properties {
        if name.len() <= usize::from(u16::MAX) {
            encode_name(name, out);
            encode(value, out);
        }
    }
    out.put_slice(&[0, 0, MARKER_OBJECT_END]);
}

/// Writes a name without a marker; one that does not fit is written empty.
fn encode_name(name: &str, out: &mut impl BufMut) {
    match u16::try_from(name.len()) {
        Ok(len) => {
            out.put_u16(len);
            out.put_slice(name.as_bytes());
        }
        Err(_) => out.put_u16(0),
    }
}

fn encode_long(marker: u8, text: &str, out: &mut impl BufMut) {
    out.put_u8(marker);
    out.put_u32(saturated(text.len()));
    out.put_slice(text.as_bytes());
}

fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Decodes values one after another. The limits hold for the whole input, not for each value.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    len: usize,
    nodes: usize,
}

/// A container whose end has not been read.
#[derive(Debug)]
enum Open {
    Object {
        properties: Properties,
        name: String,
        kind: ObjectKind,
    },
    StrictArray {
        values: Vec<Value>,
        left: u32,
    },
}

#[derive(Debug)]
enum ObjectKind {
    Object,
    EcmaArray { declared: u32 },
    Typed { class: String },
}

impl<'a> Decoder<'a> {
    /// A decoder over one message body.
    pub fn new(input: &'a [u8]) -> Result<Self, Error> {
        if input.len() > TOTAL_LEN_MAX {
            return Err(Error::Total { len: input.len() });
        }
        Ok(Self {
            rest: input,
            len: input.len(),
            nodes: 0,
        })
    }

    /// The next value, or `None` at the end of the input.
    pub fn decode(&mut self) -> Result<Option<Value>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut stack: Vec<Open> = Vec::new();
        loop {
            let mut done = self.value_or_open(&mut stack)?;
            // Hands a finished value to the container around it, which may finish that one in turn.
            loop {
                match (done.take(), stack.last_mut()) {
                    (Some(value), None) => return Ok(Some(value)),
                    (
                        Some(value),
                        Some(Open::Object {
                            properties, name, ..
                        }),
                    ) => {
                        properties.push((std::mem::take(name), value));
                    }
                    (Some(value), Some(Open::StrictArray { values, left })) => {
                        values.push(value);
                        *left = left.saturating_sub(1);
                    }
                    (None, _) => {}
                }
                if !self.container_ends(stack.last_mut())? {
                    break;
                }
                done = stack.pop().map(Open::into_value);
            }
        }
    }

    /// Reads one value; a container is pushed on the stack instead of returned.
    fn value_or_open(&mut self, stack: &mut Vec<Open>) -> Result<Option<Value>, Error> {
        self.count_node()?;
        let at = self.at();
        let value = match self.u8()? {
            MARKER_NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            MARKER_BOOLEAN => Value::Boolean(self.u8()? != 0),
            MARKER_STRING => Value::String(self.short_string()?),
            MARKER_NULL => Value::Null,
            MARKER_UNDEFINED | MARKER_UNSUPPORTED => Value::Undefined,
            MARKER_REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            MARKER_DATE => Value::Date {
                unix_ms: f64::from_be_bytes(self.array()?),
                timezone: i16::from_be_bytes(self.array()?),
            },
            MARKER_LONG_STRING => Value::LongString(self.long_string()?),
            MARKER_XML_DOCUMENT => Value::XmlDocument(self.long_string()?),
            marker => {
                if stack.len() >= DEPTH_MAX {
                    return Err(Error::Depth { at });
                }
                stack.push(self.open(marker, at)?);
                return Ok(None);
            }
        };
        Ok(Some(value))
    }

    fn open(&mut self, marker: u8, at: usize) -> Result<Open, Error> {
        let kind = match marker {
            MARKER_OBJECT => ObjectKind::Object,
            MARKER_ECMA_ARRAY => ObjectKind::EcmaArray {
                declared: self.element_count()?,
            },
            MARKER_TYPED_OBJECT => ObjectKind::Typed {
                class: self.short_string()?,
            },
            MARKER_STRICT_ARRAY => {
                let left = self.element_count()?;
                return Ok(Open::StrictArray {
                    values: Vec::new(),
                    left,
                });
            }
            MARKER_AVMPLUS => return Err(Error::Amf3 { at }),
            _ => return Err(Error::Marker { marker, at }),
        };
        Ok(Open::Object {
            properties: Vec::new(),
            name: String::new(),
            kind,
        })
    }

    /// Whether the innermost container ends here; if it goes on and has names, reads the next one.
    fn container_ends(&mut self, open: Option<&mut Open>) -> Result<bool, Error> {
        match open {
            None => Ok(false),
            Some(Open::StrictArray { left, .. }) => Ok(*left == 0),
            Some(Open::Object {
                properties,
                name,
                kind,
            }) => {
                if let Some(rest) = self.rest.strip_prefix(&[0, 0, MARKER_OBJECT_END]) {
                    self.rest = rest;
                    return Ok(true);
                }
                // Some FLV writers leave the end marker of the last ECMA array out.
                if let ObjectKind::EcmaArray { declared } = kind
                    && self.rest.is_empty()
                    && saturated(properties.len()) >= *declared
                {
                    return Ok(true);
                }
                *name = self.short_string()?;
                Ok(false)
            }
        }
    }

    /// A declared element count. Each element takes a byte at least, and nothing is allocated from the count.
    fn element_count(&mut self) -> Result<u32, Error> {
        let at = self.at();
        let count = u32::from_be_bytes(self.array()?);
        if count > saturated(self.rest.len()) {
            return Err(Error::Count { count, at });
        }
        Ok(count)
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let len = u16::from_be_bytes(self.array()?);
        self.text(usize::from(len))
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let at = self.at();
        let len = u32::from_be_bytes(self.array()?);
        match usize::try_from(len) {
            Ok(bytes) if bytes <= STRING_LEN_MAX => self.text(bytes),
            _ => Err(Error::StringLength { len, at }),
        }
    }

    fn text(&mut self, len: usize) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn u8(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(Error::Truncated { at: self.len });
        };
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::Truncated { at: self.len });
        };
        self.rest = rest;
        Ok(head)
    }

    fn at(&self) -> usize {
        self.len.saturating_sub(self.rest.len())
    }

    fn count_node(&mut self) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            Err(Error::Nodes)
        } else {
            Ok(())
        }
    }
}

impl Open {
    fn into_value(self) -> Value {
        match self {
            Self::StrictArray { values, .. } => Value::StrictArray(values),
            Self::Object {
                properties, kind, ..
            } => match kind {
                ObjectKind::Object => Value::Object(properties),
                ObjectKind::EcmaArray { .. } => Value::EcmaArray(properties),
                ObjectKind::Typed { class } => Value::TypedObject { class, properties },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_each_marker() {
        check(b"\x00\x3f\xf0\0\0\0\0\0\0", Ok(Value::Number(1.0)));
        check(b"\x01\x01", Ok(Value::Boolean(true)));
        check(b"\x02\0\x04live", Ok("live".into()));
        check(
            b"\x03\0\x03app\x02\0\x04live\0\0\x09",
            Ok(Value::object([("app", "live".into())])),
        );
        check(b"\x05", Ok(Value::Null));
        check(b"\x06", Ok(Value::Undefined));
        check(b"\x07\0\x01", Ok(Value::Reference(1)));
        check(
            b"\x08\0\0\0\x01\0\x01a\x05\0\0\x09",
            Ok(ecma([("a", Value::Null)])),
        );
        check(
            b"\x0a\0\0\0\x02\x05\x06",
            Ok(Value::StrictArray(vec![Value::Null, Value::Undefined])),
        );
        check(b"\x0a\0\0\0\0", Ok(Value::StrictArray(vec![])));
        check(
            b"\x0b\0\0\0\0\0\0\0\0\0\0",
            Ok(Value::Date {
                unix_ms: 0.0,
                timezone: 0,
            }),
        );
        check(b"\x0c\0\0\0\x02hi", Ok(Value::LongString("hi".into())));
        check(b"\x0d", Ok(Value::Undefined));
        check(b"\x0f\0\0\0\x02hi", Ok(Value::XmlDocument("hi".into())));
        check(
            b"\x10\0\x01C\0\x01a\x05\0\0\x09",
            Ok(Value::TypedObject {
                class: "C".into(),
                properties: vec![("a".into(), Value::Null)],
            }),
        );
        check(b"\x02\0\x02\xC0\xAE", Ok("\u{FFFD}\u{FFFD}".into()));
    }

    #[test]
    fn decodes_what_sloppy_writers_leave_behind() {
        // No end marker after the last ECMA array; a count that is too low; an empty name.
        check(b"\x08\0\0\0\x01\0\x01a\x05", Ok(ecma([("a", Value::Null)])));
        check(
            b"\x08\0\0\0\0\0\x01a\x05\0\0\x09",
            Ok(ecma([("a", Value::Null)])),
        );
        check(
            b"\x03\0\0\x05\0\0\x09",
            Ok(Value::object([("", Value::Null)])),
        );
    }

    #[test]
    fn refuses_what_is_not_amf0() {
        check(b"\x00\x3f", Err(Error::Truncated { at: 2 }));
        check(b"\x02\0\x05live", Err(Error::Truncated { at: 7 }));
        check(b"\x03\0\x01a\x05", Err(Error::Truncated { at: 5 }));
        check(
            b"\x08\0\0\0\x02\0\x01a\x05",
            Err(Error::Truncated { at: 9 }),
        );
        check(
            b"\x04",
            Err(Error::Marker {
                marker: 0x04,
                at: 0,
            }),
        );
        check(
            b"\x09",
            Err(Error::Marker {
                marker: 0x09,
                at: 0,
            }),
        );
        check(b"\x11\x0a", Err(Error::Amf3 { at: 0 }));
        check(b"\x0a\0\0\0\x01\x11", Err(Error::Amf3 { at: 5 }));
        check(
            b"\x0c\0\x01\0\x01",
            Err(Error::StringLength {
                len: 0x1_0001,
                at: 1,
            }),
        );
        check(
            b"\x0a\xff\xff\xff\xff\x05",
            Err(Error::Count {
                count: u32::MAX,
                at: 1,
            }),
        );
        check(
            b"\x08\xff\xff\xff\xff\0\0\x09",
            Err(Error::Count {
                count: u32::MAX,
                at: 1,
            }),
        );
        let zeroes = vec![MARKER_NULL; TOTAL_LEN_MAX + 1];
        assert_eq!(
            decode_all(&zeroes),
            Err(Error::Total {
                len: TOTAL_LEN_MAX + 1
            })
        );
        assert_eq!(
            decode_all(&zeroes[..NODES_MAX]).map(|all| all.len()),
            Ok(NODES_MAX)
        );
        assert_eq!(decode_all(&zeroes[..=NODES_MAX]), Err(Error::Nodes));
    }

    #[test]
    fn bounds_nesting_of_every_container() {
        let openings: [&[u8]; 4] = [
            b"\x03\0\x01a",
            b"\x08\0\0\0\x01\0\x01a",
            b"\x0a\0\0\0\x01",
            b"\x10\0\x01C\0\x01a",
        ];
        for opening in openings {
            let named = opening.first() != Some(&MARKER_STRICT_ARRAY);
            for (depth, accepted) in [(10, true), (16, true), (17, false), (70_000, false)] {
                let mut input = opening.repeat(depth);
                input.push(MARKER_NULL);
                if named {
                    input.extend(b"\0\0\x09".repeat(depth));
                }
                input.truncate(TOTAL_LEN_MAX);
                let result = decode_all(&input);
                assert_eq!(result.is_ok(), accepted, "{opening:?} x {depth}");
                if !accepted {
                    let at = opening.len() * DEPTH_MAX;
                    assert_eq!(result, Err(Error::Depth { at }), "{opening:?} x {depth}");
                }
            }
        }
    }

    #[test]
    fn encodes_text_and_names_that_do_not_fit() {
        let text = "x".repeat(STRING_LEN_MAX);
        let mut out = Vec::new();
        encode(&text.as_str().into(), &mut out);
        encode(
            &Value::Object(vec![(text.clone(), Value::Null), ("a".into(), true.into())]),
            &mut out,
        );
        assert_eq!(
            decode_all(&out),
            Ok(vec![
                Value::LongString(text),
                Value::object([("a", true.into())])
            ])
        );
    }

    #[test]
    fn looks_properties_up() {
        let value = ecma([
            ("app", "live".into()),
            ("n", 2.0.into()),
            ("b", true.into()),
        ]);
        assert_eq!(value.get("app").and_then(Value::as_str), Some("live"));
        assert_eq!(value.get("n").and_then(Value::as_number), Some(2.0));
        assert_eq!(value.get("b").and_then(Value::as_bool), Some(true));
        assert_eq!(value.get("none"), None);
        assert_eq!(Value::Null.get("app"), None);
    }

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec(any_value(), 0..4)) {
            let mut out = Vec::new();
            values.iter().for_each(|value| encode(value, &mut out));
            prop_assert_eq!(decode_all(&out), Ok(values));
        }

        #[test]
        fn a_cut_value_is_an_error(value in any_value(), cut in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode(&value, &mut out);
            let cut = cut.index(out.len());
            // An ECMA array may end without its end marker.
            if cut > 0 && !format!("{value:?}").contains("EcmaArray") {
                prop_assert!(decode_all(&out[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode_all(&input);
        }

        #[test]
        fn arbitrary_markers_never_panic(input in prop::collection::vec(0u8..0x12, 0..512)) {
            if let Ok(values) = decode_all(&input) {
                // What was decoded can be written and read again.
                let mut out = Vec::new();
                values.iter().for_each(|value| encode(value, &mut out));
                prop_assert!(decode_all(&out).is_ok());
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        let leaf = prop_oneof![
            number.prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
            any::<u16>().prop_map(Value::Reference),
            (number, any::<i16>())
                .prop_map(|(unix_ms, timezone)| Value::Date { unix_ms, timezone }),
            ".{0,20}".prop_map(Value::LongString),
            ".{0,20}".prop_map(Value::XmlDocument),
        ];
        leaf.prop_recursive(5, 64, 4, |inner| {
            let properties = prop::collection::vec((".{0,8}", inner.clone()), 0..4);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.clone().prop_map(Value::EcmaArray),
                (".{0,8}", properties)
                    .prop_map(|(class, properties)| Value::TypedObject { class, properties }),
                prop::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    fn ecma<const N: usize>(properties: [(&str, Value); N]) -> Value {
        Value::EcmaArray(
            properties
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        )
    }

    #[track_caller]
    fn check(input: &[u8], expected: Result<Value, Error>) {
        assert_eq!(
            decode_all(input),
            expected.map(|value| vec![value]),
            "{input:02x?}"
        );
    }
}
