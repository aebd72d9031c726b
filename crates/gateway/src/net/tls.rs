//! TLS: one certificate for every listener that speaks it, replaced while connections live.
//!
//! Owns: reading the certificate and its key, looking for new ones, and which protocols are offered (ALPN, RFC 7301).
//! Does not own: connections (they are sockets like all others, in this module's siblings) or TLS itself (rustls:
//! versions 1.2 and 1.3), or whom we trust as a client ([`trust`]). Clients show no certificate, and the name that they
//! ask for (SNI) does not matter.

pub(super) mod trust;
mod validity;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    time::{MissedTickBehavior, interval},
};
pub use tokio_rustls::TlsAcceptor;
pub use trust::Trust;

/// HTTP/2, as ALPN calls it.
pub(super) const HTTP_2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN calls it.
const HTTP_1: &[u8] = b"http/1.1";

/// How often the files are read: soon enough for somebody who waits for it, and next to no work.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Longest file in bytes; a chain of certificates has a few thousand.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file is no certificate or key, whatever else it is.
    #[error("{} has more than {FILE_LEN_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    /// There is no certificate, or one that is cut off.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key, or one that is cut off.
    #[error("{} holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// Certificate and key belong to different pairs.
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate was good once.
    #[error("the certificate in {} has expired", .0.display())]
    Expired(PathBuf),
    /// Certificate or key is damaged, or of a kind that is not known.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file of the certificate.
        path: PathBuf,
        /// What rustls says.
        reason: rustls::Error,
    },
}

/// The certificate that all TLS listeners show, and where it comes from.
#[derive(Debug, Clone)]
pub struct CertificateStore {
    files: Arc<Files>,
    shown: Arc<Shown>,
    errors: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl CertificateStore {
    /// Reads the chain of certificates in `cert` (our own first) and the private key in `key`, both PEM; both may be
    /// in one file.
    ///
    /// # Errors
    /// They are missing or damaged, do not belong together, or have expired.
    pub async fn load(cert: PathBuf, key: PathBuf) -> Result<Self, Error> {
        let files = Files { cert, key };
        let certified = files.certified_key(&files.read().await?)?;
        Ok(Self {
            files: Arc::new(files),
            shown: Arc::new(Shown(ArcSwap::from_pointee(certified))),
            errors: Arc::default(),
        })
    }

    /// For a listener of HTTP: HTTP/2 for those that know it.
    #[must_use]
    pub fn http_acceptor(&self) -> TlsAcceptor {
        self.acceptor(&[HTTP_2, HTTP_1])
    }

    /// For a listener of RTMP.
    #[must_use]
    pub fn rtmp_acceptor(&self) -> TlsAcceptor {
        self.acceptor(&[])
    }

    /// How many times new files could not be used.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Takes over what the files come to hold, for connections from then on. While that cannot be used, the last good
    /// certificate stays. Never ends.
    ///
    /// What the files hold is compared, not their times: two writes may have the same, and links may change instead.
    pub async fn watch(self) {
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            let found = self.files.read().await;
            if seen.as_ref() == Some(&found) {
                continue;
            }
            let certified = match &found {
                Ok(pem) => self.files.certified_key(pem),
                Err(error) => Err(error.clone()),
            };
            match certified {
                Ok(certified) => self.show(certified),
                Err(error) => {
                    self.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "the new certificate is not taken; the last one stays");
                }
            }
            seen = Some(found);
        }
    }

    fn show(&self, certified: CertifiedKey) {
        let certified = Arc::new(certified);
        let last = self.shown.0.swap(Arc::clone(&certified));
        // The first look finds what `load` has found.
        if last.cert != certified.cert {
            tracing::info!("new connections get the new certificate");
        }
    }

    fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3");
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Files {
    async fn read(&self) -> Result<Pem, Error> {
        Ok(Pem {
            cert: read(&self.cert).await?,
            key: read(&self.key).await?,
        })
    }

    fn certified_key(&self, pem: &Pem) -> Result<CertifiedKey, Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.cert).collect();
        let chain = chain.map_err(|_| Error::NoCertificate(self.cert.clone()))?;
        let own = chain
            .first()
            .ok_or_else(|| Error::NoCertificate(self.cert.clone()))?;
        let not_after = validity::not_after(own);
        let key =
            PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| Error::NoKey(self.key.clone()))?;
        let certified = CertifiedKey::from_der(chain, key, &default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::Mismatch {
                cert: self.cert.clone(),
                key: self.key.clone(),
            },
            reason => Error::Unusable {
                path: self.cert.clone(),
                reason,
            },
        })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        if not_after.is_some_and(|last| last < now) {
            return Err(Error::Expired(self.cert.clone()));
        }
        Ok(certified)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = async {
        let file = File::open(path).await?;
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).await
    };
    read.await.map_err(|reason| Error::Read {
        path: path.to_owned(),
        reason: reason.to_string(),
    })?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(Error::TooLong(path.to_owned()));
    }
    Ok(bytes)
}
