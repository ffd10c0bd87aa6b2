//! Schedulers of a real server: added, configured and removed over HTTP, and still so after a restart.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub(crate) mod clock;
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod server;
    pub(crate) mod stub;
}

use common::{facts, http, server::Running, stub::Stub};

async fn ask(running: &Running, request: &str) -> (u16, String) {
    let answer = http::send(running.addr(), &facts::unrecorded(request)).await;
    (answer.status, answer.text())
}

async fn names(running: &Running, query: &str) -> Vec<String> {
    let (status, text) = ask(running, &format!("GET /pd/api/v1/schedulers{query}")).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedulers_are_what_people_made_them_after_a_restart() {
    let Some(compat) = facts::folder("compat") else { return };
    let running = Running::start().await;
    let mut stub = Stub::connect(running.addr(), running.clock.clone(), &compat).await;
    stub.bootstrap().await;
    stub.join().await;
    let fresh = [
        "balance-hot-region-scheduler",
        "balance-leader-scheduler",
        "balance-region-scheduler",
        "evict-slow-store-scheduler",
        "evict-stopping-store-scheduler",
    ];
    assert_eq!(names(&running, "").await, fresh);
    for request in [
        r#"POST /pd/api/v1/schedulers {"name": "evict-leader-scheduler", "store_id": 3}"#,
        r#"POST /pd/api/v1/schedulers {"name": "evict-leader-scheduler", "store_id": 4}"#,
        r#"POST /pd/api/v1/schedulers {"name": "scatter-range-scheduler", "start_key": "a", "end_key": "b", "range_name": "t1"}"#,
        "DELETE /pd/api/v1/schedulers/balance-region-scheduler ",
        r#"POST /pd/api/v1/scheduler-config/balance-leader-scheduler/config {"batch": 7}"#,
        "DELETE /pd/api/v1/schedulers/evict-leader-scheduler-4 ",
    ] {
        let (status, text) = ask(&running, request).await;
        assert_eq!(status, 200, "{request}: {text}");
    }
    let all = async |running: &Running| {
        let config = |name: &str| format!("GET /pd/api/v1/scheduler-config/{name}/list");
        (
            names(running, "").await,
            names(running, "?status=disabled").await,
            ask(running, &config("balance-leader-scheduler")).await.1,
            ask(running, &config("evict-leader-scheduler")).await.1,
            ask(running, "GET /pd/api/v1/store/3").await.1.contains("pause_leader_transfer_in"),
            ask(running, "GET /pd/api/v1/store/4").await.1.contains("pause_leader_transfer_in"),
        )
    };
    let before = all(&running).await;
    assert_eq!(before.0.len(), 6);
    assert_eq!(before.1, ["balance-region-scheduler"]);
    assert!(before.2.contains("\"batch\": 7") && before.3.contains("\"3\"") && !before.3.contains("\"4\""));
    assert!(before.4 && !before.5);
    let running = running.restart().await;
    assert_eq!(all(&running).await, before);
    let (status, _) = ask(&running, r#"POST /pd/api/v1/schedulers {"name": "balance-region-scheduler"}"#).await;
    assert_eq!(status, 200, "one that was removed comes back");
    assert!(names(&running, "?status=disabled").await.is_empty());
    running.server.stop().await;
}
