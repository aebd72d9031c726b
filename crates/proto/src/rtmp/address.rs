//! Where a client wants to publish or play: application, name and query, in the places where clients put them.
//!
//! Owns: percent-decoding (once), the split of `app/name?query`, the redacting [`Secret`].
//! Does not own: what a name may be ([`StreamName`]) and what a key is worth.
//!
//! Clients cut `rtmp://host/live/demo?key=s` at different places. Accepted are the application `live` with the name
//! `demo`, the application `live/demo` with an empty name, and no application with the name `live/demo`; the query may
//! be on the name, the application or `tcUrl`. An application with an instance (`live/room` and a name) is refused
//! unless `live/room` itself is configured. The host is not looked at.

use std::fmt;

use weir_media::{NameError, StreamName};

/// Longest `app`, `tcUrl` or stream name in bytes, query included: the limit of an HTTP request line.
pub(super) const ADDRESS_LEN_MAX: usize = 4096;
/// Query parameters that are kept; no client needs more, and each costs memory.
const PARAMS_MAX: usize = 32;

/// Text that must not reach a log: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
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

/// Query parameters, percent-decoded. Their values may be secrets and are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Secret)>);

impl Params {
    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    fn extend_from_query(&mut self, query: &str) -> Result<(), AddressError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if self.0.len() >= PARAMS_MAX {
                return Err(AddressError::TooManyParams);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.0
                .push((percent_decode(name)?, Secret(percent_decode(value)?)));
        }
        Ok(())
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({})", self.0.len())
    }
}

/// Why an address is refused. The text goes to the client and to the log; it never repeats what the client sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("the address is longer than {ADDRESS_LEN_MAX} bytes")]
    TooLong,
    #[error("the address has more than {PARAMS_MAX} query parameters")]
    TooManyParams,
    #[error("the address is not valid percent-encoded UTF-8")]
    Encoding,
    #[error("unknown application; this server accepts rtmp://host/{accepted}/<name>")]
    UnknownApp { accepted: String },
    #[error("the address has too many parts; use rtmp://host/{app}/<name>")]
    Instance { app: String },
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The application of a connection, checked at `connect`.
#[derive(Debug)]
pub(super) struct Application {
    /// One of the configured applications; `None` when the client leaves it to the stream name.
    app: Option<String>,
    /// A name that followed the application.
    name: Option<StreamName>,
    /// The queries of `app` and `tcUrl`.
    params: Params,
}

/// A resolved address.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) app: String,
    pub(super) name: StreamName,
    pub(super) params: Params,
}

impl AddressError {
    pub(super) fn unknown_app(accepted: &[String]) -> Self {
        Self::UnknownApp {
            accepted: accepted.join("|"),
        }
    }
}

impl Application {
    /// Checks `app` of the `connect` command; without one, the path of `tc_url` takes its place.
    pub(super) fn resolve(
        app: &str,
        tc_url: &str,
        accepted: &[String],
    ) -> Result<Self, AddressError> {
        if app.len() > ADDRESS_LEN_MAX || tc_url.len() > ADDRESS_LEN_MAX {
            return Err(AddressError::TooLong);
        }
        let (url_path, url_query) = split_query(path_of_url(tc_url));
        let (app_path, app_query) = split_query(app);
        let mut params = Params::default();
        params.extend_from_query(app_query)?;
        if url_query != app_query {
            params.extend_from_query(url_query)?;
        }
        let path = if app_path.is_empty() {
            url_path
        } else {
            app_path
        };
        let path = percent_decode(path)?;
        // Users write rtmp://host/live/ as the server address.
        let path = path.strip_suffix('/').unwrap_or(&path);
        if path.is_empty() {
            return Ok(Self {
                app: None,
                name: None,
                params,
            });
        }
        if accepted.iter().any(|app| app == path) {
            return Ok(Self {
                app: Some(path.to_owned()),
                name: None,
                params,
            });
        }
        match path.rsplit_once('/') {
            Some((app, name)) if accepted.iter().any(|accepted| accepted == app) => Ok(Self {
                app: Some(app.to_owned()),
                name: Some(StreamName::parse(name)?),
                params,
            }),
            _ => Err(AddressError::unknown_app(accepted)),
        }
    }

    /// Resolves the name of `publish` or `play`.
    pub(super) fn address(&self, name: &str, accepted: &[String]) -> Result<Address, AddressError> {
        if name.len() > ADDRESS_LEN_MAX {
            return Err(AddressError::TooLong);
        }
        let (path, query) = split_query(name);
        let path = percent_decode(path)?;
        let mut params = Params::default();
        params.extend_from_query(query)?;
        params.0.extend(self.params.0.iter().cloned());
        params.0.truncate(PARAMS_MAX);
        let (app, name) = match (&self.app, &self.name) {
            (Some(app), Some(name)) if path.is_empty() => (app.clone(), name.clone()),
            (Some(app), Some(_)) => return Err(AddressError::Instance { app: app.clone() }),
            (Some(app), None) => (app.clone(), StreamName::parse(&path)?),
            (None, _) => match path.rsplit_once('/') {
                Some((app, name)) if accepted.iter().any(|accepted| accepted == app) => {
                    (app.to_owned(), StreamName::parse(name)?)
                }
                _ => return Err(AddressError::unknown_app(accepted)),
            },
        };
        Ok(Address { app, name, params })
    }
}

impl Address {
    /// The stream key, if one was given beside the name.
    pub(super) fn key(&self) -> Option<Secret> {
        self.params
            .get("key")
            .filter(|key| !key.expose().is_empty())
            .cloned()
    }

    /// The name as a possible stream key.
    pub(super) fn bare_key(&self) -> Option<Secret> {
        self.key()
            .is_none()
            .then(|| Secret(self.name.as_str().to_owned()))
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// What follows the authority of a URL, without the leading slash.
fn path_of_url(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split_once('/').map_or("", |(_, path)| path)
}

/// Decodes `%XX` once. A stray `%`, a NUL or bytes that are not UTF-8 are errors: nothing is cleaned up.
fn percent_decode(text: &str) -> Result<String, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut hex_digit = || {
            bytes
                .next()
                .and_then(|digit| char::from(digit).to_digit(16))
                .ok_or(AddressError::Encoding)
        };
        let value = hex_digit()? * 16 + hex_digit()?;
        out.push(u8::try_from(value).map_err(|_| AddressError::Encoding)?);
    }
    if out.contains(&0) {
        return Err(AddressError::Encoding);
    }
    String::from_utf8(out).map_err(|_| AddressError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cut_the_address_at_different_places() {
        for (app, tc_url, name) in [
            ("live", "rtmp://h/live", "demo?key=s"),
            ("live?key=s", "rtmp://h/live?key=s", "demo"),
            ("live", "rtmp://h:1935/live?key=s", "demo"),
            ("live/?key=s", "rtmp://h/live/?key=s", "demo"),
            ("live/demo?key=s", "", ""),
            ("live/demo", "", "?key=s"),
            ("", "rtmp://h/live", "demo?key=s"),
            ("", "rtmp://h/live/demo?key=s", ""),
            ("", "rtmp://h/", "live/demo?key=s"),
            ("", "", "live/demo?key=s"),
            ("li%76e", "", "d%65mo?k%65y=%73"),
            ("live", "", "demo?vhost=v&key=s&key=t&&flag"),
        ] {
            let address = resolve(app, tc_url, name).unwrap();
            assert_eq!(address.app, "live", "{app:?} {tc_url:?} {name:?}");
            assert_eq!(address.name.as_str(), "demo");
            assert_eq!(address.key().unwrap().expose(), "s");
            assert_eq!(address.bare_key(), None);
        }
        let bare = resolve("live", "", "s3cret?key=").unwrap();
        assert_eq!(bare.key(), None);
        assert_eq!(bare.bare_key().unwrap().expose(), "s3cret");
        // Nobody looks at the host.
        assert!(resolve("live", "rtmp://../../etc/live?vhost=../..", "demo").is_ok());
    }

    #[test]
    fn configured_instances_are_applications() {
        assert_eq!(resolve("room/1", "", "demo").unwrap().app, "room/1");
        assert_eq!(resolve("room/1/demo", "", "").unwrap().app, "room/1");
    }

    #[test]
    fn refuses_with_a_reason() {
        let unknown = || AddressError::unknown_app(&accepted());
        check("other", "", "demo", unknown());
        check("live/a/b", "", "demo", unknown());
        check("li%2576e", "", "demo", unknown());
        check("/live", "", "demo", unknown());
        check("live//", "", "demo", AddressError::Name(NameError::Empty));
        check("", "", "demo", unknown());
        check("", "", "other/demo", unknown());
        check(
            "live/room",
            "",
            "demo",
            AddressError::Instance { app: "live".into() },
        );
        check("live", "", "", AddressError::Name(NameError::Empty));
        check(
            "live/..",
            "",
            "",
            AddressError::Name(NameError::Forbidden(0)),
        );
        check(
            "live",
            "",
            "%2564emo",
            AddressError::Name(NameError::Forbidden(0)),
        );
        check("live", "", "%", AddressError::Encoding);
        check("live", "", "a%1g", AddressError::Encoding);
        check("live", "", "%+4", AddressError::Encoding);
        check("live", "", "demo?key=%ff", AddressError::Encoding);
        check("live", "", "demo%00", AddressError::Encoding);
        let long = "x".repeat(ADDRESS_LEN_MAX + 1);
        check(&long, "", "demo", AddressError::TooLong);
        check("live", &long, "demo", AddressError::TooLong);
        check("live", "", &long, AddressError::TooLong);
        check(
            "live",
            "",
            &("demo?".to_owned() + &"a&".repeat(33)),
            AddressError::TooManyParams,
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let address = resolve("live", "", "s3cret?key=s3cret&token=s3cret").unwrap();
        let shown = format!(
            "{:?} {:?} {:?}",
            address.params,
            address.key(),
            address.bare_key()
        );
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    fn accepted() -> Vec<String> {
        vec!["live".to_owned(), "room/1".to_owned()]
    }

    fn resolve(app: &str, tc_url: &str, name: &str) -> Result<Address, AddressError> {
        let accepted = accepted();
        Application::resolve(app, tc_url, &accepted)?.address(name, &accepted)
    }

    #[track_caller]
    fn check(app: &str, tc_url: &str, name: &str, expected: AddressError) {
        assert_eq!(
            resolve(app, tc_url, name).map(|address| address.app),
            Err(expected)
        );
    }
}
