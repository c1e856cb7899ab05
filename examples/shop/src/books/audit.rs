//! Whether the books balance.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Fate, Order, Paid, SHOP};
use crate::catalogue;
use crate::contracts::Line;
use crate::output::money;

/// Findings that a check shows; the rest is counted.
const SHOWN: usize = 8;

/// One question to the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What holds if nothing was found.
    pub claim: &'static str,
    /// How many things were looked at.
    pub examined: usize,
    /// What does not fit.
    pub findings: Vec<String>,
}

impl Check {
    /// A claim about nothing yet.
    const fn new(claim: &'static str) -> Self {
        Self { claim, examined: 0, findings: Vec::new() }
    }

    /// Looks at one thing: what does not fit, if anything.
    fn examine(&mut self, finding: Option<String>) {
        self.examined += 1;
        self.findings.extend(finding);
    }
}

/// All questions and their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// In the order in which an order goes through the shop.
    pub checks: Vec<Check>,
}

impl Audit {
    /// Whether nothing was found.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.checks.iter().all(|check| check.findings.is_empty())
    }

    /// What was found, a line each, the first few of each check.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for check in &self.checks {
            lines.extend(
                check.findings.iter().take(SHOWN).map(|finding| format!("not so that {}: {finding}", check.claim)),
            );
            if let Some(more) = check.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                lines.push(format!("not so that {}: {more} more", check.claim));
            }
        }
        lines
    }
}

/// Looks whether the books balance.
#[must_use]
pub fn audit(books: &Books) -> Audit {
    let by_id: BTreeMap<&str, &Order> = books.orders.iter().map(|order| (order.order_id.as_str(), order)).collect();
    let checks = vec![
        settled(books, &by_id),
        reservations(books, &by_id),
        stock(books),
        payments(books, &by_id),
        ledger(books, &by_id),
        notifications(books, &by_id),
        awards(books, &by_id),
        points(books),
        sales(books, &by_id),
        report(books),
        explained(books),
        poison(books),
    ];
    Audit { checks }
}

type Orders<'a> = BTreeMap<&'a str, &'a Order>;

fn fate(orders: &Orders<'_>, order_id: &str) -> Option<Fate> {
    orders.get(order_id).map(|order| order.fate)
}

fn settled(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("every accepted order is confirmed or cancelled");
    for order_id in &books.accepted {
        check.examine(match fate(orders, order_id) {
            None => Some(format!("order {order_id} was accepted and is not in the database")),
            Some(Fate::Pending) => Some(format!("order {order_id} is still pending")),
            Some(_) => None,
        });
    }
    // The front may have died between the commit and its answer: such orders were not promised, and have to be settled all the same.
    for order in books.orders.iter().filter(|order| !books.accepted.contains(&order.order_id)) {
        let pending = order.fate == Fate::Pending;
        check.examine(pending.then(|| format!("order {} is still pending", order.order_id)));
    }
    if orders.len() != books.orders.len() {
        check.findings.push(format!("{} orders have {} ids", books.orders.len(), orders.len()));
    }
    for order in &books.orders {
        let total = catalogue::total_cents(&order.lines, order.fee_cents);
        if total != order.total_cents {
            check.findings.push(format!(
                "order {} says {} and adds up to {}",
                order.order_id,
                money(order.total_cents),
                money(total)
            ));
        }
    }
    check
}

fn reservations(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("goods are set aside for confirmed orders and no others");
    let mut held: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for reservation in books.reservations.iter().filter(|reservation| reservation.held) {
        let goods = reservation.lines.iter().map(|Line { sku, quantity }| (sku.as_str(), *quantity)).collect();
        if held.insert(&reservation.order_id, goods).is_some() {
            check.findings.push(format!("order {} has two reservations", reservation.order_id));
        }
        if fate(orders, &reservation.order_id).is_none() {
            check.findings.push(format!("goods are set aside for {}, which is no order", reservation.order_id));
        }
    }
    for order in &books.orders {
        let wanted: BTreeMap<&str, u32> = order.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
        let held = held.get(order.order_id.as_str());
        check.examine(match (order.fate, held) {
            (Fate::Confirmed, None) => Some(format!("order {} is confirmed and nothing is set aside", order.order_id)),
            (Fate::Confirmed, Some(goods)) if *goods != wanted => {
                Some(format!("order {} wants {wanted:?} and {goods:?} is set aside", order.order_id))
            }
            (Fate::Cancelled, Some(goods)) => {
                Some(format!("order {} is cancelled and {goods:?} is still set aside", order.order_id))
            }
            _ => None,
        });
    }
    check
}

fn stock(books: &Books) -> Check {
    let mut check = Check::new("stock that is left and stock that is set aside are what there was");
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for reservation in books.reservations.iter().filter(|reservation| reservation.held) {
        for line in &reservation.lines {
            *held.entry(&line.sku).or_default() += i64::from(line.quantity);
        }
    }
    for article in &books.stock {
        let held = held.remove(article.sku.as_str()).unwrap_or(0);
        let (sku, initial, available) = (&article.sku, article.initial, article.available);
        check.examine(if available < 0 {
            Some(format!("{available} of {sku} are left"))
        } else if available + held != initial {
            Some(format!("of {initial} of {sku} {available} are left and {held} are set aside"))
        } else {
            None
        });
    }
    for (sku, count) in held {
        check.findings.push(format!("{count} of {sku} are set aside, which the inventory does not have"));
    }
    check
}

fn payments(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("confirmed orders are paid in full, cancelled ones not at all");
    let mut paid = BTreeMap::new();
    for payment in &books.payments {
        if paid.insert(payment.order_id.as_str(), payment).is_some() {
            check.findings.push(format!("order {} has two payments", payment.order_id));
        }
        if fate(orders, &payment.order_id).is_none() {
            check.findings.push(format!("there is a payment for {}, which is no order", payment.order_id));
        }
    }
    for order in &books.orders {
        let payment = paid.get(order.order_id.as_str());
        let taken = payment.filter(|payment| payment.paid == Paid::Taken).map(|payment| payment.amount_cents);
        let (id, total) = (&order.order_id, order.total_cents);
        check.examine(match (order.fate, taken) {
            (Fate::Confirmed, None) => Some(format!("order {id} is confirmed and not paid")),
            (Fate::Confirmed, Some(amount)) if amount != total => {
                Some(format!("order {id} costs {} and {} was taken", money(total), money(amount)))
            }
            (Fate::Cancelled, Some(amount)) => Some(format!("order {id} is cancelled and {} is kept", money(amount))),
            _ => None,
        });
    }
    check
}

fn ledger(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("the ledger has what customers paid for confirmed orders, and nothing else");
    let mut sums: BTreeMap<&str, (i64, BTreeMap<&str, i64>)> = BTreeMap::new();
    for entry in &books.entries {
        let (sum, accounts) = sums.entry(&entry.order_id).or_default();
        *sum += entry.amount_cents;
        *accounts.entry(&entry.account).or_default() += entry.amount_cents;
    }
    for (order_id, (sum, accounts)) in &sums {
        let order = orders.get(order_id).filter(|order| order.fate == Fate::Confirmed);
        let due = order.map_or(0, |order| order.total_cents);
        let got = accounts.get(SHOP).copied().unwrap_or(0);
        let gave = order.map_or(0, |order| accounts.get(order.customer_id.as_str()).copied().unwrap_or(0));
        check.examine(if *sum != 0 {
            Some(format!("the entries of order {order_id} add up to {}", money(*sum)))
        } else if got != due {
            Some(format!("the shop got {} for order {order_id} instead of {}", money(got), money(due)))
        } else if gave != -due {
            Some(format!("order {order_id} was paid by somebody else than its customer"))
        } else {
            None
        });
    }
    for order in confirmed(books).filter(|order| !sums.contains_key(order.order_id.as_str())) {
        check.examine(Some(format!("order {} is confirmed and not in the ledger", order.order_id)));
    }
    check
}

fn confirmed(books: &Books) -> impl Iterator<Item = &Order> {
    books.orders.iter().filter(|order| order.fate == Fate::Confirmed)
}

fn notifications(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("each confirmed order has one notification, no other has any");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for order_id in &books.notifications {
        *counts.entry(order_id).or_default() += 1;
    }
    for order in confirmed(books) {
        let count = counts.get(order.order_id.as_str()).copied().unwrap_or(0);
        check.examine((count != 1).then(|| format!("order {} has {count} notifications", order.order_id)));
    }
    for (order_id, count) in counts.iter().filter(|(order_id, _)| fate(orders, order_id) != Some(Fate::Confirmed)) {
        check.findings.push(format!("order {order_id} is not confirmed and has {count} notifications"));
    }
    check
}

fn awards(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("each confirmed order earned its points once, no other any");
    let mut awarded: BTreeMap<&str, i64> = BTreeMap::new();
    for award in &books.awards {
        *awarded.entry(&award.order_id).or_default() += award.points;
        let order = orders.get(award.order_id.as_str());
        if order.is_none_or(|order| order.fate != Fate::Confirmed || order.customer_id != award.customer_id) {
            check.findings.push(format!("{} got points for order {}", award.customer_id, award.order_id));
        }
    }
    for order in confirmed(books) {
        let (due, got) = (catalogue::points(order.total_cents), awarded.get(order.order_id.as_str()).copied());
        let fits = got == Some(due);
        check.examine((!fits).then(|| format!("order {} earned {got:?} points instead of {due}", order.order_id)));
    }
    check
}

fn points(books: &Books) -> Check {
    let mut check = Check::new("customers have the points that they were awarded");
    let mut due: BTreeMap<&str, i64> = BTreeMap::new();
    for award in &books.awards {
        *due.entry(&award.customer_id).or_default() += award.points;
    }
    let customers: BTreeSet<&str> = due.keys().copied().chain(books.points.keys().map(String::as_str)).collect();
    for customer in customers {
        let (due, have) = (due.get(customer).copied().unwrap_or(0), books.points.get(customer).copied().unwrap_or(0));
        check.examine((due != have).then(|| format!("{customer} has {have} points instead of {due}")));
    }
    check
}

fn sales(books: &Books, orders: &Orders<'_>) -> Check {
    let mut check = Check::new("the sales report is made of the confirmed orders");
    let mut sold: BTreeMap<&str, i64> = BTreeMap::new();
    for (order_id, total) in &books.sales {
        if sold.insert(order_id, *total).is_some() {
            check.findings.push(format!("order {order_id} is in the report twice"));
        }
        if fate(orders, order_id) != Some(Fate::Confirmed) {
            check.findings.push(format!("order {order_id} is in the report and not confirmed"));
        }
    }
    for order in confirmed(books) {
        let sold = sold.get(order.order_id.as_str()).copied();
        let (id, total) = (&order.order_id, order.total_cents);
        check.examine(
            (sold != Some(total)).then(|| format!("order {id} of {} is in the report as {sold:?}", money(total))),
        );
    }
    check
}

fn report(books: &Books) -> Check {
    let mut check = Check::new("the sales report has each article's pieces and revenue");
    let mut due: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for line in confirmed(books).flat_map(|order| &order.lines) {
        let (units, revenue) = due.entry(&line.sku).or_default();
        *units += i64::from(line.quantity);
        *revenue += line.total_cents();
    }
    for line in &books.report {
        let (units, revenue) = due.remove(line.sku.as_str()).unwrap_or((0, 0));
        let fits = line.units == units && line.revenue_cents == revenue;
        let (has, costs) = (line.units, money(line.revenue_cents));
        check.examine(
            (!fits).then(|| format!("{has} of {} for {costs} instead of {units} for {}", line.sku, money(revenue))),
        );
    }
    for (sku, (units, _)) in due {
        check.examine(Some(format!("{units} of {sku} are not in it")));
    }
    check
}

fn explained(books: &Books) -> Check {
    let mut check = Check::new("every dead letter is one of the injected messages, and says why");
    for letter in &books.dead_letters {
        let poison = books.poison.iter().find(|poison| poison.message_id == letter.message_id);
        let (id, queue, reason) = (&letter.message_id, &letter.queue, &letter.reason);
        check.examine(match poison {
            None => Some(format!("{id} in {queue} was not put in: {reason}")),
            Some(poison) if !reason.contains(poison.ill.symptom()) => {
                Some(format!("{id} in {queue} is {:?} and its reason speaks of something else: {reason}", poison.ill))
            }
            Some(_) => None,
        });
    }
    check
}

fn poison(books: &Books) -> Check {
    let mut check = Check::new("every injected message is in each dead-letter queue where it belongs");
    let dead: BTreeSet<(&str, &str)> =
        books.dead_letters.iter().map(|letter| (letter.queue.as_str(), letter.message_id.as_str())).collect();
    for poison in &books.poison {
        for queue in &books.poisoned_queues {
            let there = dead.contains(&(queue.as_str(), poison.message_id.as_str()));
            check.examine((!there).then(|| format!("{} ({:?}) is not in {queue}", poison.message_id, poison.ill)));
        }
    }
    check
}
