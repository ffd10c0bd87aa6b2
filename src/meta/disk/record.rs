//! The frame around everything that Berth writes into its files: checksum, version, payload.
//!
//! The checksum covers where the record belongs as well, so that a good record in the wrong place is not taken for the right one.
//! Owns: the frame. Must not know: what is in it, and files.

/// Version of the frame; its fifth byte.
const RECORD_VERSION: u8 = 1;

/// Bytes before the payload: CRC-32 (little endian) and version.
const FRAME: usize = 5;

/// Why bytes are no record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Too short to be one.
    #[error("{0} bytes are too few for a record")]
    Short(usize),
    /// The checksum does not fit.
    #[error("checksum is {found:08x}, should be {expected:08x}")]
    Checksum {
        /// As written.
        found: u32,
        /// As computed.
        expected: u32,
    },
    /// From a newer Berth.
    #[error("record of version {0}, this binary knows up to {RECORD_VERSION}")]
    Newer(u8),
}

fn checksum(place: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(place.len() as u64).to_le_bytes());
    hasher.update(place);
    hasher.update(body);
    hasher.finalize()
}

/// Frames `payload`, which belongs at `place` (its key in its table).
pub(crate) fn seal(place: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME + payload.len());
    bytes.extend_from_slice(&[0; 4]);
    bytes.push(RECORD_VERSION);
    bytes.extend_from_slice(payload);
    let crc = checksum(place, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The payload of a record that should belong at `place`.
pub(crate) fn unseal<'a>(place: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], RecordError> {
    let short = || RecordError::Short(bytes.len());
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let (version, payload) = body.split_first().ok_or_else(short)?;
    let (found, expected) = (u32::from_le_bytes(*crc), checksum(place, body));
    if found != expected {
        return Err(RecordError::Checksum { found, expected });
    }
    if *version > RECORD_VERSION {
        return Err(RecordError::Newer(*version));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn r5_a_flipped_bit_is_always_noticed(payload in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0..8u8) {
            let sealed = seal(b"7", &payload);
            prop_assert_eq!(unseal(b"7", &sealed).unwrap(), &payload[..]);
            let mut bad = sealed.clone();
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
            prop_assert!(unseal(b"7", &bad).is_err());
            prop_assert!(unseal(b"8", &sealed).is_err(), "a record in the wrong place");
            for cut in 0..sealed.len() {
                prop_assert!(unseal(b"7", &sealed[..cut]).is_err());
            }
        }
    }
}
