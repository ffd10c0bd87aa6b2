//! `berth backup`, `berth restore`, `berth recover`: the agreed state as a file, and folders made from one or from nothing.
//!
//! Owns: their options, the file being fetched, what is printed. Must not know: the form of the file, what a folder holds.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use berth::{
    api::keyspace_zero,
    ctl::{self, Flags},
    meta::{Ahead, Backup, Lost, MAX_BACKUP_BYTES, Planted, TSO_AHEAD, recover, restore},
    model::{Clock, ClusterId, Wall},
    server::clock::SystemClock,
};
use clap::Args;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::print;

/// Where a server gives its backup.
const PATH: &str = "/berth/v1/backup";

/// Fetch the agreed state from the leader into a file, or look at one.
#[derive(Args)]
pub(crate) struct BackupOptions {
    /// The file.
    file: PathBuf,
    /// Look at the file instead: whether it is whole, and what is in it.
    #[arg(long, conflicts_with_all = ["pd", "overwrite"])]
    check: bool,
    /// The leader's URL [default: http://127.0.0.1:2379].
    #[arg(short = 'u', long)]
    pd: Option<String>,
    /// The authorities to trust (PEM).
    #[arg(long)]
    cacert: Option<String>,
    /// The client's certificate (PEM).
    #[arg(long)]
    cert: Option<String>,
    /// Its key (PEM).
    #[arg(long)]
    key: Option<String>,
    /// Replace a file that is there.
    #[arg(long)]
    overwrite: bool,
}

/// How far ids and timestamps go ahead.
#[derive(Args)]
struct TsoOptions {
    /// Seconds by which timestamps go ahead of this machine's clock, and of what is known to have been given out.
    #[arg(long, value_name = "SECONDS", default_value_t = TSO_AHEAD.as_secs())]
    tso_ahead: u64,
}

/// Make a data folder from a backup: a group of one, which others join afterwards.
#[derive(Args)]
pub(crate) struct RestoreOptions {
    /// The backup.
    file: PathBuf,
    /// The data folder; it must be empty or missing.
    #[arg(long)]
    data_dir: PathBuf,
    /// All new ids are above this one [default: 100000000 above those in the backup].
    #[arg(long)]
    alloc_id: Option<u64>,
    #[command(flatten)]
    tso: TsoOptions,
}

/// Make a data folder for a cluster whose members are all lost and have no backup: pd-recover's last resort.
#[derive(Args)]
pub(crate) struct RecoverOptions {
    /// The data folder; it must be empty or missing.
    #[arg(long, required_unless_present = "network")]
    data_dir: Option<PathBuf>,
    /// Id of the lost cluster (in the logs of its members and of its storage nodes).
    #[arg(long, required_unless_present = "network")]
    cluster_id: Option<u64>,
    /// An id above all that the cluster has given out; choose a much higher one.
    #[arg(long, required_unless_present = "network")]
    alloc_id: Option<u64>,
    #[command(flatten)]
    tso: TsoOptions,
    #[command(flatten)]
    network: Network,
}

/// What pd-recover needs to change a running member. They are known so that whoever uses them is told what to do instead.
#[derive(Args)]
#[group(id = "network", multiple = true)]
struct Network {
    /// Of pd-recover: Berth does not change running members.
    #[arg(long, hide = true, value_name = "URL")]
    endpoints: Option<String>,
    /// Of pd-recover: `berth server --force-new-cluster` does that.
    #[arg(long, hide = true)]
    from_old_member: bool,
    /// Of pd-recover: there is no connection.
    #[arg(long, hide = true)]
    cacert: Option<String>,
    /// Of pd-recover: there is no connection.
    #[arg(long, hide = true)]
    cert: Option<String>,
    /// Of pd-recover: there is no connection.
    #[arg(long, hide = true)]
    key: Option<String>,
}

impl Network {
    /// What stands in for these options, if one was given.
    fn instead(&self) -> Option<&'static str> {
        if self.from_old_member {
            return Some(
                "--from-old-member is not needed: stop the members that are left, and start the one that is furthest with its \
                 usual flags and `berth server --force-new-cluster`; ids and timestamps go ahead by themselves",
            );
        }
        let connects = [&self.endpoints, &self.cacert, &self.cert, &self.key].into_iter().any(Option::is_some);
        connects.then_some(
            "--endpoints, --cacert, --cert and --key are for a running member, which Berth does not change: make the data folder \
             before the start with `berth recover --data-dir DIR --cluster-id ID --alloc-id ID`, then start it with \
             `berth server --data-dir DIR`",
        )
    }
}

/// Runs `berth backup`.
pub(crate) async fn backup(options: BackupOptions) -> anyhow::Result<ExitCode> {
    let BackupOptions { file, check, pd, cacert, cert, key, overwrite } = options;
    if check {
        let found = read(&file)?;
        print(&about(&found));
        return Ok(ExitCode::SUCCESS);
    }
    let mut incoming = Incoming::create(&file, overwrite)?;
    ctl::download(&Flags { pd, cacert, cert, key }, PATH, &mut |bytes| incoming.take(bytes)).await?;
    let found = incoming.finish()?;
    print(&format!("{}written to {}\n", about(&found), file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Runs `berth restore`.
pub(crate) fn restored(options: &RestoreOptions) -> anyhow::Result<ExitCode> {
    let backup = read(&options.file)?;
    let ahead = Ahead { alloc_id: options.alloc_id, tso: Duration::from_secs(options.tso.tso_ahead) };
    let now = SystemClock::new().now().wall;
    let planted = restore(backup, &options.data_dir, ahead, now, rand::random())?;
    print(&made(&planted, &options.data_dir));
    Ok(ExitCode::SUCCESS)
}

/// Runs `berth recover`.
pub(crate) fn recovered(options: &RecoverOptions) -> anyhow::Result<ExitCode> {
    if let Some(instead) = options.network.instead() {
        bail!("{instead} (docs/backup.md)");
    }
    let RecoverOptions { data_dir: Some(data_dir), cluster_id: Some(cluster), alloc_id: Some(alloc_id), .. } = options
    else {
        bail!("--data-dir, --cluster-id and --alloc-id are needed");
    };
    let now = SystemClock::new().now().wall;
    let (label_rules, keyspaces) = keyspace_zero(now);
    let lost = Lost {
        cluster: ClusterId(*cluster),
        alloc_id: *alloc_id,
        tso_ahead: Duration::from_secs(options.tso.tso_ahead),
        label_rules,
        keyspaces,
    };
    let planted = recover(lost, data_dir, now, rand::random())?;
    print(&made(&planted, data_dir));
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Backup> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(name)?;
    Backup::read(BufReader::new(file)).with_context(name)
}

fn about(backup: &Backup) -> String {
    let (about, state) = (&backup.about, &backup.state);
    format!(
        "backup of cluster {} by member {}, made at {}, whole\n\
         entry {} of term {}, {} rows, hash {:016x}\n\
         {} members, {} stores, {} rules, {} region label rules, ids up to {}, timestamps below {}\n",
        about.cluster,
        about.member,
        moment(about.made),
        about.index,
        about.term,
        about.rows,
        state.hash,
        state.members.len(),
        state.stores.len(),
        state.rules.len(),
        state.label_rules.len(),
        state.id_end,
        moment(Wall(state.tso_upper_ms.saturating_mul(1_000_000))),
    )
}

fn made(planted: &Planted, dir: &Path) -> String {
    format!(
        "{} is the data folder of member {}, alone in cluster {}\n\
         new ids are above {}, new timestamps not below {}\n\
         start it with `berth server --data-dir {0}`; other members join it with --join\n",
        dir.display(),
        planted.member,
        planted.cluster,
        planted.id_end,
        moment(Wall(planted.tso_upper_ms.saturating_mul(1_000_000))),
    )
}

fn moment(wall: Wall) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(wall.0.into()).ok();
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} ms", wall.unix_millis()))
}

/// A file that gets its name once it is whole and on disk.
struct Incoming {
    path: PathBuf,
    part: PathBuf,
    file: File,
    overwrite: bool,
    bytes: u64,
}

impl Incoming {
    fn create(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let name = path.file_name().with_context(|| format!("{}: not the name of a file", path.display()))?;
        let part = path.with_file_name(format!("{}.part", name.to_string_lossy()));
        let file = File::create(&part).with_context(|| part.display().to_string())?;
        let incoming = Self { path: path.to_owned(), part, file, overwrite, bytes: 0 };
        incoming.check_free()?;
        Ok(incoming)
    }

    fn check_free(&self) -> anyhow::Result<()> {
        ensure!(
            self.overwrite || !self.path.try_exists()?,
            "{} is there already; --overwrite replaces it",
            self.path.display()
        );
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_BACKUP_BYTES {
            return Err(std::io::Error::other(format!("longer than {MAX_BACKUP_BYTES} bytes")));
        }
        self.file.write_all(bytes)
    }

    /// Reads it back whole, and gives it its name.
    fn finish(self) -> anyhow::Result<Backup> {
        self.file.sync_all()?;
        let backup = read(&self.part)?;
        self.check_free()?;
        std::fs::rename(&self.part, &self.path).with_context(|| self.path.display().to_string())?;
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            bail!("{}: {error}", folder.display());
        }
        Ok(backup)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already when it has its name.
        let _ = std::fs::remove_file(&self.part);
    }
}
