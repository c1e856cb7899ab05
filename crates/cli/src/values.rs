//! Values on the command line: how each is read, and how numbers are shown to people.

use std::time::Duration;

use api::{Filter, HeaderValue, MatchKind, WantedHeader};

/// Reads a time span such as `30s` as milliseconds.
pub(crate) fn millis(given: &str) -> Result<u64, String> {
    let span = server::config::read_duration(given)?;
    u64::try_from(span.as_millis()).map_err(|_| format!("{given:?} is too long"))
}

/// Reads a time span such as `30s`.
pub(crate) fn span(given: &str) -> Result<Duration, String> {
    server::config::read_duration(given)
}

/// Reads a size such as `64MiB` as bytes.
pub(crate) fn size(given: &str) -> Result<u64, String> {
    given.parse::<server::config::Size>().map(|size| size.0)
}

/// Reads a point in time: RFC 3339, or a span from now such as `+30d`. Milliseconds since 1970.
pub(crate) fn time(given: &str) -> Result<i64, String> {
    if let Some(ahead) = given.strip_prefix('+') {
        let ahead = i64::try_from(millis(ahead)?).map_err(|_| format!("{given:?} is too far away"))?;
        return Ok(jiff::Timestamp::now().as_millisecond().saturating_add(ahead));
    }
    let at: Result<jiff::Timestamp, _> = given.parse();
    at.map(jiff::Timestamp::as_millisecond)
        .map_err(|_| format!("{given:?} is not a time, such as 2026-03-01T12:00:00Z, or +30d from now"))
}

/// Reads `NAME=TEXT`, or `NAME:=JSON` for a value that is not text.
pub(crate) fn header(given: &str) -> Result<(String, HeaderValue), String> {
    let wrong = || format!("{given:?} is not NAME=TEXT or NAME:=JSON");
    let (name, value) = given.split_once('=').ok_or_else(wrong)?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => {
            let value = serde_json::from_str(value)
                .map_err(|error| format!("{given:?}: what follows := is not JSON: {error}"))?;
            (name, value)
        }
        None => (name, HeaderValue(types::Value::Text(value.to_owned().into()))),
    };
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), value)) }
}

/// Reads a header that a filter wants: `NAME=TEXT`, `NAME:=JSON`, or `NAME` for any value.
pub(crate) fn wanted(given: &str) -> Result<WantedHeader, String> {
    if given.contains('=') {
        return header(given).map(|(name, value)| WantedHeader { name, value: Some(value) });
    }
    if given.is_empty() {
        Err("the name is empty".to_owned())
    } else {
        Ok(WantedHeader { name: given.to_owned(), value: None })
    }
}

/// Reads a filter in JSON.
pub(crate) fn filter(given: &str) -> Result<Filter, String> {
    serde_json::from_str(given).map_err(|error| format!("not a filter: {error}"))
}

/// Reads one of the words that a type of the API has.
pub(crate) fn word<T: serde::de::DeserializeOwned>(given: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(given.to_owned())).map_err(|error| error.to_string())
}

/// A filter from what was given of it: all of the parts must pass.
pub(crate) fn all_of(
    subjects: &[String],
    headers: &[WantedHeader],
    any_header: &[WantedHeader],
    json: Option<&Filter>,
) -> Filter {
    let mut parts = Vec::new();
    match subjects {
        [] => {}
        [one] => parts.push(Filter::Subject(one.clone())),
        several => parts.push(Filter::Or(several.iter().cloned().map(Filter::Subject).collect())),
    }
    for (wanted, matching) in [(headers, MatchKind::All), (any_header, MatchKind::Any)] {
        if !wanted.is_empty() {
            parts.push(Filter::Headers { matching, wanted: wanted.to_vec() });
        }
    }
    parts.extend(json.cloned());
    match parts.len() {
        0 => Filter::All,
        1 => parts.remove(0),
        _ => Filter::And(parts),
    }
}

/// A number of bytes for people.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or_default())
}

/// A time span for people: its two largest units.
pub(crate) fn show_millis(ms: u64) -> String {
    let (s, m, h, d) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => pair(s, "s", if s < 10 { ms % 1000 } else { 0 }, "ms"),
        60_000..3_600_000 => pair(m, "m", s % 60, "s"),
        3_600_000..86_400_000 => pair(h, "h", m % 60, "m"),
        _ => pair(d, "d", h % 24, "h"),
    }
}

/// A point in time for people.
pub(crate) fn show_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("@{ms}"), |at| at.to_string())
}

/// What may be missing.
pub(crate) fn or_none<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_times_are_read() {
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("7d"), Ok(604_800_000));
        assert!(millis("-5s").is_err() && millis("5").is_err() && millis("1 fortnight").is_err());
        assert_eq!(size("64MiB"), Ok(64 * 1024 * 1024));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert!(size("lots").is_err());
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1000));
        assert!(time("+1h").unwrap() > 0);
        assert!(time("tomorrow").is_err());
    }

    #[test]
    fn headers_are_text_unless_json_is_asked_for() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), HeaderValue(types::Value::Text("b=c".into())))));
        assert_eq!(header("n:=5"), Ok(("n".to_owned(), HeaderValue(types::Value::int(5)))));
        assert!(header("a").is_err() && header("=b").is_err() && header("n:=five").is_err());
    }

    #[test]
    fn parts_of_a_filter_must_all_pass() {
        assert_eq!(all_of(&[], &[], &[], None), Filter::All);
        let subject = || Filter::Subject("orders.*".to_owned());
        assert_eq!(all_of(&["orders.*".to_owned()], &[], &[], None), subject());
        let wanted = wanted("region=eu").unwrap();
        let headers = Filter::Headers { matching: MatchKind::All, wanted: vec![wanted.clone()] };
        assert_eq!(
            all_of(&["orders.*".to_owned()], &[wanted], &[], Some(&Filter::Not(Box::new(Filter::All)))),
            Filter::And(vec![subject(), headers, Filter::Not(Box::new(Filter::All))])
        );
    }

    #[test]
    fn numbers_are_shown_for_people() {
        let bytes = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 5 << 30].map(show_bytes);
        assert_eq!(bytes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "5.0 GiB"]);
        let spans = [5, 1500, 61_000, 3_600_000, 90_000_000].map(show_millis);
        assert_eq!(spans, ["5ms", "1s500ms", "1m1s", "1h", "1d1h"]);
    }
}
