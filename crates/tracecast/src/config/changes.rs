//! What a changed config file can change in a running gateway, and what it cannot.

use super::Config;

impl Config {
    /// The settings that differ in `new` and take effect only at a restart: everything but destinations and keys.
    pub(crate) fn restart_needed(&self, new: &Config) -> Vec<&'static str> {
        let texts = |config: &Config| {
            [
                ("ingest.http", config.ingest_http.to_string()),
                ("ingest.grpc", config.ingest_grpc.to_string()),
                ("ingest.auth", format!("{:?}", config.auth)),
                ("ingest.region", config.region.as_str().to_owned()),
                ("ingest.media", format!("{:?}", config.media)),
                ("ingest.service_name", config.service_name.clone()),
                ("admin.listen", config.admin.to_string()),
                ("data_dir", config.data_dir.display().to_string()),
                ("log.durability", format!("{:?}", config.durability)),
                ("log.max_bytes", config.log_max_bytes.to_string()),
                ("log.max_age", format!("{:?}", config.log_max_age)),
                ("log.on_full", format!("{:?}", config.log_on_full)),
                ("log.retain", format!("{:?}", config.log_retain)),
                ("limits.body_bytes", config.body_bytes.to_string()),
                ("limits.inflated_body_bytes", config.inflated_body_bytes.to_string()),
                ("limits.workspace_bytes_per_second", format!("{:?}", config.workspace_bytes_per_second)),
                ("limits.workspace_connections", format!("{:?}", config.workspace_connections)),
                ("limits.memory_bytes", config.memory_bytes.to_string()),
                ("limits.destinations_per_kind", config.destinations_per_kind.to_string()),
                ("outbound", format!("{:?}", config.outbound)),
                ("telemetry.otlp", format!("{:?}", config.telemetry_otlp)),
            ]
        };
        let pairs = texts(self).into_iter().zip(texts(new));
        pairs.filter(|(old, new)| old.1 != new.1).map(|((key, _), _)| key).collect()
    }
}
