//! `berth ctl`: a person's commands, with the words of pd-ctl.
//!
//! Owns: what the words mean ([`command`]), the call over HTTP ([`client`]) and what is printed. Must not know: the server.

pub mod client;
pub mod command;

use std::io::Write;

use self::command::{Call, Render};

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

/// Takes `-u URL`, `--pd URL`, `--pd=URL` out of the arguments.
fn split_url(args: Vec<String>) -> Result<(String, Vec<String>), CtlError> {
    let mut url = DEFAULT_URL.to_owned();
    let mut words = Vec::new();
    let mut rest = args.into_iter().take(MAX_ARGS);
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-u" | "--pd" => {
                url = rest.next().ok_or_else(|| CtlError::Usage(format!("{word} needs a URL")))?;
            }
            other => match other.strip_prefix("--pd=").or_else(|| other.strip_prefix("-u=")) {
                Some(given) => given.clone_into(&mut url),
                None => words.push(word),
            },
        }
    }
    let url = url.trim_end_matches('/').to_owned();
    Ok((if url.contains("://") { url } else { format!("http://{url}") }, words))
}

/// Carries out one command line (without `berth ctl`) and prints the answer to `out`.
pub async fn run(args: Vec<String>, out: &mut (dyn Write + Send)) -> Result<(), CtlError> {
    let (url, words) = split_url(args)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if matches!(words.as_slice(), [] | ["help" | "-h" | "--help"]) {
        write!(out, "{}", command::USAGE)?;
        return Ok(());
    }
    let call: Call = command::parse(&words).map_err(CtlError::Usage)?;
    let answer = client::send(&url, &call).await?;
    if !(200..300).contains(&answer.status) {
        return Err(CtlError::Refused { status: answer.status, text: answer.text.trim_end().to_owned() });
    }
    writeln!(out, "{}", shown(call.render, &answer.text))?;
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
