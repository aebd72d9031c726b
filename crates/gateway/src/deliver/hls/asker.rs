//! Who asks: what the handlers read of a request.
//!
//! Owns: its peer, its headers, and the part of its query that is ours. Does not own: the directives of LL-HLS
//! ([`weir_package::hls::reload`]), or which requests come from the same viewer ([`super::viewers`]).

use std::{
    mem,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts},
};

use super::{Refused, cmcd, refuse, viewers::Asks};
use crate::net::{Outbox, client::Peer};

/// Who asks for a playlist, a manifest or an object.
pub(in crate::deliver) struct Asker {
    hls_ctx: Option<String>,
    pub(super) start: Option<String>,
    uri: Uri,
    pub(super) peer: IpAddr,
    pub(in crate::deliver) headers: HeaderMap,
    /// Of its connection, where that sends files.
    pub(in crate::deliver) outbox: Option<Outbox>,
}

/// Takes the headers out of the request: nobody else reads them.
impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let [hls_ctx, start] = values(parts.uri.query().unwrap_or(""), ["hls_ctx", "start"])
            .map_err(|repeated| refuse(StatusCode::BAD_REQUEST, &repeated.to_string()))?;
        // Every connection says who its peer is.
        let peer = parts.extensions.get();
        Ok(Self {
            hls_ctx,
            start,
            uri: parts.uri.clone(),
            peer: peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(addr)| *addr),
            headers: mem::take(&mut parts.headers),
            outbox: parts.extensions.remove(),
        })
    }
}

impl Asker {
    pub(super) fn asks(&self, protocol: &'static str) -> Asks<'_> {
        Asks {
            protocol,
            hls_ctx: self.hls_ctx.as_deref(),
            peer: self.peer,
            headers: &self.headers,
        }
    }

    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or("")
    }

    /// What an answer with text depends on.
    pub(in crate::deliver) fn terms(&self) -> Terms {
        let accepted = self.headers.get(header::ACCEPT_ENCODING);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        let mut if_none_match = HeaderMap::new();
        for value in self.headers.get_all(header::IF_NONE_MATCH) {
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                if_none_match.append(header::IF_NONE_MATCH, copy);
            }
        }
        Terms {
            gzip: accepted.is_some_and(accepts_gzip),
            if_none_match,
        }
    }
}

/// What an answer with text depends on. It has no bytes in common with the head of the request: one that waits would hold
/// the buffer that its head was read into.
pub(in crate::deliver) struct Terms {
    /// Whether it may be compressed.
    pub(super) gzip: bool,
    /// The condition, if there is one.
    pub(super) if_none_match: HeaderMap,
}

/// The same key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} stands there twice")]
struct Repeated(&'static str);

/// The values of these keys in a query, decoded.
fn values<const N: usize>(
    query: &str,
    keys: [&'static str; N],
) -> Result<[Option<String>; N], Repeated> {
    let mut values = [const { None }; N];
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = values.iter_mut().zip(keys).find(|(_, known)| *known == key);
        if let Some((place, key)) = known {
            let value = cmcd::decode(value).unwrap_or_else(|| value.to_owned());
            if place.replace(value).is_some() {
                return Err(Repeated(key));
            }
        }
    }
    Ok(values)
}

/// Whether `Accept-Encoding` names gzip without forbidding it (RFC 9110, section 12.5.3).
fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut pieces = coding.split(';').map(str::trim);
        let named = pieces
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = pieces.any(|piece| matches!(piece, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_where_it_is_accepted() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br, identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(accepted), expected, "{accepted:?}");
        }
    }

    #[test]
    fn values_in_queries() {
        for (query, expected) in [
            ("", Ok([None, None])),
            ("b=2&a=1", Ok([Some("1"), Some("2")])),
            ("a", Ok([Some(""), None])),
            ("a=%2D120&ab=3", Ok([Some("-120"), None])),
            ("a=%", Ok([Some("%"), None])),
            ("A=1&_HLS_msn=4", Ok([None, None])),
            ("a=1&b=2&a=1", Err(Repeated("a"))),
        ] {
            let expected = expected.map(|values| values.map(|value| value.map(str::to_owned)));
            assert_eq!(values(query, ["a", "b"]), expected, "{query}");
        }
    }

    #[test]
    fn what_an_answer_depends_on_holds_nothing_of_the_request() {
        let head = bytes::Bytes::from_static(b"\"one\"");
        let value = HeaderValue::from_maybe_shared(head.clone()).expect("a header value");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, value);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let asker = Asker {
            hls_ctx: None,
            start: None,
            uri: Uri::from_static("/"),
            peer: Ipv4Addr::UNSPECIFIED.into(),
            headers,
            outbox: None,
        };
        let terms = asker.terms();
        let condition = &terms.if_none_match[header::IF_NONE_MATCH];
        assert_eq!(condition, "\"one\"");
        assert_ne!(condition.as_bytes().as_ptr(), head.as_ptr(), "a copy");
        assert!(terms.gzip);
    }
}
