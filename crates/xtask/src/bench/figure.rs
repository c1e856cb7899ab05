//! One figure, its goal, and how several turns become one.

use std::fmt;

use anyhow::Context;
use serde_json::Value;

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) what: String,
    /// The figure that the goal is about: as a rule a ratio.
    pub(super) figure: String,
    /// Empty if it is only told.
    pub(super) goal: String,
    /// Whether the goal is reached; `None` without a goal.
    pub(super) ok: Option<bool>,
    /// What it is made of.
    pub(super) from: String,
}

/// Which side of its bound a figure must be on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}{unit}", short(bound)),
            Self::AtMost(bound) => format!("≤ {}{unit}", short(bound)),
        }
    }
}

impl Figure {
    pub(super) fn new(what: impl Into<String>, value: f64, unit: &str, goal: Goal, from: String) -> Self {
        Self {
            what: what.into(),
            figure: format!("{}{unit}", short(value)),
            goal: goal.text(unit),
            ok: Some(goal.holds(value)),
            from,
        }
    }

    /// One that is only told.
    pub(super) fn told(what: impl Into<String>, figure: String, from: String) -> Self {
        Self { what: what.into(), figure, goal: String::new(), ok: None, from }
    }

    /// One that could not be measured, which counts as missed.
    pub(super) fn failed(what: &str) -> Self {
        let (figure, from) = ("not measured".to_owned(), "the run's output says why".to_owned());
        Self { what: what.to_owned(), figure, goal: String::new(), ok: Some(false), from }
    }

    pub(super) fn verdict(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "missed",
            None => "",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (goal {}) {} [{}]", self.what, self.figure, self.goal, self.verdict(), self.from)
    }
}

/// A number in a report.
///
/// # Errors
/// If it is not there.
pub(super) fn number(report: &Value, pointer: &str) -> anyhow::Result<f64> {
    report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {report}"))
}

/// Messages a second.
///
/// # Errors
/// If it is not there.
pub(super) fn rate(report: &Value) -> anyhow::Result<f64> {
    number(report, "/messages_per_second")
}

/// The middle of several turns; of an even number the mean of the middle two.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        (_, middle) => values[middle],
    }
}

/// A number for people: three digits, thousands apart.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1000.0 => {
            let rounded = format!("{value:.0}");
            let digits = rounded.trim_start_matches('-').len();
            let mut text = String::new();
            for (at, digit) in rounded.trim_start_matches('-').chars().enumerate() {
                if at > 0 && (digits - at) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => trim(format!("{value:.1}")),
        _ => trim(format!("{value:.2}")),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_turns_is_not_moved_by_one_that_was_disturbed() {
        assert_eq!(median([1.0, 900.0, 2.0]), 2.0);
        assert_eq!(median([1.0, 2.0, 3.0, 900.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_figure_that_is_no_number_misses_its_goal() {
        let figure = Figure::new("x", f64::NAN, " ×", Goal::AtLeast(1.0), String::new());
        assert_eq!(figure.ok, Some(false));
        assert_eq!(Figure::new("x", 3.0, "", Goal::AtMost(3.0), String::new()).ok, Some(true));
        assert_eq!(Figure::failed("x").ok, Some(false));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.7, 4.0, 25.25, 312.4, 1234567.0, 0.333].map(short),
            ["0.7", "4", "25.2", "312", "1,234,567", "0.33"]
        );
    }
}
