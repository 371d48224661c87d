//! How slowly an answer may come: a receiver that answers byte by byte must not hold a place for a whole attempt.
//!
//! Two of the client libraries read their answers themselves. One lets its bodies be wrapped, the other only the
//! connections they come over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

/// A receiver that answers more slowly than this, bytes per second, is cut off ...
const PROGRESS_BYTES_PER_S: f64 = 1024.0;
/// ... after so much patience at the start.
const GRACE: Duration = Duration::from_secs(5);

/// An answer while it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    start: Instant,
    bytes: u64,
}

impl Pace {
    /// It begins now.
    pub(crate) fn new() -> Pace {
        Pace { start: Instant::now(), bytes: 0 }
    }

    pub(crate) fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When the next bytes must be there: every byte that came buys the time it may take.
    pub(crate) fn deadline(&self) -> Instant {
        self.start + GRACE + Duration::from_secs_f64(self.bytes as f64 / PROGRESS_BYTES_PER_S)
    }
}

/// An answer came too slowly.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("answered too slowly")]
pub(crate) struct TooSlow;

/// What is to keep pace: the body of an answer, a connection, or what makes them.
#[derive(Clone, Debug)]
pub(crate) struct Paced<T>(pub(crate) T);

/// The body of an answer.
struct PacedBody {
    body: SdkBody,
    pace: Pace,
    timer: Pin<Box<Sleep>>,
}

impl PacedBody {
    fn new(body: SdkBody) -> PacedBody {
        let pace = Pace::new();
        PacedBody { body, pace, timer: Box::pin(sleep_until(pace.deadline())) }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pace.came(frame.data_ref().map_or(0, Bytes::len));
                let deadline = self.pace.deadline();
                self.timer.as_mut().reset(deadline);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(TooSlow.into())))
            }
            ended => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection. What is written begins a request; the first byte read after it begins the answer. One that has been
/// answered and lies idle ends by this too, later than any pool would keep it.
pub(crate) struct PacedIo<T> {
    io: T,
    answer: Option<(Pace, Pin<Box<Sleep>>)>,
}

impl<T: AsyncRead + Unpin> AsyncRead for PacedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let came = buf.filled().len().saturating_sub(before);
                let (pace, timer) = self.answer.get_or_insert_with(|| {
                    let pace = Pace::new();
                    (pace, Box::pin(sleep_until(pace.deadline())))
                });
                pace.came(came);
                timer.as_mut().reset(pace.deadline());
                Poll::Ready(Ok(()))
            }
            Poll::Pending => match &mut self.answer {
                Some((_, timer)) => {
                    ready!(timer.as_mut().poll(cx));
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow)))
                }
                None => Poll::Pending,
            },
            failed => failed,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PacedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answer = None;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answer = None;
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Connection> Connection for PacedIo<TokioIo<T>> {
    fn connected(&self) -> Connected {
        self.io.inner().connected()
    }
}

impl<C, T> Service<Uri> for Paced<C>
where
    C: Service<Uri, Response = T, Future: Send + 'static>,
    T: 'static,
{
    type Response = TokioIo<PacedIo<TokioIo<T>>>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, C::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async {
            let io = TokioIo::new(connecting.await?);
            Ok(TokioIo::new(PacedIo { io, answer: None }))
        })
    }
}

/// The AWS client, which hides its connections but not its bodies.
impl HttpClient for Paced<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Paced(self.0.http_connector(settings, components)))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for Paced<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answering = self.0.call(request);
        HttpConnectorFuture::new(async {
            Ok(answering.await?.map(|body| SdkBody::from_body_1_x(PacedBody::new(body))))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::sleep;

    use super::*;

    /// How many of `chunks` chunks, one every `pause`, come in time.
    fn in_time(chunks: u32, bytes: usize, pause: Duration) -> u32 {
        let mut pace = Pace::new();
        let start = pace.start;
        for n in 0..chunks {
            if start + pause * (n + 1) > pace.deadline() {
                return n;
            }
            pace.came(bytes);
        }
        chunks
    }

    #[test]
    fn less_than_a_kilobyte_a_second_is_cut_off() {
        assert_eq!(in_time(1_000, 1, Duration::from_secs(1)), 5);
        assert_eq!(in_time(1, 1, Duration::from_secs(6)), 0);
        assert!(in_time(1_000, 1_000, Duration::from_secs(1)) < 1_000);
        assert_eq!(in_time(1_000, 1_025, Duration::from_secs(1)), 1_000);
        assert_eq!(in_time(9, 10_240, Duration::from_secs(4)), 9);
    }

    fn is_too_slow(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<TooSlow>())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_an_answer_and_not_for_the_rest_of_it() {
        let (io, mut peer) = tokio::io::duplex(64 << 10);
        let mut io = PacedIo { io, answer: None };
        let mut byte = [0];
        for _ in 0..3 {
            io.write_all(b"a request").await.unwrap();
            // As long as the attempt: that is not ours.
            let ours = tokio::time::timeout(Duration::from_secs(25), io.read(&mut byte)).await;
            assert!(ours.is_err(), "nothing has come, and nothing has ended");
            peer.write_all(&[0; 8 << 10]).await.unwrap();
            io.read_exact(&mut [0; 8 << 10]).await.unwrap();
        }
        // Eight kilobytes buy eight seconds.
        let trickle = tokio::spawn(async move {
            for _ in 0..100 {
                sleep(Duration::from_secs(1)).await;
                if peer.write_all(b"x").await.is_err() {
                    return;
                }
            }
        });
        let mut came = Vec::new();
        let error = io.read_to_end(&mut came).await.unwrap_err();
        assert!(is_too_slow(&error), "{error}");
        assert!((12..=13).contains(&came.len()), "{} bytes", came.len());
        trickle.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_cut_off_where_it_stalls() {
        struct Stalls(u32);
        impl Body for Stalls {
            type Data = Bytes;
            type Error = Box<dyn Error + Send + Sync>;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                if self.0 == 0 {
                    return Poll::Pending;
                }
                self.0 -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
            }
        }
        let mut body = PacedBody::new(SdkBody::from_body_1_x(Stalls(3)));
        let mut frames = 0;
        let error = loop {
            match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(_)) => frames += 1,
                Some(Err(error)) => break error,
                None => panic!("it never ends"),
            }
        };
        assert_eq!(frames, 3);
        assert!(error.is::<TooSlow>(), "{error}");
    }
}
