//! Who asks: the address of the client behind an HTTP request.
//!
//! Owns: the peer of a connection as a request sees it, and which proxies are believed when they name somebody else
//! (`X-Forwarded-For`; `Forwarded`, RFC 7239). Does not own: what an address is good for. It lives as long as its
//! request: nothing stores one, nothing logs one.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use http::{HeaderMap, header};

/// The header that proxies agreed on before there was a standard.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of the connection, in the extensions of each of its requests.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer(***)")
    }
}

/// Addresses with a prefix in common, such as `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    addr: IpAddr,
    prefix_len: u8,
}

/// The text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IP address or a network, such as 10.0.0.1, 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError;

impl Network {
    /// This machine.
    pub const LOOPBACK: [Self; 2] = [
        Self {
            addr: IpAddr::V4(Ipv4Addr::LOCALHOST),
            prefix_len: 8,
        },
        Self {
            addr: IpAddr::V6(Ipv6Addr::LOCALHOST),
            prefix_len: 128,
        },
    ];

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let (ours, theirs, unused_bits) = match (self.addr, addr) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let unused_bits = u32::saturating_sub(unused_bits, self.prefix_len.into());
        // A shift by all bits leaves nothing to differ.
        (ours ^ theirs).checked_shr(unused_bits).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (addr, prefix_len) = match text.split_once('/') {
            Some((addr, prefix_len)) => (addr, Some(prefix_len)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| NetworkError)?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix_len.map_or(Ok(bits), str::parse);
        match prefix_len {
            Ok(prefix_len) if prefix_len <= bits => Ok(Self { addr, prefix_len }),
            _ => Err(NetworkError),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// The proxies that are believed when they say for whom they ask (`[server] trusted_proxies`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[Network]>);

impl TrustedProxies {
    /// Believes what is in one of these networks.
    #[must_use]
    pub fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    /// The client behind a request: the nearest address that is no trusted proxy. What it says of itself may be
    /// invented, so nothing beyond it is read.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut named = named(headers);
        while self.trusts(client) {
            match named.pop() {
                Some(Some(next)) => client = next,
                _ => break,
            }
        }
        client
    }

    /// Whether an address is that of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(addr))
    }
}

/// The addresses that proxies have noted, the nearest last; `None` where one noted something else.
fn named(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let elements = |name| {
        let values = headers.get_all(name).iter();
        let texts = values.map(|value| value.to_str().unwrap_or_default());
        texts.flat_map(|text| text.split(','))
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        return elements(X_FORWARDED_FOR).map(address).collect();
    }
    let forwarded_for = |element: &str| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        address(node)
    };
    elements(header::FORWARDED.as_str())
        .map(forwarded_for)
        .collect()
}

/// An address with or without quotes, brackets and a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let addr = bare.parse::<IpAddr>();
    let addr = addr.or_else(|_| text.parse::<SocketAddr>().map(|addr| addr.ip()));
    addr.ok().map(|addr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header lines.
    type Given<'a> = &'a [(&'static str, &'a str)];

    #[test]
    fn networks() {
        for (network, addr, expected) in [
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1/8", "127.9.9.9", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
        ] {
            let parsed: Network = network.parse().expect(network);
            let addr = addr.parse().expect(addr);
            assert_eq!(parsed.contains(addr), expected, "{network} {addr}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{network}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/"] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let (proxy, stranger) = ("10.0.0.1", "198.51.100.7");
        let xff = X_FORWARDED_FOR;
        let cases: &[(&str, Given<'_>, &str)] = &[
            (stranger, &[(xff, "203.0.113.9")], stranger),
            (proxy, &[(xff, "203.0.113.9")], "203.0.113.9"),
            ("::ffff:10.0.0.1", &[(xff, "203.0.113.9")], "203.0.113.9"),
            (proxy, &[], proxy),
            (proxy, &[(xff, "192.0.2.1, 203.0.113.9")], "203.0.113.9"),
            (proxy, &[(xff, "203.0.113.9, 10.0.0.2")], "203.0.113.9"),
            (
                proxy,
                &[(xff, "203.0.113.9"), (xff, "10.0.0.2")],
                "203.0.113.9",
            ),
            (proxy, &[(xff, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            (proxy, &[(xff, "203.0.113.9, unknown")], proxy),
            (proxy, &[(xff, "[2001:db8::1]:4711")], "2001:db8::1"),
            (
                proxy,
                &[("forwarded", "for=203.0.113.9;proto=https")],
                "203.0.113.9",
            ),
            (
                proxy,
                &[(
                    "forwarded",
                    "For=\"[2001:db8::1]:4711\", proto=http;for=10.0.0.2:80",
                )],
                "2001:db8::1",
            ),
            (proxy, &[("forwarded", "proto=https")], proxy),
        ];
        let trusted = TrustedProxies::new(&["10.0.0.0/8".parse().expect("a network")]);
        for (peer, given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *given {
                headers.append(*name, value.parse().expect("a header value"));
            }
            let client = trusted.client(peer.parse().expect(peer), &headers);
            assert_eq!(client.to_string(), *expected, "{peer} {given:?}");
        }
    }
}
