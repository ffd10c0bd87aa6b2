//! Flags of the server, as PD takes them.
//!
//! Owns: the table of flags and their forms (`--name x`, `--name=x`, `-name x`, `-L x`). Must not know: what they mean.

use std::fmt::Write as _;

/// Arguments that are read; nobody types more.
const MAX_ARGS: usize = 1024;

/// What the flags say. A flag that was not given, or given empty, leaves the file's value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: String,
    /// `--name`
    pub name: String,
    /// `--data-dir`
    pub data_dir: String,
    /// `--client-urls`
    pub client_urls: String,
    /// `--advertise-client-urls`
    pub advertise_client_urls: String,
    /// `--peer-urls`
    pub peer_urls: String,
    /// `--advertise-peer-urls`
    pub advertise_peer_urls: String,
    /// `--initial-cluster`
    pub initial_cluster: String,
    /// `--join`
    pub join: String,
    /// `--metrics-addr`
    pub metrics_addr: String,
    /// `-L`, `--log-level`
    pub log_level: String,
    /// `--log-file`
    pub log_file: String,
    /// `--cacert`
    pub cacert: String,
    /// `--cert`
    pub cert: String,
    /// `--key`
    pub key: String,
    /// `--force-new-cluster`
    pub force_new_cluster: bool,
    /// `--config-check`
    pub config_check: bool,
    /// `-V`, `--version`
    pub version: bool,
    /// `-h`, `--help`
    pub help: bool,
}

/// Arguments that cannot be read. PD prints `Error: <text>`, the usage, an empty line and the text again, all on stdout, and ends
/// with exit code 1: see [`FlagError::report`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlagError {
    /// Nobody knows the flag.
    #[error("unknown flag: {0}")]
    Unknown(String),
    /// Nobody knows the letter.
    #[error("unknown shorthand flag: '{0}' in {1}")]
    UnknownShort(char, String),
    /// A flag at the end wants a value.
    #[error("flag needs an argument: {0}")]
    NoValue(String),
    /// A switch was given something else than a truth value.
    #[error("invalid argument \"{1}\" for \"--{0}\" flag: strconv.ParseBool: parsing \"{1}\": invalid syntax")]
    NotBool(String, String),
    /// A word that is no flag.
    #[error("unknown command \"{0}\" for \"pd-server\"")]
    Word(String),
    /// Another service than PD itself; Berth is one process.
    #[error("service mode \"{0}\" is not supported: berth serves everything in one process")]
    Service(String),
    /// More than anyone types.
    #[error("too many arguments")]
    TooMany,
}

impl FlagError {
    /// What is printed.
    pub fn report(&self) -> String {
        format!("Error: {self}\n{}\n\n{self}\n", usage())
    }
}

/// One flag: long name, letter, whether it takes a text, help.
struct Flag(&'static str, Option<char>, bool, &'static str);

const TABLE: [Flag; 19] = [
    Flag("advertise-client-urls", None, true, "advertise url for client traffic (default '${client-urls}')"),
    Flag("advertise-peer-urls", None, true, "advertise url for peer traffic (default '${peer-urls}')"),
    Flag("cacert", None, true, "path of file that contains list of trusted TLS CAs"),
    Flag("cert", None, true, "path of file that contains X509 certificate in PEM format"),
    Flag("client-urls", None, true, "url for client traffic"),
    Flag("config", None, true, "config file"),
    Flag("config-check", None, false, "check config file validity and exit"),
    Flag("data-dir", None, true, "path to the data directory (default 'default.${name}')"),
    Flag("force-new-cluster", None, false, "force to create a new one-member cluster"),
    Flag("help", Some('h'), false, "help for pd-server"),
    Flag(
        "initial-cluster",
        None,
        true,
        "initial cluster configuration for bootstrapping, e,g. pd=http://127.0.0.1:2380",
    ),
    Flag("join", None, true, "join to an existing cluster (usage: cluster's '${advertise-client-urls}'"),
    Flag("key", None, true, "path of file that contains X509 key in PEM format"),
    Flag("log-file", None, true, "log file path"),
    Flag("log-level", Some('L'), true, "log level: debug, info, warn, error, fatal (default 'info')"),
    Flag("metrics-addr", None, true, "prometheus pushgateway address, leaves it empty will disable prometheus push"),
    Flag("name", None, true, "human-readable name for this pd member"),
    Flag("peer-urls", None, true, "url for peer traffic"),
    Flag("version", Some('V'), false, "print version information and exit"),
];

/// The usage text.
pub fn usage() -> String {
    let mut out = String::from("Usage:\n  pd-server [flags]\n\nFlags:\n");
    for Flag(name, letter, takes_text, help) in &TABLE {
        let letter = letter.map_or("    ".to_owned(), |l| format!("-{l}, "));
        let name = format!("--{name}{}", if *takes_text { " string" } else { "" });
        let _ = writeln!(out, "  {letter}{name:<31} {help}");
    }
    out
}

/// Reads arguments (without the program's name). `services api` in front is PD's other way to start the same server.
pub fn parse<I: IntoIterator<Item = String>>(args: I) -> Result<Flags, FlagError> {
    let mut args: Vec<String> = args.into_iter().take(MAX_ARGS + 1).collect();
    if args.len() > MAX_ARGS {
        return Err(FlagError::TooMany);
    }
    if args.first().is_some_and(|word| word == "services" || word == "service") {
        match args.get(1).map(String::as_str) {
            Some("api") => drop(args.drain(..2)),
            mode => return Err(FlagError::Service(mode.unwrap_or("").to_owned())),
        }
    }
    let mut flags = Flags::default();
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        let (flag, given) = find(&arg)?;
        match (flag.2, given) {
            (true, Some(text)) => set_text(&mut flags, flag.0, text),
            (true, None) => {
                let text = rest.next().ok_or_else(|| FlagError::NoValue(arg.clone()))?;
                set_text(&mut flags, flag.0, text);
            }
            (false, given) => {
                let on = match given.as_deref() {
                    None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
                    Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
                    Some(other) => return Err(FlagError::NotBool(flag.0.to_owned(), other.to_owned())),
                };
                set_switch(&mut flags, flag.0, on);
            }
        }
    }
    Ok(flags)
}

/// The flag of an argument, and the value behind its `=`.
fn find(arg: &str) -> Result<(&'static Flag, Option<String>), FlagError> {
    let Some(bare) = arg.strip_prefix('-').filter(|b| !b.is_empty()) else {
        return Err(FlagError::Word(arg.to_owned()));
    };
    let long = bare.strip_prefix('-');
    let (name, value) = match long.unwrap_or(bare).split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long.unwrap_or(bare), None),
    };
    // Go's older flags had one dash, and scripts still write them so.
    if let Some(flag) = TABLE.iter().find(|f| f.0 == name) {
        return Ok((flag, value));
    }
    if long.is_some() {
        return Err(FlagError::Unknown(format!("--{name}")));
    }
    let first = bare.chars().next().unwrap_or('-');
    match TABLE.iter().find(|f| f.1 == Some(first)) {
        // `-Lwarn` and `-L=warn` are the same.
        Some(flag) => {
            let behind = &bare[first.len_utf8()..];
            let behind = behind.strip_prefix('=').unwrap_or(behind);
            Ok((flag, (!behind.is_empty()).then(|| behind.to_owned())))
        }
        None => Err(FlagError::UnknownShort(first, arg.to_owned())),
    }
}

fn set_text(flags: &mut Flags, name: &str, text: String) {
    let slot = match name {
        "advertise-client-urls" => &mut flags.advertise_client_urls,
        "advertise-peer-urls" => &mut flags.advertise_peer_urls,
        "cacert" => &mut flags.cacert,
        "cert" => &mut flags.cert,
        "client-urls" => &mut flags.client_urls,
        "config" => &mut flags.config,
        "data-dir" => &mut flags.data_dir,
        "initial-cluster" => &mut flags.initial_cluster,
        "join" => &mut flags.join,
        "key" => &mut flags.key,
        "log-file" => &mut flags.log_file,
        "log-level" => &mut flags.log_level,
        "metrics-addr" => &mut flags.metrics_addr,
        "name" => &mut flags.name,
        _ => &mut flags.peer_urls,
    };
    *slot = text;
}

fn set_switch(flags: &mut Flags, name: &str, on: bool) {
    let slot = match name {
        "config-check" => &mut flags.config_check,
        "force-new-cluster" => &mut flags.force_new_cluster,
        "version" => &mut flags.version,
        _ => &mut flags.help,
    };
    *slot = on;
}

/// What a build knows about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BuildInfo {
    /// `v8.5.7`: the version that clients compare.
    pub release_version: String,
    /// `Community`
    pub edition: String,
    /// `Classic`
    pub kernel_type: String,
    /// Commit.
    pub git_hash: String,
    /// Branch.
    pub git_branch: String,
    /// `2026-11-22 12:00:00`
    pub build_time: String,
}

impl BuildInfo {
    /// What `--version` prints.
    pub fn version_text(&self) -> String {
        format!(
            "Release Version: {}\nEdition: {}\nKernel Type: {}\nGit Commit Hash: {}\nGit Branch: {}\nUTC Build Time: {}\n",
            self.release_version, self.edition, self.kernel_type, self.git_hash, self.git_branch, self.build_time
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(line: &str) -> Result<Flags, FlagError> {
        parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn every_form_of_a_flag_is_taken() {
        let line =
            "services api --name=pd-1 -data-dir /d -client-urls=http://a:1 --join http://b:1 -L warn --config-check -V";
        let flags = read(line).unwrap();
        let expected = Flags {
            name: "pd-1".to_owned(),
            data_dir: "/d".to_owned(),
            client_urls: "http://a:1".to_owned(),
            join: "http://b:1".to_owned(),
            log_level: "warn".to_owned(),
            config_check: true,
            version: true,
            ..Flags::default()
        };
        assert_eq!(flags, expected);
        assert_eq!(read("-Ldebug --force-new-cluster=false").unwrap().log_level, "debug");
    }

    #[test]
    fn each_flag_of_the_table_sets_a_field_of_its_own() {
        let mut seen = Vec::new();
        for Flag(name, _, takes_text, _) in &TABLE {
            let flags = read(&format!("--{name}{}", if *takes_text { "=x" } else { "" })).unwrap();
            assert!(!seen.contains(&flags) && flags != Flags::default(), "{name}");
            seen.push(flags);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, text) in [
            ("--nope", "unknown flag: --nope"),
            ("-x", "unknown shorthand flag: 'x' in -x"),
            ("--name", "flag needs an argument: --name"),
            ("word", "unknown command \"word\" for \"pd-server\""),
            ("services tso", "service mode \"tso\" is not supported: berth serves everything in one process"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text);
        }
        let report = read("--nope").unwrap_err().report();
        assert!(report.starts_with("Error: unknown flag: --nope\nUsage:"), "{report}");
        assert!(report.ends_with("\n\nunknown flag: --nope\n"), "{report}");
    }
}
