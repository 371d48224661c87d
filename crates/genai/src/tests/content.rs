//! The content list against the keys that are read, and its rules.

use crate::content::{CONTENT, CONTENT_PREFIXES, KNOWN};
use crate::{Class, classify, keys, looks_like_content};

#[test]
fn every_key_that_is_read_is_classified() {
    for (field, keys, is_content) in keys::ALL {
        for key in *keys {
            let class = classify(key);
            let expected = if *is_content {
                class == Class::Content
            } else {
                matches!(class, Class::Known | Class::Metadata)
            };
            assert!(expected, "{field}: {key} is {class:?}");
        }
    }
    for prefix in [
        keys::OI_INPUT_PREFIX,
        keys::OI_OUTPUT_PREFIX,
        keys::OI_PROMPTS_PREFIX,
        keys::PROMPT_PREFIX,
        keys::COMPLETION_PREFIX,
        keys::OI_TOOLS_PREFIX,
    ] {
        assert_eq!(classify(&format!("{prefix}0.content")), Class::Content, "{prefix}");
    }
    for prefix in keys::METADATA_PREFIXES {
        assert_eq!(classify(&format!("{prefix}any.key")), Class::Metadata, "{prefix}");
    }
}

#[test]
fn no_name_is_in_two_lists() {
    for name in KNOWN {
        assert!(!CONTENT.contains(name), "{name}");
        assert_eq!(classify(name), Class::Known, "{name}");
    }
    for name in CONTENT {
        assert_eq!(classify(name), Class::Content, "{name}");
    }
    for prefix in CONTENT_PREFIXES {
        assert_eq!(classify(&format!("{prefix}0.x")), Class::Content, "{prefix}");
    }
}

#[test]
fn exact_names_win_over_prefixes() {
    for (key, class) in [
        ("gen_ai.prompt.name", Class::Known),
        ("gen_ai.prompt.version", Class::Known),
        ("gen_ai.prompt.0.content", Class::Content),
        ("gen_ai.completion.0.finish_reason", Class::Known),
        ("input.value", Class::Content),
        ("input.mime_type", Class::Known),
        ("retrieval.documents.0.document.content", Class::Content),
        ("retrieval.documents.0.document.metadata", Class::Content),
        ("retrieval.documents.0.document.id", Class::Known),
        ("embedding.embeddings.0.embedding.vector", Class::Content),
        ("mastra.step.input", Class::Content),
        ("mastra.step.name", Class::Unknown),
        ("tracecast.content.notes", Class::Content),
        ("tracecast.region", Class::Known),
        ("langfuse.observation.metadata", Class::Metadata),
        ("langfuse.observation.metadata.x", Class::Metadata),
        ("gen_ai.usage.anything_new", Class::Known),
        ("my.app.thing", Class::Unknown),
        ("", Class::Unknown),
        ("gen_ai", Class::Unknown),
        (&"x".repeat(5000), Class::Unknown),
    ] {
        assert_eq!(classify(key), class, "{key}");
    }
}

#[test]
fn names_that_promise_content() {
    for name in [
        "prompt",
        "systemPrompt",
        "my.app.user_prompt",
        "input_text",
        "llm.output",
        "raw-response",
        "finalAnswer",
        "messages.0",
    ] {
        assert!(looks_like_content(name), "{name}");
    }
    for name in [
        "prompt_id",
        "input_format",
        "promptVersion",
        "prompt.template.id",
        "output_tokens",
        "team",
        "model",
        "feature_flag",
        "",
    ] {
        assert!(!looks_like_content(name), "{name}");
    }
}
