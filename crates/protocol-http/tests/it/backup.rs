//! A backup over HTTP, of a broker that keeps its logs on a disk.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use log::{EmbeddedLog, EmbeddedOptions, Log};
use serde_json::json;
use testkit::FaultDisk;
use tower::ServiceExt;

use crate::harness::App;

/// A broker with more than a backup's pieces hold that wait to be written, and its engine.
async fn filled() -> (App, Arc<EmbeddedLog>) {
    let engine = Arc::new(EmbeddedLog::open(Arc::new(FaultDisk::new()), EmbeddedOptions::default()).unwrap());
    let app = App::over(engine.clone());
    app.put("/v1/default/queues/q", json!({})).await.ok();
    for _ in 0..10 {
        app.call("POST", "/v1/default/queues/q/messages", "text/plain", "x".repeat(512 * 1024)).await.ok();
    }
    (app, engine)
}

#[tokio::test]
async fn a_backup_is_an_archive_of_the_size_that_its_head_says() {
    let (app, engine) = filled().await;
    let answer = app.get("/admin/v1/backup").await.ok();
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-tar");
    assert_eq!(answer.headers[header::CONTENT_LENGTH], answer.body.len().to_string());
    let checked = log::check_backup(&answer.body[..], &mut |_, _| {}).unwrap();
    assert!(checked.manifest.records >= 10, "{:?}", checked.manifest);
    let status = app.get("/admin/v1/status").await.ok().json();
    assert_eq!(status["last_backup_ms"], json!(checked.manifest.created_ms));
    assert_eq!(status["last_backup_error"], json!(null));
    assert_eq!(engine.engine_state().backup, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_a_minute_is_given_up() {
    let (app, engine) = filled().await;
    let request = Request::get("/admin/v1/backup").body(Body::empty()).unwrap();
    let response = app.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(engine.engine_state().backup.is_some(), "it may still come back");
    assert_eq!(app.get("/admin/v1/backup").await.problem().1, "backup-under-way");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(engine.engine_state().backup, None, "what it held is free");
    let status = app.get("/admin/v1/status").await.ok().json();
    assert!(status["last_backup_error"].as_str().unwrap().contains("BACKUP_STALL"), "{status}");
    // What it reads now does not look whole.
    to_bytes(response.into_body(), usize::MAX).await.unwrap_err();
    app.get("/admin/v1/backup").await.ok();
}
