//! An HTTP/1.1 listener with limits, on TCP or on a unix socket: the inlets and the admin interface stand on it.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustix::process::getuid;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{either::Either, sync::CancellationToken};
use tracing::{debug, warn};

/// Connections at once; further ones wait in the kernel. Some 20 KiB each; who serves them bounds the bodies.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take over its request line and headers, so that idle ones cost no connection for long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Request line and headers together, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to end once we stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait after a failed accept: out of file descriptors, most likely, and some will be free soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect to a unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// A bound socket.
pub struct Listener {
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    /// Its file is removed with it.
    Unix(UnixListener, PathBuf),
}

/// Whose process is at the other end of a unix socket. Handlers get it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The process, where the system tells.
    pub pid: Option<i32>,
}

impl Caller {
    /// This process: who sends it a signal is not known.
    pub(crate) fn ourselves() -> Self {
        Self { uid: getuid().as_raw(), pid: None }
    }
}

impl Listener {
    /// Binds an address; connections wait until [`Listener::serve`].
    ///
    /// # Errors
    /// As the system says.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: Socket::Tcp(TcpListener::bind(address).await?) })
    }

    /// Binds a unix socket that its owner and its group may connect to. One that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::AddrInUse`] when somebody listens there.
    pub async fn bind_unix(path: &Path) -> io::Result<Self> {
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path).await => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }?;
        // Until here the process's umask has kept others out.
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        Ok(Self { socket: Socket::Unix(socket, path.to_owned()) })
    }

    /// Where it listens on TCP; with port 0 asked for, the port it got.
    ///
    /// # Errors
    /// As the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr(),
            Socket::Unix(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Serves until `stop`, then lets requests under way end.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(accepted) = stop.run_until_cancelled(self.accept(&room)).await {
            let (stream, caller, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let router = match caller {
                Some(caller) => router.clone().layer(Extension(caller)),
                None => router.clone(),
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "connection ended");
                }
                drop(permit);
            });
        }
        self.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            warn!("gave up on connections that did not end in time");
        }
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> io::Result<(Stream, Option<Caller>, OwnedSemaphorePermit)> {
        let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // An error only means that small writes may wait a little.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), None, permit))
            }
            Socket::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred()?;
                Ok((Either::Right(stream), Some(Caller { uid: peer.uid(), pid: peer.pid() }), permit))
            }
        }
    }

    fn close(self) {
        if let Socket::Unix(socket, path) = self.socket {
            drop(socket);
            // Another may have been bound there meanwhile, or the directory may be gone: neither is ours to mend.
            let _ = fs::remove_file(path);
        }
    }
}

type Stream = Either<TcpStream, UnixStream>;

/// Whether a socket is there on which nobody listens any more: its process was killed.
async fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        && matches!(UnixStream::connect(path).await, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}
