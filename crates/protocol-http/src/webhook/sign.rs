//! Signatures as Standard Webhooks 1.0.0 has them ("Signature scheme", "Webhook headers"): HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use types::MessageId;

use super::limits::MAX_WEBHOOK_ID_BYTES;

/// Begins a secret that is the base64 of its key.
const SECRET_PREFIX: &str = "whsec_";

/// The key of an endpoint's signatures. Not printable.
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// The key that a secret stands for: the bytes behind `whsec_`, or the text itself. `None` if it cannot be one.
    pub(super) fn new(secret: &str) -> Option<Self> {
        let decoded = secret.strip_prefix(SECRET_PREFIX).map(|encoded| BASE64.decode(encoded));
        let key = match decoded {
            Some(decoded) => decoded.ok()?,
            None => secret.as_bytes().to_vec(),
        };
        // HMAC takes keys of any length.
        Hmac::new_from_slice(&key).ok().map(Self)
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// The value of `webhook-id`: the same for every attempt of a message.
///
/// IMPORTANT: a producer chooses its messages' ids, and the signature covers `id.timestamp.body`: an id with a dot in it could move the
/// borders between the three. So whatever is not a letter, a digit, `-` or `_` is percent-encoded.
pub(super) fn webhook_id(id: &MessageId) -> String {
    let text = match id {
        MessageId::Uuid(_) => return id.to_string(),
        MessageId::Text(text) => text,
    };
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes().iter() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > MAX_WEBHOOK_ID_BYTES {
        let digest = Sha256::digest(text.bytes());
        return format!("sha256-{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_the_libraries_of_standard_webhooks_expect() {
        // The example that its libraries test themselves with.
        let key = SigningKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_without_the_prefix_is_its_own_key() {
        let encoded = SigningKey::new(&format!("{SECRET_PREFIX}{}", BASE64.encode("plain text"))).expect("a key");
        let plain = SigningKey::new("plain text").expect("a key");
        assert_eq!(plain.sign("a", 1, b"b"), encoded.sign("a", 1, b"b"));
        assert!(SigningKey::new("whsec_*").is_none());
    }

    #[test]
    fn no_id_can_move_the_borders_of_what_is_signed() {
        assert_eq!(webhook_id(&MessageId::Text("a.1_b-ü".into())), "a%2E1_b-%C3%BC");
        assert_eq!(webhook_id(&MessageId::Uuid([0; 16])), "00000000-0000-0000-0000-000000000000");
        let long = webhook_id(&MessageId::Text("x".repeat(300).into()));
        assert_eq!((long.len(), long.starts_with("sha256-")), (71, true));
    }
}
