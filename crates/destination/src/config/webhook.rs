//! Any HTTP endpoint that takes OTLP JSON.
use crate::address::Address;
use crate::headers::HeaderRules;
use crate::schema::{Shape, choice, url};

wire_enum! {
    /// The method a webhook is called with.
    pub enum WebhookMethod {
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
    }
}

config! {
    /// A webhook.
    pub struct WebhookConfig {
        /// Called as given; user info and query values are treated as secrets.
        pub url: String = url("url", Address::Webhook),
        /// Request method.
        pub method: WebhookMethod = choice::<WebhookMethod>("method").default("POST"),
    }
}

impl Shape for WebhookConfig {
    const HEADERS: HeaderRules =
        HeaderRules::own(&["idempotency-key", "webhook-id", "webhook-signature", "webhook-timestamp"])
            .allow_body();

    fn target_url(&self) -> Option<String> {
        Some(self.url.clone())
    }
}
