//! The content list against the keys that are read, and its rules.

use crate::content::{CONTENT, CONTENT_PREFIXES, KNOWN};
use crate::{Class, classify, keys, looks_like_content};

#[test]
fn every_key_that_is_read_is_classified() {
    for (field, keys, is_content) in keys::ALL {
        for key in keys.iter() {
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
        assert_eq!(classify(format!("{prefix}0.content")), Class::Content, "{prefix}");
    }
    for prefix in keys::METADATA_PREFIXES {
        assert_eq!(classify(format!("{prefix}any.key")), Class::Metadata, "{prefix}");
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
        assert_eq!(classify(format!("{prefix}0.x")), Class::Content, "{prefix}");
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

/// sinks-llm-platforms.md 13 and broadcast-contract.md 4.5, written out from there.
#[test]
fn every_content_name_of_the_specification_is_content() {
    let names = "gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.prompt gen_ai.completion \
        gen_ai.tool.call.arguments gen_ai.tool.call.result gen_ai.retrieval.documents gen_ai.retrieval.query.text \
        gen_ai.memory.query.text gen_ai.memory.records gen_ai.evaluation.explanation gen_ai.task.input gen_ai.task.output \
        gen_ai.guardrail.input gen_ai.guardrail.output gen_ai.guardrail.error.message gen_ai.response.revised_prompt \
        ai.prompt ai.prompt.messages ai.request.text ai.documents ai.response.text ai.response.object ai.response.toolCalls \
        ai.response.reasoning ai.response.reasoningDetails ai.response.files ai.toolCall.args ai.toolCall.result \
        ai.decision.state ai.decision.questions ai.decision.answers ai.value ai.values ai.embedding ai.embeddings \
        traceloop.entity.input traceloop.entity.output traceloop.prompt.template mcp.response.value input.value output.value \
        llm.function_call llm.prompt_template.template llm.prompt_template.variables llm.invocation_parameters reranker.query \
        langfuse.trace.input langfuse.trace.output langfuse.observation.input langfuse.observation.output \
        langfuse.observation.status_message langfuse.experiment.item.expected_output pydantic_ai.all_messages request_data \
        response_data model_request_parameters final_result tool_arguments tool_response inputs prompt events \
        anthropic.tool_result.content exception.message exception.stacktrace error.message braintrust.input_json \
        braintrust.output_json $ai_input $ai_output_choices $ai_input_state $ai_output_state $ai_instructions $ai_error \
        gen_ai.prompt.0.content gen_ai.completion.0.content llm.prompts.0.prompt.text llm.completions.0.completion.text \
        llm.input_messages.0.message.content llm.output_messages.0.message.content llm.choices.0.completion.text \
        traceloop.prompt.template_variables.name embedding.embeddings.0.embedding.text embedding.embeddings.0.embedding.vector \
        retrieval.documents.0.document.content retrieval.documents.0.document.metadata \
        reranker.input_documents.0.document.content reranker.output_documents.0.document.metadata mastra.agent_run.input \
        mastra.tool_call.output span.input span.output trace.input trace.output span.status_message \
        gen_ai.tool.definitions llm.tools.0.tool.json_schema ai.prompt.tools llm.request.functions.0.parameters \
        ai.response.providerMetadata";
    for name in names.split_whitespace() {
        assert_eq!(classify(name), Class::Content, "{name}");
    }
}
