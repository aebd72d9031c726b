//! A TCP connection, with TLS or without, and the one deadline that every protocol needs: a peer that takes no byte is
//! closed (FAULTS R3).
//!
//! Owns: socket options, the TLS handshake, the write stall, and writing many shared buffers in one call.
//! Does not own: the certificate ([`super::tls`]), or what is sent from files ([`super::outbox`]).

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::net::{
    Outbox, dial,
    outbox::before_stand_in,
    tls::{self, Trust},
};

/// Unacknowledged data older than this ends a connection even when nothing is written: a peer that vanished.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes that the kernel keeps for a peer beyond what is under way to it. Without this it keeps megabytes for each, so
/// that a slow viewer is many seconds late before it looks slow.
const UNSENT_LEN_MAX: u32 = 128 << 10;

/// How long a TLS handshake may take (FAULTS R1).
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose writes fail when the peer takes no byte for a while.
///
/// What is written may stay in a buffer of TLS until it is flushed.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    opened: Instant,
    stall_limit: Duration,
    /// Set while the socket is full.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Stream {
    Plain(Plain),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection without TLS.
#[derive(Debug)]
struct Plain {
    /// Several may hold it, of whom one reads and one writes at a time.
    stream: Arc<TcpStream>,
    /// Once somebody wants to send files.
    outbox: Option<Outbox>,
}

impl Plain {
    /// Writes where some of the bytes stand for files: what comes before the first of these, or some of that file.
    fn poll_write_files(
        &self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(before) = before_stand_in(bufs) else {
            let what = "a file is to be sent, but not where something stands for it";
            return Poll::Ready(Err(io::Error::other(what)));
        };
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let written = self.stream.try_io(Interest::WRITABLE, || match before {
                0 => outbox.send(&*self.stream),
                _ => {
                    // The kernel waits for the file, so that a head is no packet of its own.
                    let (bufs, mut none) = (&bufs[..before], SendAncillaryBuffer::default());
                    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                    Ok(sendmsg(&*self.stream, bufs, &mut none, flags)?)
                }
            });
            match written {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The way of the sole owner needs a system call less.
        if let Some(stream) = Arc::get_mut(&mut self.stream) {
            return Pin::new(stream).poll_read(cx, buf);
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(outbox) = self.outbox.as_ref().filter(|outbox| !outbox.is_empty()) {
            return self.poll_write_files(outbox, cx, bufs);
        }
        if let Some(stream) = Arc::get_mut(&mut self.stream) {
            return Pin::new(stream).poll_write_vectored(cx, bufs);
        }
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(bufs) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

trait Transport: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

impl Socket {
    /// Takes over a connection without TLS.
    pub(crate) fn plain(stream: TcpStream, stall_limit: Duration) -> io::Result<Self> {
        set_options(&stream)?;
        Ok(Self {
            stream: Stream::Plain(Plain {
                stream: Arc::new(stream),
                outbox: None,
            }),
            opened: Instant::now(),
            stall_limit,
            stalled: None,
        })
    }

    /// Takes over an accepted connection; with an acceptor, TLS comes first.
    pub(crate) async fn accept(
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        stall_limit: Duration,
    ) -> io::Result<Self> {
        let Some(tls) = tls else {
            return Self::plain(stream, stall_limit);
        };
        let opened = Instant::now();
        set_options(&stream)?;
        // Boxed: the handshake is larger than all that follows it.
        let handshake = Box::pin(tls.accept(stream));
        let stream = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| io::Error::new(ErrorKind::TimedOut, "no TLS handshake in time"))??;
        Ok(Self {
            stream: Stream::Tls(Box::new(stream.into())),
            opened,
            stall_limit,
            stalled: None,
        })
    }

    /// Takes over a connection to the server `host`, which is to speak TLS.
    pub(crate) async fn connect_tls(
        stream: TcpStream,
        trust: &Trust,
        host: &str,
        stall_limit: Duration,
    ) -> Result<Self, dial::Failure> {
        let opened = Instant::now();
        set_options(&stream)?;
        let stream = Box::pin(trust.connect(stream, host)).await?;
        Ok(Self {
            stream: Stream::Tls(Box::new(stream.into())),
            opened,
            stall_limit,
            stalled: None,
        })
    }

    /// When the connection was taken over, before any handshake.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// The connection below, for others to write to as long as nothing is written here; none with TLS.
    pub(crate) fn share(&self) -> Option<Arc<TcpStream>> {
        match &self.stream {
            Stream::Plain(plain) => Some(Arc::clone(&plain.stream)),
            Stream::Tls(_) => None,
        }
    }

    /// What sends files on this connection; none with TLS, which has to encrypt them.
    pub(crate) fn outbox(&mut self) -> Option<Outbox> {
        match &mut self.stream {
            Stream::Plain(plain) => Some(plain.outbox.get_or_insert_default().clone()),
            Stream::Tls(_) => None,
        }
    }

    /// Whether the two sides agreed on HTTP/2.
    pub(crate) fn is_http_2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2),
        }
    }

    fn transport(&mut self) -> Pin<&mut dyn Transport> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream),
        }
    }

    /// Passes on a finished write; while the socket is full, fails once that has lasted too long.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.stall_limit;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            ErrorKind::TimedOut,
            "the peer has stopped reading",
        )))
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let options = SockRef::from(stream);
    options.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    options.set_tcp_notsent_lowat(UNSENT_LEN_MAX)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.transport().poll_read(cx, buf)) {
            // Many close without telling TLS. Every protocol of ours knows by itself whether it was cut off.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport().poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport().poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport().poll_flush(cx);
        self.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = self.transport().poll_shutdown(cx);
        self.watch(shut_down, cx)
    }
}

/// Shared buffers that are written one after the other, as few calls as possible.
#[derive(Debug, Default)]
pub(crate) struct Burst(VecDeque<Bytes>);

impl Burst {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push_back(bytes);
        }
    }
}

impl Buf for Burst {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |bytes| bytes)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let pairs = dst.iter_mut().zip(&self.0);
        pairs
            .map(|(slot, bytes)| *slot = IoSlice::new(bytes))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.0.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
    }
}
