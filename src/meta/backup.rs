//! The agreed state as a file: a header, the rows in parts, an end with their number and hash. Each of these carries a checksum that
//! covers its place as well.
//!
//! ```text
//!  "BERTHBAK" version(u32)  'H' length(u32) sealed header  'R' length sealed rows …  'E' length sealed end
//! ```
//!
//! Owns: that form, what of a file is refused and how that is said. Must not know: folders, the log, how bytes travel.

use std::{
    io::{self, Read},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    disk::{seal, unseal},
    machine::{RowKey, State},
    parts::{self, PART_BYTES, Part},
};
use crate::model::{ClusterId, MemberId, Wall};

/// How every backup begins.
const MAGIC: &[u8; 8] = b"BERTHBAK";

/// The form of the file. A higher one was written by a newer Berth.
pub const BACKUP_FORM: u32 = 1;

/// Longest backup that is read or fetched: no state that a member could hold in memory comes near it.
pub const MAX_BACKUP_BYTES: u64 = 8 << 30;

/// Longest part that is read: a part is closed at 256 KiB, but a single row may be as long as the command that wrote it.
const MAX_FRAME_BYTES: u32 = 64 << 20;

/// What the state in a backup is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who wrote it.
    pub member: MemberId,
    /// The last entry of the log that is in it.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// When it was made.
    pub made: Wall,
    /// How many rows it has.
    pub rows: u64,
}

/// What stands at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct End {
    rows: u64,
    hash: u64,
}

/// Why a file is no backup that could be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system did not give its bytes.
    #[error("the backup cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("this is not a backup of Berth: it does not begin as one")]
    Foreign,
    /// Written by a newer Berth.
    #[error("the backup has form {found}, this binary knows forms up to {BACKUP_FORM}: read it with the newer binary")]
    Newer {
        /// Its form.
        found: u32,
    },
    /// It breaks off.
    #[error("the backup is not complete: it breaks off in {0}")]
    Torn(String),
    /// Its bytes are not those that were written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// Longer than any backup.
    #[error("the backup is longer than {0} bytes, which none is")]
    TooLong(u64),
}

/// A backup on its way out: an iterator over its bytes, one part in memory at a time. It holds one version of the state, which shares
/// what did not change with those that come after it; nothing waits for it.
#[derive(Clone, PartialEq, Debug)]
pub struct BackupParts {
    state: Arc<State>,
    about: About,
    number: u64,
    at: At,
}

/// What comes next.
#[derive(Clone, PartialEq, Debug)]
enum At {
    Header,
    Rows(Option<RowKey>),
    End,
    Over,
}

impl BackupParts {
    /// `rows` of `about` is counted here.
    pub(super) fn new(state: Arc<State>, mut about: About) -> Self {
        about.rows = state.row_count();
        Self { state, about, number: 0, at: At::Header }
    }

    /// What it is a backup of.
    pub fn about(&self) -> &About {
        &self.about
    }
}

impl Iterator for BackupParts {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.number;
        self.number += 1;
        match std::mem::replace(&mut self.at, At::Over) {
            At::Header => {
                self.at = At::Rows(None);
                let begin = MAGIC.iter().copied().chain(BACKUP_FORM.to_le_bytes());
                Some(begin.chain(frame(b'H', number, &json(&self.about))).collect())
            }
            At::Rows(from) => {
                let Part { bytes, next, .. } = parts::cut(&self.state, from.as_ref(), PART_BYTES);
                self.at = next.map_or(At::End, |key| At::Rows(Some(key)));
                Some(frame(b'R', number, &bytes))
            }
            At::End => Some(frame(b'E', number, &json(&End { rows: self.about.rows, hash: self.state.hash }))),
            At::Over => None,
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Numbers alone: JSON can write them.
    serde_json::to_vec(value).unwrap_or_default()
}

fn place(kind: u8, number: u64) -> [u8; 9] {
    let mut place = [kind; 9];
    place[1..].copy_from_slice(&number.to_le_bytes());
    place
}

fn frame(kind: u8, number: u64, payload: &[u8]) -> Vec<u8> {
    let sealed = seal(&place(kind, number), payload);
    // A part that does not fit has a length that no reader takes.
    let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![kind];
    bytes.extend(length.to_le_bytes());
    bytes.extend(sealed);
    bytes
}

/// A backup that was read whole and is whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Backup {
    /// What it is.
    pub about: About,
    /// The state.
    pub state: State,
}

impl Backup {
    /// Reads one to its end.
    ///
    /// # Errors
    /// [`BackupError`]; each says what is wrong with the file.
    pub fn read(from: impl Read) -> Result<Self, BackupError> {
        Self::read_within(from, MAX_BACKUP_BYTES)
    }

    fn read_within(from: impl Read, limit: u64) -> Result<Self, BackupError> {
        let mut reader = Reader { from: from.take(limit), limit, number: 0 };
        reader.begin()?;
        let about: About = match reader.frame()? {
            (b'H', payload) => parsed(&payload, "the header")?,
            _ => return Err(BackupError::Damaged("there is no header".into())),
        };
        let (mut state, mut rows) = (State::default(), 0);
        let end: End = loop {
            let number = reader.number;
            match reader.frame()? {
                (b'R', payload) => {
                    let read = parts::read(&payload, &mut state);
                    rows += read.ok_or_else(|| BackupError::Damaged(format!("part {number} is not made of rows")))?;
                }
                (_, payload) => break parsed(&payload, "the end")?,
            }
        };
        reader.ends()?;
        if end.rows != rows || about.rows != rows || state.row_count() != rows {
            let what = format!("it has {rows} rows, should have {} by its header and {}", about.rows, end.rows);
            return Err(BackupError::Damaged(what));
        }
        if end.hash != state.hash {
            let what = format!("its rows sum up to {:016x}, should be {:016x}", state.hash, end.hash);
            return Err(BackupError::Damaged(what));
        }
        match &state.cluster {
            Some(cluster) if cluster.id == about.cluster => Ok(Self { about, state }),
            _ => Err(BackupError::Damaged("its header names another cluster than its rows".into())),
        }
    }
}

fn parsed<T: DeserializeOwned>(payload: &[u8], what: &str) -> Result<T, BackupError> {
    serde_json::from_slice(payload).map_err(|e| BackupError::Damaged(format!("{what}: {e}")))
}

struct Reader<R> {
    from: io::Take<R>,
    limit: u64,
    /// Of the next frame.
    number: u64,
}

impl<R: Read> Reader<R> {
    fn begin(&mut self) -> Result<(), BackupError> {
        let magic = self.bytes(MAGIC.len() as u64)?;
        if !MAGIC.starts_with(&magic) {
            return Err(BackupError::Foreign);
        }
        let form = self.exactly::<4>("its first bytes")?;
        match u32::from_le_bytes(form) {
            BACKUP_FORM => Ok(()),
            0 => Err(BackupError::Damaged("it has form 0, which none has".into())),
            found => Err(BackupError::Newer { found }),
        }
    }

    /// Kind and payload of the next frame.
    fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let what = format!("part {}", self.number);
        let [kind] = self.exactly::<1>(&what)?;
        if !b"HRE".contains(&kind) {
            return Err(BackupError::Damaged(format!("{what} is of an unknown kind")));
        }
        let length = u32::from_le_bytes(self.exactly::<4>(&what)?);
        if length > MAX_FRAME_BYTES {
            return Err(BackupError::Damaged(format!("{what} says that it has {length} bytes")));
        }
        let sealed = self.bytes(length.into())?;
        if sealed.len() < length as usize {
            return Err(self.torn(&what));
        }
        let payload = unseal(&place(kind, self.number), &sealed);
        let payload = payload.map_err(|e| BackupError::Damaged(format!("{what}: {e}")))?.to_vec();
        self.number += 1;
        Ok((kind, payload))
    }

    fn ends(&mut self) -> Result<(), BackupError> {
        if self.from.limit() == 0 {
            return Err(BackupError::TooLong(self.limit));
        }
        if self.bytes(1)?.is_empty() { Ok(()) } else { Err(BackupError::Damaged("something follows its end".into())) }
    }

    fn exactly<const N: usize>(&mut self, what: &str) -> Result<[u8; N], BackupError> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| self.torn(what))
    }

    /// So many bytes, or fewer when there are no more. A length that is wrong costs no more memory than there are bytes.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, BackupError> {
        let mut bytes = vec![];
        self.from.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn torn(&self, what: &str) -> BackupError {
        if self.from.limit() == 0 { BackupError::TooLong(self.limit) } else { BackupError::Torn(what.to_owned()) }
    }
}

#[cfg(test)]
mod tests;
