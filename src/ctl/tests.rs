#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn parsed(line: &str) -> Result<Call, String> {
    command::parse(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn words_become_calls() {
    let none = Value::Null;
    for (line, method, path, body) in [
        ("store", "GET", "/stores", none.clone()),
        ("store 7", "GET", "/store/7", none.clone()),
        ("store delete 7", "DELETE", "/store/7", none.clone()),
        ("store delete 7 --force", "DELETE", "/store/7?force=true", none.clone()),
        ("store cancel-delete 7", "POST", "/store/7/state?state=Up", none.clone()),
        ("store label 7 zone=z1 host=a=b", "POST", "/store/7/label", json!({"zone": "z1", "host": "a=b"})),
        ("store label 7 zone=z1 --force", "POST", "/store/7/label?force=true", json!({"zone": "z1"})),
        ("store label 7 zone --delete", "DELETE", "/store/7/label", json!("zone")),
        ("store weight 7 0.5 2", "POST", "/store/7/weight", json!({"leader": 0.5, "region": 2.0})),
        ("store limit", "GET", "/stores/limit", none.clone()),
        ("store limit 7 15 add-peer", "POST", "/store/7/limit", json!({"rate": 15.0, "type": "add-peer"})),
        ("store limit all 15", "POST", "/stores/limit", json!({"rate": 15.0})),
        ("stores show", "GET", "/stores", none.clone()),
        ("stores remove-tombstone", "DELETE", "/stores/remove-tombstone", none.clone()),
        ("operator show leader", "GET", "/operators?kind=leader", none.clone()),
        ("operator check 3", "GET", "/operators/3", none.clone()),
        ("operator remove 3", "DELETE", "/operators/3", none.clone()),
        (
            "operator add transfer-peer 3 1 2",
            "POST",
            "/operators",
            json!({"name": "transfer-peer", "region_id": 3, "from_store_id": 1, "to_store_id": 2}),
        ),
        (
            "operator add transfer-region 3 1 2",
            "POST",
            "/operators",
            json!({"name": "transfer-region", "region_id": 3, "to_store_ids": [1, 2]}),
        ),
        ("region 3", "GET", "/region/id/3", none.clone()),
        ("region key a/é", "GET", "/region/key/a%2F%C3%A9", none.clone()),
        ("region key --format=hex 74", "GET", "/region/key/74?format=hex", none.clone()),
        ("config show replication", "GET", "/config/replicate", none.clone()),
        ("config set leader-schedule-limit 8", "POST", "/config", json!({"leader-schedule-limit": 8})),
        ("config set enable-witness true", "POST", "/config", json!({"enable-witness": "true"})),
        ("member", "GET", "/members", none.clone()),
        ("member delete name pd/1", "DELETE", "/members/name/pd%2F1", none.clone()),
        ("member delete id 7", "DELETE", "/members/id/7", none.clone()),
        ("member leader show", "GET", "/leader", none.clone()),
        ("member leader resign", "POST", "/leader/resign", none.clone()),
        ("member leader transfer pd-2", "POST", "/leader/transfer/pd-2", none),
        ("member leader_priority pd-2 3", "POST", "/members/name/pd-2", json!({"leader-priority": 3})),
    ] {
        let call = parsed(line).unwrap();
        let sent = call.body.unwrap_or(Value::Null);
        assert_eq!(
            (call.method, call.path.as_str(), sent),
            (method, format!("/pd/api/v1{path}").as_str(), body),
            "{line}"
        );
    }
}

#[test]
fn wrong_words_are_refused() {
    for line in
        ["nope", "store delete x", "store limit 7 fast", "store limit 7 1 both", "operator add add-peer 3", "store -1"]
    {
        assert!(parsed(line).is_err(), "{line}");
    }
}

/// Answers one connection with `answer` and gives back what was asked.
async fn once(listener: TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    let mut chunk = [0; 4096];
    while !asked.windows(4).any(|w| w == b"\r\n\r\n") || (asked.starts_with(b"POST") && !asked.ends_with(b"}")) {
        let read = stream.read(&mut chunk).await.unwrap();
        asked.extend_from_slice(&chunk[..read]);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(asked).unwrap()
}

async fn ask(words: &str, answer: &str) -> (Result<(), CtlError>, String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let args = ["-u", &url].into_iter().chain(words.split(' ')).map(str::to_owned).collect();
    let mut out = Vec::new();
    let (asked, done) = tokio::join!(once(listener, answer), run(args, &mut out));
    (done, String::from_utf8(out).unwrap(), asked)
}

#[tokio::test]
async fn a_call_is_made_and_its_answer_printed() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n\"The store is set as Offline.\"         ";
    let (done, out, asked) = ask("store delete 2", answer).await;
    done.unwrap();
    assert_eq!(out, "Success! The store is set as Offline.\n");
    assert!(asked.starts_with("DELETE /pd/api/v1/store/2 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("x-caller-id: pd-ctl\r\n"), "{asked}");

    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"id\":3}\r\n0\r\n\r\n";
    let (done, out, _) = ask("region 3", answer).await;
    done.unwrap();
    assert_eq!(out, "{\n  \"id\": 3\n}\n");
}

#[tokio::test]
async fn a_refusal_is_an_error_with_status_and_text() {
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\"config item no-such not found\"\n\n";
    let (done, out, asked) = ask("config set no-such 1", answer).await;
    assert_eq!(done.unwrap_err().to_string(), "Failed! [400] \"config item no-such not found\"");
    assert_eq!(out, "");
    assert!(asked.ends_with("{\"no-such\":1}"), "{asked}");
}

#[tokio::test]
async fn urls_that_cannot_be_asked_are_named() {
    let to = |url: &str| vec!["--pd".to_owned(), url.to_owned(), "member".to_owned()];
    let error = run(to("https://a:1"), &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "https://a:1: https:// needs --cacert, the file of the authorities to trust");
    let error = run(to("ftp://a:1"), &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "ftp://a:1: a URL begins with http:// or https://");
    let flags = ["--cert=c", "member"].map(str::to_owned).to_vec();
    let error = run(flags, &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "a certificate and its key must be given together");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = run(to(&free.to_string()), &mut Vec::new()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("connect to http://{free}: ")), "{error}");
    let mut out = Vec::new();
    run(vec!["help".to_owned()], &mut out).await.unwrap();
    assert_eq!(out, command::USAGE.as_bytes());
}
