//! W3C trace context in a message's headers.

use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::{Envelope, headers};

/// Longest `tracestate` that is taken over, in bytes: what the recommendation asks everyone to pass on.
const MAX_TRACESTATE_BYTES: usize = 512;

/// The trace context in a message's headers; `None` if there is none, or one that the recommendation calls invalid.
#[must_use]
pub fn extract(envelope: &Envelope) -> Option<SpanContext> {
    let (trace_id, span_id, flags) = parse(headers::text(envelope, headers::TRACEPARENT)?)?;
    let state = headers::text(envelope, headers::TRACESTATE)
        .filter(|state| state.len() <= MAX_TRACESTATE_BYTES)
        .and_then(|state| TraceState::from_str(state).ok())
        .unwrap_or_default();
    let context = SpanContext::new(trace_id, span_id, flags, true, state);
    context.is_valid().then_some(context)
}

/// Writes a trace context into a message's headers, in place of what is there. An invalid context changes nothing.
pub fn inject(envelope: &mut Envelope, context: &SpanContext) {
    if !context.is_valid() {
        return;
    }
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    let parent = format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8());
    headers::set(envelope, headers::TRACEPARENT, parent);
    match context.trace_state().header() {
        // The state belongs to the parent: that of another parent would be a lie.
        state if state.is_empty() => headers::remove(envelope, headers::TRACESTATE),
        state => headers::set(envelope, headers::TRACESTATE, state),
    }
}

/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; later versions may say more behind that.
fn parse(header: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = header.trim().split('-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = TraceId::from_hex(hex(parts.next()?, 32)?).ok()?;
    let span_id = SpanId::from_hex(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
    match (version, parts.next()) {
        ("ff", _) | ("00", Some(_)) => None,
        _ => Some((trace_id, span_id, TraceFlags::new(flags) & TraceFlags::SAMPLED)),
    }
}

/// The part, if it is so many digits, lower case as the recommendation wants them.
fn hex(part: &str, digits: usize) -> Option<&str> {
    let fits = part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(parent: &str, state: Option<&str>) -> Envelope {
        let mut envelope = Envelope::new("order.created", "{}");
        headers::set(&mut envelope, headers::TRACEPARENT, parent);
        if let Some(state) = state {
            headers::set(&mut envelope, headers::TRACESTATE, state);
        }
        envelope
    }

    #[test]
    fn a_context_comes_out_as_it_went_in() {
        let context = extract(&with(PARENT, Some("vendor=a,other=b"))).expect("valid");
        assert!(context.is_remote() && context.is_sampled());
        let mut envelope = with("rubbish", Some("old=1"));
        inject(&mut envelope, &context);
        assert_eq!(headers::text(&envelope, headers::TRACEPARENT), Some(PARENT));
        assert_eq!(headers::text(&envelope, headers::TRACESTATE), Some("vendor=a,other=b"));
        assert_eq!(envelope.headers.len(), 2, "in place of what was there");
        inject(&mut envelope, &SpanContext::empty_context());
        assert_eq!(headers::text(&envelope, headers::TRACEPARENT), Some(PARENT), "an invalid one changes nothing");
    }

    #[test]
    fn a_state_does_not_outlive_its_parent() {
        let context = extract(&with(PARENT, None)).expect("valid");
        let mut envelope = with(PARENT, Some("old=1"));
        inject(&mut envelope, &context);
        assert_eq!(headers::text(&envelope, headers::TRACESTATE), None);
    }

    #[test]
    fn later_versions_are_read_and_invalid_contexts_are_none() {
        assert!(extract(&with("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None)).is_some());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(extract(&with(bad, None)).is_none(), "{bad:?}");
        }
        let state = "x".repeat(MAX_TRACESTATE_BYTES + 1);
        let context = extract(&with(PARENT, Some(&state))).expect("the parent is good");
        assert!(context.trace_state().header().is_empty());
    }
}
