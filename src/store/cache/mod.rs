//! The region cache on disk, for a warm start.
//!
//! Owns: the file `regions.redb` of one member. Must not know: the index, when to flush (the shell does every few seconds), clocks.
//!
//! It is a cache: not replicated, at most seconds behind, repaired by heartbeats. So a file that cannot be read, or that
//! belongs to another cluster, is made anew, and a damaged row is passed over.

mod row;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::model::{ClusterId, Region, RegionId, RegionMeta};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "regions.redb";

/// Rows that wait at most: a first round of heartbeats of the largest clusters while the disk hangs. A row that waits shares its
/// region with the index, so it takes some 40 bytes beside the 600 that the region takes there. What comes on top is not kept,
/// only counted.
pub const MAX_WAITING_ROWS: usize = 1 << 22;

/// Rows in one transaction: enough that pages are not written again and again (the rows of a first round lie all over the file),
/// and few enough that the pages of one transaction stay small beside the index.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Memory for pages, bytes: the file is written in small batches and read once.
const PAGE_CACHE_BYTES: usize = 16 << 20;

/// Grows when the layout of the file changes; a file of another layout is made anew.
const LAYOUT: u64 = 1;

/// Rows by region id.
const REGIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("regions");

/// What the file is: [`CLUSTER`] and [`VERSION`].
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const CLUSTER: &str = "cluster-id";
const VERSION: &str = "layout";

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process has the file open.
    #[error("region cache {0} is in use by another process")]
    InUse(PathBuf),
    /// The disk refuses.
    #[error("region cache {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How an opened cache came to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// There was no file.
    New,
    /// It was there.
    Kept,
    /// It was there and had to be made anew, for this reason.
    Recreated(String),
}

/// A row that waits for the next flush; `None` is a removal.
type Waiting = Option<Arc<RegionMeta>>;

/// The open file and what waits to be written.
#[derive(Debug)]
pub struct RegionCache {
    database: Database,
    path: PathBuf,
    origin: Origin,
    queue: Mutex<Queue>,
    /// One flush at a time, so that batches reach the file in the order in which they were taken.
    flushing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    rows: HashMap<RegionId, Waiting>,
    dropped: u64,
}

impl RegionCache {
    /// Opens the cache of `cluster` in the directory `dir`, or makes it.
    ///
    /// # Errors
    /// [`CacheError`], when another process uses the file or the disk refuses a new one.
    pub fn open(dir: &Path, cluster: ClusterId) -> Result<Self, CacheError> {
        let path = dir.join(FILE_NAME);
        let existed = path.metadata().is_ok_and(|file| file.len() > 0);
        let (database, origin) = match open_file(&path, cluster) {
            Ok(database) => (database, if existed { Origin::Kept } else { Origin::New }),
            Err(Unusable::InUse) => return Err(CacheError::InUse(path)),
            Err(Unusable::Other(why)) => {
                fs::remove_file(&path).map_err(|e| CacheError::disk(&path, e))?;
                let database = open_file(&path, cluster).map_err(|e| CacheError::disk(&path, e.text()))?;
                (database, Origin::Recreated(why))
            }
        };
        Ok(Self { database, path, origin, queue: Mutex::default(), flushing: Mutex::default() })
    }

    /// How the file came to be.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All regions in the file: not heard, without leader, of unknown size. What waits is not among them.
    ///
    /// # Errors
    /// [`CacheError::Disk`].
    pub fn load(&self) -> Result<Rows, CacheError> {
        let read =
            || -> Result<_, redb::Error> { Ok(self.database.begin_read()?.open_table(REGIONS)?.range::<u64>(..)?) };
        Ok(Rows { rows: read().map_err(|e| CacheError::disk(&self.path, e))?, damaged: 0 })
    }

    /// Takes a region's row in for the next flush.
    pub fn put(&self, region: &Region) {
        self.wait(region.id(), Some(region.meta.clone()));
    }

    /// Takes a region's removal in for the next flush.
    pub fn remove(&self, id: RegionId) {
        self.wait(id, None);
    }

    fn wait(&self, id: RegionId, row: Waiting) {
        let mut queue = self.queue.lock();
        if queue.rows.len() < MAX_WAITING_ROWS || queue.rows.contains_key(&id) {
            queue.rows.insert(id, row);
        } else {
            queue.dropped += 1;
        }
    }

    /// How many rows wait.
    pub fn waiting(&self) -> usize {
        self.queue.lock().rows.len()
    }

    /// How many rows were not kept because [`MAX_WAITING_ROWS`] were waiting, since this was asked last.
    pub fn dropped(&self) -> u64 {
        std::mem::take(&mut self.queue.lock().dropped)
    }

    /// Writes what waits, in durable transactions of [`ROWS_AT_ONCE`]. Gives the number of rows.
    ///
    /// # Errors
    /// [`CacheError::Disk`]; the rows that were not written then wait again, but for those that newer ones replace.
    pub fn flush(&self) -> Result<usize, CacheError> {
        let _one = self.flushing.lock();
        // In order of the id the tree is walked from one end to the other.
        let mut rows: Vec<_> = std::mem::take(&mut self.queue.lock().rows).into_iter().collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let mut written = 0;
        while written < rows.len() {
            let end = rows.len().min(written + ROWS_AT_ONCE);
            if let Err(e) = self.write(&rows[written..end]) {
                let mut queue = self.queue.lock();
                for (id, row) in rows.drain(written..) {
                    queue.rows.entry(id).or_insert(row);
                }
                return Err(CacheError::disk(&self.path, e));
            }
            written = end;
        }
        Ok(written)
    }

    fn write(&self, rows: &[(RegionId, Waiting)]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(REGIONS)?;
            for (id, row) in rows {
                match row {
                    Some(meta) => table.insert(id.0, row::encode(meta).as_slice())?,
                    None => table.remove(id.0)?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl CacheError {
    fn disk(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Disk { path: path.to_path_buf(), source: source.into() }
    }
}

/// The regions of the file, in order of their ids.
pub struct Rows {
    rows: redb::Range<'static, u64, &'static [u8]>,
    damaged: u64,
}

impl Rows {
    /// How many rows were damaged so far and passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

impl Iterator for Rows {
    type Item = Region;

    fn next(&mut self) -> Option<Region> {
        loop {
            // After an error of the disk the rest of the file is not looked at: heartbeats bring it.
            let Ok((id, row)) = self.rows.next()? else {
                self.damaged += 1;
                return None;
            };
            match row::decode(RegionId(id.value()), row.value()) {
                Some(region) => return Some(region),
                None => self.damaged += 1,
            }
        }
    }
}

/// Why a file is not used as it is.
enum Unusable {
    InUse,
    Other(String),
}

impl Unusable {
    fn text(self) -> String {
        match self {
            Unusable::InUse => "in use by another process".into(),
            Unusable::Other(why) => why,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Unusable {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Unusable::InUse,
            other => Unusable::Other(other.to_string()),
        }
    }
}

/// Opens or makes the file and makes sure that it is this cluster's.
fn open_file(path: &Path, cluster: ClusterId) -> Result<Database, Unusable> {
    let mut builder = Builder::new();
    // All pages are checked: a damaged page is an error here and not a panic later.
    builder.set_cache_size(PAGE_CACHE_BYTES).set_check_integrity_on_open(true);
    let database = builder.create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        for (name, wanted, what) in [(VERSION, LAYOUT, "layout"), (CLUSTER, cluster.0, "cluster")] {
            let found = about.get(name)?.map(|value| value.value());
            match found {
                None => {
                    about.insert(name, wanted)?;
                }
                Some(found) if found == wanted => {}
                Some(found) => return Err(Unusable::Other(format!("{what} {found} where {wanted} is expected"))),
            }
        }
        transaction.open_table(REGIONS)?;
    }
    transaction.commit()?;
    Ok(database)
}

#[cfg(test)]
mod tests;
