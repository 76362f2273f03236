//! What of an export never changes: why it was made, and its body. It stands behind the scheduling entry, in one record.
//!
//! ```text
//! scheduling entry or dead letter (see `head`) | reasons (postcard) | body, to the end
//! ```

use bytes::Bytes;
use serde::Serialize;

use super::{
    head::{self, Head},
    record::Record,
};
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
    pub(super) fn part<T: Head>(record: Record) -> Option<(T, Self)> {
        let payload = Bytes::from(record.payload);
        let (entry, frozen) = head::decode(&payload)?;
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
    use crate::{
        clock::Timestamp,
        export::{Export, ExportId},
        profile::update::UpdateId,
    };

    #[test]
    fn what_is_put_together_comes_apart() {
        let frozen = Frozen::new(&[Reason::IdentityAdded], b"{}");
        let at = Timestamp::from_millis(7);
        let update = UpdateId::new(at);
        let export = Export::new(ExportId::of(update, at, &"crm".parse().unwrap()), vec![update.into()], at);
        let payload = [head::encode(&export).as_slice(), frozen.as_bytes()].concat();

        let (entry, parted) = Frozen::part::<Export>(Record { payload, length: 5 }).unwrap();

        assert_eq!((entry, parted.body().unwrap(), parted.record_length), (export, Bytes::from_static(b"{}"), 5));
        let empty = Record { payload: vec![], length: 0 };
        assert_eq!(Frozen::part::<Export>(empty).map(|(entry, _)| entry), None);
    }
}
