//! The moment at which a request begins to be written: from then on the answer's time runs. Until then it can be given up, and not a
//! byte of its body goes out, whatever the connection does at the same moment.
//!
//! By HTTP/1.1 that is when the connection first asks for the body. By HTTP/2 it asks for a piece long before there is a stream for it, but
//! for the next one only when that is on its way: so the first piece is a single byte.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
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

/// A request that was given up before it began to be written. Nobody waits for what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request was given up")]
pub(super) struct GivenUp;

/// Becomes ready when writing has begun, or the body is gone.
#[derive(Debug)]
pub(super) struct Begun(oneshot::Receiver<()>);

impl Begun {
    /// Keeps writing from beginning; `false` when it has begun.
    pub(super) fn give_up(&mut self) -> bool {
        self.0.close();
        !self.has_begun()
    }

    pub(super) fn has_begun(&mut self) -> bool {
        self.0.try_recv().is_ok()
    }
}

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // An error means that the body is gone.
        let _ = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(())
    }
}

impl ReportingBody {
    /// A body, and what waits for its being written.
    pub(super) fn new(bytes: Bytes, http: HttpVersion) -> (Self, Begun) {
        let (sender, begun) = oneshot::channel();
        let ahead = match http {
            HttpVersion::Http11 => 0,
            HttpVersion::Http2 => bytes.len().min(1),
        };
        (Self { bytes, ahead, begun: Some(sender) }, Begun(begun))
    }
}

impl Body for ReportingBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let this = self.get_mut();
        if this.ahead > 0 {
            let piece = this.bytes.split_to(std::mem::take(&mut this.ahead));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(begun) = this.begun.take()
            && begun.send(()).is_err()
        {
            return Poll::Ready(Some(Err(GivenUp)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(body: &mut ReportingBody) -> Poll<Option<Result<Bytes, GivenUp>>> {
        let frame = Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    fn body(http: HttpVersion) -> (ReportingBody, Begun) {
        ReportingBody::new(Bytes::from_static(b"{}"), http)
    }

    #[test]
    fn body_of_a_request_that_was_given_up_is_not_handed_out() {
        let (mut body, mut begun) = body(HttpVersion::Http11);

        assert!(begun.give_up());
        assert_eq!(polled(&mut body), Poll::Ready(Some(Err(GivenUp))));
    }

    #[test]
    fn request_that_has_begun_to_be_written_cannot_be_given_up() {
        let (mut body, mut begun) = body(HttpVersion::Http11);

        assert_eq!(polled(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"{}")))));
        assert!(!begun.give_up());
    }

    #[test]
    fn by_http_2_a_byte_ahead_is_no_beginning() {
        let (mut body, mut begun) = body(HttpVersion::Http2);

        assert_eq!(polled(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"{")))));
        assert!(begun.give_up());
        assert_eq!(polled(&mut body), Poll::Ready(Some(Err(GivenUp))));
    }
}
