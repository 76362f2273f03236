//! A port that never gets as far as HTTP.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::pki::HOST;

/// What happens to who knocks.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    /// The kernel's queue is full: no TCP connection comes about.
    Full,
    /// TCP comes about; TLS is never answered.
    Mute,
    /// Closed as soon as it is open.
    Closing,
    /// Reset as soon as it is open.
    Resetting,
    /// HTTP without TLS.
    Plain,
}

/// A door that somebody keeps. Dropping it ends it.
pub struct Kept {
    address: SocketAddr,
    keeper: JoinHandle<()>,
}

impl Door {
    pub async fn keep(self) -> Kept {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((HOST.parse::<std::net::IpAddr>().unwrap(), 0).into()).unwrap();
        let listener = socket.listen(if let Self::Full = self { 1 } else { 64 }).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        if let Self::Full = self {
            // Full once one more has to wait.
            while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
                held.push(stream);
            }
        }
        Kept { address, keeper: tokio::spawn(self.stand(listener, held)) }
    }

    async fn stand(self, listener: TcpListener, mut held: Vec<TcpStream>) {
        if let Self::Full = self {
            return std::future::pending().await;
        }
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            match self {
                Self::Full => unreachable!("it accepts nobody"),
                Self::Mute => held.push(stream),
                Self::Closing => drop(stream),
                Self::Resetting => stream.set_zero_linger().unwrap(),
                // Whether that is read, the tests see from the other side.
                Self::Plain => drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await),
            }
        }
    }
}

impl Kept {
    pub fn url(&self) -> String {
        format!("https://{}/in", self.address)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
