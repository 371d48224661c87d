//! What a destination is, where its traffic comes from, and who manages it.

wire_enum! {
    /// The kind of a destination: the `type` of the API.
    pub enum Kind {
        /// Arize AX.
        Arize = "arize",
        /// Braintrust.
        Braintrust = "braintrust",
        /// ClickHouse over its HTTP interface.
        Clickhouse = "clickhouse",
        /// Datadog LLM Observability.
        Datadog = "datadog",
        /// Grafana Cloud, OTLP gateway.
        Grafana = "grafana",
        /// Langfuse, cloud or self-hosted.
        Langfuse = "langfuse",
        /// LangSmith.
        Langsmith = "langsmith",
        /// New Relic, OTLP.
        Newrelic = "newrelic",
        /// Opik by Comet.
        Opik = "opik",
        /// Any OTLP/HTTP receiver.
        OtelCollector = "otel-collector",
        /// PostHog.
        Posthog = "posthog",
        /// Ramp AI usage.
        Ramp = "ramp",
        /// S3 and compatible object stores.
        S3 = "s3",
        /// Sentry, OTLP.
        Sentry = "sentry",
        /// Snowflake SQL API.
        Snowflake = "snowflake",
        /// W&B Weave.
        Weave = "weave",
        /// Any HTTP endpoint, OTLP JSON.
        Webhook = "webhook",
    }
}

wire_enum! {
    /// Where a request was served. `eu` is accepted as `europe`.
    pub enum Region {
        /// No region named.
        Global = "global",
        /// Served in Europe.
        Europe = "europe" | "eu",
        /// Served in the United States.
        Us = "us",
    }
}

wire_enum! {
    /// Who may change a destination.
    pub enum ManagedBy {
        /// Created and changed through the control API.
        Api = "api",
        /// Declared in the config file; read-only in the API.
        File = "file",
    }
}
