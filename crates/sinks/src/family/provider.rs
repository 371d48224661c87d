//! Who served a call, in the words of vendors that know providers by names of their own.

use tracecast_genai::Generation;

/// A provider as a span names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provider<'a> {
    given: &'a str,
    known: Option<&'static Known>,
}

#[derive(Debug)]
struct Known {
    /// OpenTelemetry, OpenRouter, Vercel, LiteLLM; in lower case.
    spellings: &'static [&'static str],
    openinference_provider: &'static str,
    openinference_system: &'static str,
    opik: &'static str,
}

const fn known(
    spellings: &'static [&'static str],
    openinference: [&'static str; 2],
    opik: &'static str,
) -> Known {
    let [openinference_provider, openinference_system] = openinference;
    Known { spellings, openinference_provider, openinference_system, opik }
}

/// OpenInference `spec/semantic_conventions.md` ("if one of them applies, then the respective value must be used");
/// `opik.types.LLMProvider`.
const KNOWN: &[Known] = &[
    known(
        &["aws.bedrock", "amazon-bedrock", "amazon bedrock", "bedrock", "aws"],
        ["aws", "amazon"],
        "bedrock",
    ),
    known(
        &["azure.ai.openai", "azure.ai.inference", "azure-openai", "azure openai", "azure"],
        ["azure", "openai"],
        "azure",
    ),
    known(
        &["gcp.vertex_ai", "google-vertex", "google vertex", "google.vertex", "vertex_ai", "vertexai"],
        ["google", "vertexai"],
        "google_vertexai",
    ),
    known(
        &["gcp.gemini", "gcp.gen_ai", "google-ai-studio", "google ai studio", "google", "gemini"],
        ["google", "vertexai"],
        "google_ai",
    ),
    known(&["mistral_ai", "mistralai", "mistral"], ["mistralai", "mistralai"], "mistral"),
    known(&["x_ai", "x-ai", "xai"], ["xai", "xai"], "xai"),
    known(&["moonshot_ai", "moonshotai", "moonshot ai", "moonshot"], ["moonshot", "moonshot"], "moonshot"),
    known(&["openai"], ["openai", "openai"], "openai"),
    known(&["anthropic"], ["anthropic", "anthropic"], "anthropic"),
];

/// The provider of a call; by its slug (without the endpoint behind it), else by its name.
pub(crate) fn of<'a>(generation: &Generation<'a>) -> Option<Provider<'a>> {
    let given = generation.provider_slug().or(generation.provider_name())?;
    let name = given.split('/').next().unwrap_or(given);
    // Vercel's have the interface behind a dot: `openai.chat`.
    let is = |spelling: &&str| {
        name.get(..spelling.len()).is_some_and(|start| start.eq_ignore_ascii_case(spelling))
            && matches!(name.as_bytes().get(spelling.len()), None | Some(b'.'))
    };
    Some(Provider { given, known: KNOWN.iter().find(|known| known.spellings.iter().any(is)) })
}

impl<'a> Provider<'a> {
    /// Whose machines: `llm.provider`.
    pub(crate) fn openinference_provider(self) -> &'a str {
        self.known.map_or(self.given, |known| known.openinference_provider)
    }

    /// Whose interface: `llm.system`.
    pub(crate) fn openinference_system(self) -> &'a str {
        self.known.map_or(self.given, |known| known.openinference_system)
    }

    /// As Opik's price table has it.
    pub(crate) fn opik(self, model: Option<&str>) -> &'a str {
        match self.known.map(|known| known.opik) {
            Some("google_vertexai") if model.is_some_and(|model| model.contains("claude")) => {
                "anthropic_vertexai"
            }
            known => known.unwrap_or(self.given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{item, span};

    /// Provider and system of OpenInference, and Opik's name.
    fn names(given: &str) -> [String; 3] {
        let item = item(1, &[span(1, &[("gen_ai.provider.name", given.into())])]);
        let provider = of(&Generation::new(item.payload.traces().unwrap().span(0))).unwrap();
        [provider.openinference_provider(), provider.openinference_system(), provider.opik(Some("claude-x"))]
            .map(str::to_owned)
    }

    #[test]
    fn every_spelling_of_a_provider_is_one() {
        for given in ["aws.bedrock", "amazon-bedrock/global", "Amazon Bedrock"] {
            assert_eq!(names(given), ["aws", "amazon", "bedrock"], "{given}");
        }
        for given in ["gcp.vertex_ai", "google-vertex/europe", "google.vertex.chat"] {
            assert_eq!(names(given), ["google", "vertexai", "anthropic_vertexai"], "{given}");
        }
        assert_eq!(names("openai.chat"), ["openai", "openai", "openai"]);
        assert_eq!(names("azure.ai.openai"), ["azure", "openai", "azure"]);
        // Another house with a name that begins alike.
        assert_eq!(names("openaithing"), ["openaithing", "openaithing", "openaithing"]);
    }
}
