//! What of an export never changes: why it was made, and its body. It stands behind the scheduling entry, in one record.
//!
//! ```text
//! scheduling entry or dead letter (postcard) | reasons (postcard) | body, to the end
//! ```

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::record::Record;
use crate::trigger::Reason;

/// Reasons and body, as they are stored.
#[derive(Clone)]
pub(super) struct Frozen {
    bytes: Bytes,
    /// Stored length of the record that it is in, so that settling need not read it again.
    pub(super) record_length: usize,
}

impl Frozen {
    pub(super) fn new(reasons: &[Reason], body: &[u8]) -> Self {
        let mut bytes = encode(reasons);
        bytes.extend_from_slice(body);
        Self { bytes: bytes.into(), record_length: 0 }
    }

    /// Parts a record; `None` when it is not of this shape.
    pub(super) fn part<T: DeserializeOwned>(record: Record) -> Option<(T, Self)> {
        let payload = Bytes::from(record.payload);
        let (entry, frozen) = postcard::take_from_bytes(&payload).ok()?;
        Some((entry, Self { bytes: payload.slice_ref(frozen), record_length: record.length }))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is to be sent; `None` when the reasons cannot be read.
    pub(super) fn body(&self) -> Option<Bytes> {
        self.open().map(|(_, body)| body)
    }

    /// Why it was made, and what is to be sent.
    pub(super) fn open(&self) -> Option<(Vec<Reason>, Bytes)> {
        let (reasons, body) = postcard::take_from_bytes(&self.bytes).ok()?;
        Some((reasons, self.bytes.slice_ref(body)))
    }
}

/// As records are written.
pub(super) fn encode(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_stdvec(value).expect("records have shapes that postcard writes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart() {
        let frozen = Frozen::new(&[Reason::IdentityAdded], b"{}");
        let payload = [encode(&7u64).as_slice(), frozen.as_bytes()].concat();

        let (entry, parted) = Frozen::part::<u64>(Record { payload, length: 5 }).unwrap();

        assert_eq!((entry, parted.body().unwrap(), parted.record_length), (7, Bytes::from_static(b"{}"), 5));
        let empty = Record { payload: vec![], length: 0 };
        assert_eq!(Frozen::part::<u64>(empty).map(|(entry, _)| entry), None);
    }
}
