//! Whom we trust when we are the client: what a server on the other end of a TLS connection has to show.
//!
//! Owns: the authorities (those of the machine and those of the operator), the handshake, and words for what goes wrong
//! in it. Does not own: connecting ([`crate::net::dial`]).
//! Specification: RFC 5280 and RFC 9525 as webpki has them; the name that is checked is the host of the URL, and the
//! server is told it (SNI, RFC 6066) unless it is an address.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Error, read};

/// The authorities whose certificates we take from servers.
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

/// Why there is no TLS with a server, in words for the operator: they continue a sentence about that server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "its certificate is from no authority known here; name the file of that authority in [tls] ca"
    )]
    UnknownAuthority,
    #[error("its certificate is for another name than {0:?}; connect to a name that it is for")]
    WrongName(String),
    #[error("its certificate has expired, or the clock of this machine is wrong")]
    Expired,
    #[error("its certificate is not valid yet, or the clock of this machine is wrong")]
    NotYet,
    #[error("it does not speak TLS on this port; use its RTMPS port, or no TLS")]
    NotTls,
    #[error("{0}")]
    Other(io::Error),
}

impl Trust {
    /// Trusts the authorities that this machine trusts, and those in the PEM file `ca`.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub async fn load(ca: Option<&Path>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let known = rustls_native_certs::load_native_certs();
        for error in &known.errors {
            tracing::warn!(%error, "some certificate authorities of this machine cannot be read");
        }
        roots.add_parsable_certificates(known.certs);
        if let Some(path) = ca {
            let pem = read(path).await?;
            let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let own = own.unwrap_or_default();
            if own.is_empty() {
                return Err(Error::NoCertificate(path.to_owned()));
            }
            for certificate in own {
                roots.add(certificate).map_err(|reason| Error::Unusable {
                    path: path.to_owned(),
                    reason,
                })?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Speaks TLS with the server `host`, a name or an address.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, Refusal> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Refusal::Other(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let connected = connector.connect(name, stream).await;
        connected.map_err(|error| Refusal::new(error, host))
    }
}

impl Refusal {
    fn new(error: io::Error, host: &str) -> Self {
        // Servers of other protocols close what they do not understand.
        if error.kind() == io::ErrorKind::UnexpectedEof
            || error.kind() == io::ErrorKind::ConnectionReset
        {
            return Self::NotTls;
        }
        let cause = error.get_ref().and_then(|error| error.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::InvalidCertificate(reason)) => match reason {
                // The latter is an authority that has a new key under its old name.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownAuthority
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName(host.to_owned())
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYet
                }
                _ => Self::Other(error),
            },
            _ => Self::Other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        use CertificateError::{
            ApplicationVerificationFailure, BadSignature, Expired, NotValidForName, NotValidYet,
            UnknownIssuer,
        };
        let certificate = |reason| {
            let error = rustls::Error::InvalidCertificate(reason);
            io::Error::new(io::ErrorKind::InvalidData, error)
        };
        let message = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let message = io::Error::new(io::ErrorKind::InvalidData, message);
        for (error, expected) in [
            (certificate(UnknownIssuer), "[tls] ca"),
            (certificate(BadSignature), "[tls] ca"),
            (certificate(NotValidForName), "another name than \"host\""),
            (certificate(Expired), "has expired"),
            (certificate(NotValidYet), "not valid yet"),
            (
                certificate(ApplicationVerificationFailure),
                "invalid peer certificate",
            ),
            (message, "does not speak TLS"),
            (io::ErrorKind::UnexpectedEof.into(), "does not speak TLS"),
            (io::ErrorKind::ConnectionReset.into(), "does not speak TLS"),
            (io::Error::other("something else"), "something else"),
        ] {
            let said = Refusal::new(error, "host").to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
