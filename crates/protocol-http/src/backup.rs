//! A backup of the whole broker, as it is read.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use broker::Backup;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Known;
use crate::limits::{BACKUP_PIECES, BACKUP_STALL, BACKUP_TOTAL};
use crate::problem::Failure;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(backup))
}

/// Makes a backup: a consistent copy of everything that was confirmed before the request, while the broker runs. The answer is a tar archive that
/// `posthouse restore` turns into a data directory again. For administrators; there is one at a time. An answer that ends before its
/// length is of no use: the status says why.
#[utoipa::path(
    get, path = "/admin/v1/backup", tag = "admin",
    responses(
        (
            // Bytes, which a JSON schema says nothing of.
            status = 200, description = "The archive", content_type = "application/x-tar", body = serde_json::Value,
            headers(("content-length" = u64, description = "Its whole size, known from the start")),
        ),
        (status = 409, description = "Another backup is under way, or the engine makes none", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn backup(State(app): State<App>, Known(by): Known, drain: Draining) -> Result<Response, Failure> {
    let backup = app.broker.backup(&by).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, backup.len_bytes().to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"posthouse-backup.tar\"".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let (pieces, out) = mpsc::channel(BACKUP_PIECES);
    tokio::spawn(feed(backup, pieces, drain));
    let body = stream::unfold(out, |mut out| async move { out.recv().await.map(|piece| (piece, out)) });
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Reads a backup as fast as the client takes it, but not for ever: it holds disk.
///
/// IMPORTANT: an answer that is not whole ends in an error, which closes the connection: a shorter one must never look complete.
async fn feed(mut backup: Backup, pieces: mpsc::Sender<Result<Bytes, std::io::Error>>, drain: Draining) {
    let ended = tokio::select! {
        ended = feed_all(&mut backup, &pieces) => ended,
        () = tokio::time::sleep(BACKUP_TOTAL) => Err(format!("it took longer than {} (BACKUP_TOTAL)", hours(BACKUP_TOTAL))),
        () = drain.0.begun() => Err("the broker is stopping".to_owned()),
    };
    if let Err(why) = ended {
        backup.give_up(&why);
        // The disk is free already. A client that still takes nothing finds out by what is missing.
        let _ = tokio::time::timeout(BACKUP_STALL, pieces.send(Err(std::io::Error::other(why)))).await;
    }
}

async fn feed_all(backup: &mut Backup, pieces: &mpsc::Sender<Result<Bytes, std::io::Error>>) -> Result<(), String> {
    while let Some(piece) = backup.next().await.map_err(|error| error.to_string())? {
        match tokio::time::timeout(BACKUP_STALL, pieces.send(Ok(piece))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("the client went away".to_owned()),
            Err(_) => return Err(format!("the client took nothing for {} s (BACKUP_STALL)", BACKUP_STALL.as_secs())),
        }
    }
    Ok(())
}

fn hours(time: Duration) -> String {
    format!("{} h", time.as_secs() / 3600)
}
