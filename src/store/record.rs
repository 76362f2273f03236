//! A record: payload, version, checksum, cut into chunks.
//!
//! ```text
//! version (1) | CRC-32 of key and payload (4, LE) | payload length (4, LE) | payload
//! ```
//! The whole is cut every 4 KiB; chunk `n` stands under the record's key followed by the byte `n`.

use sled::Batch;

use Unreadable::Damaged;

/// The version this code writes and reads.
const VERSION: u8 = 1;
const HEADER: usize = 9;
/// Sixteen of these and their deltas stay far below the 128 KiB at which sled moves a page to a file it never syncs.
const CHUNK: usize = 4096;
/// Chunks are counted by one byte.
const PAYLOAD_MAX: usize = 256 * CHUNK - HEADER;

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Unreadable {
    /// The bytes under its key are not what was written there.
    #[error("the record fails its checksum")]
    Damaged,
    /// sled or the disk failed; the record may be good.
    #[error("cannot read from the store: {0}")]
    Failed(#[from] sled::Error),
}

/// Stages moving all chunks under a key, whatever they hold, to the same chunks of another.
pub(super) fn move_away(db: &sled::Tree, batch: &mut Batch, key: &[u8], to: &[u8]) -> sled::Result<Staged> {
    let copied = copy_away(db, batch, key, to)?;
    (0..copied.operations).for_each(|index| batch.remove(chunk_key(key, index)));
    // Each chunk's key is longer there.
    let bytes = (copied.operations * (to.len() - key.len())) as i64;
    Ok(Staged { operations: 2 * copied.operations, bytes })
}

/// Stages copying all chunks under a key, whatever they hold, to the same chunks of another.
pub(super) fn copy_away(db: &sled::Tree, batch: &mut Batch, key: &[u8], to: &[u8]) -> sled::Result<Staged> {
    let mut copied = Staged { operations: 0, bytes: 0 };
    for index in 0..=usize::from(u8::MAX) {
        let Some(bytes) = db.get(chunk_key(key, index))? else { break };
        copied.operations += 1;
        copied.bytes += (to.len() + 1 + bytes.len()) as i64;
        batch.insert(chunk_key(to, index), bytes);
    }
    Ok(copied)
}

/// Whether anything stands under a key, good or bad.
pub(super) fn is_there(db: &sled::Tree, key: &[u8]) -> sled::Result<bool> {
    db.contains_key(chunk_key(key, 0))
}

/// Stages writing a record whose payload comes in parts. `before` is the payload length of the record that it replaces.
pub(super) fn put(batch: &mut Batch, key: &[u8], payload: &[&[u8]], before: Option<usize>) -> Staged {
    let length = payload.iter().map(|part| part.len()).sum();
    assert!(length <= PAYLOAD_MAX, "records are bounded by the profile's limit");
    let mut sealed = Vec::with_capacity(HEADER + length);
    sealed.push(VERSION);
    sealed.extend(checksum(key, payload).to_le_bytes());
    sealed.extend(u32::try_from(length).expect("bounded by PAYLOAD_MAX").to_le_bytes());
    payload.iter().for_each(|part| sealed.extend_from_slice(part));
    for (index, chunk) in sealed.chunks(CHUNK).enumerate() {
        batch.insert(chunk_key(key, index), chunk);
    }
    let (now, then) = (chunks(length), before.map_or(0, chunks));
    (now..then).for_each(|index| batch.remove(chunk_key(key, index)));
    let freed = before.map_or(0, |length| bytes(key, length));
    Staged { operations: now.max(then), bytes: bytes(key, length) - freed }
}

/// Stages removing a record whose payload has `length` bytes.
pub(super) fn remove(batch: &mut Batch, key: &[u8], length: usize) -> Staged {
    (0..chunks(length)).for_each(|index| batch.remove(chunk_key(key, index)));
    Staged { operations: chunks(length), bytes: -bytes(key, length) }
}

/// What staging cost.
#[must_use]
pub(super) struct Staged {
    /// Operations in the batch.
    pub(super) operations: usize,
    /// Live bytes gained.
    pub(super) bytes: i64,
}

/// Reads the payload of a record.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read(db: &sled::Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    match db.get(chunk_key(key, 0))? {
        None => Ok(None),
        Some(first) => assemble(db, key, &first).map(Some),
    }
}

/// Reads the payload of a record whose first chunk is at hand.
pub(super) fn assemble(db: &sled::Tree, key: &[u8], first: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let (header, start) = first.split_at_checked(HEADER).ok_or(Damaged)?;
    let [VERSION, c0, c1, c2, c3, l0, l1, l2, l3] = *header else { return Err(Damaged) };
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > PAYLOAD_MAX {
        return Err(Damaged);
    }
    let mut payload = Vec::with_capacity(length);
    payload.extend(start);
    for index in 1..chunks(length) {
        payload.extend(db.get(chunk_key(key, index))?.ok_or(Damaged)?.iter());
    }
    let whole = payload.len() == length && checksum(key, &[&payload]) == u32::from_le_bytes([c0, c1, c2, c3]);
    if whole { Ok(payload) } else { Err(Damaged) }
}

// The key is part of it: a record that ends up under another key is found out too.
fn checksum(key: &[u8], payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    payload.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn chunks(length: usize) -> usize {
    (HEADER + length).div_ceil(CHUNK)
}

/// Bytes that a record of such a payload takes, keys included.
pub(super) fn bytes(key: &[u8], length: usize) -> i64 {
    i64::try_from(HEADER + length + chunks(length) * (key.len() + 1)).expect("bounded by PAYLOAD_MAX")
}

fn chunk_key(key: &[u8], index: usize) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(key.len() + 1);
    chunk.extend(key);
    chunk.push(u8::try_from(index).expect("at most 256 chunks"));
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    fn write(db: &sled::Db, key: &[u8], payload: &[u8], before: Option<usize>) -> Staged {
        let mut batch = Batch::default();
        let staged = put(&mut batch, key, &[payload], before);
        db.apply_batch(batch).unwrap();
        staged
    }

    #[test]
    fn records_of_every_size_read_back() {
        let db = db();
        let mut before = None;
        for size in [0, 1, CHUNK - HEADER, CHUNK - HEADER + 1, 128 * 1024, 5, 3 * CHUNK, 0] {
            let payload = vec![7; size];
            let _ = write(&db, b"p1", &payload, before);
            before = Some(size);
            assert_eq!(read(&db, b"p1"), Ok(Some(payload)));
            assert_eq!(db.len(), chunks(size), "a shorter record leaves no chunk behind");
        }
    }

    #[test]
    fn live_bytes_return_to_zero() {
        let db = db();
        let mut live = write(&db, b"k", &[1; 10_000], None).bytes;
        live += write(&db, b"k", &[1; 10], Some(10_000)).bytes;
        let mut batch = Batch::default();
        live += remove(&mut batch, b"k", 10).bytes;
        db.apply_batch(batch).unwrap();
        assert_eq!((live, db.len()), (0, 0));
    }

    #[test]
    fn any_changed_byte_is_found() {
        let db = db();
        let _ = write(&db, b"k", b"some payload", None);
        let stored = db.get(chunk_key(b"k", 0)).unwrap().unwrap();
        for at in 0..stored.len() {
            let mut bent = stored.to_vec();
            bent[at] ^= 1;
            assert_eq!(assemble(&db, b"k", &bent), Err(Damaged), "byte {at}");
        }
        assert_eq!(assemble(&db, b"other", &stored), Err(Damaged), "under another key");
        assert_eq!(assemble(&db, b"k", &stored[..5]), Err(Damaged), "cut short");
    }
}
