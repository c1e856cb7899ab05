//! Passwords and tokens: how they are made, what is kept of them, and how they are checked.

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use types::Timestamp;
use types::limits::{
    MAX_HASH_LANES, MAX_HASH_MEMORY_KIB, MAX_HASH_PASSES, MAX_PASSWORD_BYTES, MAX_PROPERTY_BYTES, MAX_SALT_BYTES,
    MAX_TOKEN_BYTES,
};

use crate::definitions::{CredentialRecord, HashAlgorithm};

/// What every token begins with, so that people and secret scanners know one when they see it.
const TOKEN_PREFIX: &str = "ph_";
/// Random bytes of a token's public part. A clash would need billions of tokens.
const TOKEN_ID_BYTES: usize = 8;
/// Random bytes of a token's secret part.
const TOKEN_SECRET_BYTES: usize = 32;
/// Random bytes that a password is hashed with.
const SALT_BYTES: usize = 16;

/// A secret could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// A password has at least one byte.
    #[error("the password is empty")]
    EmptyPassword,
    /// See [`MAX_PASSWORD_BYTES`].
    #[error("the password has {len_bytes} bytes; at most {MAX_PASSWORD_BYTES} are allowed")]
    PasswordTooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// See [`MAX_PROPERTY_BYTES`].
    #[error("the description has {len_bytes} bytes; at most {MAX_PROPERTY_BYTES} are allowed")]
    DescriptionTooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// The cost asked for is none that argon2 knows, or above [`MAX_HASH_MEMORY_KIB`], [`MAX_HASH_PASSES`] or
    /// [`MAX_HASH_LANES`].
    #[error(
        "this hash cost is not possible: at most {MAX_HASH_MEMORY_KIB} KiB, {MAX_HASH_PASSES} passes and {MAX_HASH_LANES} lanes, at least 8 KiB a lane"
    )]
    Cost,
    /// Too many passwords are being hashed or checked.
    #[error("too many passwords are being checked; try again shortly")]
    Busy,
    /// The operating system gave no random bytes, so nothing secret can be made.
    #[error("the operating system gives no random bytes")]
    NoRandom,
}

/// What one password hash costs. The default is the least that OWASP's password storage cheat sheet advises for argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

impl HashCost {
    fn params(self) -> Result<Params, SecretError> {
        if self.memory_kib > MAX_HASH_MEMORY_KIB || self.passes > MAX_HASH_PASSES || self.lanes > MAX_HASH_LANES {
            return Err(SecretError::Cost);
        }
        Params::new(self.memory_kib, self.passes, self.lanes, None).map_err(|_| SecretError::Cost)
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SecretError::NoRandom)?;
    Ok(bytes)
}

/// Checks the rule for passwords: 1 to [`MAX_PASSWORD_BYTES`] bytes. The bound keeps a long one from costing more than the hash.
pub(super) fn check_password(password: &str) -> Result<(), SecretError> {
    match password.len() {
        0 => Err(SecretError::EmptyPassword),
        len_bytes if len_bytes > MAX_PASSWORD_BYTES => Err(SecretError::PasswordTooLong { len_bytes }),
        _ => Ok(()),
    }
}

/// Hashes a password, with a fresh salt and the default [`HashCost`]. Takes tens of milliseconds of CPU.
///
/// # Errors
/// See [`SecretError`].
pub fn hash_password(password: &str) -> Result<CredentialRecord, SecretError> {
    hash_password_at(password, HashCost::default())
}

/// As [`hash_password`], at another cost.
///
/// # Errors
/// See [`SecretError`].
pub fn hash_password_at(password: &str, cost: HashCost) -> Result<CredentialRecord, SecretError> {
    check_password(password)?;
    let salt: [u8; SALT_BYTES] = random()?;
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params()?)
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|_| SecretError::Cost)?;
    Ok(CredentialRecord::Argon2 { phc: hash.to_string() })
}

/// Makes a token: its text, `ph_<id>_<secret>`, which is shown once and kept nowhere, and the record that is kept. The token
/// stops working at `expires`, by wall time.
///
/// # Errors
/// See [`SecretError`].
pub fn new_token(description: &str, expires: Option<Timestamp>) -> Result<(String, CredentialRecord), SecretError> {
    if description.len() > MAX_PROPERTY_BYTES {
        return Err(SecretError::DescriptionTooLong { len_bytes: description.len() });
    }
    let id = hex(&random::<TOKEN_ID_BYTES>()?);
    let secret = hex(&random::<TOKEN_SECRET_BYTES>()?);
    let text = format!("{TOKEN_PREFIX}{id}_{secret}");
    let record = CredentialRecord::Token {
        id,
        description: description.to_owned(),
        sha256: BASE64.encode(Sha256::digest(&secret)),
        expires_at: expires.map(|at| at.0),
    };
    Ok((text, record))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Splits a token's text into its public and its secret part; `None` if it is no token.
pub(super) fn split_token(text: &str) -> Option<(&str, &str)> {
    if text.len() > MAX_TOKEN_BYTES {
        return None;
    }
    text.strip_prefix(TOKEN_PREFIX)?.split_once('_').filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
}

/// A password's record, read once so that a check doesn't.
pub(super) enum PasswordVerifier {
    Argon2(Box<PasswordHash>),
    /// One quick hash of salt and password.
    Salted {
        algorithm: HashAlgorithm,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// Why a stored password hash is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HashError {
    #[error("this is no password hash; use an argon2id PHC string, `$argon2id$v=19$m=..,t=..,p=..$salt$hash`")]
    Format,
    #[error(
        "this password hash costs too much to check: at most {MAX_HASH_MEMORY_KIB} KiB, {MAX_HASH_PASSES} passes and {MAX_HASH_LANES} lanes are allowed"
    )]
    Cost,
    #[error("this salt is none: use 1 to {MAX_SALT_BYTES} bytes in base64")]
    Salt,
    #[error("this is no hash of the algorithm in base64: SHA-256 has 32 bytes, SHA-512 has 64")]
    Length,
}

impl PasswordVerifier {
    /// Reads a password's record; `None` if it is no password's.
    pub(super) fn of(record: &CredentialRecord) -> Option<Result<Self, HashError>> {
        match record {
            CredentialRecord::Argon2 { phc } => Some(Self::read(phc)),
            CredentialRecord::SaltedHash { algorithm, salt, hash } => Some(Self::salted(*algorithm, salt, hash)),
            CredentialRecord::Token { .. } => None,
        }
    }

    fn salted(algorithm: HashAlgorithm, salt: &str, hash: &str) -> Result<Self, HashError> {
        let salt = BASE64.decode(salt).map_err(|_| HashError::Salt)?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(HashError::Salt);
        }
        let hash = BASE64.decode(hash).map_err(|_| HashError::Length)?;
        let len_bytes = match algorithm {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha512 => 64,
        };
        if hash.len() != len_bytes {
            return Err(HashError::Length);
        }
        Ok(Self::Salted { algorithm, salt, hash })
    }

    /// Reads a PHC string. What it says of its cost is bounded, for a check pays it.
    pub(super) fn read(phc: &str) -> Result<Self, HashError> {
        let hash = PasswordHash::new(phc).map_err(|_| HashError::Format)?;
        if hash.algorithm != ARGON2ID_IDENT || hash.salt.is_none() || hash.hash.is_none() {
            return Err(HashError::Format);
        }
        let params = Params::try_from(&hash).map_err(|_| HashError::Format)?;
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory > MAX_HASH_MEMORY_KIB || passes > MAX_HASH_PASSES || lanes > MAX_HASH_LANES {
            return Err(HashError::Cost);
        }
        Ok(Self::Argon2(Box::new(hash)))
    }

    /// A verifier that costs as much as a real one and takes no password: its hash is random bytes, which are the hash of
    /// nothing that anybody could find.
    pub(super) fn dummy(cost: HashCost) -> Result<Self, SecretError> {
        let salt: [u8; SALT_BYTES] = random()?;
        let output: [u8; Params::DEFAULT_OUTPUT_LEN] = random()?;
        Ok(Self::Argon2(Box::new(PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&cost.params()?).map_err(|_| SecretError::Cost)?,
            salt: Some(Salt::new(&salt).map_err(|_| SecretError::Cost)?),
            hash: Some(Output::new(&output).map_err(|_| SecretError::Cost)?),
        })))
    }

    /// Whether this is the password. Compares in constant time.
    pub(super) fn verify(&self, password: &str) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default().verify_password(password.as_bytes(), &**hash).is_ok(),
            Self::Salted { algorithm, salt, hash } => {
                let computed = match algorithm {
                    HashAlgorithm::Sha256 => {
                        Sha256::new().chain_update(salt).chain_update(password).finalize().to_vec()
                    }
                    HashAlgorithm::Sha512 => {
                        Sha512::new().chain_update(salt).chain_update(password).finalize().to_vec()
                    }
                };
                bool::from(computed.ct_eq(hash))
            }
        }
    }

    /// Whether a check costs what guessing should.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Argon2(_))
    }
}

/// Checks a stored password hash.
pub(crate) fn check_password_hash(phc: &str) -> Result<(), HashError> {
    PasswordVerifier::read(phc).map(|_| ())
}

/// Checks a stored hash of another system's.
pub(crate) fn check_salted_hash(algorithm: HashAlgorithm, salt: &str, hash: &str) -> Result<(), HashError> {
    PasswordVerifier::salted(algorithm, salt, hash).map(drop)
}

/// Checks what is kept of a token; says which field is wrong, and what would be right.
pub(crate) fn check_token_record(id: &str, sha256: &str) -> Result<(), (&'static str, &'static str)> {
    if id.is_empty() || id.len() > MAX_TOKEN_BYTES / 2 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(("id", "this is no token id; use ASCII letters and digits"));
    }
    if TokenVerifier::read(sha256, None).is_none() {
        return Err(("sha256", "this is no SHA-256 in base64; it has 32 bytes"));
    }
    Ok(())
}

/// A token's record, read once so that a check doesn't.
pub(super) struct TokenVerifier {
    sha256: [u8; 32],
    expires: Option<Timestamp>,
}

impl TokenVerifier {
    /// Reads what is kept of a token; `None` if `sha256` is not 32 bytes in base64.
    pub(super) fn read(sha256: &str, expires_at: Option<i64>) -> Option<Self> {
        let sha256 = BASE64.decode(sha256).ok()?.try_into().ok()?;
        Some(Self { sha256, expires: expires_at.map(Timestamp) })
    }

    /// One that takes no secret.
    pub(super) fn dummy() -> Result<Self, SecretError> {
        Ok(Self { sha256: random()?, expires: None })
    }

    /// When it stops working.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Whether this is the secret, and its time has not run out. Compares in constant time.
    pub(super) fn verify(&self, secret: &str, wall: Timestamp) -> bool {
        let right = bool::from(Sha256::digest(secret).as_slice().ct_eq(&self.sha256));
        right && self.expires.is_none_or(|end| wall < end)
    }
}
