//! `Authorization` as HTTP has it, and gRPC after it: RFC 9110, section 11.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Credentials;
use crate::errors::AccessError;

impl Credentials {
    /// The credentials of a request: what its `authorization` says (`Basic` or `Bearer`) goes before the name in the client's certificate,
    /// which the listener has verified.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] if the header says nothing that can be understood.
    pub fn of_request(authorization: Option<&[u8]>, client_cn: Option<&str>) -> Result<Self, AccessError> {
        let Some(header) = authorization else {
            return Ok(client_cn.map_or(Self::Anonymous, |name| Self::Certificate { common_name: name.to_owned() }));
        };
        let wrong = || AccessError::Unauthenticated;
        let header = std::str::from_utf8(header).ok().filter(|header| header.is_ascii()).ok_or_else(wrong)?;
        let (scheme, rest) = header.split_once(' ').ok_or_else(wrong)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Token(rest.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(wrong());
        }
        let decoded = BASE64.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(wrong)?;
        let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
        Ok(Self::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(authorization: Option<&str>) -> Result<Credentials, AccessError> {
        Credentials::of_request(authorization.map(str::as_bytes), None)
    }

    #[test]
    fn schemes_are_understood() {
        assert!(matches!(of(None), Ok(Credentials::Anonymous)));
        assert!(matches!(of(Some("bearer ph_a_b")), Ok(Credentials::Token(token)) if token == "ph_a_b"));
        let basic = of(Some("Basic YTpiOmM="));
        assert!(matches!(basic, Ok(Credentials::Password { user, password }) if user == "a" && password == "b:c"));
        for bad in ["Basic", "Basic !", "Basic YQ==", "Digest x"] {
            assert_eq!(of(Some(bad)).unwrap_err(), AccessError::Unauthenticated, "{bad}");
        }
    }

    #[test]
    fn a_header_goes_before_a_certificate() {
        let named = Credentials::of_request(None, Some("ann"));
        assert!(matches!(named, Ok(Credentials::Certificate { common_name }) if common_name == "ann"));
        let both = Credentials::of_request(Some(b"Bearer x"), Some("ann"));
        assert!(matches!(both, Ok(Credentials::Token(_))));
    }
}
