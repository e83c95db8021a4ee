//! The OpenAPI document: what all routes share is added here, the rest comes from the handlers.

use http::Method;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, InfoBuilder, LicenseBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
};

use crate::error::Code;
use crate::idempotency::{self, KEY_CHARACTERS_MAX};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::router::Access;

const DESCRIPTION: &str = "\
Lookout reads blockchains through several upstreams, checks what they say, and tells how far each \
answer can be trusted.

**Start** with `GET /v1/chains`, then `GET /v1/chains/{chain}/head`. Point any Ethereum library at \
`/v1/rpc/{chain}`.

**Chains** are named by their configured name (`ethereum`), their id (`1`) or their CAIP-2 id \
(`eip155:1`).

**Amounts** are decimal strings in the smallest unit (wei), times RFC 3339 in UTC.

**Provenance.** Every answer about a chain names its block, the level of trust (`single`, \
`quorum`, `proof`) and the upstream: in the body under `/v1`, in `lookout-*` headers elsewhere.

**Repeats.** Every write under `/v1` but JSON-RPC takes an `Idempotency-Key`: sent again with the \
same key, the same request is not done again but answered as before.

**Problems** are `application/problem+json` (RFC 9457) with a stable `code`.

**Credentials.** Send `Authorization: Bearer lk_…` or `x-api-key: lk_…`. While no key exists the \
server listens on loopback only and needs none.";

const TAGS: &[(&str, &str)] = &[
    ("compatible", "Routes in the shapes that existing clients of block and balance services read"),
    ("chains", "Blocks, transactions and balances, with provenance"),
    ("events", "Events and transfers of followed chains, ABIs, and the live stream"),
    ("rpc", "Ethereum JSON-RPC, as a node answers it"),
    ("rules", "What to watch: rules, labels, trying them out"),
    ("alerts", "What rules found"),
    ("channels", "Where alerts go, how they got there, and when they are held back"),
    ("jobs", "Scheduled jobs, of which every tick gets exactly one run"),
    ("keys", "API keys, tenants and the audit log"),
    ("operation", "Probes, metrics, pages and this document"),
];

/// Problems that need no more than a status and a word.
const SHARED: [(u16, &str); 14] = [
    (400, "The request is wrong; `detail` says what and `code` which kind"),
    (401, "No credentials, or wrong ones"),
    (403, "The credentials lack a scope, which `detail` names"),
    (404, "No such thing; for a chain, `detail` lists the known ones"),
    (405, "The route does not take this method; `Allow` lists what it takes"),
    (409, "What is there already stands against it"),
    (413, "The body or the batch is above its limit, which `detail` names"),
    (414, "The URL is longer than 8192 bytes"),
    (421, "No API key exists yet, and the request was not sent to a loopback host"),
    (422, "The `Idempotency-Key` was sent with another request before"),
    (429, "A rate limit; `Retry-After` says when to come back"),
    (500, "A defect of the server, logged under `requestId`"),
    (503, "A part of the server is not ready; `Retry-After` says when to try again"),
    (504, "The chain did not answer in time"),
];

/// The document without paths.
pub(crate) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Lookout")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0 OR MIT")
                .identifier(Some("Apache-2.0 OR MIT"))
                .build(),
        ));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key (`lk_…`), or an access token of the configured issuer"))
        .build();
    let header = ApiKeyValue::with_description("x-api-key", "An API key (`lk_…`)");
    let mut components = ComponentsBuilder::new()
        .schema("Problem", Problem::schema())
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(header)));
    for (status, description) in SHARED {
        components = components.response(component(status), problem(status, description));
    }
    let tags = TAGS
        .iter()
        .map(|&(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components.build()))
        .tags(Some(tags))
        .build()
}

fn component(status: u16) -> String {
    format!("Problem{status}")
}

fn problem(status: u16, description: &str) -> utoipa::openapi::Response {
    let codes: Vec<&str> = Code::ALL
        .iter()
        .filter(|code| code.status().as_u16() == status)
        .map(|code| code.name())
        .collect();
    let text = format!("{description}. Codes: `{}`.", codes.join("`, `"));
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let integer = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    let text_schema = || ObjectBuilder::new().schema_type(Type::String).build();
    let mut response = ResponseBuilder::new().description(text).content(PROBLEM_JSON, content);
    if matches!(status, 409 | 429 | 503) {
        let header = HeaderBuilder::new()
            .schema(Some(integer()))
            .description(Some("Seconds after which to try again"));
        response = response.header("Retry-After", header.build());
    }
    let header = match status {
        401 => Some(("WWW-Authenticate", "The challenge (RFC 6750)")),
        405 => Some(("Allow", "The methods that the route takes")),
        _ => None,
    };
    if let Some((name, text)) = header {
        let header = HeaderBuilder::new().schema(Some(text_schema())).description(Some(text));
        response = response.header(name, header.build());
    }
    response.build()
}

/// The operations of a path, by method.
pub(crate) fn operations_of(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn all_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
    all.into_iter().flatten()
}

fn key_parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(KEY_CHARACTERS_MAX))
        .pattern(Some("^[ -~]+$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A name of your own for this request, such as a UUID. The same request sent again with \
             it within 24 hours is not done again: it gets the first answer, with \
             `idempotency-replayed: true`. 409 while the first is under way (`Retry-After`), when \
             its answer was secret or too long to be kept, or when a stop of the server left open \
             whether it took effect; 422 for another request under the same key. Server errors are \
             not kept: send the request again",
        ))
        .schema(Some(schema.build()))
        .build()
}

/// Adds what a route of this kind can always answer, and what it asks of its callers.
pub(crate) fn complete(item: &mut PathItem, path: &str, access: Access, waits: bool) {
    let taking_bodies = item.post.is_some() || item.put.is_some();
    if idempotency::is_taken_by(path) {
        for operation in [&mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            operation.parameters.get_or_insert_default().push(RefOr::T(key_parameter()));
            for status in [409, 422] {
                let of = operation.responses.responses.entry(status.to_string());
                of.or_insert_with(|| RefOr::Ref(Ref::from_response_name(component(status))));
            }
        }
    }
    for operation in all_of(item) {
        let mut statuses = vec![405, 500];
        if access != Access::Page {
            statuses.push(400);
        }
        if access != Access::Probe {
            statuses.extend([414, 429]);
        }
        if matches!(access, Access::Scope(_) | Access::Caller) {
            statuses.extend([401, 403, 421, 503]);
            operation.security = Some(vec![
                SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []),
                SecurityRequirement::new::<_, [&str; 0], &str>("apiKey", []),
                // While there is no key, or for anonymous callers where they are let in.
                SecurityRequirement::default(),
            ]);
        }
        if let Access::Scope(scope) = access {
            let text = operation.description.take().unwrap_or_default();
            operation.description = Some(format!("{text}\n\nNeeds scope `{scope}`."));
        }
        // A path parameter may name what is not there; without chains nothing is.
        if path.contains('{') || path.starts_with("/block") {
            statuses.push(404);
        }
        if waits {
            statuses.push(504);
        }
        if taking_bodies {
            statuses.push(413);
        }
        for status in statuses {
            let of = operation.responses.responses.entry(status.to_string());
            of.or_insert_with(|| RefOr::Ref(Ref::from_response_name(component(status))));
        }
    }
}

/// The last touches, over all paths.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    // A job is answered as its request and more, which a closed schema would not allow.
    if let Some(RefOr::T(Schema::Object(request))) =
        schemas.and_then(|schemas| schemas.get_mut("JobRequest"))
    {
        request.additional_properties = None;
    }
    let request_id = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .description(Some("The request's id: yours if you sent one, else a new UUIDv7"))
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in all_of(item) {
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    let header = RefOr::T(request_id.clone());
                    response.headers.entry("x-request-id".to_owned()).or_insert(header);
                }
            }
        }
    }
    document
}
