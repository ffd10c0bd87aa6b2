//! What is wrong below requests: endless and huge bodies, heads that come byte by byte, frames that no client sends.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// The server lets go of a slow client within this.
const LETS_GO: Duration = Duration::from_secs(35);
/// An answer to a client that is not slow comes within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a row comes to: `Err` says what was wrong.
pub(crate) type Outcome = Result<(), String>;

/// One row.
pub(crate) struct Row {
    /// What it is.
    pub(crate) name: &'static str,
    /// Sends it and judges the answer.
    pub(crate) send: fn(SocketAddr) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

macro_rules! rows {
    ($($name:literal: $send:expr;)*) => {
        vec![$(Row { name: $name, send: |addr| Box::pin($send(addr)) }),*]
    };
}

/// Rows that take no time.
pub(crate) fn rows() -> Vec<Row> {
    rows! {
        "a body above the bound": |addr| answered(addr, post("", &vec![b' '; 9 << 20]), &["413"]);
        "a body of a gigabyte": gigabyte;
        "a gzip bomb": gzip_bomb;
        "a chunk of a length that is none": |addr| answered(addr, chunked(b"zz\r\nabc\r\n"), &["400", "413"]);
        "a length below zero": |addr| answered(addr, head("Content-Length: -1"), &["400"]);
        "two lengths": |addr| answered(addr, head("Content-Length: 1\r\nContent-Length: 2"), &["400"]);
        "a URL of 70 KiB": |addr| answered(addr, get(&format!("/pd/api/v1/{}", "a".repeat(70 << 10))), &["404", "414", "431"]);
        "a URL of 60 KiB": |addr| answered(addr, get(&format!("/pd/api/v1/{}", "a".repeat(60 << 10))), &["404", "414", "431"]);
        "a query of 60 KiB": |addr| answered(addr, get(&format!("/pd/api/v1/stores?{}", "a=b&".repeat(15 << 10))), &["200", "414", "431"]);
        "two thousand headers": many_headers;
        "a version that is none": |addr| answered(addr, b"GET / HTTP/9.9\r\n\r\n".to_vec(), &["400", "505", ""]);
        "noise": |addr| answered(addr, (0..=255).cycle().take(5000).collect(), &["400", ""]);
        "streams that are opened and reset": rapid_reset;
        "a head that is continued for ever": continuation_flood;
        "a message of four gigabytes, announced": big_message;
        "a frame above the bound": |addr| frames(addr, frame(0, 0, 1, &vec![0; 1 << 17]));
        "a window of nothing": |addr| frames(addr, frame(8, 0, 0, &[0; 4]));
        "a compressed message that opens to more than the bound": compressed_message;
    }
}

/// Rows that last as long as the server lets them: they run side by side.
pub(crate) async fn slow(addr: SocketAddr) -> Vec<(&'static str, Outcome)> {
    let mut all = JoinSet::new();
    all.spawn(
        async move { ("a head byte by byte", drip(addr, b"GET /pd/api/v1/ping HTTP/1.1\r\n", b"x-a: b\r\n").await) },
    );
    all.spawn(async move {
        let head = b"POST /pd/api/v1/config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        ("chunks without an end", drip(addr, head, b"1\r\n \r\n").await)
    });
    all.spawn(async move {
        let head = b"POST /pd/api/v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
        ("a body that does not come", drip(addr, head, b"").await)
    });
    all.spawn(async move { ("a connection that says nothing", drip(addr, b"", b"").await) });
    all.join_all().await
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

fn head(lines: &str) -> Vec<u8> {
    format!("POST /pd/api/v1/config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n\r\n").into_bytes()
}

fn post(lines: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}{lines}", body.len());
    [&head(&length), body].concat()
}

fn chunked(chunks: &[u8]) -> Vec<u8> {
    [&head("Transfer-Encoding: chunked"), chunks].concat()
}

/// Sends bytes and reads until the server ends. A server that refuses early may cut the rest of what is sent.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let (mut read, mut write) = stream.into_split();
    let send = async {
        _ = write.write_all(bytes).await;
        _ = write.flush().await;
        // Held until the answer has come: an end of the client's side is another story.
        write
    };
    let receive = async {
        let mut answer = vec![];
        _ = read.read_to_end(&mut answer).await;
        answer
    };
    let both = timeout(PATIENCE, async { tokio::join!(receive, send).0 });
    both.await.map_err(|_| "the server neither answered nor ended".to_owned())
}

/// The status must be one of these; an empty text stands for an end without an answer.
async fn answered(addr: SocketAddr, bytes: Vec<u8>, statuses: &[&str]) -> Outcome {
    let answer = exchange(addr, &bytes).await?;
    let first = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let status = first.split(' ').nth(1).unwrap_or_default();
    if statuses.contains(&status) { Ok(()) } else { Err(format!("answered {first:?}")) }
}

/// Announces a gigabyte and goes on sending until the server has had enough.
async fn gigabyte(addr: SocketAddr) -> Outcome {
    let mut stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let begin = format!("POST /pd/api/v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    stream.write_all(begin.as_bytes()).await.map_err(|e| e.to_string())?;
    let piece = vec![b' '; 1 << 20];
    let mut sent = 0;
    while sent < 1 << 10 && matches!(timeout(PATIENCE, stream.write_all(&piece)).await, Ok(Ok(()))) {
        sent += 1;
    }
    if sent < 1 << 10 { Ok(()) } else { Err("all of it was read".into()) }
}

fn gzip(length: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..length >> 20 {
        out.write_all(&zeros).expect("memory");
    }
    out.finish().expect("memory")
}

/// Bodies are taken as they are sent, whatever their encoding is said to be.
async fn gzip_bomb(addr: SocketAddr) -> Outcome {
    answered(addr, post("\r\nContent-Encoding: gzip", &gzip(64 << 20)), &["400"]).await
}

async fn many_headers(addr: SocketAddr) -> Outcome {
    let lines: Vec<String> = (0..2000).map(|i| format!("x-{i}: {i}")).collect();
    answered(addr, head(&lines.join("\r\n")), &["431", "400"]).await
}

/// Sends a head, and then a little from time to time, until the server ends.
async fn drip(addr: SocketAddr, head: &[u8], drop: &[u8]) -> Outcome {
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let (mut read, mut write) = stream.into_split();
    write.write_all(head).await.map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let drip = async {
        while drop.is_empty() || write.write_all(drop).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut answer = vec![];
        _ = read.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = ended => Ok(()),
        () = drip => unreachable!("it never ends"),
        () = sleep(LETS_GO) => Err(format!("still open after {:?}", begun.elapsed())),
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What every connection begins with, and settings that say nothing.
fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()
}

/// A header list in its plainest form: no table, no Huffman code.
fn fields(method: &str) -> Vec<u8> {
    let mut out = vec![];
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", "gzip"),
    ] {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("a short text"));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

const GET_MEMBERS: &str = "/pdpb.PD/GetMembers";

/// Frames after the preface; the server answers, ends the connection or does nothing, and that is all right. It must take them or end.
async fn frames(addr: SocketAddr, frames: Vec<u8>) -> Outcome {
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let (mut read, mut write) = stream.into_split();
    let mut bytes = preface();
    bytes.extend(frames);
    // A ping whose answer tells that everything before it has been looked at.
    bytes.extend(frame(6, 0, 0, b"finished"));
    let send = async {
        _ = write.write_all(&bytes).await;
        write
    };
    let receive = async {
        let mut got = vec![];
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = read.read(&mut piece).await {
            got.extend_from_slice(&piece[..n]);
            if got.windows(8).any(|w| w == b"finished") {
                break;
            }
        }
    };
    let both = timeout(PATIENCE, async { tokio::join!(receive, send) });
    both.await.map(drop).map_err(|_| "the server neither went on nor ended".to_owned())
}

/// CVE-2023-44487: calls that are taken back at once.
async fn rapid_reset(addr: SocketAddr) -> Outcome {
    let fields = fields(GET_MEMBERS);
    let calls = (0..10_000_u32).flat_map(|i| {
        let stream = 2 * i + 1;
        [frame(1, 4, stream, &fields), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    frames(addr, calls.collect()).await
}

/// A head without an end: it must not be gathered for ever.
async fn continuation_flood(addr: SocketAddr) -> Outcome {
    let mut bytes = frame(1, 0, 1, &fields(GET_MEMBERS));
    let mut more = vec![0, 1, b'a', 120];
    more.extend(vec![b'a'; 120]);
    let more = frame(9, 0, 1, &more.repeat(100));
    (0..2000).for_each(|_| bytes.extend_from_slice(&more));
    let answer = exchange(addr, &[preface(), bytes].concat()).await;
    answer.map(drop)
}

/// A message that is said to be longer than anything that is taken.
async fn big_message(addr: SocketAddr) -> Outcome {
    let call = frame(1, 4, 1, &fields("/pdpb.PD/GetStore"));
    frames(addr, [call, frame(0, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])].concat()).await
}

/// 160 MiB in 160 KiB: more than `max-request-bytes`.
async fn compressed_message(addr: SocketAddr) -> Outcome {
    let packed = gzip(160 << 20);
    let length = u32::try_from(packed.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length, &packed].concat();
    let mut bytes = frame(1, 4, 1, &fields("/pdpb.PD/GetStore"));
    // The window of a connection is 64 KiB until the server opens it; its settings do that, and nothing here waits for them.
    for part in message.chunks(16 << 10) {
        bytes.extend(frame(0, 0, 1, part));
    }
    frames(addr, bytes).await
}
