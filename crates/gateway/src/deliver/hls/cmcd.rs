//! Viewers behind a CDN, as far as their players say who they are (CTA-5004, Common Media Client Data).
//!
//! Owns: reading the session id (`sid`) of a request, and counting those that were seen lately. Does not own: viewers
//! of our own listeners ([`super::viewers`]); the two are never added up, because a CDN passes on only what it has not
//! kept.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;
use weir_media::StreamName;

/// Sessions that are kept at most: anybody can make them up.
const SESSIONS_MAX: usize = 100_000;
/// The longest session id (CTA-5004, `sid`).
const SID_LEN_MAX: usize = 64;
/// The header that carries what a player says in no query.
const CMCD_SESSION: &str = "cmcd-session";

/// The sessions of all streams that came through a CDN.
#[derive(Debug, Clone, Default)]
pub(super) struct Audience {
    seen: Arc<Mutex<HashMap<(StreamName, u64), Instant>>>,
    /// Ids are kept as hashes that mean nothing to any other process.
    hasher: RandomState,
}

impl Audience {
    /// Notes a request of the session `sid`.
    pub(super) fn note(&self, name: &StreamName, sid: &str, now: Instant) {
        let key = (name.clone(), self.hasher.hash_one(sid));
        let mut seen = self.seen.lock();
        if seen.len() < SESSIONS_MAX || seen.contains_key(&key) {
            seen.insert(key, now);
        }
    }

    /// Forgets the sessions that have not asked for `timeout`.
    pub(super) fn expire(&self, now: Instant, timeout: Duration) {
        let is_here = |at: Instant| now.saturating_duration_since(at) < timeout;
        self.seen.lock().retain(|_, at| is_here(*at));
    }

    /// How many sessions of a stream were seen lately.
    pub(super) fn count(&self, name: &StreamName) -> u64 {
        let seen = self.seen.lock();
        seen.keys().filter(|(known, _)| known == name).count() as u64
    }

    /// How many of all streams.
    pub(super) fn total(&self) -> usize {
        self.seen.lock().len()
    }
}

/// The session id that a request carries: in its query (`CMCD=`), or in a header.
pub(super) fn session_id(query: &str, headers: &HeaderMap) -> Option<String> {
    let mut pairs = query.split('&');
    let in_query = pairs.find_map(|pair| pair.strip_prefix("CMCD="));
    if let Some(sid) = in_query.and_then(decode).as_deref().and_then(sid) {
        return Some(sid);
    }
    sid(headers.get(CMCD_SESSION)?.to_str().ok()?)
}

/// The value of `sid` in a list such as `br=3200,sid="6e2fb550"`. Commas stand in quoted values too, but not in this
/// one.
fn sid(list: &str) -> Option<String> {
    let items = list.split(',').map(str::trim);
    let quoted = items
        .filter_map(|item| item.strip_prefix("sid=\""))
        .next()?;
    let (sid, _) = quoted.split_once('"')?;
    (!sid.is_empty() && sid.len() <= SID_LEN_MAX).then(|| sid.to_owned())
}

/// Percent-decoding, once; none where it is no text.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn session_ids_in_queries_and_headers() {
        for (query, header, expected) in [
            ("CMCD=br%3D3200%2Csid%3D%226e2f%22", "", Some("6e2f")),
            ("a=b&CMCD=sid=%226e2f%22,v=1", "", Some("6e2f")),
            ("", "sid=\"6e2f\", v=1", Some("6e2f")),
            ("CMCD=br%3D3200", "sid=\"6e2f\"", Some("6e2f")),
            ("CMCD=sid%3D6e2f", "", None),
            ("CMCD=sid%3D%22%22", "", None),
            ("CMCD=sid%3D%226e2f", "", None),
            ("CMCD=%", "", None),
            ("CMCD=%zz", "", None),
            ("CMCD=%ff", "", None),
            ("cmcd=sid%3D%226e2f%22", "", None),
            ("", "", None),
        ] {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(CMCD_SESSION, HeaderValue::from_static(header));
            }
            let found = session_id(query, &headers);
            assert_eq!(found.as_deref(), expected, "{query} {header}");
        }
        let long = format!("CMCD=sid=%22{}%22", "x".repeat(SID_LEN_MAX + 1));
        assert_eq!(session_id(&long, &HeaderMap::new()), None);
    }

    #[test]
    fn sessions_count_once_and_leave() {
        let (audience, now) = (Audience::default(), Instant::now());
        let name = |text| StreamName::parse(text).expect("a valid name");
        for sid in ["a", "b", "a"] {
            audience.note(&name("one"), sid, now);
        }
        audience.note(&name("two"), "a", now);
        let counts = || (audience.count(&name("one")), audience.count(&name("two")));
        assert_eq!(counts(), (2, 1));
        let timeout = Duration::from_secs(5);
        audience.note(&name("one"), "b", now + timeout);
        audience.expire(now + timeout, timeout);
        assert_eq!(counts(), (1, 0));
        assert_eq!(audience.total(), 1);
    }
}
