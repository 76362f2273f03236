//! A record: payload, encoding, checksum, cut into chunks.
//!
//! ```text
//! encoding (1) | CRC-32 of key, encoding and all that follows the length (4, LE) | length of that (4, LE) | stored
//! encoding 1: stored is the payload
//! encoding 2: stored is the payload's length (4, LE) and an LZ4 block of it, made with the dictionary
//! ```
//! The whole is cut every 4 KiB; chunk `n` stands under the record's key followed by the byte `n`.
//!
//! What sled writes for an update is many times what we give it, so half the bytes are worth the microseconds.

use sled::{Batch, IVec};

use Unreadable::Damaged;

/// The payload as it is.
const PLAIN: u8 = 1;
/// LZ4 with the dictionary.
const LZ4: u8 = 2;
/// Texts that profiles and exports share. It is part of the format: changed, nothing could be read any more.
const DICTIONARY: &[u8] = include_bytes!("dictionary.txt");
/// Shorter payloads are left as they are.
const LZ4_MIN: usize = 128;
const HEADER: usize = 9;
/// Sixteen of these and their deltas stay far below the 128 KiB at which sled moves a page to a file it never syncs.
const CHUNK: usize = 4096;
/// Chunks are counted by one byte. Payloads are no longer either.
const STORED_MAX: usize = 256 * CHUNK - HEADER;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) payload: Vec<u8>,
    /// Bytes of it as stored, to be told when it is replaced or removed.
    pub(super) length: usize,
}

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
    Ok(Staged { operations: 2 * copied.operations, bytes, length: 0 })
}

/// Stages copying all chunks under a key, whatever they hold, to the same chunks of another.
pub(super) fn copy_away(db: &sled::Tree, batch: &mut Batch, key: &[u8], to: &[u8]) -> sled::Result<Staged> {
    let mut copied = Staged { operations: 0, bytes: 0, length: 0 };
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

/// Stages writing a record whose payload comes in parts. `before` is the stored length of the record that it replaces.
pub(super) fn put(batch: &mut Batch, key: &[u8], payload: &[&[u8]], before: Option<usize>) -> Staged {
    let sealed = seal(key, &payload.concat());
    let length = sealed.len() - HEADER;
    for (index, chunk) in sealed.chunks(CHUNK).enumerate() {
        batch.insert(chunk_key(key, index), chunk);
    }
    let (now, then) = (chunks(length), before.map_or(0, chunks));
    (now..then).for_each(|index| batch.remove(chunk_key(key, index)));
    let freed = before.map_or(0, |length| bytes(key, length));
    Staged { operations: now.max(then), bytes: bytes(key, length) - freed, length }
}

/// Stages removing a record of this stored length.
pub(super) fn remove(batch: &mut Batch, key: &[u8], length: usize) -> Staged {
    (0..chunks(length)).for_each(|index| batch.remove(chunk_key(key, index)));
    Staged { operations: chunks(length), bytes: -bytes(key, length), length: 0 }
}

/// What staging cost.
#[must_use]
pub(super) struct Staged {
    /// Operations in the batch.
    pub(super) operations: usize,
    /// Live bytes gained.
    pub(super) bytes: i64,
    /// The stored length of the record that was written.
    pub(super) length: usize,
}

/// Reads a record.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read(db: &sled::Tree, key: &[u8]) -> Result<Option<Record>, Unreadable> {
    match db.get(chunk_key(key, 0))? {
        None => Ok(None),
        Some(first) => whole(db, key, first),
    }
}

/// Reads a record whose first chunk was read just now, and which may be written anew, or go, between one chunk and the next.
pub(super) fn whole(db: &sled::Tree, key: &[u8], mut first: IVec) -> Result<Option<Record>, Unreadable> {
    loop {
        match assemble(db, key, &first) {
            Err(Damaged) => match db.get(chunk_key(key, 0))? {
                None => return Ok(None),
                // Its checksum covers all of it: of another record the first chunk is another.
                Some(now) if now != first => first = now,
                Some(_) => return Err(Damaged),
            },
            read => return read.map(Some),
        }
    }
}

/// Reads a record whose first chunk is at hand.
pub(super) fn assemble(db: &sled::Tree, key: &[u8], first: &[u8]) -> Result<Record, Unreadable> {
    let (header, start) = first.split_at_checked(HEADER).ok_or(Damaged)?;
    let [encoding, c0, c1, c2, c3, l0, l1, l2, l3] = *header else { return Err(Damaged) };
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > STORED_MAX {
        return Err(Damaged);
    }
    let mut stored = Vec::with_capacity(length);
    stored.extend_from_slice(start);
    for index in 1..chunks(length) {
        stored.extend_from_slice(&db.get(chunk_key(key, index))?.ok_or(Damaged)?);
    }
    if stored.len() != length || checksum(key, encoding, &stored) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damaged);
    }
    let payload = match encoding {
        PLAIN => stored,
        LZ4 => unpack(&stored).ok_or(Damaged)?,
        _ => return Err(Damaged),
    };
    Ok(Record { payload, length })
}

/// Header and stored bytes of a record.
fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= STORED_MAX, "records are bounded by the profile's limit");
    let (encoding, mut sealed) = match pack(payload) {
        Some(packed) => (LZ4, packed),
        None => (PLAIN, [&[0; HEADER], payload].concat()),
    };
    let length = u32::try_from(sealed.len() - HEADER).expect("bounded by STORED_MAX");
    let checksum = checksum(key, encoding, &sealed[HEADER..]);
    sealed[0] = encoding;
    sealed[1..5].copy_from_slice(&checksum.to_le_bytes());
    sealed[5..HEADER].copy_from_slice(&length.to_le_bytes());
    sealed
}

/// An empty header, the payload's length and an LZ4 block, where that is shorter than the payload.
fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < LZ4_MIN {
        return None;
    }
    let start = HEADER + 4;
    let mut packed = vec![0; start + lz4_flex::block::get_maximum_output_size(payload.len())];
    packed[HEADER..start].copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    let length = lz4_flex::block::compress_into_with_dict(payload, &mut packed[start..], DICTIONARY).ok()?;
    packed.truncate(start + length);
    (packed.len() < HEADER + payload.len()).then_some(packed)
}

fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = stored.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > STORED_MAX {
        return None;
    }
    lz4_flex::block::decompress_with_dict(block, length, DICTIONARY).ok().filter(|payload| payload.len() == length)
}

// The key is part of it: a record that ends up under another key is found out too.
fn checksum(key: &[u8], encoding: u8, stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    [key, &[encoding], stored].iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn chunks(length: usize) -> usize {
    (HEADER + length).div_ceil(CHUNK)
}

/// Bytes that a record of this stored length takes, keys included.
pub(super) fn bytes(key: &[u8], length: usize) -> i64 {
    i64::try_from(HEADER + length + chunks(length) * (key.len() + 1)).expect("bounded by STORED_MAX")
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

    /// Bytes that no encoding makes shorter.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x5EED_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn records_of_every_size_read_back() {
        let db = db();
        let mut before = None;
        for size in [0, 1, 200, CHUNK - HEADER, CHUNK - HEADER + 1, 128 * 1024, 5, 3 * CHUNK, 0] {
            for payload in [noise(size), vec![b'7'; size]] {
                let staged = write(&db, b"p1", &payload, before);
                before = Some(staged.length);
                assert_eq!(read(&db, b"p1"), Ok(Some(Record { payload, length: staged.length })));
                assert_eq!(db.len(), chunks(staged.length), "a shorter record leaves no chunk behind");
            }
        }
    }

    #[test]
    fn what_exports_have_in_common_takes_no_room() {
        let export = br#"{"person":{"name":{"firstName":"Ada"}},"identityMap":{"CRM":[{"id":"4711"}]},"segmentMembership":{"ups":{"gold":{"lastQualificationTime":"2026-01-01T00:00:00Z","status":"realized"}}}}"#;
        assert!(seal(b"s", export).len() * 2 < export.len());
    }

    #[test]
    fn dictionary_is_the_one_of_format_1() {
        assert_eq!(crc32fast::hash(DICTIONARY), 4_093_758_745);
    }

    #[test]
    fn live_bytes_return_to_zero() {
        let db = db();
        let first = write(&db, b"k", &noise(10_000), None);
        let second = write(&db, b"k", &[1; 10], Some(first.length));
        let mut batch = Batch::default();
        let gone = remove(&mut batch, b"k", second.length);
        db.apply_batch(batch).unwrap();
        assert_eq!((first.bytes + second.bytes + gone.bytes, db.len()), (0, 0));
    }

    #[test]
    fn any_changed_byte_is_found() {
        let db = db();
        for payload in [b"some payload".as_slice(), &[b'7'; 500]] {
            let before = read(&db, b"k").unwrap().map(|record| record.length);
            let _ = write(&db, b"k", payload, before);
            let stored = db.get(chunk_key(b"k", 0)).unwrap().unwrap();
            for (at, bit) in (0..stored.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut bent = stored.to_vec();
                bent[at] ^= 1 << bit;
                assert_eq!(assemble(&db, b"k", &bent), Err(Damaged), "byte {at}, bit {bit}");
            }
        }
        let stored = db.get(chunk_key(b"k", 0)).unwrap().unwrap();
        assert_eq!(assemble(&db, b"other", &stored), Err(Damaged), "under another key");
        assert_eq!(assemble(&db, b"k", &stored[..5]), Err(Damaged), "cut short");
    }
}
