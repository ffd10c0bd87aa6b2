//! A disk in memory that remembers every write, can be cut at each of them, and can fail.
//!
//! Owns: what a power cut leaves. Must not know: what is in the files.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;

use super::{Backends, Held};

#[derive(Clone, Debug)]
enum Op {
    Create { file: usize, name: String },
    Write { file: usize, offset: u64, data: Vec<u8> },
    SetLen { file: usize, len: u64 },
    Sync { file: usize },
    Rename { name: String },
    SyncDir,
}

/// What becomes of writes that were not synced when the power went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::meta) enum Unsynced {
    /// All gone.
    Lost,
    /// All there, but the last one only in part.
    Torn,
    /// Some there, in part, by this seed.
    Mixed(u64),
    /// All there: the process was killed, the machine went on.
    Kept,
}

#[derive(Debug, Default)]
struct Disk {
    contents: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    /// What was on disk for good before the trace began.
    base: (Vec<Vec<u8>>, BTreeMap<String, usize>),
    trace: Vec<Op>,
    locked: bool,
    /// Syncs that still succeed.
    syncs_left: Option<u64>,
    /// Bytes that may still be written.
    room: Option<u64>,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(in crate::meta) struct FaultDisk(Arc<Mutex<Disk>>);

fn write_at(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = offset as usize;
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

fn replay(content: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { offset, data, .. } => write_at(content, *offset, data),
        Op::SetLen { len, .. } => content.resize(*len as usize, 0),
        Op::Create { .. } | Op::Sync { .. } | Op::Rename { .. } | Op::SyncDir => {}
    }
}

impl FaultDisk {
    /// How many operations there were; a moment to cut the power at.
    pub(in crate::meta) fn moment(&self) -> usize {
        self.0.lock().trace.len()
    }

    /// From now on only so many syncs succeed.
    pub(in crate::meta) fn fail_syncs_after(&self, syncs: u64) {
        self.0.lock().syncs_left = Some(syncs);
    }

    /// From now on only so many bytes can be written.
    pub(in crate::meta) fn fill_up_after(&self, bytes: u64) {
        self.0.lock().room = Some(bytes);
    }

    /// Changes a published file.
    pub(in crate::meta) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.lock();
        let file = disk.names[name];
        edit(&mut disk.contents[file]);
    }

    /// Removes a published file.
    pub(in crate::meta) fn remove(&self, name: &str) {
        self.0.lock().names.remove(name);
    }

    /// Puts bytes under a name.
    pub(in crate::meta) fn place(&self, name: &str, content: Vec<u8>) {
        let mut disk = self.0.lock();
        let file = disk.contents.len();
        disk.contents.push(content);
        disk.names.insert(name.into(), file);
    }

    /// The bytes of a published file.
    pub(in crate::meta) fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.0.lock();
        disk.contents[disk.names[name]].clone()
    }

    /// How many syncs there were since `moment`.
    pub(in crate::meta) fn syncs_since(&self, moment: usize) -> usize {
        self.0.lock().trace[moment..].iter().filter(|op| matches!(op, Op::Sync { .. })).count()
    }

    /// A disk with the same published files.
    pub(in crate::meta) fn copy(&self) -> FaultDisk {
        let disk = self.0.lock();
        let copy = Disk { contents: disk.contents.clone(), names: disk.names.clone(), ..Disk::default() };
        FaultDisk(Arc::new(Mutex::new(copy)))
    }

    /// What is on the disk when the power goes at `moment`.
    pub(in crate::meta) fn after_power_cut(&self, moment: usize, unsynced: Unsynced) -> FaultDisk {
        let disk = self.0.lock();
        let (mut image, waiting) = disk.synced(moment);
        image.take_unsynced(&waiting, unsynced);
        image.base = (image.contents.clone(), image.names.clone());
        FaultDisk(Arc::new(Mutex::new(image)))
    }

    /// Forgets how things came to be that are on disk for good; moments from before mean nothing any more.
    pub(in crate::meta) fn forget_history(&self) {
        let mut disk = self.0.lock();
        let (image, waiting) = disk.synced(disk.trace.len());
        (disk.base, disk.trace) = ((image.contents, image.names), waiting);
    }

    /// A disk with room and without faults again.
    pub(in crate::meta) fn repair(&self) {
        let mut disk = self.0.lock();
        (disk.room, disk.syncs_left) = (None, None);
    }
}

fn file_of(op: &Op) -> Option<usize> {
    match op {
        Op::Create { file, .. } | Op::Write { file, .. } | Op::SetLen { file, .. } | Op::Sync { file } => Some(*file),
        Op::Rename { .. } | Op::SyncDir => None,
    }
}

impl Disk {
    /// What is on disk for good at `moment`, and what is not yet.
    fn synced(&self, moment: usize) -> (Disk, Vec<Op>) {
        let mut image = Disk { contents: self.base.0.clone(), names: self.base.1.clone(), ..Disk::default() };
        let mut waiting: Vec<Op> = vec![];
        for op in &self.trace[..moment] {
            match op {
                Op::Create { file, name } => {
                    image.contents.resize_with((*file + 1).max(image.contents.len()), Vec::new);
                    image.names.insert(name.clone(), *file);
                }
                Op::Sync { file } => {
                    let (synced, rest) = waiting.into_iter().partition(|op| file_of(op) == Some(*file));
                    let synced: Vec<Op> = synced;
                    synced.iter().for_each(|op| replay(&mut image.contents[*file], op));
                    waiting = rest;
                }
                Op::SyncDir => {
                    let (synced, rest) = waiting.into_iter().partition(|op| file_of(op).is_none());
                    let synced: Vec<Op> = synced;
                    synced.iter().for_each(|op| image.rename(op));
                    waiting = rest;
                }
                other => waiting.push(other.clone()),
            }
        }
        (image, waiting)
    }

    fn rename(&mut self, op: &Op) {
        if let Op::Rename { name } = op
            && let Some(file) = self.names.remove(&format!("{name}.new"))
        {
            self.names.insert(name.clone(), file);
        }
    }

    fn take_unsynced(&mut self, waiting: &[Op], unsynced: Unsynced) {
        let mut rng = match unsynced {
            Unsynced::Lost => return,
            Unsynced::Torn | Unsynced::Kept => None,
            Unsynced::Mixed(seed) => Some(ChaCha8Rng::seed_from_u64(seed)),
        };
        for (at, op) in waiting.iter().enumerate() {
            let last = at + 1 == waiting.len();
            if rng.as_mut().is_some_and(|r| r.random_bool(0.5)) {
                continue;
            }
            let mut op = op.clone();
            if let Op::Write { data, .. } = &mut op {
                let keep = match &mut rng {
                    Some(rng) => rng.random_bool(0.3).then(|| rng.random_range(0..=data.len())),
                    None => (last && unsynced == Unsynced::Torn).then_some(data.len() / 2),
                };
                data.truncate(keep.unwrap_or(data.len()));
            }
            match file_of(&op) {
                Some(file) => replay(&mut self.contents[file], &op),
                None => self.rename(&op),
            }
        }
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    file: usize,
}

impl StorageBackend for FaultFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().contents[self.file].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.0.lock();
        let from = offset as usize;
        let bytes = disk.contents[self.file].get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        disk.contents[self.file].resize(len as usize, 0);
        disk.trace.push(Op::SetLen { file: self.file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        if let Some(left) = &mut disk.syncs_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("input/output error"))?;
        }
        disk.trace.push(Op::Sync { file: self.file });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        if let Some(room) = &mut disk.room {
            *room = room.checked_sub(data.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        }
        write_at(&mut disk.contents[self.file], offset, data);
        disk.trace.push(Op::Write { file: self.file, offset, data: data.to_vec() });
        Ok(())
    }
}

#[derive(Debug)]
struct Lock(FaultDisk);

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.0.lock().locked = false;
    }
}

impl Backends for FaultDisk {
    fn lock(&self) -> io::Result<Option<Box<dyn Held>>> {
        if std::mem::replace(&mut self.0.lock().locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(Lock(self.clone()))))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.0.lock().names.contains_key(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = *self.0.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultFile { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut disk = self.0.lock();
        let (file, name) = (disk.contents.len(), format!("{name}.new"));
        disk.contents.push(vec![]);
        disk.names.insert(name.clone(), file);
        disk.trace.push(Op::Create { file, name });
        Ok(Box::new(FaultFile { disk: self.clone(), file }))
    }

    fn publish(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        let op = Op::Rename { name: name.into() };
        disk.rename(&op);
        disk.trace.extend([op, Op::SyncDir]);
        Ok(())
    }
}
