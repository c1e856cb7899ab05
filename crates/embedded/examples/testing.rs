//! What a service's tests are made of: a handler called by hand, a broker in the process, faults, and chaos. docs/sdk/testing.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::sync::Arc;

use embedded::Embedded;
use parking_lot::Mutex;
use schemars::JsonSchema;
use sdk::testkit::{Fault, Faulty, Plan, chaos};
use sdk::transport::Transport;
use sdk::{Context, Error, Event, Handler, Message, Publishing, Running, Service, State, Subscription};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.due", topic = "payments", key = "order_id")]
struct PaymentDue {
    order_id: String,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.taken", topic = "payments", key = "order_id")]
struct PaymentTaken {
    order_id: String,
}

/// The orders that were paid; a careful one notes each once.
#[derive(Clone, Default)]
struct Book {
    paid: Arc<Mutex<Vec<String>>>,
    careful: bool,
}

async fn charge(State(book): State<Book>, Event(payment): Event<PaymentDue>) -> PaymentTaken {
    let mut paid = book.paid.lock();
    if !book.careful || !paid.contains(&payment.order_id) {
        paid.push(payment.order_id.clone());
    }
    PaymentTaken { order_id: payment.order_id }
}

async fn start(book: Book, transport: Arc<dyn Transport>) -> Running {
    let service = Service::new("payment").state(book).with(Subscription::new(charge)).publishes::<PaymentTaken>();
    service.start(transport).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let due = PaymentDue { order_id: "o-1".to_owned() };

    // A unit test: no broker at all.
    let context = Context::of_message(&due)?.attempt(2).build();
    let reaction = Handler::call(&charge, context, Book::default()).await.map_err(Error::into_boxed)?;
    println!("by hand: {} message follows", reaction.publishes.len());

    // Chaos in one line: each message once, then each twice, with the acknowledgement lost in between.
    let mut verdicts = Vec::new();
    for careful in [false, true] {
        let broker = Embedded::start().await?;
        let book = Book { careful, ..Book::default() };
        let begin = |transport| start(book.clone(), transport);
        let effect = || async { book.paid.lock().len() };
        let found = chaos(broker.transport(), begin, vec![Publishing::of(&due)?], effect).await;
        println!("careful: {careful}, once: {}, twice: {}", found.once, found.twice);
        verdicts.push(found.is_idempotent());
    }

    // Faults of one's own choice: the process is killed after its first message was handled, and the message comes again.
    let broker = Embedded::start().await?;
    let faulty = Faulty::with_seed(broker.transport(), Plan::none().nth(Fault::Kill, 1), 7);
    let book = Book::default();
    let service = start(book.clone(), faulty.clone()).await;
    service.client().publish(&due).await?;
    while broker.transport().queue_len("payment.payment.due").await? > 0 {
        tokio::task::yield_now().await;
    }
    service.stop().await;
    println!("injected: {}; handled {} times", faulty.injected(), book.paid.lock().len());
    println!("done: idempotent {verdicts:?}");
    Ok(())
}
