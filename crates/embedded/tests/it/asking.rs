//! Questions and answers.

use std::sync::Arc;
use std::time::Duration;

use sdk::{Answer, Client, Error, Request, RequestError, Service, State};
use tokio::sync::mpsc;

use crate::kit::{manual, soon};
use crate::shop::{CheckStock, StockLevel};

async fn check(
    State(name): State<String>,
    Request(question): Request<CheckStock>,
) -> Result<Answer<CheckStock>, Error> {
    match question.product.as_str() {
        "unicorn" => Err(Error::terminal("there are no unicorns")),
        "broken" => Err(Error::transient("the shelf fell down")),
        _ => Ok(Answer(StockLevel { left: 3, told_by: name })),
    }
}

fn of(product: &str) -> CheckStock {
    CheckStock { product: product.to_owned() }
}

#[tokio::test]
async fn a_question_is_answered_refused_or_failed() {
    let (_broker, transport) = manual().await;
    let client = Client::new(Arc::clone(&transport));
    let nobody = client.request(&of("tea")).await.unwrap_err();
    assert!(matches!(nobody, RequestError::NoResponder { .. }), "{nobody}");
    let service = Service::new("inventory").state("a".to_owned()).reply(check).start(transport).await.unwrap();
    let level = soon(client.request(&of("tea")).into_future()).await.unwrap();
    assert_eq!(level, StockLevel { left: 3, told_by: "a".to_owned() });
    let refused = client.request(&of("unicorn")).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(why) if why == "there are no unicorns"), "{refused}");
    assert!(Error::from(refused).is_terminal(), "who asked need not ask again");
    let failed = client.request(&of("broken")).await.unwrap_err();
    assert!(matches!(failed, RequestError::Failed(_)) && failed.is_transient(), "{failed}");
    service.stop().await;
}

#[tokio::test]
async fn a_question_has_a_deadline_and_one_that_is_given_up_is_not_worked_on() {
    #[derive(Clone)]
    struct Tell(mpsc::UnboundedSender<&'static str>);
    struct OnDrop(Tell);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.0.send("dropped");
        }
    }
    async fn never(State(tell): State<Tell>, Request(_): Request<CheckStock>) -> Answer<CheckStock> {
        let _guard = OnDrop(tell.clone());
        let _ = tell.0.send("begun");
        std::future::pending().await
    }
    let (broker, transport) = manual().await;
    let client = Client::new(Arc::clone(&transport));
    let (tell, mut told) = mpsc::unbounded_channel();
    let _service = Service::new("inventory").state(Tell(tell)).reply(never).start(transport).await.unwrap();
    // Given up by whoever asked.
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { client.request(&of("tea")).within(Duration::from_secs(3600)).await })
    };
    assert_eq!(soon(told.recv()).await, Some("begun"));
    asking.abort();
    assert_eq!(soon(told.recv()).await, Some("dropped"));
    // Given up by the time.
    let asking = tokio::spawn(async move { client.request(&of("tea")).within(Duration::from_secs(60)).await });
    assert_eq!(soon(told.recv()).await, Some("begun"));
    broker.advance(Duration::from_secs(61)).await;
    let error = soon(asking).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Deadline { .. }), "{error}");
    assert_eq!(soon(told.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn a_question_to_all_gathers_what_they_say() {
    let (_broker, transport) = manual().await;
    let mut services = Vec::new();
    for name in ["north", "south"] {
        let service = Service::new(name).state(name.to_owned()).reply(check);
        services.push(service.start(Arc::clone(&transport)).await.unwrap());
    }
    let client = Client::new(transport);
    let answers = soon(client.gather(&of("tea")).at_most(2).into_future()).await.unwrap();
    let mut told_by: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().told_by).collect();
    told_by.sort();
    assert_eq!(told_by, ["north", "south"]);
}
