//! One order is one trace through six services.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use sdk::testkit::collector::{Collector, Span};
use shop::books::counts;
use shop::contracts::Line;
use shop::faults::Faults;
use shop::services::Name;
use shop::services::order::{Accepted, PlaceOrder};
use shop::settings::Carrier;
use shop::supervise::{BrokerKind, Databases, Plan, Shop};

/// How long it is waited for what has to happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Places one order in a shop without faults, waits until everything has followed from it, and gives all spans.
async fn order_once() -> Vec<Span> {
    let collector = Collector::start().await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let plan = Plan {
        directory: data.path().to_owned(),
        carrier: Carrier::Posthouse,
        broker: BrokerKind::Posthouse,
        databases: Databases::Files,
        faults: Faults::default(),
        stock: 10,
        otlp: Some(collector.endpoint()),
    };
    let shop = Shop::start(&plan).await.expect("the shop starts");
    let front = shop.layout().http(Name::Order);
    let order = PlaceOrder {
        order_id: Some("o-1".to_owned()),
        customer_id: "ann".to_owned(),
        lines: vec![Line { sku: "teapot".to_owned(), quantity: 1 }],
    };
    let http = shop::http::client(LIMIT).unwrap();
    let answer = http.post(format!("http://{front}/orders")).json(&order).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    assert_eq!(answer.json::<Accepted>().await.unwrap().total_cents, 3_525);
    let followed = async {
        loop {
            let counts = counts(shop.layout()).await.unwrap();
            if (counts.confirmed, counts.notifications, counts.awards, counts.sales) == (1, 1, 1, 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, followed).await.expect("everything follows from the order");
    // Services export what they have when they stop.
    shop.stop().await.unwrap();
    collector.spans()
}

#[tokio::test]
async fn an_order_is_one_trace_through_six_services() {
    let spans = order_once().await;
    let roots: Vec<&Span> = spans.iter().filter(|span| span.name == "POST /orders").collect();
    let [root] = roots.as_slice() else { panic!("one order was placed\n{}", tree(&spans)) };
    let trace: Vec<&Span> = spans.iter().filter(|span| span.trace_id == root.trace_id).collect();
    let shown = tree(&spans);
    let services: BTreeSet<&str> = trace.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, Name::ALL.iter().map(|name| name.as_str()).collect(), "{shown}");

    let by_id: BTreeMap<&str, &Span> = trace.iter().map(|span| (span.span_id.as_str(), *span)).collect();
    assert_eq!(root.parent_id, None, "{shown}");
    for span in trace.iter().filter(|span| span.span_id != root.span_id) {
        let parent = span.parent_id.as_deref().and_then(|id| by_id.get(id));
        assert!(parent.is_some(), "{span:?} has no parent in its trace\n{shown}");
    }
    // Who read what, and from whose hands.
    for reader in [Name::Notification, Name::Loyalty, Name::Analytics] {
        let read: Vec<&&Span> =
            trace.iter().filter(|span| span.service == reader.as_str() && span.name.starts_with("process")).collect();
        let confirmed = read.iter().filter_map(|span| Some((span, by_id.get(span.parent_id.as_deref()?)?)));
        let confirmed: Vec<_> = confirmed.filter(|(_, parent)| parent.service == "order").collect();
        assert_eq!(confirmed.len(), 1, "{reader} reads one event of the order service\n{shown}");
        let (span, parent) = confirmed[0];
        assert_eq!(parent.name, "send orders", "{shown}");
        assert!(span.is_linked_to(parent), "{reader}'s span is linked to what it reads\n{shown}");
    }
    for (asked, question) in [(Name::Inventory, "inventory.reserve-stock"), (Name::Payment, "payment.take")] {
        let answered = trace.iter().find(|span| span.service == asked.as_str() && span.name.contains(question));
        assert!(answered.is_some(), "{asked} is asked {question}\n{shown}");
    }
    for (asked, route) in [(Name::Inventory, "POST /stock/check"), (Name::Payment, "shop.payment.v1.Quotes/Quote")] {
        let served = trace.iter().find(|span| span.service == asked.as_str() && span.name == route);
        assert!(served.is_some_and(|span| span.is_child_of(root)), "{asked} is asked {route} by the front\n{shown}");
    }
}

/// All spans as trees, for people who look at a test that failed.
fn tree(spans: &[Span]) -> String {
    fn below(spans: &[Span], parent: Option<&str>, depth: usize, text: &mut String) {
        for span in spans.iter().filter(|span| span.parent_id.as_deref() == parent) {
            let (service, name, links) = (&span.service, &span.name, span.links.len());
            let _ =
                writeln!(text, "{:indent$}{service}: {name} ({:?}, {links} links)", "", span.kind, indent = depth * 2);
            below(spans, Some(&span.span_id), depth + 1, text);
        }
    }
    let mut text = String::new();
    below(spans, None, 0, &mut text);
    text
}
