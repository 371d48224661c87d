//! The JSON forms of a destination: the API object, and the two halves that are stored.
use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::config::Config;
use crate::destination::{CreateDefaults, Destination, Settings};
use crate::filter::FilterRules;
use crate::issue::{Fault, Issue, expected};
use crate::kind::{Kind, ManagedBy};
use crate::read::{Reader, choice, string, uuid};
use crate::retry::Retry;

impl Destination {
    /// The API object, secrets masked.
    pub fn to_json(&self) -> Json {
        let millis = |time: Timestamp| format!("{time:.3}");
        Json::Object(self.form(self.config.to_masked(), millis))
    }

    /// For the store: everything but secrets (config included), and the secret config values
    /// apart, to be sealed.
    pub fn to_stored(&self) -> (Json, Json) {
        let (plain, secrets) = self.config.to_stored();
        let exact = |time: Timestamp| time.to_string();
        (Json::Object(self.form(plain, exact)), Json::Object(secrets))
    }

    /// Reverses [`Destination::to_stored`] exactly.
    pub fn from_stored(plain: &Json, secrets: &Json) -> Result<Destination, Vec<Issue>> {
        let mut issues = Vec::new();
        match from_stored(plain, secrets, &mut issues) {
            Some(destination) if issues.is_empty() => Ok(destination),
            _ => Err(issues),
        }
    }

    fn form(&self, config: Map<String, Json>, time: fn(Timestamp) -> String) -> Map<String, Json> {
        let regions: Vec<&str> = self.regions.iter().map(|region| region.as_str()).collect();
        // Not a word where none is set: upstream does not know it.
        let rate_limit = self.rate_limit.map(|limit| ("rate_limit", limit.to_json()));
        let retry = (self.retry != Retry::Backoff).then(|| ("retry", json!(self.retry.as_str())));
        [
            ("id", json!(self.id.to_string())),
            ("type", json!(self.config.kind().as_str())),
            ("name", json!(self.name)),
            ("workspace_id", json!(self.workspace_id.to_string())),
            ("enabled", json!(self.enabled)),
            ("privacy_mode", json!(self.privacy_mode)),
            ("sampling_rate", rate_json(self.sampling_rate)),
            ("api_key_hashes", json!(self.api_key_hashes)),
            ("filter_rules", self.filter_rules.as_ref().map_or(Json::Null, FilterRules::to_json)),
            ("regions", json!(regions)),
            ("broadcast_generation_cost", json!(self.broadcast_generation_cost)),
            ("broadcast_generation_identity", json!(self.broadcast_generation_identity)),
            ("broadcast_generation_request_context", json!(self.broadcast_generation_request_context)),
            ("broadcast_generation_cost_allocation", json!(self.broadcast_generation_cost_allocation)),
            ("config", Json::Object(config)),
            ("managed_by", json!(self.managed_by.as_str())),
            ("created_at", json!(time(self.created_at))),
            ("updated_at", json!(time(self.updated_at))),
        ]
        .into_iter()
        .chain(rate_limit)
        .chain(retry)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// A rate of one is written `1`, as upstream does, not `1.0`.
fn rate_json(rate: f64) -> Json {
    if rate == 1.0 { Json::from(1) } else { Json::from(rate) }
}

fn from_stored(plain: &Json, secrets: &Json, issues: &mut Vec<Issue>) -> Option<Destination> {
    let mut plain = Reader::open(plain, "", issues)?;
    let kind: Option<Kind> = plain.required("type", choice);
    let id = plain.required("id", uuid);
    let workspace_id = plain.required("workspace_id", uuid);
    let managed_by: Option<ManagedBy> = plain.required("managed_by", choice);
    let created_at = plain.required("created_at", timestamp);
    let updated_at = plain.required("updated_at", timestamp);
    let mut settings = Settings::default();
    settings.apply(&mut plain);
    let config = plain.required("config", |config| match (config, secrets) {
        (Json::Object(config), Json::Object(secrets)) => {
            let values = config.iter().chain(secrets);
            Ok(values.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        (Json::Object(_), other) => Err(expected("stored beside an object of secrets", other)),
        (other, _) => Err(expected("an object", other)),
    })?;
    let config = Config::from_stored(kind?, config, plain.issues)?;
    let fixed =
        CreateDefaults { id: id?, workspace_id: workspace_id?, managed_by: managed_by?, now: created_at? };
    Some(Destination { updated_at: updated_at?, ..Destination::assemble(settings, config, fixed) })
}

fn timestamp(json: &Json) -> Result<Timestamp, Fault> {
    string(json)?.parse().map_err(|_| Fault::new("must be an RFC 3339 time"))
}
