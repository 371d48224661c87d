//! Which errors an operation can answer, and their one shape.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

/// Status, name of the component, when, and a text as it is answered.
const ERRORS: [(u16, &str, &str, &str); 9] = [
    (
        400,
        "BadRequest",
        "The request is not valid; `metadata.issues` has each mistake.",
        "Invalid request parameters: name: is required",
    ),
    (
        401,
        "Unauthorized",
        "No key, or one that is unknown, disabled or expired.",
        "Missing Authentication header",
    ),
    (403, "Forbidden", "A key that may not do this.", "Only management keys can perform this operation"),
    (404, "NotFound", "There is no such thing.", "Resource not found"),
    (
        408,
        "RequestTimeout",
        "The body did not arrive in time.",
        "the request body did not arrive within 30 s",
    ),
    (
        409,
        "Conflict",
        "Something else stands against it: a limit, the config file, another write.",
        "Resource conflict. Please try again later.",
    ),
    (413, "PayloadTooLarge", "The body is too large.", "the request body is larger than 1048576 bytes"),
    (
        500,
        "InternalServerError",
        "A mistake of the gateway; nothing is known to have been changed.",
        "Internal Server Error",
    ),
    (
        503,
        "ServiceUnavailable",
        "Not possible at the moment, and nothing was changed; repeat it.",
        "the control store cannot be used at the moment, nothing was changed: database is locked",
    ),
];

macro_rules! error_sets {
    ($($(#[$about:meta])* $name:ident: $($status:literal)*;)*) => {$(
        $(#[$about])*
        pub(crate) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                references(&[$($status),*])
            }
        }
    )*};
}

error_sets! {
    /// Lists.
    ListErrors: 400 401 403 500;
    /// One object.
    ReadErrors: 401 403 404 500;
    /// Creates.
    CreateErrors: 400 401 403 408 409 413 500 503;
    /// Updates.
    UpdateErrors: 400 401 403 404 408 409 413 500 503;
    /// Deletes.
    DeleteErrors: 400 401 403 404 409 500 503;
    /// Pause and resume.
    ActionErrors: 401 403 404 409 500 503;
    /// The test of a stored destination.
    TestErrors: 401 403 404 500;
    /// What takes a create body and stores nothing.
    TestBodyErrors: 400 401 403 408 413 500;
    /// The preview, which takes the id of a destination in its body.
    PreviewErrors: 400 401 403 404 408 413 500;
    /// Lists of what belongs to one destination.
    LettersErrors: 400 401 403 404 500;
    /// What removes dead letters.
    ReplayErrors: 400 401 403 404 500 503;
    /// What sends again.
    BackfillErrors: 400 401 403 404 408 413 500 503;
    /// The tail.
    TailErrors: 400 401 403 404 500 503;
    /// `GET /key`.
    OwnKeyErrors: 401 500;
    /// The audit log, which is read from the store.
    AuditErrors: 400 401 403 500 503;
    /// `GET /readyz`.
    NotReady: 503;
}

fn references(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    ERRORS
        .iter()
        .filter(|(status, ..)| statuses.contains(status))
        .map(|(status, name, ..)| (status.to_string(), RefOr::Ref(Ref::from_response_name(*name))))
        .collect()
}

/// `components.responses`.
pub(super) fn components() -> Json {
    let responses: Map<String, Json> = ERRORS
        .iter()
        .map(|(status, name, description, message)| {
            let example = json!({ "error": { "code": status, "message": message, "metadata": null } });
            let mut response = json!({
                "description": description,
                "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Error" },
                    "example": example,
                } },
            });
            if *status == 503 {
                response["headers"] = json!({
                    "retry-after": { "description": "Seconds.", "schema": { "type": "integer", "minimum": 0 } },
                });
            }
            ((*name).to_owned(), response)
        })
        .collect();
    Json::Object(responses)
}
