//! Lists in pages, and answers to declarations.

use api::{Declared, ListQuery, Outcome, Page};
use axum::http::StatusCode;

use crate::limits::{MAX_PAGE, PAGE};
use crate::problem::Failure;

/// The page of a list, sorted by name, that the query asks for.
pub(crate) fn page<T, U>(
    query: &ListQuery,
    items: Vec<T>,
    name: impl Fn(&T) -> &str,
    show: impl Fn(T) -> U,
) -> Result<axum::Json<Page<U>>, Failure> {
    let limit = match query.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
        limit @ 1..=MAX_PAGE => limit,
        _ => return Err(Failure::invalid("limit", format!("`limit` is 1 to {MAX_PAGE} (MAX_PAGE)")).limit("MAX_PAGE")),
    };
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let fits =
        |item: &T| name(item).starts_with(prefix) && query.after.as_deref().is_none_or(|after| name(item) > after);
    let mut items: Vec<T> = items.into_iter().filter(fits).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| name(last).to_owned());
    Ok(axum::Json(Page { items: items.into_iter().map(show).collect(), next }))
}

pub(crate) fn status(outcome: Outcome) -> StatusCode {
    if outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK }
}

pub(crate) fn declared<T>(outcome: Outcome, item: T) -> (StatusCode, axum::Json<Declared<T>>) {
    (status(outcome), axum::Json(Declared { outcome, item }))
}

/// What a declaration answers.
pub(crate) type DeclaredAnswer<T> = Result<(StatusCode, axum::Json<Declared<T>>), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let names = || vec!["a1", "a2", "a3", "b"];
        let get = |query: ListQuery| page(&query, names(), |name| name, str::to_owned).unwrap().0;
        let first = get(ListQuery { prefix: Some("a".into()), limit: Some(2), ..ListQuery::default() });
        assert_eq!(
            (first.items.as_slice(), first.next.as_deref()),
            (["a1", "a2"].map(String::from).as_slice(), Some("a2"))
        );
        let second = get(ListQuery { prefix: Some("a".into()), limit: Some(2), after: first.next });
        assert_eq!((second.items.as_slice(), second.next), (["a3"].map(String::from).as_slice(), None));
        assert!(
            page(&ListQuery { limit: Some(0), ..ListQuery::default() }, names(), |name| name, str::to_owned).is_err()
        );
    }
}
