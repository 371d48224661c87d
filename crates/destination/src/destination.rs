//! A destination, how one is created, and how one is changed.
use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::config::Config;
use crate::filter::FilterRules;
use crate::issue::{Fault, Issue, quote};
use crate::kind::{Kind, ManagedBy, Region};
use crate::rate_limit::RateLimit;
use crate::read::{Reader, array, choice, flag, string, text, uuid};
use crate::retry::Retry;

/// The one fixed default workspace of every installation.
pub const DEFAULT_WORKSPACE_ID: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_0000_0000_0001);

/// A validated destination. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Public id.
    pub id: Uuid,
    /// Workspace it belongs to; never changes.
    pub workspace_id: Uuid,
    /// Name for people; not unique among API-created destinations.
    pub name: String,
    /// Whether it takes new events.
    pub enabled: bool,
    /// Whether content is withheld from it.
    pub privacy_mode: bool,
    /// Part of the sessions it gets, 0.0001 to 1.
    pub sampling_rate: f64,
    /// Lower-case hex SHA-256 of the keys whose traffic it gets; `None` = all keys.
    pub api_key_hashes: Option<Vec<String>>,
    /// Conditions on events; `None` = no conditions.
    pub filter_rules: Option<FilterRules>,
    /// Regions whose traffic it gets; never empty, no region twice.
    pub regions: Vec<Region>,
    /// How fast it may be sent to; `None` = as fast as it takes it.
    pub rate_limit: Option<RateLimit>,
    /// When a batch that failed is sent again.
    pub retry: Retry,
    /// Send cost metadata of the generation.
    pub broadcast_generation_cost: bool,
    /// Send identity metadata of the generation.
    pub broadcast_generation_identity: bool,
    /// Send request context metadata of the generation.
    pub broadcast_generation_request_context: bool,
    /// Send cost allocation metadata of the generation.
    pub broadcast_generation_cost_allocation: bool,
    /// Where and how events are sent.
    pub config: Config,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a create body does not say.
#[derive(Clone, Debug)]
pub struct CreateDefaults {
    /// The new destination's id. A file destination uses its own `id` if it has one, else
    /// [`file_destination_id`].
    pub id: Uuid,
    /// The workspace if the body names none; for the config file also what a slug stands for.
    pub workspace_id: Uuid,
    /// Where the body comes from. For [`ManagedBy::File`], `id` is taken from the body, a
    /// `workspace_id` may be a slug (resolved by the caller).
    pub managed_by: ManagedBy,
    /// Time of creation.
    pub now: Timestamp,
}

/// The id of a file destination that names none: UUIDv5 of workspace, type and name.
pub fn file_destination_id(workspace: Uuid, kind: Kind, name: &str) -> Uuid {
    Uuid::new_v5(&workspace, format!("{kind}/{name}").as_bytes())
}

/// The external id of an S3 destination that assumes a role: a function of the destination's id,
/// so that it is the same on every replica and never the caller's choice.
pub fn s3_external_id(destination: Uuid) -> String {
    Uuid::new_v5(&destination, b"s3-external-id").to_string()
}

/// The fields that create and PATCH treat alike.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) privacy_mode: bool,
    pub(crate) sampling_rate: f64,
    pub(crate) api_key_hashes: Option<Vec<String>>,
    pub(crate) filter_rules: Option<FilterRules>,
    pub(crate) regions: Vec<Region>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) retry: Retry,
    pub(crate) cost: bool,
    pub(crate) identity: bool,
    pub(crate) request_context: bool,
    pub(crate) cost_allocation: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: String::new(),
            enabled: true,
            privacy_mode: false,
            sampling_rate: 1.0,
            api_key_hashes: None,
            filter_rules: None,
            regions: vec![Region::Global],
            rate_limit: None,
            retry: Retry::Backoff,
            cost: false,
            identity: false,
            request_context: false,
            cost_allocation: false,
        }
    }
}

impl Settings {
    /// Takes over what the body says; the rest keeps its value.
    pub(crate) fn apply(&mut self, body: &mut Reader<'_>) {
        fn set<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(&mut self.name, body.optional("name", text).map(str::to_owned));
        set(&mut self.enabled, body.optional("enabled", flag));
        set(&mut self.privacy_mode, body.optional("privacy_mode", flag));
        set(&mut self.sampling_rate, body.optional("sampling_rate", sampling_rate));
        set(&mut self.cost, body.optional("broadcast_generation_cost", flag));
        set(&mut self.identity, body.optional("broadcast_generation_identity", flag));
        set(&mut self.request_context, body.optional("broadcast_generation_request_context", flag));
        set(&mut self.cost_allocation, body.optional("broadcast_generation_cost_allocation", flag));
        set(&mut self.api_key_hashes, read_key_hashes(body));
        set(&mut self.regions, read_regions(body));
        match body.member("rate_limit") {
            Some(Json::Null) => self.rate_limit = None,
            _ => self.rate_limit = body.optional("rate_limit", RateLimit::read).or(self.rate_limit),
        }
        match body.member("retry") {
            Some(Json::Null) => self.retry = Retry::Backoff,
            _ => set(&mut self.retry, body.optional("retry", choice)),
        }
        match body.member("filter_rules") {
            None => {}
            Some(Json::Null) => self.filter_rules = None,
            Some(rules) => {
                self.filter_rules = FilterRules::read(rules, "filter_rules", body.issues);
            }
        }
    }
}

fn sampling_rate(json: &Json) -> Result<f64, Fault> {
    let rate = json.as_f64().ok_or_else(|| crate::issue::expected("a number", json))?;
    if (0.0001..=1.0).contains(&rate) {
        return Ok(rate);
    }
    let fault = Fault::new(format!("must be from 0.0001 to 1, found {rate}"));
    Err(match rate {
        0.0 => fault.hint("to send nothing, set enabled to false"),
        _ if (1.0..=100.0).contains(&rate) => fault.hint("it is a share, not a percentage"),
        _ => fault,
    })
}

/// `None` = keep, `Some(None)` = all keys.
fn read_key_hashes(body: &mut Reader<'_>) -> Option<Option<Vec<String>>> {
    const KEY: &str = "api_key_hashes";
    if body.member(KEY)?.is_null() {
        return Some(None);
    }
    let items = body.optional(KEY, |json| {
        let items = array(json)?;
        if items.is_empty() {
            return Err(Fault::new("must not be empty").hint("null means all keys"));
        }
        Ok(items)
    })?;
    let mut hashes: Vec<String> = Vec::with_capacity(items.len());
    let mut seen = HashSet::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        match key_hash(item) {
            Ok(hash) if !seen.insert(hash.clone()) => {}
            Ok(hash) => hashes.push(hash),
            Err(fault) => body.refuse(&format!("{KEY}[{i}]"), fault),
        }
    }
    Some(Some(hashes))
}

/// A SHA-256 in hex, lower-cased. What is no hash may be a key, so it is never quoted.
fn key_hash(json: &Json) -> Result<String, Fault> {
    const HEX_DIGITS: usize = 64;
    let hash = string(json)?;
    if hash.len() == HEX_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hash.to_ascii_lowercase());
    }
    let found = hash.chars().count();
    let fault =
        Fault::new(format!("must be a sha-256 of {HEX_DIGITS} hexadecimal digits, found {found} characters"));
    let looks_like_key = hash.contains("sk-") || hash.starts_with("Bearer ");
    Err(match looks_like_key {
        true => fault.hint(
            "this looks like a key: give its hash, the `hash` of the keys API \
             or printf %s \"$KEY\" | sha256sum",
        ),
        false => fault.hint("give the `hash` of the keys API"),
    })
}

fn read_regions(body: &mut Reader<'_>) -> Option<Vec<Region>> {
    const KEY: &str = "regions";
    let items = body.optional(KEY, |json| {
        let items = array(json)?;
        if items.is_empty() {
            return Err(Fault::new("must not be empty").hint("leave it out for [\"global\"]"));
        }
        Ok(items)
    })?;
    let mut regions = Vec::with_capacity(Region::ALL.len());
    for (i, item) in items.iter().enumerate() {
        match choice(item) {
            Ok(region) if regions.contains(&region) => {}
            Ok(region) => regions.push(region),
            Err(fault) => body.refuse(&format!("{KEY}[{i}]"), fault),
        }
    }
    Some(regions)
}

impl Destination {
    /// A create body (API or config file) validated as a whole: every problem at once.
    /// The caller supplies what the body cannot decide. Unknown fields beside `config` are ignored,
    /// so that clients newer than this gateway work.
    pub fn create(body: &Json, defaults: CreateDefaults) -> Result<Destination, Vec<Issue>> {
        let mut issues = Vec::new();
        match create(body, defaults, &mut issues) {
            Some(destination) if issues.is_empty() => Ok(destination),
            _ => Err(issues),
        }
    }

    /// PATCH: absent keeps, null clears where allowed, config merges per key, masked secrets are
    /// ignored. The read-only fields of a whole GET body are ignored, except that another `id`,
    /// `type` or `workspace_id` is an issue. Sets `updated_at` to `now`.
    pub fn patch(&self, body: &Json, now: Timestamp) -> Result<Destination, Vec<Issue>> {
        let mut issues = Vec::new();
        match self.patched(body, now, &mut issues) {
            Some(destination) if issues.is_empty() => Ok(destination),
            _ => Err(issues),
        }
    }

    fn patched(&self, body: &Json, now: Timestamp, issues: &mut Vec<Issue>) -> Option<Destination> {
        let mut body = Reader::open(body, "", issues)?;
        body.optional("id", |json| unchanged(uuid(json)?, self.id));
        body.optional("workspace_id", |json| unchanged(uuid(json)?, self.workspace_id));
        body.optional("type", |json| unchanged(choice(json)?, self.config.kind()));
        let mut settings = self.settings();
        settings.apply(&mut body);
        let config = match body.member("config") {
            None => self.config.clone(),
            Some(config) => self.config.patch(config, self.id, body.issues)?,
        };
        let mut patched = Destination {
            updated_at: now,
            ..Destination::assemble(
                settings,
                config,
                CreateDefaults {
                    id: self.id,
                    workspace_id: self.workspace_id,
                    managed_by: self.managed_by,
                    now: self.created_at,
                },
            )
        };
        patched.succeed(self, now);
        Some(patched)
    }

    /// Takes over from `before`, the same destination until now, what the gateway keeps over a
    /// change: the signing secrets that were replaced. PATCH does it; a destination read anew
    /// from the config file needs it.
    pub fn succeed(&mut self, before: &Destination, now: Timestamp) {
        self.config.succeed(&before.config, now);
    }

    fn settings(&self) -> Settings {
        Settings {
            name: self.name.clone(),
            enabled: self.enabled,
            privacy_mode: self.privacy_mode,
            sampling_rate: self.sampling_rate,
            api_key_hashes: self.api_key_hashes.clone(),
            filter_rules: self.filter_rules.clone(),
            regions: self.regions.clone(),
            rate_limit: self.rate_limit,
            retry: self.retry,
            cost: self.broadcast_generation_cost,
            identity: self.broadcast_generation_identity,
            request_context: self.broadcast_generation_request_context,
            cost_allocation: self.broadcast_generation_cost_allocation,
        }
    }

    pub(crate) fn assemble(settings: Settings, config: Config, fixed: CreateDefaults) -> Destination {
        Destination {
            id: fixed.id,
            workspace_id: fixed.workspace_id,
            name: settings.name,
            enabled: settings.enabled,
            privacy_mode: settings.privacy_mode,
            sampling_rate: settings.sampling_rate,
            api_key_hashes: settings.api_key_hashes,
            filter_rules: settings.filter_rules,
            regions: settings.regions,
            rate_limit: settings.rate_limit,
            retry: settings.retry,
            broadcast_generation_cost: settings.cost,
            broadcast_generation_identity: settings.identity,
            broadcast_generation_request_context: settings.request_context,
            broadcast_generation_cost_allocation: settings.cost_allocation,
            config,
            managed_by: fixed.managed_by,
            created_at: fixed.now,
            updated_at: fixed.now,
        }
    }
}

fn create(body: &Json, mut fixed: CreateDefaults, issues: &mut Vec<Issue>) -> Option<Destination> {
    let mut body = Reader::open(body, "", issues)?;
    let from_file = fixed.managed_by == ManagedBy::File;
    let kind: Option<Kind> = body.required("type", choice);
    let mut settings = Settings::default();
    settings.apply(&mut body);
    if body.member("name").is_none() {
        body.refuse("name", Fault::required());
    }
    let workspace = body.optional("workspace_id", |json| match uuid(json) {
        Err(_) if from_file => text(json).map(|_slug| fixed.workspace_id),
        read => read,
    });
    fixed.workspace_id = workspace.unwrap_or(fixed.workspace_id);
    if from_file {
        if body.member("id").is_some() {
            fixed.id = body.optional("id", uuid).unwrap_or(fixed.id);
        } else if let Some(kind) = kind {
            fixed.id = file_destination_id(fixed.workspace_id, kind, &settings.name);
        }
    }
    let Some(config) = body.member("config") else {
        body.refuse("config", Fault::required());
        return None;
    };
    let config = Config::create(kind?, config, fixed.id, body.issues)?;
    Some(Destination::assemble(settings, config, fixed))
}

/// A read-only field may be sent back as it was.
fn unchanged<T: PartialEq + std::fmt::Display>(given: T, current: T) -> Result<(), Fault> {
    if given == current {
        return Ok(());
    }
    let message =
        format!("cannot be changed from {} to {}", quote(&current.to_string()), quote(&given.to_string()));
    Err(Fault::new(message).hint("leave it out, or create another destination"))
}
