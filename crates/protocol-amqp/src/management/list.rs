//! Lists: filters, pages, sorting and columns, as RabbitMQ documents them.

use std::cmp::Ordering;

use axum::Json as JsonAnswer;
use axum::response::{IntoResponse, Response};
use broker::access::NamePattern;
use serde_json::{Map, Value as Json, json};

use super::input::Params;
use super::limits::{MAX_COLUMNS, MAX_FILTER_BYTES, MAX_LIST, MAX_PAGE, PAGE};
use super::refusal::Refusal;

/// What a handler gives.
pub(super) type Reply = Result<Response, Refusal>;

/// The answer for a list, which comes sorted as it is if nothing is said.
///
/// # Errors
/// 400 if the query makes no sense, or the list is too long to be given whole.
pub(super) fn reply(items: Vec<Json>, query: &Params) -> Reply {
    let Some(page) = query.get("page") else {
        if items.len() > MAX_LIST {
            let why =
                format!("there are {}, at most {MAX_LIST} are listed at a time (MAX_LIST); ask for pages", items.len());
            return Err(Refusal::bad_request(why));
        }
        let sorted = sorted(items, query);
        return Ok(JsonAnswer(columns(sorted, query)?).into_response());
    };
    let size = query.get("page_size").map_or(Ok(PAGE), str::parse);
    let (page, size) = match (page.parse::<usize>(), size) {
        (Ok(page @ 1..), Ok(size @ 1..=MAX_PAGE)) => (page, size),
        _ => {
            let size = query.get("page_size").unwrap_or("100");
            let reason = format!("Invalid pagination parameters: page number {page}, page size {size}");
            return Err(Refusal { error: "invalid_pagination_parameters", ..Refusal::bad_request(reason) });
        }
    };
    let total = items.len();
    let items = sorted(filtered(items, query)?, query);
    let (filtered, first) = (items.len(), page.saturating_sub(1).saturating_mul(size));
    if first > filtered || (first == filtered && page > 1) {
        let reason = format!("Page out of range, page: {page} page size: {size}, len: {filtered}");
        return Err(Refusal { error: "page_out_of_range", ..Refusal::bad_request(reason) });
    }
    let items: Vec<Json> = items.into_iter().skip(first).take(size).collect();
    let answer = json!({
        "total_count": total,
        "item_count": items.len(),
        "filtered_count": filtered,
        "page": page,
        "page_size": size,
        "page_count": filtered.div_ceil(size),
        "items": columns(items, query)?,
    });
    Ok(JsonAnswer(answer).into_response())
}

/// The answer for one thing.
///
/// # Errors
/// 400 if the query makes no sense.
pub(super) fn one(item: Json, query: &Params) -> Reply {
    let mut items = columns(vec![item], query)?;
    Ok(JsonAnswer(items.pop().unwrap_or_default()).into_response())
}

/// Whether a field of an item is this text.
pub(super) fn has(item: &Json, field: &str, text: &str) -> bool {
    item.get(field).and_then(Json::as_str) == Some(text)
}

/// The item with one field more.
pub(super) fn with(mut item: Json, field: &str, value: impl Into<Json>) -> Json {
    if let Json::Object(fields) = &mut item {
        fields.insert(field.to_owned(), value.into());
    }
    item
}

fn filtered(items: Vec<Json>, query: &Params) -> Result<Vec<Json>, Refusal> {
    let Some(name) = query.get("name").filter(|name| !name.is_empty()) else { return Ok(items) };
    if name.len() > MAX_FILTER_BYTES {
        return Err(Refusal::bad_request("name filter is too long"));
    }
    let name_of = |item: &Json| item.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
    if query.is_true("use_regex") {
        let pattern = NamePattern::new(&format!("regex:{name}"));
        let pattern = pattern.map_err(|error| Refusal::bad_request(format!("name: {error}")))?;
        return Ok(items.into_iter().filter(|item| pattern.matches(&name_of(item))).collect());
    }
    let wanted = name.to_lowercase();
    Ok(items.into_iter().filter(|item| name_of(item).to_lowercase().contains(&wanted)).collect())
}

fn sorted(mut items: Vec<Json>, query: &Params) -> Vec<Json> {
    if let Some(by) = query.get("sort").filter(|by| !by.is_empty()) {
        items.sort_by(|a, b| compare(dotted(a, by), dotted(b, by)));
        if query.is_true("sort_reverse") {
            items.reverse();
        }
    }
    items
}

/// What is not there comes first, as nothing; then numbers, texts and the rest.
fn compare(a: Option<&Json>, b: Option<&Json>) -> Ordering {
    let rank = |value: Option<&Json>| match value {
        None | Some(Json::Null) => 0,
        Some(Json::Bool(_)) => 1,
        Some(Json::Number(_)) => 2,
        Some(Json::String(_)) => 3,
        Some(_) => 4,
    };
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Some(Json::Number(a)), Some(Json::Number(b))) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Some(Json::String(a)), Some(Json::String(b))) => a.cmp(b),
        (Some(Json::Bool(a)), Some(Json::Bool(b))) => a.cmp(b),
        _ => Ordering::Equal,
    })
}

fn dotted<'a>(item: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(item, |value, name| value.get(name))
}

fn columns(items: Vec<Json>, query: &Params) -> Result<Vec<Json>, Refusal> {
    let Some(wanted) = query.get("columns").filter(|wanted| !wanted.is_empty()) else { return Ok(items) };
    let wanted: Vec<&str> = wanted.split(',').collect();
    if wanted.len() > MAX_COLUMNS {
        return Err(Refusal::bad_request(format!("at most {MAX_COLUMNS} columns may be asked for (MAX_COLUMNS)")));
    }
    Ok(items.iter().map(|item| chosen(item, &wanted)).collect())
}

fn chosen(item: &Json, wanted: &[&str]) -> Json {
    let mut out = Map::new();
    for path in wanted {
        if let Some(value) = dotted(item, path) {
            put(&mut out, path, value);
        }
    }
    Json::Object(out)
}

fn put(into: &mut Map<String, Json>, path: &str, value: &Json) {
    match path.split_once('.') {
        None => {
            into.insert(path.to_owned(), value.clone());
        }
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &[(&str, &str)]) -> Params {
        Params(text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn queues() -> Vec<Json> {
        let queue = |name: &str, messages| json!({"name": name, "messages": messages, "stats": {"rate": messages}});
        vec![queue("a1", 3), queue("a2", 1), queue("b", 2)]
    }

    async fn get(text: &[(&str, &str)]) -> Json {
        let response = reply(queues(), &query(text)).unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn lists_are_sorted_cut_to_columns_and_given_in_pages() {
        let by_messages = get(&[("sort", "stats.rate"), ("columns", "name,stats.rate")]).await;
        let want = json!([
            {"name": "a2", "stats": {"rate": 1}}, {"name": "b", "stats": {"rate": 2}}, {"name": "a1", "stats": {"rate": 3}},
        ]);
        assert_eq!(by_messages, want);
        let page =
            get(&[("page", "2"), ("page_size", "1"), ("name", "A"), ("sort", "name"), ("columns", "name")]).await;
        let want = json!({
            "total_count": 3, "filtered_count": 2, "item_count": 1, "page": 2, "page_size": 1, "page_count": 2,
            "items": [{"name": "a2"}],
        });
        assert_eq!(page, want);
        let first = get(&[("sort", "name"), ("sort_reverse", "true")]).await;
        assert_eq!(first[0]["name"], "b");
    }

    #[test]
    fn pages_that_are_not_there_are_refused() {
        for bad in [
            &[("page", "3"), ("page_size", "2")],
            &[("page", "0"), ("page_size", "2")],
            &[("page", "1"), ("page_size", "501")],
        ] {
            assert_eq!(reply(queues(), &query(bad)).unwrap_err().status.as_u16(), 400, "{bad:?}");
        }
        assert!(reply(Vec::new(), &query(&[("page", "1")])).is_ok());
    }
}
