//! A TCP stream that remembers how the peer began to speak, and notices when it begins another handshake.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Content types of records (RFC 5246, 6.2.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Most first bytes kept: enough to know another protocol by.
const BEGINNING_BYTES_MAX: usize = 16;

/// The stream.
#[derive(Debug)]
pub(super) struct Tap {
    stream: TcpStream,
    heard: Heard,
}

/// What came from the peer so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    beginning: Vec<u8>,
    /// Content type, version and length of the record that comes, as far as they are here.
    header: Vec<u8>,
    record_bytes_left: usize,
    is_encrypted: bool,
    encrypted_handshake_records: usize,
}

impl Tap {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, heard: Heard::default() }
    }

    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }
}

impl Heard {
    /// Whether another handshake has begun. In TLS 1.2 the one record of it that is encrypted is `Finished`; whatever
    /// follows asks for more. TLS 1.3 has no such thing, and hides what its records are.
    pub(super) fn is_handshake_asked_again(&self) -> bool {
        self.encrypted_handshake_records > 1
    }

    /// What the peer speaks, if that cannot be TLS.
    pub(super) fn other_protocol(&self) -> Option<&'static str> {
        other_protocol(&self.beginning)
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        let missing = BEGINNING_BYTES_MAX - self.beginning.len();
        self.beginning.extend(bytes.iter().take(missing));
        while !bytes.is_empty() {
            if self.record_bytes_left > 0 {
                let skipped = self.record_bytes_left.min(bytes.len());
                self.record_bytes_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let &[content, _, _, high, low] = self.header.as_slice() {
                self.record_bytes_left = usize::from(u16::from_be_bytes([high, low]));
                self.encrypted_handshake_records += usize::from(self.is_encrypted && content == HANDSHAKE);
                self.is_encrypted |= content == CHANGE_CIPHER_SPEC;
                self.header.clear();
            }
        }
    }
}

/// What somebody speaks who begins so, if that cannot be TLS.
pub(super) fn other_protocol(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [] | [HANDSHAKE | ALERT, 3, ..] | [HANDSHAKE | ALERT] => None,
        // HTTP/0.9, which a server falls back to when it does not understand the request, is the page alone.
        [b'H', b'T', b'T', b'P', b'/', ..] | [b'<', ..] => Some("plain HTTP"),
        [b'S', b'S', b'H', b'-', ..] => Some("SSH"),
        [b'2', b'2', b'0', b' ' | b'-', ..] => Some("SMTP or FTP"),
        _ => Some("something unknown"),
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.heard.hear(&buffer.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_that_is_asked_again_is_noticed_however_it_arrives() {
        let plain: &[u8] = &[22, 3, 3, 0, 2, 22, 22, 22, 3, 3, 0, 0];
        let change: &[u8] = &[20, 3, 3, 0, 1, 22];
        let encrypted: &[u8] = &[22, 3, 3, 0, 3, 20, 22, 22];
        let data: &[u8] = &[23, 3, 3, 0, 1, 22, 21, 3, 3, 0, 2, 1, 0];
        for (records, is_asked) in [
            ([plain, plain, change, encrypted, data].concat(), false),
            ([plain, plain, change, data, data].concat(), false),
            ([plain, change, encrypted, encrypted].concat(), true),
            ([plain, change, encrypted, data, encrypted, data].concat(), true),
        ] {
            for piece in 1..=records.len() {
                let mut heard = Heard::default();
                records.chunks(piece).for_each(|bytes| heard.hear(bytes));
                assert_eq!(heard.is_handshake_asked_again(), is_asked, "{records:?} in pieces of {piece}");
                assert_eq!(heard.other_protocol(), None);
            }
        }
    }

    #[test]
    fn other_protocols_are_known_by_how_they_begin() {
        for (bytes, what) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], Some("plain HTTP")),
            (b"<!DOCTYPE HTML>", Some("plain HTTP")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some("SSH")),
            (b"220 mail.example ESMTP", Some("SMTP or FTP")),
            (b"\x00\x01\x02", Some("something unknown")),
            (b"\x16\x03\x03", None),
            (b"\x15", None),
            (b"", None),
        ] {
            assert_eq!(other_protocol(bytes), what, "{bytes:?}");
        }
    }
}
