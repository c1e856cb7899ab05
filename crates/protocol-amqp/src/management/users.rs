//! Users.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::definitions::{CredentialRecord, HashAlgorithm, UserConfig};
use broker::{StoredPassword, UserChange, UserInfo};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::{ADMINISTRATOR, Caller, shown_tags};
use super::input::{Body, Params, missing};
use super::limits::MAX_BULK;
use super::list::{self, Reply};
use super::queues::made;
use super::refusal::Refusal;
use super::vhost_limits::{of_limits, read_user_limits};

/// How hashes of passwords are called: RabbitMQ's, and this broker's own.
const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
const ARGON2: &str = "argon2id";
/// Bytes of salt before the hash of a password.
const SALT_BYTES: usize = 4;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/users", get(all))
        .route("/users/without-permissions", get(without_permissions))
        .route("/users/bulk-delete", post(bulk_delete))
        .route("/users/{user}", get(show).put(put).delete(remove))
}

/// A user, as the API shows it. What is kept of a password is given with the definitions only.
pub(super) fn shown(user: &UserInfo) -> Json {
    json!({
        "name": user.name,
        "tags": shown_tags(user.admin, user.tags.clone()),
        "limits": of_limits(&user.limits),
    })
}

/// A user, as definitions hold it: with what is kept of the password. RabbitMQ does not know the hash of passwords that were set here, which this
/// broker takes back.
pub(super) fn exported(name: &str, user: &UserConfig) -> Json {
    let password = user.credentials.iter().find_map(|credential| match credential {
        CredentialRecord::Argon2 { phc } => Some((phc.clone(), ARGON2)),
        CredentialRecord::SaltedHash { algorithm, salt, hash } => {
            let mut bytes = STANDARD.decode(salt).ok()?;
            bytes.extend(STANDARD.decode(hash).ok()?);
            let algorithm = match algorithm {
                HashAlgorithm::Sha256 => SHA256,
                HashAlgorithm::Sha512 => SHA512,
            };
            Some((STANDARD.encode(bytes), algorithm))
        }
        _ => None,
    });
    let (hash, algorithm) = password.unwrap_or((String::new(), SHA256));
    json!({
        "name": name,
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": shown_tags(user.admin, user.tags.clone()),
        "limits": of_limits(&user.limits),
    })
}

/// All users.
pub(super) fn users(app: &App, caller: &Caller) -> Result<Vec<UserInfo>, Refusal> {
    caller.administrator()?;
    Ok(app.broker.users(&caller.principal)?)
}

/// One user.
///
/// # Errors
/// 404 if there is none of the name.
pub(super) fn user(app: &App, caller: &Caller, name: &str) -> Result<UserInfo, Refusal> {
    users(app, caller)?.into_iter().find(|user| user.name == name).ok_or_else(Refusal::no_such_object)
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(users(&app, &caller)?.iter().map(shown).collect(), &query)
}

async fn without_permissions(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    let all = users(&app, &caller)?;
    list::reply(all.iter().filter(|user| user.permissions.is_empty() && !user.admin).map(shown).collect(), &query)
}

async fn show(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    list::one(shown(&user(&app, &caller, &name)?), &query)
}

/// Tags, as a list or as one text with commas.
///
/// # Errors
/// 400 if they are neither, or not there.
fn tags(body: &Body) -> Result<Vec<String>, Refusal> {
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    };
    match body.get("tags") {
        Some(Json::String(text)) => Ok(split(text)),
        Some(Json::Array(tags)) => {
            let tags = tags.iter().map(|tag| tag.as_str().map(str::to_owned));
            tags.collect::<Option<_>>().ok_or_else(|| Refusal::bad_request("tags: strings are expected"))
        }
        Some(_) => Err(Refusal::bad_request("tags: a list of strings, or one string with commas, is expected")),
        None => body.text("administrator")?.map(|_| vec![ADMINISTRATOR.to_owned()]).ok_or_else(|| missing("tags")),
    }
}

/// The change of a user that a request or an imported definition asks for.
pub(super) fn change(body: &Body) -> Result<UserChange, Refusal> {
    let tags = tags(body)?;
    let password = body.text("password")?.filter(|password| !password.is_empty()).map(str::to_owned);
    let stored_password = match (&password, body.text("password_hash")?) {
        (Some(_), _) | (None, None) => None,
        // Who has no password logs in another way: by a certificate.
        (None, Some("")) => Some(StoredPassword::None),
        (None, Some(hash)) => Some(StoredPassword::Record(stored(hash, body.text("hashing_algorithm")?)?)),
    };
    Ok(UserChange {
        password,
        stored_password,
        limits: body.get("limits").map(read_user_limits).transpose()?,
        admin: Some(tags.iter().any(|tag| tag == ADMINISTRATOR)),
        tags: Some(tags),
        ..UserChange::default()
    })
}

/// What RabbitMQ keeps of a password: four bytes of salt, and the hash of both.
fn stored(text: &str, algorithm: Option<&str>) -> Result<CredentialRecord, Refusal> {
    let algorithm = match algorithm {
        None | Some(SHA256) => HashAlgorithm::Sha256,
        Some(SHA512) => HashAlgorithm::Sha512,
        Some(ARGON2) => return Ok(CredentialRecord::Argon2 { phc: text.to_owned() }),
        Some(other) => {
            let why =
                format!("hashing_algorithm {other:?}: only SHA-256 and SHA-512 are taken over; set a new password");
            return Err(Refusal::not_done(why));
        }
    };
    let bad = || Refusal::bad_request("password_hash: base64 of 4 bytes of salt and the hash is expected");
    let bytes = STANDARD.decode(text).map_err(|_| bad())?;
    let (salt, hash) = bytes.split_at_checked(SALT_BYTES).ok_or_else(bad)?;
    Ok(CredentialRecord::SaltedHash { algorithm, salt: STANDARD.encode(salt), hash: STANDARD.encode(hash) })
}

async fn put(State(app): State<App>, caller: Caller, Path(name): Path<String>, body: Body) -> Reply {
    caller.administrator()?;
    let existed = user(&app, &caller, &name).is_ok();
    app.broker.put_user(&caller.principal, &name, change(&body)?).await?;
    Ok(made(existed).into_response())
}

async fn remove(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Reply {
    user(&app, &caller, &name)?;
    app.broker.delete_user(&caller.principal, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn bulk_delete(State(app): State<App>, caller: Caller, body: Body) -> Reply {
    caller.administrator()?;
    let Some(Json::Array(names)) = body.get("users") else { return Err(missing("users")) };
    if names.len() > MAX_BULK {
        return Err(Refusal::bad_request(format!("at most {MAX_BULK} users are deleted by one request (MAX_BULK)")));
    }
    let there = users(&app, &caller)?;
    for name in names.iter().filter_map(Json::as_str) {
        if there.iter().any(|user| user.name == name) {
            app.broker.delete_user(&caller.principal, name).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
