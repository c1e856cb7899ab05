mod glob;
mod grants;
mod login;
mod parts;

use std::time::Duration;

use types::{Monotonic, Now, Timestamp};

use super::*;
use crate::definitions::{CredentialRecord, Permissions, UserConfig};

/// The least that argon2 can cost: tests are about who gets in, not about how hard guessing is.
const CHEAP: HashCost = HashCost { memory_kib: 8, passes: 1, lanes: 1 };

fn options() -> UsersOptions {
    UsersOptions { cost: CHEAP, cache: Duration::from_secs(60), ..UsersOptions::default() }
}

fn users(options: UsersOptions) -> Users {
    Users::new(options).unwrap()
}

fn at(seconds: u64) -> Now {
    let start = Now { wall: Timestamp(1_700_000_000_000), mono: Monotonic(5) };
    start.after(Duration::from_secs(seconds))
}

fn with_password(password: &str) -> UserConfig {
    UserConfig { credentials: vec![hash_password_at(password, CHEAP).unwrap()], ..UserConfig::default() }
}

fn login(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.to_owned(), password: password.to_owned() }
}

fn permissions(configure: &[&str], write: &[&str], read: &[&str]) -> Permissions {
    let own = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    Permissions { configure: own(configure), write: own(write), read: own(read), ..Permissions::default() }
}
