//! What of an export never changes: why it was made, and its body. It stands behind the scheduling entry, in one record.
//!
//! ```text
//! scheduling entry or dead letter (postcard) | reasons (postcard) | body, to the end
//! ```

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::trigger::Reason;

/// Reasons and body, as they are stored.
#[derive(Clone)]
pub(super) struct Frozen(Bytes);

impl Frozen {
    pub(super) fn new(reasons: &[Reason], body: &[u8]) -> Self {
        let mut bytes = encode(reasons);
        bytes.extend_from_slice(body);
        Self(bytes.into())
    }

    /// Parts a payload; `None` when it is not of this shape.
    pub(super) fn part<T: DeserializeOwned>(payload: Vec<u8>) -> Option<(T, Self)> {
        let payload = Bytes::from(payload);
        let (entry, frozen) = postcard::take_from_bytes(&payload).ok()?;
        Some((entry, Self(payload.slice_ref(frozen))))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is to be sent; `None` when the reasons cannot be read.
    pub(super) fn body(&self) -> Option<Bytes> {
        let (_, body) = postcard::take_from_bytes::<Vec<Reason>>(&self.0).ok()?;
        Some(self.0.slice_ref(body))
    }
}

/// As records are written.
pub(super) fn encode(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_stdvec(value).expect("records have shapes that postcard writes")
}

/// How long that would be.
pub(super) fn encoded_length(value: &impl Serialize) -> usize {
    postcard::serialize_with_flavor(value, postcard::ser_flavors::Size::default()).expect("as above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart() {
        let frozen = Frozen::new(&[Reason::IdentityAdded], b"{}");
        let payload = [encode(&7u64).as_slice(), frozen.as_bytes()].concat();

        let (entry, parted) = Frozen::part::<u64>(payload).unwrap();

        assert_eq!((entry, parted.body().unwrap()), (7, Bytes::from_static(b"{}")));
        assert_eq!(Frozen::part::<u64>(vec![]).map(|(entry, _)| entry), None);
    }
}
