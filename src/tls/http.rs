//! The version of HTTP that is spoken inside TLS, and the bounds of each.
//!
//! It is agreed on in the handshake (ALPN) or not at all: one version is offered, and there is no falling back to the other. Over HTTP/2
//! all requests of a client share a connection, as many at once as the server's settings allow; what one of them may cost is bounded
//! here. The libraries bound what a server may do to us unasked: frames of more than 16 KiB, continued headers beyond their bound, and
//! more than a thousand faulty streams end the connection; pings and settings are answered one at a time.

use std::time::Duration;

use hyper_util::client::legacy::connect::Connected;
use reqwest::ClientBuilder;

use super::exchange::ANSWER_BYTES_MAX;

/// Most header lines of an HTTP/1.1 answer. Their bytes are bounded by the connection's read buffer, 417,792 bytes in hyper 1.
const LINES_MAX: usize = 100;

/// Most bytes of an HTTP/2 answer's headers, as HPACK counts them: 32 a line more than is in it.
pub(super) const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// What a server may send of one answer unread: all that is taken of its body.
const STREAM_WINDOW_BYTES: u32 = ANSWER_BYTES_MAX as u32;

/// What a server may send of all answers together unread: answers are read as they come, so it is a bound, not a brake.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// A connection on which nothing came for so long is asked whether it lives. An unused one is closed soon, so it is asked a few times only.
const PING_AFTER: Duration = Duration::from_secs(1);

/// How long it may take to say so: longer than a lost packet takes to be sent again.
const PONG_WITHIN: Duration = Duration::from_secs(3);

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1: a request at a time on each connection.
    #[default]
    Http11,
    /// HTTP/2: requests share a connection.
    Http2,
}

/// A server that did not choose what was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server did not choose HTTP/2 in the handshake (ALPN `h2`)")]
pub(super) struct NotChosen;

impl HttpVersion {
    /// As configurations say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    /// What is offered in the handshake.
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http11 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }

    /// Refuses a connection on which another version would be spoken. That a server does not speak of versions at all means HTTP/1.1.
    pub(super) fn agreed(self, connected: &Connected) -> Result<(), NotChosen> {
        match self {
            Self::Http11 => Ok(()),
            Self::Http2 => connected.is_negotiated_h2().then_some(()).ok_or(NotChosen),
        }
    }

    /// The settings of a client that speaks it.
    pub(super) fn set_up(self, client: ClientBuilder) -> ClientBuilder {
        match self {
            Self::Http11 => client.http1_only().http1_max_headers(LINES_MAX),
            Self::Http2 => client
                .http2_prior_knowledge()
                .http2_max_header_list_size(HEADER_BYTES_MAX)
                .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
                .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .http2_adaptive_window(false)
                .http2_keep_alive_interval(PING_AFTER)
                .http2_keep_alive_timeout(PONG_WITHIN)
                // A peer that floods us and reads nothing would keep a connection that nobody uses any more.
                .http2_keep_alive_while_idle(true),
        }
    }
}
