//! Lists in pages.

use crate::failure::Failure;
use crate::limits::{MAX_PAGE, PAGE};

/// Which page of a list.
pub(super) struct Page<'a> {
    pub(super) prefix: &'a str,
    pub(super) after: &'a str,
    pub(super) limit: Option<u32>,
}

impl Page<'_> {
    /// The page of a list that is sorted by name, and the `next` of it.
    pub(super) fn of<T, U>(
        &self,
        items: Vec<T>,
        name: impl Fn(&T) -> &str,
        show: impl Fn(T) -> U,
    ) -> Result<(Vec<U>, Option<String>), Failure> {
        let limit = match self.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
            limit @ 1..=MAX_PAGE => limit,
            _ => {
                let why = format!("`limit` is 1 to {MAX_PAGE} (MAX_PAGE)");
                return Err(Failure::invalid("limit", why).limit("MAX_PAGE"));
            }
        };
        let fits = |item: &T| name(item).starts_with(self.prefix) && name(item) > self.after;
        let mut items: Vec<T> = items.into_iter().filter(fits).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| name(last).to_owned());
        Ok((items.into_iter().map(show).collect(), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let get = |after: &str, limit| {
            let page = Page { prefix: "a", after, limit };
            page.of(vec!["a1", "a2", "a3", "b"], |name| name, str::to_owned)
        };
        assert_eq!(get("", Some(2)).unwrap(), (vec!["a1".to_owned(), "a2".to_owned()], Some("a2".to_owned())));
        assert_eq!(get("a2", Some(2)).unwrap(), (vec!["a3".to_owned()], None));
        assert_eq!(get("", Some(0)).unwrap_err().problem().limit, "MAX_PAGE");
    }
}
