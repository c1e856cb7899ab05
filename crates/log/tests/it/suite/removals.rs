//! Deletes and trims.

use types::Offset;

use super::*;

const LETTERS: [&str; 4] = ["a", "b", "c", "d"];

/// A log of 5 batches of 4 records.
fn twenty(make: Make) -> Case {
    let case = Case::with_logs(make);
    for _ in 0..5 {
        case.must([append(A, &LETTERS)]);
    }
    case
}

fn all_but(dead: &[Range<u64>]) -> Vec<u64> {
    (0..20).filter(|offset| !dead.iter().any(|range| range.contains(offset))).collect()
}

pub(crate) fn deleted_records_are_gone_and_the_others_keep_their_offsets(make: Make) {
    let mut case = twenty(make);
    // Inside a batch, a whole one, over several, and again over what is dead already.
    case.must([delete(A, &[1..2, 4..8])]);
    assert_eq!(case.offsets(A), all_but(&[1..2, 4..8]));
    case.must([delete(A, &[6..13]), delete(A, &[19..20])]);
    for _ in 0..2 {
        assert_eq!(case.offsets(A), all_but(&[1..2, 4..13, 19..20]));
        assert_eq!(case.state(A).records, 9);
        assert_eq!(case.state(A).end, Offset(20));
        assert_eq!(case.values(A)[3], (13, "b".to_owned()));
        case.restart();
    }
    let epoch = case.open(A).epoch;
    assert_eq!(case.must([under(epoch, append(A, &["e"]))])[0].base, Offset(20));
}

pub(crate) fn deleting_twice_changes_nothing(make: Make) {
    let case = Case::with_logs(make);
    case.must([append_weighing(A, &LETTERS, 40), append_weighing(A, &LETTERS, 40)]);
    case.must([delete_weighing(A, &[0..2, 3..5], 40)]);
    let before = (case.state(A).records, case.state(A).weight, case.values(A));
    for _ in 0..3 {
        case.must([delete_weighing(A, &[0..2, 3..5], 40)]);
        case.must([delete_weighing(A, &[0..1], 10), delete(A, &[])]);
        assert_eq!((case.state(A).records, case.state(A).weight, case.values(A)), before);
    }
}

pub(crate) fn weight_is_what_was_appended_less_what_was_deleted(make: Make) {
    let mut case = Case::with_logs(make);
    case.must([append_weighing(A, &["a", "b"], 1000), append_weighing(A, &["c"], 7), append_weighing(B, &["d"], 5)]);
    assert_eq!((case.state(A).weight, case.state(B).weight), (1007, 5));
    case.must([delete_weighing(A, &[0..1], 990)]);
    for _ in 0..2 {
        assert_eq!((case.state(A).weight, case.state(B).weight), (17, 5));
        case.restart();
    }
    let epoch = case.open(A).epoch;
    case.must([under(epoch, append_weighing(A, &["e"], 3)), under(epoch, delete_weighing(A, &[1..2], 10))]);
    assert_eq!(case.state(A).weight, 10);
    case.must([under(epoch, delete_weighing(A, &[2..4], 10))]);
    assert_eq!((case.state(A).weight, case.state(A).records), (0, 0));
}

pub(crate) fn a_trim_removes_everything_before_it(make: Make) {
    let mut case = twenty(make);
    case.must([delete(A, &[10..12]), trim(A, 6)]);
    for _ in 0..2 {
        assert_eq!(case.offsets(A), all_but(&[0..6, 10..12]));
        let state = case.state(A);
        assert_eq!((state.start, state.end, state.records), (Offset(6), Offset(20), 12));
        case.restart();
    }
    let epoch = case.open(A).epoch;
    case.must([under(epoch, trim(A, 2))]);
    assert_eq!(case.state(A).start, Offset(6), "a trim never brings anything back");
    case.must([under(epoch, trim(A, 8)), under(epoch, trim(A, 8))]);
    assert_eq!(case.offsets(A), all_but(&[0..8, 10..12]));
    assert!(case.state(A).start >= Offset(8));
}

pub(crate) fn a_trim_takes_its_share_of_the_weight(make: Make) {
    let case = Case::with_logs(make);
    case.must([append_weighing(A, &LETTERS, 40), append_weighing(A, &LETTERS, 40)]);
    case.must([trim(A, 3)]);
    assert_eq!(case.state(A).weight, 50);
    case.must([delete_weighing(A, &[3..4], 10), trim(A, 4)]);
    assert_eq!(case.state(A).weight, 40);
    case.must([trim(A, 8)]);
    assert_eq!((case.state(A).weight, case.state(A).records), (0, 0));
}

pub(crate) fn removals_survive_a_restart(make: Make) {
    let mut case = twenty(make);
    let mut epoch = FIRST;
    let mut dead: Vec<Range<u64>> = Vec::new();
    for range in [3..4, 5..6, 9..15, 0..2, 16..20] {
        case.must([under(epoch, delete(A, std::slice::from_ref(&range)))]);
        dead.push(range);
        case.restart();
        epoch = case.open(A).epoch;
        assert_eq!(case.offsets(A), all_but(&dead));
        assert_eq!(case.state(A).records, all_but(&dead).len() as u64);
    }
    case.must([under(epoch, trim(A, 4))]);
    dead.push(0..4);
    case.restart();
    assert_eq!(case.offsets(A), all_but(&dead));
}

pub(crate) fn a_log_may_be_emptied_and_go_on(make: Make) {
    let mut case = twenty(make);
    case.must([delete(A, &[0..20])]);
    assert!(case.values(A).is_empty());
    assert_eq!((case.state(A).records, case.state(A).end), (0, Offset(20)));
    assert_eq!(case.engine.offset_at(A, Timestamp(0)), Ok(None));
    case.restart();
    let epoch = case.open(A).epoch;
    assert_eq!(case.must([under(epoch, append(A, &["e"]))])[0].base, Offset(20), "offsets go on");
    case.must([under(epoch, trim(A, 21))]);
    assert!(case.values(A).is_empty());
    case.restart();
    let epoch = case.open(A).epoch;
    assert_eq!(case.must([under(epoch, append(A, &["f"]))])[0].base, Offset(21));
    assert_eq!(case.values(A), [(21, "f".to_owned())]);
    case.must([under(epoch, remove(A))]);
}
