//! The API as one table: each call with its handler and with what it takes and answers. The router and the OpenAPI document are
//! both made from it, so that a call that is served is described.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use serde_json::{Value, json};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::App;
use super::problem::{self, Kind};

const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";
/// The name of the schema of problems.
const PROBLEM: &str = "Problem";

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Who may make a call.
#[derive(Clone, Copy)]
enum Who {
    Anyone,
    Buyer,
    Admin,
    BuyerOrAdmin,
}

/// One answer that is no problem.
struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, RefOr<Schema>)>,
}

/// What a call takes and answers.
pub(super) struct Call {
    tag: &'static str,
    summary: &'static str,
    who: Who,
    operation: OperationBuilder,
    schemas: Schemas,
    answers: Vec<Answer>,
    problems: Vec<&'static Kind>,
}

impl Call {
    /// A call that anyone may make; `tag` groups it with others.
    pub(super) fn new(tag: &'static str, summary: &'static str) -> Self {
        Self {
            tag,
            summary,
            who: Who::Anyone,
            operation: OperationBuilder::new(),
            schemas: Vec::new(),
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// For buyers with their token.
    pub(super) fn buyer(self) -> Self {
        Self { who: Who::Buyer, ..self }.problems(&[&problem::UNAUTHENTICATED, &problem::RATE_LIMITED])
    }

    /// For admins.
    pub(super) fn admin(self) -> Self {
        Self { who: Who::Admin, ..self }.problems(&[&problem::UNAUTHENTICATED, &problem::MISSING_SCOPE])
    }

    /// For the order's buyer, and for admins.
    pub(super) fn buyer_or_admin(self) -> Self {
        Self { who: Who::BuyerOrAdmin, ..self }.problems(&[
            &problem::UNAUTHENTICATED,
            &problem::MISSING_SCOPE,
            &problem::RATE_LIMITED,
        ])
    }

    /// With `{name}` in its path.
    pub(super) fn path<T: ToSchema>(self, name: &str, description: &str) -> Self {
        self.parameter(ParameterIn::Path, Required::True, name, description, T::schema())
            .problems(&[&problem::NOT_FOUND])
    }

    /// With a UUID in its path.
    pub(super) fn uuid(self, name: &str, description: &str) -> Self {
        let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
        let uuid =
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).format(Some(format)).build();
        self.parameter(ParameterIn::Path, Required::True, name, description, uuid.into())
            .problems(&[&problem::NOT_FOUND])
    }

    /// With `?name=` in its query, which may be left out.
    pub(super) fn query<T: ToSchema>(self, name: &str, description: &str) -> Self {
        self.parameter(ParameterIn::Query, Required::False, name, description, T::schema())
            .problems(&[&problem::INVALID])
    }

    /// With a header that must be sent and fits `pattern`.
    pub(super) fn header(self, name: &str, pattern: &str, description: &str) -> Self {
        let text =
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).pattern(Some(pattern)).build();
        self.parameter(ParameterIn::Header, Required::True, name, description, text.into())
            .problems(&[&problem::MALFORMED])
    }

    /// With a header that may be left out, and else fits `pattern`.
    pub(super) fn optional_header(self, name: &str, pattern: &str, description: &str) -> Self {
        let text =
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).pattern(Some(pattern)).build();
        self.parameter(ParameterIn::Header, Required::False, name, description, text.into())
            .problems(&[&problem::MALFORMED])
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        required: Required,
        name: &str,
        description: &str,
        schema: RefOr<Schema>,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(description))
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// With a JSON body.
    pub(super) fn body<T: ToSchema>(self) -> Self {
        self.json_body::<T>(Required::True)
    }

    /// With a JSON body that may be left out.
    pub(super) fn optional_body<T: ToSchema>(self) -> Self {
        self.json_body::<T>(Required::False)
    }

    fn json_body<T: ToSchema>(mut self, required: Required) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(required)).build();
        self.operation = self.operation.request_body(Some(body));
        self.problems(&[
            &problem::MALFORMED,
            &problem::BODY_TOO_SLOW,
            &problem::TOO_LARGE,
            &problem::MEDIA_TYPE,
            &problem::INVALID,
        ])
    }

    /// Answers with JSON.
    pub(super) fn answers<T: ToSchema>(mut self, status: u16, description: &'static str) -> Self {
        let content = Some((JSON, self.reference::<T>()));
        self.answers.push(Answer { status, description, content });
        self
    }

    /// Answers with a text of this media type.
    pub(super) fn answers_text(
        mut self,
        status: u16,
        media_type: &'static str,
        description: &'static str,
    ) -> Self {
        let content = Some((media_type, String::schema()));
        self.answers.push(Answer { status, description, content });
        self
    }

    /// Answers without a body.
    pub(super) fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None });
        self
    }

    /// May be refused with these problems.
    pub(super) fn problems(mut self, kinds: &[&'static Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        Ref::from_schema_name(name).into()
    }

    /// Its operation, and the schemas that it names.
    fn describe(self) -> (OperationBuilder, Schemas) {
        let mut operation = self.operation.tag(self.tag).summary(Some(self.summary));
        for security in match self.who {
            Who::Anyone => &[][..],
            Who::Buyer => &["buyer"],
            Who::Admin => &["admin"],
            Who::BuyerOrAdmin => &["buyer", "admin"],
        } {
            operation = operation.security(SecurityRequirement::new(*security, [""; 0]));
        }
        for Answer { status, description, content } in self.answers {
            let mut response = ResponseBuilder::new().description(description);
            if let Some((media_type, schema)) = content {
                response = response.content(media_type, ContentBuilder::new().schema(Some(schema)).build());
            }
            operation = operation.response(status.to_string(), response);
        }
        let mut by_status: BTreeMap<u16, BTreeMap<&str, &Kind>> = BTreeMap::new();
        for kind in self.problems {
            by_status.entry(kind.status).or_default().insert(kind.slug, kind);
        }
        for (status, kinds) in by_status {
            operation = operation.response(status.to_string(), problems(kinds.values().copied()));
        }
        (operation, self.schemas)
    }
}

/// The answer with one of these problems, which have one status, and an example of each.
fn problems<'a>(kinds: impl Iterator<Item = &'a Kind> + Clone) -> ResponseBuilder {
    let titles: Vec<_> = kinds.clone().map(|kind| format!("`{}`: {}", kind.slug, kind.title)).collect();
    let examples = kinds.map(|kind| {
        let example = ExampleBuilder::new().summary(kind.title).value(Some(problem::example(kind))).build();
        (kind.slug, RefOr::T(example))
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(PROBLEM)))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new().description(titles.join("; ")).content(PROBLEM_JSON, content)
}

/// A problem of RFC 9457, as every refusal is.
fn problem_schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
    let number = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build();
    let slugs: Vec<Value> =
        problem::KINDS.iter().map(|kind| json!(format!("/problems/{}", kind.slug))).collect();
    let kind =
        ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(slugs)).build();
    ObjectBuilder::new()
        .description(Some("A refusal (RFC 9457). A GET of its `type` says what to do; `request_id` is in the gateway's log."))
        .property("type", kind)
        .required("type")
        .property("title", text())
        .required("title")
        .property("status", number())
        .required("status")
        .property("detail", text())
        .required("detail")
        .property("request_id", text())
        .build()
        .into()
}

/// What the table becomes.
pub(super) struct Calls {
    /// The calls of buyers, and those of anyone.
    pub(super) buyers: Routes,
    /// The calls that want an admin token.
    pub(super) admins: Routes,
    pub(super) document: OpenApi,
}

/// Some of the calls.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) router: Router<Arc<App>>,
    /// Their paths, each once or for each of its methods.
    pub(super) paths: Vec<&'static str>,
}

impl Routes {
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        Self { router: self.router.merge(other.router), ..self }
    }
}

/// The calls of the API.
pub(super) struct Contract {
    buyers: Routes,
    admins: Routes,
    paths: PathsBuilder,
    schemas: BTreeMap<String, RefOr<Schema>>,
}

impl Contract {
    pub(super) fn new() -> Self {
        let schemas = BTreeMap::from([(PROBLEM.to_owned(), problem_schema().into())]);
        Self { buyers: Routes::default(), admins: Routes::default(), paths: PathsBuilder::new(), schemas }
    }

    pub(super) fn get<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        self.on(MethodFilter::GET, HttpMethod::Get, path, handler, call)
    }

    pub(super) fn post<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        self.on(MethodFilter::POST, HttpMethod::Post, path, handler, call)
    }

    pub(super) fn put<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        self.on(MethodFilter::PUT, HttpMethod::Put, path, handler, call)
    }

    pub(super) fn patch<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        self.on(MethodFilter::PATCH, HttpMethod::Patch, path, handler, call)
    }

    pub(super) fn delete<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        self.on(MethodFilter::DELETE, HttpMethod::Delete, path, handler, call)
    }

    fn on<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        filter: MethodFilter,
        method: HttpMethod,
        path: &'static str,
        handler: H,
        call: Call,
    ) -> Self {
        // Whatever is asked for, a crowd may be refused.
        let call = call.problems(&[&problem::RATE_LIMITED, &problem::OVERLOADED]);
        let of = if matches!(call.who, Who::Admin) { &mut self.admins } else { &mut self.buyers };
        of.router = std::mem::take(&mut of.router).route(path, on(filter, handler));
        of.paths.push(path);
        self.describe(method, path, call)
    }

    /// Describes a call that another router serves.
    pub(super) fn describe(mut self, method: HttpMethod, path: &str, call: Call) -> Self {
        let (operation, schemas) = call.describe();
        self.schemas.extend(schemas);
        let paths = self.paths.path(path, PathItem::new(method, operation));
        Self { paths, ..self }
    }

    /// The routers, and the document about them.
    pub(super) fn finish(self) -> Calls {
        let bearer = |description| {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(description);
            SecurityScheme::Http(scheme)
        };
        let components = ComponentsBuilder::new()
            .schemas_from_iter(self.schemas)
            .security_scheme("buyer", bearer("A JSON Web Token whose `sub` is the user id.".to_owned()))
            .security_scheme("admin", bearer("An admin token.".to_owned()))
            .build();
        let info = InfoBuilder::new()
            .title("seckill")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(env!("CARGO_PKG_DESCRIPTION")))
            .build();
        let document =
            OpenApiBuilder::new().info(info).paths(self.paths).components(Some(components)).build();
        Calls { buyers: self.buyers, admins: self.admins, document }
    }
}
