//! Users and what they may do.

use std::collections::BTreeSet;

use types::limits::{
    MAX_CREDENTIALS, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES, MAX_PERMISSION_NAMESPACES, MAX_PERMISSION_PATTERNS,
    MAX_SUBJECT_PERMISSIONS, MAX_TAGS,
};

use super::{Checked, at_most_bytes, at_most_items, invalid, name, within};
use crate::access::{NamePattern, check_password_hash, check_salted_hash, check_subject_pattern, check_token_record};
use crate::definitions::{CredentialRecord, Permissions, SubjectPermissions, UserConfig};

/// Checks a user's record. What it says of a secret is not repeated.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_user(config: &UserConfig) -> Checked {
    at_most_items("credentials", config.credentials.len(), MAX_CREDENTIALS)?;
    let mut tokens = BTreeSet::new();
    let passwords = config.credentials.iter().filter(|credential| credential.is_password()).count();
    for credential in &config.credentials {
        match credential {
            CredentialRecord::Argon2 { phc } => {
                check_password_hash(phc).map_err(|error| invalid("credentials.phc", error.to_string()))?;
            }
            CredentialRecord::SaltedHash { algorithm, salt, hash } => {
                check_salted_hash(*algorithm, salt, hash)
                    .map_err(|error| invalid("credentials.hash", error.to_string()))?;
            }
            CredentialRecord::Token { id, description, sha256, .. } => {
                at_most_bytes("credentials.description", description, MAX_DESCRIPTION_BYTES)?;
                check_token_record(id, sha256).map_err(|(field, why)| invalid(format!("credentials.{field}"), why))?;
                if !tokens.insert(id) {
                    return Err(invalid("credentials.id", format!("token {id:?} is there twice; an id names one")));
                }
            }
        }
    }
    // With two, a wrong password would cost two hashes, and the time would say that the user exists.
    if passwords > 1 {
        return Err(invalid("credentials", format!("there are {passwords} passwords; a user has one at most")));
    }
    at_most_items("permissions", config.permissions.len(), MAX_PERMISSION_NAMESPACES)?;
    for (namespace, permissions) in &config.permissions {
        name("permissions", namespace)?;
        within(&format!("permissions.{namespace}"), validate_permissions(permissions))?;
    }
    at_most_items("tags", config.tags.len(), MAX_TAGS)?;
    config.tags.iter().try_for_each(|tag| at_most_bytes("tags", tag, MAX_NAME_BYTES))
}

/// Checks what a user may do in one namespace.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_permissions(permissions: &Permissions) -> Checked {
    let Permissions { configure, write, read, subjects } = permissions;
    for (field, patterns) in [("configure", configure), ("write", write), ("read", read)] {
        at_most_items(field, patterns.len(), MAX_PERMISSION_PATTERNS)?;
        for pattern in patterns {
            NamePattern::new(pattern).map_err(|error| invalid(field, error.to_string()))?;
        }
    }
    at_most_items("subjects", subjects.len(), MAX_SUBJECT_PERMISSIONS)?;
    for (topic, given) in subjects {
        name("subjects", topic)?;
        within(&format!("subjects.{topic}"), validate_subjects(given))?;
    }
    Ok(())
}

fn validate_subjects(given: &SubjectPermissions) -> Checked {
    for (field, patterns) in [("write", &given.write), ("read", &given.read)] {
        at_most_items(field, patterns.len(), MAX_PERMISSION_PATTERNS)?;
        for pattern in patterns {
            check_subject_pattern(pattern).map_err(|error| invalid(field, error.to_string()))?;
        }
    }
    Ok(())
}
