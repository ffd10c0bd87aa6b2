//! `berth ctl`: a person's commands, with the words of pd-ctl.
//!
//! Owns: what the words mean ([`command`]), the call over HTTP ([`client`]) and what is printed. Must not know: the server.

pub mod client;
pub mod command;

use std::{io::Write, path::Path};

use self::command::{Call, Render};
use crate::tls::{ClientTls, TlsError};

/// Where the server is, unless `-u` says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:2379";

/// Arguments that are read; nobody types more.
const MAX_ARGS: usize = 1024;

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The words make no command.
    #[error("{0}")]
    Usage(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server could not be asked.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// The server refused.
    #[error("Failed! [{status}] {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The answer could not be printed.
    #[error("print the answer: {0}")]
    Print(#[from] std::io::Error),
}

/// Where to ask, and with what certificates: pd-ctl's flags, each as `--flag VALUE` or `--flag=VALUE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The server; with certificates `https` is meant where no scheme is named.
    pub pd: Option<String>,
    /// The authorities to trust.
    pub cacert: Option<String>,
    /// The client's certificate.
    pub cert: Option<String>,
    /// Its key.
    pub key: Option<String>,
}

impl Flags {
    /// Takes the flags out of the arguments; what is left are the words.
    fn split(args: Vec<String>) -> Result<(Self, Vec<String>), CtlError> {
        let (mut flags, mut words) = (Self::default(), Vec::new());
        let mut rest = args.into_iter().take(MAX_ARGS);
        while let Some(word) = rest.next() {
            let (name, given) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let slot = match name {
                "-u" | "--pd" => &mut flags.pd,
                "--cacert" => &mut flags.cacert,
                "--cert" => &mut flags.cert,
                "--key" => &mut flags.key,
                _ => {
                    words.push(word);
                    continue;
                }
            };
            let given = given.or_else(|| rest.next());
            *slot = Some(given.ok_or_else(|| CtlError::Usage(format!("{name} needs a value")))?);
        }
        Ok((flags, words))
    }

    fn url(&self) -> String {
        let url = self.pd.as_deref().unwrap_or(DEFAULT_URL).trim_end_matches('/');
        let scheme = if self.cacert.is_some() { "https" } else { "http" };
        if url.contains("://") { url.to_owned() } else { format!("{scheme}://{url}") }
    }

    fn tls(&self) -> Result<Option<ClientTls>, CtlError> {
        let pair = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((Path::new(cert), Path::new(key))),
            (None, None) => None,
            _ => return Err(TlsError::Half.into()),
        };
        match &self.cacert {
            Some(cacert) => Ok(Some(ClientTls::open(Path::new(cacert), pair)?)),
            None if pair.is_some() => Err(CtlError::Usage("--cert and --key need --cacert".to_owned())),
            None => Ok(None),
        }
    }
}

/// Carries out one command line (without `berth ctl`) and prints the answer to `out`.
pub async fn run(args: Vec<String>, out: &mut (dyn Write + Send)) -> Result<(), CtlError> {
    let (flags, words) = Flags::split(args)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if matches!(words.as_slice(), [] | ["help" | "-h" | "--help"]) {
        write!(out, "{}", command::USAGE)?;
        return Ok(());
    }
    let call: Call = command::parse(&words).map_err(CtlError::Usage)?;
    let answer = client::send(&flags.url(), flags.tls()?.as_ref(), &call).await?;
    if !(200..300).contains(&answer.status) {
        return Err(CtlError::Refused { status: answer.status, text: answer.text.trim_end().to_owned() });
    }
    writeln!(out, "{}", shown(call.render, &answer.text))?;
    Ok(())
}

/// Fetches what is behind a path and hands it to `take` as it comes; it is not kept in memory.
///
/// # Errors
/// See [`CtlError`]; part of the answer may have been taken.
pub async fn download(
    flags: &Flags,
    path: &str,
    take: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
) -> Result<(), CtlError> {
    let call = Call { method: "GET", path: path.to_owned(), body: None, render: Render::Json };
    let answer = client::fetch(&flags.url(), flags.tls()?.as_ref(), &call, take).await?;
    if !(200..300).contains(&answer.status) {
        return Err(CtlError::Refused { status: answer.status, text: answer.text.trim_end().to_owned() });
    }
    Ok(())
}

/// What is printed of an answer.
fn shown(render: Render, text: &str) -> String {
    let text = text.trim_end();
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return text.to_owned() };
    match render {
        Render::Success => match value.as_str() {
            Some(said) => format!("Success! {said}"),
            None => "Success!".to_owned(),
        },
        // The answer's own text keeps its numbers as they are; only compact answers are laid out.
        Render::Json if text.contains('\n') => text.to_owned(),
        Render::Json => serde_json::to_string_pretty(&value).unwrap_or_else(|_| text.to_owned()),
        Render::Fields(fields) => {
            let kept = fields.iter().filter_map(|f| Some(((*f).to_owned(), value.get(f)?.clone())));
            let kept: serde_json::Map<_, _> = kept.collect();
            serde_json::to_string_pretty(&kept).unwrap_or_else(|_| text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
