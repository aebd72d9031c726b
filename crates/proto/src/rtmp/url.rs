//! The addresses of foreign RTMP servers: `rtmp://host[:port]/app[/instance]/name[?query]`, and the same over TLS.
//!
//! Owns: taking a URL apart, and what of it may be shown.
//! Does not own: name resolution, and the addresses that clients of ours give (module `address`).
//! Specification: RFC 3986 for the authority; the rest is custom. The path is sent as it is written: servers differ in
//! whether they percent-decode.

use std::fmt;

use super::address::{ADDRESS_LEN_MAX, Secret};

/// Default port of `rtmp`.
const PORT_RTMP: u16 = 1935;
/// Default port of `rtmps`: there is none of its own, and servers offer it where firewalls are open.
const PORT_RTMPS: u16 = 443;
/// Longest host name in bytes (RFC 1035, 2.3.4).
const HOST_LEN_MAX: usize = 253;
/// Longest IPv6 address in bytes, with an IPv4 address at its end.
const IPV6_LEN_MAX: usize = 45;
/// Shorter text is no secret. Text that is at least as long as its replacement cannot make a text grow.
const SECRET_LEN_MIN: usize = 4;

/// Where to publish or play. The name may be a stream key, and the query often holds one, so `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    app: String,
    name: Secret,
}

/// Why a URL is refused. The text never repeats the URL: it may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than 4096 bytes.
    #[error("the URL is longer than {ADDRESS_LEN_MAX} bytes")]
    TooLong,
    /// Neither `rtmp` nor `rtmps`.
    #[error("the URL must begin with rtmp:// or rtmps://")]
    Scheme,
    /// `user:password@host`.
    #[error("the URL holds a user name; servers expect keys in the query")]
    UserInfo,
    /// No host, or not one.
    #[error("the host of the URL is neither a name nor an address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port of the URL is not a number from 1 to 65535")]
    Port,
    /// Not `/app/name`.
    #[error("the path of the URL must be /app/name or /app/instance/name")]
    Path,
    /// White space, a control character or a fragment.
    #[error("the URL holds a character at byte {0} that no URL may hold")]
    Character(usize),
}

impl Url {
    /// Takes `url` apart. The last part of the path is the name, everything before it the application.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if url.len() > ADDRESS_LEN_MAX {
            return Err(UrlError::TooLong);
        }
        check_characters(url)?;
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let is_tls = is_tls_scheme(scheme)?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = rest.split_once('/').ok_or(UrlError::Path)?;
        let (host, port) = split_authority(authority, is_tls)?;
        let (app, name) = path.rsplit_once('/').ok_or(UrlError::Path)?;
        if name.is_empty() || app.split('/').any(str::is_empty) {
            return Err(UrlError::Path);
        }
        let name = query.map_or_else(|| name.to_owned(), |query| format!("{name}?{query}"));
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port,
            app: app.to_owned(),
            name: Secret::new(name),
        })
    }

    /// Whether the connection is to be made over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port given, or the default of the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The application, with its instance if there is one.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The stream name and its query, as `publish` and `play` send them.
    #[must_use]
    pub fn name(&self) -> &Secret {
        &self.name
    }

    /// The URL without name and query: `tcUrl` of the `connect` command, and what logs may show.
    #[must_use]
    pub fn tc_url(&self) -> String {
        let (scheme, default) = if self.is_tls {
            ("rtmps", PORT_RTMPS)
        } else {
            ("rtmp", PORT_RTMP)
        };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let port = if self.port == default {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!("{scheme}://{host}{port}/{}", self.app)
    }

    /// `text` of the server with our name and the values of its query blanked out: servers like to repeat them.
    pub(super) fn redact(&self, text: &str) -> String {
        let name = self.name.expose();
        let (path, query) = name.split_once('?').unwrap_or((name, ""));
        let values = query
            .split('&')
            .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        [name, query, path]
            .into_iter()
            .chain(values)
            .filter(|secret| secret.len() >= SECRET_LEN_MIN)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}/***)", self.tc_url())
    }
}

fn check_characters(url: &str) -> Result<(), UrlError> {
    let forbidden = |byte: u8| byte.is_ascii_control() || byte == b' ' || byte == b'#';
    match url.bytes().position(forbidden) {
        Some(at) => Err(UrlError::Character(at)),
        None => Ok(()),
    }
}

fn is_tls_scheme(scheme: &str) -> Result<bool, UrlError> {
    if scheme.eq_ignore_ascii_case("rtmp") {
        Ok(false)
    } else if scheme.eq_ignore_ascii_case("rtmps") {
        Ok(true)
    } else {
        Err(UrlError::Scheme)
    }
}

fn split_authority(authority: &str, is_tls: bool) -> Result<(&str, u16), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            if !looks_like_ipv6(host) {
                return Err(UrlError::Host);
            }
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if host.is_empty() || host.len() > HOST_LEN_MAX || !host.bytes().all(allowed) {
                return Err(UrlError::Host);
            }
            (host, port)
        }
    };
    let port = match (port, is_tls) {
        ("", false) => PORT_RTMP,
        ("", true) => PORT_RTMPS,
        _ => parse_port(port).ok_or(UrlError::Port)?,
    };
    Ok((host, port))
}

/// Whether text can be an IPv6 address (RFC 4291, 2.2). Whoever connects to it says whether it is one.
fn looks_like_ipv6(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    (2..=IPV6_LEN_MAX).contains(&host.len()) && host.contains(':') && host.bytes().all(allowed)
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&port| port > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_urls_apart() {
        // Host, port, application, name, tcUrl.
        for (url, expected) in [
            ("rtmp://h/live/demo", "h 1935 live demo rtmp://h/live"),
            (
                "rtmps://a.b/live/demo",
                "a.b 443 live demo rtmps://a.b/live",
            ),
            ("RTMP://h:19/live/demo", "h 19 live demo rtmp://h:19/live"),
            ("rtmps://h:443/live/demo", "h 443 live demo rtmps://h/live"),
            ("rtmps://h:1935/live/d", "h 1935 live d rtmps://h:1935/live"),
            (
                "rtmp://[::1]/live/demo",
                "::1 1935 live demo rtmp://[::1]/live",
            ),
            (
                "rtmp://[f::1]:19/live/d",
                "f::1 19 live d rtmp://[f::1]:19/live",
            ),
            (
                "rtmp://h/a/b/d?k=a/b?c",
                "h 1935 a/b d?k=a/b?c rtmp://h/a/b",
            ),
            (
                "rtmp://h/a%20b/mp4:c%d?",
                "h 1935 a%20b mp4:c%d? rtmp://h/a%20b",
            ),
            (
                "rtmp://h/live/d@m?k=a@b:c",
                "h 1935 live d@m?k=a@b:c rtmp://h/live",
            ),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(parsed.is_tls(), url.starts_with("rtmps"), "{url}");
            let (host, port, app) = (parsed.host(), parsed.port(), parsed.app());
            let (name, tc_url) = (parsed.name().expose(), parsed.tc_url());
            assert_eq!(format!("{host} {port} {app} {name} {tc_url}"), expected);
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        use UrlError::{Character, Host, Path, Port, Scheme, TooLong, UserInfo};
        let long = format!("rtmp://h/live/{}", "x".repeat(ADDRESS_LEN_MAX));
        let long_host = format!("rtmp://{}/live/demo", "x".repeat(HOST_LEN_MAX + 1));
        for (url, expected) in [
            ("", Scheme),
            ("h/live/demo", Scheme),
            ("http://h/live/demo", Scheme),
            ("rtmpt://h/live/demo", Scheme),
            ("rtmp:/h/live/demo", Scheme),
            ("rtmp://user:secret@h/live/demo", UserInfo),
            ("rtmp://@h/live/demo", UserInfo),
            ("rtmp:///live/demo", Host),
            ("rtmp://:1935/live/demo", Host),
            ("rtmp://h%2e/live/demo", Host),
            ("rtmp://h\u{e4}/live/demo", Host),
            ("rtmp://[::1/live/demo", Host),
            ("rtmp://[]/live/demo", Host),
            ("rtmp://[fe80::1%25eth0]/live/demo", Host),
            ("rtmp://[127.0.0.1]/live/demo", Host),
            (&long_host, Host),
            ("rtmp://::1/live/demo", Host),
            ("rtmp://h:/live/demo", Port),
            ("rtmp://h:0/live/demo", Port),
            ("rtmp://h:65536/live/demo", Port),
            ("rtmp://h:+1/live/demo", Port),
            ("rtmp://h:1:2/live/demo", Port),
            ("rtmp://[::1]1935/live/demo", Port),
            ("rtmp://h", Path),
            ("rtmp://h?a/b/c", Path),
            ("rtmp://h/", Path),
            ("rtmp://h/demo", Path),
            ("rtmp://h//demo", Path),
            ("rtmp://h/live/", Path),
            ("rtmp://h/live//demo", Path),
            ("rtmp://h/live/?key=s", Path),
            ("rtmp://h/live/de mo", Character(16)),
            ("rtmp://h/live/demo\r\n", Character(18)),
            ("rtmp://h/live/demo#x", Character(18)),
            (&long, TooLong),
        ] {
            assert_eq!(Url::parse(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn names_and_queries_are_not_shown() {
        let url = Url::parse("rtmp://h/live/5ecret?key=5ecret2&5ecret3").unwrap();
        assert_eq!(format!("{url:?}"), "Url(rtmp://h/live/***)");
        for (text, shown) in [
            ("5ecret?key=5ecret2&5ecret3 not found", "*** not found"),
            ("no 5ecret here", "no *** here"),
            ("token 5ecret2, 5ecret3", "token ***2, ***3"),
            ("busy", "busy"),
            ("ey", "ey"),
        ] {
            assert_eq!(url.redact(text), shown);
        }
        let url = Url::parse("rtmp://h/live/demo?key=5ecret&&a=").unwrap();
        assert_eq!(url.redact("bad 5ecret"), "bad ***");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(tail in "[a-z0-9:/?@#\\[\\] .%é-]{0,40}") {
            if let Ok(url) = Url::parse(&format!("rtmp://{tail}")) {
                let whole = format!("{}/{}", url.tc_url(), url.name().expose());
                prop_assert_eq!(Url::parse(&whole), Ok(url));
            }
        }
    }
}
