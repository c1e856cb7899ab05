//! What names are allowed. The broker has the same bounds (`types::limits`), which this crate may not import; a test of `sdk` holds the two together.

/// Longest name of a message or topic, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Checks a message's name: dot-separated words of ASCII letters, digits, `-` and `_`, so that it is a subject without wildcards, and readable
/// in a log, a URL and a shell.
///
/// # Errors
/// Which part of that is broken, as a sentence.
pub(crate) fn check_message_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty; write what happened, such as \"order.created\"".to_owned());
    }
    check_length(name)?;
    for word in name.split('.') {
        if word.is_empty() {
            return Err(format!("{name:?} has an empty word; put exactly one dot between words, and none at the ends"));
        }
        if let Some(found) = word.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
            return Err(format!("{found:?} in {name:?}: a word is made of ASCII letters, digits, `-` and `_`"));
        }
    }
    Ok(())
}

/// Checks a topic's name: any text without control characters.
///
/// # Errors
/// Which part of that is broken, as a sentence.
pub(crate) fn check_topic(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(
            "the topic's name is empty; leave `topic` out to use the first word of the message's name".to_owned()
        );
    }
    check_length(name)?;
    match name.chars().find(|c| c.is_control()) {
        Some(found) => Err(format!("the topic's name holds the control character {found:?}")),
        None => Ok(()),
    }
}

fn check_length(name: &str) -> Result<(), String> {
    match name.len() {
        0..=MAX_NAME_BYTES => Ok(()),
        len_bytes => Err(format!("the name has {len_bytes} bytes; at most {MAX_NAME_BYTES} are allowed")),
    }
}

/// The topic of a message that names none: the first word of its name.
pub(crate) fn default_topic(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_dots_between() {
        for good in ["order", "order.created", "shop.order-line.v2_draft", &"x".repeat(255)] {
            assert_eq!(check_message_name(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "is empty"),
            ("order..created", "empty word"),
            (".order", "empty word"),
            ("order.", "empty word"),
            ("order.*", "'*'"),
            ("order created", "' '"),
            ("bestellung.größe", "'ö'"),
            (&"x".repeat(256), "256 bytes"),
        ] {
            assert!(check_message_name(bad).is_err_and(|said| said.contains(why)), "{bad}");
        }
    }

    #[test]
    fn topics_are_the_brokers_names() {
        assert_eq!(check_topic("Orders of today"), Ok(()));
        assert_eq!(default_topic("order.created"), "order");
        for bad in ["", "a\nb", &"x".repeat(256)] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
    }
}
