//! The router of everything, and the OpenAPI 3.1 document that is made from the same handlers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use broker::Broker;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, Schema,
};
use utoipa_axum::router::OpenApiRouter;

use crate::app::{App, HttpOptions};
use crate::problem::Failure;
use crate::{
    admin, backup, bindings, consume, groups, policies, probes, publish, queues, replay, request, tail, topics, ws,
};

/// Everything that the HTTP listener serves.
pub fn router(broker: Broker, options: HttpOptions) -> Router {
    let (router, document) = documented().split_for_parts();
    let document: Arc<str> = serde_json::to_string(&complete(document)).unwrap_or_default().into();
    let answer = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], document.to_string()));
    router
        .merge(probes::router())
        .merge(ws::router())
        .route("/openapi.json", get(answer))
        .route("/docs", get(docs))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        // Bodies are read with limits of their own, which name themselves.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(finish))
        .with_state(App::new(broker, options))
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> OpenApi {
    complete(documented().split_for_parts().1)
}

fn documented() -> OpenApiRouter<App> {
    let info = InfoBuilder::new()
        .title("Posthouse")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Topics, queues and everything between them over HTTP. Times are milliseconds since 1970, spans milliseconds. Errors are \
             problem details (RFC 9457); their `type` is stable.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build())
        .merge(publish::router())
        .merge(consume::router())
        .merge(replay::router())
        .merge(tail::router())
        .merge(request::router())
        .merge(topics::router())
        .merge(queues::router())
        .merge(bindings::router())
        .merge(groups::router())
        .merge(policies::router())
        .merge(admin::router())
        .merge(backup::router())
}

/// Adds what is the same for every operation: the variables of its path, the problems that any of its kind may have, and the ways to
/// say who is asking.
fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                add_path_parameters(path, operation);
                tidy_parameters(operation);
                add_problems(&method, operation);
            }
        }
    }
    let scheme = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
    let components = ComponentsBuilder::from(document.components.take().unwrap_or_default())
        .schema_from::<api::Problem>()
        // The macros stop at a type that holds itself; what it leads to is named here.
        .schema_from::<api::Word>()
        .schema_from::<api::MatchKind>()
        .schema_from::<api::WantedHeader>()
        .schema_from::<api::HeaderValue>()
        .schema_from::<api::Field>()
        .schema_from::<api::AttributeTest>()
        .schema_from::<api::Bound>()
        .security_scheme("basic", scheme(HttpAuthScheme::Basic))
        .security_scheme("token", scheme(HttpAuthScheme::Bearer))
        .build();
    document.components = Some(components);
    let none = SecurityRequirement::default();
    let named = |name: &str| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
    document.security = Some(vec![none, named("basic"), named("token")]);
    document
}

fn path_description(name: &str) -> (&'static str, SchemaType) {
    let text = SchemaType::from(Type::String);
    match name {
        "ns" => ("The namespace; `default` always exists.", text),
        "topic" => ("The topic's name.", text),
        "queue" => ("The queue's name.", text),
        "group" => ("The group's name.", text),
        "policy" => ("The policy's name.", text),
        "binding" => ("The binding's id.", SchemaType::from(Type::Integer)),
        "subject" => ("The subject.", text),
        "key" => ("The key.", text),
        "reply_to" => ("The request's `reply_to`.", text),
        "namespace" => ("The namespace's name.", text),
        "user" => ("The user's name.", text),
        "token" => ("The token's id.", text),
        _ => ("", text),
    }
}

fn add_path_parameters(path: &str, operation: &mut Operation) {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let parameters = operation.parameters.get_or_insert_default();
    for (at, name) in names.enumerate() {
        let (description, kind) = path_description(name);
        let schema = ObjectBuilder::new().schema_type(kind.clone());
        let schema = match kind {
            SchemaType::Type(Type::Integer) => {
                schema.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).minimum(Some(0))
            }
            _ => schema.min_length(Some(1)),
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(schema));
        parameters.insert(at, RefOr::T(parameter.build()));
    }
}

/// A query has no `null`: a parameter that may be missing is not one that may be null.
fn tidy_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter else { continue };
        if let SchemaType::Array(kinds) = &mut object.schema_type {
            kinds.retain(|kind| *kind != Type::Null);
            if let [kind] = kinds.as_slice() {
                object.schema_type = SchemaType::Type(kind.clone());
            }
        }
    }
}

fn add_problems(method: &Method, operation: &mut Operation) {
    let mut problems = vec![
        (400, "Something in the request makes no sense"),
        (401, "The credentials are missing or wrong"),
        (403, "The caller may not do this"),
        (404, "Something that the request names is not there"),
        (500, "The storage is damaged, or the outcome is not known"),
        (503, "The broker cannot do this now; try again after `Retry-After`"),
    ];
    if operation.request_body.is_some() {
        problems.push((408, "The body came too slowly"));
        problems.push((413, "The body or a message is too large; the problem names the limit"));
        problems.push((415, "The body's content type is not one that this reads"));
    }
    if *method != Method::GET || operation.tags.iter().flatten().any(|tag| tag == "replay") {
        problems.push((409, "Something is there, defined or used otherwise"));
        problems.push((507, "The disk is full"));
    }
    for (status, description) in problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(description).content(api::PROBLEM_TYPE, content).build();
        operation.responses.responses.entry(status.to_string()).or_insert(RefOr::T(response));
    }
}

/// A page that renders the document, with nothing from elsewhere.
async fn docs() -> Response {
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("docs.html"))).into_response()
}

async fn no_such_route(request: Request) -> Failure {
    Failure::new(
        404,
        "no-such-route",
        format!("there is nothing at {}; /docs lists what there is", request.uri().path()),
    )
}

async fn no_such_method(request: Request) -> Failure {
    let detail =
        format!("{} does not take {}; the Allow header lists what it takes", request.uri().path(), request.method());
    Failure::new(405, "method-not-allowed", detail)
}

/// Makes problems of what axum answers by itself.
async fn finish(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == api::PROBLEM_TYPE);
    if is_error && !is_problem {
        let detail = status.canonical_reason().unwrap_or("the request failed");
        let problem = Failure::new(status.as_u16(), slug(status), format!("{detail}: {path}"));
        return problem.into_response();
    }
    response
}

fn slug(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "no-such-route",
        StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
        _ => "bad-request",
    }
}
