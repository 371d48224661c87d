//! Any HTTP endpoint that takes OTLP JSON.
use jiff::Timestamp;
use secrecy::SecretString;

use crate::address::Address;
use crate::headers::HeaderRules;
use crate::schema::{Shape, choice, former_secrets, token, url};
use crate::signing::{self, FormerSecret};

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
        /// Signs every request after Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes.
        pub signing_secret: Option<SecretString> = token("signingSecret").optional().check(signing::check),
        /// Replaced signing secrets, which go on signing for 24 hours; kept by the gateway.
        pub previous_signing_secrets: Vec<FormerSecret> = former_secrets("previousSigningSecrets"),
    }
}

impl WebhookConfig {
    /// Keeps what is still owed to receivers that know only the secret of the config `before`.
    pub(crate) fn succeed(&mut self, before: &WebhookConfig, now: Timestamp) {
        self.previous_signing_secrets = signing::succeed(
            before.signing_secret.as_ref(),
            &before.previous_signing_secrets,
            self.signing_secret.as_ref(),
            now,
        );
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
