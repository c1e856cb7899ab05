//! The user `admin`, made at a start without users, for containers.

use broker::{Broker, Credentials, UserChange};

use crate::StartError;
use crate::config::{Config, Secret};

/// Its name.
const ADMIN: &str = "admin";

/// The configured password, if there is one.
///
/// # Errors
/// [`StartError::PasswordFile`].
pub(crate) fn password(config: &Config) -> Result<Option<Secret>, StartError> {
    let Some(path) = &config.admin_password_file else { return Ok(config.admin_password.clone()) };
    let wrong = |error| StartError::PasswordFile { path: path.clone(), error };
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(wrong(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty")));
    }
    Ok(Some(Secret::new(line.to_owned())))
}

/// Makes it.
///
/// # Errors
/// [`StartError::Admin`].
pub(crate) async fn create(broker: &Broker, password: &Secret) -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Admin(error.to_string());
    let nobody = broker.authenticate(&Credentials::Anonymous).map_err(|error| failed(&error))?;
    let change =
        UserChange { password: Some(password.reveal().to_owned()), admin: Some(true), ..UserChange::default() };
    broker.put_user(&nobody, ADMIN, change).await.map_err(|error| failed(&error))?;
    tracing::info!(user = ADMIN, "made the first user");
    Ok(())
}
