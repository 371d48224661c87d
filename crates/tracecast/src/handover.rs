//! Handing the listening sockets over to a successor, so that a restart refuses nobody.
//!
//! A running gateway listens at `handover.sock` in its data directory; a new one on the same directory asks there:
//!
//! ```text
//! successor                                   predecessor
//!    │─ connects (same user) ──────────────────►│
//!    │◄───────── names and descriptors ─────────│  serves as before
//!    │  checks all that can fail                │
//!    │─ go ────────────────────────────────────►│  accepts nothing more, ends open connections, syncs, journals,
//!    │◄──────────────────────────── released ───│  lets go of log and store, exits 0
//!    │  opens log and store, accepts            │
//! ```
//!
//! Connections that come meanwhile wait in the sockets. A predecessor that dies halfway has let go as well: the start
//! goes on as after any crash.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "handover.sock";
/// First word of the offer; another version is another word.
const GREETING: &str = "tracecast-handover-1";
const GO: &[u8] = b"go\n";
const RELEASED: &[u8] = b"released\n";
/// Most sockets of one offer.
const SOCKETS_MAX: usize = 8;
/// Either side answers within this time, or is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A predecessor stops within this time, whatever its destinations do.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The running gateway on the same data directory, before it was told to go.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    sockets: Vec<(String, std::net::TcpListener)>,
}

impl Predecessor {
    /// Asks whoever runs on `data_dir`; `None` if nobody answers.
    pub(crate) async fn find(data_dir: &Path) -> Option<Predecessor> {
        match tokio::time::timeout(ANSWER_WITHIN, Predecessor::ask(data_dir)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no gateway runs on the data directory");
                None
            }
            Err(_) => {
                tracing::warn!("the gateway that runs on the data directory does not answer");
                None
            }
        }
    }

    async fn ask(data_dir: &Path) -> io::Result<Predecessor> {
        let (path, _dir) = reachable(data_dir)?;
        let stream = UnixStream::connect(path).await?;
        check_user(&stream)?;
        let (text, descriptors) = receive(&stream).await?;
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(GREETING) {
            return Err(io::Error::other("it speaks another version of the handover"));
        }
        let sockets = words.map(str::to_owned).zip(descriptors.into_iter().map(Into::into)).collect();
        Ok(Predecessor { stream, sockets })
    }

    /// Its socket of that name, if it listens where it is to listen; any port is right if none is `wanted`.
    pub(crate) fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<std::net::TcpListener> {
        let is_right = |socket: &std::net::TcpListener| {
            socket
                .local_addr()
                .is_ok_and(|address| address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip()))
        };
        let at = self.sockets.iter().position(|(n, socket)| n == name && is_right(socket))?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Tells it to go, and waits until it has let go of the data directory.
    pub(crate) async fn leave(self) -> io::Result<()> {
        match tokio::time::timeout(GONE_WITHIN, self.go()).await {
            Ok(gone) => gone,
            Err(_) => Err(io::Error::other("the gateway that runs on it does not stop")),
        }
    }

    async fn go(mut self) -> io::Result<()> {
        let pid = self.stream.peer_cred()?.pid();
        // What is not taken over need not be kept open.
        self.sockets.clear();
        let mut answer = Vec::new();
        let told = async {
            self.stream.write_all(GO).await?;
            self.stream.read_to_end(&mut answer).await
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, "the predecessor broke off");
        }
        if answer != RELEASED {
            tracing::warn!(
                "the predecessor ended before it had said so: its log is recovered as after a crash"
            );
            wait_for_end(pid).await;
        }
        Ok(())
    }
}

/// Where successors ask. Its file stays when it is dropped: by then it may be the successor's.
#[derive(Debug)]
pub(crate) struct Doorway {
    listener: UnixListener,
}

/// A successor that has said go, and waits.
#[derive(Debug)]
pub(crate) struct Successor {
    stream: UnixStream,
}

impl Doorway {
    /// Opens it. The caller holds the data directory's lock, so a socket that is there is a dead one's.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Doorway> {
        let path = data_dir.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (reachable, _dir) = reachable(data_dir)?;
        let listener = UnixListener::bind(reachable)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Doorway { listener })
    }

    /// Resolves when a successor wants these sockets, and everything of its own is ready for them.
    pub(crate) async fn successor(&self, sockets: &[(&str, OwnedFd)]) -> Successor {
        loop {
            let offered = match self.listener.accept().await {
                Ok((stream, _)) => tokio::time::timeout(ANSWER_WITHIN, offer(stream, sockets)).await,
                Err(error) => {
                    tracing::debug!(%error, "a successor could not be heard");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            match offered {
                Ok(Ok(successor)) => return successor,
                Ok(Err(error)) => tracing::info!(%error, "a successor asked and went away"),
                Err(_) => tracing::info!("a successor asked and said nothing more"),
            }
        }
    }
}

impl Successor {
    /// The data directory is free.
    pub(crate) async fn released(mut self) {
        let told = tokio::time::timeout(ANSWER_WITHIN, self.stream.write_all(RELEASED)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!("the successor is gone");
        }
    }
}

async fn offer(mut stream: UnixStream, sockets: &[(&str, OwnedFd)]) -> io::Result<Successor> {
    check_user(&stream)?;
    let names: Vec<&str> = std::iter::once(GREETING).chain(sockets.iter().map(|(name, _)| *name)).collect();
    let text = format!("{}\n", names.join(" "));
    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many sockets"));
        }
        let text = [IoSlice::new(text.as_bytes())];
        Ok(rustix::net::sendmsg(&stream, &text, &mut control, SendFlags::NOSIGNAL)?)
    };
    stream.async_io(Interest::WRITABLE, send).await?;
    let mut answer = [0; GO.len()];
    stream.read_exact(&mut answer).await?;
    match answer == GO {
        true => Ok(Successor { stream }),
        false => Err(io::Error::other("it answered something else")),
    }
}

async fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let receive = || {
        let mut text = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        let received = rustix::net::recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        let text = text.get(..received.bytes).unwrap_or_default();
        Ok((String::from_utf8_lossy(text).into_owned(), descriptors))
    };
    stream.async_io(Interest::READABLE, receive).await
}

/// Only the same user may take the sockets, or give some.
fn check_user(stream: &UnixStream) -> io::Result<()> {
    match stream.peer_cred()?.uid() == geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other side is another user")),
    }
}

/// A process that ends closes its files one by one: its locks are free only at its end.
async fn wait_for_end(pid: Option<i32>) {
    let process = pid.and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(process) = process else { return };
    let most = Timespec { tv_sec: GONE_WITHIN.as_secs() as i64, tv_nsec: 0 };
    let ended =
        tokio::task::spawn_blocking(move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&most)));
    if !matches!(ended.await, Ok(Ok(1))) {
        tracing::warn!("the predecessor may still run");
    }
}

/// A path to the socket that is short enough for a socket address, however deep the data directory lies; good as long
/// as the file that comes with it is open.
fn reachable(data_dir: &Path) -> io::Result<(PathBuf, File)> {
    let dir = File::open(data_dir)?;
    Ok((format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()).into(), dir))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn socket() -> (std::net::TcpListener, SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn a_socket_goes_over_with_the_connections_that_wait_in_it() {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than a socket address can say.
        let deep = dir.path().join("d".repeat(100)).join("d".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        assert!(Predecessor::find(&deep).await.is_none());
        // What a dead gateway left.
        drop(Doorway::open(&deep).unwrap());
        assert!(Predecessor::find(&deep).await.is_none());

        let doorway = Doorway::open(&deep).unwrap();
        let mode = std::fs::metadata(deep.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (old, address) = socket();
        let (other, elsewhere) = socket();
        let offered = [("a", OwnedFd::from(old)), ("b", OwnedFd::from(other))];
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();

        let successor = async {
            // One that asks, sees that it cannot start, and goes: nothing happens.
            drop(Predecessor::find(&deep).await.unwrap());
            let mut found = Predecessor::find(&deep).await.unwrap();
            assert!(found.take("a", elsewhere).is_none());
            assert!(found.take("c", address).is_none());
            let any_port = SocketAddr::new(elsewhere.ip(), 0);
            assert_eq!(found.take("b", any_port).unwrap().local_addr().unwrap(), elsewhere);
            let taken = found.take("a", address).unwrap();
            found.leave().await.unwrap();
            taken
        };
        let predecessor = async {
            let successor = doorway.successor(&offered).await;
            drop(offered);
            successor.released().await;
        };
        let (taken, ()) = tokio::join!(successor, predecessor);
        let (mut accepted, _) = taken.accept().unwrap();
        let mut text = [0; 5];
        accepted.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }

    #[tokio::test]
    async fn a_predecessor_that_dies_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut end = Box::pin(wait_for_end(Some(pid)));
        let alive = std::future::poll_fn(|cx| std::task::Poll::Ready(end.as_mut().poll(cx).is_pending()));
        assert!(alive.await);
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(30), end).await.unwrap();
        child.wait().unwrap();
        wait_for_end(Some(pid)).await;
    }
}
