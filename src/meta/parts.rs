//! Rows of a state as bytes, some at a time: each as its length (eight bytes) and its JSON.
//!
//! Owns: that form. Must not know: where the bytes go, who checks that they came whole.

use super::machine::{Action, Row, RowKey, State};

/// A part is closed when it holds so many bytes; a row may be longer than that.
pub(super) const PART_BYTES: usize = 256 << 10;

/// Some rows of a state.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Part {
    /// Their bytes.
    pub(super) bytes: Vec<u8>,
    /// How many they are.
    pub(super) rows: u64,
    /// The first row after them; `None`: these were the last.
    pub(super) next: Option<RowKey>,
}

/// The rows of `state` from this one on, as many as a part of `most` bytes takes.
pub(super) fn cut(state: &State, from: Option<&RowKey>, most: usize) -> Part {
    let mut part = Part { bytes: vec![], rows: 0, next: None };
    for row in state.rows_from(from) {
        if part.bytes.len() >= most {
            part.next = Some(row.key());
            break;
        }
        // A row that JSON cannot write does not exist: it came out of the log or a file as JSON.
        let text = serde_json::to_vec(&row).unwrap_or_default();
        part.bytes.extend((text.len() as u64).to_le_bytes());
        part.bytes.extend(text);
        part.rows += 1;
    }
    part
}

/// Puts the rows of a part into `state` and says how many there were; `None`: they are no rows.
pub(super) fn read(mut bytes: &[u8], state: &mut State) -> Option<u64> {
    let mut rows = 0;
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        state.apply(&Action::Put(serde_json::from_slice::<Row>(text).ok()?));
        bytes = rest;
        rows += 1;
    }
    bytes.is_empty().then_some(rows)
}
