//! TLS from outside: certificates, a server that shows one, and a client that takes it.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName},
};

use super::{Dir, PATIENCE, Weir};

/// What the certificates of tests are for.
pub(crate) const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A server with a certificate, in one file with its key.
pub(crate) struct Server {
    pub(crate) weir: Weir,
    pub(crate) pair: Pair,
    /// Where both are.
    pub(crate) file: PathBuf,
    _dir: Dir,
}

impl Server {
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        let (dir, pair) = (Dir::new("tls"), Pair::new());
        let file = dir.path().join("tls.pem");
        fs::write(&file, pair.pem()).expect("the disk takes it");
        let tls = [
            ("WEIR_TLS_CERT", file.to_str().expect("a path in UTF-8")),
            ("WEIR_TLS_HTTPS_ADDR", "127.0.0.1:0"),
            ("WEIR_TLS_RTMPS_ADDR", "127.0.0.1:0"),
        ];
        let weir = Weir::start("dev", &[&tls, environment].concat());
        Self {
            weir,
            pair,
            file,
            _dir: dir,
        }
    }

    /// Replaces the file, at once as tools for certificates do.
    pub(crate) fn install(&self, pem: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, pem).expect("the disk takes it");
        fs::rename(&new, &self.file).expect("the disk takes it");
    }
}

/// A certificate that signs itself, and its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn expired() -> Self {
        Self::with(|params| params.not_after = date_time_ymd(2020, 2, 29))
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().clone(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.cert.clone() + &self.key
    }
}

pub(crate) fn open(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects to whoever shows the certificate of `pair`.
pub(crate) fn connect(
    addr: SocketAddr,
    host: &'static str,
    pair: &Pair,
    alpn: &[&str],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(pair.der.clone())
        .expect("a certificate that signs itself");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ciphers for both versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = open(addr)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(client, stream))
}
