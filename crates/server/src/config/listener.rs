//! Which addresses are listened on.
//!
//! Owns: the rules that make listeners of settings: one primary HTTP listener, further ones with the same routes,
//! RTMP, and both over TLS once there is a certificate; what is a default and what was configured; loopback only in `weir dev`. Does not own: binding them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Config, Mode, Origins, Problem};

/// The further HTTP listener that no setting names, where users of a packager look. It is off as soon as any address
/// is configured, so that several nodes run on one machine.
const PACKAGER_PORT: u16 = 8083;

/// The settings of addresses. As soon as one of them is set, [`PACKAGER_PORT`] and the default addresses for a CDN and of
/// RTMPS are off.
const ADDRESSES: [&str; 6] = [
    "server.httpflv_addr",
    "server.cdn_addr",
    "hls.addr",
    "rtmp.addr",
    "tls.https_addr",
    "tls.rtmps_addr",
];

/// One address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where. Port 0 lets the system choose. In [`Mode::Dev`] an IPv6 loopback stands beside the IPv4 one; that
    /// the machine has no such address is no problem.
    pub addr: SocketAddr,
    /// Whether the operator asked for it. If it cannot be bound, a configured one is an error, a default one a
    /// warning.
    pub configured: bool,
    /// What is spoken there.
    pub purpose: Purpose,
}

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// HTTP: everything that is not RTMP.
    Http,
    /// HTTP for a CDN: media only.
    Cdn,
    /// RTMP in and out.
    Rtmp,
    /// As HTTP, over TLS.
    Https,
    /// As RTMP, over TLS.
    Rtmps,
}

impl Purpose {
    /// The word for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Cdn => "cdn",
            Self::Rtmp => "rtmp",
            Self::Https => "https",
            Self::Rtmps => "rtmps",
        }
    }
}

impl Config {
    /// Gives addresses that nobody chose the host of the server, then lists all listeners, the primary HTTP one
    /// first. Needs everything else of the configuration in place.
    pub(super) fn listen(&mut self, origins: &Origins, mode: Mode) -> Result<(), Vec<Problem>> {
        let chosen = |key: &str| origins.contains_key(key);
        let (host, port) = (self.server.host, self.server.port);
        if !chosen("server.httpflv_addr") {
            self.server.httpflv_addr = SocketAddr::new(host, port);
        }
        for (key, addr) in [
            ("server.cdn_addr", &mut self.server.cdn_addr),
            ("rtmp.addr", &mut self.rtmp.addr),
            ("hls.addr", &mut self.hls.addr),
            ("tls.https_addr", &mut self.tls.https_addr),
            ("tls.rtmps_addr", &mut self.tls.rtmps_addr),
        ] {
            if !chosen(key) {
                addr.set_ip(host);
            }
        }

        let mut problems = Vec::new();
        for (key, addr, purpose) in self.wanted(origins) {
            let configured = chosen(key);
            let addrs = match mode {
                Mode::Serve => Some(vec![addr]),
                Mode::Dev => on_loopback(addr),
            };
            let added = match addrs {
                Some(addrs) => addrs.into_iter().try_for_each(|addr| {
                    self.add(Listener {
                        addr,
                        configured,
                        purpose,
                    })
                }),
                None => Err(format!(
                    "{} is not loopback, where weir dev stays; use weir serve",
                    addr.ip()
                )),
            };
            if let Err(text) = added {
                let origin = origins
                    .get(key)
                    .or_else(|| origins.get("server.host"))
                    .cloned();
                problems.push(Problem::new(origin.unwrap_or(super::Origin::Default), text));
            }
        }
        problems.dedup();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// The key, address and purpose of every listener that there is to be, the primary HTTP one first.
    fn wanted(&self, origins: &Origins) -> Vec<(&'static str, SocketAddr, Purpose)> {
        let chosen = |key: &str| origins.contains_key(key);
        let primary = ["server.httpflv_addr", "server.port", "server.host"];
        let primary = primary
            .into_iter()
            .find(|key| chosen(key))
            .unwrap_or("server.httpflv_addr");
        let mut wanted = vec![
            (primary, self.server.httpflv_addr, Purpose::Http),
            ("hls.addr", self.hls.addr, Purpose::Http),
            ("rtmp.addr", self.rtmp.addr, Purpose::Rtmp),
        ];
        let any_addr_chosen = ADDRESSES.into_iter().any(chosen);
        if !any_addr_chosen {
            let packager = SocketAddr::new(self.server.host, PACKAGER_PORT);
            wanted.push(("", packager, Purpose::Http));
        }
        if !any_addr_chosen || chosen("server.cdn_addr") {
            wanted.push(("server.cdn_addr", self.server.cdn_addr, Purpose::Cdn));
        }
        if self.tls.cert.is_some() {
            wanted.push(("tls.https_addr", self.tls.https_addr, Purpose::Https));
            if !any_addr_chosen || chosen("tls.rtmps_addr") {
                wanted.push(("tls.rtmps_addr", self.tls.rtmps_addr, Purpose::Rtmps));
            }
        }

        wanted
    }

    /// Adds a listener, unless one like it is there already.
    fn add(&mut self, new: Listener) -> Result<(), String> {
        let at = |listener: &&mut Listener| listener.addr == new.addr;
        let Some(old) = self.listeners.iter_mut().find(at) else {
            self.listeners.push(new);
            return Ok(());
        };
        if old.purpose == new.purpose {
            old.configured |= new.configured;
        } else if new.addr.port() == 0 {
            self.listeners.push(new);
        } else if old.configured && new.configured {
            let [one, other] = [new, *old].map(|at| at.purpose.as_str().to_uppercase());
            return Err(format!("{} cannot be both {one} and {other}", new.addr));
        } else {
            // A default one that is taken costs a warning, here as when it is taken by another program.
            let kept = if new.configured { new } else { *old };
            *old = kept;
            let text = format!("{} is {:?} only, as configured", kept.addr, kept.purpose);
            self.warnings.push(text);
        }
        Ok(())
    }
}

/// What `weir dev` listens on for `addr`: "every interface" becomes both loopbacks; another address must be loopback.
fn on_loopback(addr: SocketAddr) -> Option<Vec<SocketAddr>> {
    if addr.ip().is_unspecified() {
        let both = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        return Some(both.map(|ip| SocketAddr::new(ip, addr.port())).to_vec());
    }
    addr.ip().is_loopback().then(|| vec![addr])
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    const SERVE: Mode = Mode::Serve;
    const DEV: Mode = Mode::Dev;

    #[test]
    fn defaults() {
        check(
            SERVE,
            &[],
            "http 0.0.0.0:8080, http 0.0.0.0:8081, rtmp 0.0.0.0:1935, http 0.0.0.0:8083, cdn 0.0.0.0:8084",
        );
    }

    #[test]
    fn an_address_turns_the_packager_port_off() {
        check(
            SERVE,
            &[("HTTPFLV_ADDR", "127.0.0.1:9000")],
            "http 127.0.0.1:9000!, http 0.0.0.0:8081, rtmp 0.0.0.0:1935",
        );
        check(
            SERVE,
            &[("RTMP_ADDR", "0.0.0.0:1945")],
            "http 0.0.0.0:8080, http 0.0.0.0:8081, rtmp 0.0.0.0:1945!",
        );
        check(
            SERVE,
            &[("WEIR_HLS_ADDR", "0.0.0.0:8091")],
            "http 0.0.0.0:8080, http 0.0.0.0:8091!, rtmp 0.0.0.0:1935",
        );
    }

    #[test]
    fn a_port_or_host_does_not() {
        check(
            SERVE,
            &[("PORT", "9000")],
            "http 0.0.0.0:9000!, http 0.0.0.0:8081, rtmp 0.0.0.0:1935, http 0.0.0.0:8083, cdn 0.0.0.0:8084",
        );
        check(
            SERVE,
            &[("WEIR_SERVER_HOST", "::1")],
            "http [::1]:8080!, http [::1]:8081, rtmp [::1]:1935, http [::1]:8083, cdn [::1]:8084",
        );
    }

    #[test]
    fn httpflv_addr_beats_port() {
        check(
            SERVE,
            &[("HTTPFLV_ADDR", "0.0.0.0:9000"), ("PORT", "9001")],
            "http 0.0.0.0:9000!, http 0.0.0.0:8081, rtmp 0.0.0.0:1935",
        );
    }

    #[test]
    fn the_same_address_twice_is_one_listener() {
        check(
            SERVE,
            &[
                ("HTTPFLV_ADDR", "0.0.0.0:9000"),
                ("HLS_ADDR", "0.0.0.0:9000"),
            ],
            "http 0.0.0.0:9000!, rtmp 0.0.0.0:1935",
        );
        check(
            SERVE,
            &[("PORT", "8083")],
            "http 0.0.0.0:8083!, http 0.0.0.0:8081, rtmp 0.0.0.0:1935, cdn 0.0.0.0:8084",
        );
        check(
            SERVE,
            &[("HLS_ADDR", "0.0.0.0:8080")],
            "http 0.0.0.0:8080!, rtmp 0.0.0.0:1935",
        );
    }

    #[test]
    fn rtmp_and_http_do_not_share() {
        check(
            SERVE,
            &[("RTMP_ADDR", "0.0.0.0:8080"), ("PORT", "8080")],
            "RTMP_ADDR: 0.0.0.0:8080 cannot be both RTMP and HTTP",
        );
        check(
            SERVE,
            &[("RTMP_ADDR", "0.0.0.0:8081")],
            "http 0.0.0.0:8080, rtmp 0.0.0.0:8081!",
        );
        check(
            SERVE,
            &[("HLS_ADDR", "0.0.0.0:1935")],
            "http 0.0.0.0:8080, http 0.0.0.0:1935!",
        );
        check(
            SERVE,
            &[
                ("RTMP_ADDR", "127.0.0.1:0"),
                ("HTTPFLV_ADDR", "127.0.0.1:0"),
                ("HLS_ADDR", "127.0.0.1:0"),
            ],
            "http 127.0.0.1:0!, rtmp 127.0.0.1:0!",
        );
    }

    #[test]
    fn tls_needs_a_certificate() {
        check(
            SERVE,
            &[("WEIR_TLS_CERT", "cert.pem")],
            "http 0.0.0.0:8080, http 0.0.0.0:8081, rtmp 0.0.0.0:1935, http 0.0.0.0:8083, cdn 0.0.0.0:8084, \
             https 0.0.0.0:8443, rtmps 0.0.0.0:1936",
        );
        check(
            SERVE,
            &[
                ("WEIR_TLS_CERT", "cert.pem"),
                ("WEIR_TLS_HTTPS_ADDR", "0.0.0.0:443"),
            ],
            "http 0.0.0.0:8080, http 0.0.0.0:8081, rtmp 0.0.0.0:1935, https 0.0.0.0:443!",
        );
        check(
            SERVE,
            &[
                ("WEIR_TLS_CERT", "cert.pem"),
                ("WEIR_TLS_HTTPS_ADDR", "0.0.0.0:443"),
                ("WEIR_TLS_RTMPS_ADDR", "0.0.0.0:443"),
            ],
            "WEIR_TLS_RTMPS_ADDR: 0.0.0.0:443 cannot be both RTMPS and HTTPS",
        );
        check(
            SERVE,
            &[("WEIR_TLS_RTMPS_ADDR", "0.0.0.0:443")],
            "http 0.0.0.0:8080, http 0.0.0.0:8081, rtmp 0.0.0.0:1935",
        );
    }

    #[test]
    fn dev_stays_on_loopback() {
        check(
            DEV,
            &[],
            "http 127.0.0.1:8080, http [::1]:8080, http 127.0.0.1:8081, http [::1]:8081, \
             rtmp 127.0.0.1:1935, rtmp [::1]:1935, http 127.0.0.1:8083, http [::1]:8083, cdn 127.0.0.1:8084, cdn [::1]:8084",
        );
        check(
            DEV,
            &[
                ("RTMP_ADDR", "0.0.0.0:1945"),
                ("HTTPFLV_ADDR", "127.0.0.1:9000"),
                ("HLS_ADDR", "[::]:9001"),
            ],
            "http 127.0.0.1:9000!, http 127.0.0.1:9001!, http [::1]:9001!, rtmp 127.0.0.1:1945!, rtmp [::1]:1945!",
        );
        check(
            DEV,
            &[("HLS_ADDR", "192.0.2.1:8081")],
            "HLS_ADDR: 192.0.2.1 is not loopback, where weir dev stays; use weir serve",
        );
        check(
            DEV,
            &[("WEIR_SERVER_HOST", "192.0.2.1")],
            "WEIR_SERVER_HOST: 192.0.2.1 is not loopback, where weir dev stays; use weir serve",
        );
    }

    /// `expected` lists the listeners, configured ones with an exclamation mark, or the problems.
    fn check(mode: Mode, environment: &[(&str, &str)], expected: &str) {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let environment = environment.iter().map(pair).collect();
        let listeners = load(
            mode,
            &Sources {
                environment,
                ..Sources::default()
            },
        )
        .map(|loaded| {
            let show = |listener: &Listener| {
                let purpose = format!("{:?}", listener.purpose).to_lowercase();
                let mark = if listener.configured { "!" } else { "" };
                format!("{purpose} {}{mark}", listener.addr)
            };
            loaded.config.listeners.iter().map(show).collect::<Vec<_>>()
        });
        let shown =
            listeners.unwrap_or_else(|problems| problems.iter().map(ToString::to_string).collect());
        assert_eq!(shown.join(", "), expected);
    }
}
