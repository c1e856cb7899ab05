//! Permissions: what a user may configure, write and read in a vhost, by regular expressions over names.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use broker::definitions::Permissions;
use broker::{UserChange, UserInfo};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::{Caller, exists};
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::queues::made;
use super::refusal::Refusal;
use super::users::{user, users};
use crate::entities::vhost::{namespace, vhost};

/// What a pattern of the broker begins with that is a regular expression.
const REGEX: &str = "regex:";
/// The expression that fits no name.
const NOTHING: &str = "^$";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/permissions", get(all))
        .route("/permissions/{vhost}/{user}", get(show).put(put).delete(remove))
        .route("/users/{user}/permissions", get(of_user))
        .route("/vhosts/{vhost}/permissions", get(of_vhost))
}

/// The broker's patterns of one regular expression.
pub(super) fn patterns(expression: &str) -> Vec<String> {
    if expression.is_empty() || expression == NOTHING { Vec::new() } else { vec![format!("{REGEX}{expression}")] }
}

/// The one regular expression that says the same as these patterns.
pub(super) fn expression(patterns: &[String]) -> String {
    match patterns {
        [] => NOTHING.to_owned(),
        [one] if one.starts_with(REGEX) => one.trim_start_matches(REGEX).to_owned(),
        [one] if one == "*" => ".*".to_owned(),
        several => several.iter().map(|pattern| one_expression(pattern)).collect::<Vec<_>>().join("|"),
    }
}

fn one_expression(pattern: &str) -> String {
    match pattern.strip_prefix(REGEX) {
        Some(expression) => format!("({expression})"),
        None => format!("^{}$", pattern.split('*').map(escaped).collect::<Vec<_>>().join(".*")),
    }
}

fn escaped(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    for c in literal.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '_' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// What a user may do in a vhost, as the API shows it.
pub(super) fn shown(user: &str, namespace: &str, permissions: &Permissions) -> Json {
    json!({
        "user": user,
        "vhost": vhost(namespace),
        "configure": expression(&permissions.configure),
        "write": expression(&permissions.write),
        "read": expression(&permissions.read),
    })
}

/// All permissions of some users. An administrator may everything everywhere, whether or not that is written.
pub(super) fn listed(app: &App, users: &[UserInfo]) -> Vec<Json> {
    let spaces = app.broker.all_namespaces();
    let mut all = Vec::new();
    for user in users {
        for space in &spaces {
            match user.permissions.get(&space.name) {
                Some(given) => all.push(shown(&user.name, &space.name, given)),
                None if user.admin => all.push(shown(&user.name, &space.name, &everything())),
                None => {}
            }
        }
    }
    all
}

fn everything() -> Permissions {
    let any = || vec!["*".to_owned()];
    Permissions { configure: any(), write: any(), read: any(), ..Permissions::default() }
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &users(&app, &caller)?), &query)
}

async fn of_user(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    // Tools ask with this what they may do themselves.
    let user = match name == caller.name {
        true => app.broker.own_user(&caller.principal)?.map_or_else(|| user(&app, &caller, &name), Ok)?,
        false => user(&app, &caller, &name)?,
    };
    list::reply(listed(&app, &[user]), &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    let users = users(&app, &caller)?;
    exists(&app, &name)?;
    let mut all = listed(&app, &users);
    all.retain(|one| list::has(one, "vhost", &name));
    list::reply(all, &query)
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let user = user(&app, &caller, &name)?;
    exists(&app, &vhost)?;
    let all = listed(&app, &[user]);
    let one = all.into_iter().find(|one| list::has(one, "vhost", &vhost)).ok_or_else(Refusal::no_such_object)?;
    list::one(one, &query)
}

/// Sets what a user may do in a vhost, and keeps what else there is of it.
pub(super) async fn set(app: &App, caller: &Caller, vhost: &str, name: &str, body: &Body) -> Result<bool, Refusal> {
    let before = user(app, caller, name)?.permissions.get(namespace(vhost)).cloned();
    exists(app, vhost)?;
    let existed = before.is_some();
    let permissions = Permissions {
        configure: patterns(body.required("configure")?),
        write: patterns(body.required("write")?),
        read: patterns(body.required("read")?),
        ..before.unwrap_or_default()
    };
    let permissions = vec![(namespace(vhost).to_owned(), Some(permissions))];
    app.broker.put_user(&caller.principal, name, UserChange { permissions, ..UserChange::default() }).await?;
    Ok(existed)
}

async fn put(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    caller.administrator()?;
    Ok(made(set(&app, &caller, &vhost, &name, &body).await?).into_response())
}

async fn remove(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>) -> Reply {
    let there = user(&app, &caller, &name)?.permissions.contains_key(namespace(&vhost));
    exists(&app, &vhost)?;
    if !there {
        return Err(Refusal::no_such_object());
    }
    let permissions = vec![(namespace(&vhost).to_owned(), None)];
    app.broker.put_user(&caller.principal, &name, UserChange { permissions, ..UserChange::default() }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_expressions_say_the_same() {
        assert_eq!(patterns("^mine"), ["regex:^mine"]);
        assert!(patterns("^$").is_empty() && patterns("").is_empty());
        assert_eq!(expression(&patterns("^mine")), "^mine");
        assert_eq!(expression(&[]), "^$");
        assert_eq!(expression(&["*".into()]), ".*");
        assert_eq!(expression(&["orders.*".into(), "regex:x$".into()]), r"^orders\..*$|(x$)");
    }
}
