//! Honest books balance; cooked ones do not.

use super::*;

fn priced(sku: &str, quantity: u32, price_cents: i64) -> PricedLine {
    PricedLine { sku: sku.to_owned(), quantity, price_cents }
}

fn entry(order_id: &str, account: &str, amount_cents: i64) -> Entry {
    Entry { order_id: order_id.to_owned(), account: account.to_owned(), amount_cents }
}

fn order(order_id: &str, fate: Fate, lines: Vec<PricedLine>) -> Order {
    let total_cents = crate::catalogue::total_cents(&lines, 35);
    let (order_id, customer_id) = (order_id.to_owned(), "c-1".to_owned());
    Order { order_id, customer_id, fate, lines, fee_cents: 35, total_cents, reason: None }
}

/// One order that was confirmed, one that was paid and cancelled, one that the bank declined, and a message that nobody could read.
fn honest() -> Books {
    let payment = |id: &str, amount_cents, paid| Payment { order_id: id.to_owned(), amount_cents, paid };
    let reservation = |id: &str, held, sku: &str, quantity| Reservation {
        order_id: id.to_owned(),
        held,
        lines: vec![Line { sku: sku.to_owned(), quantity }],
    };
    let dead = |queue: &str| DeadLetter {
        queue: queue.to_owned(),
        message_id: "p-1".to_owned(),
        reason: "order.confirmed has version 99, which is unknown".to_owned(),
    };
    Books {
        accepted: ["o-1", "o-2", "o-3"].map(str::to_owned).into(),
        orders: vec![
            order("o-1", Fate::Confirmed, vec![priced("mug", 2, 850)]),
            order("o-2", Fate::Cancelled, vec![priced("tray", 1, 2_150)]),
            order("o-3", Fate::Cancelled, vec![priced("mug", 1, 850)]),
        ],
        stock: vec![
            Stock { sku: "mug".to_owned(), initial: 10, available: 8 },
            Stock { sku: "tray".to_owned(), initial: 10, available: 10 },
        ],
        reservations: vec![
            reservation("o-1", true, "mug", 2),
            reservation("o-2", false, "tray", 1),
            reservation("o-3", false, "mug", 1),
        ],
        payments: vec![
            payment("o-1", 1_735, Paid::Taken),
            payment("o-2", 2_185, Paid::Refunded),
            payment("o-3", 885, Paid::Declined),
        ],
        entries: vec![
            entry("o-1", "c-1", -1_735),
            entry("o-1", SHOP, 1_735),
            entry("o-2", "c-1", -2_185),
            entry("o-2", SHOP, 2_185),
            entry("o-2", SHOP, -2_185),
            entry("o-2", "c-1", 2_185),
        ],
        notifications: vec!["o-1".to_owned()],
        awards: vec![Award { order_id: "o-1".to_owned(), customer_id: "c-1".to_owned(), points: 17 }],
        points: [("c-1".to_owned(), 17)].into(),
        sales: vec![("o-1".to_owned(), 1_735)],
        report: vec![ReportLine { sku: "mug".to_owned(), units: 2, revenue_cents: 1_700 }],
        poison: vec![Poison { message_id: "p-1".to_owned(), ill: Ill::FromTheFuture }],
        poisoned_queues: vec!["notification.dlq".to_owned(), "loyalty.dlq".to_owned()],
        dead_letters: vec![dead("notification.dlq"), dead("loyalty.dlq")],
    }
}

/// Cooks honest books, and wants exactly one check to notice, with these words.
#[track_caller]
fn cooked(cook: impl FnOnce(&mut Books), claim: &str, words: &str) {
    let mut books = honest();
    cook(&mut books);
    let audit = audit(&books);
    let noticed: Vec<&Check> = audit.checks.iter().filter(|check| !check.findings.is_empty()).collect();
    assert!(!audit.balances(), "nobody noticed");
    let found = noticed.iter().find(|check| check.claim.contains(claim));
    let found = found.unwrap_or_else(|| panic!("{claim:?} did not notice, but {noticed:#?}"));
    assert!(found.findings.iter().any(|finding| finding.contains(words)), "{:#?}", found.findings);
}

#[test]
fn honest_books_balance() {
    let audit = audit(&honest());
    assert!(audit.balances(), "{:#?}", audit.findings());
    assert!(audit.checks.iter().all(|check| check.examined > 0), "each check looked at something: {audit:#?}");
}

#[test]
fn a_lost_order_is_noticed() {
    cooked(|books| books.accepted.extend(["o-4".to_owned()]), "accepted order", "o-4 was accepted and is not");
}

#[test]
fn an_order_that_hangs_is_noticed_whether_it_was_promised_or_not() {
    cooked(|books| books.orders[1].fate = Fate::Pending, "accepted order", "o-2 is still pending");
    cooked(
        |books| books.orders.push(order("o-9", Fate::Pending, vec![priced("mug", 1, 850)])),
        "accepted order",
        "o-9 is still pending",
    );
}

#[test]
fn a_total_that_does_not_add_up_is_noticed() {
    cooked(|books| books.orders[1].total_cents += 1, "accepted order", "o-2 says 21.86 and adds up to 21.85");
}

#[test]
fn goods_without_an_order_and_orders_without_goods_are_noticed() {
    cooked(|books| books.reservations[0].held = false, "goods are set aside", "o-1 is confirmed and nothing");
    cooked(|books| books.reservations[1].held = true, "goods are set aside", "o-2 is cancelled and");
    cooked(|books| books.reservations[0].lines[0].quantity = 1, "goods are set aside", "o-1 wants");
    cooked(|books| books.reservations[0].order_id = "o-7".to_owned(), "goods are set aside", "o-7, which is no order");
}

#[test]
fn stock_that_went_missing_is_noticed() {
    cooked(|books| books.stock[0].available = 7, "stock that is left", "of 10 of mug 7 are left and 2");
    cooked(|books| books.stock[1].available = -1, "stock that is left", "-1 of tray");
    cooked(|books| drop(books.stock.remove(0)), "stock that is left", "does not have");
}

#[test]
fn a_payment_that_does_not_fit_its_order_is_noticed() {
    cooked(|books| books.payments[0].paid = Paid::Refunded, "paid in full", "o-1 is confirmed and not paid");
    cooked(|books| books.payments[1].paid = Paid::Taken, "paid in full", "o-2 is cancelled and 21.85 is kept");
    cooked(|books| books.payments[0].amount_cents = 1, "paid in full", "0.01 was taken");
    cooked(|books| books.payments.push(books.payments[0].clone()), "paid in full", "two payments");
}

#[test]
fn money_that_was_taken_twice_or_given_back_twice_is_noticed() {
    cooked(
        |books| books.entries.extend([entry("o-1", "c-1", -1_735), entry("o-1", SHOP, 1_735)]),
        "ledger",
        "the shop got 34.70",
    );
    cooked(
        |books| books.entries.extend([entry("o-2", "c-1", 2_185), entry("o-2", SHOP, -2_185)]),
        "ledger",
        "the shop got -21.85",
    );
    cooked(|books| drop(books.entries.pop()), "ledger", "add up to -21.85");
    cooked(|books| drop(books.entries.drain(0..2)), "ledger", "o-1 is confirmed and not in the ledger");
    cooked(|books| books.entries[0].account = "c-2".to_owned(), "ledger", "somebody else");
}

#[test]
fn a_notification_too_many_or_too_few_is_noticed() {
    cooked(|books| books.notifications.push("o-1".to_owned()), "one notification", "o-1 has 2");
    cooked(|books| books.notifications.clear(), "one notification", "o-1 has 0");
    cooked(|books| books.notifications.push("o-2".to_owned()), "one notification", "o-2 is not confirmed");
}

#[test]
fn points_that_nobody_earned_are_noticed() {
    cooked(|books| books.awards.push(books.awards[0].clone()), "earned its points", "Some(34) points instead of 17");
    cooked(|books| books.awards.clear(), "earned its points", "None points instead of 17");
    cooked(|books| books.awards[0].order_id = "o-2".to_owned(), "earned its points", "c-1 got points for order o-2");
    cooked(|books| books.points.extend([("c-1".to_owned(), 34)]), "customers have", "c-1 has 34 points instead of 17");
    cooked(|books| books.points.extend([("c-2".to_owned(), 5)]), "customers have", "c-2 has 5 points instead of 0");
}

#[test]
fn a_report_that_is_not_that_of_the_orders_is_noticed() {
    cooked(|books| books.sales.clear(), "made of the confirmed", "o-1 of 17.35 is in the report as None");
    cooked(
        |books| books.sales.push(("o-2".to_owned(), 2_185)),
        "made of the confirmed",
        "o-2 is in the report and not",
    );
    cooked(|books| books.sales.push(books.sales[0].clone()), "made of the confirmed", "twice");
    cooked(|books| books.report[0].units = 4, "each article's", "4 of mug");
    cooked(|books| books.report.clear(), "each article's", "2 of mug are not in it");
}

#[test]
fn a_dead_letter_without_a_reason_is_noticed() {
    let stray =
        DeadLetter { queue: "loyalty.dlq".to_owned(), message_id: "m-1".to_owned(), reason: "panicked".to_owned() };
    cooked(|books| books.dead_letters.push(stray), "every dead letter", "m-1 in loyalty.dlq was not put in: panicked");
    cooked(|books| books.dead_letters[0].reason = "the disk is full".to_owned(), "every dead letter", "something else");
    cooked(
        |books| drop(books.dead_letters.pop()),
        "every injected message",
        "p-1 (FromTheFuture) is not in loyalty.dlq",
    );
}
