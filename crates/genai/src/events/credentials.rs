//! Fields that look like credentials: never stored, only counted.

use serde_json::Value;

/// True if a field of that name must not be kept.
pub(super) fn is_credential(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    // `api_key_hash` and `api_key_name` identify a key without being one.
    let names_key = name.contains("api_key") || name.contains("apikey");
    let is_named = names_key && !name.ends_with("_hash") && !name.ends_with("_name");
    let is_token = name == "token" || name.ends_with("_token") || name.ends_with("accesstoken");
    let is_header = name == "headers" || name.ends_with("_headers");
    is_named
        || is_header
        || name.contains("secret")
        || name.contains("password")
        || matches!(
            name.as_str(),
            "authorization" | "proxy_authorization" | "cookie" | "cookies" | "set_cookie" | "credentials" | "private_key"
        )
        // `cost_per_token: 0.1` is a figure.
        || (is_token && !matches!(value, Value::Number(_) | Value::Bool(_)))
}

/// Removes credential-looking fields at every depth; how many there were.
pub(super) fn scrub(value: &mut Value) -> u32 {
    match value {
        Value::Object(object) => {
            let before = object.len();
            object.retain(|name, value| !is_credential(name, value));
            let removed = u32::try_from(before - object.len()).unwrap_or(u32::MAX);
            object.values_mut().map(scrub).fold(removed, u32::saturating_add)
        }
        Value::Array(items) => items.iter_mut().map(scrub).fold(0, u32::saturating_add),
        _ => 0,
    }
}
