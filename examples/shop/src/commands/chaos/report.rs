//! What `chaos` says in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Outcome;
use crate::books::Fate;
use crate::commands::brief;
use crate::output::{line, money, table};

pub(super) fn show(outcome: &Outcome, seed: u64, duration: Duration) {
    let kills: u32 = outcome.kills.values().sum();
    let rows = outcome.kills.iter().map(|(victim, count)| vec![victim.to_string(), count.to_string()]);
    line(format!("\n{}", table(&["killed", ">times"], rows)));
    line(format!("\n{}", table(&["what became of orders", ">orders", ">money"], fates(outcome))));
    let checks = outcome.audit.checks.iter().map(|check| {
        let verdict =
            if check.findings.is_empty() { "yes".to_owned() } else { format!("NO, {} times", check.findings.len()) };
        vec![check.claim.to_owned(), check.examined.to_string(), verdict]
    });
    line(format!("\n{}", table(&["is it so that", ">looked at", "answer"], checks)));
    for finding in outcome.audit.findings() {
        line(format!("  - {finding}"));
    }
    if let Some(restless) = &outcome.restless {
        line(format!("  - the shop did not come to rest: {restless}"));
    }
    let balances = outcome.audit.balances() && outcome.restless.is_none();
    let verdict = if balances { "the books balance" } else { "THE BOOKS DO NOT BALANCE" };
    line(format!(
        "\n{verdict}: seed {seed}, {duration:?}, {kills} kills, {} orders accepted, {} injected messages",
        outcome.tally.accepted.len(),
        outcome.poison.len()
    ));
}

fn fates(outcome: &Outcome) -> Vec<Vec<String>> {
    let mut fates: BTreeMap<(&str, &str), (u64, i64)> = BTreeMap::new();
    for order in &outcome.books.orders {
        let reason =
            if order.fate == Fate::Cancelled { brief(order.reason.as_deref().unwrap_or("no reason")) } else { "" };
        let (count, cents) = fates.entry((order.fate.as_str(), reason)).or_default();
        *count += 1;
        *cents += order.total_cents;
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for ((fate, reason), (count, cents)) in fates {
        let what = if reason.is_empty() { fate.to_owned() } else { format!("{fate}: {reason}") };
        rows.push(vec![what, count.to_string(), money(cents)]);
    }
    for (why, count) in &outcome.tally.refused {
        rows.push(vec![format!("refused by the front: {why}"), count.to_string(), String::new()]);
    }
    if outcome.tally.unanswered > 0 {
        rows.push(vec![
            "no answer for the customer's patience".to_owned(),
            outcome.tally.unanswered.to_string(),
            String::new(),
        ]);
    }
    rows
}
