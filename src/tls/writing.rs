//! Tells the moment at which a request begins to be written: from then on the answer's time runs.
//!
//! By HTTP/1.1 that is when the connection first asks for the body. By HTTP/2 it asks for a piece long before there is a stream for it, but
//! for the next one only when that is on its way: so the first piece is a single byte.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::HttpVersion;

/// A request's body that reports when the connection takes it up.
#[derive(Debug)]
pub(super) struct ReportingBody {
    bytes: Bytes,
    /// What is handed out before writing has begun.
    ahead: usize,
    begun: Option<oneshot::Sender<()>>,
}

/// Becomes ready when writing has begun, or the body is gone.
pub(super) type Begun = oneshot::Receiver<()>;

impl ReportingBody {
    /// A body, and what waits for its being written.
    pub(super) fn new(bytes: Bytes, http: HttpVersion) -> (Self, Begun) {
        let (sender, begun) = oneshot::channel();
        let ahead = match http {
            HttpVersion::Http11 => 0,
            HttpVersion::Http2 => bytes.len().min(1),
        };
        (Self { bytes, ahead, begun: Some(sender) }, begun)
    }
}

impl Body for ReportingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.ahead > 0 {
            let piece = this.bytes.split_to(std::mem::take(&mut this.ahead));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(begun) = this.begun.take() {
            // An error means that nobody waits any more.
            let _ = begun.send(());
        }
        let bytes = std::mem::take(&mut this.bytes);
        Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Exact, so that the request carries a `Content-Length`: some receivers refuse chunks.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
