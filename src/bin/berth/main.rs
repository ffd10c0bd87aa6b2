//! The `berth` binary: reads arguments, calls what does the work. Started under the name `pd-server` it is `berth server` with
//! PD's flags, so that deployment tools can start it.

mod backup;
mod demo;
mod server;

use std::{path::Path, process::ExitCode};

use berth::{sim, world::command::SimCommand};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(name = "berth", version, about = "A placement control plane: a drop-in for TiKV's Placement Driver")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane, with PD's flags (`berth server --help` lists them).
    #[command(disable_help_flag = true)]
    Server {
        /// PD's flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Show the main job: a server, a simulated fleet, and a store on its way from DELETE to Tombstone.
    Demo(demo::DemoOptions),
    /// Run a fleet of simulated storage nodes against a PD-compatible server, or scenarios on virtual time.
    #[command(args_conflicts_with_subcommands = true)]
    Sim {
        /// Scenarios; without one of these a fleet is run.
        #[command(subcommand)]
        scenarios: Option<SimCommand>,
        #[command(flatten)]
        fleet: Box<sim::FleetOptions>,
    },
    /// Measure a PD-compatible server.
    Bench(sim::bench::BenchOptions),
    /// Fetch the agreed state from a running server into a file, or look at such a file.
    Backup(backup::BackupOptions),
    /// Make the data folder of a new member from a backup.
    Restore(backup::RestoreOptions),
    /// Make the data folder of a new member for a cluster that has lost all members and has no backup.
    Recover(backup::RecoverOptions),
    /// Talk to a running server with pd-ctl's words (`berth ctl help` lists them).
    #[command(disable_help_flag = true)]
    Ctl {
        /// The words.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let is_pd = Path::new(&name).file_name().is_some_and(|n| n == "pd-server");
    if is_pd {
        return server::main(args.collect());
    }
    match Cli::parse().command {
        Command::Server { flags } => server::main(flags),
        Command::Demo(options) => run(demo::run(options)),
        Command::Sim { scenarios: Some(command), .. } => match berth::world::command::run(&command) {
            Ok(report) => {
                print(&report.text);
                if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error.into()),
        },
        Command::Sim { scenarios: None, fleet } => run(run_sim(*fleet)),
        Command::Bench(options) => run(run_bench(options)),
        Command::Backup(options) => run(backup::backup(options)),
        Command::Restore(options) => backup::restored(&options).unwrap_or_else(|error| fail(&error)),
        Command::Recover(options) => backup::recovered(&options).unwrap_or_else(|error| fail(&error)),
        Command::Ctl { words } => run(run_ctl(words)),
    }
}

/// Runs `work` on a runtime of its own; an error is printed and becomes exit code 1.
fn run(work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = runtime.block_on(work).unwrap_or_else(|error| fail(&error));
    // Calls that hang in a system call must not keep a finished program alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// Prints the error with its causes; a cause that the text before names already is left out.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    eprintln!("berth: {text}");
    ExitCode::FAILURE
}

/// Cancelled by the first Ctrl-C or SIGTERM; a second one ends the process at once.
fn interrupt() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = token.clone();
    tokio::spawn(async move {
        for ends in [false, true] {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            if ends {
                std::process::exit(130);
            }
            told.cancel();
        }
    });
    Ok(token)
}

async fn run_sim(options: sim::FleetOptions) -> anyhow::Result<ExitCode> {
    let report = sim::run(options, interrupt()?, ()).await?;
    print(&format!("{report}\n"));
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_bench(options: sim::bench::BenchOptions) -> anyhow::Result<ExitCode> {
    let table = sim::bench::run(&options, interrupt()?).await?;
    print(&if options.json { format!("{}\n", table.to_json()) } else { table.to_string() });
    Ok(ExitCode::SUCCESS)
}

async fn run_ctl(words: Vec<String>) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    berth::ctl::run(words, &mut out).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; a closed one is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
