//! What dead letters tell of themselves.

use types::{Message, Value};

use crate::definitions::bare;
use crate::fixtures::CIRCLE;
use crate::model::{Copy, Model, Story};
use crate::operation::CopyId;

impl Model {
    /// A dead letter tells its story, always the same one, and one that can be true.
    pub(crate) fn note_story(&mut self, id: CopyId, message: &Message, before: &Copy) {
        let copy = self.copies[&id].clone();
        let Some(story) = story_of(message) else {
            assert!(!copy.rejected || self.redriving, "{id:?} was rejected, and is no dead letter");
            self.copies.entry(id).and_modify(|copy| copy.story = None);
            return;
        };
        self.copies.entry(id).and_modify(|copy| copy.direct = false);
        if copy.story.as_ref() == Some(&story) {
            return;
        }
        let name = self.name_of(copy.at);
        let goes_round = CIRCLE.contains(&story.queue.as_str());
        let takes_dead_letters = name.ends_with(".dlq") || name == "dead" || CIRCLE.contains(&name.as_str());
        assert!(takes_dead_letters, "{id:?} is a dead letter in {name}");
        assert_eq!(story.failed_times, story.attempts > 0, "{id:?}: {story:?}");
        let left = before.story.as_ref().filter(|before| before.reason == "expired" && story.reason == "expired");
        let is_round = goes_round && left.is_some_and(|left| left.queue != story.queue && left.queue == name);
        let is_known = self.messages[&id.0].is_single && !self.redriving;
        assert!(!is_round || !is_known, "{id:?} left {name} by itself, and is there again");
        if copy.rejected && !self.redriving && !goes_round {
            assert_eq!(story.reason, "rejected", "{id:?}");
        }
        let facts = &self.messages[&id.0];
        match story.reason.as_str() {
            "rejected" => assert_eq!(story.error.as_deref(), Some("bad"), "{story:?}"),
            "non-retryable" => assert_eq!(story.error.as_deref(), Some("fatal"), "{story:?}"),
            "max-attempts" => assert!(story.attempts > 1, "{story:?}"),
            "expired" => {
                let expires = facts.expires_at.unwrap_or(i64::MAX);
                let is_short = story.queue == "short" || goes_round;
                assert!(expires <= self.latest_wall || is_short, "{id:?} expired before its time");
            }
            "overflow" => assert_eq!(story.queue, "ring", "{id:?} was too much for a queue without a bound"),
            "cycle" => assert!(goes_round && name.ends_with(".dlq"), "{id:?} goes round from {}", story.queue),
            other => panic!("{id:?} was given up for {other}"),
        }
        // Redriven in between, or once round, it began anew.
        let came_from = !self.redriving && !goes_round && bare(&self.name_of(before.at)) == story.queue;
        if let (Some(offset), true) = (before.offset, came_from) {
            let place = self.places.get(&(before.at, offset)).cloned().unwrap_or_default();
            let most = place.deliveries + self.unheard.get(&before.at).copied().unwrap_or_default();
            let possible = i64::from(place.least)..=i64::from(most);
            assert!(possible.contains(&story.attempts), "{id:?}: {story:?}, but {possible:?} failures are possible");
        }
        let copy = self.copies.get_mut(&id).expect("there");
        (copy.story, copy.rejected) = (Some(story), false);
    }
}

pub(crate) fn story_of(message: &Message) -> Option<Story> {
    let text = |name: &str| message.header(name).and_then(Value::as_text).map(str::to_owned);
    Some(Story {
        reason: text("ph-dead-letter-reason")?,
        queue: text("ph-dead-letter-queue").expect("a dead letter names its queue"),
        attempts: message.header("ph-dead-letter-attempts").and_then(Value::as_f64).expect("it counts") as i64,
        error: text("ph-dead-letter-error"),
        failed_times: message.header("ph-dead-letter-first-failed").is_some()
            && message.header("ph-dead-letter-last-failed").is_some(),
    })
}
