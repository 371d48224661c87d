//! Kinds that take rows into a table.
use secrecy::SecretString;

use crate::address::Address;
use crate::headers::HeaderRules;
use crate::issue::Fault;
use crate::schema::{Shape, base_url, flag, text, token};

config! {
    /// ClickHouse over its HTTP interface.
    pub struct ClickhouseConfig {
        /// HTTP address with scheme and port, e.g. `https://x.clickhouse.cloud:8443`.
        pub host: String = text("host").check(is_clickhouse_host),
        /// Database.
        pub database: String = text("database"),
        /// User name.
        pub username: String = text("username"),
        /// Password.
        pub password: SecretString = text("password").secret(),
        /// Table.
        pub table: String = text("table").default("OPENROUTER_TRACES"),
        /// Fill the column of cache write tokens (schema version 2).
        pub should_include_cache_write_tokens: bool = flag("shouldIncludeCacheWriteTokens"),
    }
}

fn is_clickhouse_host(host: &str) -> Result<(), Fault> {
    if !host.contains("://") && clickhouse_scheme(host).is_none() {
        return Err(Fault::new("must be an http address with scheme and port")
            .hint("write e.g. https://x.clickhouse.cloud:8443 or http://host:8123"));
    }
    Address::Base.check(&clickhouse_url(host))
}

/// The scheme a port stands for, if a host comes without one.
fn clickhouse_scheme(host: &str) -> Option<&'static str> {
    match host.trim_end_matches('/').rsplit_once(':')?.1 {
        "8443" => Some("https"),
        "8123" => Some("http"),
        _ => None,
    }
}

fn clickhouse_url(host: &str) -> String {
    let host = host.trim_end_matches('/');
    match clickhouse_scheme(host) {
        Some(scheme) if !host.contains("://") => format!("{scheme}://{host}"),
        _ => host.to_owned(),
    }
}

impl ClickhouseConfig {
    /// The address of the HTTP interface, with scheme and without trailing slash.
    pub fn url(&self) -> String {
        clickhouse_url(&self.host)
    }
}

impl Shape for ClickhouseConfig {
    const HEADERS: HeaderRules =
        HeaderRules::own(&["authorization", "x-clickhouse-key", "x-clickhouse-user"]);

    fn target_url(&self) -> Option<String> {
        Some(self.url())
    }
}

config! {
    /// Snowflake SQL API.
    pub struct SnowflakeConfig {
        /// Account identifier, e.g. `abc12345.us-east-1` or `org-account`.
        pub account: String = text("account").check(is_account),
        /// Programmatic access token.
        pub token: SecretString = token("token"),
        /// Database.
        pub database: String = text("database").default("SNOWFLAKE_LEARNING_DB"),
        /// Schema.
        pub schema: String = text("schema").default("PUBLIC"),
        /// Table.
        pub table: String = text("table").default("OPENROUTER_TRACES"),
        /// Warehouse.
        pub warehouse: String = text("warehouse").default("COMPUTE_WH"),
        /// Fill the column of cache write tokens (schema version 2).
        pub should_include_cache_write_tokens: bool = flag("shouldIncludeCacheWriteTokens"),
        /// Base URL, if it does not follow from the account (proxy, private link; ours, additive).
        pub base_url: Option<String> = base_url("baseUrl").optional(),
    }
}

/// `^[a-zA-Z0-9_]+(?:[.-][a-zA-Z0-9_]+)*$`, at most 255 characters.
fn is_account(account: &str) -> Result<(), Fault> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if account.len() <= 255 && account.split(['.', '-']).all(is_word) {
        return Ok(());
    }
    Err(Fault::new("is not an account identifier: words of letters, digits and _ joined by . or -")
        .hint("write only the account, e.g. abc12345.us-east-1, not the url"))
}

impl SnowflakeConfig {
    /// The base URL of the account, without trailing slash.
    pub fn url(&self) -> String {
        match &self.base_url {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => {
                let account = self.account.to_ascii_lowercase();
                // Underscores are legal in account names, not in host names.
                let host = account.trim_end_matches(".snowflakecomputing.com").replace('_', "-");
                format!("https://{host}.snowflakecomputing.com")
            }
        }
    }
}

impl Shape for SnowflakeConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization", "x-snowflake-authorization-token-type"]);

    fn target_url(&self) -> Option<String> {
        Some(self.url())
    }
}
