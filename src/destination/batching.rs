//! How exports are sent together, several in one request. Pure.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes that a request has beside its exports and what parts them.
const AROUND: usize = 2;

/// How exports are sent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most exports in a request.
    pub max_exports: usize,
    /// Most bytes of a request. An export that is longer goes alone.
    pub max_bytes: usize,
    /// How long the first one that may go waits for others.
    pub max_wait: Duration,
    /// How they stand in the request.
    pub format: Format,
}

/// How exports stand in a request. Part of the store's format: what comes new comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// A JSON array.
    Array,
    /// A line each.
    Ndjson,
}

impl Batching {
    /// Whether a request may have `exports` of so many bytes in all.
    pub(crate) fn holds(&self, exports: usize, bytes: usize) -> bool {
        exports <= self.max_exports && (exports == 1 || bytes + exports + AROUND <= self.max_bytes)
    }
}

impl Format {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Ndjson => "ndjson",
        }
    }

    /// What the receiver is told that it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Array => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// A request's body of these, byte for byte, in their order. None of them holds a line break: they are JSON without
    /// white space.
    pub fn join<'a>(self, bodies: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
        let bytes: usize = bodies.clone().map(|body| body.len() + 1).sum();
        let mut joined = Vec::with_capacity(bytes + AROUND);
        match self {
            Self::Array => {
                joined.push(b'[');
                for (index, body) in bodies.enumerate() {
                    joined.extend_from_slice(if index == 0 { b"" } else { b"," });
                    joined.extend_from_slice(body);
                }
                joined.push(b']');
            }
            Self::Ndjson => {
                for body in bodies {
                    joined.extend_from_slice(body);
                    joined.push(b'\n');
                }
            }
        }
        joined.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_stand_in_a_request_as_they_are() {
        let bodies: [&[u8]; 2] = [br#"{"a":1}"#, br#"{"b":"\n"}"#];
        assert_eq!(Format::Array.join(bodies.into_iter()), r#"[{"a":1},{"b":"\n"}]"#);
        assert_eq!(Format::Ndjson.join(bodies.into_iter()), "{\"a\":1}\n{\"b\":\"\\n\"}\n");
        assert_eq!(Format::Array.join(bodies[..1].iter().copied()), r#"[{"a":1}]"#);
        assert_eq!(Format::Ndjson.join(bodies[..1].iter().copied()), "{\"a\":1}\n");
    }

    #[test]
    fn request_is_never_longer_than_it_may_be_but_for_one_export_alone() {
        let bodies: Vec<Vec<u8>> = (1..20).map(|length| vec![b'x'; length]).collect();
        for max_bytes in 1..250 {
            let batching = Batching { max_exports: 15, max_bytes, max_wait: Duration::ZERO, format: Format::Array };
            let mut bytes = 0;
            for (index, body) in bodies.iter().enumerate() {
                bytes += body.len();
                if !batching.holds(index + 1, bytes) {
                    break;
                }
                for format in [Format::Array, Format::Ndjson] {
                    let joined = format.join(bodies[..=index].iter().map(Vec::as_slice)).len();
                    assert!(index == 0 || joined <= max_bytes, "{joined} of {max_bytes}");
                }
                assert!(index < 15);
            }
        }
    }
}
