//! From the first bytes of a connection to `connection.open-ok` (specification, section 2.2.4).

use std::time::Duration;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{AMQPMethod, OpenOk, Start, StartOk, Tune, TuneOk};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};
use broker::{AccessError, ConnectionGuard, Credentials, Principal, QuotaError, Session};
use bytes::Bytes;
use types::{Headers, Value};

use super::Ends;
use super::wire::{Lost, Wire};
use crate::app::App;
use crate::codec::frame::Kind;
use crate::codec::method::{self, Method};
use crate::codec::table::{headers_of, read_table};
use crate::entities::exchange::ensure_predeclared;
use crate::entities::vhost;
use crate::fault::{Fault, MethodId};
use crate::limits::{CHANNEL_MAX, FRAME_MAX, FRAME_MIN, REFUSED_LOGIN_PAUSE};

/// What client and broker agreed on.
pub(crate) struct Terms {
    pub(crate) channel_max: u16,
    /// How often each side says something, at least; `None` if neither has to.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) client_properties: Headers,
    /// The client wants to be told when the broker cancels a consumer.
    pub(crate) cancel_notify: bool,
    /// The client wants to be told when it is held back.
    pub(crate) blocked_notify: bool,
    /// The user's name, as messages may claim it.
    pub(crate) user: String,
    pub(crate) mechanism: &'static str,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
    pub(crate) ends: Ends,
    /// The connection's place among those of its user and vhost.
    pub(crate) place: ConnectionGuard,
}

/// How a handshake ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The client is told, and the connection closed.
    #[error("{0}")]
    Fault(Fault),
    /// The socket is closed at once, as the client asked for something else or does not want to be told.
    #[error("{0}")]
    Closed(&'static str),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

const TUNE_OK: MethodId = (10, 31);
const OPEN: MethodId = (10, 40);
const HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// The user, and password, of a broker without users.
const GUEST: &str = "guest";

/// Makes the connection. On a fault, the client is to be told.
///
/// # Errors
/// See [`Refused`].
pub(crate) async fn run(wire: &mut Wire, app: &App, ends: &Ends) -> Result<(Session, Terms), Refused> {
    header(wire).await?;
    let peer = &ends.peer;
    let certificate = peer.client_cn.is_some();
    wire.out.method(0, class(AMQPMethod::Start(start(certificate))));
    wire.flush().await?;
    let start_ok = match next(wire).await? {
        AMQPMethod::StartOk(start_ok) => start_ok,
        other => return Err(out_of_turn("connection.start-ok", other).into()),
    };
    let client_properties = headers_of(&start_ok.client_properties);
    let (principal, user, mechanism) = match login(app, peer, &start_ok).await {
        Ok(found) => found,
        Err(fault) => {
            tokio::time::sleep(REFUSED_LOGIN_PAUSE).await;
            let told = capability(&client_properties, "authentication_failure_close");
            return Err(if told { Refused::Fault(fault) } else { Refused::Closed("a login was refused") });
        }
    };
    let heartbeat = app.options.heartbeat_s;
    let tune = Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat };
    wire.out.method(0, class(AMQPMethod::Tune(tune)));
    wire.flush().await?;
    let tuned = match next(wire).await? {
        AMQPMethod::TuneOk(tuned) => tuned,
        other => return Err(out_of_turn("connection.tune-ok", other).into()),
    };
    check(&tuned).map_err(|fault| fault.of(TUNE_OK))?;
    wire.agree(tuned.frame_max);
    let open = match next(wire).await? {
        AMQPMethod::Open(open) => open,
        other => return Err(out_of_turn("connection.open", other).into()),
    };
    let name = open.virtual_host.as_str();
    let session = session(app, &principal, name, &user).map_err(|fault| fault.of(OPEN))?;
    let place = session.connection_guard().map_err(|error| match error {
        QuotaError::Access(error) => Fault::from(error),
        full => Fault::not_allowed(format_args!("access to vhost '{name}' refused for user '{user}': {full}")).of(OPEN),
    })?;
    ensure_predeclared(&session).await.map_err(|fault| fault.of(OPEN))?;
    wire.out.method(0, class(AMQPMethod::OpenOk(OpenOk {})));
    wire.flush().await?;
    let terms = Terms {
        channel_max: tuned.channel_max,
        heartbeat: (tuned.heartbeat > 0).then(|| Duration::from_secs(tuned.heartbeat.into())),
        cancel_notify: capability(&client_properties, "consumer_cancel_notify"),
        blocked_notify: capability(&client_properties, "connection.blocked"),
        client_properties,
        user,
        mechanism,
        frame_max: tuned.frame_max,
        heartbeat_s: tuned.heartbeat,
        ends: ends.clone(),
        place,
    };
    Ok((session, terms))
}

pub(super) fn class(method: AMQPMethod) -> AMQPClass {
    AMQPClass::Connection(method)
}

/// Waits for the protocol header. Another one is answered with ours, and the socket closed.
async fn header(wire: &mut Wire) -> Result<(), Refused> {
    while wire.peek::<8>().is_none() {
        // What begins otherwise need not come whole.
        if wire.peek::<4>().is_some_and(|start| start != *b"AMQP") {
            break;
        }
        wire.more().await?;
    }
    if wire.peek::<8>() == Some(HEADER) {
        wire.skip(HEADER.len());
        return Ok(());
    }
    wire.out.raw(&HEADER);
    wire.flush().await?;
    Err(Refused::Closed("the client speaks another protocol"))
}

/// The next method of the connection. Heartbeats may come in between.
async fn next(wire: &mut Wire) -> Result<AMQPMethod, Refused> {
    loop {
        let Some(frame) = wire.frame()? else {
            wire.more().await?;
            continue;
        };
        match frame.kind {
            Kind::Heartbeat => continue,
            Kind::Method if frame.channel == 0 => {}
            Kind::Method => return Err(Fault::channel_error("the connection is not open yet").into()),
            Kind::Header | Kind::Body => {
                return Err(Fault::unexpected_frame("a connection begins with methods").into());
            }
        }
        let id = method::id(&frame.payload);
        return match method::read(&frame.payload).map_err(|fault| fault.of(id))? {
            Method::Other(AMQPClass::Connection(AMQPMethod::Close(_))) => {
                wire.out.method(0, class(AMQPMethod::CloseOk(amq_protocol::protocol::connection::CloseOk {})));
                wire.flush().await?;
                Err(Refused::Closed("the client closed the connection before it was open"))
            }
            Method::Other(AMQPClass::Connection(method)) => Ok(method),
            _ => Err(Fault::command_invalid("the connection is not open yet").of(id).into()),
        };
    }
}

fn out_of_turn(expected: &str, got: AMQPMethod) -> Fault {
    let got = class(got);
    let id = (got.get_amqp_class_id(), got.get_amqp_method_id());
    Fault::command_invalid(format_args!("expected '{expected}'")).of(id)
}

fn start(certificate: bool) -> Start {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties.insert("product".into(), text("Posthouse"));
    properties.insert("version".into(), text(env!("CARGO_PKG_VERSION")));
    properties.insert("platform".into(), text("Rust"));
    properties.insert("copyright".into(), text("The Posthouse authors"));
    properties.insert("information".into(), text("Licensed under the Apache License 2.0"));
    properties.insert("cluster_name".into(), text("posthouse"));
    let mechanisms = if certificate { "PLAIN AMQPLAIN EXTERNAL" } else { "PLAIN AMQPLAIN" };
    Start {
        version_major: 0,
        version_minor: 9,
        server_properties: properties,
        mechanisms: LongString::from(mechanisms),
        locales: LongString::from("en_US"),
    }
}

/// Whether the client says that it can do this.
fn capability(properties: &Headers, name: &str) -> bool {
    let capabilities = properties.iter().find(|(have, _)| have.as_str() == "capabilities");
    match capabilities {
        Some((_, Value::Map(all))) => {
            all.iter().any(|(have, value)| have.as_str() == name && *value == Value::Bool(true))
        }
        _ => false,
    }
}

async fn login(app: &App, peer: &net::PeerInfo, start: &StartOk) -> Result<(Principal, String, &'static str), Fault> {
    let response = start.response.as_bytes();
    let (mechanism, user, password) = match start.mechanism.as_str() {
        "PLAIN" => {
            let (user, password) = plain(response).ok_or_else(|| refused("PLAIN"))?;
            ("PLAIN", user, password)
        }
        "AMQPLAIN" => {
            let (user, password) = amqplain(response).ok_or_else(|| refused("AMQPLAIN"))?;
            ("AMQPLAIN", user, password)
        }
        "EXTERNAL" => {
            let name = peer.client_cn.as_deref().ok_or_else(|| refused("EXTERNAL"))?;
            let certificate = Credentials::Certificate { common_name: name.to_owned() };
            let principal = app
                .broker
                .login(certificate, Some(peer.addr.ip()))
                .await
                .map_err(|error| failed("EXTERNAL", &error))?;
            return Ok((principal, name.to_owned(), "EXTERNAL"));
        }
        other => return Err(Fault::access_refused(format_args!("mechanism '{other}' is not offered"))),
    };
    let credentials = if app.broker.has_users() {
        Credentials::Password { user: user.clone(), password }
    } else if user == GUEST && password == GUEST && peer.addr.ip().to_canonical().is_loopback() {
        // As RabbitMQ's own: until there are users, everybody on this machine is the guest.
        Credentials::Anonymous
    } else {
        return Err(refused(mechanism));
    };
    let principal =
        app.broker.login(credentials, Some(peer.addr.ip())).await.map_err(|error| failed(mechanism, &error))?;
    Ok((principal, user, mechanism))
}

fn refused(mechanism: &str) -> Fault {
    Fault::access_refused(format_args!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    ))
}

fn failed(mechanism: &str, error: &AccessError) -> Fault {
    tracing::warn!(mechanism, %error, "a login over AMQP was refused");
    refused(mechanism)
}

/// `PLAIN` (RFC 4616): an identity to act for, a user and a password, with zeros between.
fn plain(response: &[u8]) -> Option<(String, String)> {
    let mut parts = response.split(|byte| *byte == 0).skip(1);
    let text = |part: Option<&[u8]>| String::from_utf8(part?.to_vec()).ok();
    let found = (text(parts.next())?, text(parts.next())?);
    parts.next().is_none().then_some(found)
}

/// `AMQPLAIN`: a table's fields without its length.
fn amqplain(response: &[u8]) -> Option<(String, String)> {
    let mut table = u32::try_from(response.len()).ok()?.to_be_bytes().to_vec();
    table.extend_from_slice(response);
    let fields = read_table(&mut Bytes::from(table)).ok()?;
    let text = |name: &str| {
        let (_, value) = fields.iter().find(|(have, _)| have.as_str() == name)?;
        value.as_text().map(str::to_owned)
    };
    Some((text("LOGIN")?, text("PASSWORD")?))
}

fn check(tuned: &TuneOk) -> Result<(), Fault> {
    if tuned.channel_max == 0 || tuned.channel_max > CHANNEL_MAX {
        let asked = tuned.channel_max;
        let why =
            format_args!("negotiated channel_max = {asked} is higher than the maximum allowed value ({CHANNEL_MAX})");
        return Err(Fault::not_allowed(why));
    }
    if tuned.frame_max == 0 || tuned.frame_max > FRAME_MAX {
        let asked = tuned.frame_max;
        let why = format_args!("negotiated frame_max = {asked} is higher than the maximum allowed value ({FRAME_MAX})");
        return Err(Fault::not_allowed(why));
    }
    if tuned.frame_max < FRAME_MIN {
        let asked = tuned.frame_max;
        let why = format_args!("negotiated frame_max = {asked} is lower than the minimum allowed value ({FRAME_MIN})");
        return Err(Fault::not_allowed(why));
    }
    Ok(())
}

fn session(app: &App, principal: &Principal, name: &str, user: &str) -> Result<Session, Fault> {
    match app.broker.session(principal, vhost::namespace(name)) {
        Ok(session) => Ok(session.with_owner()),
        Err(AccessError::NoSuchNamespace(_)) => Err(Fault::not_allowed(format_args!("vhost {name} not found"))),
        Err(AccessError::Forbidden { .. }) => {
            Err(Fault::not_allowed(format_args!("access to vhost '{name}' refused for user '{user}'")))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::table::write_field;

    #[test]
    fn logins_are_read_as_their_mechanisms_have_them() {
        let found = Some(("user".to_owned(), "pass".to_owned()));
        assert_eq!(plain(b"\0user\0pass"), found);
        assert_eq!(plain(b"other\0user\0pass"), found);
        for wrong in [&b""[..], b"user", b"\0user", b"\0user\0pass\0more", b"\0us\xffer\0pass"] {
            assert_eq!(plain(wrong), None, "{wrong:?}");
        }
        let mut fields = Vec::new();
        write_field("LOGIN", &Value::from("user"), &mut fields);
        write_field("PASSWORD", &Value::from("pass"), &mut fields);
        assert_eq!(amqplain(&fields), found);
        assert_eq!(amqplain(&fields[1..]), None);
    }
}
