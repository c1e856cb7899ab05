//! The tables, in one place. docs/formats/service-tables.md describes their columns.

use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::backend::Backend;
use super::error::SqlError;
use super::store::Store;

/// The lock under which instances of a service make the tables one at a time.
const MIGRATION_LOCK: i64 = 0x7376_635f_6d69_6772;

/// Steps from each version of the tables to the next. A step that was released does not change any more. `{serial}` and `{blob}` stand for
/// what the databases spell differently.
const STEPS: [&[&str]; 1] = [&[
    "CREATE TABLE svc_inbox (
        consumer TEXT NOT NULL,
        message_id TEXT NOT NULL,
        seen_ms BIGINT NOT NULL,
        answer TEXT,
        answer_body {blob},
        PRIMARY KEY (consumer, message_id)
    )",
    "CREATE INDEX svc_inbox_seen ON svc_inbox (seen_ms)",
    "CREATE TABLE svc_outbox (
        seq {serial},
        message_id TEXT NOT NULL,
        destination TEXT NOT NULL,
        envelope TEXT NOT NULL,
        body {blob},
        weight_bytes BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        state BIGINT NOT NULL DEFAULT 0,
        attempts BIGINT NOT NULL DEFAULT 0,
        error TEXT,
        failed_ms BIGINT
    )",
    "CREATE INDEX svc_outbox_state ON svc_outbox (state, seq)",
    "CREATE TABLE svc_leases (
        name TEXT NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        until_ms BIGINT NOT NULL
    )",
    "CREATE TABLE svc_sagas (
        saga TEXT NOT NULL,
        id TEXT NOT NULL,
        version BIGINT NOT NULL,
        status TEXT NOT NULL,
        state {blob} NOT NULL,
        step TEXT NOT NULL,
        attempts BIGINT NOT NULL,
        error TEXT,
        updated_ms BIGINT NOT NULL,
        deadline_ms BIGINT,
        PRIMARY KEY (saga, id)
    )",
    "CREATE INDEX svc_sagas_status ON svc_sagas (saga, status, updated_ms, id)",
    "CREATE INDEX svc_sagas_deadline ON svc_sagas (saga, deadline_ms)",
    "CREATE TABLE svc_checkpoints (
        name TEXT NOT NULL,
        part BIGINT NOT NULL,
        next_offset BIGINT NOT NULL,
        updated_ms BIGINT NOT NULL,
        PRIMARY KEY (name, part)
    )",
    "CREATE TABLE svc_events (
        position {serial},
        stream TEXT NOT NULL,
        version BIGINT NOT NULL,
        event_id TEXT NOT NULL,
        event_type TEXT NOT NULL,
        event_version BIGINT NOT NULL,
        content_type TEXT NOT NULL,
        headers TEXT NOT NULL,
        body {blob} NOT NULL,
        recorded_ms BIGINT NOT NULL,
        UNIQUE (stream, version)
    )",
    "CREATE TABLE svc_snapshots (
        stream TEXT NOT NULL PRIMARY KEY,
        version BIGINT NOT NULL,
        state_version BIGINT NOT NULL,
        content_type TEXT NOT NULL,
        body {blob} NOT NULL,
        taken_ms BIGINT NOT NULL
    )",
]];

/// The version of the tables that this SDK works on.
const KNOWN: i64 = STEPS.len() as i64;

/// Brings the tables up to [`KNOWN`].
pub(super) async fn migrate<DB: Backend>(store: &Store<DB>) -> Result<(), SqlError> {
    const DOING: &str = "making the tables svc_*";
    let mut tx = store.begin().await?;
    tx.lock(DOING, MIGRATION_LOCK).await?;
    tx.execute(DOING, "CREATE TABLE IF NOT EXISTS svc_schema (version BIGINT NOT NULL)", vec![]).await?;
    let rows = tx.fetch(DOING, "SELECT version FROM svc_schema", vec![]).await?;
    let found = rows.first().map_or(Ok(0), |row| row.int(0))?;
    if found > KNOWN {
        return Err(SqlError::NewerTables { found, known: KNOWN });
    }
    if found == KNOWN {
        return tx.rollback().await;
    }
    let dialect = store.dialect();
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        for statement in *step {
            let statement = statement.replace("{serial}", dialect.serial).replace("{blob}", dialect.blob);
            // Made of the constants above alone.
            tx.execute(DOING, AssertSqlSafe(statement).into_sql_str(), vec![]).await?;
        }
    }
    tx.execute(DOING, "DELETE FROM svc_schema", vec![]).await?;
    tx.execute(DOING, "INSERT INTO svc_schema (version) VALUES ($1)", vec![KNOWN.into()]).await?;
    tx.commit().await
}

/// `$first, $second, ...` for so many values, and how many that are: the next power of two, so that a database keeps few statements prepared. The
/// caller repeats its last value.
pub(super) fn placeholders(first: usize, values: usize) -> (String, usize) {
    let count = values.max(1).next_power_of_two();
    let mut list = String::new();
    for at in first..first + count {
        if at > first {
            list.push_str(", ");
        }
        list.push('$');
        list.push_str(&at.to_string());
    }
    (list, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_placeholders_come_in_few_lengths() {
        assert_eq!(placeholders(1, 1), ("$1".to_owned(), 1));
        assert_eq!(placeholders(2, 3), ("$2, $3, $4, $5".to_owned(), 4));
        assert_eq!(placeholders(1, 0).1, 1);
    }
}
