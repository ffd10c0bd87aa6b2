//! The recorded facts: where they are, the recordings of requests and answers, the order in which they were made.

use std::path::{Path, PathBuf};

/// The folder of facts of this name; `None`, with a word about it, when it is not there. In CI it must be.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("BERTH_SHARED").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is not there, and this is CI", path.display());
    println!("skipped: {} is not there", path.display());
    None
}

/// One step of a recording session.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Which cluster: `U`, `D1`, `D2`, `M`.
    pub(crate) cluster: String,
    /// `setup`, `case`, `request`, `stub`, `wait`.
    pub(crate) kind: String,
    /// Name of the recording, for a case.
    pub(crate) case: String,
    /// What to do, for the others.
    pub(crate) detail: String,
}

/// All steps in order.
pub(crate) fn steps(compat: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(compat.join("rest-order.tsv")).expect("rest-order.tsv");
    let step = |line: &str| {
        let mut cells = line.split('\t').skip(1).map(str::to_owned);
        let mut next = || cells.next().unwrap_or_default();
        Step { cluster: next(), kind: next(), case: next(), detail: next() }
    };
    text.lines().skip(1).map(step).collect()
}

/// A request as it was sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Request {
    /// Method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Headers.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

/// An answer as it came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as a text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn lines(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    (first, headers.collect())
}

/// A recording by its name.
pub(crate) fn recording(compat: &Path, name: &str) -> (Request, Answer) {
    let path = compat.join("rest-golden").join(format!("{name}.http.txt"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    let (_, after) = text.split_once(">>> request\n").expect("a request");
    let (asked, answered) = after.split_once("<<< response\n").expect("a response");
    let (head, body) = asked.split_once("\n\n").unwrap_or((asked, ""));
    let (first, headers) = lines(head);
    let mut words = first.split(' ');
    let request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers,
        body: body.trim_end_matches('\n').as_bytes().to_vec(),
    };
    let (head, body) = answered.split_once("\n\n").expect("an empty line");
    let (first, headers) = lines(head);
    let headers: Vec<_> = headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse::<usize>().ok());
    // The file ends with a newline even where the body did not.
    let mut body = body.as_bytes().to_vec();
    if length.is_some_and(|length| length + 1 == body.len()) {
        body.pop();
    }
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (request, Answer { status, headers, body })
}

/// A request that was made but not recorded: `METHOD target body`.
pub(crate) fn unrecorded(detail: &str) -> Request {
    let mut parts = detail.splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (method, target, body) = (next(), next(), next());
    Request { method, target, headers: Vec::new(), body: body.into_bytes() }
}
