//! `berth server`: configuration, log, server, signals.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use berth::{
    api::app::{EDITION, KERNEL_TYPE, RELEASE_VERSION},
    config::{BuildInfo, Flags, Host, LoadError, Loaded, flags, load},
    model::Clock,
    pdlog, pdsay,
    server::{REMOVED, Server, clock::SystemClock, logging},
    telemetry::log::{Logger, Value},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::print;

/// What is told of a disk that failed.
const DISK_FAILED: &str = "the disk of the agreed state failed, the process ends";

/// What the build left in the environment.
fn build_info() -> BuildInfo {
    BuildInfo {
        release_version: RELEASE_VERSION.to_owned(),
        edition: EDITION.to_owned(),
        kernel_type: KERNEL_TYPE.to_owned(),
        git_hash: option_env!("BERTH_GIT_HASH").unwrap_or("None").to_owned(),
        git_branch: option_env!("BERTH_GIT_BRANCH").unwrap_or("None").to_owned(),
        build_time: option_env!("BERTH_BUILD_TIME").unwrap_or("None").to_owned(),
    }
}

/// Runs the server with PD's flags; the exit codes are PD's.
pub(crate) fn main(mut args: Vec<String>) -> ExitCode {
    let recording = take_recording(&mut args);
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(error) => {
            print(&error.report());
            return ExitCode::FAILURE;
        }
    };
    if flags.help {
        print(&flags::usage());
        return ExitCode::SUCCESS;
    }
    if flags.version {
        print(&build_info().version_text());
        return ExitCode::SUCCESS;
    }
    let loaded = match read_config(&flags) {
        Ok(loaded) => loaded,
        Err(error) => {
            print(&format!("{error}\n"));
            return ExitCode::SUCCESS; // as PD
        }
    };
    if flags.config_check {
        print(&loaded.check_report());
        return ExitCode::SUCCESS;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = match logging::open(&loaded.config, clock.clone()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("berth: initialize logger error: {error}");
            return ExitCode::FAILURE;
        }
    };
    crate::run(serve(loaded, log, clock, recording))
}

/// Takes `--record FILE` out of the flags: PD has no such flag, and its usage shows none.
fn take_recording(args: &mut Vec<String>) -> Option<PathBuf> {
    let at = args.iter().position(|arg| arg == "--record")?;
    let mut taken = args.drain(at..args.len().min(at + 2));
    taken.next();
    taken.next().map(PathBuf::from)
}

fn read_config(flags: &Flags) -> Result<Loaded, LoadError> {
    let file = match flags.config.as_str() {
        "" => None,
        path => Some(std::fs::read_to_string(path).map_err(|e| LoadError::open(path, &e))?),
    };
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let directory = std::env::current_dir().map_err(|e| LoadError::open(".", &e))?;
    load(flags, file.as_deref(), &Host { name, directory })
}

/// The first lines of every log.
fn welcome(log: &Logger, loaded: &Loaded) {
    let build = build_info();
    pdsay!(log, WELCOME);
    for (key, value) in [
        ("release-version", &build.release_version),
        ("edition", &build.edition),
        ("kernel-type", &build.kernel_type),
        ("git-hash", &build.git_hash),
        ("git-branch", &build.git_branch),
        ("utc-build-time", &build.build_time),
    ] {
        pdlog!(log, Info, "PD", key => value);
    }
    for warning in &loaded.warnings {
        pdlog!(log, Warn, warning);
    }
    pdsay!(log, PD_CONFIG, false, loaded.config.shown_default().to_string());
}

async fn serve(
    loaded: Loaded,
    log: Logger,
    clock: Arc<dyn Clock>,
    recording: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    welcome(&log, &loaded);
    let mut signals = Signals::new()?;
    // A start may wait for other members.
    let started = tokio::select! {
        started = Server::start_recorded(loaded.config, log.clone(), clock, recording) => started,
        name = signals.end(&log) => {
            pdsay!(log, GOT_SIGNAL_TO_EXIT, name);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            pdsay!(log, RUN_SERVER_FAILED, Value::error(&error));
            return Err(error.into());
        }
    };
    let code = tokio::select! {
        name = signals.end(&log) => {
            pdsay!(log, GOT_SIGNAL_TO_EXIT, name);
            ExitCode::SUCCESS
        }
        what = server.failed() => {
            let text = if *what == *REMOVED { "the process ends" } else { DISK_FAILED };
            pdlog!(log, Error, text, "error" => what.as_ref());
            ExitCode::FAILURE
        }
    };
    // A second signal does not wait for calls that still run.
    tokio::select! {
        () = server.stop() => {}
        _ = signals.end(&log) => {}
    }
    Ok(code)
}

/// The signals that a server listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the process; SIGHUP opens the log file again (after somebody moved it away).
    async fn end(&mut self, log: &Logger) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "interrupt",
                _ = self.terminate.recv() => return "terminated",
                _ = self.quit.recv() => return "quit",
                _ = self.hang_up.recv() => {
                    if let Err(error) = log.reopen() {
                        eprintln!("berth: the log file cannot be opened again: {error}");
                    }
                }
            }
        }
    }
}
