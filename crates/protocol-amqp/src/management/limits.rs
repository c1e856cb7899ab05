//! Every bound of the management API, by name.

/// Largest body of a request, in bytes. RabbitMQ's default.
pub(super) const MAX_BODY_BYTES: usize = 20_000_000;
/// Most items of a list that is not asked for in pages.
pub(super) const MAX_LIST: usize = 50_000;
/// Items of a page, unless it is asked otherwise.
pub(super) const PAGE: usize = 100;
/// Most items of a page.
pub(super) const MAX_PAGE: usize = 500;
/// Longest filter of a list by name, in bytes.
pub(super) const MAX_FILTER_BYTES: usize = 500;
/// Most columns that are asked for.
pub(super) const MAX_COLUMNS: usize = 100;
/// Most messages that are taken from a queue by one request.
pub(super) const MAX_GET: usize = 1_000;
/// Most bytes of messages that are taken from a queue by one request.
pub(super) const MAX_GET_BYTES: u64 = 64 * 1024 * 1024;
/// Most definitions that an import's answer tells about one by one.
pub(super) const MAX_REPORTED: usize = 1_000;
/// Most users that are deleted by one request.
pub(super) const MAX_BULK: usize = 1_000;
