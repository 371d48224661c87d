//! An address that nobody answers at: the packets of a new connection go nowhere.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long a connection may take before the queue counts as full.
const FULL_AFTER: Duration = Duration::from_millis(300);
/// Connections tried to fill the queue.
const FILL_MAX: usize = 64;

/// A listener that accepts nothing and whose queue is full, so that the kernel drops what comes.
#[derive(Debug)]
pub struct BlackHole {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Listens on a free port and fills its queue.
    pub async fn start() -> std::io::Result<BlackHole> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        for _ in 0..FILL_MAX {
            match tokio::time::timeout(FULL_AFTER, TcpStream::connect(address)).await {
                Ok(stream) => queue.push(stream?),
                Err(_) => return Ok(BlackHole { listener, _queue: queue }),
            }
        }
        Err(std::io::Error::other("the queue of the listener does not fill up"))
    }

    /// Where nobody answers.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
