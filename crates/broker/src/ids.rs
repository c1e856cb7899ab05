//! Ids for messages that come without one: UUIDs of version 7.

use fastrand::Rng;
use parking_lot::Mutex;
use types::{Message, MessageId, Timestamp};

/// The last 62 bits of an id, which follow each other within a millisecond.
const COUNTED: u128 = 0x3fff_ffff_ffff_ffff;

/// Makes ids. They ascend within a millisecond; across brokers and starts they differ by 74 random bits for each millisecond. They name
/// messages and guard nothing, so the operating system is asked for random bytes once.
#[derive(Debug)]
pub(crate) struct IdMaker(Mutex<State>);

#[derive(Debug)]
struct State {
    rng: Rng,
    at: Timestamp,
    next: u128,
}

impl IdMaker {
    pub(crate) fn new() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self(Mutex::new(State { rng: Rng::with_seed(high ^ low.rotate_left(32)), at: Timestamp(i64::MIN), next: 0 }))
    }

    /// Gives ids to messages that have none.
    pub(crate) fn give(&self, messages: &mut [Message], now: Timestamp) {
        let mut state = None;
        for message in messages.iter_mut().filter(|message| message.id.is_none()) {
            let state = state.get_or_insert_with(|| {
                let mut state = self.0.lock();
                state.begin(now);
                state
            });
            message.id = Some(MessageId::Uuid(state.next.to_be_bytes()));
            state.next = (state.next & !COUNTED) | (state.next.wrapping_add(1) & COUNTED);
        }
    }
}

impl State {
    fn begin(&mut self, now: Timestamp) {
        if self.at != now {
            self.at = now;
            let millis = u64::try_from(now.0).unwrap_or(0);
            let random = self.rng.u128(..).to_le_bytes();
            let random = random.first_chunk::<10>().copied().unwrap_or_default();
            self.next = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_u128();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(maker: &IdMaker, count: usize, at: i64) -> Vec<uuid::Uuid> {
        let mut messages = vec![Message::default(); count];
        maker.give(&mut messages, Timestamp(at));
        let id = |message: &Message| match message.id {
            Some(MessageId::Uuid(bytes)) => uuid::Uuid::from_bytes(bytes),
            _ => panic!("no id was given"),
        };
        messages.iter().map(id).collect()
    }

    #[test]
    fn ids_are_of_version_7_ascend_and_are_never_given_twice() {
        let maker = IdMaker::new();
        let mut all = ids(&maker, 3, 1_700_000_000_000);
        all.extend(ids(&maker, 3, 1_700_000_000_000));
        assert!(all.is_sorted());
        all.extend(ids(&maker, 3, 1_700_000_000_001));
        all.extend(ids(&maker, 3, 1_700_000_000_000));
        all.extend(ids(&IdMaker::new(), 3, 1_700_000_000_000));
        for id in &all {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn an_id_that_is_there_stays() {
        let mut messages = [Message { id: Some(MessageId::Text("mine".into())), ..Message::default() }];
        IdMaker::new().give(&mut messages, Timestamp(0));
        assert_eq!(messages[0].id, Some(MessageId::Text("mine".into())));
    }
}
